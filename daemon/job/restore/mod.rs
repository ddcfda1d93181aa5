//! The restore job: choose a set, fetch and verify it beside the live data, then steps and swap, all undone on failure.

mod anew;
mod apply;
mod back;
mod boot;
mod carry;
mod choose;
mod databases;
pub(super) mod dumps;
mod edited;
mod failed;
pub(super) mod far;
mod fetch;
mod health;
mod held;
pub mod kept;
mod meter;
mod mounts;
mod parts;
mod place;
mod plan;
mod rights;
pub mod rollback;
mod room;
mod seed;
mod settling;
mod stands;
mod streams;
mod survey;
pub(super) mod swap;
mod there;
mod users;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use tracing::{Instrument as _, error, info, warn};

use super::live::append;
use super::repository::Opened;
use super::services::{self, For, Quiet};
use super::{Context, Live, remove_tree, version};
use crate::definition::{Definitions, Instance, VersionMatch};
use crate::restic::Restic;
use crate::state::undo::{Step, Undo};
use crate::state::{Outcome, Phase, SetRecord, UnitRecord};
use crate::target::{Manifest, Place, Purpose};

pub use anew::Founding;
pub use choose::{NoSet, NotTheSet, Wanted, choose, choose_at, manifest, read_manifest};
pub use databases::{Database, Saved, paths as database_paths, saved as saved_databases};
pub use edited::Edited;
pub use failed::{Failed, free_name, name_of};
pub(super) use health::ask as ask_health;
pub use plan::plan;
pub use rights::Rights;
pub use streams::{Streamed, streamed};
pub use users::NewUser;
pub(super) use users::remove as remove_user;

/// What one restore job does; frozen when it is asked for.
pub struct Request {
    /// The definitions as they were.
    pub definitions: Arc<Definitions>,
    /// The instance.
    pub instance: Arc<Instance>,
    /// The set to be restored.
    pub set: SetRecord,
    /// Where that lies.
    pub opened: Opened,
    /// Only these paths of the tree; empty: all.
    pub include: Vec<PathBuf>,
    /// Only these databases, which `include` has the dumps of; empty: all that `include` names, by their own names.
    pub databases: Vec<Database>,
    /// Files that are loaded instead of saved dumps.
    pub edited: Vec<Edited>,
    /// Into this directory; none: in place.
    pub target: Option<PathBuf>,
    /// Whatever the version that was saved.
    pub force_version: bool,
    /// Whether services are stopped while data is exchanged.
    pub stop: bool,
    /// Whether they are started again once it is.
    pub start: bool,
    /// The instance is not defined here yet: this is written once its data is there.
    pub founding: Option<Founding>,
    /// It is a recovery: what it says of the data that it replaces.
    pub failed: Option<Failed>,
    /// The instance's user, to be made because this machine lacks it.
    pub new_user: Option<NewUser>,
    /// What was said of owners, set-uid bits and device files.
    pub rights: Rights,
}

/// What the phases of one restore share.
struct Work {
    context: Context,
    live: Arc<Live>,
    request: Request,
    restic: Restic,
    undo: Undo,
    quiet: Quiet,
    /// Directories that were made on another machine for a new instance, the upper ones first.
    made_there: OnceLock<Vec<PathBuf>>,
}

/// Runs the job to its end; how it ended stands in `live`.
pub async fn run(context: Context, live: Arc<Live>, request: Request) {
    // It is told already.
    let _ = attempt(context, live, request).await;
}

/// As [`run`], for a job that goes on after it.
///
/// # Errors
/// Why it failed; the live data is as it was, or the error says what is not.
pub async fn attempt(context: Context, live: Arc<Live>, request: Request) -> anyhow::Result<()> {
    let (instance, repository) = (request.instance.name.clone(), request.set.repository.clone());
    begin(&live, &request).await;
    let definitions = Arc::clone(&request.definitions);
    let body = work(context.clone(), Arc::clone(&live), request).in_current_span();
    let result = match tokio::spawn(body).await {
        Ok(result) => result,
        Err(death) => {
            // What a start of the daemon would put right after a crash is put right now.
            super::undo::after_death(&context, &definitions, live.id()).await;
            Err(anyhow::anyhow!("a defect in the daemon ended this restore: {death}"))
        }
    };
    let (outcome, text) = match &result {
        Ok(Done { warnings, kept }) => {
            let outcome = if warnings.is_empty() { Outcome::Succeeded } else { Outcome::Warning };
            (outcome, warnings.iter().chain(kept).cloned().collect::<Vec<_>>().join("\n"))
        }
        Err(failure) => live.verdict(failure),
    };
    match outcome {
        Outcome::Succeeded => {
            info!(holdfast_instance = %instance, holdfast_outcome = %outcome, "restored {instance}; {text}")
        }
        Outcome::Warning => {
            warn!(holdfast_instance = %instance, holdfast_outcome = %outcome, "restored {instance}: {text}")
        }
        _ => {
            error!(holdfast_instance = %instance, holdfast_outcome = %outcome, "{instance} was not restored: {text}")
        }
    }
    live.unit(&instance, &repository, |unit| {
        unit.outcome = Some(outcome);
        append(&mut unit.error, &text);
    });
    result.map(drop)
}

