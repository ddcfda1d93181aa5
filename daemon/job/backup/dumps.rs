//! The typed dumps of one instance: asked at preflight, staged in the tree, compared with the last good ones.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::Shared;
use super::instance::Ready;
use crate::definition::{Dump, Instance, Source};
use crate::dump::{Record, Site, Taken};
use crate::job::{Context, restore};
use crate::state::{Sizes, read_sizes, write_sizes};
use crate::target::Place;
use uuid::Uuid;

/// Room that is wanted beyond the last dumps' sizes.
const MARGIN_PERCENT: u64 = 20;
/// A disk with less than this is full, in bytes.
const ROOM: u64 = 64 << 10;

/// Volumes that hold files of SQLite; they may not be included.
pub(in crate::job) fn volumes(instance: &Instance) -> Vec<String> {
    let files = instance.dumps.iter().filter_map(|dump| match &dump.source {
        Source::Sqlite(files) => Some(files),
        _ => None,
    });
    let volumes = files.flatten().filter_map(|file| file.strip_prefix("volumes/")?.split('/').next());
    volumes.map(str::to_owned).collect()
}

/// Whether all sources answer, and there is room for their dumps. Changes nothing.
pub(super) async fn preflight(
    context: &Context,
    place: &Place,
    uuid: Uuid,
    staging: &Path,
    cancel: &CancellationToken,
) -> Result<()> {
    for dump in &place.instance.dumps {
        let asked = async { Site::open(place, dump, &context.dirs.runtime, cancel).await?.ready().await };
        asked.await.with_context(|| format!("dump {}", dump.name))?;
    }
    if place.instance.dumps.is_empty() {
        return Ok(());
    }
    let state = context.dirs.state.clone();
    let sizes = tokio::task::spawn_blocking(move || read_sizes(&state, uuid)).await??;
    check_room(&staged(&place.instance, sizes), staging)
}

/// Those that need room: streams need none.
fn staged(instance: &Instance, sizes: Sizes) -> Sizes {
    let streams = instance.dumps.iter().filter(|dump| dump.stream);
    let places: Vec<String> = streams.map(|dump| format!("dumps/{}/", dump.name)).collect();
    let streamed = |file: &String| places.iter().any(|place| file.starts_with(place));
    sizes.into_iter().filter(|(file, _)| !streamed(file)).collect()
}

fn check_room(sizes: &Sizes, staging: &Path) -> Result<()> {
    let last: u64 = sizes.values().sum();
    let needed = last.saturating_add(last / 100 * MARGIN_PERCENT);
    let there = staging.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    let stat = rustix::fs::statvfs(there)?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    ensure!(
        needed <= free,
        "the dumps took {last} bytes last time, so {needed} are wanted in {} and {free} are free; set daemon.staging_dir \
         to a larger disk",
        there.display()
    );
    Ok(())
}

/// Takes the dumps that are staged into the tree at `tree`; one that fails fails the instance.
pub(super) async fn take(shared: &Shared, ready: &Ready, tree: &Path) -> Result<Taken> {
    let mut all = Taken::default();
    for dump in ready.instance.dumps.iter().filter(|dump| !dump.stream) {
        let taken = one(shared, ready, dump, tree).await;
        let taken = taken.with_context(|| format!("dump {} failed, so no snapshot was taken", dump.name))?;
        all.warnings.extend(taken.warnings.iter().map(|text| format!("dump {}: {text}", dump.name)));
        all.records.extend(taken.records);
    }
    Ok(all)
}

/// What is to be said of dumps that are much smaller than when they were last good.
pub(super) async fn shrunk(shared: &Shared, ready: &Ready, records: &[Record]) -> Result<BTreeSet<String>> {
    if records.is_empty() {
        return Ok(BTreeSet::new());
    }
    let (state, uuid) = (shared.context.dirs.state.clone(), ready.uuid);
    let last = tokio::task::spawn_blocking(move || read_sizes(&state, uuid)).await??;
    Ok(records.iter().filter_map(|record| smaller(&ready.instance, record, &last)).collect())
}

async fn one(shared: &Shared, ready: &Ready, dump: &Dump, tree: &Path) -> Result<Taken> {
    let site = Site::open(&ready.place, dump, &shared.context.dirs.runtime, shared.live.cancelled()).await?;
    let dir = tree.join("dumps").join(dump.name.as_str());
    let made = dir.clone();
    tokio::task::spawn_blocking(move || crate::state::durable::create_dir(&made, 0o700)).await??;
    let step = match site.plan_dump() {
        Some(left) => {
            Some(shared.undo.push(restore::dumps::clearing(&ready.instance, &dump.name, &left)?).await?)
        }
        None => None,
    };
    let taken = site.dump(&dir).await.map_err(|failure| full(failure, &dir))?;
    if let Some(step) = step {
        shared.undo.done(step).await?;
    }
    let bytes: u64 = taken.records.iter().map(|record| record.size).sum();
    let text = format!("dump {}: {} files, {bytes} bytes", dump.name, taken.records.len());
    info!("{text}");
    ready.log.note(&text);
    Ok(taken)
}

/// Not every program says that it found no room, and none says where.
fn full(failure: anyhow::Error, dir: &Path) -> anyhow::Error {
    let Ok(stat) = rustix::fs::statvfs(dir) else { return failure };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free >= ROOM {
        return failure;
    }
    failure.context(format!(
        "no space left in {} ({free} bytes are free; set daemon.staging_dir to a larger disk)",
        dir.display()
    ))
}

fn smaller(instance: &Instance, record: &Record, last: &Sizes) -> Option<String> {
    let before = *last.get(&record.file)?;
    let dump = instance.dumps.iter().find(|dump| *dump.name == *record.dump)?;
    let least = u128::from(before) * u128::from(dump.shrink_limit) / 100;
    (u128::from(record.size) < least).then(|| {
        format!(
            "{} has {} bytes and had {before} when it was last good: less than shrink_limit = {}%; look whether data is missing",
            record.file, record.size, dump.shrink_limit
        )
    })
}

/// Remembers the sizes once a set holds the dumps.
pub(super) async fn remember(shared: &Shared, ready: &Ready, records: &[Record]) -> Result<()> {
    let record = shared.live.record();
    let mine = record.units.iter().filter(|unit| unit.instance == *ready.instance.name);
    if records.is_empty() || !mine.into_iter().any(|unit| !unit.snapshot.is_empty()) {
        return Ok(());
    }
    let sizes = records.iter().map(|record| (record.file.clone(), record.size)).collect();
    let (state, uuid) = (shared.context.dirs.state.clone(), ready.uuid);
    tokio::task::spawn_blocking(move || write_sizes(&state, uuid, &sizes)).await?
}

/// What a manifest says of the dumps.
pub(super) fn described(records: &[Record]) -> Result<Vec<serde_json::Value>> {
    records.iter().map(|record| serde_json::to_value(record).context("describing a dump")).collect()
}
