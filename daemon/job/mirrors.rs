//! Mirrors of other machines that no definition names any more. They may be large, so they do not stay for ever.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Context, remove_tree};
use crate::definition::{Definitions, Remote};
use crate::queue::Caller;

/// How long a mirror stays after its last use: a definition that was taken out by mistake comes back within that.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long somebody may have its instance; after that it is left for the next time.
const PATIENCE: Duration = Duration::from_secs(5);
/// All that ever lies in a mirror.
const OURS: [&str; 3] = ["files", "volumes", super::backup::RULES];

/// Removes them. Only for definitions that were all read well: what is broken now may name one.
pub async fn remove_unnamed(context: &Context, definitions: &Definitions) {
    let dir = context.dirs.cache.join(Remote::MIRRORS);
    let remotes = definitions.instances.values().filter_map(|instance| instance.remote.as_ref());
    let named: BTreeSet<PathBuf> = remotes.map(|remote| remote.mirror.clone()).collect();
    let found = tokio::task::spawn_blocking(move || unnamed(&dir, &named, SystemTime::now())).await;
    for mirror in found.unwrap_or_default() {
        let name = mirror.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let caller =
            Caller { label: format!("removing the mirror of {name}"), cancel: CancellationToken::new() };
        let lock = context.queue.instance(&name, &caller, |_| ());
        let Ok(Ok(_lock)) = tokio::time::timeout(PATIENCE, lock).await else { continue };
        match remove_tree(&mirror).await {
            Ok(()) => info!(
                "removed {}: no definition names the instance {name} on another machine any more",
                mirror.display()
            ),
            Err(failure) => warn!("the mirror of {name}, which is no longer defined, is left: {failure:#}"),
        }
    }
}

/// The mirrors below `dir` that are not `named`, and were not used for long.
fn unnamed(dir: &Path, named: &BTreeSet<PathBuf>, now: SystemTime) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.filter(|path| !named.contains(path) && is_ours(path) && is_old(path, now)).collect()
}

/// Whether it is a directory that we made, with nothing else in it.
fn is_ours(mirror: &Path) -> bool {
    let Ok(meta) = std::fs::symlink_metadata(mirror) else { return false };
    let Ok(mut entries) = std::fs::read_dir(mirror) else { return false };
    let known = |name: OsString| OURS.iter().any(|ours| name == *ours);
    meta.is_dir()
        && meta.uid() == rustix::process::geteuid().as_raw()
        && entries.all(|entry| entry.is_ok_and(|entry| known(entry.file_name())))
}

/// Its rules are written at each use.
fn is_old(mirror: &Path, now: SystemTime) -> bool {
    let used = [mirror.join(super::backup::RULES), mirror.to_owned()]
        .into_iter()
        .find_map(|path| std::fs::symlink_metadata(path).and_then(|meta| meta.modified()).ok());
    used.and_then(|used| now.duration_since(used).ok()).is_some_and(|age| age > KEPT)
}
