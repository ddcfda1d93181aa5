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

use super::lies::Theirs;
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
    /// What is in it changes places, one after the other, for the directory itself is the root of a mount.
    pub within: bool,
    /// Whom it is to be given to where it waits beside what lives, as `chown` takes it; none: it is that user's already.
    pub owner: Option<String>,
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

    /// As `stat -c '%a %u %g'` says it.
    pub(super) fn told(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let mode = u32::from_str_radix(words.next()?, 8).ok()?;
        Some(Self { mode: mode & 0o7777, uid: words.next()?.parse().ok()?, gid: words.next()?.parse().ok()? })
    }

    /// The user.
    pub(super) fn uid(&self) -> u32 {
        self.uid
    }

    /// As `chmod` and `chown` take it.
    pub(super) fn words(&self) -> (String, String) {
        (format!("{:o}", self.mode), format!("{}:{}", self.uid, self.gid))
    }

    /// Whose a directory is.
    pub(super) fn of(dir: &Path) -> Result<Self> {
        let meta = std::fs::metadata(dir).with_context(|| format!("looking at {}", dir.display()))?;
        Ok(Self::told_by(&meta))
    }

    /// What a look at it says.
    pub(super) fn told_by(meta: &std::fs::Metadata) -> Self {
        Self { mode: meta.mode() & 0o7777, uid: meta.uid(), gid: meta.gid() }
    }

    /// Gives it to a file; only root gives to others.
    pub(super) fn put_on(&self, file: &Path) -> Result<()> {
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::lchown(file, Some(self.uid), Some(self.gid))?;
        }
        let mode = std::fs::Permissions::from_mode(self.mode);
        std::fs::set_permissions(file, mode).with_context(|| format!("the mode of {}", file.display()))
    }
}

impl Laid {
    /// What changes places: where each lives, and where the new one waits.
    ///
    /// # Errors
    /// The disk's.
    pub fn moves(&self) -> Result<Vec<(PathBuf, PathBuf)>> {
        if !self.within {
            return Ok(vec![(self.live.clone(), self.made.clone())]);
        }
        let entries = std::fs::read_dir(&self.made).context("what was made is gone")?;
        let mut moves = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            moves.push((self.live.join(&name), self.made.join(&name)));
        }
        moves.sort();
        Ok(moves)
    }

    /// Gives all of it the owner of what lives, else the one that was saved; what changes places also the mode. Where
    /// another user told us of it, the owner must be one of theirs.
    pub(super) fn give(&self, saved: &Owner, theirs: Option<&Theirs>) -> Result<()> {
        let lives_as = |path: &Path| match theirs {
            None => Ok(Owner::of(path).ok()),
            Some(theirs) => theirs.owner(path),
        };
        let above = lives_as(&self.live)?.unwrap_or_else(|| saved.clone());
        for (live, made) in self.moves()? {
            let lives = lives_as(&live)?;
            let owner = lives.as_ref().unwrap_or(&above);
            theirs.map_or(Ok(()), |theirs| theirs.check(owner, &live))?;
            if rustix::process::geteuid().is_root() {
                give(&made, owner).with_context(|| format!("the owner of {}", made.display()))?;
            }
            if lives.is_some() || !self.within {
                let mode = std::fs::Permissions::from_mode(owner.mode);
                std::fs::set_permissions(&made, mode)
                    .with_context(|| format!("the mode of {}", made.display()))?;
            }
        }
        Ok(())
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
    // Where such a directory is the root of a mount, it is what lies in it that changes places.
    let lmdb = match dir.file_name().and_then(|name| name.to_str()) {
        Some("data.mdb" | "lock.mdb") => dir.with_file_name("lock.mdb"),
        _ => dir.join("lock.mdb"),
    };
    let bbolt = if dir.ends_with("member") { "snap/db" } else { "member/snap/db" };
    Ok(lmdb_held(&lmdb)? || bbolt_held(&dir.join(bbolt))?)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn in_the_root_of_a_mount_what_lies_there_changes_places_and_never_beneath_its_server() {
        let dir = tempfile::tempdir().unwrap();
        let (live, made) = (dir.path().join("live"), dir.path().join("made"));
        for place in [&live, &made] {
            std::fs::create_dir_all(place.join("member/snap")).unwrap();
        }
        let mode = std::fs::Permissions::from_mode;
        std::fs::set_permissions(live.join("member"), mode(0o750)).unwrap();
        std::fs::set_permissions(made.join("member"), mode(0o700)).unwrap();
        std::fs::write(made.join("new"), "").unwrap();
        let laid = Laid {
            live: live.clone(),
            made: made.clone(),
            rests: vec![live.clone()],
            within: true,
            owner: None,
        };
        let pair = |name: &str| (live.join(name), made.join(name));
        assert_eq!(laid.moves().unwrap(), [pair("member"), pair("new")]);
        laid.give(&Owner { mode: 0o711, uid: 0, gid: 0 }, None).unwrap();
        assert_eq!(std::fs::metadata(made.join("member")).unwrap().mode() & 0o7777, 0o750);
        let whole = Laid { within: false, ..laid };
        assert_eq!(whole.moves().unwrap(), [(live.clone(), made)]);
        let file = File::create(live.join("member/snap/db")).unwrap();
        at_rest(vec![live.clone()]).await.unwrap();
        file.lock().unwrap();
        for path in [live.clone(), live.join("member")] {
            let refused = at_rest(vec![path.clone()]).await.unwrap_err().to_string();
            assert!(refused.contains("a server has"), "{}: {refused}", path.display());
        }
        drop(file);
        at_rest(vec![live.join("member")]).await.unwrap();
    }
}
