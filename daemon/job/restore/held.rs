//! Volumes that only their engine reaches. What one holds is brought into a directory that stands in for it: there it is
//! exchanged like any other data, and the volume is emptied and filled from it. Before the restore stands the directory
//! is put back to what the volume held: that is what is kept.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use tracing::warn;

use super::apply::Applied;
use super::kept::{self, Kept};
use super::{Request, Work, swap};
use crate::definition::Instance;
use crate::job::held::{Terms, Was, new_dir, push};
use crate::job::{Context, Live, remove_tree};
use crate::state::undo::{Step, Undo};
use crate::target::{Held, Place};

/// Below the record of what a restore replaced.
fn dir(context: &Context, job: &str, name: &str) -> PathBuf {
    kept::dir(context).join(job).join("volumes").join(name)
}

/// Whether a restore replaces something in a volume.
fn is_wanted(request: &Request, name: &str) -> bool {
    let root = Path::new("volumes").join(name);
    request.include.is_empty() || request.include.iter().any(|item| item.starts_with(&root))
}

/// For a plan: those that are emptied and filled.
pub(super) fn rows(request: &Request, place: &Place) -> Vec<String> {
    place.held.values().filter(|held| is_wanted(request, &held.name)).map(Held::shown).collect()
}

/// The one that a path of the tree lies in, for people.
pub(super) fn of(place: &Place, item: &Path) -> Option<String> {
    let mut found =
        place.held.values().filter(|held| item.starts_with(Path::new("volumes").join(&held.name)));
    found.next().map(Held::shown)
}

/// A new instance takes nothing over.
pub(super) fn refuse(work: &Work, place: &Place) -> Result<()> {
    let second = work.request.founding.as_ref().is_some_and(|founding| founding.second);
    let found = place.held.values().next().filter(|_| second);
    ensure!(
        found.is_none(),
        "{} is there already, and a new instance takes nothing over; choose another name, or remove it",
        found.map(Held::shown).unwrap_or_default()
    );
    Ok(())
}

/// An empty directory for each of them. Their removal is written first.
pub(super) async fn stand_in(work: &Work, place: &mut Place) -> Result<()> {
    let wanted: Vec<String> =
        place.held.keys().filter(|name| is_wanted(&work.request, name)).cloned().collect();
    place.held.retain(|name, _| wanted.contains(name));
    if wanted.is_empty() {
        return Ok(());
    }
    let all = kept::dir(&work.context).join(work.live.id());
    work.undo.push(Step::RemoveDir { path: all }).await?;
    for name in wanted {
        let dir = dir(&work.context, work.live.id(), &name);
        new_dir(&dir).await?;
        place.volumes.insert(name, dir);
    }
    Ok(())
}

/// Nothing of it is needed: what failed is undone.
pub(super) async fn discard(work: &Work) {
    let all = kept::dir(&work.context).join(work.live.id());
    if let Err(failure) = remove_tree(&all).await {
        warn!("{} could not be removed: {failure:#}", all.display());
    }
}

/// Brings what they hold. That it is to be put back is written once it is all here, and before anything is changed.
pub(super) async fn take(work: &Work, place: &Place, applied: &mut Applied) -> Result<()> {
    for (name, held) in &place.held {
        let data = dir(&work.context, work.live.id(), name);
        let was = Was::take(held, &data, &terms(&work.request.instance, &work.live)).await?;
        let instance = work.request.instance.name.to_string();
        work.undo.push(Step::VolumeBack { instance, was: serde_json::to_value(&was)? }).await?;
        applied.held.push((was, false));
    }
    Ok(())
}

/// Fills them with what their directories hold by now. Answers with what does not stay so.
pub(super) async fn fill(work: &Work, applied: &mut Applied) -> Result<Vec<String>> {
    let annex = swap::annex_name(work.live.id());
    for (was, begun) in &mut applied.held {
        *begun = true;
        push(&was.held, &was.data.0, &annex, &terms(&work.request.instance, &work.live)).await?;
    }
    let in_memory = applied.held.iter().filter(|(was, _)| was.held.in_memory);
    let told = |held: &Held| {
        format!("{} is in memory: what was restored stays while a container uses it", held.shown())
    };
    Ok(in_memory.map(|(was, _)| told(&was.held)).collect())
}

fn terms(instance: &Instance, live: &Live) -> Terms {
    Terms { stall: instance.stall_timeout, cancel: live.cancelled().clone() }
}

/// The directories hold again what the volumes held. From here on they are all that has to be kept of them.
pub(super) async fn whole_again(applied: &mut Applied) -> Result<()> {
    let dirs: Vec<PathBuf> = applied.held.iter().map(|(was, _)| was.data.0.clone()).collect();
    let inside = |path: &Path| dirs.iter().any(|dir| path.starts_with(dir));
    for swapped in applied.swaps.iter().rev().filter(|swapped| inside(&swapped.live.0)) {
        let (live, aside, inode) = (swapped.live.0.clone(), swapped.aside.0.clone(), swapped.old);
        tokio::task::spawn_blocking(move || swap::put_back(&live, &aside, inode)).await??;
    }
    for annex in applied.annexes.iter().filter(|annex| inside(annex)) {
        remove_tree(annex).await?;
    }
    for root in applied.roots.iter().filter(|root| inside(&root.dir.0)) {
        root.was.put_on(&root.dir.0)?;
    }
    applied.swaps.retain(|swapped| !inside(&swapped.live.0));
    applied.annexes.retain(|annex| !inside(annex));
    applied.roots.retain(|root| !inside(&root.dir.0));
    Ok(())
}

/// What volumes hold now is kept, and they get back what they held before the restore. What was done stands in `done`.
pub(super) async fn exchange(
    context: &Context,
    live: &Live,
    instance: &Instance,
    undo: &Undo,
    kept: &Kept,
    done: &mut Vec<Was>,
) -> Result<()> {
    if kept.held.is_empty() {
        return Ok(());
    }
    let all = kept::dir(context).join(live.id());
    undo.push(Step::RemoveDir { path: all }).await?;
    let terms = terms(instance, live);
    for old in &kept.held {
        let data = dir(context, live.id(), &old.held.name);
        new_dir(&data).await?;
        let now = Was::take(&old.held, &data, &terms).await?;
        undo.push(Step::VolumeBack { instance: kept.instance.clone(), was: serde_json::to_value(&now)? })
            .await?;
        done.push(now);
        push(&old.held, &old.data.0, &swap::annex_name(&kept.job), &terms).await?;
    }
    Ok(())
}
