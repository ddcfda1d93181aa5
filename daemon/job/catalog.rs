//! What a repository with a restic repository for each instance holds: nobody could list that, so each host writes its own
//! list into a small restic repository beside them, `<url>/catalog`.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::repository::{self, Location, NO_MODULE};
use super::{Context, remove_tree, sets};
use crate::definition::{Definitions, Layout, Repository};
use crate::queue::Caller;
use crate::restic::{BackupRequest, Restic, Snapshot, Terms};
use crate::state::undo::{Step, Undo};
use crate::state::{SetFilter, SetRecord, durable};

/// The place of the catalogue below the repository's URL.
const PLACE: &str = "catalog";
/// The one file in its snapshots.
const FILE: &str = "catalog.json";
/// The largest list that is read.
const LIMIT: usize = 16 << 20;
/// It is written anew after this time, for sets come and go.
const DAILY: SignedDuration = SignedDuration::from_hours(24);
/// So many of our lists pile up before the old ones are forgotten.
const PILE: usize = 30;

/// One instance that a repository holds sets of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Content {
    /// Its module, or empty.
    pub module: String,
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uuid: String,
    /// The host of its newest set.
    pub host: String,
    /// When that was made.
    pub last_set: Timestamp,
    /// Bytes of it.
    pub size: u64,
}

#[derive(Serialize, Deserialize)]
struct Catalog {
    format: u32,
    instances: Vec<Content>,
}

/// What was written last: who was in it, and when.
#[derive(PartialEq, Serialize, Deserialize)]
struct Written {
    who: Vec<(String, String, String)>,
    at: Timestamp,
}

impl Content {
    fn of(set: SetRecord, module: String) -> Self {
        let SetRecord { instance: name, uuid, host, time, size, .. } = set;
        Self { module, name, uuid, host, last_set: time, size }
    }
}

/// The newest of each identity, by name.
fn newest(all: impl IntoIterator<Item = Content>) -> Vec<Content> {
    let mut by_uuid: BTreeMap<String, Content> = BTreeMap::new();
    for content in all {
        match by_uuid.get(&content.uuid) {
            Some(known) if known.last_set >= content.last_set => {}
            _ => drop(by_uuid.insert(content.uuid.clone(), content)),
        }
    }
    let mut all: Vec<_> = by_uuid.into_values().collect();
    all.sort_by(|a, b| (&a.name, &a.host, &a.uuid).cmp(&(&b.name, &b.host, &b.uuid)));
    all
}

/// What sets are known here of a repository with a place for each instance.
async fn known(context: &Context, repository: &Repository) -> anyhow::Result<Vec<Content>> {
    let filter = SetFilter { repository: Some(repository.name.to_string()), ..SetFilter::default() };
    let sets = context.database.sets(filter).await?;
    Ok(newest(sets.into_iter().map(|set| {
        let module = set.location.split_once('/').map(|(module, _)| module.to_owned());
        Content::of(set, module.filter(|module| module != NO_MODULE).unwrap_or_default())
    })))
}

/// All that a repository holds, of this and of other hosts.
///
/// # Errors
/// It cannot be read.
pub async fn contents(
    context: &Context,
    definitions: &Definitions,
    repository: &Arc<Repository>,
) -> anyhow::Result<Vec<Content>> {
    let restic = Restic::probe(&definitions.daemon.restic).await?;
    match repository.layout {
        Layout::Shared => shared(context, &restic, repository).await,
        Layout::PerInstance => {
            if let Err(failure) = write(context, definitions, repository).await {
                warn!(holdfast_repository = %repository.name, "our list in the catalogue is not up to date: {failure:#}");
            }
            let listed = listed(context, &restic, repository).await?;
            Ok(newest(known(context, repository).await?.into_iter().chain(listed)))
        }
    }
}

