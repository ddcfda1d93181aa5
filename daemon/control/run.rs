//! Verbs that start jobs.

use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{Active, Control, Error, ErrorKind, Result};
use crate::definition::{Backup, Instance};
use crate::job::maintenance::{self, Task};
use crate::job::{Ticket, backup};
use crate::state::{Kind, Slot, identity};
use crate::target::{Place, Purpose};

impl Control {
    /// Starts a backup; `instances` narrows it. Returns the job's id at once.
    ///
    /// # Errors
    /// The backup or an instance is not defined, it is disabled, or a job of it has not ended.
    pub async fn run_backup(
        &self,
        name: &str,
        instances: Option<Vec<String>>,
        cause: &str,
    ) -> Result<String> {
        if let Some(until) = self.blackout_until(&format!("backup/{name}")) {
            info!(holdfast_backup = %name, "{name} runs in its blackout (until {until}), because it was asked for");
        }
        self.begin_backup(name, instances, cause, None).await
    }

    /// As [`Control::run_backup`], perhaps as the run of a slot, which is decided with it.
    pub(super) async fn begin_backup(
        &self,
        name: &str,
        instances: Option<Vec<String>>,
        cause: &str,
        slot: Option<Slot>,
    ) -> Result<String> {
        let backup = self.known_backup(name)?;
        if !backup.enabled {
            let text = format!("backup {name} is disabled; `holdfast backup enable {name}` first");
            return Err(Error::new(ErrorKind::Disabled, text));
        }
        let found = self.stacks_for(&backup).await;
        // Asked only now: finding takes its time, and another caller may have begun it, or have read what was found.
        if let Some(id) = self.0.jobs.is_active(Kind::Backup, name) {
            let text = format!("backup {name} is at work as job {id}; wait for it or cancel it");
            return Err(Error::new(ErrorKind::Busy, text));
        }
        let (mut active, mut refused) = (self.active(), Vec::new());
        let mut selected = None;
        if let Some(found) = found {
            active = found.loaded.clone().map_or(active, Active::new);
            if instances.is_none() {
                let covered = active.definitions.instances_of(&backup).into_iter();
                selected = Some(covered.filter(|i| found.covers(&active.loaded, i)).collect());
                refused = found.refused;
            }
        }
        let instances = match selected {
            Some(selected) => selected,
            None => self.selected(&active, &backup, instances)?,
        };
        self.start_backup(active, &backup, instances, refused, cause, slot).await
    }

    fn selected(
        &self,
        active: &Active,
        backup: &Backup,
        wanted: Option<Vec<String>>,
    ) -> Result<Vec<Arc<Instance>>> {
        let covered = active.definitions.instances_of(backup);
        let Some(wanted) = wanted else { return Ok(covered) };
        let mut selected = Vec::new();
        for name in &wanted {
            let Some(instance) = covered.iter().find(|i| *i.name == **name) else {
                self.known_instance(name)?;
                let text = format!("instance {name} is not one of backup {}", backup.name);
                return Err(Error::new(ErrorKind::NoSuchInstance, text));
            };
            selected.push(Arc::clone(instance));
        }
        Ok(selected)
    }

    /// `refused` are those of its instances that cannot be backed up, with the reason.
    async fn start_backup(
        &self,
        active: Active,
        backup: &Arc<Backup>,
        instances: Vec<Arc<Instance>>,
        refused: Vec<(String, String)>,
        cause: &str,
        slot: Option<Slot>,
    ) -> Result<String> {
        let definitions = active.definitions;
        let unusable = active.loaded.unusable_instances_of(backup);
        let now = Timestamp::now();
        let next =
            backup.schedule.as_ref().and_then(|s| s.next_after(now, &definitions.daemon.timezone, Some(now)));
        let request = backup::Request {
            definitions,
            backup: Arc::clone(backup),
            instances,
            unusable: unusable
                .into_iter()
                .map(|(name, why)| (name.to_string(), why))
                .chain(refused)
                .collect(),
            retry_until: next,
        };
        let mut context = self.0.context.clone();
        context.queue = context.queue.with_priority(backup.priority);
        let ticket = ticket(Kind::Backup, &backup.name, cause);
        Ok(self.0.jobs.start_slot(ticket, slot, |live| backup::run(context, live, request)).await?)
    }

