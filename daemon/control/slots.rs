//! Slots: what the planner is told, and what happens when one is due. A slot's decision is stored before it runs.

use std::time::Duration;

use jiff::Timestamp;
use tracing::{error, info, warn};

use super::{Control, ErrorKind, Event, Result, held};
use crate::definition::Definitions;
use crate::schedule::{self, Due, Entry, Trigger};
use crate::state::{Kind, Outcome, Slot};

/// How often the schedule woke.
#[derive(Debug, Clone, Copy)]
pub struct Wakeups {
    /// Since the start.
    pub total: u64,
    /// In an hour, on average; in the first hour as if it had passed.
    pub per_hour: u64,
}

impl Control {
    /// Makes the planner work by the active definitions; called at start and after each reload.
    pub(super) async fn plan(&self) -> anyhow::Result<()> {
        let decided = self.0.context.database.all_decided().await?;
        let definitions = self.definitions();
        // A backup that is enabled again counts from then: it does not make up for what it was to miss.
        for backup in definitions.backups.values().filter(|backup| !backup.enabled) {
            self.0.context.database.forget_decided(&format!("backup/{}", backup.name)).await?;
        }
        let mut entries = entries(&definitions);
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
        self.follow_missed().await
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

    pub(super) async fn decide(&self, due: Due) {
        if due.kind == schedule::Kind::Held {
            let next = held(&self.0.planner).next_run(&due.key, Timestamp::now());
            let at = next.map(|at| at.to_string()).unwrap_or_default();
            info!("{}: the slot of {} has come and is put off until {at}", due.key, due.slot);
            return self.tell_of(&due.key);
        }
        if !due.kind.runs() {
            return self.runs_not(&due).await;
        }
        if self.paused().is_some() {
            info!("{} is due, but the daemon is paused: it waits", due.key);
            let key = due.key.clone();
            held(&self.0.held).push(due);
            return self.tell_of(&key);
        }
        if let Some(until) = self.blackout_until(&due.key) {
            return self.owe(&due, until).await;
        }
        let cause = match due.kind {
            schedule::Kind::CatchUp => "catch-up",
            _ if self.follows(&due.key) => "after",
            _ => "schedule",
        };
        self.start_slot(&due.key, cause, Slot { key: due.key.clone(), at: Some(due.slot) }).await;
    }

    /// What a backup waits for has changed.
    fn tell_of(&self, key: &str) {
        if let Some(name) = key.strip_prefix("backup/") {
            self.tell(Event::BackupChanged(name.to_owned()));
        }
    }

    fn follows(&self, key: &str) -> bool {
        let name = key.strip_prefix("backup/").unwrap_or_default();
        self.definitions().backups.get(name).is_some_and(|backup| backup.after.is_some())
    }

    /// A decision by which nothing runs. What was missed stands in the history as skipped.
    async fn runs_not(&self, due: &Due) {
        let slots = due.skipped + 1;
        let why = format!("missed: {slots} slots up to {} are not made up for (catch_up = false)", due.slot);
        let stored = match (due.kind, kind_and_name(&due.key)) {
            (schedule::Kind::Missed, Some((kind, name))) => {
                warn!(holdfast_outcome = "skipped", "{}: {why}", due.key);
                let slot = Slot { key: due.key.clone(), at: Some(due.slot) };
                self.0.jobs.note(kind, name, "schedule", Outcome::Skipped, &why, &slot).await
            }
            _ => self.0.context.database.set_decided(&due.key, due.slot).await,
        };
        if let Err(failure) = stored {
            error!("{}: that slot {} is decided could not be stored: {failure:#}", due.key, due.slot);
        }
    }

    /// Runs a slot: it is decided in the same step in which its job is stored, so that it runs once, whenever we die.
    pub(super) async fn start_slot(&self, key: &str, cause: &str, slot: Slot) {
        let Some((kind, name)) = kind_and_name(key) else { return };
        let started = match kind {
            Kind::Backup => self.begin_backup(name, None, cause, Some(slot.clone())).await.map(drop),
            Kind::Prune => self.slot_of_prune(name, cause, &slot).await,
            _ => self.slot_of_check(name, cause, &slot).await,
        };
        let Err(refused) = started else { return };
        if self.0.stopping.load(std::sync::atomic::Ordering::Relaxed) {
            return info!("{key} is due while the daemon stops: it runs after the next start");
        }
        let (outcome, why) = match refused.kind {
            // A run longer than its interval.
            ErrorKind::Busy => (Outcome::Skipped, refused.message),
            _ => (Outcome::Failed, format!("it was due and could not be started: {refused}")),
        };
        warn!(holdfast_outcome = %outcome, "a slot of {kind} {name} is not run: {why}");
        if let Err(failure) = self.0.jobs.note(kind, name, cause, outcome, &why, &slot).await {
            error!("{key}: that its slot is decided could not be stored: {failure:#}");
        }
    }

    /// Without anything forgotten since the last prune there is nothing to do.
    async fn slot_of_prune(&self, name: &str, cause: &str, slot: &Slot) -> Result<()> {
        let forgotten = self.0.context.database.meta(&format!("forgotten/{name}")).await?;
        if forgotten.as_deref() != Some("1") {
            info!(holdfast_repository = %name, "nothing was forgotten since the last prune of {name}");
            return self.nothing_to_do(slot).await;
        }
        self.begin_prune(name, cause, Some(slot.clone())).await.map(drop)
    }

    /// A repository that was never written to has nothing to check.
    async fn slot_of_check(&self, name: &str, cause: &str, slot: &Slot) -> Result<()> {
        if self.0.context.database.meta(&format!("repository-seen/{name}")).await?.is_none() {
            return self.nothing_to_do(slot).await;
        }
        self.begin_check(name, None, cause, Some(slot.clone())).await.map(drop)
    }

    async fn nothing_to_do(&self, slot: &Slot) -> Result<()> {
        Ok(self.0.context.database.settle_slot(slot).await?)
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

    /// How often the schedule woke since the start.
    pub fn wakeups(&self) -> Wakeups {
        let total = self.0.trigger.get().map_or(0, Trigger::wakeups);
        let seconds = self.0.began.elapsed().as_secs().max(3600);
        Wakeups { total, per_hour: total * 3600 / seconds }
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
        for mut due in waiting {
            let earlier = last.remove(&due.key).map_or(0, |before| before.skipped + 1);
            due.skipped += earlier;
            last.insert(due.key.clone(), due);
        }
        for mut due in last.into_values() {
            due.kind =
                if self.catches_up(&due.key) { schedule::Kind::CatchUp } else { schedule::Kind::Missed };
            self.decide(due).await;
        }
        self.run_owed().await;
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
            let ended = *held(&control.0.paused) == Some(until);
            if ended && let Err(failure) = control.resume().await {
                error!("the pause has ended, but that could not be stored: {failure}");
            }
        });
    }
}

