//! One service of an instance in one job.

use anyhow::Result;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::resume::{Part, Starter};
use crate::definition::Service;
use crate::service_control::State;
use crate::state::undo::Undo;

/// One service that ran, at least in parts.
pub(super) struct Entry {
    pub(super) service: Service,
    pub(super) starter: Starter,
    pub(super) parts: Vec<Part>,
    pub(super) step: usize,
    /// It is stopped, or may be.
    pub(super) open: bool,
    /// What could not be started, and why.
    pub(super) down: Vec<(Part, String)>,
    /// Since when something of it is stopped.
    pub(super) since: Option<Instant>,
}

impl Entry {
    pub(super) fn starts_for_dump(&self, part: &Part) -> bool {
        self.service.start_for_dump.contains(&part.called)
    }
}

/// Stops parts that are not stopped yet, in order.
pub(super) async fn stop_entry(
    entry: &mut Entry,
    cancel: &CancellationToken,
    which: impl Fn(&Part) -> bool,
) -> Result<()> {
    let limit = entry.service.stop_timeout;
    let Starter { holds, instance, reach, .. } = &entry.starter;
    for part in entry.parts.iter_mut().filter(|part| which(part)) {
        let gate = holds.gate(&part.key);
        // Held while it stops: who wants to start it, or relies on it, waits for that.
        let mut stopped = gate.lock().await;
        if *stopped {
            continue;
        }
        info!(holdfast_instance = %instance, "stopping {}", part.ran.name);
        entry.since.get_or_insert_with(Instant::now);
        if let Err(failure) = reach.stop(&part.ran, limit, cancel).await {
            part.unsure = failure.unsure;
            return Err(failure.into());
        }
        *stopped = true;
    }
    Ok(())
}

/// What was told to stop, and has by now, will not stop later.
pub(super) async fn has_stopped(entry: &mut Entry) {
    for part in entry.parts.iter_mut().filter(|part| part.unsure) {
        let seen = entry.starter.reach.look_at(&part.ran, &CancellationToken::new()).await;
        part.unsure = !matches!(seen, Ok(Some(seen)) if seen.state == State::Stopped);
    }
}

/// Marks the step of an entry done, at once or when what is down runs.
pub(super) async fn close(entry: &mut Entry, undo: &Undo) {
    let down = std::mem::take(&mut entry.down);
    entry.starter.alarm(&down);
    let down: Vec<Part> = down.into_iter().map(|(part, _)| part).collect();
    let unsure = |part: &&Part| part.unsure && !down.iter().any(|other| other.key == part.key);
    let unsure: Vec<Part> = entry.parts.iter().filter(unsure).cloned().collect();
    let left: Vec<Part> = down.iter().cloned().chain(unsure).collect();
    if !left.is_empty() {
        return entry.starter.clone().later(left, undo.clone(), entry.step);
    }
    if let Err(failure) = undo.done(entry.step).await {
        warn!("an undo step of services could not be closed and will run again: {failure:#}");
    }
}

pub(super) async fn finish(undo: &Undo) {
    if let Err(failure) = undo.finish_if_done().await {
        warn!("undo steps of services could not be closed and will run again: {failure:#}");
    }
}