/// The snapshots' tags say all.
async fn shared(
    context: &Context,
    restic: &Restic,
    repository: &Arc<Repository>,
) -> anyhow::Result<Vec<Content>> {
    let terms = Terms::new(&CancellationToken::new());
    let location = Location { path: String::new() };
    let opened = match repository::open_existing(context, restic, repository, location, &terms).await {
        Err(failure) if repository::does_not_exist(&failure) => return Ok(Vec::new()),
        opened => opened?,
    };
    let caller = Caller { label: "listing what it holds".into(), cancel: terms.cancel.clone() };
    let _share = context.queue.share(&opened.key, &repository.name, &caller, |_| ()).await?;
    let snapshots = restic.snapshots(&opened.access, &["holdfast", "kind=tree"], &terms).await?;
    let module = |snapshot: &Snapshot| {
        snapshot.tags.iter().find_map(|tag| tag.strip_prefix("module=")).unwrap_or_default().to_owned()
    };
    let sets = snapshots.list.iter().filter_map(|s| Some((sets::of(&opened, s)?, module(s))));
    Ok(newest(sets.map(|(set, module)| Content::of(set, module))))
}

/// The lists of all hosts; none where no catalogue was ever written.
async fn listed(
    context: &Context,
    restic: &Restic,
    repository: &Arc<Repository>,
) -> anyhow::Result<Vec<Content>> {
    let terms = Terms::new(&CancellationToken::new());
    let location = Location { path: PLACE.into() };
    let opened = match repository::open_existing(context, restic, repository, location, &terms).await {
        Err(failure) if repository::does_not_exist(&failure) => return Ok(Vec::new()),
        opened => opened.context("opening the catalogue")?,
    };
    let caller = Caller { label: "reading the catalogue".into(), cancel: terms.cancel.clone() };
    let _share = context.queue.share(&opened.key, &repository.name, &caller, |_| ()).await?;
    let mut last: BTreeMap<String, Snapshot> = BTreeMap::new();
    for snapshot in restic.snapshots(&opened.access, &["holdfast", "kind=catalog"], &terms).await?.list {
        if last.get(&snapshot.hostname).is_none_or(|known| known.time < snapshot.time) {
            last.insert(snapshot.hostname.clone(), snapshot);
        }
    }
    let mut all = Vec::new();
    for snapshot in last.into_values() {
        let text = restic.dump(&opened.access, &snapshot.id, FILE, LIMIT, &terms).await;
        let text = text.with_context(|| format!("reading the catalogue of host {}", snapshot.hostname))?;
        let catalog: Catalog = serde_json::from_slice(&text)
            .with_context(|| format!("the catalogue of host {} makes no sense", snapshot.hostname))?;
        all.extend(catalog.instances);
    }
    Ok(all)
}

/// Where the catalogue lies, if we ever wrote it: it is pruned and checked with the rest.
pub(super) async fn location(context: &Context, repository: &Repository) -> anyhow::Result<Option<Location>> {
    let written = context.database.meta(&format!("catalog/{}", repository.name)).await?;
    let ours = repository.layout == Layout::PerInstance && written.is_some_and(|text| !text.is_empty());
    Ok(ours.then(|| Location { path: PLACE.into() }))
}

/// Somebody removed it: it is written anew the next time.
pub(super) async fn is_gone(context: &Context, repository: &Repository) -> anyhow::Result<()> {
    warn!(holdfast_repository = %repository.name, "the catalogue is gone; it is made anew when the list is written next");
    repository::forget_place(context, repository, PLACE).await?;
    context.database.set_meta(&format!("catalog/{}", repository.name), "").await
}

