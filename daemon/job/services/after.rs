//! The next start of the daemon: services that a dead job had stopped run again before anything else is done.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::resume::{Part, Starter};
use crate::definition::STOP_TIMEOUT;
use crate::job::Context;
use crate::service_control::{Reach, State};
use crate::state::undo::{Recorded, Step, Undo};

/// How long one start may hold up the daemon; what takes longer is started in the background.
const LIMIT: Duration = Duration::from_secs(20);

/// Before the data of a dead restore is put back: what runs on its new data is stopped. Best effort: data that is half
/// new under a service is worse than a service that was not stopped.
pub(in crate::job) async fn stop_what_runs(steps: &[(usize, Recorded)]) {
    for (_, recorded) in steps {
        let Recorded::Known(Step::StartServices { by, service, user, remote, ran, restart: true, instance }) =
            recorded
        else {
            continue;
        };
        let never = CancellationToken::new();
        let stopped = async {
            let reach = Reach::of(by, service, user.as_deref(), remote.as_ref()).await?;
            for part in ran {
                match reach.look_at(part, &never).await? {
                    Some(seen) if seen.state != State::Stopped => {
                        info!(holdfast_instance = %instance, "stopping {}, whose data is put back", part.name);
                        reach.stop(part, STOP_TIMEOUT, &never).await?;
                    }
                    _ => {}
                }
            }
            anyhow::Ok(())
        };
        if let Err(failure) = stopped.await {
            error!(holdfast_instance = %instance, "a service could not be stopped while its data is put back: {failure:#}");
        }
    }
}

/// Starts what a dead job had stopped. What does not start at once is tried on in the background, with its step open.
pub(in crate::job) async fn start_what_was_stopped(
    context: &Context,
    job: &str,
    steps: &[(usize, Recorded)],
) -> Result<()> {
    let undo = Undo::resume(&context.dirs.undo(), job)?;
    let (mut problems, mut far) = (Vec::new(), Vec::new());
    for (index, recorded) in steps {
        match recorded {
            Recorded::Known(Step::StartServices { instance, service, by, user, remote, ran, .. }) => {
                warn!(holdfast_instance = %instance, "starting the service {service} of {instance}, which a dead job had stopped");
                let reach = match Reach::of(by, service, user.as_deref(), remote.as_ref()).await {
                    Ok(reach) => reach,
                    Err(failure) => {
                        problems.push(format!("service {service}: {failure:#}"));
                        continue;
                    }
                };
                let part = |ran: &crate::definition::Ran| Part {
                    key: reach.key(ran),
                    called: String::new(),
                    ran: ran.clone(),
                    sick: false,
                    unsure: false,
                    wave: None,
                };
                let parts: Vec<Part> = ran.iter().map(part).collect();
                let starter = Starter {
                    holds: context.holds.clone(),
                    owner: job.to_owned(),
                    instance: instance.clone(),
                    reach: reach.clone(),
                };
                // Whoever comes meanwhile is told that they ran.
                parts.iter().for_each(|part| starter.holds.owe(&part.key, &part.ran));
                if remote.is_some() {
                    far.push((starter, parts, *index));
                } else {
                    start(starter, &parts, &undo, *index).await?;
                }
            }
            other => problems.push(format!("a step that does not belong here: {other:?}")),
        }
    }
    if !far.is_empty() {
        // Their machine may not answer for long: nobody here waits for it.
        tokio::spawn(in_the_background(far, undo.clone()));
    }
    undo.finish_if_done().await?;
    if problems.is_empty() { Ok(()) } else { bail!("{}", problems.join("; ")) }
}

/// In order, as they were stopped on one machine; none before it answers.
async fn in_the_background(far: Vec<(Starter, Vec<Part>, usize)>, undo: Undo) {
    for (starter, parts, index) in far {
        starter.until_it_answers(&parts).await;
        if let Err(failure) = start(starter, &parts, &undo, index).await {
            error!("services that a dead job had stopped: {failure:#}");
        }
    }
    if let Err(failure) = undo.finish_if_done().await {
        error!("services that a dead job had stopped: {failure:#}");
    }
}

async fn start(starter: Starter, parts: &[Part], undo: &Undo, index: usize) -> Result<()> {
    let outcome = starter.start(parts, 1, LIMIT).await;
    outcome.notes.iter().for_each(|note| warn!("{note}"));
    if outcome.failed.is_empty() {
        return undo.done(index).await;
    }
    starter.alarm(&outcome.failed);
    starter.later(outcome.failed.into_iter().map(|(part, _)| part).collect(), undo.clone(), index);
    Ok(())
}
