//! Live files that the backup left out are copied into the new tree before it takes the old one's place. Never as hard
//! links: the old data must stay as it was.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{self, AtFlags, FileType, Mode, Timespec, Timestamps};
use rustix::io::Errno;

use super::Work;
use super::swap::{ANNEX_PREFIX, beneath};
use crate::process::{self, Limits, Program, Sign};
use crate::target::Excludes;

/// Names in one directory of a live tree that are to be carried over.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Carry {
    /// The directory, relative to the swapped one.
    pub(super) dir: PathBuf,
    /// What in it, each with all below it.
    pub(super) names: Vec<OsString>,
}

/// What of a live directory the backup left out. `item` is its path in the tree.
///
/// # Errors
/// A directory cannot be read: what is in it could be lost.
pub(super) fn left_out(live: &OwnedFd, item: &Path, excludes: &Excludes) -> Result<Vec<Carry>> {
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(dir) = todo.pop() {
        let mut names = Vec::new();
        for (name, kind) in entries(live, &dir).with_context(|| item.join(&dir).display().to_string())? {
            if name.as_bytes().starts_with(ANNEX_PREFIX.as_bytes()) {
                continue;
            }
            let path = item.join(&dir).join(&name);
            if excludes.leave_out(path.as_os_str().as_bytes()) {
                names.push(name);
            } else if kind == FileType::Directory {
                todo.push(dir.join(&name));
            }
        }
        if !names.is_empty() {
            found.push(Carry { dir, names });
        }
    }
    found.sort_by(|a, b| a.dir.cmp(&b.dir));
    Ok(found)
}

/// Names with their kinds, in a directory below an open one; none where it is gone meanwhile.
fn entries(root: &OwnedFd, dir: &Path) -> Result<Vec<(OsString, FileType)>> {
    let fd = match beneath(root, dir) {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        fd => fd?,
    };
    let mut all = Vec::new();
    for entry in fs::Dir::read_from(&fd)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
        if name == "." || name == ".." {
            continue;
        }
        match entry.file_type() {
            // Not every file system says it with the name.
            FileType::Unknown => match fs::statat(&fd, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(meta) => all.push((name, FileType::from_raw_mode(meta.st_mode))),
                Err(Errno::NOENT) => {}
                Err(other) => return Err(other.into()),
            },
            kind => all.push((name, kind)),
        }
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(all)
}

/// Copies what was left out into the new tree; directories that are missing there are made as they are in the live one.
/// Returns a warning for each that has no place there.
///
/// # Errors
/// A copy failed; nothing live was changed.
pub(super) async fn over(work: &Work, live: &OwnedFd, new: &OwnedFd, carry: &Carry) -> Result<Vec<String>> {
    let (from, to) = {
        let (live, new, dir) = (live.try_clone()?, new.try_clone()?, carry.dir.clone());
        tokio::task::spawn_blocking(move || {
            Ok::<_, anyhow::Error>((beneath(&live, &dir)?, made(&live, &new, &dir)?))
        })
        .await??
    };
    let Some(to) = to else {
        let names: Vec<_> =
            carry.names.iter().map(|name| carry.dir.join(name).display().to_string()).collect();
        return Ok(vec![format!(
            "{} was not in the backup and has no place in the new tree, which has a file above it; it is only with the \
             old data",
            names.join(", ")
        )]);
    };
    let absent: Vec<&OsString> = carry.names.iter().filter(|name| is_absent(&to, name)).collect();
    let times = times(&to)?;
    for names in absent.chunks(500) {
        copy(work, &from, &to, names).await?;
    }
    fs::futimens(&to, &times).context("putting the time back on a directory")?;
    Ok(Vec::new())
}

fn is_absent(dir: &OwnedFd, name: &OsStr) -> bool {
    matches!(fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT))
}

fn times(fd: &OwnedFd) -> Result<Timestamps> {
    let meta = fs::fstat(fd)?;
    let of = |tv_sec, nsec: i64| Timespec { tv_sec, tv_nsec: nsec };
    Ok(Timestamps {
        last_access: of(meta.st_atime, i64::try_from(meta.st_atime_nsec)?),
        last_modification: of(meta.st_mtime, i64::try_from(meta.st_mtime_nsec)?),
    })
}

/// The directory in the new tree; none: something else stands in its way.
fn made(live: &OwnedFd, new: &OwnedFd, dir: &Path) -> Result<Option<OwnedFd>> {
    let (mut from, mut to) = (live.try_clone()?, new.try_clone()?);
    for part in dir {
        let part = Path::new(part);
        from = beneath(&from, part)?;
        let next = beneath(&to, part);
        to = match next {
            Err(Errno::NOENT) => mirrored(&from, &to, part)?,
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            next => next?,
        };
    }
    Ok(Some(to))
}

/// A new directory with the owner, mode, attributes and times of another one.
fn mirrored(model: &OwnedFd, parent: &OwnedFd, name: &Path) -> Result<OwnedFd> {
    let parent_times = times(parent)?;
    fs::mkdirat(parent, name, Mode::RWXU).with_context(|| format!("making {}", name.display()))?;
    let made = beneath(parent, name)?;
    let meta = fs::fstat(model)?;
    if rustix::process::geteuid().is_root() {
        let (uid, gid) = (fs::Uid::from_raw(meta.st_uid), fs::Gid::from_raw(meta.st_gid));
        fs::fchown(&made, Some(uid), Some(gid))?;
    }
    fs::fchmod(&made, Mode::from_raw_mode(meta.st_mode & 0o7777))?;
    crate::target::copy_attributes(model, &made)?;
    fs::futimens(&made, &times(model)?)?;
    fs::futimens(parent, &parent_times)?;
    Ok(made)
}

async fn copy(work: &Work, from: &OwnedFd, to: &OwnedFd, names: &[&OsString]) -> Result<()> {
    let place = |fd: &OwnedFd| format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd());
    let target = format!("--target-directory={}/.", place(to));
    let argv = ["cp", "--archive", "--reflink=auto", &target, "--"].map(OsString::from).into_iter();
    let argv = argv.chain(names.iter().map(|name| Path::new(".").join(name).into_os_string()));
    let limits =
        Limits { stall: Some(work.request.instance.stall_timeout), work_counts: true, ..Limits::NONE };
    let program = Program { dir: Some(place(from).into()), limits, ..Program::new(argv) };
    let ended = process::run(program, work.live.cancelled(), |_, _| Sign::Life).await?;
    ensure!(ended.ok(), "carrying over what the backup left out: {}", ended.stderr_tail.trim());
    Ok(())
}
