//! From the first line to the last: build, say ready, wait for signals, drain.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use super::{Arguments, metrics, notify};
use crate::bus;
use crate::control::{self, Control, Start};
use crate::job::Dirs;
use crate::process;
use crate::state::lock::DaemonLock;

/// How often the status line is looked at while nothing happens.
const STATUS: Duration = Duration::from_secs(60);

/// Something that only a person can mend: restarting would not help.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NeedsPerson(String);

/// Runs until SIGTERM, SIGINT or the loss of the bus.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let dirs = absolute(arguments.dirs())?;
    process::ready().map_err(|why| NeedsPerson(why.to_string()))?;
    let state = dirs.state.clone();
    let _only_one = tokio::task::spawn_blocking(move || DaemonLock::take(&state)).await??;
    process::take_over(&dirs.runtime).await.context("asking systemd which service this is")?;
    // Before anything can take long: signals that come early are not lost.
    let signals = Signals::new()?;
    let starting = AbortOnDropHandle::new(tokio::spawn(notify::starting()));
    let control = control::start(Start { dirs }).await?;
    drop(starting);
    let served = bus::serve(control.clone(), &arguments.bus, CancellationToken::new()).await?;
    let restic = control.restic_version().await;
    info!("ready, restic {restic}");
    notify::ready(&status_line(&control, &restic));
    let watchdog = tokio::spawn(notify::watchdog());
    let metrics = tokio::spawn(metrics::keep(control.clone()));
    let lost = wait(&control, &served, signals, restic).await;
    drain(&control, Duration::from_secs(arguments.drain)).await;
    metrics.abort();
    watchdog.abort();
    served.stop().await;
    match lost {
        true => anyhow::bail!("the bus is gone; systemd starts the daemon again when it is back"),
        false => Ok(()),
    }
}

pub(super) fn absolute(dirs: Dirs) -> anyhow::Result<Dirs> {
    let absolute = |path: &Path| -> anyhow::Result<PathBuf> {
        std::path::absolute(path).with_context(|| format!("{} cannot be used", path.display()))
    };
    Ok(Dirs {
        config: absolute(&dirs.config)?,
        library: absolute(&dirs.library)?,
        state: absolute(&dirs.state)?,
        cache: absolute(&dirs.cache)?,
        runtime: absolute(&dirs.runtime)?,
    })
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("waiting for signals");
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            reload: on(SignalKind::hangup())?,
        })
    }
}

/// Waits for the end; true when the bus was lost.
async fn wait(control: &Control, served: &bus::Served, mut signals: Signals, mut restic: String) -> bool {
    let mut events = control.subscribe();
    let mut tick = tokio::time::interval(STATUS);
    let mut said = String::new();
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return false,
            _ = signals.interrupt.recv() => return false,
            () = served.closed() => return true,
            _ = signals.reload.recv() => reload(control, &restic).await,
            _ = tick.tick() => {}
            event = events.recv() => {
                use crate::control::Event::{DefinitionsChanged, JobNew, JobRemoved, PausedChanged};
                if !matches!(event, Ok(JobNew(_) | JobRemoved(..) | PausedChanged | DefinitionsChanged)) {
                    continue;
                }
                if matches!(event, Ok(DefinitionsChanged)) {
                    restic = control.restic_version().await;
                }
            }
        }
        let line = status_line(control, &restic);
        if line != said {
            notify::status(&line);
            said = line;
        }
    }
}

async fn reload(control: &Control, restic: &str) {
    notify::reloading();
    let diagnostics = control.reload().await;
    if !diagnostics.is_empty() {
        warn!(
            "{} findings in the definitions; what they hinder keeps its previous version",
            diagnostics.len()
        );
    }
    notify::ready(&status_line(control, restic));
}

/// `2 running, next mybackup in 3 h`, and what is not well.
fn status_line(control: &Control, restic: &str) -> String {
    let mut line = doing(control);
    if let Some(why) = restic.strip_prefix("none: ") {
        line.push_str(&format!("; no backup can run: {why}"));
    }
    if !control.history_trouble().is_empty() {
        line.push_str(&format!("; the history: {}", control.history_trouble()));
    }
    match control.findings().len() {
        0 => {}
        1 => line.push_str("; 1 finding, see holdfast status"),
        n => line.push_str(&format!("; {n} findings, see holdfast status")),
    }
    line
}

fn doing(control: &Control) -> String {
    let running = match control.active_jobs() {
        0 => "idle".to_owned(),
        n => format!("{n} running"),
    };
    if let Some(until) = control.paused() {
        let until = if until == Timestamp::MAX { "resumed".into() } else { until.to_string() };
        return format!("{running}, paused until {until}");
    }
    match control.next_backup() {
        Some((name, at)) => {
            format!("{running}, next {name} in {}", rough(at.duration_since(Timestamp::now())))
        }
        None => format!("{running}, nothing scheduled"),
    }
}

fn rough(left: jiff::SignedDuration) -> String {
    match left.as_secs() {
        s if s < 60 => "less than a minute".to_owned(),
        s if s < 3600 => format!("{} min", s / 60),
        s if s < 48 * 3600 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86400),
    }
}

/// Ends what runs, with its cleanup; what does not end in time is named and left to the undo steps.
async fn drain(control: &Control, deadline: Duration) {
    notify::stopping(deadline + Duration::from_secs(10));
    info!("stopping: {} jobs are at work and have {deadline:?} to end", control.active_jobs());
    let late = control.drain(deadline).await;
    if !late.is_empty() {
        error!("did not end in time: {}; they are put right at the next start", late.join(", "));
    }
}
