//! The daemon's first steps, in the order in which they must happen: what dead jobs left is put right before anything
//! else may start.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, RwLock};

use anyhow::Context as _;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::broadcast;
use tracing::{error, info, warn};

use super::{Active, Control, Inner, events};
use crate::config;
use crate::job::{Context, Dirs, Holds, Jobs, undo};
use crate::queue::Queue;
use crate::schedule::{Planner, Trigger, ZoneWatch};
use crate::state::{Database, Opened, durable};

/// What [`start`] needs to know.
pub struct Start {
    /// Where things are kept; absolute.
    pub dirs: Dirs,
}

/// How many days of history are kept, and how many jobs at least.
const HISTORY: (i64, usize) = (400, 1000);

/// Builds everything below the bus, puts right what dead jobs left, and starts the schedule.
///
/// # Errors
/// When a directory cannot be used or no thread can be had. Bad definitions are no error: they are unusable, and said.
pub async fn start(start: Start) -> anyhow::Result<Control> {
    let control = build(start).await?;
    put_right(&control).await;
    tokio::spawn(events::forward(control.clone()));
    tokio::spawn(control.clone().watch_kept());
    tokio::spawn(control.clone().watch_stacks());
    tokio::spawn(control.clone().watch_catalogs());
    control.plan().await.context("planning slots")?;
    control.run_owed().await;
    begin_schedule(&control).await?;
    let restored = control.restore_as_asked().await;
    tokio::spawn(control.clone().start_and_watch(restored));
    tokio::spawn(control.clone().save_new_versions());
    Ok(control)
}

/// The same without a schedule: nothing begins by itself.
///
/// # Errors
/// As [`start`].
pub async fn alone(start: Start) -> anyhow::Result<Control> {
    let control = build(start).await?;
    put_right(&control).await;
    tokio::spawn(events::forward(control.clone()));
    Ok(control)
}

async fn build(start: Start) -> anyhow::Result<Control> {
    let dirs = start.dirs;
    make_dirs(dirs.clone()).await?;
    let state = dirs.state.clone();
    let opened = tokio::task::spawn_blocking(move || Database::open(&state, Timestamp::now())).await?;
    let (database, how) = opened.context("opening the history")?;
    let history_trouble = match how {
        Opened::Fresh | Opened::Existing => String::new(),
        bad => bad.to_string(),
    };
    if !history_trouble.is_empty() {
        warn!("{history_trouble}");
    }
    let environment = environment(&dirs)?;
    let config_dirs = config::Dirs { config: dirs.config.clone(), modules: dirs.library.clone() };
    let (asked, known) = (config_dirs.clone(), environment.clone());
    let loaded = tokio::task::spawn_blocking(move || config::load(&asked, &known, None)).await?;
    loaded.diagnostics.iter().for_each(|diagnostic| error!("{diagnostic}"));
    let daemon = &loaded.definitions.daemon;
    let queue = Queue::new(daemon.max_parallel, dirs.state.join("locks"));
    let paused = database.meta("paused-until").await?.and_then(|text| text.parse().ok());
    Ok(Control(Arc::new(Inner {
        jobs: Jobs::new(database.clone()),
        planner: Arc::new(Mutex::new(Planner::new(&daemon.host))),
        context: Context { dirs, database, queue, holds: Holds::default() },
        config_dirs,
        environment,
        history_trouble,
        active: RwLock::new(Active::new(loaded)),
        changing: tokio::sync::Mutex::default(),
        discovering: tokio::sync::Mutex::default(),
        stacks_changed: tokio::sync::Notify::new(),
        stacks_written: AtomicU64::new(0),
        stacks_read: AtomicU64::new(0),
        events: broadcast::channel(8192).0,
        trigger: std::sync::OnceLock::new(),
        paused: Mutex::new(paused),
        held: Mutex::default(),
        owing: tokio::sync::Mutex::default(),
        stopping: AtomicBool::new(false),
        began: std::time::Instant::now(),
    })))
}

async fn make_dirs(dirs: Dirs) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(move || {
        for dir in [&dirs.state, &dirs.cache, &dirs.runtime, &dirs.tools()] {
            durable::create_dir(dir, 0o700)?;
        }
        link_tools(&dirs)
    })
    .await?
}

