//! When a child has lived too long, and the steps that end it.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use super::Limits;
use super::run::{Sign, Why};
use super::running::Running;
use super::work::Work;

/// The least time that SIGKILL gets before a child counts as unkillable.
const KILL_GRACE: Duration = Duration::from_secs(20);

/// Where a child stands on the way to its end.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Lives,
    Signalled(Signal, Instant),
    Ended(Instant),
}

/// A child's deadlines, its signs of life, and its kill chain.
#[derive(Debug)]
pub(super) struct Fate {
    limits: Limits,
    started: Instant,
    life: Instant,
    look: Look,
    heard: u64,
    stage: Stage,
    why: Option<Why>,
}

/// What was known of its work when last looked at.
#[derive(Debug)]
struct Look {
    at: Instant,
    work: Work,
    heard: u64,
}

impl Fate {
    pub(super) fn new(limits: Limits, running: &Running) -> Self {
        let now = Instant::now();
        let work = if limits.work_counts { running.work() } else { Work::default() };
        let look = Look { at: now, work, heard: 0 };
        Self { limits, started: now, life: now, look, heard: 0, stage: Stage::Lives, why: None }
    }

    /// Whether it has ended.
    pub(super) const fn ended(&self) -> bool {
        matches!(self.stage, Stage::Ended(_))
    }

    /// Whether a wish to stop it still means something.
    pub(super) const fn may_stop(&self) -> bool {
        matches!(self.stage, Stage::Lives)
    }

    /// Why we stopped it.
    pub(super) const fn stopped(&self) -> Option<Why> {
        self.why
    }

    /// How long it ran.
    pub(super) fn duration(&self) -> Duration {
        match self.stage {
            Stage::Ended(at) => at - self.started,
            _ => self.started.elapsed(),
        }
    }

    /// Notes that it has ended; from now on only its pipes are drained.
    pub(super) fn note_end(&mut self) {
        self.stage = Stage::Ended(Instant::now());
    }

    /// Takes what the listener made of a piece of output.
    pub(super) fn heard(&mut self, bytes: usize, sign: Sign, running: &Running) {
        self.heard = self.heard.saturating_add(bytes as u64);
        match sign {
            Sign::Life => self.life = Instant::now(),
            Sign::Nothing => {}
            Sign::Stop => self.stop(Why::Enough, running),
        }
    }

    /// The listener took this long: that is no time in which what the child left in its pipes could be read.
    pub(super) fn wait(&mut self, took: Duration) {
        if let Stage::Ended(at) = &mut self.stage {
            *at += took;
        }
    }

    /// When to look at it again.
    pub(super) fn next_look(&self) -> Option<Instant> {
        match self.stage {
            Stage::Ended(at) => Some(at + self.limits.drain),
            Stage::Signalled(Signal::KILL, at) => Some(at + self.limits.grace.max(KILL_GRACE)),
            Stage::Signalled(_, at) => Some(at + self.limits.grace),
            Stage::Lives => {
                let timeout = self.limits.timeout.map(|t| self.started + t);
                timeout.into_iter().chain(self.next_stall_look()).min()
            }
        }
    }

    fn next_stall_look(&self) -> Option<Instant> {
        let stall = self.limits.stall?;
        let end = self.life + stall;
        Some(if self.limits.work_counts { end.min(self.look.at + stall / 4) } else { end })
    }

    /// Does what is due. Fails with its process id when nothing can end it.
    pub(super) fn tick(&mut self, running: &Running) -> Result<(), i32> {
        match self.stage {
            Stage::Ended(_) => {}
            Stage::Signalled(Signal::KILL, _) => return Err(running.pid()),
            Stage::Signalled(Signal::INT, _) => self.send(Signal::TERM, running),
            Stage::Signalled(..) => self.send(Signal::KILL, running),
            Stage::Lives => self.judge(running),
        }
        Ok(())
    }

    fn judge(&mut self, running: &Running) {
        let now = Instant::now();
        if self.limits.timeout.is_some_and(|t| now >= self.started + t) {
            return self.stop(Why::TimedOut, running);
        }
        let Some(stall) = self.limits.stall else { return };
        if self.limits.work_counts && now >= self.look.at + stall / 4 {
            self.look_at_work(now, running.work());
        }
        if now >= self.life + stall {
            self.stop(Why::Stalled, running);
        }
    }

    fn look_at_work(&mut self, now: Instant, work: Work) {
        if work.advanced(self.look.work, now - self.look.at, self.heard - self.look.heard) {
            self.life = now;
        }
        self.look = Look { at: now, work, heard: self.heard };
    }

    /// Begins to stop it, unless that has begun already.
    pub(super) fn stop(&mut self, why: Why, running: &Running) {
        if self.may_stop() {
            self.why = Some(why);
            self.send(Signal::INT, running);
        }
    }

    fn send(&mut self, signal: Signal, running: &Running) {
        running.signal(signal);
        // Somebody may have stopped it with SIGSTOP: only awake can it clean up.
        running.signal(Signal::CONT);
        self.stage = Stage::Signalled(signal, Instant::now());
    }
}
