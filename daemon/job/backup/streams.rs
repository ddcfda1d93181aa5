//! Streamed dumps: what a dump's program prints goes into one restic per repository while it comes, and is never staged.
//!
//! Each stream becomes a snapshot of its own (`kind=stream`), which is nothing until the snapshot of the tree, with the
//! manifest that names it, commits the set. restic's input is ended only when the dump's program exited with 0 and the
//! end of its dump was seen; otherwise restic hears SIGINT first. If we die, restic meets an error (see [`Feed`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, info, warn};

use super::Shared;
use super::instance::Ready;
use super::snapshot::{passes, pause, tags};
use crate::definition::{Dump, Name, Repository};
use crate::dump::{Object, Record, Site, Stream, missing};
use crate::job::live::append;
use crate::job::repository::{self, Location, Opened};
use crate::job::sets;
use crate::process::{Feed, Hunger, Stdin};
use crate::queue::Guard;
use crate::restic::{self, BackupSummary, Progress, StreamRequest};

/// How long restic has to act on a signal before its input moves. Without a signal it would keep what it has (0.18, 0.19:
/// nothing of the file).
const LISTENS: Duration = Duration::from_secs(1);

/// What was streamed.
#[derive(Default)]
pub(super) struct Streamed {
    /// One for each file and repository.
    pub(super) records: Vec<Record>,
    /// What was noticed and is no failure.
    pub(super) warnings: BTreeSet<String>,
    /// Repositories that did not take all of it: no set can be there, and their units say so.
    pub(super) lost: BTreeSet<Name>,
    /// How much lies in each repository, by its name.
    pub(super) sums: BTreeMap<String, Sum>,
}

/// What was streamed into one repository.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    pub(super) bytes: u64,
    pub(super) files: u64,
    pub(super) added: u64,
}

/// One repository that is to take the streams.
struct Target {
    repository: Arc<Repository>,
    /// None: it could not be opened.
    opened: Option<(Opened, Option<Guard>)>,
    records: Vec<Record>,
    sum: Sum,
    failure: Option<anyhow::Error>,
}

/// A restic at work.
struct Taker {
    cancel: CancellationToken,
    task: JoinHandle<Result<BackupSummary, restic::Error>>,
}

/// Streams all dumps that are to be streamed into all repositories. One repository that fails, and may take it later, is
/// given a dump of its own then.
///
/// # Errors
/// A dump failed: then there is no set.
pub(super) async fn take(shared: &Shared, ready: &Ready) -> Result<Streamed> {
    let mut streamed = Streamed::default();
    let dumps: Vec<&Dump> = ready.instance.dumps.iter().filter(|dump| dump.stream).collect();
    let mut wanted = shared.request.backup.repositories.clone();
    wanted.retain(|_| !dumps.is_empty());
    let retry = shared.request.backup.retry;
    let mut delay = retry.delay;
    // With services stopped nothing is tried for long.
    let stopped = ready.slot.get().is_some();
    for left in (0..=retry.attempts).rev() {
        if wanted.is_empty() {
            break;
        }
        let targets = round(shared, ready, &dumps, &wanted, &mut streamed.warnings).await?;
        wanted.clear();
        let mut last = None;
        for target in targets {
            let name = target.repository.name.clone();
            match target.failure {
                None => streamed.keep(&name, target.records, target.sum),
                Some(failure) if left > 0 && !stopped && passes(shared, &failure, delay) => {
                    wanted.push(name);
                    last = Some(failure);
                }
                Some(failure) => streamed.lose(shared, ready, name, &failure),
            }
        }
        if let Some(failure) = last {
            pause(shared, &ready.instance.name, delay, &failure).await;
            delay = delay.saturating_mul(2);
        }
    }
    Ok(streamed)
}

impl Streamed {
    fn keep(&mut self, name: &Name, records: Vec<Record>, sum: Sum) {
        self.records.extend(records);
        self.sums.insert(name.to_string(), sum);
    }

