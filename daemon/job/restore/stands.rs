//! The moment from which a restore stands, and what is tidied up after it.

use std::path::Path;

use jiff::Timestamp;
use tracing::warn;

use super::apply::Applied;
use super::boot::Boot;
use super::kept::{self, Kept};
use super::{Work, dumps, far};
use crate::job::remove_tree;
use crate::state::undo::{Step, Undo};
use crate::target::{Place, TreePath};

/// The restore stands: from now on the old data is only kept, or removed.
pub(super) async fn keep(
    work: &Work,
    place: &Place,
    applied: &Applied,
    staging: &Path,
) -> anyhow::Result<Option<Kept>> {
    let keep = work.request.instance.restore.keep_previous;
    let second = work.request.founding.as_ref().is_some_and(|founding| founding.second);
    let nothing = applied.swaps.is_empty()
        && applied.dumps.is_empty()
        && applied.far.is_empty()
        && applied.held.is_empty();
    if second || keep.is_zero() || nothing {
        return remove_old(work, place, applied, staging).await.map(|()| None);
    }
    let kept = Kept {
        job: work.live.id().to_owned(),
        instance: work.request.instance.name.to_string(),
        snapshot: work.request.set.snapshot.clone(),
        made: Timestamp::now(),
        until: Timestamp::now().saturating_add(jiff::SignedDuration::try_from(keep)?)?,
        bytes: kept::bytes_in(applied.annexes.iter().cloned().chain(data_of(applied)).collect()).await?,
        replaces: None,
        swaps: applied.swaps.clone(),
        annexes: applied.annexes.iter().cloned().map(TreePath).collect(),
        dumps: applied.dumps.clone(),
        failed: work.request.failed.clone(),
        roots: applied.roots.clone(),
        held: applied.held.iter().map(|(was, _)| was.clone()).collect(),
        far: applied.far.iter().map(|(far, _)| far.reversed()).collect(),
        boot: Boot::now(),
    };
    kept::write(&work.context, &work.undo, &kept).await?;
    let tidy = Undo::begin(&work.context.dirs.undo(), &format!("{}-tidy", work.live.id()))?;
    tidy.push(Step::RemoveDir { path: staging.to_owned() }).await?;
    // This is the moment: before it a crash brings the old data back, after it the new data stays.
    work.undo.finish().await?;
    if removed(staging, "the fetched data").await {
        tidied(&tidy).await;
    }
    Ok(Some(kept))
}

/// Where the old data of volumes lies that were filled through their engine.
fn data_of(applied: &Applied) -> impl Iterator<Item = std::path::PathBuf> {
    applied.held.iter().map(|(was, _)| was.data.0.clone())
}

/// Removes what nobody needs any more. The restore stands by now: a failure is told, and fails nothing.
async fn removed(dir: &Path, what: &str) -> bool {
    let result = remove_tree(dir).await;
    if let Err(failure) = &result {
        warn!(
            "{what} could not be removed from {}, holdfastd tries again when it starts: {failure:#}",
            dir.display()
        );
    }
    result.is_ok()
}

/// Everything is removed. Steps that stay find nothing to do at the next start.
async fn tidied(tidy: &Undo) {
    if let Err(failure) = tidy.finish().await {
        warn!(
            "the restore stands, but its list of what to remove stays until holdfastd starts again: {failure:#}"
        );
    }
}

/// What is to be removed, written down.
async fn list_of_old(work: &Work, applied: &Applied, dirs: [&Path; 2]) -> anyhow::Result<Undo> {
    let tidy = Undo::begin(&work.context.dirs.undo(), &format!("{}-tidy", work.live.id()))?;
    for path in dirs.into_iter().chain(applied.annexes.iter().map(AsRef::as_ref)) {
        tidy.push(Step::RemoveDir { path: path.to_owned() }).await?;
    }
    for (far, _) in &applied.far {
        let dirs = far.annexes().iter().map(|dir| dir.display().to_string()).collect();
        tidy.push(Step::FarRemove { remote: far.remote.clone(), dirs }).await?;
    }
    for changed in &applied.dumps {
        tidy.push(dumps::discarding(&work.request.instance, changed)?).await?;
    }
    Ok(tidy)
}

async fn remove_old(work: &Work, place: &Place, applied: &Applied, staging: &Path) -> anyhow::Result<()> {
    let safety = kept::dir(&work.context).join(work.live.id());
    let tidy = list_of_old(work, applied, [staging, &safety]).await?;
    // This is the moment, as in `keep`.
    work.undo.finish().await?;
    let mut all = true;
    for annex in &applied.annexes {
        all &= removed(annex, "the old data").await;
    }
    for (far, _) in applied.far.iter().rev() {
        all &= far::discarded(far).await;
    }
    all &= removed(staging, "the fetched data").await;
    all &= removed(&safety, "the note of the old data").await;
    if let Err(failure) = dumps::discard(&work.context, place, &applied.dumps).await {
        warn!("the old databases are still there and are removed when holdfastd starts: {failure:#}");
        all = false;
    }
    if all {
        tidied(&tidy).await;
    }
    Ok(())
}
