//! Verbs that answer: what is defined, what was done, what a repository holds.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{
    BackupView, Control, Error, ErrorKind, InstanceView, JobQuery, JobView, RepositoryView, Result, SetView,
    checked,
};
use crate::definition::{Backup, Layout, Repository};
use crate::job::{self, Live, Location};
use crate::queue::Caller;
use crate::restic::{Restic, Terms, local_path};
use crate::state::{JobFilter, Kind, Outcome, SetFilter, SetRecord};

impl Control {
    /// restic's version, or why there is none.
    pub async fn restic_version(&self) -> String {
        match Restic::probe(&self.definitions().daemon.restic).await {
            Ok(restic) => restic.version().to_string(),
            Err(failure) => format!("none: {failure}"),
        }
    }

    /// What needs somebody: trouble with the stored history, and what is wrong in the definitions as they were last read.
    pub fn findings(&self) -> Vec<String> {
        let trouble = Some(self.history_trouble()).filter(|trouble| !trouble.is_empty());
        let history = trouble.map(|trouble| format!("the history: {trouble}"));
        history.into_iter().chain(self.loaded().diagnostics.iter().map(ToString::to_string)).collect()
    }

    /// What is not well with the stored history since the start; empty: all is.
    pub fn history_trouble(&self) -> &str {
        &self.0.history_trouble
    }

    /// Live jobs and those that ended within the last ten minutes.
    pub fn jobs(&self) -> Vec<JobView> {
        self.0.jobs.all().iter().map(view).collect()
    }

    /// One of them.
    pub fn job(&self, id: &str) -> Option<JobView> {
        self.0.jobs.get(id).as_ref().map(view)
    }

    /// How many jobs have not ended.
    pub fn active_jobs(&self) -> u32 {
        u32::try_from(self.0.jobs.active().len()).unwrap_or(u32::MAX)
    }

    /// The history, newest first, with the jobs that are at work.
    ///
    /// # Errors
    /// The query names a word that does not exist, or the history cannot be read.
    pub async fn list_jobs(&self, query: JobQuery) -> Result<Vec<JobView>> {
        let filter = JobFilter {
            kind: word(query.kind.as_deref(), Kind::from_word, "kind")?,
            outcome: word(query.outcome.as_deref(), Outcome::from_word, "outcome")?,
            subject: query.subject,
            instance: query.instance,
            since: query.since,
            limit: Some(if query.limit == 0 { 100 } else { query.limit as usize }),
            ..JobFilter::default()
        };
        let records = self.0.context.database.jobs(filter).await?;
        let seen = |record: crate::state::JobRecord| match self.job(&record.id) {
            Some(live) => live,
            None => JobView {
                waiting: String::new(),
                progress: if record.outcome.is_some() { 1.0 } else { 0.0 },
                record,
            },
        };
        Ok(records.into_iter().map(seen).collect())
    }

    /// How many jobs ended how, ever.
    ///
    /// # Errors
    /// The history cannot be read.
    pub async fn jobs_total(&self) -> Result<Vec<(Kind, Outcome, u64)>> {
        Ok(self.0.context.database.jobs_total().await?)
    }

    /// The last job of a kind about a subject that has ended.
    ///
    /// # Errors
    /// The history cannot be read.
    pub async fn last_job(&self, kind: Kind, subject: &str) -> Result<Option<crate::state::JobRecord>> {
        Ok(self.0.context.database.last_finished(kind, subject).await?)
    }

    /// A backup as it stands now.
    ///
    /// # Errors
    /// It is not defined, or the history cannot be read.
    pub async fn backup(&self, name: &str) -> Result<BackupView> {
        let backup = self.known_backup(name)?;
        let definitions = self.definitions();
        let database = &self.0.context.database;
        let last = database.last_finished(Kind::Backup, name).await?;
        let active = self.0.jobs.is_active(Kind::Backup, name).and_then(|id| self.0.jobs.get(&id));
        Ok(BackupView {
            name: name.to_owned(),
            schedule: when(&backup),
            enabled: backup.enabled,
            instances: definitions.instances_of(&backup).iter().map(|i| i.name.to_string()).collect(),
            repositories: backup.repositories.iter().map(ToString::to_string).collect(),
            next_run: self.next_run(name).filter(|_| backup.enabled),
            last_run: last.as_ref().and_then(|job| job.finished),
            last_success: database.last_success(Kind::Backup, name).await?,
            last_outcome: last.and_then(|job| job.outcome),
            waiting: active.map_or_else(|| self.holds_back(name), |live| live.waiting()),
        })
    }