    fn lose(&mut self, shared: &Shared, ready: &Ready, name: Name, failure: &anyhow::Error) {
        let (outcome, text) = shared.live.verdict(failure);
        error!(holdfast_repository = %name, holdfast_phase = "dump", holdfast_outcome = %outcome,
            "no streams of {} in {name}, so no snapshot: {text}", ready.instance.name);
        shared.live.unit(&ready.instance.name, &name, |unit| {
            unit.outcome = Some(outcome);
            append(&mut unit.error, &text);
        });
        self.lost.insert(name);
    }
}

/// One dump of everything, into the repositories that still want it.
async fn round(
    shared: &Shared,
    ready: &Ready,
    dumps: &[&Dump],
    wanted: &[Name],
    warnings: &mut BTreeSet<String>,
) -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    for name in wanted {
        targets.push(target(shared, ready, repository::defined(&shared.request.definitions, name)?).await);
    }
    // The copies go side by side at the pace of the slowest: for the cap they are one.
    let wait = |reason| shared.live.waits(&ready.instance.name, reason);
    let _permit = match ready.slot.get() {
        Some(_) => None,
        None => Some(shared.context.queue.permit(&shared.live.caller(), wait).await?),
    };
    for dump in dumps {
        let taken = one(shared, ready, dump, &mut targets).await;
        let taken = taken.with_context(|| format!("dump {} failed, so no snapshot was taken", dump.name))?;
        warnings.extend(taken.into_iter().map(|text| format!("dump {}: {text}", dump.name)));
    }
    Ok(targets)
}

async fn target(shared: &Shared, ready: &Ready, repository: &Arc<Repository>) -> Target {
    let opened = open(shared, ready, repository).await;
    let (opened, failure) = match opened {
        Ok(opened) => (Some(opened), None),
        Err(failure) => (None, Some(failure)),
    };
    let repository = Arc::clone(repository);
    Target { repository, opened, records: Vec::new(), sum: Sum::default(), failure }
}

/// Opens a repository and shares it with others until the streams are there.
async fn open(
    shared: &Shared,
    ready: &Ready,
    repository: &Arc<Repository>,
) -> Result<(Opened, Option<Guard>)> {
    let Shared { context, live, restic, undo, .. } = shared;
    let place = Location::of(repository, &ready.instance, ready.uuid);
    let terms = live.terms(ready.instance.stall_timeout);
    let opened = repository::open(context, restic, repository, place, &terms).await?;
    let wait = |reason| live.waits(&format!("{}/{}", ready.instance.name, repository.name), reason);
    let share = match ready.slot.get().is_some_and(|slot| slot.shares(&repository.name)) {
        true => None,
        false => Some(context.queue.share(&opened.key, &repository.name, &live.caller(), wait).await?),
    };
    repository::write_lock_down(undo, &opened).await?;
    sets::note_streams(context, &repository.name, &opened.location).await?;
    Ok((opened, share))
}

/// One dump into all targets that live. Warnings come back.
async fn one(shared: &Shared, ready: &Ready, dump: &Dump, targets: &mut [Target]) -> Result<Vec<String>> {
    let site = Site::open(&ready.place, dump, &shared.context.dirs.runtime, shared.live.cancelled()).await?;
    let objects = site.objects().await?;
    let mut warnings = objects.warnings;
    for object in objects.list {
        ensure!(!shared.live.cancelled().is_cancelled(), restic::Error::Cancelled);
        if targets.iter().all(|target| target.failure.is_some()) {
            break;
        }
        let (what, optional) = (object.what.clone(), object.optional);
        match self::object(shared, ready, &site, object, targets).await {
            Err(failure) if optional => warnings.push(missing(&what, &failure)),
            done => done.with_context(|| format!("dumping {what}"))?,
        }
    }
    Ok(warnings)
}

