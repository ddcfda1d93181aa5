//! The backup job: one unit per instance and repository, instances side by side, then retention once per repository.

pub(in crate::job) mod dumps;
mod far;
mod held;
mod instance;
mod log;
mod slot;
mod snapshot;
mod streams;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::task::JoinSet;
use tracing::{Instrument, error, info, warn};

pub(in crate::job) use far::RULES;

use super::live::append;
use super::{Context, Live, retain};
use crate::definition::{Backup, Definitions, Instance};
use crate::restic::Restic;
use crate::state::undo::Undo;
use crate::state::{Outcome, UnitRecord};

/// What one backup job does; frozen when it is asked for, a reload does not touch it.
pub struct Request {
    /// The definitions as they were.
    pub definitions: Arc<Definitions>,
    /// The backup.
    pub backup: Arc<Backup>,
    /// The instances it covers, already selected.
    pub instances: Vec<Arc<Instance>>,
    /// Instances that it names and that cannot be used, with the reason: they fail.
    pub unusable: Vec<(String, String)>,
    /// Retries end at this time: the next slot does the work then.
    pub retry_until: Option<Timestamp>,
}

/// What all parts of one job share.
pub(super) struct Shared {
    pub(super) context: Context,
    pub(super) live: Arc<Live>,
    pub(super) request: Request,
    pub(super) restic: Restic,
    pub(super) undo: Undo,
}

/// Runs the job to its end; how it ended stands in `live`.
pub async fn run(context: Context, live: Arc<Live>, request: Request) {
    begin(&live, &request);
    // The job is stored as queued already: that it has begun is written while it works.
    tokio::join!(live.store(), work(context, Arc::clone(&live), request));
}

async fn work(context: Context, live: Arc<Live>, request: Request) {
    let restic = match Restic::probe(&request.definitions.daemon.restic).await {
        Ok(restic) => restic,
        Err(failure) => return fail_all(&live, &format!("{failure}: {}", failure.advice())),
    };
    let undo = match Undo::begin(&context.dirs.undo(), live.id()) {
        Ok(undo) => undo,
        Err(failure) => return fail_all(&live, &format!("undo steps cannot be written: {failure:#}")),
    };
    let deadline = request.backup.max_duration;
    let shared = Arc::new(Shared { context, live, request, restic, undo });
    let watch = deadline.map(|limit| tokio::spawn(end_after(limit, Arc::clone(&shared.live))));
    run_instances(&shared).await;
    if let Some(watch) = watch {
        watch.abort();
    }
    retain::after_backup(&shared).await;
    if let Err(failure) = shared.undo.finish().await {
        warn!("undo steps could not be closed and will run again at the next start: {failure:#}");
    }
}

fn begin(live: &Live, request: &Request) {
    let mut units = Vec::new();
    for instance in &request.instances {
        units.extend(request.backup.repositories.iter().map(|repository| unit(&instance.name, repository)));
    }
    for (instance, why) in &request.unusable {
        units.extend(request.backup.repositories.iter().map(|repository| UnitRecord {
            outcome: Some(Outcome::Failed),
            error: why.clone(),
            ..unit(instance, repository)
        }));
    }
    live.update(|record| {
        record.started = Some(Timestamp::now());
        record.units = units;
    });
    let names: BTreeMap<_, _> = request.instances.iter().map(|i| (i.name.as_str(), ())).collect();
    let names: Vec<_> = names.into_keys().collect();
    info!("instances: {}", names.join(", "));
    for (instance, why) in &request.unusable {
        error!(holdfast_instance = %instance, "{instance} is not backed up: {why}");
    }
    if names.is_empty() && request.unusable.is_empty() {
        live.report(Outcome::Warning, "no instance that is defined now matches this backup's `instances`");
    }
}

fn unit(instance: &str, repository: &str) -> UnitRecord {
    UnitRecord { instance: instance.to_owned(), repository: repository.to_owned(), ..UnitRecord::default() }
}

fn fail_all(live: &Live, why: &str) {
    error!("{why}");
    live.update(|record| {
        for unit in &mut record.units {
            unit.outcome = Some(Outcome::Failed);
            append(&mut unit.error, why);
        }
    });
    live.report(Outcome::Failed, why);
}

async fn end_after(limit: std::time::Duration, live: Arc<Live>) {
    tokio::time::sleep(limit).await;
    live.stop_as(Outcome::Failed, &format!("it took longer than max_duration = {limit:?}"));
}

/// All instances side by side; a permit bounds how many are at work. A panic in one fails that one.
async fn run_instances(shared: &Arc<Shared>) {
    let mut tasks = JoinSet::new();
    for instance in &shared.request.instances {
        let (shared, instance) = (Arc::clone(shared), Arc::clone(instance));
        let span = tracing::info_span!("instance", holdfast_instance = %instance.name);
        tasks.spawn(instance::back_up(shared, instance).instrument(span));
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(death) = ended {
            error!("the task of an instance died: {death}");
        }
    }
    shared.live.update(|record| {
        for unit in record.units.iter_mut().filter(|u| u.outcome.is_none()) {
            unit.outcome = Some(Outcome::Failed);
            append(&mut unit.error, "a defect in the daemon ended this unit; see the journal");
        }
    });
}
