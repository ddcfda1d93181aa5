//! What dead jobs left: executed at start, before anything else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Context, Location, far, held, hook, remove_tree, services};
use crate::definition::{Definitions, Name};
use crate::process;
use crate::restic::{Restic, Terms};
use crate::state::undo::{self, Pending, Recorded, Step, Undo};
use crate::target::{Place, Purpose, Root};

mod later;

/// How long removing a dead restic's lock may take.
const UNLOCK: std::time::Duration = std::time::Duration::from_secs(60);
/// How long all children of a daemon that was killed may take to be gone.
const GONE: std::time::Duration = std::time::Duration::from_secs(10);
/// How long a restic that was killed with us may take to be gone.
const DYING: std::time::Duration = std::time::Duration::from_secs(10);

/// What came of the undo steps of dead jobs.
#[derive(Debug, Default)]
pub struct Undone {
    /// A sentence for each that failed: it stays written and is tried again at the next start.
    pub problems: Vec<String>,
    /// Files were removed, definitions perhaps.
    pub removed_files: bool,
}

/// Executes the undo steps of all dead jobs.
pub async fn run_pending(context: &Context, definitions: &Arc<Definitions>) -> Undone {
    if let Err(failure) = crate::dump::sweep(&context.dirs.runtime) {
        warn!("clearing what dead jobs left of password files: {failure}");
    }
    let dir = context.dirs.undo();
    let pending = match tokio::task::spawn_blocking(move || undo::pending(&dir)).await {
        Ok(Ok(pending)) => pending,
        Ok(Err(failure)) => return Undone::problem(format!("{failure:#}")),
        Err(death) => return Undone::problem(format!("reading undo steps: {death}")),
    };
    if !pending.is_empty() {
        end_orphans().await;
    }
    let mut undone = Undone::default();
    for job in &pending {
        info!(holdfast_job = %job.job, "undoing what job {} left: {} steps", job.job, job.steps.len());
        undone.removed_files |= holds(job, |step| matches!(step, Step::RemoveFile { .. }));
        undone.problems.extend(job.problems.iter().cloned());
    }
    undone.problems.extend(run_all(context, definitions, &pending).await);
    for problem in &undone.problems {
        error!("{problem}");
    }
    undone
}

impl Undone {
    fn problem(text: String) -> Self {
        error!("{text}");
        Self { problems: vec![text], ..Self::default() }
    }
}

