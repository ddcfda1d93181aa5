//! Jobs that are alive, and how they begin and end. "Running" is derived from these handles, never from the database.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error};

use super::live::{Live, held};
use crate::state::{Database, JobRecord, Kind, Outcome, Phase, Slot};

/// How long a finished job stays readable.
pub const READABLE: Duration = Duration::from_secs(600);

/// What happens to jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A job was started.
    New(String),
    /// Its state changed.
    Changed(String),
    /// It ended.
    Removed(String, Outcome),
    /// It is no longer readable here, only in the history.
    Gone(String),
}

/// What a job is and who asked for it.
pub struct Ticket {
    /// What it does.
    pub kind: Kind,
    /// The backup, instance or repository it is about.
    pub subject: String,
    /// Who asked.
    pub cause: String,
}

/// The jobs of this process. Cheap to clone.
#[derive(Clone)]
pub struct Jobs(Arc<Registry>);

pub(super) struct Registry {
    pub(super) database: Database,
    pub(super) live: Mutex<BTreeMap<String, Arc<Live>>>,
    pub(super) events: broadcast::Sender<Event>,
    tasks: TaskTracker,
    pub(super) cancel_all: CancellationToken,
}

impl Registry {
    /// The ids of all jobs that have not ended.
    pub(super) fn alive(&self) -> Vec<String> {
        let live = held(&self.live);
        live.iter().filter(|(_, job)| job.record().outcome.is_none()).map(|(id, _)| id.clone()).collect()
    }
}

impl Jobs {
    /// An empty registry that stores what happens in `database`.
    pub fn new(database: Database) -> Self {
        let (events, _) = broadcast::channel(4096);
        Self(Arc::new(Registry {
            database,
            live: Mutex::default(),
            events,
            tasks: TaskTracker::new(),
            cancel_all: CancellationToken::new(),
        }))
    }

    /// Starts a job: it is stored as queued before this returns, then `work` runs in a task of its own.
    ///
    /// A panic in `work` fails the job and nothing else.
    ///
    /// # Errors
    /// When draining has begun.
    pub async fn start<W, F>(&self, ticket: Ticket, work: W) -> anyhow::Result<String>
    where
        W: FnOnce(Arc<Live>) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        self.start_slot(ticket, None, work).await
    }

    /// As [`Jobs::start`], for the run of a slot: that the slot is decided and the job are stored in one step.
    ///
    /// # Errors
    /// When draining has begun; the slot is not decided then.
    pub async fn start_slot<W, F>(
        &self,
        ticket: Ticket,
        slot: Option<Slot>,
        work: W,
    ) -> anyhow::Result<String>
    where
        W: FnOnce(Arc<Live>) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        anyhow::ensure!(!self.0.cancel_all.is_cancelled(), "the daemon is stopping and starts no new job");
        let live = Live::new(ticket, &self.0);
        live.store_first(slot.as_ref()).await;
        held(&self.0.live).insert(live.id().to_owned(), Arc::clone(&live));
        let id = live.id().to_owned();
        let _ = self.0.events.send(Event::New(id.clone()));
        self.0.tasks.spawn(Self::oversee(live, work));
        Ok(id)
    }

    async fn oversee<W, F>(live: Arc<Live>, work: W)
    where
        W: FnOnce(Arc<Live>) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let span = live.span();
        span.in_scope(|| live.say_begin());
        let run = tokio::spawn(work(Arc::clone(&live)).instrument(span.clone()));
        if let Err(death) = run.await {
            span.in_scope(|| error!("the job's task died: {death}"));
            live.fail_open_units("a defect in the daemon ended this job; see the journal for the panic");
        }
        live.finish().instrument(span.clone()).await;
        span.in_scope(|| live.say_end());
        let (registry, id) = (live.registry(), live.id().to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(READABLE).await;
            held(&registry.live).remove(&id);
            let _ = registry.events.send(Event::Gone(id));
        });
    }

    /// Notes a slot that was right not to run, or could not be begun: it stands in the history, and nothing was done.
    ///
    /// # Errors
    /// The history cannot be written.
    pub async fn note(
        &self,
        kind: Kind,
        subject: &str,
        cause: &str,
        outcome: Outcome,
        why: &str,
        slot: &Slot,
    ) -> anyhow::Result<()> {
        let ticket = Ticket { kind, subject: subject.to_owned(), cause: cause.to_owned() };
        let mut record = Live::new(ticket, &self.0).record();
        record.finished = Some(record.queued);
        record.phase = Phase::Done;
        record.outcome = Some(outcome);
        record.error = why.to_owned();
        self.0.database.save_job_of_slot(&record, slot).await
    }

    /// What happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.0.events.subscribe()
    }

    /// A job that runs or ended within [`READABLE`].
    pub fn get(&self, id: &str) -> Option<Arc<Live>> {
        held(&self.0.live).get(id).cloned()
    }

    /// All of them, oldest first.
    pub fn all(&self) -> Vec<Arc<Live>> {
        held(&self.0.live).values().cloned().collect()
    }

    /// Those that have not ended.
    pub fn active(&self) -> Vec<Arc<Live>> {
        self.all().into_iter().filter(|live| live.record().outcome.is_none()).collect()
    }

    /// Whether a job of this kind about this subject has not ended.
    pub fn is_active(&self, kind: Kind, subject: &str) -> Option<String> {
        let wanted = |r: &JobRecord| r.kind == kind && r.subject == subject;
        self.active().into_iter().find(|live| wanted(&live.record())).map(|live| live.id().to_owned())
    }

    /// Refuses new jobs, cancels all and waits for their ends, at most `deadline`. Returns those that did not end.
    pub async fn drain(&self, deadline: Duration) -> Vec<String> {
        let cancel = || self.active().iter().for_each(|live| live.cancel("the daemon was stopped"));
        // The reason first: what ends sees it. Then none begins any more, and what began meanwhile gets it too.
        cancel();
        self.0.cancel_all.cancel();
        cancel();
        self.0.tasks.close();
        let _ = tokio::time::timeout(deadline, self.0.tasks.wait()).await;
        self.active().into_iter().map(|live| live.id().to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use jiff::Timestamp;

    use super::*;

    #[tokio::test]
    async fn nobody_sees_an_end_that_the_history_does_not_know_yet() {
        let dir = tempfile::tempdir().unwrap();
        let (database, _) = Database::open(dir.path(), Timestamp::now()).unwrap();
        let ticket = Ticket { kind: Kind::Backup, subject: "b".into(), cause: "test".into() };
        let live = Live::new(ticket, &Jobs::new(database.clone()).0);
        live.store_first(None).await;
        let other = rusqlite::Connection::open(dir.path().join("holdfast.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut finish = std::pin::pin!(live.finish());
        let waits = poll_fn(|context| Poll::Ready(finish.as_mut().poll(context).is_pending())).await;
        assert!(waits, "{:?}", database.last_finished(Kind::Backup, "b").await);
        assert_eq!(live.record().outcome, None);
        other.execute_batch("ROLLBACK").unwrap();
        finish.await;
        let stored = database.last_finished(Kind::Backup, "b").await.unwrap().unwrap();
        assert!(stored.outcome.is_some() && stored.outcome == live.record().outcome);
        assert_eq!(stored.finished, live.record().finished);
    }
}