    pub(super) async fn identity_of(&self, instance: &Arc<Instance>) -> Result<uuid::Uuid> {
        let context = &self.0.context;
        let (dir, name) = (context.dirs.state.clone(), instance.name.clone());
        let known = dir.join("instances").join(name.as_str()).exists();
        let suggested = if known { None } else { self.suggested_identity(instance).await };
        let found = tokio::task::spawn_blocking(move || identity(&dir, &name, suggested)).await;
        Ok(found.map_err(anyhow::Error::new)??)
    }

    /// What the instance itself says that it is, where that can be read.
    async fn suggested_identity(&self, instance: &Arc<Instance>) -> Option<uuid::Uuid> {
        let (tools, never) = (self.0.context.dirs.tools(), CancellationToken::new());
        Place::resolve(instance, Purpose::Restore, &tools, &[], &never).await.ok()?.identity()
    }

    /// Starts a prune.
    ///
    /// # Errors
    /// The repository is not defined, is append-only, or a prune of it has not ended.
    pub async fn prune(&self, name: &str, cause: &str) -> Result<String> {
        self.begin_prune(name, cause, None).await
    }

    pub(super) async fn begin_prune(&self, name: &str, cause: &str, slot: Option<Slot>) -> Result<String> {
        let repository = self.known_repository(name)?;
        if repository.append_only {
            let text = format!("repository {name} is append-only: prune it where its storage allows deletes");
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        let max_unused =
            repository.prune.as_ref().map_or("10%", |prune| prune.max_unused.as_str()).to_owned();
        self.maintain(Kind::Prune, name, Task::Prune { max_unused }, cause, slot).await
    }

    /// Starts a check. `read_data` as in the definition: `1/12`, `10%`, `all`; none: as defined.
    ///
    /// # Errors
    /// The repository is not defined, or a check of it has not ended.
    pub async fn check(&self, name: &str, read_data: Option<String>, cause: &str) -> Result<String> {
        self.begin_check(name, read_data, cause, None).await
    }

    pub(super) async fn begin_check(
        &self,
        name: &str,
        read_data: Option<String>,
        cause: &str,
        slot: Option<Slot>,
    ) -> Result<String> {
        let repository = self.known_repository(name)?;
        if let Some(text) = &read_data {
            crate::config::check_read_data(text)
                .map_err(|why| Error::new(ErrorKind::InvalidArgument, why))?;
        }
        let read_data = read_data.or_else(|| repository.check.as_ref()?.read_data.clone());
        self.maintain(Kind::Check, name, Task::Check { read_data }, cause, slot).await
    }

    async fn maintain(
        &self,
        kind: Kind,
        name: &str,
        task: Task,
        cause: &str,
        slot: Option<Slot>,
    ) -> Result<String> {
        if let Some(id) = self.0.jobs.is_active(kind, name) {
            return Err(Error::new(ErrorKind::Busy, format!("a {kind} of {name} is at work as job {id}")));
        }
        let (repository, definitions) = (self.known_repository(name)?, self.definitions());
        let context = self.0.context.clone();
        let work = |live| maintenance::run(context, live, definitions, repository, task);
        Ok(self.0.jobs.start_slot(ticket(kind, name, cause), slot, work).await?)
    }

    /// Ends a job.
    ///
    /// # Errors
    /// There is no such job, or it has ended.
    pub fn cancel(&self, id: &str) -> Result<()> {
        let live = self.0.jobs.get(id).filter(|live| live.record().outcome.is_none());
        let Some(live) = live else {
            let shown: String = id.chars().take(80).flat_map(char::escape_default).collect();
            return Err(Error::new(ErrorKind::NoSuchJob, format!("no job \"{shown}\" is at work")));
        };
        live.cancel("cancelled on request");
        Ok(())
    }
}

pub(super) fn ticket(kind: Kind, subject: &str, cause: &str) -> Ticket {
    Ticket { kind, subject: subject.to_owned(), cause: cause.to_owned() }
}
