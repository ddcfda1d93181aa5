//! One instance of a backup job: preflight, quiesce, dump, snapshot, resume, cleanup.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{Instrument, error, info, warn};
use uuid::Uuid;

use super::log::Log;
use super::slot::{self, Slot};
use super::streams::{self, Sum};
use super::{Shared, dumps, far, held, snapshot};
use crate::definition::{Instance, Name};
use crate::dump::{Record, Taken};
use crate::job::live::append;
use crate::job::recover;
use crate::job::remove_tree;
use crate::job::services::{self, For, Quiet, Resumed};
use crate::job::{hook, version};
use crate::queue::Guard;
use crate::restic;
use crate::state::undo::Step;
use crate::state::{Outcome, Phase, UnitRecord, identity};
use crate::target::{FORMAT, Manifest, Place, Purpose, Staging, Tree, local_names};

/// An instance that passed its preflight.
pub(super) struct Ready {
    pub(super) instance: Arc<Instance>,
    pub(super) place: Place,
    pub(super) uuid: Uuid,
    pub(super) version: String,
    pub(super) staging: PathBuf,
    /// What was taken before services were stopped; none: there are none to stop.
    pub(super) slot: OnceLock<Slot>,
    /// What was done on another machine.
    pub(super) log: Log,
}

/// A tree that restic can read.
pub(super) struct Laid {
    pub(super) dir: PathBuf,
    pub(super) list: PathBuf,
    pub(super) exclude_file: Option<PathBuf>,
    /// What was streamed into each repository, by its name.
    pub(super) streamed: BTreeMap<String, Sum>,
}

/// What was dumped before the tree is laid.
struct Dumped {
    staging: Staging,
    records: Vec<Record>,
    streamed: BTreeMap<String, Sum>,
    /// Repositories that did not take the streams.
    lost: BTreeSet<Name>,
}

/// Backs one instance up into all repositories of the job. How it went stands in the job's units.
pub(super) async fn back_up(shared: Arc<Shared>, instance: Arc<Instance>) {
    let part = Part { shared, instance };
    let _lock = match part.lock().await {
        Ok(guard) => guard,
        Err(failure) => return part.fail(&failure),
    };
    part.phase(Phase::Preflight);
    let ready = match part.preflight().await {
        Ok(ready) => Arc::new(ready),
        Err(failure) => return part.fail(&failure.context("preflight, nothing was touched")),
    };
    let steps = match part.write_undo(&ready).await {
        Ok(steps) => steps,
        Err(failure) => return part.fail(&failure.context("writing undo steps, nothing was touched")),
    };
    // In a task of its own: cleanup runs whatever happens in it, a panic included.
    let quiet = Quiet::new(&part.shared.context, &part.shared.live, &part.instance, For::Backup);
    let quiet = Arc::new(quiet);
    let body = dump_and_snapshot(Arc::clone(&part.shared), Arc::clone(&ready), Arc::clone(&quiet));
    let body = body.in_current_span();
    match tokio::spawn(body).await {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => part.fail(&failure),
        Err(death) => part.fail(&anyhow::anyhow!("a defect in the daemon ended this unit: {death}")),
    }
    // Also after an error, a panic, a cancel: what was stopped runs again.
    part.tell(quiet.resume().await);
    part.clean_up(&ready, &steps).await;
}

struct Part {
    shared: Arc<Shared>,
    instance: Arc<Instance>,
}

impl Part {
    /// Changes all units of this instance.
    fn units(&self, mut change: impl FnMut(&mut UnitRecord)) {
        self.shared.live.update(|record| {
            record.units.iter_mut().filter(|u| u.instance == *self.instance.name).for_each(&mut change);
        });
    }

    fn phase(&self, phase: Phase) {
        self.units(|unit| unit.phase = phase);
    }

    /// Fails the units that have no set and no verdict yet; a warning on the way is none.
    fn fail(&self, failure: &anyhow::Error) {
        let (outcome, text) = self.shared.live.verdict(failure);
        error!(holdfast_outcome = %outcome, "{} was not backed up: {text}", self.instance.name);
        self.units(|unit| {
            let open = matches!(unit.outcome, None | Some(Outcome::Warning)) && unit.snapshot.is_empty();
            if open {
                unit.outcome = Some(outcome);
                append(&mut unit.error, &text);
            }
        });
    }

