//! Starting again what was stopped: in order, more than once, and for as long as it takes.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, info, warn};

use super::holds::Holds;
use crate::definition::Ran;
use crate::job::message;
use crate::service_control::{Reach, Started, State};
use crate::state::undo::Undo;
use crate::target::SshError;

/// How often a start is tried before an alarm is raised, and the first pause between two tries.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// How long one start, and then the way to health, may take.
pub(super) const START_LIMIT: Duration = Duration::from_secs(180);
/// What was started must still run after this.
pub(super) const SETTLE: Duration = Duration::from_secs(1);
/// The first and the longest pause between tries after the alarm.
const LATER: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// How long something is watched that did not stop in time: it may stop yet.
const UNSURE: Duration = Duration::from_secs(180);

/// A part of a service that is to be started.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) ran: Ran,
    pub(super) key: String,
    /// What `start_for_dump` calls it.
    pub(super) called: String,
    /// It was not healthy before, so it need not be afterwards.
    pub(super) sick: bool,
    /// It was told to stop and did not in time: it may stop later.
    pub(super) unsure: bool,
    /// See [`Seen::wave`](crate::service_control::Seen::wave).
    pub(super) wave: Option<usize>,
}

impl Part {
    /// Whether it may be stopped or started at once with its neighbour.
    pub(super) fn beside(&self, other: &Self) -> bool {
        self.wave.is_some() && self.wave == other.wave
    }
}

/// Everything that is needed to start parts of one service, whoever does it.
#[derive(Clone)]
pub(super) struct Starter {
    pub(super) holds: Holds,
    pub(super) owner: String,
    pub(super) instance: String,
    pub(super) reach: Reach,
}

/// Parts that were just started.
#[derive(Debug, Default)]
pub(super) struct Begun {
    /// With what tells this life of theirs from the next.
    runs: Vec<(Part, String)>,
    failed: Vec<(Part, String)>,
    /// What is said of those that are there no more.
    gone: Vec<String>,
}

/// What came of starting.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// What went well only at a later try, or is not there any more.
    pub(super) notes: Vec<String>,
    /// What does not run, with the reason.
    pub(super) failed: Vec<(Part, String)>,
}

impl Starter {
    /// Gives parts back, in stop order; what nobody else wants stopped is started, in the reverse order. Whether it
    /// stays so is seen in [`Starter::confirm`].
    pub(super) async fn begin(&self, parts: &[Part], limit: Duration) -> Begun {
        let mut left = self.in_start_order(parts);
        left.retain(|part| self.holds.give_back(&part.key, &self.owner));
        self.once(&left, limit).await
    }

    /// What was started must run after [`SETTLE`]; what does not is tried again.
    pub(super) async fn confirm(&self, begun: Begun, tries: u32, limit: Duration) -> Outcome {
        let mut outcome = Outcome::default();
        let mut begun = begun;
        let mut pause = PAUSE;
        for attempt in 1.. {
            outcome.notes.append(&mut begun.gone);
            let (ran, failed) = self.settled(begun, limit).await;
            if attempt > 1 {
                outcome
                    .notes
                    .extend(ran.iter().map(|p| format!("{} ran only at start {attempt}", p.ran.name)));
            }
            for (part, why) in &failed {
                warn!(holdfast_instance = %self.instance, "{} is not started yet: {why}", part.ran.name);
            }
            outcome.failed = failed;
            if outcome.failed.is_empty() || attempt >= tries {
                break;
            }
            sleep(pause).await;
            pause *= 3;
            let left: Vec<Part> = outcome.failed.iter().map(|(part, _)| part.clone()).collect();
            begun = self.once(&left, limit).await;
            sleep(SETTLE).await;
        }
        outcome
    }

    /// Begins and confirms.
    pub(super) async fn start(&self, parts: &[Part], tries: u32, limit: Duration) -> Outcome {
        let begun = self.begin(parts, limit).await;
        sleep(SETTLE).await;
        self.confirm(begun, tries, limit).await
    }

    fn in_start_order(&self, parts: &[Part]) -> Vec<Part> {
        let ran: Vec<Ran> = parts.iter().map(|part| part.ran.clone()).collect();
        let order = self.reach.start_order(&ran);
        order.iter().filter_map(|ran| parts.iter().find(|part| part.ran == **ran)).cloned().collect()
    }

    async fn once(&self, parts: &[Part], limit: Duration) -> Begun {
        let mut begun = Begun::default();
        for wave in parts.chunk_by(Part::beside) {
            for (part, started) in self.at_once(wave, limit).await {
                match started {
                    Ok(Some(life)) => begun.runs.push((part, life)),
                    Ok(None) => {
                        begun.gone.push(format!("{} is there no more and was not started", part.ran.name))
                    }
                    Err(failure) => begun.failed.push((part, format!("{failure:#}"))),
                }
            }
        }
        begun
    }

    async fn at_once(&self, parts: &[Part], limit: Duration) -> Vec<(Part, Result<Option<String>>)> {
        let mut starts = JoinSet::new();
        for (index, part) in parts.iter().cloned().enumerate() {
            let starter = self.clone();
            starts.spawn(async move { (index, starter.one(&part, limit).await) }.in_current_span());
        }
        let mut ended: BTreeMap<usize, Result<Option<String>>> = BTreeMap::new();
        while let Some(joined) = starts.join_next().await {
            ended.extend(joined);
        }
        let died = || Err(anyhow!("a defect in the daemon ended its start"));
        let one = |(index, part): (usize, &Part)| (part.clone(), ended.remove(&index).unwrap_or_else(died));
        parts.iter().enumerate().map(one).collect()
    }