/// What a key of the schedule is about.
fn kind_and_name(key: &str) -> Option<(Kind, &str)> {
    let (kind, name) = key.split_once('/')?;
    Some((Kind::from_word(kind)?, name))
}

/// One entry for each thing that has a schedule.
fn entries(definitions: &Definitions) -> Vec<Entry> {
    let zone = &definitions.daemon.timezone;
    let entry = |key: String, schedule: &crate::calendar::Schedule, random_delay| Entry {
        key,
        schedule: schedule.clone(),
        zone: zone.clone(),
        random_delay,
        blackout: Vec::new(),
        catch_up: true,
        decided: None,
    };
    let mut entries = Vec::new();
    for backup in definitions.backups.values().filter(|backup| backup.enabled) {
        let Some(schedule) = &backup.schedule else { continue };
        entries.push(Entry {
            blackout: backup.blackout.clone(),
            catch_up: backup.catch_up,
            ..entry(format!("backup/{}", backup.name), schedule, backup.random_delay)
        });
    }
    for repository in definitions.repositories.values() {
        let spread = Duration::from_secs(1800);
        let (prune, check) = (repository.prune.as_ref(), repository.check.as_ref());
        let prune = prune.filter(|_| !repository.append_only);
        entries.extend(prune.map(|p| entry(format!("prune/{}", repository.name), &p.schedule, spread)));
        entries.extend(check.map(|c| entry(format!("check/{}", repository.name), &c.schedule, spread)));
    }
    entries
}