    async fn lock(&self) -> anyhow::Result<Guard> {
        let (live, name) = (&self.shared.live, &self.instance.name);
        let wait = |reason| live.waits(name, reason);
        Ok(self.shared.context.queue.instance(name, &live.caller(), wait).await?)
    }

    /// May do heavy work; what the instance took before its services were stopped counts.
    async fn permit(&self, ready: &Ready) -> anyhow::Result<Option<Guard>> {
        if ready.slot.get().is_some() {
            return Ok(None);
        }
        let live = &self.shared.live;
        let wait = |reason| live.waits(&self.instance.name, reason);
        Ok(Some(self.shared.context.queue.permit(&live.caller(), wait).await?))
    }

    async fn preflight(&self) -> anyhow::Result<Ready> {
        let (context, instance) = (&self.shared.context, &self.instance);
        let (tools, cancel) = (context.dirs.tools(), self.shared.live.cancelled());
        far::reachable(&self.shared, instance).await?;
        let volumes = dumps::volumes(instance);
        let place = Place::resolve(instance, Purpose::Backup, &tools, &volumes, cancel).await?;
        let uuid = identity_of(context, instance, &place).await?;
        let staging_dir = self.shared.request.definitions.daemon.staging_dir.clone();
        let staging = staging_dir.join(&*instance.name);
        let name = instance.name.clone();
        // From here on it is ours, and removed at the end whatever happens.
        tokio::task::spawn_blocking(move || Staging::check(&staging_dir, &name)).await??;
        dumps::preflight(context, &place, uuid, &staging, cancel).await?;
        let version = version::ask(&place, cancel).await?;
        services::check(context, &place, For::Backup, cancel).await?;
        recover::note_health(context, instance, uuid, self.shared.live.id()).await?;
        let slot = OnceLock::new();
        Ok(Ready { instance: Arc::clone(instance), place, uuid, version, staging, slot, log: Log::default() })
    }

    /// What must happen even if we do not live to do it, on disk before anything is touched.
    async fn write_undo(&self, ready: &Ready) -> anyhow::Result<Vec<usize>> {
        let undo = &self.shared.undo;
        let mut steps = vec![undo.push(Step::RemoveDir { path: ready.staging.clone() }).await?];
        if ready.place.cleanup_hook("").is_some() {
            let hook = Step::RunHook {
                instance: self.instance.name.to_string(),
                backup: self.shared.request.backup.name.to_string(),
                hook: "cleanup".into(),
            };
            steps.push(undo.push(hook).await?);
        }
        Ok(steps)
    }

    /// Runs whatever happened before, also when the job was cancelled; its own failures are warnings.
    async fn clean_up(&self, ready: &Ready, steps: &[usize]) {
        self.phase(Phase::Cleanup);
        let backup = &self.shared.request.backup.name;
        if let Err(failure) = hook::clean_up(&ready.place, backup).await {
            self.warn(&format!("cleanup_state failed: {failure:#}"));
        }
        if let Err(failure) = remove_tree(&ready.staging).await {
            self.warn(&format!("the staging directory could not be removed: {failure:#}"));
        }
        // Alone in its job it needs no marks: the whole file goes next.
        let others = self.shared.request.instances.len() > 1;
        for step in steps.iter().rev().filter(|_| others) {
            if let Err(failure) = self.shared.undo.done(*step).await {
                self.warn(&format!("undo steps could not be closed and will run again: {failure:#}"));
            }
        }
    }

    fn tell(&self, resumed: Resumed) {
        resumed.told().iter().for_each(|text| self.warn(text));
    }

    fn warn(&self, text: &str) {
        warn!("{text}");
        self.units(|unit| {
            unit.outcome = unit.outcome.max(Some(Outcome::Warning));
            append(&mut unit.error, text);
        });
    }
}

async fn identity_of(
    context: &crate::job::Context,
    instance: &Instance,
    place: &Place,
) -> anyhow::Result<Uuid> {
    let (dir, name, suggested) = (context.dirs.state.clone(), instance.name.clone(), place.identity());
    tokio::task::spawn_blocking(move || identity(&dir, &name, suggested)).await?
}

