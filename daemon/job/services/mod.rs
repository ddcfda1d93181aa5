//! The services of an instance while it is worked on: stopped in order, and always started again.
//!
//! What will be stopped is on the disk before the first stop, in an undo file of its own, `JOB-services-INSTANCE`. Only
//! what ran is started again, a paused container is paused again. A start that fails is tried again, raises an alarm, and
//! is tried on in the background, with the undo step open until it runs.

mod after;
mod check;
mod entry;
mod holds;
mod resume;
mod there;
mod times;

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Context, Live};
use crate::definition::{Instance, Service, StopUntil};
use crate::restic;
use crate::service_control::{Reach, Seen, State};
use crate::state::undo::{Step, Undo};
pub(super) use after::{start_what_was_stopped, stop_what_runs};
pub(super) use check::{check, would_stop};
use entry::{Entry, close, finish, has_stopped, stop_entry};
pub use holds::Holds;
use resume::{Part, SETTLE, START_LIMIT, Starter, tries};
pub use there::{unit_calls, units_there};

/// What the services are stopped for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// Their data is only read.
    Backup,
    /// Their data is exchanged.
    Restore,
    /// An instance comes to this machine: what it names may not be here yet.
    Founding,
}

/// The services of one instance in one job.
pub(super) struct Quiet {
    context: Context,
    live: Arc<Live>,
    instance: Arc<Instance>,
    what_for: For,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    undo: Option<Undo>,
    entries: Vec<Entry>,
}

/// What came of starting services again.
#[derive(Debug, Default)]
pub(super) struct Resumed {
    /// Worth a warning.
    pub(super) notes: Vec<String>,
    /// What is down.
    pub(super) down: Vec<String>,
}

impl Resumed {
    /// How it went, in a line.
    pub(super) fn shown(&self) -> String {
        match self.down.is_empty() {
            true => "all that ran before runs".to_owned(),
            false => format!("down: {}", self.down.join("; ")),
        }
    }

    /// All that there is to say.
    pub(super) fn told(self) -> Vec<String> {
        let down = self.down.into_iter().map(|why| format!("a service is down: {why}; it is tried again"));
        down.chain(self.notes).collect()
    }
}

impl Quiet {
    pub(super) fn new(context: &Context, live: &Arc<Live>, instance: &Arc<Instance>, what_for: For) -> Self {
        Self {
            context: context.clone(),
            live: Arc::clone(live),
            instance: Arc::clone(instance),
            what_for,
            held: Mutex::default(),
        }
    }

    pub(super) fn what_for(&self) -> For {
        self.what_for
    }

    fn owner(&self) -> String {
        format!("{} ({})", self.instance.name, self.live.id())
    }

    /// Writes down what runs and is to be stopped, then stops it in order.
    ///
    /// # Errors
    /// Something did not stop. What was stopped is started again by [`Quiet::resume`], which must be called in any case.
    pub(super) async fn stop(&self) -> Result<()> {
        // One task after the other works on it: held over waits, so that a resume comes after what it undoes.
        let mut held = self.held.lock().await;
        self.take(&mut held).await?;
        for entry in &mut held.entries {
            let name = entry.service.name.clone();
            stop_entry(entry, self.live.cancelled(), |_| true)
                .await
                .with_context(|| format!("service {name}"))?;
        }
        Ok(())
    }

