//! What an instance takes before its services are stopped: its repositories and a permit. So nobody's prune, and no
//! other instance's backup, makes them wait while they are down.

use std::sync::Arc;

use anyhow::Context as _;
use tracing::warn;

use super::Shared;
use super::instance::Ready;
use crate::definition::{Name, Repository};
use crate::job::repository::{self, Location};
use crate::queue::Guard;
use crate::restic;

/// Held until the instance is done.
pub(super) struct Slot {
    shares: Vec<(Name, Guard)>,
    _permit: Guard,
}

impl Slot {
    /// Whether this repository is shared already; then it must not be asked for again.
    pub(super) fn shares(&self, repository: &Name) -> bool {
        self.shares.iter().any(|(name, _)| name == repository)
    }
}

/// Takes what is needed, if services will be stopped. A repository that cannot be had now is not waited for later.
pub(super) async fn take(shared: &Shared, ready: &Ready) -> anyhow::Result<Option<Slot>> {
    if ready.instance.services.iter().all(|service| !service.stop.in_backups()) {
        return Ok(None);
    }
    let mut shares = Vec::new();
    for name in &shared.request.backup.repositories {
        let repository = repository::defined(&shared.request.definitions, name)?;
        match share(shared, ready, repository).await {
            Ok(guard) => shares.push((name.clone(), guard)),
            Err(failure) if shared.live.cancelled().is_cancelled() => return Err(failure),
            Err(failure) => {
                warn!(holdfast_repository = %name, "cannot be reached before services are stopped: {failure:#}")
            }
        }
    }
    let wait = |reason| shared.live.waits(&ready.instance.name, reason);
    let _permit = shared.context.queue.permit(&shared.live.caller(), wait).await?;
    Ok(Some(Slot { shares, _permit }))
}

/// Opens a repository, tried again where the cause may pass: now, while the services still run.
async fn share(shared: &Shared, ready: &Ready, repository: &Arc<Repository>) -> anyhow::Result<Guard> {
    let (live, queue) = (&shared.live, &shared.context.queue);
    let retry = shared.request.backup.retry;
    let mut pause = retry.delay;
    let terms = live.terms(ready.instance.stall_timeout);
    for left in (0..=retry.attempts).rev() {
        let place = Location::of(repository, &ready.instance, ready.uuid);
        let opened = repository::open(&shared.context, &shared.restic, repository, place, &terms).await;
        let failure = match opened {
            Ok(opened) => {
                let wait = |reason| live.waits(&ready.instance.name, reason);
                return Ok(queue.share(&opened.key, &repository.name, &live.caller(), wait).await?);
            }
            Err(failure) => failure,
        };
        let passing = failure.downcast_ref::<restic::Error>().is_some_and(restic::Error::retryable);
        if !passing || left == 0 || live.cancelled().is_cancelled() {
            return Err(failure);
        }
        let why = format!("tries again in {pause:?}, before services are stopped: {failure}");
        live.waits(&ready.instance.name, Some(why));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = live.cancelled().cancelled() => {}
        }
        live.waits(&ready.instance.name, None);
        pause = pause.saturating_mul(2);
    }
    Err(anyhow::anyhow!("no attempt was made")).context(repository.name.to_string())
}
