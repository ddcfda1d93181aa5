//! The recover job: the unit has failed; the newest fit set is restored, the unit started, and all of it is bounded.

mod past;
mod select;
mod standing;
mod told;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::live::append;
use super::restore::{self, Failed, Wanted};
use super::{Context, Live, message, version};
use crate::definition::{Definitions, Instance, Name, Recovery};
use crate::process::{self, How, Limits};
use crate::service_control::failure::{self, Condition};
use crate::state::{Outcome, Phase, SetRecord, UnitRecord};
use crate::target::{Place, Purpose};

pub use past::read as remembered;
pub(super) use past::{restored, sick};
pub use select::{Attempt, Bound, Measure, Past, Standing, bound};
pub use standing::{present_version, words};
pub use told::{answered, is_asked, refused};

/// How long the unit may take to start.
const START: Duration = Duration::from_secs(300);
/// How long a guard may take.
const GUARD: Duration = Duration::from_secs(60);
/// What a guard exits with when it is too early to act. Source: sysexits.h, EX_TEMPFAIL.
const NOT_NOW: i32 = 75;

/// What one recover job does; frozen when it is asked for.
pub struct Request {
    /// The definitions as they were.
    pub definitions: Arc<Definitions>,
    /// The instance.
    pub instance: Arc<Instance>,
    /// Its `[recovery]`.
    pub recovery: Recovery,
    /// Its identity.
    pub uuid: Uuid,
    /// Its committed sets.
    pub sets: Vec<SetRecord>,
    /// Whether the failed data is kept.
    pub save_failed: bool,
    /// Whether anything is stopped and started.
    pub start: bool,
    /// Earlier attempts do not count against the bound.
    pub acknowledge: bool,
}

/// Whether the guard lets a recovery begin.
///
/// # Errors
/// It fails in another way than by saying that it is too early.
pub async fn guarded(context: &Context, instance: &Arc<Instance>, recovery: &Recovery) -> Result<bool> {
    let Some(argv) = &recovery.guard else { return Ok(true) };
    let never = CancellationToken::new();
    let place = Place::resolve(instance, Purpose::Restore, &context.dirs.tools(), &[], &never).await?;
    let mut program = place.command("recovery.guard", argv)?;
    program.limits = Limits::within(GUARD);
    let ended = process::capture(program, &never, 64 * 1024).await?.ended;
    match (&ended.stopped, &ended.how) {
        (None, How::Exited(0)) => Ok(true),
        (None, How::Exited(NOT_NOW)) => Ok(false),
        (stopped, how) => {
            bail!("the guard {argv:?} ended with {how:?} ({stopped:?}): {}", ended.stderr_tail.trim())
        }
    }
}

/// Remembers a set that is about to be made as one of a sick application, when the unit has failed.
pub(super) async fn note_health(context: &Context, instance: &Instance, uuid: Uuid, set: &str) -> Result<()> {
    let Some(recovery) = &instance.recovery else { return Ok(()) };
    match failure::condition(&recovery.unit).await {
        Ok(Condition::Failed) => {
            warn!("{} has failed: no recovery will use this set of {}", recovery.unit, instance.name);
            past::sick(context, uuid, set).await
        }
        Ok(Condition::Inactive | Condition::Active) => Ok(()),
        Err(failure) => {
            warn!("whether {} has failed is not known: {failure:#}", recovery.unit);
            Ok(())
        }
    }
}

/// Runs the job to its end; how it ended stands in `live`.
pub async fn run(context: Context, live: Arc<Live>, request: Request) {
    let (name, unit) = (request.instance.name.clone(), request.recovery.unit.clone());
    let record = UnitRecord { instance: name.to_string(), phase: Phase::Plan, ..UnitRecord::default() };
    live.update_stored(|job| {
        job.started = Some(Timestamp::now());
        job.units = vec![record];
    })
    .await;
    let (outcome, text) = match work(&context, &live, request).await {
        Ok(Done::Recovered(text)) => (Outcome::Succeeded, text),
        Ok(Done::Runs) => (Outcome::Skipped, format!("{unit} runs; nothing was touched")),
        Err(failure) => live.verdict(&failure),
    };
    told::write(&context, &name, outcome.word(), &text).await;
    match outcome {
        Outcome::Succeeded => info!(holdfast_instance = %name, holdfast_outcome = %outcome, "{text}"),
        Outcome::Skipped => info!(holdfast_instance = %name, holdfast_outcome = %outcome, "{text}"),
        _ => error!(
            MESSAGE_ID = message::NOT_RECOVERED,
            holdfast_instance = %name,
            holdfast_outcome = %outcome,
            "{name} was not recovered: {text}"
        ),
    }
    live.update(|job| {
        for unit in job.units.iter_mut().filter(|unit| unit.outcome.is_none_or(|own| own < outcome)) {
            unit.outcome = Some(outcome);
            if !unit.error.contains(&text) {
                append(&mut unit.error, &text);
            }
        }
    });
}

