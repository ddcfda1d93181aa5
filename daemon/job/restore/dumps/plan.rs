//! What a plan says of dumps.

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Manifest, Place, Record, Request, Result, Site, defined, selected};
use crate::dump;
use crate::job::Context;
use crate::job::restore::{databases, streams, there};

/// Each file with what will be done, and why it cannot be done.
pub(in crate::job::restore) fn rows(
    request: &Request,
    place: &Place,
    manifest: &Manifest,
) -> Result<(Vec<Value>, Vec<String>)> {
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    for record in selected(request, manifest)? {
        let found = defined(&place.instance, &record.dump, &record.source);
        let how = match &found {
            Ok(dump) if request.founding.is_some() && there::refused(request, dump).is_some() => {
                "not loaded: it would have to change places on another machine; get it with target"
            }
            Ok(dump) => dump::method(&dump.source, &record),
            Err(_) if request.founding.is_some() => "not loaded: the new instance has no server for it",
            Err(_) => "",
        };
        rows.push(json!({
            "dump": record.dump, "source": record.source, "database": record.database, "file": record.file,
            "bytes": record.size, "version": record.version, "how": how,
            "stream": record.stream.as_ref().map(|stream| &stream.snapshot), "given": given(request, &record),
        }));
        problems.extend(streams::lost(&record));
        if let Err(failure) = found
            && request.founding.is_none()
        {
            let text = format!("{failure:#}");
            if !problems.contains(&text) {
                problems.push(text);
            }
        }
    }
    Ok((rows, problems))
}

/// Whether a file that the caller opened takes its place.
fn given(request: &Request, record: &Record) -> bool {
    request.edited.iter().any(|edited| edited.is_for(record))
}

/// Which servers do not answer, or hold already what is to be made. Asked only where databases are made: others are
/// replaced.
pub(in crate::job::restore) async fn servers(
    context: &Context,
    request: &Request,
    place: &Place,
    manifest: &Manifest,
) -> Result<Vec<String>> {
    let makes = request.databases.iter().any(databases::Database::renamed);
    if request.founding.is_none() && !makes {
        return Ok(Vec::new());
    }
    let records = selected(request, manifest)?;
    let mut problems = Vec::new();
    for dump in &place.instance.dumps {
        let own: Vec<Record> = records.iter().filter(|record| record.dump == *dump.name).cloned().collect();
        let lost = |own: &Record| defined(&place.instance, &own.dump, &own.source).is_err();
        if own.is_empty() || lost(&own[0]) || there::refused(request, dump).is_some() {
            continue;
        }
        match server(context, request, place, dump, &own).await {
            Ok(more) => problems.extend(more),
            Err(failure) => problems.push(format!("dump {}: {failure:#}", dump.name)),
        }
    }
    Ok(problems)
}

async fn server(
    context: &Context,
    request: &Request,
    place: &Place,
    dump: &crate::definition::Dump,
    records: &[Record],
) -> Result<Vec<String>> {
    let never = CancellationToken::new();
    let site = Site::open(place, dump, &context.dirs.runtime, &never).await?;
    site.answers().await.context("asking the server")?;
    databases::in_the_way(&site, request, records).await
}
