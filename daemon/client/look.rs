//! `holdfast ls`, `find` and `cat`: what is in a snapshot. Asks no daemon, so it needs the daemon's secrets.

use std::ffi::OsString;
use std::path::Path;

use clap::Args;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Context;
use super::failure::{Done, Exit, Failure};
use super::restic::{Ready, ready};
use crate::job::restore::{self, Streamed};
use crate::restic::{Snapshot, Terms};
use crate::state;

/// Whose snapshot is looked at.
#[derive(Debug, Args)]
pub(super) struct From {
    /// The instance's name
    instance: String,
    /// The snapshot's id; default: the latest
    #[arg(long, value_name = "ID")]
    snapshot: Option<String>,
    /// These never ask a daemon; accepted for the sake of scripts
    #[arg(long, hide = true)]
    no_daemon: bool,
    /// The repository; default: the first that the instance is backed up to
    #[arg(long)]
    repository: Option<String>,
}

impl From {
    pub(super) fn of(instance: &str, snapshot: Option<&str>, repository: Option<String>) -> Self {
        let snapshot = snapshot.map(str::to_owned);
        Self { instance: instance.to_owned(), snapshot, no_daemon: true, repository }
    }
}

/// `holdfast ls`
#[derive(Debug, Args)]
pub(super) struct LsArgs {
    #[command(flatten)]
    from: From,
    /// Only below this path of the snapshot: state/…, volumes/NAME/…, files/…
    path: Option<String>,
}

/// `holdfast find`
#[derive(Debug, Args)]
pub(super) struct FindArgs {
    #[command(flatten)]
    from: From,
    /// A name; * and ? stand for any characters
    pattern: String,
}

/// `holdfast cat`
#[derive(Debug, Args)]
pub(super) struct CatArgs {
    #[command(flatten)]
    from: From,
    /// A file of the snapshot: state/…, volumes/NAME/…, files/…
    path: String,
}

/// A set, ready to be looked into.
pub(super) struct Looked {
    pub(super) ready: Ready,
    /// The snapshot of its tree.
    pub(super) snapshot: String,
    /// Dumps that lie in snapshots of their own.
    pub(super) streams: Vec<Streamed>,
}

pub(super) async fn ls(context: &Context, args: LsArgs) -> Done {
    let Looked { ready, snapshot, streams } = opened(context, &args.from).await?;
    let mut words: Vec<OsString> = ["ls", "--quiet", "--", &snapshot].map(Into::into).to_vec();
    if context.out.json {
        words.insert(1, "--json".into());
    }
    // restic lists what lies directly in a directory; all below it is wanted.
    if let Some(path) = &args.path {
        words.insert(1, "--recursive".into());
        words.push(rooted(path).into());
    }
    let done = run(&ready, words).await?;
    let below = args.path.as_deref().unwrap_or_default().trim_matches('/');
    for stream in streams.iter().filter(|stream| Path::new(&stream.file).starts_with(below)) {
        let path = rooted(&stream.file);
        match context.out.json {
            // One line each, as restic's.
            true => context.out.line(
                json!({
                    "name": stream.name, "type": "file", "path": path, "size": stream.size, "struct_type": "node",
                    "message_type": "node", "snapshot": stream.snapshot,
                })
                .to_string(),
            ),
            false => context.out.line(path),
        }
    }
    Ok(done)
}

pub(super) async fn find(context: &Context, args: FindArgs) -> Done {
    let Looked { ready, snapshot, streams } = opened(context, &args.from).await?;
    let mut words: Vec<OsString> = ["find", "--quiet", "--snapshot", &snapshot].map(Into::into).to_vec();
    for stream in &streams {
        words.extend(["--snapshot".into(), stream.snapshot.clone().into()]);
    }
    if context.out.json {
        words.push("--json".into());
    }
    words.extend(["--".into(), args.pattern.into()]);
    run(&ready, words).await
}

pub(super) async fn cat(context: &Context, args: CatArgs) -> Done {
    let Looked { ready, snapshot, streams } = opened(context, &args.from).await?;
    let stream = streams.iter().find(|stream| stream.file == args.path.trim_matches('/'));
    let (snapshot, path) = match stream {
        Some(stream) => (&stream.snapshot, rooted(&stream.name)),
        None => (&snapshot, rooted(&args.path)),
    };
    run(&ready, ["dump", "--quiet", "--", snapshot, &path].map(Into::into).to_vec()).await
}

fn rooted(path: &str) -> String {
    format!("/{}", path.trim_matches('/'))
}

async fn run(ready: &Ready, words: Vec<OsString>) -> Done {
    let terms = Terms::new(&CancellationToken::new());
    let code = ready.restic.raw(&ready.access, words, &terms).await;
    match code.map_err(|error| Failure::failed(error.to_string()))? {
        0 => Ok(Exit::Done),
        // restic has said why.
        _ => Ok(Exit::Failed),
    }
}

/// The repository, the whole id of the snapshot, and what belongs to it.
pub(super) async fn opened(context: &Context, from: &From) -> Result<Looked, Failure> {
    let ready = ready(context, &from.instance, from.repository.as_deref()).await?;
    let wanted = from.snapshot.as_deref().unwrap_or_default();
    if !wanted.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Failure::usage(format!("{wanted:?} is no snapshot id: they have hexadecimal digits")));
    }
    let uuid = state::identity(&context.state, &ready.instance, None)?;
    let uuid = format!("uuid={uuid}");
    let terms = Terms::new(&CancellationToken::new());
    let found = ready.restic.snapshots(&ready.access, &["holdfast", &uuid], &terms).await;
    let found = found.map_err(|error| Failure::failed(error.to_string()))?;
    let is = |snapshot: &Snapshot, kind: &str| snapshot.tags.iter().any(|tag| tag == kind);
    let streamed = found.list.iter().any(|snapshot| is(snapshot, "kind=stream"));
    let trees = found.list.into_iter().rev().filter(|snapshot| is(snapshot, "kind=tree"));
    let mut fitting = trees.filter(|s| s.id.starts_with(wanted));
    let hint = format!("`holdfast snapshots {}` lists what there is", from.instance);
    let Some(first) = fitting.next() else {
        let what = if wanted.is_empty() { "a snapshot".into() } else { format!("a snapshot {wanted}") };
        return Err(Failure::failed(format!("{} has not {what}", from.instance)).hint(hint));
    };
    if !wanted.is_empty() && fitting.next().is_some() {
        return Err(Failure::failed(format!("several snapshots begin with {wanted}")).hint(hint));
    }
    let streams = if streamed { streams(&ready, &first.id, &terms).await? } else { Vec::new() };
    Ok(Looked { ready, snapshot: first.id, streams })
}

async fn streams(ready: &Ready, snapshot: &str, terms: &Terms) -> Result<Vec<Streamed>, Failure> {
    let manifest = restore::read_manifest(&ready.restic, &ready.access, snapshot, terms).await;
    let streams = manifest.and_then(|manifest| restore::streamed(&manifest));
    streams.map_err(|failure| Failure::failed(format!("{failure:#}")))
}