    /// Looks what runs, writes it down, and takes it, all or nothing.
    async fn take(&self, held: &mut Held) -> Result<()> {
        let backup = self.what_for == For::Backup;
        let stops = |until: StopUntil| if backup { until.in_backups() } else { until != StopUntil::Never };
        let wanted = self.instance.services.iter().filter(|service| stops(service.stop));
        let services: Vec<Service> = wanted.cloned().collect();
        if services.is_empty() {
            return Ok(());
        }
        let holds = &self.context.holds;
        loop {
            let changed = holds.changed();
            // Held while we look and write: nobody may stop anything in between.
            let taking = holds.taking().lock().await;
            let entries = self.look(&services).await?;
            if let Some(who) = self.hindered(&entries) {
                drop(taking);
                let name = &self.instance.name;
                self.live.waits(name, Some(format!("services that {who} has stopped")));
                tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep(std::time::Duration::from_secs(5)) => {}
                    () = self.live.cancelled().cancelled() => bail!(restic::Error::Cancelled),
                }
                self.live.waits(name, None);
                continue;
            }
            return self.write_down(held, entries).await;
        }
    }

    async fn look(&self, services: &[Service]) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for service in services {
            let reach = self::reach(&self.instance, service).await?;
            let seen = match reach.look(self.live.cancelled()).await {
                Err(failure) if self.what_for == For::Founding => {
                    warn!("the service {} is left as it is: {failure:#}", service.name);
                    continue;
                }
                seen => seen.with_context(|| format!("service {}", service.name))?,
            };
            let parts: Vec<Part> = seen.into_iter().filter_map(|seen| self.ran(&reach, seen)).collect();
            let starter = Starter {
                holds: self.context.holds.clone(),
                owner: self.owner(),
                instance: self.instance.name.to_string(),
                reach,
            };
            let service = service.clone();
            entries.push(Entry {
                service,
                starter,
                parts,
                step: 0,
                open: false,
                down: Vec::new(),
                since: None,
            });
        }
        entries.retain(|entry| !entry.parts.is_empty());
        Ok(entries)
    }

    /// A part that ran: now, or before another job of ours stopped it.
    fn ran(&self, reach: &Reach, seen: Seen) -> Option<Part> {
        let key = reach.key(&seen.part);
        let was = self.context.holds.was(&key);
        let runs = seen.state != State::Stopped;
        let sick = was.is_none() && seen.sick.is_some() && !seen.starting;
        let ran = was.or_else(|| runs.then_some(seen.part))?;
        Some(Part { ran, key, called: seen.called, sick, unsure: false, wave: seen.wave })
    }

    fn hindered(&self, entries: &[Entry]) -> Option<String> {
        let owner = self.owner();
        entries.iter().flat_map(|entry| entry.parts.iter().map(move |part| (entry, part))).find_map(
            |(entry, part)| self.context.holds.hindered(&part.key, &owner, entry.starts_for_dump(part)),
        )
    }

    async fn write_down(&self, held: &mut Held, mut entries: Vec<Entry>) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let job = format!("{}-services-{}", self.live.id(), self.instance.name);
        let undo = Undo::begin(&self.context.dirs.undo(), &job)?;
        for entry in &mut entries {
            let step = Step::StartServices {
                instance: self.instance.name.to_string(),
                service: entry.service.name.clone(),
                by: entry.service.manager.clone(),
                user: self.instance.user.clone(),
                remote: self.instance.remote.clone(),
                ran: entry.parts.iter().map(|part| part.ran.clone()).collect(),
                restart: self.what_for != For::Backup,
            };
            entry.step = undo.push(step).await?;
        }
        for entry in &mut entries {
            entry.open = true;
            for part in &entry.parts {
                let alone = entry.starts_for_dump(part);
                self.context.holds.take(&part.key, &self.owner(), &part.ran, alone);
            }
        }
        (held.undo, held.entries) = (Some(undo), entries);
        Ok(())
    }

    /// What is stopped, or was, for people.
    pub(super) async fn shown(&self) -> String {
        let held = self.held.lock().await;
        let one = |entry: &Entry| {
            let names: Vec<&str> = entry.parts.iter().map(|part| part.ran.name.as_str()).collect();
            format!("{}: {}", entry.service.manager.word(), names.join(", "))
        };
        let all: Vec<String> = held.entries.iter().map(one).collect();
        if all.is_empty() { "no service".to_owned() } else { all.join("; ") }
    }

    /// Starts what must run for the dumps.
    ///
    /// # Errors
    /// It does not start.
    pub(super) async fn start_for_dump(&self) -> Result<()> {
        let held = self.held.lock().await;
        for entry in held.entries.iter().filter(|entry| entry.open) {
            let wanted: Vec<&Part> = entry.parts.iter().filter(|part| entry.starts_for_dump(part)).collect();
            for part in wanted.iter().rev() {
                let name = &part.ran.name;
                info!(holdfast_instance = %self.instance.name, "starting {name} for the dumps");
                let gate = self.context.holds.gate(&part.key);
                let mut stopped = gate.lock().await;
                *stopped = false;
                let reach = &entry.starter.reach;
                let started = reach.start(&part.ran, START_LIMIT).await;
                started.with_context(|| format!("{name} must run for the dumps"))?;
                let healthy = reach.healthy(&part.ran, START_LIMIT, self.live.cancelled()).await;
                healthy.with_context(|| format!("{name} must run for the dumps"))?;
            }
        }
        Ok(())
    }

    /// The dumps are made: what ran only for them is stopped again, what was stopped only until then is started.
    ///
    /// # Errors
    /// Something did not stop.
    pub(super) async fn dumped(&self) -> Result<Resumed> {
        let mut resumed = Resumed::default();
        let mut held = self.held.lock().await;
        for entry in held.entries.iter_mut().filter(|entry| entry.service.stop == StopUntil::Snapshot) {
            let names = entry.service.start_for_dump.clone();
            stop_entry(entry, self.live.cancelled(), |part| names.contains(&part.called)).await?;
        }
        let until_now = |entry: &Entry| entry.service.stop == StopUntil::Dump;
        self.resume_some(&mut held, until_now, &mut resumed).await;
        Ok(resumed)
    }

    /// Starts again what is stopped, in order; never fails, for what does not start is tried on. May be called again.
    pub(super) async fn resume(&self) -> Resumed {
        let mut resumed = Resumed::default();
        let mut held = self.held.lock().await;
        self.resume_some(&mut held, |_| true, &mut resumed).await;
        resumed
    }

    async fn resume_some(&self, held: &mut Held, which: impl Fn(&Entry) -> bool, resumed: &mut Resumed) {
        let Some(undo) = held.undo.clone() else { return };
        let mut begun = Vec::new();
        for entry in held.entries.iter_mut().rev().filter(|entry| entry.open && which(entry)) {
            entry.open = false;
            has_stopped(entry).await;
            let started = entry.starter.begin(&entry.parts, START_LIMIT).await;
            self.note_downtime(entry);
            begun.push((entry, started));
        }
        if !begun.is_empty() {
            tokio::time::sleep(SETTLE).await;
        }
        for (entry, started) in begun {
            let outcome = entry.starter.confirm(started, tries(), START_LIMIT).await;
            resumed.notes.extend(outcome.notes);
            resumed.down.extend(outcome.failed.iter().map(|(_, why)| why.clone()));
            entry.down = outcome.failed;
            // A restore's steps stay open until it stands or is undone: until then its services may have to stop again.
            if self.what_for == For::Backup {
                close(entry, &undo).await;
            }
        }
        if self.what_for == For::Backup {
            finish(&undo).await;
        }
    }

    /// A restore is to be undone: what runs on the new data is stopped once more.
    ///
    /// # Errors
    /// Something did not stop.
    pub(super) async fn stop_again(&self) -> Result<()> {
        let mut held = self.held.lock().await;
        let mut failures = Vec::new();
        for entry in &mut held.entries {
            entry.open = true;
            for part in &entry.parts {
                self.context.holds.take(&part.key, &self.owner(), &part.ran, false);
            }
            // Not with the job's own token: this must be done also when the job was cancelled.
            if let Err(failure) = stop_entry(entry, &CancellationToken::new(), |_| true).await {
                failures.push(format!("{failure:#}"));
            }
        }
        if failures.is_empty() { Ok(()) } else { bail!("{}", failures.join("; ")) }
    }

    /// A restore stands, or is undone: its services are nobody's care any more, but for those that are down.
    pub(super) async fn close(&self) {
        let mut held = self.held.lock().await;
        let Some(undo) = held.undo.clone() else { return };
        for entry in &mut held.entries {
            close(entry, &undo).await;
        }
        held.entries.clear();
        finish(&undo).await;
    }

    /// What was stopped stays so: this was asked for.
    pub(super) async fn leave_stopped(&self) {
        let mut held = self.held.lock().await;
        for entry in &mut held.entries {
            entry.open = false;
            for part in &entry.parts {
                self.context.holds.give_back(&part.key, &self.owner());
                self.context.holds.settle(&part.key);
            }
        }
    }
}

/// A job that dies leaves its services to its undo file: whoever comes meanwhile is told that they ran.
impl Drop for Quiet {
    fn drop(&mut self) {
        let owner = self.owner();
        for entry in self.held.get_mut().entries.iter().filter(|entry| entry.open) {
            for part in &entry.parts {
                self.context.holds.give_back(&part.key, &owner);
            }
        }
    }
}

/// The manager of a service of an instance.
async fn reach(instance: &Instance, service: &Service) -> Result<Reach> {
    let (user, remote) = (instance.user.as_deref(), instance.remote.as_ref());
    Reach::of(&service.manager, &service.name, user, remote).await
}
