//! Retention: which sets go is computed by us over committed sets, once per restic repository and job.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use jiff::Timestamp;
use tracing::{error, info};

use super::backup::{Request, Shared};
use super::repository::{self, Location, Opened};
use super::retention::{self, SetTime};
use super::{Context, Live, sets};
use crate::definition::{Repository, Retention};
use crate::restic;
use crate::state::{Outcome, Phase, SetFilter, SetRecord, pins};

/// How long forget may go without a sign of life.
const STALL: std::time::Duration = std::time::Duration::from_secs(1800);

/// Applies a backup's retention where its job made sets. A failure is a failure of the job.
pub(super) async fn after_backup(shared: &Shared) {
    let (live, request) = (&shared.live, &shared.request);
    let Some(rules) = &request.backup.retention else { return };
    if live.cancelled().is_cancelled() {
        return;
    }
    for name in &request.backup.repositories {
        let Some(repository) = request.definitions.repositories.get(name) else { continue };
        if repository.append_only || !stored_in(live, name) {
            continue;
        }
        if let Err(failure) = in_repository(shared, repository, rules).await {
            let text = format!("retention in repository {name} failed, old sets were kept: {failure:#}");
            error!(holdfast_repository = %name, holdfast_phase = "retention", "{text}");
            live.report(Outcome::Failed, &text);
        }
    }
}

fn stored_in(live: &Live, repository: &str) -> bool {
    live.record().units.iter().any(|u| u.repository == repository && !u.snapshot.is_empty())
}

async fn in_repository(
    shared: &Shared,
    repository: &Arc<Repository>,
    rules: &Retention,
) -> anyhow::Result<()> {
    let Shared { context, live, request, restic, .. } = shared;
    live.update(|record| record.phase = Phase::Retention);
    let mut by_location: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let state = context.dirs.state.clone();
    let pinned = tokio::task::spawn_blocking(move || pins::pinned(&state)).await?;
    let pinned = pinned.context("which sets are pinned is not known")?;
    for (location, mut sets) in sets_by_location(context, request, repository).await? {
        sets.retain(|set| !pinned.contains(&set.snapshot));
        let doomed = doomed(&sets, rules, request);
        by_location.entry(location).or_default().extend(doomed);
    }
    for (path, doomed) in by_location {
        let streams = sets::has_streams(context, &repository.name, &path).await?;
        if doomed.is_empty() && !streams {
            continue;
        }
        let location = Location { path };
        let opened = repository::open(context, restic, repository, location, &live.terms(STALL)).await?;
        let parts = if streams { parts(shared, &opened, &doomed).await? } else { Vec::new() };
        if !(doomed.is_empty() && parts.is_empty()) {
            forget(shared, &opened, &doomed, &parts).await?;
        }
    }
    Ok(())
}

/// The streams that go with these sets, and those that never became part of one.
async fn parts(shared: &Shared, opened: &Opened, doomed: &[String]) -> anyhow::Result<Vec<String>> {
    let terms = shared.live.terms(STALL);
    let all = shared.restic.snapshots(&opened.access, &["holdfast"], &terms).await?;
    let (host, alive) = (&shared.request.definitions.daemon.host, shared.live.registry().alive());
    Ok(sets::doomed_streams(&all.list, doomed, host, &alive, Timestamp::now()))
}

/// The sets of this backup and host, those of one instance together.
async fn sets_by_location(
    context: &Context,
    request: &Request,
    repository: &Repository,
) -> anyhow::Result<Vec<(String, Vec<SetRecord>)>> {
    let filter = SetFilter {
        repository: Some(repository.name.to_string()),
        backup: Some(request.backup.name.to_string()),
        ..SetFilter::default()
    };
    let host = &request.definitions.daemon.host;
    let mut groups: BTreeMap<(String, String), Vec<SetRecord>> = BTreeMap::new();
    for set in context.database.sets(filter).await?.into_iter().filter(|set| set.host == *host) {
        groups.entry((set.location.clone(), set.uuid.clone())).or_default().push(set);
    }
    Ok(groups.into_iter().map(|((location, _), sets)| (location, sets)).collect())
}

fn doomed(sets: &[SetRecord], rules: &Retention, request: &Request) -> Vec<String> {
    let (sets, mut doomed) = of_versions(sets, rules.versions);
    let times: Vec<_> = sets.iter().map(|s| SetTime { id: s.snapshot.clone(), time: s.time }).collect();
    let zone = &request.definitions.daemon.timezone;
    let decisions = retention::keep(&times, rules, zone, Timestamp::now());
    doomed.extend(decisions.into_iter().filter(|d| !d.keep).map(|d| d.id));
    doomed
}

/// The sets of the newest so many versions, and the snapshots of the others; 0: of all. `sets` come newest first.
fn of_versions(sets: &[SetRecord], most: u32) -> (Vec<&SetRecord>, Vec<String>) {
    let mut versions: Vec<&str> = Vec::new();
    for set in sets {
        if !versions.contains(&set.version.as_str()) {
            versions.push(&set.version);
        }
    }
    let kept = if most == 0 { versions.len() } else { versions.len().min(most as usize) };
    let (stay, go): (Vec<_>, Vec<_>) =
        sets.iter().partition(|set| versions[..kept].contains(&set.version.as_str()));
    (stay, go.into_iter().map(|set| set.snapshot.clone()).collect())
}

/// Forgets these snapshots with the repository to ourselves, and forgets them here too.
async fn forget(shared: &Shared, opened: &Opened, doomed: &[String], parts: &[String]) -> anyhow::Result<()> {
    let Shared { context, live, restic, .. } = shared;
    let name = &opened.repository.name;
    let wait = |reason| live.waits(name, reason);
    let _alone = context.queue.alone(&opened.key, name, &live.caller(), wait).await?;
    let _permit = context.queue.permit(&live.caller(), wait).await?;
    let terms = live.terms(STALL);
    repository::write_lock_down(&shared.undo, opened).await?;
    // Trees first, in a call of their own: a set without its tree is none, one without a stream cannot be restored.
    for ids in [doomed, parts] {
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let result = restic.forget(&opened.access, &ids, &terms).await;
        match repository::healed(restic, opened, result).await {
            Ok(()) => {}
            // Somebody forgot some of them already: read what is there, so that the next run knows.
            Err(restic::Error::NoSnapshot(_)) => {
                return repository::sync(context, restic, opened, &terms).await;
            }
            Err(other) => return Err(other).context("restic forget"),
        }
    }
    context.database.remove_sets(name, doomed).await?;
    context.database.set_meta(&format!("forgotten/{name}"), "1").await?;
    info!(holdfast_repository = %name, holdfast_phase = "retention", "forgot {} old sets, {} streams", doomed.len(), parts.len());
    Ok(())
}
