//! What is seen of services before anything is touched.

use anyhow::{Context as _, Result, bail};
use tokio_util::sync::CancellationToken;

use super::{For, reach};
use crate::definition::{Instance, Manager, Service, StopUntil};
use crate::job::Context;
use crate::service_control::State;
use crate::target::Place;

/// What a restore would stop; each service with the names of what runs.
pub(in crate::job) async fn would_stop(
    instance: &Instance,
    cancel: &CancellationToken,
) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for service in instance.services.iter().filter(|service| service.stop != StopUntil::Never) {
        let reach = reach(instance, service).await?;
        let seen = reach.look(cancel).await.with_context(|| format!("service {}", service.name))?;
        let running = seen.into_iter().filter(|seen| seen.state != State::Stopped);
        names.extend(running.map(|seen| format!("{} {}", service.manager.word(), seen.part.name)));
    }
    Ok(names)
}

/// Whether all services are there, and, for a backup, healthy where that is required. Touches nothing.
///
/// # Errors
/// What is missing or sick.
pub(in crate::job) async fn check(
    context: &Context,
    place: &Place,
    what_for: For,
    cancel: &CancellationToken,
) -> Result<()> {
    let instance = &place.instance;
    if what_for == For::Founding {
        return Ok(());
    }
    for service in &instance.services {
        programs(place, service)?;
        let place = || format!("service {}", service.name);
        let reach = reach(instance, service).await.with_context(place)?;
        let seen = reach.look(cancel).await.with_context(place)?;
        for seen in seen.iter().filter(|_| service.require_healthy && what_for == For::Backup) {
            // What another job of ours has stopped is not sick.
            let ours = context.holds.wanted(&reach.key(&seen.part));
            if let Some(why) = seen.sick.as_ref().filter(|_| !ours) {
                bail!(
                    "service {}: {} is not healthy: {why}; `require_healthy` refuses a backup of it",
                    service.name,
                    seen.part.name
                );
            }
        }
    }
    Ok(())
}

/// The programs of a service must be there, and safe to run, before anything is stopped.
fn programs(place: &Place, service: &Service) -> Result<()> {
    if let Manager::Command { start, stop, status } = &service.manager {
        for (key, argv) in [("start", start), ("stop", stop), ("status", status)] {
            place.command(key, argv).with_context(|| format!("service {}", service.name))?;
        }
    }
    Ok(())
}
