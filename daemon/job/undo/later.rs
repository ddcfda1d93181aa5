//! What dead jobs left on other machines, and in volumes that only their engine reaches: put right in the background, for
//! as long as those do not answer. At boot an engine may come after us.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, info};

use super::{finish, holds};
use crate::definition::{Definitions, Remote};
use crate::job::{Context, far, message, services};
use crate::queue::Caller;
use crate::state::undo::{self, Pending, Recorded, Step};

/// The first and the longest pause between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));

/// Begins with the jobs that left something there, and answers with the others. The services of a job whose
/// data is to be put back there wait for that.
pub(super) fn take_far(
    context: &Context,
    definitions: &Arc<Definitions>,
    pending: &[Pending],
) -> Vec<Pending> {
    let is_far = |job: &Pending| {
        holds(job, |step| {
            matches!(
                step,
                Step::FarBack { .. }
                    | Step::FarRemove { .. }
                    | Step::FarLeave { .. }
                    | Step::VolumeBack { .. }
            )
        }) || (holds(job, |step| is_remote(step, definitions)) && !holds(job, is_tree))
    };
    let mut near: Vec<Pending> = Vec::new();
    let bases: Vec<&Pending> = pending.iter().filter(|job| is_far(job)).collect();
    let of = |job: &Pending| {
        bases
            .iter()
            .any(|base| job.job == base.job || job.job.starts_with(&format!("{}-services-", base.job)))
    };
    near.extend(pending.iter().filter(|job| !of(job)).cloned());
    for base in bases {
        let (context, definitions, job) = (context.clone(), Arc::clone(definitions), base.job.clone());
        let span = tracing::info_span!("undo", holdfast_job = %job);
        tokio::spawn(async move { until_it_is_done(&context, &definitions, &job).await }.instrument(span));
    }
    near
}

/// Whether it is a change in a server of another machine.
fn is_remote(step: &Step, definitions: &Definitions) -> bool {
    let Step::Dump { instance, dump, .. } = step else { return false };
    let defined = definitions.instances.iter().find(|(name, _)| name.as_str() == instance);
    defined.is_some_and(|(_, instance)| {
        instance.dumps.iter().any(|other| *other.name == **dump && other.remote.is_some())
    })
}

/// Whether a tree of this machine is to be put back, which waits for nobody.
fn is_tree(step: &Step) -> bool {
    matches!(step, Step::SwapBack { .. })
}

async fn until_it_is_done(context: &Context, definitions: &Arc<Definitions>, job: &str) {
    let (mut pause, longest) = PAUSES;
    while let Err(failure) = once(context, definitions, job).await {
        error!(
            MESSAGE_ID = message::SERVICE_DOWN,
            "what the dead job {job} left is not put right yet: {failure:#}. It is tried again in {pause:?}"
        );
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
    info!("what the dead job {job} left is put right");
}

/// Data first, while what uses it is stopped; then services.
async fn once(context: &Context, definitions: &Arc<Definitions>, job: &str) -> Result<()> {
    let dir = context.dirs.undo();
    let all = tokio::task::spawn_blocking(move || undo::pending(&dir)).await??;
    let own = format!("{job}-services-");
    let (mut own_services, base): (Vec<Pending>, Vec<Pending>) = all
        .into_iter()
        .filter(|other| other.job == job || other.job.starts_with(&own))
        .partition(|other| other.job != job);
    for base in base {
        let caller = Caller { label: format!("what {job} left"), cancel: CancellationToken::new() };
        let name = instance_of(&base);
        let _lock = match &name {
            Some(name) => Some(context.queue.instance(name, &caller, |_| ()).await?),
            None => None,
        };
        for remote in remotes_of(&base) {
            far::look(&remote, &[], &CancellationToken::new()).await?;
        }
        if name.is_some() {
            for services in &own_services {
                services::stop_what_runs(&services.steps).await;
            }
        }
        let Err(failure) = finish(context, definitions, job, base.steps).await else { continue };
        let left = left(context, job).await?;
        // A server may be one of the services, which are started once no data is away any more.
        let away =
            |step: &Step| is_tree(step) || matches!(step, Step::FarBack { .. } | Step::VolumeBack { .. });
        if left.iter().any(|job| holds(job, away)) {
            return Err(failure.context(format!("job {job}")));
        }
        start(context, std::mem::take(&mut own_services)).await?;
        for again in left {
            finish(context, definitions, job, again.steps).await.with_context(|| format!("job {job}"))?;
        }
    }
    start(context, own_services).await
}

async fn start(context: &Context, stopped: Vec<Pending>) -> Result<()> {
    for services in &stopped {
        services::start_what_was_stopped(context, &services.job, &services.steps).await?;
    }
    Ok(())
}

/// What is left of a job's own steps.
async fn left(context: &Context, job: &str) -> Result<Vec<Pending>> {
    let dir = context.dirs.undo();
    let all = tokio::task::spawn_blocking(move || undo::pending(&dir)).await??;
    Ok(all.into_iter().filter(|other| other.job == job).collect())
}

fn instance_of(job: &Pending) -> Option<String> {
    job.steps.iter().find_map(|(_, step)| match step {
        Recorded::Known(Step::FarBack { instance, .. } | Step::VolumeBack { instance, .. }) => {
            Some(instance.clone())
        }
        _ => None,
    })
}

fn remotes_of(job: &Pending) -> Vec<Remote> {
    let remotes = job.steps.iter().filter_map(|(_, step)| match step {
        Recorded::Known(Step::FarRemove { remote, .. } | Step::FarLeave { remote, .. }) => {
            Some(remote.clone())
        }
        _ => None,
    });
    remotes.collect()
}
