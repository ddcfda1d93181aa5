//! Programs of a module, run so that what they print reaches the journal under the job's fields.

use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::definition::Name;
use crate::process::{self, Ended, How, Limits, Program, Sign, Source, Why};
use crate::restic;
use crate::state::Phase;
use crate::target::Place;

/// How many lines of one hook go to the journal; what follows is counted.
const MAX_LINES: u64 = 10_000;
/// How long a short question such as the version may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Runs a hook to its end; each line that it prints is a line of the journal.
///
/// # Errors
/// When it cannot be started, ends with anything but 0, or is ended by time-out or cancel.
pub(super) async fn run(
    program: Program,
    name: &str,
    phase: Phase,
    cancel: &CancellationToken,
) -> anyhow::Result<()> {
    let mut lines = 0_u64;
    let listen = |source: Source, line: &[u8]| {
        lines += 1;
        if lines <= MAX_LINES {
            journal(name, phase, source, line);
        }
        Sign::Life
    };
    let ended = process::run(program, cancel, listen).await?;
    if lines > MAX_LINES {
        warn!(holdfast_phase = %phase, "{name} printed {} more lines, which are left out", lines - MAX_LINES);
    }
    judge(name, &ended)
}

fn journal(name: &str, phase: Phase, source: Source, line: &[u8]) {
    let line = process::printable(line);
    match source {
        Source::Stdout => info!(holdfast_phase = %phase, "{name}: {line}"),
        Source::Stderr => warn!(holdfast_phase = %phase, "{name}: {line}"),
    }
}

fn judge(name: &str, ended: &Ended) -> anyhow::Result<()> {
    if ended.ok() && ended.stopped.is_none() {
        return Ok(());
    }
    let tail =
        if ended.stderr_tail.is_empty() { String::new() } else { format!(": {}", ended.stderr_tail.trim()) };
    match (&ended.stopped, &ended.how) {
        (Some(Why::Cancelled), _) => Err(restic::Error::Cancelled.into()),
        (Some(Why::TimedOut), _) => {
            bail!("{name} was ended after {:?}, its hook_timeout{tail}", ended.duration)
        }
        (Some(why), _) => bail!("{name} was ended ({why:?}) after {:?}{tail}", ended.duration),
        (None, How::Exited(code)) => bail!("{name} exited with {code}{tail}"),
        (None, how @ How::Signalled(signal)) => {
            bail!("{name} was killed by signal {signal}{}{tail}", how.hint())
        }
    }
}

/// Runs the cleanup hook, if there is one. It is not cancelled with its job: it has its own time limit.
///
/// # Errors
/// As [`run`].
pub(super) async fn clean_up(place: &Place, backup: &Name) -> anyhow::Result<()> {
    let Some(program) = place.cleanup_hook(backup) else { return Ok(()) };
    run(program, "cleanup_state", Phase::Cleanup, &CancellationToken::new()).await
}

/// What is asked for an answer has less time than a hook, and no more than hooks may have.
fn answer_limit(program: &Program) -> Duration {
    program.limits.timeout.map_or(ANSWER_LIMIT, |limit| limit.min(ANSWER_LIMIT))
}

/// The JSON that a program prints.
///
/// # Errors
/// As [`run`]; and when it is none.
pub(super) async fn document(
    mut program: Program,
    name: &str,
    cancel: &CancellationToken,
) -> anyhow::Result<serde_json::Value> {
    program.limits = Limits::within(answer_limit(&program));
    let captured = process::capture(program, cancel, 1024 * 1024).await?;
    judge(name, &captured.ended)?;
    serde_json::from_slice(&captured.stdout).with_context(|| format!("{name} printed no JSON"))
}

/// The first line that a program prints.
///
/// # Errors
/// As [`run`]; and when it prints nothing.
pub(super) async fn answer(
    mut program: Program,
    name: &str,
    cancel: &CancellationToken,
) -> anyhow::Result<String> {
    program.limits = Limits::within(answer_limit(&program));
    let captured = process::capture(program, cancel, 64 * 1024).await?;
    judge(name, &captured.ended)?;
    let line = captured.stdout.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = process::printable(line).trim().to_owned();
    if line.is_empty() {
        bail!("{name} printed nothing");
    }
    Ok(line)
}
