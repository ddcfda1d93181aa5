//! A new instance on another machine: its directories are made there, and taken back when it fails.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{lives_at, texts};
use crate::definition::{Remote, VolumePlace, Volumes};
use crate::job::far::{self, Far};
use crate::job::restore::{Request, Work};
use crate::state::undo::{Step, Undo};
use crate::target::{Manifest, Place};

/// Why it cannot come there, for a plan: a new instance takes nothing over.
pub(in crate::job::restore) async fn problems(
    request: &Request,
    place: &Place,
    manifest: &Manifest,
    cancel: &CancellationToken,
) -> Result<Vec<String>> {
    let second = request.founding.as_ref().is_some_and(|founding| founding.second);
    let Some(remote) = request.instance.remote.as_ref().filter(|_| second) else { return Ok(Vec::new()) };
    let items = manifest.includes.iter().map(|path| &path.0).filter(|item| item.starts_with("files"));
    let lives: Vec<PathBuf> = items.map(|item| lives_at(request, item)).collect::<Result<_>>()?;
    let volumes: Vec<PathBuf> = place.there.values().cloned().collect();
    let all: Vec<PathBuf> = lives.iter().chain(&volumes).cloned().collect();
    let there = far::look(remote, &all, cancel).await?;
    let mut problems = Vec::new();
    for (at, live) in all.iter().enumerate().filter(|(at, _)| there[*at]) {
        if at < lives.len() || !far::list(remote, live, cancel).await?.is_empty() {
            problems.push(taken(remote, live));
        }
    }
    Ok(problems)
}

pub(super) fn taken(remote: &Remote, live: &Path) -> String {
    format!(
        "{} is there already on {}, and a new instance takes nothing over; say where else with map, or remove it",
        live.display(),
        remote.login()
    )
}

/// Makes the directories there that what comes lies in, for an instance that is not defined yet.
pub(in crate::job::restore) async fn make_parents(work: &Work, manifest: &Manifest) -> Result<()> {
    let founds = work.request.founding.is_some();
    let Some(remote) = work.request.instance.remote.as_ref().filter(|_| founds) else { return Ok(()) };
    let cancel = work.live.cancelled();
    let mut above = BTreeSet::<PathBuf>::new();
    for item in manifest.includes.iter().map(|path| &path.0).filter(|item| item.starts_with("files")) {
        above.extend(lives_at(&work.request, item)?.ancestors().skip(1).map(Path::to_owned));
    }
    if let Volumes::Table(table) = &work.request.instance.volumes {
        let dirs = table.values().filter_map(|place| match place {
            VolumePlace::Directory(dir) => Some(dir),
            VolumePlace::Of(..) => None,
        });
        above.extend(dirs.flat_map(|dir| dir.ancestors().map(Path::to_owned).collect::<Vec<_>>()));
    }
    // In the order of paths, so the upper ones come first.
    let above: Vec<PathBuf> = above.into_iter().collect();
    let there = far::look(remote, &above, cancel).await?;
    let missing: Vec<PathBuf> =
        above.into_iter().zip(there).filter(|(_, there)| !there).map(|(dir, _)| dir).collect();
    if missing.is_empty() {
        return Ok(());
    }
    work.undo.push(Step::FarLeave { remote: remote.clone(), dirs: texts(&missing)? }).await?;
    let _ = work.made_there.set(missing.clone());
    far::make_above(remote, &missing, cancel).await
}

/// Takes back what [`make_parents`] made; what the machine does not let go now goes at the next start.
pub(in crate::job::restore) async fn leave(work: &Work) {
    let (Some(remote), Some(dirs)) = (&work.request.instance.remote, work.made_there.get()) else { return };
    if let Err(failure) = far::leave(remote, dirs).await {
        at_next_start(work, remote, &[], failure).await;
    }
}

/// Removes our directories there; what the machine does not let go now goes at the next start.
pub(super) async fn remove(work: &Work, far: &Far) {
    let dirs = far.annexes();
    if let Err(failure) = far::remove(&far.remote, &dirs).await {
        at_next_start(work, &far.remote, &dirs, failure).await;
    }
}

/// Writes down what is left there.
async fn at_next_start(work: &Work, remote: &Remote, dirs: &[PathBuf], failure: anyhow::Error) {
    warn!("what is no longer needed stays there until holdfastd starts again: {failure:#}");
    // What is left there is all in it already where it was begun.
    let Ok(tidy) = Undo::begin(&work.context.dirs.undo(), &format!("{}-tidy", work.live.id())) else {
        return;
    };
    let written = async {
        let made = work.made_there.get().map(|made| texts(made)).transpose()?;
        let dirs = texts(dirs)?;
        // The last one is done first.
        if let Some(made) = made {
            tidy.push(Step::FarLeave { remote: remote.clone(), dirs: made }).await?;
        }
        if !dirs.is_empty() {
            tidy.push(Step::FarRemove { remote: remote.clone(), dirs }).await?;
        }
        anyhow::Ok(())
    };
    if let Err(second) = written.await {
        warn!("nor could that be written down, so it stays: {second:#}");
    }
}