/// One object into all targets that live.
async fn object(
    shared: &Shared,
    ready: &Ready,
    site: &Site,
    object: Object,
    targets: &mut [Target],
) -> Result<()> {
    let (mut feeds, mut takers) = (Vec::new(), Vec::new());
    for target in targets.iter().filter(|target| target.failure.is_none()) {
        let (feed, input) = Feed::new()?;
        takers.push(target.begin(shared, ready, &object.record, feed.hunger(), input)?);
        feeds.push(Some(feed));
    }
    let poured = object.pour(site, &mut feeds).await;
    match &poured {
        Ok(_) => feeds.iter().flatten().for_each(|feed| drop(feed.end())),
        Err(_) => takers.iter().for_each(|taker| taker.cancel.cancel()),
    }
    let alive = feeds.iter().any(Option::is_some);
    let living = targets.iter_mut().filter(|target| target.failure.is_none());
    for ((target, taker), feed) in living.zip(takers).zip(feeds) {
        let refused = feed.is_none();
        let ended = taker.end(feed, poured.is_ok()).await;
        match (&poured, ended) {
            (Ok(record), Ok(summary)) if !refused => target.took(shared, record, summary),
            (Err(_), _) if !refused => {}
            (_, Err(failure)) => target.failure = Some(failure),
            (_, Ok(_)) => target.failure = Some(anyhow!("restic ended before it had taken all")),
        }
    }
    // Where no repository was left, that is what failed.
    poured.map(drop).or_else(|failure| if alive { Err(failure) } else { Ok(()) })
}

impl Target {
    /// Starts a restic that reads from `input`.
    fn begin(
        &self,
        shared: &Shared,
        ready: &Ready,
        record: &Record,
        hunger: Hunger,
        input: Stdin,
    ) -> Result<Taker> {
        let (opened, _) = self.opened.as_ref().context("a repository is not open")?;
        let mut tags = tags(shared, ready, "stream");
        tags.extend([format!("file={}", record.file), format!("repository={}", self.repository.name)]);
        let host = shared.request.definitions.daemon.host.clone();
        let request = StreamRequest { name: record.name().to_owned(), tags, host, hunger };
        let cancel = shared.live.cancelled().child_token();
        let stall = ready.instance.stall_timeout;
        let terms = restic::Terms { cancel: cancel.clone(), ..shared.live.terms(stall) };
        let (restic, opened, live) = (shared.restic.clone(), opened.clone(), Arc::clone(&shared.live));
        let (instance, before) = (ready.instance.name.clone(), self.sum);
        let task = async move {
            let hear = |progress: Progress| {
                let (bytes_done, files_done) = (before.bytes + progress.bytes_done, before.files);
                let progress = Progress { bytes_done, bytes_total: bytes_done, files_done, ..progress };
                live.advance(&instance, &opened.repository.name, &progress);
            };
            let ended = restic.backup_stream(&opened.access, &request, input, &terms, hear).await;
            repository::healed(&restic, &opened, ended).await
        };
        Ok(Taker { cancel, task: tokio::spawn(task.in_current_span()) })
    }

    /// restic says that it is there; looks whether it is all of it.
    fn took(&mut self, shared: &Shared, record: &Record, summary: BackupSummary) {
        let kept = summary.total_bytes_processed;
        if summary.partial || kept != record.size {
            let text = format!("restic kept {kept} bytes of {} and was given {}", record.file, record.size);
            self.failure = Some(anyhow!(text));
            return;
        }
        info!(holdfast_repository = %self.repository.name, "set {}: {} is stored as {} ({kept} bytes)",
            shared.live.id(), record.file, summary.snapshot_id);
        self.sum.bytes += kept;
        self.sum.files += 1;
        self.sum.added += summary.data_added;
        let stream = Stream { repository: self.repository.name.to_string(), snapshot: summary.snapshot_id };
        self.records.push(Record { stream: Some(stream), ..record.clone() });
    }
}

impl Taker {
    /// Waits for its end; where not all came, the signal that was sent is to be heard first.
    async fn end(mut self, feed: Option<Feed>, whole: bool) -> Result<BackupSummary> {
        let listened = if whole { None } else { Some(tokio::time::timeout(LISTENS, &mut self.task).await) };
        let ended = match listened {
            Some(Ok(ended)) => ended,
            Some(Err(_)) => {
                drop(feed);
                self.task.await
            }
            None => self.task.await,
        };
        let ended = ended.context("a defect in the daemon ended a stream")?;
        if let (Ok(summary), false) = (&ended, whole) {
            warn!("snapshot {} holds no whole stream and is part of no set", summary.snapshot_id);
        }
        ended.context("restic backup")
    }
}
