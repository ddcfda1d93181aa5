//! One service of an instance in one job.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info, warn};

use super::resume::{Part, Starter};
use crate::definition::Service;
use crate::service_control::{State, StopFailed};
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
    let wanted: Vec<Part> = entry.parts.iter().filter(|part| which(part)).cloned().collect();
    for wave in wanted.chunk_by(Part::beside) {
        let mut stops = JoinSet::new();
        for part in wave {
            let (starter, limit) = (entry.starter.clone(), entry.service.stop_timeout);
            let stop = stop_part(starter, part.clone(), limit, cancel.clone());
            stops.spawn(stop.in_current_span());
        }
        let mut failed = None;
        while let Some(stop) = stops.join_next().await {
            let Stop { key, begun, result } = stop.context("a defect in the daemon ended a stop")?;
            entry.since = entry.since.into_iter().chain(begun).min();
            if let Err(failure) = result {
                entry.parts.iter_mut().filter(|p| p.key == key).for_each(|p| p.unsure = failure.unsure);
                failed.get_or_insert(failure);
            }
        }
        if let Some(failure) = failed {
            return Err(failure.into());
        }
    }
    Ok(())
}

/// What came of stopping one part.
struct Stop {
    key: String,
    /// When it was told to; none: it was stopped already.
    begun: Option<Instant>,
    result: Result<(), StopFailed>,
}

async fn stop_part(starter: Starter, part: Part, limit: Duration, cancel: CancellationToken) -> Stop {
    let gate = starter.holds.gate(&part.key);
    // Held while it stops: who wants to start it, or relies on it, waits for that.
    let mut stopped = gate.lock().await;
    if *stopped {
        return Stop { key: part.key, begun: None, result: Ok(()) };
    }
    info!(holdfast_instance = %starter.instance, "stopping {}", part.ran.name);
    let begun = Some(Instant::now());
    let result = starter.reach.stop(&part.ran, limit, &cancel).await;
    *stopped = result.is_ok();
    Stop { key: part.key, begun, result }
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
