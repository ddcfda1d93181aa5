//! The verb that recovers, and the watch over units that may fail.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::run::ticket;
use super::{Control, Error, ErrorKind, Event, RecoverOptions, Result};
use crate::definition::{Instance, Recovery};
use crate::job::recover::{self, Bound, bound};
use crate::restic::Terms;
use crate::service_control::failure::{self, Condition};
use crate::state::{Kind, Outcome};

/// How often a unit is looked at, whatever its manager tells.
const LOOK: Duration = Duration::from_secs(30);
/// How long nothing is tried again where nothing could be done; it doubles each time.
const REST: Duration = Duration::from_secs(300);
/// The longest of that.
const LONGEST_REST: Duration = Duration::from_secs(3_600);
/// How long a unit may take to start that was restored before.
const START: Duration = Duration::from_secs(300);
/// How long a repository may take to say which sets it has, before what is known of it must do.
const ASKED: Duration = Duration::from_secs(30);
/// Of an instance one recovery begins at a time: the watch and an `OnFailure=` unit ask in the same moment. Others do
/// not wait for its guard.
static BEGINNING: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>> = Mutex::new(BTreeMap::new());

impl Control {
    /// Starts a recovery, or answers with the one that is at work.
    ///
    /// # Errors
    /// The instance is not defined or has no `[recovery]`, its guard says no, none of its repositories can be read, or
    /// a restore of it has not ended. Nothing was started then.
    pub async fn recover(&self, name: &str, options: RecoverOptions, cause: &str) -> Result<String> {
        let instance = self.known_instance(name)?;
        let recovery = recovery_of(&instance)?;
        let gate = {
            let mut gates = BEGINNING.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(gates.entry(name.to_owned()).or_default())
        };
        let _beginning = gate.lock().await;
        if let Some(id) = self.0.jobs.is_active(Kind::Recover, name) {
            return Ok(id);
        }
        self.not_at_work(name)?;
        if !recover::guarded(&self.0.context, &instance, &recovery).await? {
            let text = format!("the guard of {name} says that it is too early; ask again later");
            return Err(Error::new(ErrorKind::Busy, text));
        }
        let terms = Terms::new(&CancellationToken::new()).question(ASKED);
        let sets = self.sets_told_by(name, &terms).await?;
        let request = recover::Request {
            definitions: self.definitions(),
            uuid: self.identity_of(&instance).await?,
            save_failed: options.save_failed.unwrap_or(recovery.save_failed),
            start: !options.no_start,
            acknowledge: options.acknowledge,
            instance,
            recovery,
            sets,
        };
        let context = self.0.context.clone();
        let work = |live| recover::run(context, live, request);
        let id = self.0.jobs.start(ticket(Kind::Recover, name, cause), work).await?;
        self.expire_kept_after(&id);
        Ok(id)
    }

