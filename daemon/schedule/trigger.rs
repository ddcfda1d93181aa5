//! The tick: wakes the planner when something is due, and only then.
//!
//! tokio-cron-scheduler is the engine, but every decision is taken from it: as shipped it is an hour off after a change
//! of offset, loses bursts, runs jobs beside themselves and polls. It asks its storage which jobs are due; ours does
//! not answer before the planner has something. Then it names one alarm, whose code hands all that is due on at once.
//! What this leans on (the order of the engine's calls, version 0.15.1) is held by `tests/calendar/trigger.rs`.
//!
//! The engine's `add`, `remove` and `next_tick_for_job` must not be called: they wait for the lock that it holds while
//! our storage waits.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};
use jiff::Timestamp;
use rustix::io::Errno;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, RwLock};
use tokio_cron_scheduler::job::job_data::{JobStoredData, Uuid as StoredUuid};
use tokio_cron_scheduler::job::to_code::{JobCode, PinnedGetFuture, ToCode};
use tokio_cron_scheduler::job::{JobToRunAsync, job_data};
use tokio_cron_scheduler::store::{DataStore, InitStore, MetaDataStorage};
use tokio_cron_scheduler::{
    JobScheduler, JobSchedulerError, SimpleNotificationCode, SimpleNotificationStore,
};
use uuid::Uuid;

use super::planner::{Due, Planner};

/// The only job that the engine ever sees.
const ALARM: Uuid = Uuid::from_u128(0x686f_6c64_6661_7374);

/// Messages that the engine's channels hold; with a single alarm a few are enough.
const CHANNEL: usize = 16;

/// The running tick. Stop it with [`Trigger::stop`]; dropping it alone does not.
#[derive(Clone)]
pub struct Trigger {
    shared: Arc<Shared>,
    engine: JobScheduler,
}

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, JobSchedulerError>> + Send>>;

struct Shared {
    planner: Arc<Mutex<Planner>>,
    on_due: Box<dyn Fn(Vec<Due>) + Send + Sync>,
    /// Decided, not yet handed on.
    due: Mutex<Vec<Due>>,
    /// Held while something is handed on.
    turn: Mutex<()>,
    timer: AsyncFd<OwnedFd>,
    changed: Notify,
    stopped: AtomicBool,
    wakeups: AtomicU64,
}

impl Trigger {
    /// Starts the tick. `on_due` gets what the planner decides, must store it durably before acting on it, and must not
    /// block. A daemon starts one for its whole life: the engine's tasks end only with the runtime.
    ///
    /// # Errors
    /// When the timer cannot be made or the engine does not start.
    pub async fn start(
        planner: Arc<Mutex<Planner>>,
        on_due: impl Fn(Vec<Due>) + Send + Sync + 'static,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            planner,
            on_due: Box::new(on_due),
            due: Mutex::new(Vec::new()),
            turn: Mutex::new(()),
            timer: watch(timer()?).context("watching the timer of the schedule")?,
            changed: Notify::new(),
            stopped: AtomicBool::new(false),
            wakeups: AtomicU64::new(0),
        });
        let engine = JobScheduler::new_with_storage_and_code(
            Box::new(Slots { shared: Arc::clone(&shared) }),
            Box::new(SimpleNotificationStore::default()),
            Box::new(Alarm::new(&shared)),
            Box::new(SimpleNotificationCode::default()),
            CHANNEL,
        )
        .await
        .context("making the engine of the schedule")?;
        engine.start().await.context("starting the engine of the schedule")?;
        Ok(Self { shared, engine })
    }

    /// Must be called after the planner's entries changed.
    pub fn rearm(&self) {
        self.shared.changed.notify_one();
    }

    /// Ends the tick. When this returns nothing more will be handed on.
    pub async fn stop(mut self) {
        if self.engine.shutdown().await.is_err() {
            tracing::warn!("the engine of the schedule did not take its stop; it is held still instead");
        }
        self.shared.stopped.store(true, Ordering::Release);
        self.shared.changed.notify_one();
        drop(lock(&self.shared.turn));
    }

    /// How often the tick woke since its start, the start included.
    pub fn wakeups(&self) -> u64 {
        self.shared.wakeups.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Waits until something is due; false when stopped.
    async fn wait(&self) -> bool {
        while !self.stopped.load(Ordering::Acquire) {
            self.wakeups.fetch_add(1, Ordering::Relaxed);
            let (decisions, wake) = {
                let mut planner = lock(&self.planner);
                (planner.due(Timestamp::now()), planner.next_wake())
            };
            if !decisions.is_empty() {
                lock(&self.due).extend(decisions);
                return true;
            }
            if let Err(error) = self.sleep(wake).await {
                tracing::error!(%error, "the timer of the schedule failed; looking again in a minute");
                tokio::time::sleep(std::time::Duration::from_secs(60)).await;
            }
        }
        false
    }

    /// Sleeps until `wake`, a change of the entries, or a setting of the clock.
    async fn sleep(&self, wake: Option<Timestamp>) -> Result<()> {
        arm(self.timer.get_ref(), wake)?;
        tokio::select! {
            ready = self.timer.readable() => read(&self.timer, ready?),
            () = self.changed.notified() => Ok(()),
        }
    }

    /// Hands on what is due; one at a time, so that [`Trigger::stop`] can wait for its end.
    fn hand_on(&self) {
        let _turn = lock(&self.turn);
        let due = std::mem::take(&mut *lock(&self.due));
        if !due.is_empty() && !self.stopped.load(Ordering::Acquire) {
            (self.on_due)(due);
        }
    }
}

