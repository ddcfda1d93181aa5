//! What every procedure works with: directories, the database, the queue. No definitions: a job brings its own, frozen.

use std::path::{Path, PathBuf};

use super::Holds;
use crate::queue::Queue;
use crate::state::Database;

/// Where the daemon keeps things.
#[derive(Debug, Clone)]
pub struct Dirs {
    /// Definitions: `/etc/holdfast`.
    pub config: PathBuf,
    /// The shipped module library: `/usr/share/holdfast/modules`.
    pub library: PathBuf,
    /// State, undo steps, identities: `/var/lib/holdfast`.
    pub state: PathBuf,
    /// restic's caches: `/var/cache/holdfast`.
    pub cache: PathBuf,
    /// Secrets made ready for restic, programs for hooks: `/run/holdfast`.
    pub runtime: PathBuf,
}

impl Dirs {
    /// The directory of undo steps.
    pub fn undo(&self) -> PathBuf {
        self.state.join("undo")
    }

    /// The directory of programs on the hooks' PATH.
    pub fn tools(&self) -> PathBuf {
        self.runtime.join("bin")
    }
}

/// What every procedure works with. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// Where things are kept.
    pub dirs: Dirs,
    /// What is remembered.
    pub database: Database,
    /// Locks and the global cap.
    pub queue: Queue,
    /// Services that jobs hold stopped.
    pub holds: Holds,
}

/// Removes a directory that we made, with all that is in it; links in it are not followed. None there is well removed.
///
/// # Errors
/// The disk's.
pub(super) async fn remove_tree(path: &Path) -> anyhow::Result<()> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || match std::fs::remove_dir_all(&path) {
        Err(failure) if failure.kind() != std::io::ErrorKind::NotFound => {
            Err(anyhow::Error::new(failure).context(format!("removing {}", path.display())))
        }
        _ => Ok(()),
    })
    .await?
}