    /// Watches the units of all instances with `[recovery]`, for as long as the daemon lives.
    async fn watch_units(self, stay: Arc<BTreeMap<String, SystemTime>>) {
        let mut events = self.subscribe();
        loop {
            let mut watches = JoinSet::new();
            for instance in self.definitions().instances.values().filter(|i| i.recovery.is_some()) {
                watches.spawn(self.clone().watch_unit(Arc::clone(instance), Arc::clone(&stay)));
            }
            loop {
                match events.recv().await {
                    Ok(Event::DefinitionsChanged | Event::PausedChanged) | Err(RecvError::Lagged(_)) => break,
                    Ok(_) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        }
    }

    /// Restores what marker files ask for, before the daemon says that it is ready: units ordered after it wait for that.
    /// For the same reason nothing is started yet; the units that are to be are given back.
    pub(super) async fn restore_as_asked(&self) -> Answered {
        let context = &self.0.context;
        let mut answered = Answered::default();
        for instance in self.definitions().instances.values() {
            let Some(recovery) =
                instance.recovery.as_ref().filter(|_| recover::asked_at(context, &instance.name).is_some())
            else {
                continue;
            };
            match self.restore_one_asked(instance).await {
                Ok(true) => answered.restored.push(recovery.unit.clone()),
                Ok(false) => {}
                Err(failure) => {
                    warn!(holdfast_instance = %instance.name, "{failure:#}");
                    let laid = recover::asked_at(context, &instance.name);
                    answered.stay.extend(laid.map(|at| (instance.name.to_string(), at)));
                }
            }
        }
        answered
    }

    async fn restore_one_asked(&self, instance: &Instance) -> anyhow::Result<bool> {
        let (context, name) = (&self.0.context, &instance.name);
        info!(holdfast_instance = %name, "a marker asks for a recovery of {name}");
        let options = RecoverOptions { no_start: true, ..RecoverOptions::default() };
        let restored = match self.recover(name, options, "marker").await {
            Ok(id) => {
                self.end_of(&id).await;
                self.job(&id).is_some_and(|job| job.record.outcome == Some(Outcome::Succeeded))
            }
            Err(early) if early.kind == ErrorKind::Busy => {
                anyhow::bail!("{}; the marker stays", early.message)
            }
            Err(refused) => {
                recover::refused(context, name, &refused.message).await;
                false
            }
        };
        recover::answered(context, name).await?;
        Ok(restored)
    }

    /// Starts what was restored as asked, then watches.
    pub(super) async fn start_and_watch(self, answered: Answered) {
        for unit in answered.restored {
            if let Err(failure) = failure::start(&unit, START).await {
                warn!("{unit}: {failure:#}");
            }
        }
        self.watch_units(Arc::new(answered.stay)).await;
    }

    /// A marker that came too early at our start is over once the unit runs: at a later start it would bring old data
    /// back over what that unit made since. One that was laid since then stays.
    async fn end_early_marker(&self, instance: &Instance, stay: &BTreeMap<String, SystemTime>) {
        let (context, name) = (&self.0.context, &instance.name);
        if !stay.contains_key(name.as_str())
            || recover::asked_at(context, name) != stay.get(name.as_str()).copied()
        {
            return;
        }
        if let Err(failure) = recover::not_needed(context, name).await {
            warn!(holdfast_instance = %name, "{failure:#}");
        }
    }

    async fn watch_unit(self, instance: Arc<Instance>, stay: Arc<BTreeMap<String, SystemTime>>) {
        let Some(recovery) = &instance.recovery else { return };
        let mut rests = Rests::default();
        let mut cut_off = self.was_cut_off(&instance).await;
        loop {
            let known = self.look_after(&instance, recovery, &mut rests, cut_off).await;
            cut_off = false;
            if matches!(known, Ok(Condition::Active)) {
                self.end_early_marker(&instance, &stay).await;
            }
            match known {
                Ok(known) => tokio::select! {
                    changed = failure::changed(&recovery.unit, known) => {
                        if let Err(failure) = changed {
                            warn!("{} is looked at every {LOOK:?}: {failure:#}", recovery.unit);
                            tokio::time::sleep(LOOK).await;
                        }
                    }
                    () = tokio::time::sleep(LOOK) => {}
                },
                Err(failure) => {
                    warn!(holdfast_instance = %instance.name, "{} is not watched now: {failure:#}", recovery.unit);
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    }

    /// Whether the last recovery was cut off: perhaps between restore and start, where the unit has not failed.
    async fn was_cut_off(&self, instance: &Arc<Instance>) -> bool {
        let last = self.0.context.database.last_finished(Kind::Recover, &instance.name).await;
        let interrupted =
            last.is_ok_and(|last| last.is_some_and(|job| job.outcome == Some(Outcome::Interrupted)));
        let Ok(uuid) = self.identity_of(instance).await else { return false };
        let past = recover::remembered(&self.0.context, uuid).await.unwrap_or_default();
        // One that was to start nothing left nothing to be started.
        interrupted && past.attempts.last().is_some_and(|last| !last.over && !last.no_start)
    }

    /// Recovers for as long as the unit fails and something can be done.
    async fn look_after(
        &self,
        instance: &Arc<Instance>,
        recovery: &Recovery,
        rests: &mut Rests,
        cut_off: bool,
    ) -> anyhow::Result<Condition> {
        loop {
            let condition = failure::condition(&recovery.unit).await?;
            if condition == Condition::Active {
                *rests = Rests::default();
                if cut_off {
                    let uuid = self.identity_of(instance).await.map_err(|e| anyhow::anyhow!(e.message))?;
                    recover::finish(&self.0.context, instance, recovery, uuid).await?;
                }
            }
            let fails = condition == Condition::Failed || cut_off && condition == Condition::Inactive;
            if !fails || self.paused().is_some() || rests.until.is_some_and(|end| Instant::now() < end) {
                return Ok(condition);
            }
            let uuid = self.identity_of(instance).await.map_err(|e| anyhow::anyhow!(e.message))?;
            let before = recover::remembered(&self.0.context, uuid).await?;
            if matches!(bound(recovery, &before, Timestamp::now()), Bound::CoolDown(_)) {
                return Ok(condition);
            }
            let queued;
            match self.recover(&instance.name, RecoverOptions::default(), "recovery").await {
                Ok(id) => {
                    queued = self.job(&id).map(|job| job.record.queued);
                    self.end_of(&id).await;
                }
                Err(early) if early.kind == ErrorKind::Busy => {
                    info!(holdfast_instance = %instance.name, "{} has failed: {}", recovery.unit, early.message);
                    return Ok(condition);
                }
                Err(refused) => {
                    recover::refused(&self.0.context, &instance.name, &refused.message).await;
                    rests.begin();
                    return Ok(condition);
                }
            }
            let after = recover::remembered(&self.0.context, uuid).await?;
            // Somebody else may have asked for it: whether the job tried a set counts, not whether we saw it begin.
            let tried = queued.is_some_and(|at| after.attempts.iter().any(|attempt| attempt.at >= at));
            if !tried || cut_off {
                if !cut_off {
                    rests.begin();
                }
                return failure::condition(&recovery.unit).await;
            }
        }
    }

    /// Returns when a job has ended.
    async fn end_of(&self, id: &str) {
        let mut events = self.0.jobs.subscribe();
        while self.0.jobs.active().iter().any(|live| live.id() == id) {
            if let Err(RecvError::Closed) = events.recv().await {
                return;
            }
        }
    }
}

/// What came of the markers that were there at the start.
#[derive(Default)]
pub(super) struct Answered {
    /// Units to be started: their data is restored.
    restored: Vec<String>,
    /// Instances whose markers stay, and when those were laid: it was too early.
    stay: BTreeMap<String, SystemTime>,
}

/// Nothing could be done: it is not tried again at once, and less often the longer that lasts.
#[derive(Default)]
struct Rests {
    until: Option<Instant>,
    last: Duration,
}

impl Rests {
    fn begin(&mut self) {
        self.last = (self.last * 2).clamp(REST, LONGEST_REST);
        self.until = Some(Instant::now() + self.last);
    }
}

fn recovery_of(instance: &Instance) -> Result<Recovery> {
    instance.recovery.clone().ok_or_else(|| {
        let text = format!(
            "instance {name} has no [recovery]; write [instance.{name}.recovery] with unit = \"NAME.service\", or use \
             `holdfast restore {name}`",
            name = instance.name
        );
        Error::new(ErrorKind::InvalidArgument, text)
    })
}
