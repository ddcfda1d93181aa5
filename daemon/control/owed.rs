//! Runs that are owed: a slot was taken for a backup, and its run could not begin yet. They are durable.
//!
//! A run is owed when the daemon died between taking the slot and beginning the job, and when it came due in a blackout.
//! What follows another backup (`after`) comes due by that one's runs.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tracing::{error, info};

use super::{Control, held};
use crate::calendar::clear_of;
use crate::definition::Backup;
use crate::schedule::{Due, Kind};
use crate::state::{JobFilter, JobRecord, Outcome, Slot};

/// So many runs of the other backup are looked through for one that is to be followed.
const LOOKED_BACK: usize = 50;

impl Control {
    /// When a backup may run by itself; none: now.
    pub(super) fn blackout_until(&self, key: &str) -> Option<Timestamp> {
        let definitions = self.definitions();
        let backup = definitions.backups.get(key.strip_prefix("backup/")?)?;
        let now = Timestamp::now();
        Some(clear_of(&backup.blackout, now, &definitions.daemon.timezone)).filter(|clear| *clear > now)
    }

    /// Keeps a slot that came due in a blackout for the end of that.
    pub(super) async fn owe(&self, due: &Due, until: Timestamp) {
        info!("{} is due in its blackout: it runs when that ends, at {until}", due.key);
        if let Err(failure) = self.0.context.database.owe(&due.key, due.slot).await {
            error!("{}: that it is owed could not be stored: {failure:#}", due.key);
        }
        self.owed_at(until);
    }

    /// Runs what is owed and may run now, each once.
    pub(super) async fn run_owed(&self) {
        let _one_at_a_time = self.0.owing.lock().await;
        if self.paused().is_some() {
            return;
        }
        let owed = match self.0.context.database.owed().await {
            Ok(owed) => owed,
            Err(failure) => return error!("what is owed could not be read: {failure:#}"),
        };
        for (key, since) in owed {
            self.run_one_owed(&key, since).await;
        }
    }

    async fn run_one_owed(&self, key: &str, since: Timestamp) {
        if let Some(until) = self.blackout_until(key) {
            return self.owed_at(until);
        }
        let now = Timestamp::now();
        let covered = held(&self.0.planner).next_run(key, now).is_some_and(|run| run <= now);
        if covered {
            // A slot of its own is due as well: that one's job takes this debt with it.
            return;
        }
        info!("{key}: the run that came due at {since} was not begun; it runs now");
        let slot = Slot { key: key.to_owned(), at: None };
        self.start_slot(key, "catch-up", slot).await;
    }

    /// Looks again at that time.
    fn owed_at(&self, until: Timestamp) {
        let control = self.clone();
        tokio::spawn(async move {
            while let Ok(left) = Duration::try_from(until.duration_since(Timestamp::now()))
                && !left.is_zero()
            {
                // Not all of it at once: the clock may be set meanwhile.
                tokio::time::sleep(left.min(Duration::from_secs(60))).await;
            }
            control.run_owed().await;
        });
    }

    /// The backups that follow this one.
    fn followers(&self, name: &str) -> Vec<Arc<Backup>> {
        let definitions = self.definitions();
        let follows = |backup: &&Arc<Backup>| backup.after.as_deref() == Some(name) && backup.enabled;
        definitions.backups.values().filter(follows).cloned().collect()
    }

    /// Runs what follows a backup that has ended.
    pub(super) async fn follow(&self, ended: &JobRecord) {
        let Some(finished) = ended.finished.filter(|_| made_sets(ended)) else { return };
        let _one_at_a_time = self.0.owing.lock().await;
        for follower in self.followers(&ended.subject) {
            let key = format!("backup/{}", follower.name);
            if !matches!(self.0.context.database.decided(&key).await, Ok(Some(at)) if at == finished) {
                self.decide(Due { key, slot: finished, kind: Kind::OnTime, skipped: 0 }).await;
            }
        }
    }

    /// Runs what should have followed while nobody looked: after a start, or a burst of events.
    pub(super) async fn follow_missed(&self) -> anyhow::Result<()> {
        let _one_at_a_time = self.0.owing.lock().await;
        let definitions = self.definitions();
        for backup in definitions.backups.values().filter(|backup| backup.enabled) {
            let Some(other) = &backup.after else { continue };
            let key = format!("backup/{}", backup.name);
            let Some(decided) = self.0.context.database.decided(&key).await? else {
                // New: it counts from now.
                self.0.context.database.set_decided(&key, Timestamp::now()).await?;
                continue;
            };
            if let Some(slot) = self.followed_since(other, decided).await? {
                let kind = if backup.catch_up { Kind::CatchUp } else { Kind::Missed };
                self.decide(Due { key, slot, kind, skipped: 0 }).await;
            }
        }
        Ok(())
    }

    /// When a backup last ended with sets, if that was after a time.
    async fn followed_since(&self, name: &str, since: Timestamp) -> anyhow::Result<Option<Timestamp>> {
        let filter = JobFilter {
            kind: Some(crate::state::Kind::Backup),
            subject: Some(name.to_owned()),
            limit: Some(LOOKED_BACK),
            ..JobFilter::default()
        };
        let jobs = self.0.context.database.jobs(filter).await?;
        let ends = jobs.iter().filter(|job| made_sets(job)).filter_map(|job| job.finished);
        Ok(ends.max().filter(|last| *last > since))
    }

    /// What a backup that has no job waits for, if its time has come; empty: nothing.
    pub(super) fn holds_back(&self, name: &str) -> String {
        let (key, now) = (format!("backup/{name}"), Timestamp::now());
        if let Some(until) = self.paused().filter(|_| held(&self.0.held).iter().any(|due| due.key == key)) {
            let until = if until == Timestamp::MAX { "it is resumed".into() } else { until.to_string() };
            return format!("the daemon is paused until {until}");
        }
        let blackout = held(&self.0.planner).held_until(&key, now);
        blackout.map(|until| format!("its blackout ends at {until}")).unwrap_or_default()
    }
}

fn made_sets(job: &JobRecord) -> bool {
    let good = matches!(job.outcome, Some(Outcome::Succeeded | Outcome::Warning));
    good && job.units.iter().any(|unit| !unit.snapshot.is_empty())
}
