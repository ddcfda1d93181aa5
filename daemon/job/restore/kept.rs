//! The data that restores replaced, kept for a while: a record per restore in `kept/JOB/record.json` below the state
//! directory, readable without any program; the data itself lies beside the live data in `.holdfast-JOB`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::boot::Boot;
use super::dumps::{self, Changed};
use super::failed::{self, Failed};
use super::{survey, swap};
use crate::definition::Definitions;
use crate::job::far::Far;
use crate::job::held::Was;
use crate::job::{Context, remove_tree};
use crate::queue::Caller;
use crate::state::durable;
use crate::state::undo::{Step, Undo};
use crate::target::{Root, TreePath};

/// How many are kept of one instance, whatever their time.
pub const MOST: usize = 3;
/// How much space all of them may take together, the newest of each instance not counted: that one was promised.
pub const MOST_BYTES: u64 = 32 << 30;
/// A record whose data is being removed has this ending.
const EXPIRED: &str = "expired";

/// What one restore replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// The job that replaced it.
    pub job: String,
    /// The instance.
    pub instance: String,
    /// What it was replaced by: a snapshot, or empty after a rollback.
    pub snapshot: String,
    /// When.
    pub made: Timestamp,
    /// How long it is kept.
    pub until: Timestamp,
    /// The space that it takes.
    pub bytes: u64,
    /// The record that this one stands for now: a rollback exchanges what lives and what is kept.
    pub replaces: Option<String>,
    /// What was exchanged, in order.
    pub swaps: Vec<Swapped>,
    /// The directories that the old data lies in.
    pub annexes: Vec<TreePath>,
    /// What was changed in servers, in order.
    #[serde(default)]
    pub dumps: Vec<Changed>,
    /// A recovery replaced it, for it had failed.
    #[serde(default)]
    pub failed: Option<Failed>,
    /// The roots that the data lies in, as they were.
    #[serde(default)]
    pub roots: Vec<RootWas>,
    /// What volumes held that were filled through their engine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<Was>,
    /// What lies on other machines, in the order of the exchange: each as it would be exchanged by a rollback.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "crate::job::far::one_or_all"
    )]
    pub far: Vec<Far>,
    /// When, by the boot that it was made in.
    #[serde(default)]
    pub boot: Option<Boot>,
}

/// What a root itself was: its owner, mode, attributes and time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RootWas {
    /// Where it is.
    pub dir: TreePath,
    /// What it was.
    pub was: Root,
}

/// One exchange.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Swapped {
    /// Where the data lives.
    pub live: TreePath,
    /// Where the old data is.
    pub aside: TreePath,
    /// The inode of the old data; none: there was none.
    pub old: Option<u64>,
    /// The inode of the new data; none: there is none.
    pub new: Option<u64>,
}

impl Kept {
    /// Within one boot the time that went by counts, not the clock: that may have been set.
    fn is_over(&self, now: Timestamp, here: Option<&Boot>) -> bool {
        let gone_by = self.boot.as_ref().zip(here).and_then(|(made, here)| made.until(here));
        match gone_by {
            Some(seconds) => seconds >= self.until.duration_since(self.made).as_secs(),
            None => self.until <= now,
        }
    }

    /// Where it is, until when, and what to do with it.
    pub fn told(&self) -> String {
        let mut places: Vec<_> = self.annexes.iter().map(|dir| dir.0.display().to_string()).collect();
        places.extend(self.held.iter().map(|was| was.data.0.display().to_string()));
        places.extend(self.far.iter().map(Far::shown));
        places.extend(self.dumps.iter().map(|changed| changed.shown()));
        places.extend(self.failed.iter().map(|failed| format!("failed/{}/{}", self.instance, failed.name)));
        format!(
            "the data from before is kept until {} in {}; `holdfast rollback {}` brings it back",
            self.until.strftime("%Y-%m-%dT%H:%M:%SZ"),
            places.join(", "),
            self.instance
        )
    }
}

pub(in crate::job) fn dir(context: &Context) -> PathBuf {
    context.dirs.state.join("kept")
}

/// Writes the record; its removal stands in the undo file first.
pub(super) async fn write(context: &Context, undo: &Undo, kept: &Kept) -> Result<()> {
    failed::link(context, undo, kept).await?;
    let dir = dir(context).join(&kept.job);
    // Where old data of volumes lies there, that directory goes last: its own step was written when it was made.
    let step = match kept.held.is_empty() {
        true => Step::RemoveDir { path: dir.clone() },
        false => Step::RemoveFile { path: dir.join("record.json") },
    };
    undo.push(step).await?;
    let text = serde_json::to_vec_pretty(kept)?;
    tokio::task::spawn_blocking(move || {
        durable::create_dir(&dir, 0o700)?;
        durable::write(&dir.join("record.json"), 0o600, &text)
    })
    .await?
    .context("recording where the old data is kept")
}