    /// A repository as it stands now.
    ///
    /// # Errors
    /// It is not defined, or the state cannot be read.
    pub async fn repository(&self, name: &str) -> Result<RepositoryView> {
        let repository = self.known_repository(name)?;
        let database = &self.0.context.database;
        let time = |text: Option<String>| Timestamp::from_microsecond(text?.parse().ok()?).ok();
        Ok(RepositoryView {
            name: name.to_owned(),
            url: repository.shown_url(),
            layout: layout(&repository).to_owned(),
            last_check: time(database.meta(&format!("last-check/{name}")).await?),
            last_prune: time(database.meta(&format!("last-prune/{name}")).await?),
            damaged: database.meta(&format!("damaged/{name}")).await?.as_deref() == Some("1"),
        })
    }

    /// An instance as it stands now.
    ///
    /// # Errors
    /// It is not defined, or the state cannot be read.
    pub async fn instance(&self, name: &str) -> Result<InstanceView> {
        let instance = self.known_instance(name)?;
        let filter = SetFilter { instance: Some(name.to_owned()), ..SetFilter::default() };
        let sets = self.0.context.database.sets(filter).await?;
        let newest = sets.into_iter().find(|set| set.host == self.definitions().daemon.host);
        Ok(InstanceView {
            name: name.to_owned(),
            module: instance.module.as_ref().map(ToString::to_string).unwrap_or_default(),
            last_success: newest.as_ref().map(|set| set.time),
            last_snapshot: newest.map(|set| set.snapshot).unwrap_or_default(),
            last_proven: None,
        })
    }

    /// The committed sets of an instance in all repositories, newest first, as the repositories list them now.
    ///
    /// # Errors
    /// It is not defined, or none of its repositories can be read.
    pub async fn list_snapshots(&self, name: &str) -> Result<Vec<SetView>> {
        let sets = self.sets_of(name).await?;
        self.with_standing(&self.known_instance(name)?, sets).await
    }

    /// The same without how they stand.
    pub(super) async fn sets_of(&self, name: &str) -> Result<Vec<SetRecord>> {
        self.sets_told_by(name, &Terms::new(&CancellationToken::new())).await
    }

    /// As [`Control::sets_of`], where each repository is asked on these terms.
    pub(super) async fn sets_told_by(&self, name: &str, terms: &Terms) -> Result<Vec<SetRecord>> {
        let instance = self.known_instance(name)?;
        let uuid = self.identity_of(&instance).await?;
        let definitions = self.definitions();
        let mut failures = Vec::new();
        for repository in definitions.repositories.values() {
            let location = Location::of(repository, &instance, uuid);
            if let Err(failure) = self.refresh(repository, location, terms).await {
                failures.push(failure);
            }
        }
        let filter = SetFilter { uuid: Some(uuid.to_string()), ..SetFilter::default() };
        let sets = self.0.context.database.sets(filter).await?;
        match failures.into_iter().next() {
            Some(failure) if sets.is_empty() => Err(failure),
            _ => Ok(sets),
        }
    }

    /// Reads a repository's own list of sets; one that was never made holds none.
    pub(super) async fn refresh(
        &self,
        repository: &Arc<Repository>,
        location: Location,
        terms: &Terms,
    ) -> Result<()> {
        let context = &self.0.context;
        let restic = Restic::probe(&self.definitions().daemon.restic).await.map_err(anyhow::Error::new)?;
        let unavailable =
            |failure: anyhow::Error| Error::new(ErrorKind::RepositoryUnavailable, job::described(&failure));
        let opened = match job::open_existing(context, &restic, repository, location, terms).await {
            Ok(opened) => opened,
            Err(failure) if job::does_not_exist(&failure) => return Ok(()),
            Err(failure) => return Err(unavailable(failure)),
        };
        let caller = Caller { label: "listing snapshots".into(), cancel: terms.cancel.clone() };
        let shared = context.queue.share(&opened.key, &repository.name, &caller, |_| {}).await;
        let _shared = shared.map_err(anyhow::Error::new)?;
        job::sync(context, &restic, &opened, terms).await.map_err(unavailable)
    }

