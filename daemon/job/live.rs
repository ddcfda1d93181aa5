//! One job that is alive: where it stands, how it is ended, what it says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::jobs::{Event, Registry, Ticket};
use super::message;
use crate::queue::Caller;
use crate::restic::{self, Terms};
use crate::state::{JobRecord, Kind, Outcome, Phase, Slot, UnitRecord};

/// How long somebody else's lock in a repository is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(10 * 60);

/// One job as it stands now.
pub struct Live {
    id: String,
    state: Mutex<Standing>,
    cancel: CancellationToken,
    registry: Arc<Registry>,
}

#[derive(Clone)]
struct Standing {
    record: JobRecord,
    waiting: BTreeMap<String, String>,
    stopped: Option<(Outcome, String)>,
    reported: Option<Outcome>,
    parts: BTreeMap<String, (u64, u64, u64)>,
}

pub(super) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    pub(super) fn new(ticket: Ticket, registry: &Arc<Registry>) -> Arc<Self> {
        let now = Timestamp::now();
        let record = JobRecord {
            id: new_id(now),
            kind: ticket.kind,
            subject: ticket.subject,
            cause: ticket.cause,
            queued: now,
            started: None,
            finished: None,
            phase: Phase::Queued,
            outcome: None,
            error: String::new(),
            bytes_done: 0,
            bytes_total: 0,
            files_done: 0,
            units: Vec::new(),
        };
        let state = Standing {
            record,
            waiting: BTreeMap::new(),
            stopped: None,
            reported: None,
            parts: BTreeMap::new(),
        };
        Arc::new(Self {
            id: state.record.id.clone(),
            state: Mutex::new(state),
            cancel: registry.cancel_all.child_token(),
            registry: Arc::clone(registry),
        })
    }

    /// Its identity.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry)
    }

    /// What is known of it now.
    pub fn record(&self) -> JobRecord {
        held(&self.state).record.clone()
    }

    /// What its units wait for, joined; empty: nothing.
    pub fn waiting(&self) -> String {
        let state = held(&self.state);
        let mut reasons: Vec<_> = state.waiting.values().cloned().collect();
        reasons.dedup();
        reasons.join("; ")
    }

    /// 0 to 1, weighted by bytes; 1 when it has ended.
    pub fn progress(&self) -> f64 {
        let state = held(&self.state);
        match (state.record.outcome, state.record.bytes_total) {
            (Some(_), _) => 1.0,
            (None, 0) => 0.0,
            #[expect(clippy::cast_precision_loss, reason = "a fraction for eyes")]
            (None, total) => (state.record.bytes_done as f64 / total as f64).clamp(0.0, 1.0),
        }
    }

    /// The token that ends it.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.cancel
    }

    /// How it calls restic: ended with the job, or after this long without progress. A backup yields to other work on the
    /// machine; for a restore somebody waits.
    pub fn terms(&self, stall: Duration) -> Terms {
        let nice = !matches!(held(&self.state).record.kind, Kind::Restore | Kind::Rollback | Kind::Recover);
        Terms { stall: Some(stall), wait_for_lock: LOCK_PATIENCE, nice, ..Terms::new(&self.cancel) }
    }

    /// How it asks for locks and permits.
    pub fn caller(&self) -> Caller {
        let record = held(&self.state).record.clone();
        Caller {
            label: format!("{} of {} ({})", record.kind, record.subject, record.id),
            cancel: self.cancel.clone(),
        }
    }

    /// Ends it; the first reason is kept.
    pub fn cancel(&self, because: &str) {
        self.stop_as(Outcome::Cancelled, because);
    }

    /// Ends it with another outcome than `cancelled`.
    pub fn stop_as(&self, outcome: Outcome, because: &str) {
        held(&self.state).stopped.get_or_insert_with(|| (outcome, because.to_owned()));
        self.cancel.cancel();
    }

    /// How a failure counts: what was ended on purpose is not a failure of restic or a hook.
    pub fn verdict(&self, failure: &anyhow::Error) -> (Outcome, String) {
        if self.cancel.is_cancelled() {
            // Without a reason of its own it was ended with all others.
            let drained = || (Outcome::Cancelled, "the daemon was stopped".to_owned());
            let (outcome, because) = held(&self.state).stopped.clone().unwrap_or_else(drained);
            return (outcome, format!("ended: {because}"));
        }
        let advice = failure.downcast_ref::<restic::Error>().map_or("", |e| e.advice());
        let text = format!("{failure:#}");
        let text = if advice.is_empty() { text } else { format!("{text}. {advice}") };
        (Outcome::Failed, text)
    }

    /// Changes what is known, and tells those who look.
    pub fn update<T>(&self, change: impl FnOnce(&mut JobRecord) -> T) -> T {
        let result = {
            let mut state = held(&self.state);
            let result = change(&mut state.record);
            state.record.phase = least_phase(&state.record);
            result
        };
        let _ = self.registry.events.send(Event::Changed(self.id.clone()));
        result
    }

    /// As [`Live::update`], and stored before it returns.
    pub async fn update_stored(&self, change: impl FnOnce(&mut JobRecord) + Send) {
        self.update(change);
        self.store().await;
    }

    /// Says what a part of it waits for; none: no longer.
    pub fn waits(&self, part: &str, reason: Option<String>) {
        {
            let mut state = held(&self.state);
            match reason {
                Some(reason) => state.waiting.insert(part.to_owned(), reason),
                None => state.waiting.remove(part),
            };
        }
        let _ = self.registry.events.send(Event::Changed(self.id.clone()));
    }

    /// Changes one unit.
    pub fn unit(&self, instance: &str, repository: &str, change: impl FnOnce(&mut UnitRecord)) {
        self.update(|record| {
            let found =
                record.units.iter_mut().find(|u| u.instance == instance && u.repository == repository);
            if let Some(unit) = found {
                change(unit);
            }
        });
    }

    /// Says that the job as a whole ends no better than this, whatever its units say.
    pub fn report(&self, outcome: Outcome, error: &str) {
        {
            let mut state = held(&self.state);
            state.reported = state.reported.max(Some(outcome));
        }
        self.update(|record| append(&mut record.error, error));
    }

    /// Takes in restic's progress in one unit; the job's numbers are the sums of its units.
    pub fn advance(&self, instance: &str, repository: &str, done: &restic::Progress) {
        let key = format!("{instance}/{repository}");
        let parts = {
            let mut state = held(&self.state);
            state.parts.insert(key, (done.bytes_done, done.bytes_total, done.files_done));
            state.parts.values().copied().fold((0, 0, 0), |sum, p| (sum.0 + p.0, sum.1 + p.1, sum.2 + p.2))
        };
        self.update(|record| (record.bytes_done, record.bytes_total, record.files_done) = parts);
    }

    pub(super) fn say_begin(&self) {
        let record = self.record();
        info!(
            MESSAGE_ID = message::STARTED,
            "{} of {} begins as job {}, asked for by {}",
            record.kind,
            record.subject,
            record.id,
            record.cause
        );
    }

    pub(super) fn say_end(&self) {
        let record = self.record();
        let outcome = record.outcome.unwrap_or(Outcome::Failed);
        let text = format!("{} of {} ended: {outcome}", record.kind, record.subject);
        let text = if record.error.is_empty() { text } else { format!("{text}: {}", record.error) };
        match outcome {
            Outcome::Succeeded | Outcome::Skipped | Outcome::Cancelled => {
                info!(MESSAGE_ID = message::FINISHED, holdfast_outcome = %outcome, "{text}");
            }
            Outcome::Warning => warn!(MESSAGE_ID = message::FINISHED, holdfast_outcome = %outcome, "{text}"),
            Outcome::Failed | Outcome::Interrupted => {
                error!(MESSAGE_ID = message::FAILED, holdfast_outcome = %outcome, "{text}");
            }
        }
    }

    /// The span that every line of this job is written in: one field per name, in one span only, because
    /// tracing-journald sends a field again for each nested span that has it.
    pub(super) fn span(&self) -> tracing::Span {
        let record = self.record();
        let span = tracing::info_span!(
            "job",
            holdfast_job = %self.id,
            holdfast_backup = tracing::field::Empty,
            holdfast_kind = %record.kind,
        );
        if record.kind == Kind::Backup {
            span.record("holdfast_backup", record.subject.as_str());
        }
        span
    }

    pub(super) fn fail_open_units(&self, why: &str) {
        self.update(|record| {
            for unit in record.units.iter_mut().filter(|u| u.outcome.is_none()) {
                unit.outcome = Some(Outcome::Failed);
                append(&mut unit.error, why);
            }
        });
        self.report(Outcome::Failed, why);
    }

    /// Stores it for the first time, together with the slot that it is the run of.
    pub(super) async fn store_first(&self, slot: Option<&Slot>) {
        let Some(slot) = slot else { return self.store().await };
        if let Err(failure) = self.registry.database.save_job_of_slot(&self.record(), slot).await {
            error!("could not store slot and job {}: {failure:#}; it runs all the same", self.id);
        }
    }

    pub(super) async fn store(&self) {
        self.save(&self.record()).await;
    }

    async fn save(&self, record: &JobRecord) {
        if let Err(failure) = self.registry.database.save_job(record).await {
            error!("could not store the state of job {}: {failure:#}; it goes on", self.id);
        }
    }

    /// Stores the end before anybody sees it: whoever sees it asks the history what a backup's last run was.
    pub(super) async fn finish(&self) {
        let (reported, at) = (held(&self.state).reported, Timestamp::now());
        let mut ended = self.record();
        end(&mut ended, reported, at);
        self.save(&ended).await;
        let outcome = self.update(|record| end(record, reported, at));
        held(&self.state).waiting.clear();
        let _ = self.registry.events.send(Event::Removed(self.id.clone(), outcome));
    }
}

