//! Verbs that start jobs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{Control, Error, ErrorKind, RestoreOptions, Result, checked};
use crate::definition::{Backup, Instance};
use crate::job::maintenance::{self, Task};
use crate::job::restore::{self, NoSet, Wanted};
use crate::job::{Ticket, backup};
use crate::state::{Kind, Slot, identity};
use crate::target::{Place, Purpose};

/// How often old data that is kept no longer is looked for, at least.
const EXPIRY: Duration = Duration::from_secs(3_600);

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
        if let Some(id) = self.0.jobs.is_active(Kind::Backup, name) {
            let text = format!("backup {name} is at work as job {id}; wait for it or cancel it");
            return Err(Error::new(ErrorKind::Busy, text));
        }
        let instances = self.selected(&backup, instances)?;
        self.start_backup(&backup, instances, cause, slot).await
    }

    fn selected(&self, backup: &Backup, wanted: Option<Vec<String>>) -> Result<Vec<Arc<Instance>>> {
        let covered = self.definitions().instances_of(backup);
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

    pub(super) async fn start_backup(
        &self,
        backup: &Arc<Backup>,
        instances: Vec<Arc<Instance>>,
        cause: &str,
        slot: Option<Slot>,
    ) -> Result<String> {
        let active = self.active();
        let definitions = active.definitions;
        let unusable = active.loaded.unusable_instances_of(backup);
        let now = Timestamp::now();
        let next =
            backup.schedule.as_ref().and_then(|s| s.next_after(now, &definitions.daemon.timezone, Some(now)));
        let request = backup::Request {
            definitions,
            backup: Arc::clone(backup),
            instances,
            unusable: unusable.into_iter().map(|(name, why)| (name.to_string(), why)).collect(),
            retry_until: next,
        };
        let mut context = self.0.context.clone();
        context.queue = context.queue.with_priority(backup.priority);
        let ticket = ticket(Kind::Backup, &backup.name, cause);
        Ok(self.0.jobs.start_slot(ticket, slot, |live| backup::run(context, live, request)).await?)
    }

    /// Starts a restore of an instance; an empty `snapshot` means its latest set.
    ///
    /// # Errors
    /// The instance is not defined, no set matches, its repository cannot be read, an option is malformed, or a
    /// restore of it has not ended. Nothing was started then.
    pub async fn restore(
        &self,
        name: &str,
        snapshot: &str,
        options: RestoreOptions,
        cause: &str,
    ) -> Result<String> {
        for kind in [Kind::Restore, Kind::Rollback] {
            if let Some(id) = self.0.jobs.is_active(kind, name) {
                return Err(Error::new(
                    ErrorKind::Busy,
                    format!("a {kind} of {name} is at work as job {id}"),
                ));
            }
        }
        let request = self.restore_request(name, snapshot, options).await?;
        let context = self.0.context.clone();
        let id = self
            .0
            .jobs
            .start(ticket(Kind::Restore, name, cause), |live| restore::run(context, live, request))
            .await?;
        self.expire_kept_after(&id);
        Ok(id)
    }

    async fn restore_request(
        &self,
        name: &str,
        snapshot: &str,
        options: RestoreOptions,
    ) -> Result<restore::Request> {
        let instance = self.known_instance(name)?;
        check_options(snapshot, &options)?;
        let repository = options.repository.as_deref().map(|name| self.known_repository(name)).transpose()?;
        let wanted = Wanted {
            repository: repository.map(|r| r.name.clone()),
            snapshot: snapshot.to_owned(),
            before: options.before,
            foreign: options.force_foreign,
        };
        let definitions = self.definitions();
        let uuid = self.identity_of(&instance).await?;
        let chosen = restore::choose(&self.0.context, &definitions, &instance, uuid, &wanted).await;
        let (opened, set) = chosen.map_err(refused)?;
        let RestoreOptions { include, target, force_version, .. } = options;
        Ok(restore::Request { definitions, instance, set, opened, include, target, force_version })
    }

    /// What a restore would do, as JSON; nothing is touched.
    ///
    /// # Errors
    /// As [`Control::restore`], as far as it is not told in the plan.
    pub async fn plan_restore(&self, name: &str, snapshot: &str, options: RestoreOptions) -> Result<String> {
        let request = self.restore_request(name, snapshot, options).await?;
        let plan = restore::plan(self.0.context.clone(), Arc::new(request)).await?;
        Ok(plan.to_string())
    }

    /// Puts back what the last restore of an instance replaced.
    ///
    /// # Errors
    /// The instance is not defined, nothing is kept of it, or a restore or rollback of it has not ended.
    pub async fn rollback(&self, name: &str, cause: &str) -> Result<String> {
        let instance = self.known_instance(name)?;
        for kind in [Kind::Restore, Kind::Rollback] {
            if let Some(id) = self.0.jobs.is_active(kind, name) {
                return Err(Error::new(
                    ErrorKind::Busy,
                    format!("a {kind} of {name} is at work as job {id}"),
                ));
            }
        }
        if restore::kept::list(&self.0.context, Some(name)).await?.is_empty() {
            let text = format!(
                "nothing is kept of {name} that could be put back: it was not restored in place within its \
                 restore.keep_previous"
            );
            return Err(Error::new(ErrorKind::NoSuchSnapshot, text));
        }
        let context = self.0.context.clone();
        let work = |live| restore::rollback::run(context, live, instance);
        Ok(self.0.jobs.start(ticket(Kind::Rollback, name, cause), work).await?)
    }

    /// Removes old data that is kept no longer, when the job that may have added some has ended.
    fn expire_kept_after(&self, id: &str) {
        let (control, id) = (self.clone(), id.to_owned());
        let mut events = self.0.jobs.subscribe();
        tokio::spawn(async move {
            use crate::job::Event::Removed;
            while control.0.jobs.active().iter().any(|live| live.id() == id) {
                match events.recv().await {
                    Ok(Removed(ended, _)) if ended == id => break,
                    Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                    Err(_) => return,
                }
            }
            let definitions = control.definitions();
            restore::kept::expire(&control.0.context, &definitions, Timestamp::now()).await;
        });
    }

    /// Removes old data whose time is over, for as long as the daemon lives.
    pub(super) async fn watch_kept(self) {
        loop {
            let context = &self.0.context;
            let definitions = self.definitions();
            restore::kept::expire(context, &definitions, Timestamp::now()).await;
            let due = restore::kept::next_due(context).await;
            let left = due.map(|due| due.duration_since(Timestamp::now()).unsigned_abs());
            // At most an hour: clocks are set, and restores add to what is kept.
            tokio::time::sleep(left.unwrap_or(EXPIRY).clamp(Duration::from_secs(1), EXPIRY)).await;
        }
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

fn ticket(kind: Kind, subject: &str, cause: &str) -> Ticket {
    Ticket { kind, subject: subject.to_owned(), cause: cause.to_owned() }
}

fn refused(none: NoSet) -> Error {
    let kind = match none {
        NoSet::NotFound(_) => ErrorKind::NoSuchSnapshot,
        NoSet::Ambiguous(_) => ErrorKind::InvalidArgument,
        NoSet::Unavailable(_) => ErrorKind::RepositoryUnavailable,
    };
    Error::new(kind, none.to_string())
}

/// Callers name snapshots and paths of the tree; nothing that restic could take for a flag or another place.
fn check_options(snapshot: &str, options: &RestoreOptions) -> Result<()> {
    let bad = |text: String| Err(Error::new(ErrorKind::InvalidArgument, text));
    let id = snapshot.bytes().all(|b| b.is_ascii_hexdigit()) || snapshot.starts_with('j');
    if !id || snapshot.len() > 64 || (snapshot.starts_with('j') && checked(snapshot).is_err()) {
        return bail_snapshot(snapshot);
    }
    for include in &options.include {
        let path = Path::new(include);
        let plain = path.components().all(|c| matches!(c, std::path::Component::Normal(_)));
        let rooted = ["state", "volumes", "files", "dumps"].iter().any(|root| path.starts_with(root));
        if !plain || !rooted || include.contains(['*', '?', '[', '\\']) {
            return bad(format!(
                "include {include:?}: name a path of the tree, as in state/…, volumes/NAME/…, files/… or dumps/NAME"
            ));
        }
    }
    if let Some(target) = options.target.as_ref().filter(|t| !t.is_absolute() || t.parent().is_none()) {
        return bad(format!("target {}: name an absolute path of a directory to be made", target.display()));
    }
    Ok(())
}

fn bail_snapshot(snapshot: &str) -> Result<()> {
    let shown: String = snapshot.chars().take(80).flat_map(char::escape_default).collect();
    let text =
        format!("\"{shown}\" is no snapshot id: they have hexadecimal digits; see `holdfast snapshots`");
    Err(Error::new(ErrorKind::InvalidArgument, text))
}
