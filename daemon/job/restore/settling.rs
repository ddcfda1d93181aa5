//! Writes to the disk what comes while it comes, so that little is left to be waited for at the end.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How often.
const EVERY: Duration = Duration::from_secs(1);

/// A file system that something is brought to. It ends when this is dropped.
pub(super) struct Settling {
    at: PathBuf,
    /// Open all the time: what the disk refuses meanwhile is told to whoever had the file system open, and once.
    dir: Arc<File>,
    stop: DropGuard,
    meanwhile: JoinHandle<io::Result<()>>,
}

impl Settling {
    /// Begins with the file system of a directory that exists.
    pub(super) async fn begin(at: &Path) -> anyhow::Result<Self> {
        let at = at.to_owned();
        let path = at.clone();
        let dir = tokio::task::spawn_blocking(move || File::open(path)).await?;
        let dir = Arc::new(dir.with_context(|| format!("opening {}", at.display()))?);
        let stop = CancellationToken::new();
        let meanwhile = tokio::spawn(now_and_then(Arc::clone(&dir), stop.clone()));
        Ok(Self { at, dir, stop: stop.drop_guard(), meanwhile })
    }

    /// Has everything on the disk.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        let Self { at, dir, stop, meanwhile } = self;
        drop(stop);
        let meanwhile = meanwhile.await?;
        let last = sync(dir).await;
        meanwhile.and(last).with_context(|| format!("writing what came to {} to the disk", at.display()))
    }
}

async fn now_and_then(dir: Arc<File>, stop: CancellationToken) -> io::Result<()> {
    while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        sync(Arc::clone(&dir)).await?;
    }
    Ok(())
}

async fn sync(dir: Arc<File>) -> io::Result<()> {
    tokio::task::spawn_blocking(move || Ok(rustix::fs::syncfs(dir)?)).await?
}