/// What is kept, newest first; of one instance, or of all.
///
/// # Errors
/// The directory cannot be read. A record that makes no sense is left out with a warning.
pub async fn list(context: &Context, instance: Option<&str>) -> Result<Vec<Kept>> {
    let dir = dir(context);
    let all = tokio::task::spawn_blocking(move || read_all(&dir)).await??;
    Ok(all.into_iter().filter(|kept| instance.is_none_or(|name| kept.instance == name)).collect())
}

fn read_all(dir: &Path) -> Result<Vec<Kept>> {
    let mut all = Vec::new();
    for path in directories(dir)?.into_iter().filter(|path| path.extension().is_none()) {
        match read(&path) {
            Ok(Some(kept)) => all.push(kept),
            Ok(None) => {}
            Err(failure) => warn!("{failure:#}"),
        }
    }
    let replaced: Vec<String> = all.iter().filter_map(|kept| kept.replaces.clone()).collect();
    all.retain(|kept| !replaced.contains(&kept.job));
    all.sort_by(|a, b| (b.made, &b.job).cmp(&(a.made, &a.job)));
    Ok(all)
}

/// A record; none where its writer died before it was whole, and undid what it had done.
fn read(dir: &Path) -> Result<Option<Kept>> {
    let path = dir.join("record.json");
    let text = match std::fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("reading {}", path.display()))?,
    };
    let kept = serde_json::from_slice(&text);
    kept.map(Some).with_context(|| format!("{} is no record of kept data", path.display()))
}

fn directories(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("reading {}", dir.display()))?,
    };
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// Forgets a record, not the data.
pub(super) async fn forget(context: &Context, kept: &Kept) -> Result<()> {
    failed::unlink(context, kept).await?;
    remove_tree(&dir(context).join(&kept.job)).await
}

/// Removes what is kept too long, is too much or too many, and what a removal that was cut off left.
pub async fn expire(context: &Context, definitions: &Definitions, now: Timestamp) {
    if let Err(failure) = finish_removals(context, definitions).await {
        warn!("removing old data that is kept no longer: {failure:#}");
    }
    let due = match list(context, None).await {
        Ok(all) => due(&all, now, Boot::now().as_ref()),
        Err(failure) => return warn!("looking for data that is kept no longer: {failure:#}"),
    };
    for kept in due {
        if let Err(failure) = remove(context, definitions, &kept).await {
            warn!(
                "the old data of {} that is kept no longer could not be removed: {failure:#}",
                kept.instance
            );
        }
    }
}

/// When the next one is due; none: nothing is kept.
pub async fn next_due(context: &Context) -> Option<Timestamp> {
    list(context, None).await.ok()?.iter().map(|kept| kept.until).min()
}

/// What must go; `all` comes newest first. Sets that a recovery restored in vain are counted apart: however many they are,
/// the data that failed first stays.
fn due(all: &[Kept], now: Timestamp, here: Option<&Boot>) -> Vec<Kept> {
    let mut counts = std::collections::BTreeMap::<(&str, bool), usize>::new();
    let mut bytes = 0_u64;
    let mut due = Vec::new();
    for kept in all {
        let again = kept.failed.as_ref().is_some_and(|failed| failed.again);
        let count = counts.entry((&kept.instance, again)).or_default();
        *count += 1;
        let large = *count > 1 && bytes.saturating_add(kept.bytes) > MOST_BYTES;
        if kept.is_over(now, here) || *count > MOST || large {
            due.push(kept.clone());
        } else if *count > 1 {
            bytes = bytes.saturating_add(kept.bytes);
        }
    }
    due
}

/// The instance's lock keeps a rollback away; the record goes first, so that nobody rolls back to half of it.
async fn remove(context: &Context, definitions: &Definitions, kept: &Kept) -> Result<()> {
    let caller = Caller { label: "the end of kept data".into(), cancel: CancellationToken::new() };
    let _instance = context.queue.instance(&kept.instance, &caller, |_| ()).await?;
    let record = dir(context).join(&kept.job);
    let expired = record.with_extension(EXPIRED);
    let moved = tokio::task::spawn_blocking(move || {
        if read(&record)?.is_none() {
            return Ok(false);
        }
        std::fs::rename(&record, &expired)?;
        durable::sync_dir(record.parent().unwrap_or(Path::new("/")))?;
        anyhow::Ok(true)
    });
    if moved.await?? {
        info!(holdfast_instance = %kept.instance, "the data from before the restore {} is removed", kept.job);
        finish_removals(context, definitions).await?;
    }
    Ok(())
}

