//! Data of volumes that only their engine reaches: brought here as a tar, and taken back as one.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::archive::{self, Unpacked};
use crate::process::{self, Ended, How, Limits, Program, Sign, Stdout, Why};
use crate::restic;
use crate::target::{Held, TreePath, packer, tar_bytes};

/// What stays free on the disk that a volume is brought to, in bytes.
const RESERVE: u64 = 256 << 20;
/// The time between two steps of ending a helper.
const GRACE: Duration = Duration::from_secs(5);
/// How long an undo step may take without a sign of life.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// How long nothing may happen, and what ends it.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) stall: Duration,
    pub(super) cancel: CancellationToken,
}

impl Terms {
    /// For what must be done whatever was cancelled.
    pub(super) fn last() -> Self {
        Self { stall: PATIENCE, cancel: CancellationToken::new() }
    }
}

/// All of a volume as it was before something replaced it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Was {
    /// The volume.
    pub held: Held,
    /// The directory that holds what it held.
    pub data: TreePath,
}

/// Brings all of a volume into a new directory. Answers with what is not as it was in it.
///
/// # Errors
/// The engine's, the disk's, or a stream that is not whole; then the directory is worth nothing.
pub(super) async fn pull(held: &Held, into: &Path, terms: &Terms) -> Result<Vec<String>> {
    let bringing = || format!("bringing {} here", held.shown());
    let image = held.image(&terms.cancel).await.with_context(bringing)?;
    let (from, to) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut program = limited(held.reader(&image)?, terms);
    program.stdout = Stdout::File(to);
    let stop = terms.cancel.child_token();
    let unpacking = async {
        let unpacked = unpack(from, into, terms.stall, &stop).await;
        if unpacked.is_err() {
            stop.cancel();
        }
        unpacked
    };
    let (unpacked, ended) = tokio::join!(unpacking, process::run(program, &stop, |_, _| Sign::Life));
    ensure!(!terms.cancel.is_cancelled(), restic::Error::Cancelled);
    let ended = ended.with_context(bringing)?;
    // Which of the two failed first: who is cut off fails as well.
    let unpacked = match (unpacked, read_well(&ended)) {
        (Ok(unpacked), Ok(())) => unpacked,
        (Err(failure), Ok(())) => return Err(failure.context(bringing())),
        (Err(failure), Err(_)) if ended.stopped.is_some() => return Err(failure.context(bringing())),
        (_, Err(failure)) => return Err(failure.context(bringing())),
    };
    info!("brought {} here: {} files, {} bytes", held.shown(), unpacked.files, unpacked.bytes);
    let mut notes: Vec<String> =
        unpacked.left_out.iter().map(|what| format!("left out of {}: {what}", held.shown())).collect();
    if ended.how == How::Exited(1) {
        notes.push(format!("{} changed while it was read: {}", held.shown(), ended.stderr_tail.trim()));
    }
    Ok(notes)
}

/// tar exits with 1 where a file changed or vanished meanwhile; its stream is whole then.
fn read_well(ended: &Ended) -> Result<()> {
    let changed = ended.how == How::Exited(1) && ended.stderr_tail.contains("file changed as we read it");
    let gone = ended.how == How::Exited(1) && ended.stderr_tail.contains("File removed before we read it");
    if ended.stopped.is_none() && (ended.ok() || changed || gone) {
        return Ok(());
    }
    Err(failed(ended))
}

async fn unpack(from: OwnedFd, into: &Path, stall: Duration, stop: &CancellationToken) -> Result<Unpacked> {
    let terms = archive::Terms { cancel: stop.clone(), stall, reserve: RESERVE };
    let into = into.to_owned();
    tokio::task::spawn_blocking(move || {
        archive::unpack(from, &into, &terms, |_| ()).context("what came of it is no whole tar")
    })
    .await?
}

