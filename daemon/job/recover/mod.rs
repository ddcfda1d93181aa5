//! The recover job: the unit has failed; the newest fit set is restored, the unit started, and all of it is bounded.

mod blame;
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

use self::blame::{Away, Blame, Patience, blame};
use super::live::append;
use super::restore::{self, Failed, Wanted};
use super::{Context, Live, message, version};
use crate::definition::{Definitions, Instance, Name, Recovery};
use crate::process::{self, How, Limits};
use crate::restic::{self, Access, Restic, Terms};
use crate::service_control::failure::{self, Condition};
use crate::state::{Outcome, Phase, SetRecord, UnitRecord};
use crate::target::{Place, Purpose};

pub use past::read as remembered;
pub(super) use past::{restored, sick};
pub use select::{Attempt, Bound, Measure, Past, Standing, bound};
pub use standing::{present_version, words};
pub use told::{answered, asked_at, not_needed, refused};

/// How long the unit may take to start.
const START: Duration = Duration::from_secs(300);
/// How long a guard may take.
const GUARD: Duration = Duration::from_secs(60);
/// How long a repository may take to say whether it is there.
const ANSWER: Duration = Duration::from_secs(60);
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
    let (outcome, text) = match work(&context, &live, &request).await {
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
            if text.contains(&unit.error) {
                unit.error.clone_from(&text);
            } else if !unit.error.contains(&text) {
                append(&mut unit.error, &text);
            }
        }
    });
}

enum Done {
    Recovered(String),
    Runs,
}

/// A repository that is away for a moment costs no set: another copy is tried, then the same again, for a while.
async fn work(context: &Context, live: &Arc<Live>, request: &Request) -> Result<Done> {
    let mut patience = Patience::of(request.recovery.patience);
    loop {
        let sets = patience.within_reach(&request.sets);
        match once(context, live, request, &sets, patience.is_over()).await {
            Ok(done) => return Ok(done),
            Err(failure) => patience.again(live, &request.sets, failure).await?,
        }
    }
}

/// What a recovery is about to do.
struct Plan {
    place: Place,
    past: Past,
    opened: super::Opened,
    set: SetRecord,
    failed: Failed,
}

/// `last`: it is not tried again, whatever the storage does.
async fn once(
    context: &Context,
    live: &Arc<Live>,
    request: &Request,
    sets: &[SetRecord],
    last: bool,
) -> Result<Done> {
    let recovery = &request.recovery;
    let plan = plan(context, live, request, sets, last).await.context("nothing was touched")?;
    let Some(Plan { place, past, opened, set, failed }) = plan else { return Ok(Done::Runs) };
    let told = format!("{} runs again on snapshot {} of {}", recovery.unit, set.snapshot, set.time);
    let (away, access) = (Away::of(&set), opened.access.clone());
    if let Err(failure) = restore_it(context, live, request, opened, set, failed).await {
        // One that was cancelled says nothing of its set.
        if live.cancelled().is_cancelled() {
            return Err(failure);
        }
        let blame = verdict(request, &access, &failure, last).await;
        settle(context, request, past, (blame == Blame::Set).then_some(false)).await?;
        return Err(if blame == Blame::Storage { failure.context(away) } else { failure });
    }
    let up = if request.start { bring_up(live, &place, recovery).await } else { Ok(()) };
    if !live.cancelled().is_cancelled() {
        settle(context, request, past, Some(up.is_ok())).await?;
    }
    up?;
    Ok(Done::Recovered(if request.start {
        told
    } else {
        format!("{}: data is restored, nothing was started", request.instance.name)
    }))
}

