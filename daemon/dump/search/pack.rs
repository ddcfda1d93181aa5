//! A repository's directory as one tar file.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{Gid, Mode, OFlags, Uid, fchown, fstat, mkdirat, openat};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::desk::Desk;
use super::{SET, there};
use crate::dump::record;
use crate::dump::run;
use crate::dump::site::words;

/// The largest list of snapshots that is read, in bytes.
const LIST: u64 = 64 << 20;

/// Packs what the server wrote. It wrote it somewhere else if it is not where we look.
pub(super) async fn pack(desk: &Desk<'_>, path: &Path) -> Result<()> {
    if desk.site.dump.remote.is_some() {
        return there::pack(desk, path).await;
    }
    let (above, name) = (desk.search.snapshot_dir.clone(), desk.repository());
    let opened =
        tokio::task::spawn_blocking(move || enter(&File::open(&above)?.into(), name.as_ref())).await?;
    let held = opened.with_context(|| {
        format!(
            "the server made the snapshot, and there is no {}: `server_dir` is not the directory that we see as `snapshot_dir`",
            desk.dir().display()
        )
    })?;
    let mut argv =
        words(["tar", "--create", "--format=gnu", "--sort=name", "--numeric-owner", "--directory"]);
    // The server's user may put another thing under its name meanwhile.
    argv.extend([format!("/proc/{}/fd/{}", std::process::id(), held.as_raw_fd()).into(), ".".into()]);
    run::into_file(desk.site.ours(argv), path, &desk.site.cancel).await
}

/// Lays it where the server reads it, as the server's own.
pub(super) async fn unpack(desk: &Desk<'_>, path: &Path) -> Result<()> {
    if desk.site.dump.remote.is_some() {
        return there::lay(desk, path).await;
    }
    let (above, name) = (desk.search.snapshot_dir.clone(), desk.repository());
    let (path, cancel) = (path.to_owned(), desk.site.cancel.clone());
    tokio::task::spawn_blocking(move || lay(&above, name.as_ref(), &path, &cancel))
        .await?
        .with_context(|| format!("laying the saved repository in {}", desk.dir().display()))
}

/// Whose files are to be; none: we cannot give any away.
type Owner = Option<(Uid, Gid)>;

/// The server's user may change whatever lies there while we write: every step goes from a directory that is held open,
/// through no link, and what is made is new.
fn lay(above: &Path, name: &OsStr, path: &Path, cancel: &CancellationToken) -> Result<()> {
    let above = OwnedFd::from(File::open(above)?);
    let stat = fstat(&above)?;
    let root = rustix::process::geteuid().is_root();
    let owner = root.then(|| (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid)));
    let dir = make_dir(&above, name, owner)?;
    let mut archive = tar::Archive::new(std::io::BufReader::new(record::open(path)?));
    for entry in archive.entries()? {
        ensure!(!cancel.is_cancelled(), "it was cancelled");
        let mut entry = entry?;
        let name = entry.path()?.into_owned();
        let parts: Vec<&OsStr> =
            name.components().filter(|part| *part != Component::CurDir).map(Component::as_os_str).collect();
        let Some((last, parts)) = parts.split_last() else { continue };
        ensure!(inside(&name), "{} leads out of it", name.display());
        let mut at = dir.try_clone()?;
        for part in parts {
            at = enter(&at, part)?;
        }
        match entry.header().entry_type().is_dir() {
            true => drop(make_dir(&at, last, owner)?),
            false => make_file(&at, last, owner, &mut entry)?,
        }
    }
    Ok(())
}

fn enter(at: &OwnedFd, name: &OsStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, name, flags, Mode::empty())?)
}

fn make_dir(at: &OwnedFd, name: &OsStr, owner: Owner) -> Result<OwnedFd> {
    mkdirat(at, name, Mode::from_raw_mode(0o750))?;
    let dir = enter(at, name)?;
    give(&dir, owner)?;
    Ok(dir)
}

fn make_file(at: &OwnedFd, name: &OsStr, owner: Owner, content: &mut impl Read) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(at, name, flags, Mode::from_raw_mode(0o640))?);
    std::io::copy(content, &mut file)?;
    give(&file, owner)
}

fn give(file: impl AsFd, owner: Owner) -> Result<()> {
    match owner {
        Some((user, group)) => Ok(fchown(file, Some(user), Some(group))?),
        None => Ok(()),
    }
}

fn inside(name: &Path) -> bool {
    name.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
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
    let list = list(record::open(path)?)?;
    if let Some(missing) = wanted.iter().find(|name| list["indices"].get(name.as_str()).is_none()) {
        bail!("the index {missing:?} is not in it");
    }
    Ok(())
}

/// Reads a packed repository to its end; its list of snapshots, ours among them.
fn list(file: File) -> Result<Value> {
    let list = newest_list(file)?.context("it has no list of snapshots")?;
    let list: Value = serde_json::from_slice(&list).context("its list of snapshots")?;
    let mut snapshots = list["snapshots"].as_array().into_iter().flatten();
    ensure!(snapshots.any(|snapshot| snapshot["name"] == SET), "the snapshot is not in it");
    Ok(list)
}

/// The names of the indices in a packed repository that somebody gives.
pub(super) fn names(file: File) -> Result<Vec<String>> {
    let list = list(file).context("it is no packed repository, as --target gives it out")?;
    let indices = list["indices"].as_object().context("its list of snapshots names no indices")?;
    Ok(indices.keys().cloned().collect())
}

/// The content of `index-N` with the highest number, which is the one that counts.
fn newest_list(file: File) -> Result<Option<Vec<u8>>> {
    let mut archive = tar::Archive::new(std::io::BufReader::new(file));
    let mut newest: Option<(u64, Vec<u8>)> = None;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.into_owned();
        ensure!(inside(&name), "{} leads out of it", name.display());
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
