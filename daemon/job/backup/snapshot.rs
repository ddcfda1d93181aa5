//! One repository of one instance: `restic backup`, tried again where the cause may pass.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::Shared;
use super::instance::{Laid, Ready};
use super::streams::Sum;
use crate::definition::Repository;
use crate::job::live::append;
use crate::job::manifests;
use crate::job::repository::{self, Opened};
use crate::restic::{self, BackupRequest, BackupSummary};
use crate::state::{Outcome, Phase, SetRecord};
use crate::target::MANIFEST;

/// How long, and how often, storage that does not answer is asked again before that counts as a failed attempt.
const COMES_UP_WITHIN: Duration = Duration::from_secs(5 * 60);
const COMES_UP_EVERY: Duration = Duration::from_secs(15);

/// Makes the snapshot that commits the set in one repository; how it went stands in the unit.
pub(super) async fn store(
    shared: Arc<Shared>,
    ready: Arc<Ready>,
    tree: Arc<Laid>,
    repository: Arc<Repository>,
) {
    let part = Part { shared, ready, tree, repository };
    part.phase(Phase::Snapshot);
    match part.with_retries().await {
        Ok(summary) => part.succeeded(summary).await,
        Err(failure) => part.failed(&failure),
    }
}

struct Part {
    shared: Arc<Shared>,
    ready: Arc<Ready>,
    tree: Arc<Laid>,
    repository: Arc<Repository>,
}

impl Part {
    fn cancel(&self) -> &CancellationToken {
        self.shared.live.cancelled()
    }

    fn phase(&self, phase: Phase) {
        self.unit(|unit| unit.phase = phase);
    }

    fn unit(&self, change: impl FnOnce(&mut crate::state::UnitRecord)) {
        self.shared.live.unit(&self.ready.instance.name, &self.repository.name, change);
    }

    fn waits(&self, reason: Option<String>) {
        self.shared.live.waits(&format!("{}/{}", self.ready.instance.name, self.repository.name), reason);
    }

    /// Wrong passwords are never tried again, passing causes are: with a pause that doubles, until the next slot.
    async fn with_retries(&self) -> anyhow::Result<BackupSummary> {
        let retry = self.shared.request.backup.retry;
        let mut pause = retry.delay;
        let begun = tokio::time::Instant::now();
        for left in (0..=retry.attempts).rev() {
            let failure = match self.once_the_network_is_up(begun).await {
                Ok(summary) => return Ok(summary),
                Err(failure) => failure,
            };
            // With services stopped nothing is tried for long: that was done before. Those of another machine run again.
            let stopped = self.ready.slot.get().is_some() && self.ready.instance.remote.is_none();
            if left == 0 || stopped || !passes(&self.shared, &failure, pause) {
                return Err(failure);
            }
            self.pause(pause, &failure).await;
            pause = pause.saturating_mul(2);
        }
        anyhow::bail!("no attempt was made")
    }

    /// One attempt. The network comes up some seconds after a boot or a resume, and with it the slots that were missed:
    /// so at the begin of a run that nobody asked for, remote storage is waited for without counting attempts.
    async fn once_the_network_is_up(&self, begun: tokio::time::Instant) -> anyhow::Result<BackupSummary> {
        loop {
            let failure = match self.once().await {
                Err(failure) if self.may_come_up(&failure, begun) => failure,
                other => return other,
            };
            self.pause(COMES_UP_EVERY, &failure).await;
        }
    }

    fn may_come_up(&self, failure: &anyhow::Error, begun: tokio::time::Instant) -> bool {
        let unreachable =
            matches!(failure.downcast_ref::<restic::Error>(), Some(restic::Error::Unreachable(_)));
        let remote = restic::local_path(&self.repository.url).is_none();
        let automatic = matches!(self.shared.live.record().cause.as_str(), "schedule" | "catch-up" | "after");
        let early = self.ready.slot.get().is_none()
            && begun.elapsed() < COMES_UP_WITHIN
            && time_for(&self.shared, COMES_UP_EVERY);
        unreachable && remote && automatic && early && !self.cancel().is_cancelled()
    }