/// Chooses the set and writes down that it is tried; none: the unit runs.
async fn plan(
    context: &Context,
    live: &Live,
    request: &Request,
    sets: &[SetRecord],
    last: bool,
) -> Result<Option<Plan>> {
    let (instance, recovery) = (&request.instance, &request.recovery);
    if failure::condition(&recovery.unit).await? == Condition::Active {
        return Ok(None);
    }
    let place =
        Place::resolve(instance, Purpose::Restore, &context.dirs.tools(), &[], live.cancelled()).await?;
    let present = version::ask(&place, live.cancelled()).await?;
    let mut past = past::read(context, request.uuid).await?;
    if request.acknowledge {
        past.attempts.iter_mut().for_each(|attempt| attempt.acknowledged = true);
    }
    bounded(recovery, &past, &instance.name)?;
    let measure =
        Measure { terms: recovery, version: &present, host: &request.definitions.daemon.host, past: &past };
    let (opened, set) = choose(context, request, sets, &measure, last).await?;
    info!(
        holdfast_instance = %instance.name,
        "{} has failed; snapshot {} of {} (version {:?}) is restored", recovery.unit, set.snapshot, set.time, set.version
    );
    let failed = Failed {
        name: restore::free_name(context, &instance.name, &present),
        again: brought_by_us(context, instance, &past).await?,
    };
    // Before anything is touched: whatever happens next, this set is not tried without end.
    let (at, snapshot) = (Timestamp::now(), set.snapshot.clone());
    let no_start = !request.start;
    past.attempts.push(Attempt { at, snapshot, over: false, acknowledged: false, well: false, no_start });
    past::write(context, request.uuid, past.clone()).await?;
    Ok(Some(Plan { place, past, opened, set, failed }))
}

/// What is to blame. A storage that answers, and has not given the set out in all that time, is damaged where it lies.
async fn verdict(request: &Request, access: &Access, failure: &anyhow::Error, last: bool) -> Blame {
    let (blame, cause) = (blame(failure), failure.downcast_ref());
    if !last || blame != Blame::Storage || matches!(cause, Some(restic::Error::Locked { .. })) {
        return blame;
    }
    let terms = Terms::new(&CancellationToken::new()).question(ANSWER);
    let answer = async {
        let restic = Restic::probe(&request.definitions.daemon.restic).await?;
        restic.config_id(access, &terms).await
    };
    if answer.await.is_ok() { Blame::Set } else { blame }
}

/// Remembers how the attempt that was begun came out; none: it says nothing of its set, and does not count.
async fn settle(context: &Context, request: &Request, mut past: Past, well: Option<bool>) -> Result<()> {
    match (well, past.attempts.last_mut()) {
        (Some(well), Some(attempt)) => (attempt.over, attempt.well) = (true, well),
        _ => drop(past.attempts.pop()),
    }
    past::write(context, request.uuid, past).await
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

/// The best set whose repository answers; the best of all as long as there is time to wait for it.
async fn choose(
    context: &Context,
    request: &Request,
    sets: &[SetRecord],
    measure: &Measure<'_>,
    last: bool,
) -> Result<(super::Opened, SetRecord)> {
    let (definitions, instance) = (&request.definitions, &request.instance);
    let (mut sets, mut unavailable) = (sets.to_vec(), None);
    while let Some(set) = measure.candidate(&sets).cloned() {
        let wanted = Wanted {
            repository: Some(Name::parse(&set.repository).map_err(anyhow::Error::msg)?),
            snapshot: set.snapshot.clone(),
            ..Wanted::default()
        };
        let failure = match restore::choose(context, definitions, instance, request.uuid, &wanted).await {
            Ok(found) => return Ok(found),
            Err(failure) => anyhow::Error::new(failure),
        };
        if !last && blame(&failure) == Blame::Storage {
            return Err(failure.context(Away::of(&set)));
        }
        warn!("snapshot {} in {} cannot be used: {failure:#}", set.snapshot, set.repository);
        unavailable = Some(failure);
        sets.retain(|other| (&other.repository, &other.snapshot) != (&set.repository, &set.snapshot));
    }
    match unavailable {
        Some(failure) => Err(failure.context("no fit set can be read")),
        None => bail!("{}", measure.none_because(&request.sets)),
    }
}

/// The restore procedure as it is for all restores; only the unit is not its concern, nor what asks for its health.
async fn restore_it(
    context: &Context,
    live: &Arc<Live>,
    request: &Request,
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
    let restore = restore::Request {
        definitions: Arc::clone(&request.definitions),
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
    restore::attempt(context.clone(), Arc::clone(live), restore).await.context("the restore failed")
}

async fn bring_up(live: &Live, place: &Place, recovery: &Recovery) -> Result<()> {
    let restored = "the set is restored, but";
    failure::start(&recovery.unit, START)
        .await
        .with_context(|| format!("{restored} {} fails", recovery.unit))?;
    restore::ask_health(place, live.cancelled()).await.context(restored)
}
