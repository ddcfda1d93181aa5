//! `org.holdfast.Backup1.Backup`: one defined backup.

use zbus::interface;
use zbus::message::Header;
use zbus::wire::OwnedObjectPath;

use super::answer::{Desk, Shown, Shows};
use super::authorise::{Action, Thing};
use super::error::Result;
use super::rows;
use crate::control::BackupView;

pub(super) struct Backup {
    desk: Desk,
    name: String,
    shown: Shown<BackupView>,
}

impl Backup {
    pub(super) fn new(desk: Desk, view: BackupView) -> Self {
        Self { desk, name: view.name.clone(), shown: Shown::new(view) }
    }

    async fn set_enabled(&self, header: &Header<'_>, enabled: bool) -> Result<()> {
        self.desk.admit(header, Action::Manage, Thing::Backup, &self.name).await?;
        let (control, name) = (self.desk.control.clone(), self.name.clone());
        self.desk.define(async move { control.set_enabled(&name, enabled).await }).await
    }
}

impl Shows for Backup {
    type View = BackupView;
    fn shown(&self) -> &Shown<BackupView> {
        &self.shown
    }
}

#[interface(name = "org.holdfast.Backup1.Backup")]
impl Backup {
    /// Starts it now; a disabled backup answers Disabled.
    #[zbus(out_args("job"))]
    async fn run(&self, #[zbus(header)] header: Header<'_>) -> Result<OwnedObjectPath> {
        let caller = self.desk.admit(&header, Action::Run, Thing::Backup, &self.name).await?;
        let (control, name) = (self.desk.control.clone(), self.name.clone());
        self.desk.start(caller, async move { control.run_backup(&name, None, &caller.cause()).await }).await
    }

    /// Lets it run again, by schedule and when asked.
    async fn enable(&self, #[zbus(header)] header: Header<'_>) -> Result<()> {
        self.set_enabled(&header, true).await
    }

    /// Keeps it from running.
    async fn disable(&self, #[zbus(header)] header: Header<'_>) -> Result<()> {
        self.set_enabled(&header, false).await
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> String {
        self.name.clone()
    }

    /// As written; empty: it runs only when asked.
    #[zbus(property)]
    fn schedule(&self) -> String {
        self.shown.get().schedule.clone()
    }

    #[zbus(property)]
    fn enabled(&self) -> bool {
        self.shown.get().enabled
    }

    /// The names that its selectors mean now.
    #[zbus(property)]
    fn instances(&self) -> Vec<String> {
        self.shown.get().instances.clone()
    }

    #[zbus(property)]
    fn repositories(&self) -> Vec<String> {
        self.shown.get().repositories.clone()
    }

    /// Microseconds since the epoch; 0: never by itself.
    #[zbus(property)]
    fn next_run(&self) -> u64 {
        rows::time(self.shown.get().next_run)
    }

    /// When its last job ended; 0: never.
    #[zbus(property)]
    fn last_run(&self) -> u64 {
        rows::time(self.shown.get().last_run)
    }

    /// When its last job ended that made all sets; 0: never.
    #[zbus(property)]
    fn last_success(&self) -> u64 {
        rows::time(self.shown.get().last_success)
    }

    /// Empty before the first.
    #[zbus(property)]
    fn last_outcome(&self) -> String {
        rows::outcome(self.shown.get().last_outcome).into()
    }

    /// What its running job waits for, or empty.
    #[zbus(property)]
    fn waiting(&self) -> String {
        rows::text(&self.shown.get().waiting)
    }
}