/// What a panicking holder left is used: the planner's steps are whole, and a daemon without a tick would be worse.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn timer() -> Result<OwnedFd> {
    timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)
        .context("making the timer of the schedule")
}

#[expect(deprecated, reason = "its successor is unsafe for handles that may change; an OwnedFd never does")]
fn watch(timer: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(timer, tokio::io::Interest::READABLE)
}

/// Arms the timer in wall-clock time; it also fires when the clock is set.
///
/// The time left is added to the kernel's own clock rather than the target taken as it is: under `faketime` this
/// process sees another clock than the kernel's timer.
fn arm(timer: &OwnedFd, wake: Option<Timestamp>) -> Result<()> {
    const FAR: i64 = 365 * 86_400;
    let left = wake.map_or(i128::MAX, |wake| wake.as_nanosecond() - Timestamp::now().as_nanosecond());
    let left = left.clamp(0, i128::from(FAR) * 1_000_000_000);
    let kernel = clock_gettime(ClockId::Realtime);
    let nanos = i128::from(kernel.tv_sec) * 1_000_000_000 + i128::from(kernel.tv_nsec) + left;
    let target = Timespec { tv_sec: (nanos / 1_000_000_000) as i64, tv_nsec: (nanos % 1_000_000_000) as _ };
    let spec = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: target };
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    timerfd_settime(timer, flags, &spec).context("arming the timer of the schedule")?;
    Ok(())
}

fn read(timer: &AsyncFd<OwnedFd>, mut ready: tokio::io::unix::AsyncFdReadyGuard<'_, OwnedFd>) -> Result<()> {
    let outcome = rustix::io::read(timer.get_ref(), &mut [0_u8; 8]);
    ready.clear_ready();
    match outcome {
        Ok(_) | Err(Errno::CANCELED | Errno::AGAIN | Errno::INTR) => Ok(()),
        Err(error) => Err(error).context("reading the timer of the schedule"),
    }
}

/// The engine's storage: waits where the engine means to poll.
struct Slots {
    shared: Arc<Shared>,
}

impl MetaDataStorage for Slots {
    fn list_next_ticks(&mut self) -> Answer<Vec<job_data::JobAndNextTick>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let alarm = job_data::JobAndNextTick {
                id: Some(StoredUuid::from(ALARM)),
                job_type: job_data::JobType::OneShot.into(),
                next_tick: 1, // long ago, so the engine's own clock agrees that it is due; 0 would mean: delete
                last_tick: None,
            };
            Ok(if shared.wait().await { vec![alarm] } else { Vec::new() })
        })
    }

    fn set_next_and_last_tick(
        &mut self,
        _: Uuid,
        _: Option<DateTime<Utc>>,
        _: Option<DateTime<Utc>>,
    ) -> Answer<()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn time_till_next_job(&mut self) -> Answer<Option<std::time::Duration>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

impl DataStore<JobStoredData> for Slots {
    fn get(&mut self, id: Uuid) -> Answer<Option<JobStoredData>> {
        let alarm = JobStoredData {
            id: Some(StoredUuid::from(id)),
            last_updated: None,
            last_tick: None,
            next_tick: 1,
            job_type: job_data::JobType::OneShot.into(),
            count: 0,
            extra: Vec::new(),
            ran: false,
            stopped: false,
            job: None,
            time_offset_seconds: 0,
        };
        Box::pin(std::future::ready(Ok((id == ALARM).then_some(alarm))))
    }

    fn add_or_update(&mut self, _: JobStoredData) -> Answer<()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn delete(&mut self, _: Uuid) -> Answer<()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

impl InitStore for Slots {
    fn init(&mut self) -> Answer<()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn inited(&mut self) -> Answer<bool> {
        Box::pin(std::future::ready(Ok(true)))
    }
}

/// The code of the one alarm.
struct Alarm {
    code: Arc<RwLock<Box<JobToRunAsync>>>,
}

impl Alarm {
    fn new(shared: &Arc<Shared>) -> Self {
        let shared = Arc::clone(shared);
        // Within the future, which the engine spawns: a panic there ends one hand-over, here it would end the engine.
        let code: Box<JobToRunAsync> = Box::new(move |_, _| {
            let shared = Arc::clone(&shared);
            Box::pin(async move { shared.hand_on() })
        });
        Self { code: Arc::new(RwLock::new(code)) }
    }
}

impl ToCode<Box<JobToRunAsync>> for Alarm {
    fn init(&mut self, _: &tokio_cron_scheduler::Context) -> Answer<()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn get(&mut self, id: Uuid) -> PinnedGetFuture<Box<JobToRunAsync>> {
        let code = Arc::clone(&self.code);
        Box::pin(std::future::ready(Ok((id == ALARM).then_some(code))))
    }
}

impl JobCode for Alarm {}