/// `redis-dump` and `redis-restore` are the client under other names; hooks of any user must be able to run them.
fn link_tools(dirs: &Dirs) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let client = std::env::current_exe()?.with_file_name("holdfast");
    for dir in [&dirs.runtime, &dirs.tools()] {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o711))?;
    }
    for name in ["redis-dump", "redis-restore"] {
        let link = dirs.tools().join(name);
        match std::fs::remove_file(&link) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).context("replacing a program for hooks");
            }
            _ => std::os::unix::fs::symlink(&client, &link).context("linking programs for hooks")?,
        }
    }
    Ok(())
}

/// What definitions depend on beside their text.
///
/// # Errors
/// The host's name is not text.
pub(crate) fn environment(dirs: &Dirs) -> anyhow::Result<config::Environment> {
    let name = rustix::system::uname();
    Ok(config::Environment {
        host: name.nodename().to_str().context("the host name is not text; set daemon.host")?.to_owned(),
        zone: TimeZone::system(),
        state_dir: dirs.state.clone(),
        cache_dir: dirs.cache.clone(),
        uid: rustix::process::geteuid().as_raw(),
        cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    })
}

/// Undo steps first, then the records: afterwards nothing is shown running and nothing is left lying about.
async fn put_right(control: &Control) {
    let (context, definitions) = (&control.0.context, control.definitions());
    if undo::run_pending(context, &definitions).await.removed_files {
        read_again(control).await;
    }
    match context.database.interrupt_unfinished(Timestamp::now()).await {
        Ok(interrupted) => interrupted.iter().for_each(|job| {
            warn!(
                MESSAGE_ID = crate::job::message::INTERRUPTED,
                holdfast_job = %job.id,
                holdfast_outcome = "interrupted",
                "{} job {} of {} was interrupted by the end of the daemon", job.kind, job.id, job.subject
            );
        }),
        Err(failure) => error!("unfinished jobs could not be marked as interrupted: {failure:#}"),
    }
    clear_staging(context, &definitions.daemon.staging_dir).await;
    tidy_history(control).await;
}

/// The definition of an instance that did not come to be was removed just now.
async fn read_again(control: &Control) {
    let (dirs, environment) = (control.0.config_dirs.clone(), control.0.environment.clone());
    match tokio::task::spawn_blocking(move || config::load(&dirs, &environment, None)).await {
        Ok(loaded) => {
            *control.0.active.write().unwrap_or_else(std::sync::PoisonError::into_inner) =
                Active::new(loaded);
        }
        Err(death) => error!("reading the definitions again: {death}"),
    }
}

async fn clear_staging(context: &crate::job::Context, staging: &std::path::Path) {
    let (staging, undo) = (staging.to_owned(), context.dirs.undo());
    let cleared = tokio::task::spawn_blocking(move || {
        // Another machine, or an engine, may still have to answer before a job's steps are done.
        crate::target::clear_all(&staging, &undo::awaited_dirs(&undo))
    });
    let cleared = cleared.await;
    match cleared {
        Ok(Ok((removed, left))) => {
            removed
                .iter()
                .for_each(|name| info!("removed the staging directory that a dead job of {name} left"));
            left.iter().for_each(|what| warn!("left as it is: {what}"));
        }
        Ok(Err(failure)) => warn!("staging could not be cleared: {failure:#}"),
        Err(death) => error!("clearing staging: {death}"),
    }
}

async fn tidy_history(control: &Control) {
    let (days, least) = HISTORY;
    let before = Timestamp::now() - jiff::SignedDuration::from_hours(24 * days);
    if let Err(failure) = control.0.context.database.delete_old_jobs(before, least).await {
        warn!("old history could not be removed: {failure:#}");
    }
}

/// Zone data or the machine's zone changed: the same definitions mean other instants now.
async fn watch_zones(control: Control, mut zones: ZoneWatch) {
    loop {
        match zones.changed().await {
            Ok(()) => {
                info!("time zones have changed: slots are planned anew");
                control.reload().await;
            }
            Err(failure) => return warn!("time zones are no longer watched: {failure:#}"),
        }
    }
}

async fn begin_schedule(control: &Control) -> anyhow::Result<()> {
    let due = control.clone();
    let trigger = Trigger::start(Arc::clone(&control.0.planner), move |slots| due.due(slots)).await?;
    let _ = control.0.trigger.set(trigger);
    match ZoneWatch::new() {
        Ok(zones) => drop(tokio::spawn(watch_zones(control.clone(), zones))),
        Err(failure) => warn!("changes of time zones are only noticed at a reload: {failure:#}"),
    }
    if let Some(until) = control.paused() {
        info!("paused until {until}");
        control.resume_at(until);
    }
    Ok(())
}