async fn begin(live: &Live, request: &Request) {
    let set = &request.set;
    info!(holdfast_instance = %request.instance.name, holdfast_repository = %set.repository,
        "restore of {} from snapshot {} of {} begins", request.instance.name, set.snapshot, set.time);
    let unit = UnitRecord {
        instance: request.instance.name.to_string(),
        repository: set.repository.clone(),
        phase: Phase::Plan,
        snapshot: set.snapshot.clone(),
        bytes: set.size,
        files: set.files,
        ..UnitRecord::default()
    };
    live.update_stored(|record| {
        record.started = Some(Timestamp::now());
        record.units = vec![unit];
    })
    .await;
}

impl Work {
    fn phase(&self, phase: Phase) {
        let set = &self.request.set;
        self.live.unit(&self.request.instance.name, &set.repository, |unit| unit.phase = phase);
    }
}

/// What came of a restore that stands.
#[derive(Default)]
struct Done {
    warnings: Vec<String>,
    /// Where the old data is and until when.
    kept: Option<String>,
}

/// The old data is not back where it was: the undo steps must stay for the next start.
#[derive(Debug, thiserror::Error)]
#[error("putting the old data back failed: {0}; it is tried again when holdfastd starts")]
struct NotPutBack(String);

/// On error the live data is as it was.
async fn work(context: Context, live: Arc<Live>, request: Request) -> anyhow::Result<Done> {
    let restic = Restic::probe(&request.definitions.daemon.restic).await?;
    let undo = Undo::begin(&context.dirs.undo(), live.id())?;
    let (queue, name) = (context.queue.clone(), request.instance.name.clone());
    let wait = |reason| live.waits(&name, reason);
    let _instance = queue.instance(&name, &live.caller(), wait).await?;
    let what_for = if request.founding.is_some() { For::Founding } else { For::Restore };
    let quiet = Quiet::new(&context, &live, &request.instance, what_for);
    let made_there = OnceLock::new();
    let work = Work { context, live: Arc::clone(&live), request, restic, undo, quiet, made_there };
    let result = match work.request.target.clone() {
        Some(target) => into_directory(&work, target).await,
        None => in_place(&work).await,
    };
    if result.as_ref().is_err_and(|failure| failure.is::<NotPutBack>()) {
        return result;
    }
    let closed = work.undo.finish().await;
    result.map(|mut done| {
        let told = |failure| format!("restored, but the undo steps could not be closed: {failure:#}");
        done.warnings.extend(closed.err().map(told));
        done
    })
}

/// Fetches into a directory that did not exist or was empty; it appears whole or not at all.
async fn into_directory(work: &Work, target: PathBuf) -> anyhow::Result<Done> {
    let fetch::Beside { staged, settling, warnings } = fetch::beside(work, &target).await?;
    work.phase(Phase::Apply);
    if let Err(failure) = fetch::move_to(work, &staged, settling, &target).await {
        remove_tree(&staged).await?;
        return Err(failure.context(format!("{} was not touched", target.display())));
    }
    Ok(Done { warnings, kept: None })
}

async fn in_place(work: &Work) -> anyhow::Result<Done> {
    let mut made = anew::Made::default();
    match swapped_in(work, &mut made).await {
        Err(failure) if !failure.is::<NotPutBack>() => match anew::undo(made).await {
            Ok(()) => {
                far::leave(work).await;
                Err(failure)
            }
            Err(second) => Err(failure.context(NotPutBack(format!("{second:#}")))),
        },
        result => result,
    }
}

async fn swapped_in(work: &Work, made: &mut anew::Made) -> anyhow::Result<Done> {
    let untouched = "the live data was not touched";
    users::make(work, made).await.context(untouched)?;
    anew::make_places(work, made).await.context(untouched)?;
    check_version(work).await.context(untouched)?;
    let staging = work.request.definitions.daemon.staging_dir.join(format!("restore-{}", work.live.id()));
    work.undo.push(Step::RemoveDir { path: staging.clone() }).await?;
    let result = from_staging(work, &staging, made).await;
    if let Err(failure) = remove_tree(&staging).await {
        warn!("the fetched data could not be removed from {}: {failure:#}", staging.display());
    }
    if result.as_ref().is_err_and(|failure| !failure.is::<NotPutBack>()) {
        held::discard(work).await;
    }
    result
}

