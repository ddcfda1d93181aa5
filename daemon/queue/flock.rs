//! The locks between processes. Within this process the lanes have decided already, so only another process is waited for.
//!
//! A repository has a second file, its gate: a writer holds it alone while it waits for readers to leave, readers pass it
//! together. So readers of one process do not starve a writer of another, although all of them can only try and try again.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::lanes::Key;
use crate::state::durable;
use crate::state::lock::{self, LockFile, Mode};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The directory of the files.
#[derive(Debug, Clone)]
pub(super) struct Files {
    dir: PathBuf,
}

/// The files of one lock.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    gate: Option<PathBuf>,
    lock: PathBuf,
}

/// How a try ended.
enum Tried {
    Got(LockFile),
    /// Somebody else has it; the gate may be ours already.
    Busy {
        gate: Option<LockFile>,
        by: Vec<u32>,
    },
}

impl Files {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The files of a lock; a permit has none.
    pub(super) fn of(&self, key: &Key) -> Result<Option<Paths>> {
        let path = |kind, key| Ok::<_, anyhow::Error>(self.dir.join(lock::file_name(kind, key)?));
        Ok(match key {
            Key::Instance(name) => Some(Paths { gate: None, lock: path("instance", name)? }),
            Key::Repository(id) => {
                Some(Paths { gate: Some(path("gate", id)?), lock: path("repository", id)? })
            }
            Key::Permit => None,
        })
    }
}

impl Paths {
    /// Takes the lock; `on_wait` hears which other process has it. None: no file can be made here (read-only, disk full),
    /// and backups must run without.
    pub(super) async fn lock(self, mode: Mode, mut on_wait: impl FnMut(String)) -> Result<Option<LockFile>> {
        let mut gate = None;
        let mut pause = FIRST_PAUSE;
        loop {
            let paths = self.clone();
            let tried = tokio::task::spawn_blocking(move || paths.attempt(mode, gate));
            match tried.await.context("locking")? {
                Ok(Tried::Got(file)) => return Ok(Some(file)),
                Ok(Tried::Busy { gate: passed, by }) => {
                    gate = passed;
                    on_wait(processes(&by));
                }
                Err(e) if is_unwritable(&e) => {
                    tracing::warn!("going on without the lock against other processes: {e:#}");
                    return Ok(None);
                }
                Err(e) => return Err(e),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn attempt(&self, mode: Mode, mut gate: Option<LockFile>) -> Result<Tried> {
        if let (Some(path), None) = (&self.gate, &gate) {
            let file = open(path)?;
            if !file.try_lock(mode).with_context(|| format!("locking {}", path.display()))? {
                return Ok(Tried::Busy { gate: None, by: file.holders() });
            }
            gate = Some(file);
        }
        let file = open(&self.lock)?;
        match file.try_lock(mode).with_context(|| format!("locking {}", self.lock.display()))? {
            true => Ok(Tried::Got(file)),
            false => Ok(Tried::Busy { gate, by: file.holders() }),
        }
    }
}

fn open(path: &Path) -> Result<LockFile> {
    let opened = match (LockFile::open(path), path.parent()) {
        (Err(e), Some(dir)) if e.kind() == ErrorKind::NotFound => {
            durable::create_dir(dir, 0o700)?;
            LockFile::open(path)
        }
        (opened, _) => opened,
    };
    opened.with_context(|| format!("opening the lock {}", path.display()))
}

fn is_unwritable(e: &anyhow::Error) -> bool {
    use ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let io = e.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|e| {
        matches!(e.kind(), PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull)
    })
}

fn processes(ids: &[u32]) -> String {
    match ids {
        [] => "another process".to_owned(),
        [id] => format!("another process ({id})"),
        [id, more @ ..] => format!("another process ({id}) and {} more", more.len()),
    }
}
