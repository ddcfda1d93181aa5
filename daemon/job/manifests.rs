//! Manifests of sets that were made or restored here, so that a restore need not ask restic for one: such a call takes
//! half a second and more. A snapshot's id is a hash of it, so what is remembered of one stays true; all the same a
//! restore compares it with the manifest that it fetched.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tracing::debug;

use super::Context;

/// A larger one is read from the repository each time.
const LARGEST: usize = 1 << 20;
/// From so many on the older half goes.
const MOST: usize = 1_000;

fn dir(context: &Context) -> PathBuf {
    context.dirs.cache.join("manifests")
}

/// None where it is not an id: names are made of it.
fn path(context: &Context, snapshot: &str) -> Option<PathBuf> {
    let is_id = snapshot.len() == 64 && snapshot.bytes().all(|b| b.is_ascii_hexdigit());
    is_id.then(|| dir(context).join(snapshot))
}

/// Remembers the text of a snapshot's manifest. That it could not is no failure.
pub(super) async fn remember(context: &Context, snapshot: &str, text: Vec<u8>) {
    let (dir, Some(path)) = (dir(context), path(context, snapshot)) else { return };
    if text.len() > LARGEST {
        return;
    }
    let written = tokio::task::spawn_blocking(move || write(&dir, &path, &text)).await;
    if let Err(failure) = written.map_err(anyhow::Error::from).flatten() {
        debug!("the manifest of {snapshot} is not remembered: {failure:#}");
    }
}

/// The text of a snapshot's manifest, where it is remembered.
pub(super) async fn remembered(context: &Context, snapshot: &str) -> Option<Vec<u8>> {
    tokio::fs::read(path(context, snapshot)?).await.ok()
}

/// Forgets one that is not what the repository holds.
pub(super) async fn forget(context: &Context, snapshot: &str) {
    if let Some(path) = path(context, snapshot) {
        let _ = tokio::fs::remove_file(path).await;
    }
}

/// It appears whole or not at all: it is written under another name first.
fn write(dir: &Path, path: &Path, text: &[u8]) -> anyhow::Result<()> {
    crate::state::durable::create_dir(dir, 0o700)?;
    thin_out(dir)?;
    let new = path.with_extension("new");
    let _ = std::fs::remove_file(&new);
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text)?;
    Ok(std::fs::rename(&new, path)?)
}

fn thin_out(dir: &Path) -> std::io::Result<()> {
    let entries: Vec<_> = std::fs::read_dir(dir)?.flatten().collect();
    if entries.len() < MOST {
        return Ok(());
    }
    let written = |entry: &std::fs::DirEntry| entry.metadata().and_then(|meta| meta.modified()).ok();
    let mut dated: Vec<(Option<SystemTime>, PathBuf)> =
        entries.iter().map(|entry| (written(entry), entry.path())).collect();
    dated.sort();
    dated.iter().take(MOST / 2).try_for_each(|(_, path)| std::fs::remove_file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_half_goes_when_there_are_too_many() {
        let dir = tempfile::tempdir().unwrap();
        let at = |number: usize| dir.path().join(format!("{number:064x}"));
        for number in 0..MOST {
            std::fs::write(at(number), b"{}").unwrap();
            let age = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number as u64);
            std::fs::File::options().write(true).open(at(number)).unwrap().set_modified(age).unwrap();
        }
        write(dir.path(), &at(MOST), b"text").unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), MOST / 2 + 1);
        assert!(!at(MOST / 2 - 1).exists() && at(MOST / 2).exists());
        assert_eq!(std::fs::read(at(MOST)).unwrap(), b"text");
    }
}