async fn from_staging(work: &Work, staging: &std::path::Path, made: &mut anew::Made) -> anyhow::Result<Done> {
    let untouched = "the live data was not touched";
    let (manifest, warnings) = fetch::staged(work, staging).await.context(untouched)?;
    anew::rename_environment(work, staging).await.context(untouched)?;
    anew::make_parents(work, &manifest, made).await.context(untouched)?;
    let place = place::of(work, &manifest).await.context(untouched)?;
    let mut wanted = dumps::open(work, &place, staging, &manifest).await.context(untouched)?;
    let mut beside = Vec::new();
    let result = match dumps::load_beside(work, &mut wanted, staging, &mut beside).await.context(untouched) {
        Ok(()) => apply_or_put_back(work, &place, staging, &manifest, &wanted, made).await,
        Err(failure) => Err(failure),
    };
    let result = result.map(|mut done| {
        done.warnings.splice(0..0, warnings);
        done
    });
    if result.is_err() {
        there::clear(work, &wanted).await;
    }
    if result.as_ref().is_err_and(|failure| !failure.is::<NotPutBack>())
        && let Err(second) = dumps::put_back(&work.context, &place, &beside).await
    {
        return result.map_err(|failure| failure.context(NotPutBack(format!("{second:#}"))));
    }
    result
}

/// Whether the saved version may be restored over the present one.
async fn check_version(work: &Work) -> anyhow::Result<()> {
    let instance = &work.request.instance;
    if work.request.force_version || instance.version_match == VersionMatch::Any {
        return Ok(());
    }
    let (tools, cancel) = (work.context.dirs.tools(), work.live.cancelled());
    let place = Place::resolve(instance, Purpose::Restore, &tools, &[], cancel).await?;
    let present = version::ask(&place, cancel).await?;
    version::check(instance.version_match, &work.request.set.version, &present)
}

/// Steps and swap; what was swapped is swapped back when anything fails.
async fn apply_or_put_back(
    work: &Work,
    place: &Place,
    staging: &std::path::Path,
    manifest: &Manifest,
    wanted: &[dumps::Wanted],
    made: &mut anew::Made,
) -> anyhow::Result<Done> {
    let mut applied = apply::Applied::default();
    let failure = match apply_and_ask(work, place, staging, manifest, wanted, &mut applied, made).await {
        Ok(done) => {
            work.quiet.close().await;
            return Ok(done);
        }
        Err(failure) => failure,
    };
    work.phase(Phase::Rollback);
    let far = applied.far.iter().any(|(_, begun)| *begun);
    let held = applied.held.iter().any(|(_, begun)| *begun);
    let touched = far || held || !(applied.swaps.is_empty() && applied.dumps.is_empty());
    if touched && let Err(second) = work.quiet.stop_again().await {
        warn!("data is put back under services that still run: {second:#}");
    }
    let old = if !touched { "the live data was not touched" } else { "the old data is back in place" };
    let put_back = back::put_back(work, place, &applied).await;
    let told = work.quiet.resume().await.told();
    let failure = told.into_iter().fold(failure, |failure, text| failure.context(text));
    match put_back {
        Ok(()) => {
            work.quiet.close().await;
            Err(failure.context(old))
        }
        // Its undo steps stay, and with them those of the services: at the next start they are stopped for it.
        Err(second) => Err(failure.context(NotPutBack(format!("{second:#}")))),
    }
}

async fn apply_and_ask(
    work: &Work,
    place: &Place,
    staging: &std::path::Path,
    manifest: &Manifest,
    wanted: &[dumps::Wanted],
    applied: &mut apply::Applied,
    made: &mut anew::Made,
) -> anyhow::Result<Done> {
    let mut survey = survey::survey(work, place, manifest, staging)?;
    dumps::claim(wanted, &work.request, &mut survey);
    let far = far::bring(work, place, manifest, &survey, staging).await?;
    applied.far.extend(far.map(|far| (far, false)));
    work.phase(Phase::Quiesce);
    if work.request.stop {
        let stopped = async {
            let what_for = work.quiet.what_for();
            services::check(&work.context, place, what_for, work.live.cancelled()).await?;
            work.quiet.stop().await
        };
        let advice = "services could not be stopped (`--no-stop` restores without stopping any)";
        stopped.await.context(NotTheSet(advice.into()))?;
        if !wanted.is_empty() {
            work.quiet.start_for_dump().await.context("the databases are to be loaded")?;
        }
    }
    let mut warnings = apply::run(work, place, staging, manifest, wanted, applied).await?;
    if work.request.start {
        work.phase(Phase::Resume);
        let resumed = work.quiet.resume().await;
        ensure!(
            resumed.down.is_empty(),
            "a service does not run on the restored data: {}",
            resumed.down.join("; ")
        );
        warnings.extend(resumed.notes);
        work.phase(Phase::Health);
        health::ask(place, work.live.cancelled()).await?;
    } else {
        work.quiet.leave_stopped().await;
    }
    anew::define(work, made).await.context("defining the new instance")?;
    warnings.extend(work.request.founding.iter().flat_map(|founding| founding.notes.clone()));
    held::whole_again(applied).await?;
    there::clear(work, wanted).await;
    let kept = stands::keep(work, place, applied, staging).await?;
    // Once more: our own directories come and go, which changes the roots' times.
    // What stands in for a volume holds its old data by now, or is gone.
    let lives = |root: &crate::target::Root| held::of(place, &root.path.0).is_none();
    warnings.extend(apply::put_roots_on(work, place, manifest, lives));
    Ok(Done { warnings, kept: kept.as_ref().map(kept::Kept::told) })
}