    /// What still runs, and what failed, at once or by now.
    async fn settled(&self, begun: Begun, limit: Duration) -> (Vec<Part>, Vec<(Part, String)>) {
        let (mut ran, mut failed) = (Vec::new(), begun.failed);
        for (part, life) in begun.runs {
            match self.stays(&part, &life, limit).await {
                Ok(()) => {
                    info!(holdfast_instance = %self.instance, "{} runs", part.ran.name);
                    ran.push(part);
                }
                Err(failure) => failed.push((part, format!("{failure:#}"))),
            }
        }
        (ran, failed)
    }

    /// Starts one, unless somebody wants it stopped meanwhile; its life, or none if it is gone or not ours to start.
    async fn one(&self, part: &Part, limit: Duration) -> Result<Option<String>> {
        let gate = self.holds.gate(&part.key);
        // Held while it is started: who wants it stopped waits for that.
        let mut stopped = gate.lock().await;
        if self.holds.wanted(&part.key) {
            return Ok(Some(String::new()));
        }
        match self.reach.start(&part.ran, limit).await? {
            Started::Gone => {
                self.holds.settle(&part.key);
                Ok(None)
            }
            Started::Runs { life } => {
                *stopped = false;
                Ok(Some(life))
            }
        }
    }

    /// Whether what was started still runs, did not end and start again, and is healthy.
    async fn stays(&self, part: &Part, life: &str, limit: Duration) -> Result<()> {
        if self.holds.wanted(&part.key) {
            return Ok(());
        }
        let never = CancellationToken::new();
        let name = &part.ran.name;
        match self.reach.look_at(&part.ran, &never).await? {
            Some(seen) if seen.state == State::Stopped => bail!("{name} was started, but ended again"),
            Some(seen) if seen.life != life => bail!("{name} was started, but ended and was started again"),
            _ => {}
        }
        if !part.sick && !part.ran.paused {
            self.reach.healthy(&part.ran, limit, &never).await?;
        }
        self.holds.settle(&part.key);
        Ok(())
    }

    /// Says loudly what is down.
    pub(super) fn alarm(&self, failed: &[(Part, String)]) {
        for (part, why) in failed {
            error!(
                MESSAGE_ID = message::SERVICE_DOWN,
                holdfast_instance = %self.instance,
                "the service {} of {} is down: it was stopped by us and could not be started again: {why}. It is \
                 tried again; start it by hand if you can",
                part.ran.name,
                self.instance
            );
        }
    }

    /// Waits until the machine of these parts answers, whatever it says of them: with an alarm, for they are down.
    pub(super) async fn until_it_answers(&self, parts: &[Part]) {
        let Some(first) = parts.first() else { return };
        let (mut pause, longest) = LATER;
        for attempt in 1.. {
            let Err(failure) = self.reach.look_at(&first.ran, &CancellationToken::new()).await else {
                return;
            };
            if !failure.downcast_ref::<SshError>().is_some_and(SshError::retryable) {
                return;
            }
            match attempt {
                1 => self.alarm(&[(first.clone(), format!("{failure:#}"))]),
                _ => {
                    warn!(holdfast_instance = %self.instance, "{} is still down: {failure:#}", first.ran.name)
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// Goes on trying until all run, then closes the undo step.
    pub(super) fn later(self, parts: Vec<Part>, undo: Undo, step: usize) {
        for part in &parts {
            self.holds.owe(&part.key, &part.ran);
        }
        tokio::spawn(async move {
            self.until_they_run(parts).await;
            let closed = undo.done(step).await;
            if let Err(failure) = closed {
                warn!("an undo step of services could not be closed and will run again: {failure:#}");
            }
            if let Err(failure) = undo.finish_if_done().await {
                warn!("undo steps of services could not be closed and will run again: {failure:#}");
            }
        });
    }

    async fn until_they_run(&self, mut parts: Vec<Part>) {
        let (mut pause, longest) = LATER;
        let begun = Instant::now();
        loop {
            sleep(pause).await;
            pause = (pause * 2).min(longest);
            let mut left = Vec::new();
            for part in parts {
                let watched = part.unsure && begun.elapsed() < UNSURE;
                let begun = self.once(std::slice::from_ref(&part), START_LIMIT).await;
                sleep(SETTLE).await;
                match self.settled(begun, START_LIMIT).await.1.pop() {
                    None if watched => left.push(part),
                    None => info!(holdfast_instance = %self.instance, "{} is taken care of", part.ran.name),
                    Some((part, why)) => {
                        warn!(holdfast_instance = %self.instance, "{} is still down: {why}", part.ran.name);
                        left.push(part);
                    }
                }
            }
            parts = left;
            if parts.is_empty() {
                return;
            }
            if parts.iter().all(|part| part.unsure) {
                pause = pause.min(LATER.0);
            }
        }
    }
}

/// How often a start is tried in a job.
pub(super) const fn tries() -> u32 {
    TRIES
}