async fn finish_removals(context: &Context, definitions: &Definitions) -> Result<()> {
    let all = dir(context);
    let records = tokio::task::spawn_blocking(move || directories(&all)).await??;
    for record in records.iter().filter(|path| path.extension().is_some_and(|e| e == EXPIRED)) {
        let at = record.clone();
        let kept = tokio::task::spawn_blocking(move || read(&at)).await??;
        for kept in kept.iter().filter(|kept| !kept.dumps.is_empty()) {
            let defined = definitions.instances.iter().find(|(name, _)| name.as_str() == kept.instance);
            let Some((_, instance)) = defined else {
                warn!(
                    "{} is no longer defined: the old databases holdfast_{}_old_… stay",
                    kept.instance, kept.job
                );
                continue;
            };
            let place = dumps::place_of(context, instance).await?;
            dumps::discard(context, &place, &kept.dumps).await?;
        }
        if let Some(kept) = &kept {
            failed::unlink(context, kept).await?;
        }
        for far in kept.iter().flat_map(|kept| kept.far.iter().rev()) {
            super::far::discard(far).await?;
        }
        for annex in kept.iter().flat_map(|kept| &kept.annexes) {
            remove_tree(&annex.0).await?;
            remove_carried_away(context, &annex.0).await?;
        }
        remove_tree(record).await?;
    }
    Ok(())
}

/// A later restore may have set a directory aside with what an earlier one keeps in it: should that come back by a
/// rollback, nobody would know it any more.
async fn remove_carried_away(context: &Context, annex: &Path) -> Result<()> {
    let later = list(context, None).await?;
    let swaps = later.iter().flat_map(|kept| &kept.swaps);
    for aside in swaps.filter_map(|swapped| moved(annex, &swapped.live.0, &swapped.aside.0)) {
        let at = aside.clone();
        if tokio::task::spawn_blocking(move || swap::is_own_dir(&at)).await? {
            remove_tree(&aside).await?;
        }
    }
    Ok(())
}

/// Where a path below `from` is now that `from` is `to`.
fn moved(path: &Path, from: &Path, to: &Path) -> Option<PathBuf> {
    path.strip_prefix(from).ok().filter(|below| !below.as_os_str().is_empty()).map(|below| to.join(below))
}

/// The space that directories take.
pub(super) async fn bytes_in(annexes: Vec<PathBuf>) -> Result<u64> {
    tokio::task::spawn_blocking(move || annexes.iter().map(|annex| survey::size_of(annex)).sum()).await?
}

#[cfg(test)]
mod tests {
    use super::super::boot::moment;
    use super::*;

    fn kept(job: &str, instance: &str, made: i64, gib: u64) -> Kept {
        let at = |hours: i64| Timestamp::from_second(hours * 3_600).unwrap();
        Kept {
            job: job.into(),
            instance: instance.into(),
            snapshot: String::new(),
            made: at(made),
            until: at(made + 24),
            bytes: gib << 30,
            replaces: None,
            swaps: vec![],
            annexes: vec![],
            dumps: vec![],
            failed: None,
            roots: vec![],
            held: vec![],
            far: vec![],
            boot: None,
        }
    }

    fn jobs(all: &[Kept], hour: i64) -> Vec<String> {
        due(all, Timestamp::from_second(hour * 3_600).unwrap(), None)
            .into_iter()
            .map(|kept| kept.job)
            .collect()
    }

    #[test]
    fn data_goes_when_its_time_is_over_and_not_before() {
        let all = [kept("j2", "a", 10, 1), kept("j1", "a", 0, 1)];
        assert_eq!(jobs(&all, 23), Vec::<String>::new());
        assert_eq!(jobs(&all, 24), ["j1"]);
        assert_eq!(jobs(&all, 34), ["j2", "j1"]);
    }

    #[test]
    fn within_a_boot_data_goes_by_the_time_that_went_by_and_not_by_a_clock_that_was_set() {
        let made = |seconds: i64| Kept { boot: Some(moment("one", seconds)), ..kept("j1", "a", 0, 1) };
        let year = Timestamp::from_second(365 * 86_400).unwrap();
        let goes = |kept: Kept, here: &Boot| due(&[kept], year, Some(here)).len();
        assert_eq!(goes(made(100), &moment("one", 100 + 23 * 3_600)), 0);
        assert_eq!(goes(made(100), &moment("one", 100 + 24 * 3_600)), 1);
        assert_eq!(goes(made(100), &moment("two", 100)), 1, "of another boot nothing is known but its clock");
    }

    #[test]
    fn the_data_that_failed_first_stays_however_often_sets_are_restored_in_vain() {
        let again = |job: &str, made| Kept {
            failed: Some(Failed { name: String::new(), again: true }),
            ..kept(job, "a", made, 20)
        };
        let all = [again("j5", 5), again("j4", 4), again("j3", 3), again("j2", 2), kept("j1", "a", 1, 900)];
        assert_eq!(jobs(&all, 6), ["j3", "j2"]);
    }

    #[test]
    fn more_than_three_of_one_instance_or_too_many_bytes_go_oldest_first_and_the_newest_stays() {
        let all = [
            kept("j5", "b", 5, 1),
            kept("j4", "a", 4, 1),
            kept("j3", "a", 3, 1),
            kept("j2", "a", 2, 1),
            kept("j1", "a", 1, 1),
        ];
        assert_eq!(jobs(&all, 6), ["j1"]);
        let all = [kept("j3", "a", 3, 900), kept("j2", "a", 2, 30), kept("j1", "a", 1, 30)];
        assert_eq!(jobs(&all, 6), ["j1"], "the newest was promised, whatever its size");
    }
}