/// Dump once, then one snapshot in each repository, side by side.
async fn dump_and_snapshot(shared: Arc<Shared>, ready: Arc<Ready>, quiet: Arc<Quiet>) -> anyhow::Result<()> {
    let part = Part { shared: Arc::clone(&shared), instance: Arc::clone(&ready.instance) };
    if let Some(slot) = slot::take(&shared, &ready).await.context("before services were stopped")? {
        let _ = ready.slot.set(slot);
    }
    part.phase(Phase::Quiesce);
    let clock = Instant::now();
    quiet.stop().await.context("services could not be stopped, so no snapshot was taken")?;
    let stopped = clock.elapsed();
    ready.log.note(&format!("stopped {}", quiet.shown().await));
    quiet.start_for_dump().await.context("no snapshot was taken")?;
    part.phase(Phase::Dump);
    let dumped = dump(&part, &ready).await?;
    let dumping = clock.elapsed().saturating_sub(stopped);
    ensure_running(&shared)?;
    part.tell(quiet.dumped().await.context("after the dumps, so no snapshot was taken")?);
    let (records, lost) = (dumped.records.clone(), dumped.lost.clone());
    if ready.instance.remote.is_some() {
        far::mirror(&shared, &ready).await?.iter().for_each(|text| part.warn(text));
        // restic reads the mirror: the other machine need not wait for it.
        part.phase(Phase::Resume);
        let resumed = quiet.resume().await;
        ready.log.note(&format!("started again; {}", resumed.shown()));
        part.tell(resumed);
    }
    let tree = Arc::new(lay_tree(&part, &ready, dumped).await?);
    let mut stores = JoinSet::new();
    for name in shared.request.backup.repositories.iter().filter(|name| !lost.contains(*name)) {
        let repository = Arc::clone(crate::job::repository::defined(&shared.request.definitions, name)?);
        let store = snapshot::store(Arc::clone(&shared), Arc::clone(&ready), Arc::clone(&tree), repository);
        stores.spawn(store.in_current_span());
    }
    while let Some(ended) = stores.join_next().await {
        ended.context("a defect in the daemon ended a snapshot")?;
    }
    if let Err(failure) = dumps::remember(&shared, &ready, &records).await {
        part.warn(&format!("the sizes of the dumps were not remembered: {failure:#}"));
    }
    quiet.tell_times(stopped, dumping, clock.elapsed().saturating_sub(stopped + dumping)).await;
    part.phase(Phase::Resume);
    part.tell(quiet.resume().await);
    Ok(())
}

fn ensure_running(shared: &Shared) -> anyhow::Result<()> {
    anyhow::ensure!(!shared.live.cancelled().is_cancelled(), restic::Error::Cancelled);
    Ok(())
}

/// Runs the dump hook, then takes the typed dumps: some into a staging directory that is made for them, some as streams.
async fn dump(part: &Part, ready: &Ready) -> anyhow::Result<Dumped> {
    run_hook(part, ready).await?;
    let (dir, name) =
        (part.shared.request.definitions.daemon.staging_dir.clone(), ready.instance.name.clone());
    let prepared = tokio::task::spawn_blocking(move || Staging::prepare(&dir, &name)).await?;
    let staging = prepared.context("making the staging directory, so no snapshot was taken")?;
    if staging.cleared {
        warn!("removed what a dead job had left in {}", ready.staging.display());
    }
    let staged = stage(part, ready, &staging).await?;
    let streamed = streams::take(&part.shared, ready).await?;
    let records: Vec<Record> = staged.records.into_iter().chain(streamed.records).collect();
    let shrunk = dumps::shrunk(&part.shared, ready, &records).await?;
    for warning in staged.warnings.iter().chain(&streamed.warnings).chain(&shrunk) {
        part.warn(warning);
    }
    Ok(Dumped { staging, records, streamed: streamed.sums, lost: streamed.lost })
}