enum Done {
    Recovered(String),
    Runs,
}

async fn work(context: &Context, live: &Arc<Live>, request: Request) -> Result<Done> {
    let untouched = "nothing was touched";
    let (instance, recovery) = (Arc::clone(&request.instance), request.recovery.clone());
    if failure::condition(&recovery.unit).await.context(untouched)? == Condition::Active {
        return Ok(Done::Runs);
    }
    let tools = context.dirs.tools();
    let place = Place::resolve(&instance, Purpose::Restore, &tools, &[], live.cancelled()).await;
    let place = place.context(untouched)?;
    let present = version::ask(&place, live.cancelled()).await.context(untouched)?;
    let mut past = past::read(context, request.uuid).await.context(untouched)?;
    if request.acknowledge {
        past.attempts.iter_mut().for_each(|attempt| attempt.acknowledged = true);
    }
    bounded(&recovery, &past, &instance.name).context(untouched)?;
    let (opened, set) = choose(context, &request, &present, &past).await.context(untouched)?;
    info!(
        holdfast_instance = %instance.name,
        "{} has failed; snapshot {} of {} (version {:?}) is restored", recovery.unit, set.snapshot, set.time, set.version
    );
    // Before anything is touched: whatever happens next, this set is not tried without end.
    let failed = Failed {
        name: restore::free_name(context, &instance.name, &present),
        again: brought_by_us(context, &instance, &past).await.context(untouched)?,
    };
    let (at, snapshot) = (Timestamp::now(), set.snapshot.clone());
    past.attempts.push(Attempt { at, snapshot, over: false, acknowledged: false, well: false });
    past::write(context, request.uuid, past.clone()).await.context(untouched)?;
    let told = format!("{} runs again on snapshot {} of {}", recovery.unit, set.snapshot, set.time);
    let (uuid, start) = (request.uuid, request.start);
    let recovered = async {
        restore_it(context, live, request, opened, set, failed).await?;
        if start { bring_up(live, &place, &recovery).await } else { Ok(()) }
    };
    let recovered = recovered.await;
    // One that was cancelled says nothing of its set.
    if !live.cancelled().is_cancelled()
        && let Some(attempt) = past.attempts.last_mut()
    {
        attempt.over = true;
        attempt.well = recovered.is_ok();
        past::write(context, uuid, past).await?;
    }
    recovered?;
    Ok(Done::Recovered(if start {
        told
    } else {
        format!("{}: data is restored, nothing was started", instance.name)
    }))
}

/// Whether what lives is what an earlier recovery brought, on which the application was not well.
async fn brought_by_us(context: &Context, instance: &Instance, past: &Past) -> Result<bool> {
    let Some(last) = past.attempts.last().filter(|attempt| !attempt.well) else { return Ok(false) };
    let kept = restore::kept::list(context, Some(&instance.name)).await?.into_iter().next();
    Ok(kept.is_some_and(|kept| kept.snapshot == last.snapshot && kept.made >= last.at))
}

/// The daemon died after the restore stood, and the unit runs: what was left to do is to ask for its health.
///
/// # Errors
/// The database's, or it is not well.
pub async fn finish(
    context: &Context,
    instance: &Arc<Instance>,
    recovery: &Recovery,
    uuid: Uuid,
) -> Result<()> {
    let mut past = past::read(context, uuid).await?;
    let cut_off = past.attempts.last().is_some_and(|last| !last.over);
    if !cut_off || !brought_by_us(context, instance, &past).await? {
        return Ok(());
    }
    let never = CancellationToken::new();
    let place = Place::resolve(instance, Purpose::Restore, &context.dirs.tools(), &[], &never).await?;
    let well = restore::ask_health(&place, &never).await;
    if let Some(last) = past.attempts.last_mut() {
        (last.over, last.well) = (true, well.is_ok());
        let (unit, snapshot) = (&recovery.unit, &last.snapshot);
        let (outcome, text) = match &well {
            Ok(()) => ("succeeded", format!("{unit} runs again on snapshot {snapshot}")),
            Err(failure) => ("failed", format!("{unit} runs on snapshot {snapshot}, but {failure:#}")),
        };
        told::write(context, &instance.name, outcome, &text).await;
    }
    past::write(context, uuid, past).await?;
    well
}

