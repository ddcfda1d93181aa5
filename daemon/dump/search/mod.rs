//! OpenSearch and Elasticsearch: a snapshot by their own API, in a directory that they and we see, kept as one tar file.
//!
//! Each snapshot is made in a repository of its own (type `fs`), which is removed again: nothing grows on the server's side.
//! A restore registers the saved repository read-only and loads every index beside the live ones first, under another
//! name. Only when all shards came and the documents are as many as were saved, the live indices are deleted and restored
//! under their own names. An index cannot be renamed: what lives is therefore dumped before, and loaded back on failure.

mod desk;
mod pack;
mod restore;
mod snapshot;
mod there;

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(super) use desk::clear;
pub(super) use restore::{load, plan_apply, prove, remove};

use super::record::Record;
use super::site::Site;
use super::version::{not_newer, series};
use super::{Ready, Taken};
use crate::definition::{Search, Source};
use desk::{Desk, Index};

/// The dump's file.
const FILE: &str = "snapshot.tar";
/// The port of the API.
const PORT: u16 = 9200;
/// What the only snapshot of a repository is called.
const SET: &str = "set";

/// What is in a snapshot.
#[derive(Debug, Serialize, Deserialize)]
struct Details {
    indices: Vec<Index>,
    global_state: bool,
}

impl Details {
    fn of(record: &Record) -> Result<Self> {
        serde_json::from_value(record.details.clone())
            .with_context(|| format!("the manifest does not say which indices are in {}", record.file))
    }

    fn names(&self) -> Vec<String> {
        self.indices.iter().map(|index| index.name.clone()).collect()
    }
}

pub(super) async fn ready(site: &Site, search: &Search) -> Result<Ready> {
    let desk = Desk::new(site, search);
    let asking = || format!("asking the {} server (`curl` is needed)", site.dump.source.word());
    let said = desk.get("/").await.with_context(asking)?;
    let version = said["version"]["number"].as_str().context("the server tells no version")?.to_owned();
    let opensearch = said["version"]["distribution"] == "opensearch";
    match &site.dump.source {
        Source::Opensearch(_) if !opensearch => bail!(
            "the server is no OpenSearch (version {version}, without a distribution); write source = \"elasticsearch\""
        ),
        Source::Elasticsearch(_) if opensearch => {
            bail!("the server is OpenSearch {version}; write source = \"opensearch\"")
        }
        _ => {}
    }
    let dir = &search.snapshot_dir;
    if site.dump.remote.is_some() {
        there::look(&desk).await?;
    } else {
        let there =
            tokio::fs::metadata(dir).await.with_context(|| format!("`snapshot_dir` {}", dir.display()))?;
        ensure!(there.is_dir(), "`snapshot_dir` {} is not a directory", dir.display());
    }
    Ok(Ready { server: version, client: String::new() })
}

pub(super) async fn dump(site: &Site, search: &Search, dir: &Path) -> Result<Taken> {
    let desk = Desk::new(site, search);
    let wanted = chosen(search, &desk.indices().await?)?;
    let mut taken = dump_only(site, search, &wanted, dir).await?;
    if wanted.is_empty() {
        taken.warnings.push("the server has no index that is to be saved".to_owned());
    }
    let streams = desk.indices().await?.into_iter().filter(|index| index.name.starts_with(".ds-")).count();
    let whole = search.server.databases.is_empty();
    if streams > 0 && whole {
        taken.warnings.push(format!("{streams} indices of data streams are not in the dump"));
    }
    Ok(taken)
}

/// Dumps just these indices; nothing is left on the server whatever comes of it.
pub(super) async fn dump_only(site: &Site, search: &Search, wanted: &[String], dir: &Path) -> Result<Taken> {
    let ready = ready(site, search).await?;
    if wanted.is_empty() {
        return Ok(Taken::default());
    }
    let desk = Desk::new(site, search);
    clear(site, search).await.context("clearing what an earlier job left on the server")?;
    let path = dir.join(FILE);
    let made = made(&desk, wanted, &path).await;
    let cleared = clear(site, search).await;
    let details = made?;
    let record = Record::of(&site.dump, &path).await?;
    let record = Record { version: ready.server, details: serde_json::to_value(details)?, ..record };
    let warnings = cleared.err().map(|failure| format!("the snapshot was left on the server: {failure:#}"));
    Ok(Taken { records: vec![record], warnings: warnings.into_iter().collect() })
}

async fn made(desk: &Desk<'_>, wanted: &[String], path: &Path) -> Result<Details> {
    let before = desk.counted().await;
    snapshot::take(desk, wanted).await?;
    let after = desk.counted().await;
    pack::pack(desk, path).await?;
    pack::check(path, wanted).await?;
    let indices = wanted.iter().map(|name| {
        // What was written to meanwhile has no count that a restore could be held to.
        let of =
            |all: &[Index]| all.iter().find(|index| index.name == *name).and_then(|index| index.documents);
        Index { name: name.clone(), documents: of(&before).filter(|count| of(&after) == Some(*count)) }
    });
    Ok(Details { indices: indices.collect(), global_state: desk.search.global_state })
}

pub(super) async fn verify(tree: &Path, records: &[Record]) -> Result<()> {
    for record in records {
        pack::check(&record.path(tree), &Details::of(record)?.names()).await?;
    }
    Ok(())
}

/// What is in a repository that somebody gives for a saved one; nobody counted its documents.
pub(super) fn details_given(file: std::fs::File) -> Result<serde_json::Value> {
    let indices = pack::names(file)?.into_iter().map(|name| Index { name, documents: None }).collect();
    Ok(serde_json::to_value(Details { indices, global_state: false })?)
}

/// The indices that the definition means. Without names: all whose own name begins with no dot, for those are the server's.
fn chosen(search: &Search, there: &[Index]) -> Result<Vec<String>> {
    let server = &search.server;
    let there: Vec<&String> = there.iter().map(|index| &index.name).collect();
    let missing = |pattern: &&String| !there.iter().any(|name| matches(pattern, name));
    if let Some(pattern) = server.databases.iter().find(missing) {
        bail!("there is no index {pattern:?} on the server; there are {there:?}");
    }
    let everything = ["*".to_owned()];
    let asked = if server.databases.is_empty() { &everything[..] } else { &server.databases[..] };
    let any = |patterns: &[String], name: &str| patterns.iter().any(|pattern| matches(pattern, name));
    let wanted = there.into_iter().filter(|name| any(asked, name) && !any(&server.exclude, name));
    Ok(wanted.cloned().collect())
}

/// Whether a name is as a pattern says; `*` stands for anything, but not for a dot at the beginning.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let Some((begin, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(begin) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(end)
}

/// A snapshot goes into its own version and later ones, up to the next major.
fn fits(record: &Record, live: &str) -> Result<()> {
    not_newer(record, "version", live, "a newer snapshot does")?;
    ensure!(
        record.version.is_empty() || series(live).0 <= series(&record.version).0 + 1,
        "{} was taken from version {} and the server is {live}: a server reads the snapshots of its own major version and \
         the one before",
        record.file,
        record.version
    );
    Ok(())
}

/// A text of an answer, for errors.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything_but_a_dot_at_the_beginning() {
        for (pattern, name) in
            [("*", "a"), ("a*", "a"), ("*-1", "x-1"), ("a*b*c", "a-b-bc"), (".k*", ".kibana")]
        {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("*", ".kibana"), ("a*", "ba"), ("*-1", "x-12"), ("a*b*c", "acb"), ("ab*bc", "abc")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