async fn stage(part: &Part, ready: &Ready, staging: &Staging) -> anyhow::Result<Taken> {
    let some = ready.instance.dumps.iter().any(|dump| !dump.stream);
    let _permit = if some { part.permit(ready).await? } else { None };
    dumps::take(&part.shared, ready, &staging.tree()).await
}

/// Runs the dump hook under the global cap; without one there is nothing to do.
async fn run_hook(part: &Part, ready: &Ready) -> anyhow::Result<()> {
    let shared = &part.shared;
    let Some(program) = ready.place.dump_hook(&shared.request.backup.name) else { return Ok(()) };
    let live = &shared.live;
    let _permit = part.permit(ready).await?;
    hook::run(program, "dump_state", Phase::Dump, live.cancelled())
        .await
        .context("dump_state failed, so no snapshot was taken")
}

/// The tree of links that restic reads, with the manifest that makes it a set.
async fn lay_tree(part: &Part, ready: &Arc<Ready>, dumped: Dumped) -> anyhow::Result<Laid> {
    let Dumped { staging, records, streamed, lost: _ } = dumped;
    let shared = &part.shared;
    let own = own_dirs(shared);
    let (place, notes) = held::bring(shared, ready, &staging).await?;
    notes.iter().for_each(|note| part.warn(note));
    let known = Arc::clone(ready);
    let laid = tokio::task::spawn_blocking(move || {
        let tree = Tree::build(&place, &staging.tree(), &own)?;
        if place.instance.remote.is_some() {
            known.log.lay(&staging.tree())?;
        }
        anyhow::Ok((staging, tree))
    });
    let (staging, mut tree) = laid.await?.context("laying the tree of includes, so no snapshot was taken")?;
    let missing = tree.missing.iter().map(|include| format!("include {include} is not there"));
    for warning in missing.chain(tree.warnings.iter().cloned()) {
        part.warn(&warning);
    }
    for pattern in &tree.unmatched {
        info!("include {pattern} matches nothing");
    }
    let mut manifest = Manifest { dumps: dumps::described(&records)?, ..manifest(part, ready, &tree) };
    let laid = tokio::task::spawn_blocking(move || {
        (manifest.users, manifest.groups) = local_names();
        tree.commit(&manifest)?;
        let exclude_file = staging.beside("exclude");
        let some = !tree.exclude_text.is_empty();
        if some {
            std::fs::write(&exclude_file, &tree.exclude_text).context("writing the list of excludes")?;
        }
        let list = staging.beside("targets");
        std::fs::write(&list, tree.files_from_raw()).context("writing the list of targets")?;
        anyhow::Ok(Laid { dir: tree.dir, list, exclude_file: some.then_some(exclude_file), streamed })
    });
    laid.await?
}

/// Our own directories and local repositories: a backup of them would hold itself.
fn own_dirs(shared: &Shared) -> Vec<PathBuf> {
    let definitions = &shared.request.definitions;
    let dirs = &shared.context.dirs;
    let mut own = vec![definitions.daemon.staging_dir.clone(), dirs.cache.clone(), dirs.runtime.clone()];
    own.extend(definitions.repositories.values().map(|r| PathBuf::from(&r.url)).filter(|p| p.is_absolute()));
    own
}

fn manifest(part: &Part, ready: &Ready, tree: &Tree) -> Manifest {
    let shared = &part.shared;
    Manifest {
        format: FORMAT,
        holdfast: env!("CARGO_PKG_VERSION").to_owned(),
        set: shared.live.id().to_owned(),
        time: Timestamp::now(),
        host: shared.request.definitions.daemon.host.clone(),
        backup: shared.request.backup.name.to_string(),
        instance: ready.instance.name.to_string(),
        module: ready.instance.module.as_ref().map(ToString::to_string),
        uuid: ready.uuid.to_string(),
        user: ready.place.account.name.clone(),
        version: Some(ready.version.clone()).filter(|version| !version.is_empty()),
        includes: tree.includes.clone(),
        excludes: tree.excludes.clone(),
        roots: tree.roots.clone(),
        missing: tree.missing.clone(),
        definition: Some((*ready.instance.written).clone()),
        dumps: Vec::new(),
        users: BTreeMap::new(),
        groups: BTreeMap::new(),
        imported: None,
    }
}
