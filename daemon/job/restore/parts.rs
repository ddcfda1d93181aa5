//! A large set is fetched in parts at once, each by a restic of its own, within the cap of all restic processes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::Work;
use super::meter::Meter;
use crate::job::repository::Opened;
use crate::job::{Live, repository};
use crate::queue::Queue;
use crate::restic::{Restic, RestoreRequest, Terms};
use crate::target::{MANIFEST, Manifest};

/// Below this size one restic alone is faster than two that both read the index.
const WORTH_PARTS: u64 = 64 << 20;

/// One restic, with all that it needs.
struct Part {
    number: usize,
    restic: Restic,
    opened: Opened,
    wanted: RestoreRequest,
    terms: Terms,
    live: Arc<Live>,
    queue: Queue,
    meter: Arc<Meter>,
}

/// Fetches everything that is wanted; `over` what lies there already. The caller shares the repository.
pub(super) async fn fetch(
    work: &Work,
    staging: &Path,
    manifest: &Manifest,
    over: bool,
) -> anyhow::Result<()> {
    let request = &work.request;
    let meter = Arc::new(Meter::new(&work.live, request));
    repository::write_lock_down(&work.undo, &request.opened).await?;
    // One that fails ends the others.
    let cancel = work.live.cancelled().child_token();
    let mut parts = JoinSet::new();
    for (number, includes) in split(work, manifest).into_iter().enumerate() {
        let (snapshot, target) = (request.set.snapshot.clone(), staging.to_owned());
        let terms = Terms { cancel: cancel.clone(), ..work.live.terms(request.instance.stall_timeout) };
        let part = Part {
            number,
            restic: work.restic.clone(),
            opened: request.opened.clone(),
            wanted: RestoreRequest { snapshot, target, includes, verify: true, over },
            terms,
            live: Arc::clone(&work.live),
            queue: work.context.queue.clone(),
            meter: Arc::clone(&meter),
        };
        parts.spawn(part.fetch(request.instance.name.to_string()).in_current_span());
    }
    let fetched = async {
        if work.restic.restore_reports() {
            return all(parts, &cancel).await;
        }
        tokio::select! {
            done = all(parts, &cancel) => done?,
            broken = meter.watch(staging) => broken?,
        }
        // One that was quicker than the first look.
        meter.look(staging).await
    };
    fetched.await?;
    meter.end();
    Ok(())
}

async fn all(mut parts: JoinSet<anyhow::Result<()>>, cancel: &CancellationToken) -> anyhow::Result<()> {
    let mut first = Ok(());
    while let Some(ended) = parts.join_next().await {
        let ended = ended.context("a defect in the daemon ended a fetch").flatten();
        if let Err(failure) = ended
            && first.is_ok()
        {
            cancel.cancel();
            first = Err(failure);
        }
    }
    first
}

impl Part {
    async fn fetch(self, instance: String) -> anyhow::Result<()> {
        // Only one of them says what it waits for: they all wait for the same.
        let wait = |reason| {
            if self.number == 0 {
                self.live.waits(&instance, reason)
            }
        };
        let _permit = self.queue.permit(&self.live.caller(), wait).await?;
        let hear = |progress| self.meter.hear(self.number, progress);
        let restored = self.restic.restore(&self.opened.access, &self.wanted, &self.terms, hear).await;
        let restored = repository::healed(&self.restic, &self.opened, restored).await;
        restored.context("restic restore")?;
        Ok(())
    }
}

/// What each restic fetches; nothing named: everything.
fn split(work: &Work, manifest: &Manifest) -> Vec<Vec<PathBuf>> {
    let (request, most) = (&work.request, work.request.definitions.daemon.max_parallel);
    if !request.include.is_empty() {
        let mut includes = request.include.clone();
        includes.push(MANIFEST.into());
        return vec![includes];
    }
    let roots: BTreeSet<PathBuf> = manifest.roots.iter().map(|root| root.path.0.clone()).collect();
    let parts = roots.len().min(most);
    if request.set.size < WORTH_PARTS || parts < 2 {
        return vec![Vec::new()];
    }
    let mut split = vec![Vec::new(); parts];
    let beside = [PathBuf::from(MANIFEST), PathBuf::from("dumps")];
    for (path, part) in roots.into_iter().chain(beside).zip((0..parts).cycle()) {
        split[part].push(path);
    }
    split
}
