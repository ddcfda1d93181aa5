//! `org.holdfast.Backup1.Repository`: one defined repository. Shows no secret.

use zbus::interface;
use zbus::message::Header;

use super::answer::{Desk, Shown, Shows};
use super::authorise::{Action, Thing};
use super::error::Result;
use super::rows;
use crate::control::RepositoryView;

pub(super) struct Repository {
    desk: Desk,
    name: String,
    shown: Shown<RepositoryView>,
}

impl Repository {
    pub(super) fn new(desk: Desk, view: RepositoryView) -> Self {
        Self { desk, name: view.name.clone(), shown: Shown::new(view) }
    }
}

impl Shows for Repository {
    type View = RepositoryView;
    fn shown(&self) -> &Shown<RepositoryView> {
        &self.shown
    }
}

#[interface(name = "org.holdfast.Backup1.Repository")]
impl Repository {
    /// Opens it; RepositoryUnavailable says why it does not open.
    async fn test(&self, #[zbus(header)] header: Header<'_>) -> Result<()> {
        self.desk.admit(&header, Action::Run, Thing::Repository, &self.name).await?;
        let (control, name) = (self.desk.control.clone(), self.name.clone());
        self.desk.run(async move { control.test_repository(&name).await }).await
    }

    /// Removes stale locks of ours.
    async fn unlock(&self, #[zbus(header)] header: Header<'_>) -> Result<()> {
        self.desk.admit(&header, Action::Manage, Thing::Repository, &self.name).await?;
        let (control, name) = (self.desk.control.clone(), self.name.clone());
        self.desk.run(async move { control.unlock(&name).await }).await
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> String {
        self.name.clone()
    }

    /// Without a password.
    #[zbus(property)]
    fn url(&self) -> String {
        rows::text(&self.shown.get().url)
    }

    /// per-instance or shared.
    #[zbus(property)]
    fn layout(&self) -> String {
        self.shown.get().layout.clone()
    }

    /// Microseconds since the epoch; 0: never.
    #[zbus(property)]
    fn last_check(&self) -> u64 {
        rows::time(self.shown.get().last_check)
    }

    /// Microseconds since the epoch; 0: never.
    #[zbus(property)]
    fn last_prune(&self) -> u64 {
        rows::time(self.shown.get().last_prune)
    }

    /// Whether its last check found damage.
    #[zbus(property)]
    fn damaged(&self) -> bool {
        self.shown.get().damaged
    }
}