/// Notes that a job ended.
fn end(record: &mut JobRecord, reported: Option<Outcome>, at: Timestamp) -> Outcome {
    record.finished = Some(at);
    for unit in &mut record.units {
        unit.phase = Phase::Done;
        unit.outcome.get_or_insert(Outcome::Failed);
    }
    let worst = record.units.iter().filter_map(|u| u.outcome).chain(reported).max();
    let outcome = worst.unwrap_or(Outcome::Failed);
    record.outcome = Some(outcome);
    record.phase = Phase::Done;
    if record.error.is_empty() {
        record.error = told_by_units(record);
    }
    outcome
}

/// The least advanced phase of the units that are still at work.
fn least_phase(record: &JobRecord) -> Phase {
    if record.outcome.is_some() {
        return Phase::Done;
    }
    let open = record.units.iter().filter(|u| u.outcome.is_none()).map(|u| u.phase).min();
    match (open, record.kind) {
        (Some(phase), _) => phase,
        (None, _) if record.units.is_empty() => record.phase,
        (None, Kind::Backup) => Phase::Retention,
        (None, _) => Phase::Done,
    }
}

/// What the units of a job say went wrong, each once with its names.
fn told_by_units(record: &JobRecord) -> String {
    let mut lines: Vec<String> = Vec::new();
    // What a unit that succeeded says is news, not an error.
    let wrong = |unit: &&UnitRecord| !unit.error.is_empty() && unit.outcome != Some(Outcome::Succeeded);
    for unit in record.units.iter().filter(wrong) {
        let place = if unit.instance.is_empty() { &unit.repository } else { &unit.instance };
        let line = format!("{place}: {}", unit.error);
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.join("\n")
}

/// Adds a line to an error text.
pub fn append(text: &mut String, line: &str) {
    if !text.is_empty() && !line.is_empty() {
        text.push('\n');
    }
    text.push_str(line);
}

/// `j<UTC time>_<6 random hex digits>`: sorts by time, fits a D-Bus object path and a restic tag.
fn new_id(now: Timestamp) -> String {
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("j{}_{}", now.strftime("%Y%m%dT%H%M%SZ"), &random[..6])
}
