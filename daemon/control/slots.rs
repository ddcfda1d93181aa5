//! Slots: what the planner is told, and what happens when one is due. A slot's decision is stored before it runs.

use std::time::Duration;

use jiff::Timestamp;
use tracing::{error, info, warn};

use super::{Control, ErrorKind, Event, Result, held};
use crate::definition::Definitions;
use crate::schedule::{self, Due, Entry};
use crate::state::{Kind, Outcome};

impl Control {
    /// Makes the planner work by the active definitions; called at start and after each reload.
    pub(super) async fn plan(&self) -> anyhow::Result<()> {
        let decided = self.0.context.database.all_decided().await?;
        let mut entries = entries(&self.definitions());
        for entry in &mut entries {
            entry.decided = decided.get(&entry.key).copied();
        }
        let decisions = held(&self.0.planner).replace(entries, Timestamp::now());
        for decision in decisions {
            self.decide(decision).await;
        }
        if let Some(trigger) = self.0.trigger.get() {
            trigger.rearm();
        }
        Ok(())
    }

    /// Takes what the trigger found due. Never blocks.
    pub(super) fn due(&self, due: Vec<Due>) {
        let control = self.clone();
        tokio::spawn(async move {
            for slot in due {
                control.decide(slot).await;
            }
        });
    }

    async fn decide(&self, due: Due) {
        if due.kind.runs() && self.paused().is_some() {
            info!("{} is due, but the daemon is paused: it waits", due.key);
            return held(&self.0.held).push(due);
        }
        if let Err(failure) = self.0.context.database.set_decided(&due.key, due.slot).await {
            error!(
                "{}: that slot {} is decided could not be stored: {failure:#}; it runs all the same",
                due.key, due.slot
            );
        }
        self.run_slot(&due).await;
    }

    async fn run_slot(&self, due: &Due) {
        let Some((kind, name)) = due.key.split_once('/') else { return };
        let cause = match due.kind {
            schedule::Kind::OnTime => "schedule",
            schedule::Kind::CatchUp => "catch-up",
            schedule::Kind::Rebased => return,
            schedule::Kind::Missed => {
                let slots = due.skipped + 1;
                return warn!(
                    "{kind} {name}: {slots} slots up to {} were missed and are not made up for",
                    due.slot
                );
            }
        };
        let started = match kind {
            "backup" => self.slot_of_backup(name, cause).await,
            "prune" => self.slot_of_prune(name, cause).await,
            _ => self.slot_of_check(name, cause).await,
        };
        if let Err(failure) = started {
            error!("{kind} {name} was due and could not be started: {failure}");
        }
    }

    /// A run longer than its interval makes the next slot `skipped`.
    async fn slot_of_backup(&self, name: &str, cause: &str) -> Result<()> {
        match self.run_backup(name, None, cause).await {
            Err(refused) if refused.kind == ErrorKind::Busy => {
                warn!(holdfast_backup = %name, holdfast_outcome = "skipped", "a slot of {name} is skipped: {refused}");
                Ok(self.0.jobs.note(Kind::Backup, name, cause, Outcome::Skipped, &refused.message).await?)
            }
            other => other.map(drop),
        }
    }

    /// Without anything forgotten since the last prune there is nothing to do.
    async fn slot_of_prune(&self, name: &str, cause: &str) -> Result<()> {
        let forgotten = self.0.context.database.meta(&format!("forgotten/{name}")).await?;
        if forgotten.as_deref() != Some("1") {
            info!(holdfast_repository = %name, "nothing was forgotten since the last prune of {name}");
            return Ok(());
        }
        self.prune(name, cause).await.map(drop)
    }

    /// A repository that was never written to has nothing to check.
    async fn slot_of_check(&self, name: &str, cause: &str) -> Result<()> {
        if self.0.context.database.meta(&format!("repository-seen/{name}")).await?.is_none() {
            return Ok(());
        }
        self.check(name, None, cause).await.map(drop)
    }

    /// When this backup will run by itself.
    pub(super) fn next_run(&self, backup: &str) -> Option<Timestamp> {
        held(&self.0.planner).next_run(&format!("backup/{backup}"), Timestamp::now())
    }