fn bounded(recovery: &Recovery, past: &Past, name: &Name) -> Result<()> {
    match bound(recovery, past, Timestamp::now()) {
        Bound::Free => Ok(()),
        Bound::CoolDown(end) => bail!("the last recovery is too recent; `recovery.cool_down` ends at {end}"),
        Bound::Exhausted(count) => bail!(
            "{count} recoveries have begun within {:?}, the most that `recovery.attempts` allows; look at what is \
             wrong, then say `holdfast recover {name} --acknowledge`",
            recovery.window
        ),
    }
}

/// The best set whose repository answers.
async fn choose(
    context: &Context,
    request: &Request,
    version: &str,
    past: &Past,
) -> Result<(super::Opened, SetRecord)> {
    let (definitions, instance) = (&request.definitions, &request.instance);
    let measure = Measure { terms: &request.recovery, version, host: &definitions.daemon.host, past };
    let mut sets = request.sets.clone();
    let mut unavailable = None;
    while let Some(set) = measure.candidate(&sets) {
        let wanted = Wanted {
            repository: Some(Name::parse(&set.repository).map_err(anyhow::Error::msg)?),
            snapshot: set.snapshot.clone(),
            ..Wanted::default()
        };
        let failure = match restore::choose(context, definitions, instance, request.uuid, &wanted).await {
            Ok(found) => return Ok(found),
            Err(failure) => failure,
        };
        warn!("snapshot {} in {} cannot be used: {failure}", set.snapshot, set.repository);
        unavailable = Some(failure);
        let (repository, snapshot) = (set.repository.clone(), set.snapshot.clone());
        sets.retain(|other| (&other.repository, &other.snapshot) != (&repository, &snapshot));
    }
    match unavailable {
        Some(failure) => Err(anyhow::Error::new(failure).context("no fit set can be read")),
        None => bail!("{}", measure.none_because(&request.sets)),
    }
}

/// The restore procedure as it is for all restores; only the unit is not its concern, nor what asks for its health.
async fn restore_it(
    context: &Context,
    live: &Arc<Live>,
    request: Request,
    opened: super::Opened,
    set: SetRecord,
    failed: Failed,
) -> Result<()> {
    let mut instance = (*request.instance).clone();
    instance.restore.health = None;
    instance.restore.keep_previous = match request.save_failed {
        true => instance.restore.keep_previous.max(request.recovery.keep_failed),
        false => Duration::ZERO,
    };
    let (name, repository) = (instance.name.to_string(), set.repository.clone());
    let restore = restore::Request {
        definitions: request.definitions,
        instance: Arc::new(instance),
        set,
        opened,
        include: Vec::new(),
        databases: Vec::new(),
        edited: Vec::new(),
        new_user: None,
        target: None,
        force_version: true,
        stop: request.start,
        start: request.start,
        founding: None,
        failed: Some(failed),
        rights: restore::Rights::default(),
    };
    restore::run(context.clone(), Arc::clone(live), restore).await;
    let record = live.record();
    let unit = record.units.iter().find(|unit| unit.instance == name && unit.repository == repository);
    match unit.and_then(|unit| unit.outcome) {
        Some(Outcome::Succeeded | Outcome::Warning) => Ok(()),
        _ => bail!("the restore failed: {}", unit.map_or("", |unit| unit.error.as_str())),
    }
}

async fn bring_up(live: &Live, place: &Place, recovery: &Recovery) -> Result<()> {
    let restored = "the set is restored, but";
    failure::start(&recovery.unit, START)
        .await
        .with_context(|| format!("{restored} {} fails", recovery.unit))?;
    restore::ask_health(place, live.cancelled()).await.context(restored)
}