/// A job died while the daemon lives on: its undo steps are executed at once.
pub(super) async fn after_death(context: &Context, definitions: &Arc<Definitions>, job: &str) {
    let dir = context.dirs.undo();
    let pending = tokio::task::spawn_blocking(move || undo::pending(&dir)).await;
    let Ok(Ok(pending)) = pending else { return error!("undo steps of job {job} cannot be read") };
    let own = |other: &Pending| {
        other.job.strip_prefix(job).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let pending: Vec<Pending> = pending.into_iter().filter(own).collect();
    for problem in run_all(context, definitions, &pending).await {
        error!("{problem}");
    }
}

/// Executes all, in order; a sentence for each job that could not be undone.
async fn run_all(context: &Context, definitions: &Arc<Definitions>, pending: &[Pending]) -> Vec<String> {
    let (mut problems, mut again) = (Vec::new(), Vec::new());
    // Another machine, or a container engine, may not answer for long: nobody here waits for it.
    let near = later::take_far(context, definitions, pending);
    for job in in_order(&near).await {
        let (name, loads) = (job.job.clone(), holds(&job, |step| matches!(step, Step::Dump { .. })));
        match run(context, definitions, job).await {
            // Its server may be one of the services that were started only after it.
            Err(_) if loads => again.push(name),
            Err(failure) => problems.push(format!("{failure:#}")),
            Ok(()) => {}
        }
    }
    if again.is_empty() {
        return problems;
    }
    let dir = context.dirs.undo();
    let left = tokio::task::spawn_blocking(move || undo::pending(&dir)).await;
    let Ok(Ok(left)) = left else {
        problems.push("undo steps cannot be read".to_owned());
        return problems;
    };
    for job in left.into_iter().filter(|job| again.contains(&job.job)) {
        if let Err(failure) = run(context, definitions, job).await {
            problems.push(format!("{failure:#}"));
        }
    }
    problems
}

fn holds(job: &Pending, wanted: impl Fn(&Step) -> bool) -> bool {
    job.steps.iter().any(|(_, step)| matches!(step, Recorded::Known(step) if wanted(step)))
}

async fn run(context: &Context, definitions: &Arc<Definitions>, job: Pending) -> anyhow::Result<()> {
    let finished = match of_services(&job) {
        true => services::start_what_was_stopped(context, &job.job, &job.steps).await,
        false => finish(context, definitions, &job.job, job.steps).await,
    };
    finished.with_context(|| format!("job {}", job.job))
}

/// Data is put back first, while the services that use it are stopped; then services are started; the rest can wait.
async fn in_order(pending: &[Pending]) -> Vec<Pending> {
    let puts_back = |job: &Pending| holds(job, |step| matches!(step, Step::SwapBack { .. }));
    for job in pending.iter().filter(|job| puts_back(job)) {
        let own = format!("{}-services-", job.job);
        for services in pending.iter().filter(|other| other.job.starts_with(&own)) {
            services::stop_what_runs(&services.steps).await;
        }
    }
    let mut ordered = pending.to_vec();
    ordered.sort_by_key(|job| (!puts_back(job), !of_services(job)));
    ordered
}

fn of_services(job: &Pending) -> bool {
    holds(job, |step| matches!(step, Step::StartServices { .. }))
}

/// What the last daemon started may still write: into directories that are to be removed.
async fn end_orphans() {
    let left = tokio::task::spawn_blocking(|| process::end_orphans(GONE)).await;
    if let Ok(left) = left
        && !left.is_empty()
    {
        warn!("processes that the last daemon started still run: {left:?}");
    }
}

async fn finish(
    context: &Context,
    definitions: &Arc<Definitions>,
    job: &str,
    steps: Vec<(usize, Recorded)>,
) -> anyhow::Result<()> {
    let undo = Undo::resume(&context.dirs.undo(), job)?;
    let (mut left, mut needed, mut away) = (0, false, false);
    let mut aside = Vec::new();
    let kept = super::restore::kept::dir(context);
    for (index, step) in steps {
        // What lived lies there, until it lives again.
        if matches!(&step, Recorded::Known(Step::RemoveDir { path }) if holds_any(path, &aside)) {
            left += 1;
            continue;
        }
        // What lived on another machine lies there, until it lives again.
        if away && matches!(&step, Recorded::Known(Step::FarRemove { .. })) {
            left += 1;
            continue;
        }
        // It would be filled with what is half old, half new.
        if is_half(&step, &aside) {
            (left, needed) = (left + 1, true);
            continue;
        }
        // What a server is to be given back lies there, until it has it.
        if needed && matches!(&step, Recorded::Known(Step::RemoveDir { path }) if path.starts_with(&kept)) {
            left += 1;
            continue;
        }
        match execute(context, definitions, &step).await {
            Ok(()) => undo.done(index).await?,
            Err(failure) => {
                left += 1;
                needed |= matches!(&step, Recorded::Known(Step::Dump { .. } | Step::VolumeBack { .. }));
                away |= matches!(&step, Recorded::Known(Step::FarBack { .. }));
                aside.extend(old_data(&step));
                error!(holdfast_job = %job, "an undo step failed and is kept for the next start: {failure:#}");
            }
        }
    }
    if left > 0 {
        bail!("{left} undo steps are left; they are tried again at the next start");
    }
    undo.finish().await
}

/// Where the old data lies that a step would put back.
fn old_data(step: &Recorded) -> Option<PathBuf> {
    match step {
        Recorded::Known(Step::SwapBack { aside, .. }) => Some(aside.clone()),
        _ => None,
    }
}

/// Whether a volume would be filled from a directory in which something could not be put back.
fn is_half(step: &Recorded, aside: &[PathBuf]) -> bool {
    let Recorded::Known(Step::VolumeBack { was, .. }) = step else { return false };
    held::data_of(was).is_some_and(|data| holds_any(&data, aside))
}

fn holds_any(dir: &Path, paths: &[PathBuf]) -> bool {
    paths.iter().any(|path| path.starts_with(dir))
}

async fn execute(context: &Context, definitions: &Arc<Definitions>, step: &Recorded) -> anyhow::Result<()> {
    let Recorded::Known(step) = step else { bail!("a step of another version: {step:?}") };
    match step {
        Step::RemoveDir { path } => remove_tree(path).await,
        Step::RemoveFile { path } => {
            let path = path.clone();
            tokio::task::spawn_blocking(move || crate::state::durable::remove(&path)).await?
        }
        Step::RunHook { instance, backup, hook } => {
            run_hook(context, definitions, instance, backup, hook).await
        }
        Step::SwapBack { instance, live, aside, inode } => {
            warn!(holdfast_instance = %instance, "putting back {}", live.display());
            swap_back(live, aside, *inode).await
        }
        Step::StartServices { .. } => bail!("services are started by their own file"),
        Step::FarBack { far, .. } => super::restore::far::execute(far).await,
        Step::VolumeBack { was, .. } => held::execute(was).await,
        Step::FarRemove { remote, dirs } => {
            let dirs: Vec<_> = dirs.iter().map(Into::into).collect();
            far::remove(remote, &dirs).await
        }
        Step::FarLeave { remote, dirs } => {
            let dirs: Vec<_> = dirs.iter().map(Into::into).collect();
            far::leave(remote, &dirs).await
        }
        Step::Dump { instance, dump, act, change, founding } => {
            let name = Name::parse(instance).map_err(anyhow::Error::msg)?;
            let defined = match (founding, definitions.instances.get(&name)) {
                (Some(step), _) => Arc::new(super::restore::dumps::founded(name, step)?),
                (None, Some(defined)) => Arc::clone(defined),
                (None, None) => bail!("{instance} is no longer defined; define it again"),
            };
            super::restore::dumps::execute(context, &defined, dump, *act, change).await
        }
        Step::RemoveUser { name, comment } => super::restore::remove_user(name, comment).await,
        Step::PutOn { dir, root } => {
            let (dir, root) = (dir.clone(), serde_json::from_value::<Root>(root.clone())?);
            let put = move || if dir.is_dir() { root.put_on(&dir) } else { Ok(()) };
            tokio::task::spawn_blocking(put).await?
        }
        Step::Unlock { repository, location } => {
            context
                .database
                .forget_sync(repository, location)
                .await
                .context("marking the repository unread")?;
            unlock(context, definitions, repository, location);
            Ok(())
        }
    }
}

/// Removes the lock of the restic that died with us. Not waited for: the storage may be away, and the next use of the
/// repository removes the lock as well.
fn unlock(context: &Context, definitions: &Arc<Definitions>, repository: &str, location: &str) {
    let found = Name::parse(repository).ok().and_then(|name| definitions.repositories.get(&name).cloned());
    let Some(repository) = found else { return };
    let (context, definitions) = (context.clone(), Arc::clone(definitions));
    let location = Location { path: location.to_owned() };
    tokio::spawn(async move {
        let terms = Terms { timeout: Some(UNLOCK), ..Terms::new(&CancellationToken::new()) };
        let unlocked = async {
            let restic = Restic::probe(&definitions.daemon.restic).await?;
            let access = super::access(&context, &repository, &location, &terms).await?;
            anyhow::Ok(restic.heal_own_locks(&access, &terms, DYING).await?)
        };
        match unlocked.await {
            Ok(()) => info!(holdfast_repository = %repository.name, "removed the locks of dead processes"),
            Err(failure) => {
                warn!(holdfast_repository = %repository.name, "locks are left to its next use: {failure:#}");
            }
        }
    });
}

async fn run_hook(
    context: &Context,
    definitions: &Arc<Definitions>,
    instance: &str,
    backup: &str,
    hook: &str,
) -> anyhow::Result<()> {
    anyhow::ensure!(hook == "cleanup", "hook {hook} is not known");
    let name = Name::parse(instance).map_err(anyhow::Error::msg)?;
    let backup = Name::parse(backup).map_err(anyhow::Error::msg)?;
    let Some(defined) = definitions.instances.get(&name) else {
        warn!(holdfast_instance = %instance, "cleanup_state of {instance} is due, but it is no longer defined");
        return Ok(());
    };
    let never = tokio_util::sync::CancellationToken::new();
    let place = Place::resolve(defined, Purpose::Backup, &context.dirs.tools(), &[], &never).await?;
    hook::clean_up(&place, &backup).await
}

/// Puts the old data back to where it lived, if it is still set aside.
async fn swap_back(live: &Path, aside: &Path, inode: Option<u64>) -> anyhow::Result<()> {
    let (live, aside) = (live.to_owned(), aside.to_owned());
    crate::dump::at_rest(vec![live.clone()]).await?;
    tokio::task::spawn_blocking(move || super::restore::swap::put_back(&live, &aside, inode)).await?
}