/// Writes this host's list where it has changed, or is a day old. Costs nothing otherwise.
///
/// # Errors
/// The repository cannot be written; nothing else depends on it, and it is tried again.
pub async fn write(
    context: &Context,
    definitions: &Definitions,
    repository: &Arc<Repository>,
) -> anyhow::Result<()> {
    if repository.layout != Layout::PerInstance {
        return Ok(());
    }
    let host = &definitions.daemon.host;
    let mut own = known(context, repository).await?;
    own.retain(|content| content.host == *host);
    let who = own.iter().map(|c| (c.module.clone(), c.name.clone(), c.uuid.clone())).collect();
    let now = Written { who, at: Timestamp::now() };
    let key = format!("catalog/{}", repository.name);
    let before: Option<Written> =
        context.database.meta(&key).await?.and_then(|text| serde_json::from_str(&text).ok());
    let (who, old) = (before.as_ref().map(|w| &w.who), before.as_ref().map(|w| now.at.duration_since(w.at)));
    if own.is_empty() && before.is_none() || who == Some(&now.who) && old.is_some_and(|age| age < DAILY) {
        return Ok(());
    }
    store(context, definitions, repository, own).await?;
    info!(holdfast_repository = %repository.name, "the catalogue lists {} instances of this host", now.who.len());
    context.database.set_meta(&key, &serde_json::to_string(&now)?).await
}

async fn store(
    context: &Context,
    definitions: &Definitions,
    repository: &Arc<Repository>,
    instances: Vec<Content>,
) -> anyhow::Result<()> {
    let restic = Restic::probe(&definitions.daemon.restic).await?;
    let terms = Terms::new(&CancellationToken::new());
    let location = Location { path: PLACE.into() };
    let opened = repository::open(context, &restic, repository, location, &terms).await?;
    let caller = Caller { label: "writing the catalogue".into(), cancel: terms.cancel.clone() };
    let _alone = context.queue.alone(&opened.key, &repository.name, &caller, |_| ()).await?;
    let _permit = context.queue.permit(&caller, |_| ()).await?;
    let undo = Undo::begin(&context.dirs.undo(), &format!("catalog-{}", repository.name))?;
    let dir = definitions.daemon.staging_dir.join(format!("catalog-{}", repository.name));
    undo.push(Step::RemoveDir { path: dir.clone() }).await?;
    repository::write_lock_down(&undo, &opened).await?;
    let (at, text) = (dir.clone(), serde_json::to_vec_pretty(&Catalog { format: 1, instances })?);
    tokio::task::spawn_blocking(move || {
        durable::create_dir(&at, 0o700)?;
        durable::write(&at.join(FILE), 0o600, &text)?;
        durable::write(&at.join("list"), 0o600, format!("{FILE}\0").as_bytes())
    })
    .await??;
    let request = BackupRequest {
        files_from_raw: vec![dir.join("list")],
        dir: dir.clone(),
        tags: vec!["holdfast".into(), "kind=catalog".into()],
        host: definitions.daemon.host.clone(),
        ..BackupRequest::default()
    };
    let stored = restic.backup(&opened.access, &request, &terms, |_| ()).await;
    let stored = repository::healed(&restic, &opened, stored).await.context("storing the catalogue");
    if stored.is_ok() && !repository.append_only {
        forget_old(&restic, &opened, &request.host, &terms).await;
    }
    remove_tree(&dir).await?;
    undo.finish().await?;
    stored.map(drop)
}

/// Only the newest list of a host counts.
async fn forget_old(restic: &Restic, opened: &repository::Opened, host: &str, terms: &Terms) {
    let forgotten = async {
        let mut own = restic.snapshots(&opened.access, &["holdfast", "kind=catalog"], terms).await?.list;
        own.retain(|snapshot| snapshot.hostname == host);
        own.sort_by_key(|snapshot| snapshot.time);
        let old: Vec<&str> = own.iter().rev().skip(1).map(|snapshot| snapshot.id.as_str()).collect();
        let due = if old.len() < PILE { &[][..] } else { &old };
        restic.forget(&opened.access, due, terms).await
    };
    if let Err(failure) = forgotten.await {
        warn!(holdfast_repository = %opened.repository.name, "old lists stay in the catalogue: {failure}");
    }
}