/// Replaces all that a volume holds by what is in a directory, but for names that are ours.
///
/// # Errors
/// The engine's or the volume's; then it may hold anything.
pub(super) async fn push(held: &Held, from: &Path, but: &str, terms: &Terms) -> Result<()> {
    let filling = || format!("filling {}", held.shown());
    let image = held.image(&terms.cancel).await.with_context(filling)?;
    let (packer, writer) = (limited(packer(from, but)?, terms), limited(held.writer(&image)?, terms));
    let (packed, written) = process::pair(packer, writer, &terms.cancel).await?;
    ensure!(!terms.cancel.is_cancelled(), restic::Error::Cancelled);
    let (packed, written) = (packed.with_context(filling)?, written.with_context(filling)?);
    if !written.ok() && written.stopped.is_none() {
        return Err(failed(&written).context(filling()));
    }
    if !packed.ok() {
        return Err(failed(&packed).context(format!("packing {}", from.display())).context(filling()));
    }
    ensure!(written.ok(), "{}: {}", filling(), failed(&written));
    let (sent, came) = (tar_bytes(&packed), tar_bytes(&written));
    ensure!(sent.is_some() && sent == came, "{}: {sent:?} bytes were sent and {came:?} came", filling());
    // Where it lies only its engine knows: so all of the machine, before it is said to be there.
    tokio::task::spawn_blocking(rustix::fs::sync).await?;
    info!("filled {} with {} bytes", held.shown(), sent.unwrap_or_default());
    Ok(())
}

fn limited(mut program: Program, terms: &Terms) -> Program {
    program.limits = Limits { stall: Some(terms.stall), work_counts: true, grace: GRACE, ..Limits::NONE };
    program
}

fn failed(ended: &Ended) -> anyhow::Error {
    let said = ended.stderr_tail.trim();
    match (ended.stopped, ended.how) {
        (Some(Why::Stalled), _) => anyhow!("nothing happened any more: {said}"),
        (Some(why), _) => anyhow!("it was ended ({why:?}): {said}"),
        (None, How::Exited(code)) => anyhow!("it exited with {code}: {said}"),
        (None, How::Signalled(signal)) => anyhow!("it was killed by signal {signal}: {said}"),
    }
}

/// A new 0700 directory, with those above it.
pub(super) async fn new_dir(dir: &Path) -> Result<()> {
    let dir = dir.to_owned();
    tokio::task::spawn_blocking(move || crate::state::durable::create_dir(&dir, 0o700)).await?
}

/// Has all that was brought into a directory written to the disk: from here on it is all that the volume held.
async fn settle(dir: &Path) -> Result<()> {
    let dir = dir.to_owned();
    tokio::task::spawn_blocking(move || crate::state::durable::settle(&dir)).await?
}

impl Was {
    /// Brings what a volume holds into a directory that exists and is empty, so that it can be put back.
    ///
    /// # Errors
    /// As [`pull`]; and what could not be brought, for it would be lost.
    pub(super) async fn take(held: &Held, data: &Path, terms: &Terms) -> Result<Self> {
        let notes = pull(held, data, terms).await?;
        if let Some(note) = notes.iter().find(|note| note.starts_with("left out of")) {
            bail!(
                "{note}: it cannot be kept, and would be lost; remove it, or restore into a directory with target"
            );
        }
        notes.iter().for_each(|note| warn!("{note}"));
        settle(data).await?;
        Ok(Self { held: held.clone(), data: TreePath(data.to_owned()) })
    }

    /// Puts it back. Safe to repeat.
    ///
    /// # Errors
    /// As [`push`].
    pub(super) async fn put_back(&self) -> Result<()> {
        warn!(holdfast_instance = %self.held.instance, "putting back {}", self.held.shown());
        push(&self.held, &self.data.0, NOTHING, &Terms::last()).await
    }
}

/// A name that nothing has.
const NOTHING: &str = ".holdfast-nothing";

/// Executes a step that a dead job left.
pub(super) async fn execute(was: &serde_json::Value) -> Result<()> {
    let was: Was = serde_json::from_value(was.clone()).context("a volume of another version")?;
    was.put_back().await
}

/// Where an undo step says that the data is.
pub(super) fn data_of(was: &serde_json::Value) -> Option<PathBuf> {
    serde_json::from_value::<Was>(was.clone()).ok().map(|was| was.data.0)
}