    /// The restic repositories of a definition: the shared one, or those where sets or defined instances lie.
    pub(super) async fn locations(&self, repository: &Repository) -> Result<Vec<Location>> {
        if repository.layout == Layout::Shared {
            return Ok(vec![Location { path: String::new() }]);
        }
        let filter = SetFilter { repository: Some(repository.name.to_string()), ..SetFilter::default() };
        let sets = self.0.context.database.sets(filter).await?;
        let mut locations: Vec<_> = sets.into_iter().map(|set| Location { path: set.location }).collect();
        locations.sort();
        locations.dedup();
        Ok(locations)
    }

    /// Opens a repository with its password, without creating it.
    ///
    /// # Errors
    /// It is not defined, or cannot be opened: of kind `RepositoryUnavailable`.
    pub async fn test_repository(&self, name: &str) -> Result<()> {
        let repository = self.known_repository(name)?;
        let restic = Restic::probe(&self.definitions().daemon.restic).await.map_err(anyhow::Error::new)?;
        let terms = Terms::new(&CancellationToken::new());
        let mut locations = self.locations(&repository).await?;
        if locations.is_empty() {
            // Nothing is stored yet: asking for any place tells whether the storage answers.
            locations.push(Location { path: "catalog".into() });
        }
        let seen = self.0.context.database.meta(&format!("repository-seen/{name}")).await?.is_some();
        for location in locations {
            match job::test(&self.0.context, &restic, &repository, location, &terms).await {
                Err(failure) if !seen && job::does_not_exist(&failure) => self.creatable(&repository).await?,
                Err(failure) => {
                    return Err(Error::new(ErrorKind::RepositoryUnavailable, job::described(&failure)));
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// A repository that does not exist yet can be made, as far as that can be told beforehand: a local one needs the
    /// directory that it is to lie in.
    async fn creatable(&self, repository: &Repository) -> Result<()> {
        let Some(parent) = local_path(&repository.url).and_then(|path| path.parent().map(Path::to_owned))
        else {
            return Ok(());
        };
        match tokio::fs::metadata(&parent).await {
            Ok(meta) if meta.is_dir() => Ok(()),
            _ => {
                let text = format!(
                    "there is no directory {} for it to be made in: is a disk missing?",
                    parent.display()
                );
                Err(Error::new(ErrorKind::RepositoryUnavailable, text))
            }
        }
    }

    /// Removes stale locks: those whose process is dead.
    ///
    /// # Errors
    /// It is not defined, or cannot be opened.
    pub async fn unlock(&self, name: &str) -> Result<()> {
        let repository = self.known_repository(name)?;
        let restic = Restic::probe(&self.definitions().daemon.restic).await.map_err(anyhow::Error::new)?;
        let terms = Terms::new(&CancellationToken::new());
        for location in self.locations(&repository).await? {
            let access = job::access(&self.0.context, &repository, &location, &terms).await?;
            let unlocked = restic.unlock(&access, &terms, false).await.map_err(anyhow::Error::new);
            unlocked
                .map_err(|failure| Error::new(ErrorKind::RepositoryUnavailable, job::described(&failure)))?;
        }
        Ok(())
    }

    /// Refuses new jobs, ends all that are at work and waits for them, at most so long. Returns those that did not end.
    pub async fn drain(&self, deadline: std::time::Duration) -> Vec<String> {
        self.0.stopping.store(true, std::sync::atomic::Ordering::Relaxed);
        if let Some(trigger) = self.0.trigger.get() {
            trigger.clone().stop().await;
        }
        self.0.jobs.drain(deadline).await
    }
}

fn view(live: &Arc<Live>) -> JobView {
    JobView { record: live.record(), waiting: live.waiting(), progress: live.progress() }
}

/// Its schedule as written, or `after NAME`.
fn when(backup: &Backup) -> String {
    let after = backup.after.as_ref().map(|other| format!("after {other}"));
    backup.schedule.as_ref().map(|s| s.text().to_owned()).or(after).unwrap_or_default()
}

/// `per-instance` or `shared`.
fn layout(repository: &Repository) -> &'static str {
    match repository.layout {
        Layout::PerInstance => "per-instance",
        Layout::Shared => "shared",
    }
}

fn word<T>(text: Option<&str>, read: fn(&str) -> Option<T>, what: &str) -> Result<Option<T>> {
    let Some(text) = text else { return Ok(None) };
    let _ = checked(text)?;
    let bad = || Error::new(ErrorKind::InvalidArgument, format!("{text:?} is no {what} of a job"));
    read(text).map(Some).ok_or_else(bad)
}