    /// The next backup that will run by itself, and when.
    pub fn next_backup(&self) -> Option<(String, Timestamp)> {
        let definitions = self.definitions();
        let runs =
            definitions.backups.keys().filter_map(|name| Some((name.to_string(), self.next_run(name)?)));
        runs.min_by_key(|(_, at)| *at)
    }

    /// No slot runs for this long; 0 seconds: until resumed. It survives restarts.
    ///
    /// # Errors
    /// The state cannot be written.
    pub async fn pause(&self, seconds: u64) -> Result<()> {
        let until = match seconds {
            0 => Timestamp::MAX,
            n => Timestamp::now().checked_add(Duration::from_secs(n)).unwrap_or(Timestamp::MAX),
        };
        self.0.context.database.set_meta("paused-until", &until.to_string()).await?;
        *held(&self.0.paused) = Some(until);
        info!("paused until {}", if until == Timestamp::MAX { "resumed".into() } else { until.to_string() });
        self.tell(Event::PausedChanged);
        self.resume_at(until);
        Ok(())
    }

    /// Ends a pause; what was due meanwhile and may be caught up runs now, once.
    ///
    /// # Errors
    /// The state cannot be written.
    pub async fn resume(&self) -> Result<()> {
        self.0.context.database.set_meta("paused-until", "").await?;
        *held(&self.0.paused) = None;
        self.tell(Event::PausedChanged);
        let waiting = std::mem::take(&mut *held(&self.0.held));
        let mut last: std::collections::BTreeMap<String, Due> = std::collections::BTreeMap::new();
        for due in waiting {
            last.insert(due.key.clone(), due);
        }
        let catching_up = |due: &Due| self.catches_up(&due.key);
        for mut due in last.into_values() {
            due.kind = schedule::Kind::CatchUp;
            if catching_up(&due) {
                self.decide(due).await;
            } else if let Err(failure) = self.0.context.database.set_decided(&due.key, due.slot).await {
                error!("{}: its slot could not be stored: {failure:#}", due.key);
            }
        }
        Ok(())
    }

    fn catches_up(&self, key: &str) -> bool {
        let name = key.strip_prefix("backup/");
        name.and_then(|name| self.known_backup(name).ok()).is_none_or(|backup| backup.catch_up)
    }

    /// Until when it is paused; none: not paused.
    pub fn paused(&self) -> Option<Timestamp> {
        held(&self.0.paused).filter(|until| *until > Timestamp::now())
    }

    /// Ends the pause when its time has come, unless it was changed meanwhile.
    pub(super) fn resume_at(&self, until: Timestamp) {
        let control = self.clone();
        tokio::spawn(async move {
            while *held(&control.0.paused) == Some(until) {
                let left = until.duration_since(Timestamp::now());
                let Ok(left) = Duration::try_from(left) else { break };
                // Not all of it at once: the clock may be set meanwhile.
                tokio::time::sleep(left.min(Duration::from_secs(60)) + Duration::from_millis(10)).await;
            }
            if *held(&control.0.paused) == Some(until) {
                if let Err(failure) = control.resume().await {
                    error!("the pause has ended, but that could not be stored: {failure}");
                }
            }
        });
    }
}

/// One entry for each thing that has a schedule.
fn entries(definitions: &Definitions) -> Vec<Entry> {
    let zone = &definitions.daemon.timezone;
    let entry = |key: String, schedule: &crate::calendar::Schedule, random_delay, catch_up| Entry {
        key,
        schedule: schedule.clone(),
        zone: zone.clone(),
        random_delay,
        catch_up,
        decided: None,
    };
    let mut entries = Vec::new();
    for backup in definitions.backups.values().filter(|backup| backup.enabled) {
        let schedule = backup.schedule.as_ref();
        entries.extend(
            schedule
                .map(|s| entry(format!("backup/{}", backup.name), s, backup.random_delay, backup.catch_up)),
        );
    }
    for repository in definitions.repositories.values() {
        let spread = Duration::from_secs(1800);
        let (prune, check) = (repository.prune.as_ref(), repository.check.as_ref());
        let prune = prune.filter(|_| !repository.append_only);
        entries.extend(prune.map(|p| entry(format!("prune/{}", repository.name), &p.schedule, spread, true)));
        entries.extend(check.map(|c| entry(format!("check/{}", repository.name), &c.schedule, spread, true)));
    }
    entries
}