    async fn pause(&self, pause: Duration, failure: &anyhow::Error) {
        let part = format!("{}/{}", self.ready.instance.name, self.repository.name);
        self::pause(&self.shared, &part, pause, failure).await;
    }

    async fn once(&self) -> anyhow::Result<BackupSummary> {
        let context = &self.shared.context;
        let place = repository::Location::of(&self.repository, &self.ready.instance, self.ready.uuid);
        let opened =
            repository::open(context, &self.shared.restic, &self.repository, place, &self.terms()).await?;
        let wait = |reason| self.waits(reason);
        let caller = self.shared.live.caller();
        let slot = self.ready.slot.get();
        let _shared = match slot.is_some_and(|slot| slot.shares(&self.repository.name)) {
            true => None,
            false => Some(context.queue.share(&opened.key, &self.repository.name, &caller, wait).await?),
        };
        let _permit = match slot {
            Some(_) => None,
            None => Some(context.queue.permit(&caller, wait).await?),
        };
        repository::write_lock_down(&self.shared.undo, &opened).await?;
        let parent = context.database.parent(&self.repository.name, &opened.location, &self.uuid()).await?;
        self.backup(&opened, parent).await
    }

    async fn backup(&self, opened: &Opened, parent: Option<String>) -> anyhow::Result<BackupSummary> {
        let request = BackupRequest {
            dir: self.tree.dir.clone(),
            files_from_raw: vec![self.tree.list.clone()],
            exclude_file: self.tree.exclude_file.clone(),
            tags: tags(&self.shared, &self.ready, "tree"),
            host: self.shared.request.definitions.daemon.host.clone(),
            parent,
            time: None,
        };
        let restic = &self.shared.restic;
        let terms = self.terms();
        let first = restic.backup(&opened.access, &request, &terms, |p| self.progress(&p)).await;
        // The parent was forgotten behind our back: restic finds another, or reads everything.
        let summary = match first {
            Err(restic::Error::NoSnapshot(_)) if request.parent.is_some() => {
                let request = BackupRequest { parent: None, ..request };
                restic.backup(&opened.access, &request, &terms, |p| self.progress(&p)).await
            }
            other => other,
        };
        match repository::healed(restic, opened, summary).await {
            Err(restic::Error::NoRepository) => anyhow::bail!("{}", repository::gone(&self.repository)),
            other => other.context("restic backup"),
        }
    }

    fn terms(&self) -> restic::Terms {
        self.shared.live.terms(self.ready.instance.stall_timeout)
    }

    fn uuid(&self) -> String {
        self.ready.uuid.to_string()
    }

    fn progress(&self, progress: &restic::Progress) {
        self.shared.live.advance(&self.ready.instance.name, &self.repository.name, progress);
    }

    async fn succeeded(&self, summary: BackupSummary) {
        let outcome = if summary.partial { Outcome::Warning } else { Outcome::Succeeded };
        let unread = unreadable(&summary);
        // With what was warned of before, such as an include that is not there: the set lacks it.
        let mut all = outcome;
        let streamed = self.streamed();
        self.unit(|unit| {
            unit.snapshot.clone_from(&summary.snapshot_id);
            unit.bytes = summary.total_bytes_processed + streamed.bytes;
            unit.bytes_added = summary.data_added + streamed.added;
            unit.files = summary.total_files_processed + streamed.files;
            all = unit.outcome.unwrap_or(outcome).max(outcome);
            unit.outcome = Some(all);
            append(&mut unit.error, &unread);
        });
        if !unread.is_empty() {
            warn!(holdfast_repository = %self.repository.name, "{unread}");
        }
        info!(
            holdfast_repository = %self.repository.name,
            holdfast_phase = "snapshot",
            "stored as {} ({} files, {} bytes, {} added)",
            summary.snapshot_id, summary.total_files_processed, summary.total_bytes_processed, summary.data_added
        );
        self.remember_manifest(&summary.snapshot_id).await;
        if let Err(failure) = self.shared.context.database.save_set(&self.set(&summary, all)).await {
            error!("the set is stored, but could not be remembered; it is found again later: {failure:#}");
        }
    }

