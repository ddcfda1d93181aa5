//! `org.holdfast.Backup1.Job`: one job, from its start until ten minutes after its end.

use zbus::interface;
use zbus::message::Header;
use zbus::{Connection, ObjectServer};

use super::answer::{Desk, Shown, Shows};
use super::authorise::{Action, Thing};
use super::error::{Error, Result};
use super::objects::{self, Properties};
use super::rows::{self, Row};
use crate::control::JobView;

pub(super) struct Job {
    desk: Desk,
    id: String,
    shown: Shown<JobView>,
}

/// Jobs as `ListJobs` shows them: rows of their properties.
pub(super) async fn rows(
    desk: &Desk,
    views: Vec<JobView>,
    connection: &Connection,
    server: &ObjectServer,
) -> Result<Vec<Properties>> {
    let failed = |error: zbus::fdo::Error| Error::Failed(format!("writing the reply: {error}"));
    let mut rows = Vec::with_capacity(views.len());
    for view in views {
        let job = Job::new(desk.clone(), view);
        rows.push(objects::properties(&job, connection, server).await.map_err(failed)?);
    }
    Ok(rows)
}

impl Job {
    pub(super) fn new(desk: Desk, view: JobView) -> Self {
        Self { desk, id: view.record.id.clone(), shown: Shown::new(view) }
    }
}

impl Shows for Job {
    type View = JobView;
    fn shown(&self) -> &Shown<JobView> {
        &self.shown
    }
}

#[interface(name = "org.holdfast.Backup1.Job")]
impl Job {
    /// Ends it: what it stopped is started again, what it staged is removed.
    async fn cancel(&self, #[zbus(header)] header: Header<'_>) -> Result<()> {
        self.desk.admit(&header, Action::Cancel, Thing::Job, &self.id).await?;
        let (control, id) = (self.desk.control.clone(), self.id.clone());
        self.desk.run(async move { control.cancel(&id) }).await
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn id(&self) -> String {
        self.id.clone()
    }

    /// backup, restore, rollback, recover, forget, prune, check, drill, copy or import.
    #[zbus(property(emits_changed_signal = "const"))]
    fn kind(&self) -> String {
        self.shown.get().record.kind.word().into()
    }

    /// The name of a backup, an instance or a repository.
    #[zbus(property(emits_changed_signal = "const"))]
    fn subject(&self) -> String {
        rows::text(&self.shown.get().record.subject)
    }

    /// Who asked: schedule, catch-up, uid N, startup.
    #[zbus(property(emits_changed_signal = "const"))]
    fn cause(&self) -> String {
        rows::text(&self.shown.get().record.cause)
    }

    /// queued, running or finished.
    #[zbus(property)]
    fn state(&self) -> String {
        let record = &self.shown.get().record;
        match (record.outcome, record.started) {
            (Some(_), _) => "finished".into(),
            (None, Some(_)) => "running".into(),
            (None, None) => "queued".into(),
        }
    }

    /// The least advanced phase of its units.
    #[zbus(property)]
    fn phase(&self) -> String {
        self.shown.get().record.phase.word().into()
    }

    /// 0.0 to 1.0, weighted by bytes.
    #[zbus(property)]
    fn progress(&self) -> f64 {
        self.shown.get().progress
    }

    #[zbus(property)]
    fn bytes_done(&self) -> u64 {
        self.shown.get().record.bytes_done
    }

    /// As far as known.
    #[zbus(property)]
    fn bytes_total(&self) -> u64 {
        self.shown.get().record.bytes_total
    }

    #[zbus(property)]
    fn files_done(&self) -> u64 {
        self.shown.get().record.files_done
    }

    /// When it was asked for, in microseconds since the epoch.
    #[zbus(property(emits_changed_signal = "const"))]
    fn queued(&self) -> u64 {
        rows::time(Some(self.shown.get().record.queued))
    }

    /// 0: not yet.
    #[zbus(property)]
    fn started(&self) -> u64 {
        rows::time(self.shown.get().record.started)
    }

    /// 0: not yet.
    #[zbus(property)]
    fn finished(&self) -> u64 {
        rows::time(self.shown.get().record.finished)
    }

    /// succeeded, warning, failed, cancelled, skipped or interrupted; empty until the end.
    #[zbus(property)]
    fn outcome(&self) -> String {
        rows::outcome(self.shown.get().record.outcome).into()
    }

    /// What went wrong, or empty.
    #[zbus(property)]
    fn error(&self) -> String {
        rows::text(&self.shown.get().record.error)
    }

    /// What it waits for, or empty.
    #[zbus(property)]
    fn waiting(&self) -> String {
        rows::text(&self.shown.get().waiting)
    }

    /// instance, repository, phase, outcome, snapshot, error, bytes, bytes_added, files and downtime (microseconds) of each.
    #[zbus(property)]
    fn units(&self) -> Vec<Row> {
        self.shown.get().record.units.iter().map(rows::unit).collect()
    }
}
