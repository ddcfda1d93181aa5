//! Data directories that were made from a dump and wait to take the place of those that live, while the server is stopped.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, fcntl_getlk};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::far;
use super::site::Site;
use crate::process::{self, How, Limits, Program, Sandbox};

/// Below a node's data directory of RabbitMQ, of any version.
const STORES: &str = "msg_stores";
/// How long a look at all processes may take.
const LOOK: Duration = Duration::from_secs(60);

/// A directory that was made, and where it is to live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Laid {
    /// Where it is to live; absolute.
    pub live: PathBuf,
    /// Where it waits.
    pub made: PathBuf,
    /// Directories that its server has open as long as it runs.
    pub rests: Vec<PathBuf>,
}

/// Whose directory it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Owner {
    /// The same for a file, which nobody enters.
    pub(super) fn of_a_file(&self) -> Self {
        Self { mode: self.mode & 0o666, ..self.clone() }
    }

    /// Whose a directory is where a source is.
    pub(super) async fn at(site: &Site, dir: &Path) -> Result<Self> {
        match site.dump.remote {
            Some(_) => far::owner(site, dir).await,
            None => Self::of(dir),
        }
    }

    /// As `stat -c '%a %u %g'` says it.
    pub(super) fn told(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let mode = u32::from_str_radix(words.next()?, 8).ok()?;
        Some(Self { mode: mode & 0o7777, uid: words.next()?.parse().ok()?, gid: words.next()?.parse().ok()? })
    }

    /// Whose a directory is.
    pub(super) fn of(dir: &Path) -> Result<Self> {
        let meta = std::fs::metadata(dir).with_context(|| format!("looking at {}", dir.display()))?;
        Ok(Self { mode: meta.mode() & 0o7777, uid: meta.uid(), gid: meta.gid() })
    }
}

impl Laid {
    /// Gives all of it the owner of what lives, else the one that was saved; the directory itself also the mode.
    pub(super) fn give(&self, saved: &Owner) -> Result<()> {
        let owner = Owner::of(&self.live).unwrap_or_else(|_| saved.clone());
        if rustix::process::geteuid().is_root() {
            give(&self.made, &owner).with_context(|| format!("the owner of {}", self.made.display()))?;
        }
        let mode = std::fs::Permissions::from_mode(owner.mode);
        std::fs::set_permissions(&self.made, mode)
            .with_context(|| format!("the mode of {}", self.made.display()))
    }
}

fn give(path: &Path, owner: &Owner) -> std::io::Result<()> {
    std::os::unix::fs::lchown(path, Some(owner.uid), Some(owner.gid))?;
    if std::fs::symlink_metadata(path)?.is_dir() {
        for entry in std::fs::read_dir(path)? {
            give(&entry?.path(), owner)?;
        }
    }
    Ok(())
}

/// Makes sure that no server has the data in these directories open.
///
/// # Errors
/// One has; or it cannot be found out.
pub async fn at_rest(dirs: Vec<PathBuf>) -> Result<()> {
    for dir in dirs {
        let looking = || format!("looking whether {} is in use", dir.display());
        let at = dir.clone();
        let locked = tokio::task::spawn_blocking(move || locked(&at)).await?.with_context(looking)?;
        let held = locked || (dir.join(STORES).is_dir() && opened(&dir).await.with_context(looking)?);
        ensure!(
            !held,
            "a server has {} open: stop it, or name it as a service of the instance, so that it is stopped",
            dir.display()
        );
    }
    Ok(())
}

fn locked(dir: &Path) -> Result<bool> {
    Ok(lmdb_held(&dir.join("lock.mdb"))? || bbolt_held(&dir.join("member/snap/db"))?)
}

/// Whether a process has a file in a directory open. RabbitMQ locks none of its files, so this is what shows that it runs.
/// Processes that we may not look at are not seen: those of others, unless we are root.
async fn opened(dir: &Path) -> Result<bool> {
    let real = std::fs::canonicalize(dir)?;
    let mut below = OsString::from(literally(real.to_str().context("its name is not UTF-8")?));
    below.push("/*");
    let mut argv: Vec<OsString> =
        ["find", "/proc", "-ignore_readdir_race", "-maxdepth", "3", "-path", "/proc/[0-9]*/fd/*", "-lname"]
            .map(Into::into)
            .to_vec();
    argv.extend([below, "-print".into(), "-quit".into()]);
    let mut program = Program::new(argv);
    // Within the daemon's own sandbox only our own processes are there.
    program.sandbox = Sandbox::None;
    program.limits = Limits::within(LOOK);
    let captured = process::capture(program, &CancellationToken::new(), 64 << 10).await?;
    // It fails where a process ends while it looks, and where it may not look.
    let ended = &captured.ended;
    ensure!(
        ended.stopped.is_none() && matches!(ended.how, How::Exited(_)),
        "find: {}",
        ended.stderr_tail.trim()
    );
    Ok(!captured.stdout.is_empty())
}

/// A path in which nothing stands for anything else.
fn literally(path: &str) -> String {
    let mut text = String::new();
    for c in path.chars() {
        if matches!(c, '*' | '?' | '[' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

/// Whoever owns the live tree may have put anything there: no link is followed and nothing is waited for.
fn open(path: &Path) -> Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        opened => {
            let file = File::from(opened?);
            Ok(file.metadata()?.is_file().then_some(file))
        }
    }
}

/// Everybody who has an LMDB environment open shares a lock on its first byte.
fn lmdb_held(path: &Path) -> Result<bool> {
    let Some(file) = open(path)? else { return Ok(false) };
    Ok(fcntl_getlk(&file, &Flock::from(FlockType::WriteLock))?.is_some())
}

/// bbolt, which etcd keeps its data in, locks the whole file.
fn bbolt_held(path: &Path) -> Result<bool> {
    let Some(file) = open(path)? else { return Ok(false) };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(failure)) => Err(failure.into()),
    }
}