    /// A restore need not ask the repository for it then.
    async fn remember_manifest(&self, snapshot: &str) {
        if let Ok(text) = tokio::fs::read(self.tree.dir.join(MANIFEST)).await {
            manifests::remember(&self.shared.context, snapshot, text).await;
        }
    }

    /// What of the set lies in snapshots of its own.
    fn streamed(&self) -> Sum {
        self.tree.streamed.get(self.repository.name.as_str()).copied().unwrap_or_default()
    }

    fn set(&self, summary: &BackupSummary, outcome: Outcome) -> SetRecord {
        let request = &self.shared.request;
        let location = repository::Location::of(&self.repository, &self.ready.instance, self.ready.uuid);
        SetRecord {
            repository: self.repository.name.to_string(),
            location: location.path,
            set: self.shared.live.id().to_owned(),
            snapshot: summary.snapshot_id.clone(),
            instance: self.ready.instance.name.to_string(),
            uuid: self.uuid(),
            backup: request.backup.name.to_string(),
            host: request.definitions.daemon.host.clone(),
            time: Timestamp::now(),
            size: summary.total_bytes_processed + self.streamed().bytes,
            files: summary.total_files_processed + self.streamed().files,
            version: self.ready.version.clone(),
            outcome: Some(outcome),
        }
    }

    fn failed(&self, failure: &anyhow::Error) {
        let (outcome, text) = self.shared.live.verdict(failure);
        error!(
            holdfast_repository = %self.repository.name,
            holdfast_phase = "snapshot",
            holdfast_outcome = %outcome,
            "no snapshot of {} in {}: {text}", self.ready.instance.name, self.repository.name
        );
        self.unit(|unit| {
            unit.outcome = Some(outcome);
            append(&mut unit.error, &text);
        });
    }
}

/// Whether what failed may pass, so that it is worth another try after a pause.
pub(super) fn passes(shared: &Shared, failure: &anyhow::Error, pause: Duration) -> bool {
    let passing = failure.downcast_ref::<restic::Error>().is_some_and(restic::Error::retryable);
    passing && time_for(shared, pause) && !shared.live.cancelled().is_cancelled()
}

fn time_for(shared: &Shared, pause: Duration) -> bool {
    let Some(until) = shared.request.retry_until else { return true };
    Timestamp::now().checked_add(pause).is_ok_and(|then| then < until)
}

/// Waits before another try, and says so.
pub(super) async fn pause(shared: &Shared, part: &str, pause: Duration, failure: &anyhow::Error) {
    warn!("{part} will be tried again in {pause:?}: {failure:#}");
    shared.live.waits(part, Some(format!("tries again in {pause:?}: {failure}")));
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = shared.live.cancelled().cancelled() => {}
    }
    shared.live.waits(part, None);
}

/// What every snapshot of the set carries.
pub(super) fn tags(shared: &Shared, ready: &Ready, kind: &str) -> Vec<String> {
    let mut tags = vec![
        "holdfast".to_owned(),
        format!("instance={}", ready.instance.name),
        format!("uuid={}", ready.uuid),
        format!("backup={}", shared.request.backup.name),
        format!("set={}", shared.live.id()),
        format!("kind={kind}"),
    ];
    tags.extend(ready.instance.module.as_ref().map(|module| format!("module={module}")));
    // Recoveries choose by it, also where what was known of the set is lost. A tag has no comma.
    let version = Some(&ready.version).filter(|version| !version.is_empty() && !version.contains(','));
    tags.extend(version.map(|version| format!("version={version}")));
    tags
}

fn unreadable(summary: &BackupSummary) -> String {
    if !summary.partial {
        return String::new();
    }
    let files: Vec<_> = summary.unreadable.iter().take(5).map(String::as_str).collect();
    format!("the set is stored, but some files could not be read: {}", files.join(", "))
}
