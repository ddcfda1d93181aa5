//! A repository's directory as one tar file.

use std::io::Read;
use std::path::{Component, Path};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::SET;
use super::desk::Desk;
use crate::dump::laid::{Laid, Owner};
use crate::dump::record;
use crate::dump::run;
use crate::dump::site::words;

/// The largest list of snapshots that is read, in bytes.
const LIST: u64 = 64 << 20;

/// Packs what the server wrote. It wrote it somewhere else if it is not where we look.
pub(super) async fn pack(desk: &Desk<'_>, path: &Path) -> Result<()> {
    let dir = desk.dir();
    let meta = tokio::fs::symlink_metadata(&dir).await;
    ensure!(
        meta.is_ok_and(|meta| meta.is_dir()),
        "the server made the snapshot, and there is no {}: `server_dir` is not the directory that we see as `snapshot_dir`",
        dir.display()
    );
    let mut argv =
        words(["tar", "--create", "--format=gnu", "--sort=name", "--numeric-owner", "--directory"]);
    argv.extend([dir.into(), ".".into()]);
    run::into_file(desk.site.ours(argv), path, &desk.site.cancel).await
}

/// Lays it where the server reads it.
pub(super) async fn unpack(desk: &Desk<'_>, path: &Path) -> Result<()> {
    let (dir, above) = (desk.dir(), desk.search.snapshot_dir.clone());
    let made = dir.clone();
    tokio::task::spawn_blocking(move || std::fs::create_dir(&made))
        .await?
        .with_context(|| format!("making {}", dir.display()))?;
    let mut argv = words(["tar", "--extract", "--no-same-owner", "--no-same-permissions", "--directory"]);
    argv.push(dir.clone().into());
    run::from_file(desk.site.ours(argv), path, &desk.site.cancel).await?;
    tokio::task::spawn_blocking(move || {
        let owner = Owner::of(&above)?;
        Laid { live: above, made: dir, rests: Vec::new() }.give(&owner)
    })
    .await?
}

/// Reads a packed repository to its end: whole, nothing but files and directories in it, and the snapshot with these indices.
pub(super) async fn check(path: &Path, wanted: &[String]) -> Result<()> {
    let (path, wanted) = (path.to_owned(), wanted.to_vec());
    tokio::task::spawn_blocking(move || {
        look(&path, &wanted).with_context(|| format!("{} is no whole repository", path.display()))
    })
    .await?
}

fn look(path: &Path, wanted: &[String]) -> Result<()> {
    let list = newest_list(path)?.context("it has no list of snapshots")?;
    let list: Value = serde_json::from_slice(&list).context("its list of snapshots")?;
    let mut snapshots = list["snapshots"].as_array().into_iter().flatten();
    ensure!(snapshots.any(|snapshot| snapshot["name"] == SET), "the snapshot is not in it");
    if let Some(missing) = wanted.iter().find(|name| list["indices"].get(name.as_str()).is_none()) {
        bail!("the index {missing:?} is not in it");
    }
    Ok(())
}

/// The content of `index-N` with the highest number, which is the one that counts.
fn newest_list(path: &Path) -> Result<Option<Vec<u8>>> {
    let mut archive = tar::Archive::new(std::io::BufReader::new(record::open(path)?));
    let mut newest: Option<(u64, Vec<u8>)> = None;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.into_owned();
        ensure!(
            name.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)),
            "{} leads out of it",
            name.display()
        );
        let kind = entry.header().entry_type();
        ensure!(kind.is_file() || kind.is_dir(), "{} is neither a file nor a directory", name.display());
        let name = name.strip_prefix(".").unwrap_or(&name);
        let number = name.to_str().and_then(|name| name.strip_prefix("index-")?.parse::<u64>().ok());
        if let Some(number) = number.filter(|number| newest.as_ref().is_none_or(|(last, _)| last < number)) {
            let mut content = Vec::new();
            entry.by_ref().take(LIST).read_to_end(&mut content)?;
            newest = Some((number, content));
        }
        std::io::copy(&mut entry, &mut std::io::sink())?;
    }
    Ok(newest.map(|(_, content)| content))
}
