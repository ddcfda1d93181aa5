//! Which slots are due. Pure: every time is a parameter.
//!
//! For each key one instant is known: the last slot that was decided. All else follows from it and from the clock, so
//! neither a restart nor a reload nor a clock that is set can drop or double a slot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::delay;
use crate::calendar::{Schedule, Window, clear_of};

/// How late a slot may be noticed and still be on time.
pub const GRACE: Duration = Duration::from_secs(2 * 60);

/// A clock before this was never set: 2020-01-01 00:00:00 UTC.
const SANE: Timestamp = Timestamp::constant(1_577_836_800, 0);

/// A clock set back by less than this repeats nothing. Further back, the slots ahead were decided under a wrong clock,
/// and waiting for them would mean no backup for as long.
const FAR_BACK: Duration = Duration::from_secs(48 * 3600);

/// How long a clock must stay far back before it is believed: at boot it may lag until the network has set it.
const BELIEF: Duration = Duration::from_secs(15 * 60);

/// Missed slots are counted up to here.
const MOST_COUNTED: u32 = 1000;

/// Something with a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is, such as `backup/NAME`, `prune/REPOSITORY`, `check/REPOSITORY`; unique.
    pub key: String,
    /// When.
    pub schedule: Schedule,
    /// The zone for expressions that name none.
    pub zone: TimeZone,
    /// Width of the window over which hosts and keys are spread.
    pub random_delay: Duration,
    /// Nothing runs in these windows: a slot that comes in one, its delay included, comes at its end.
    pub blackout: Vec<Window>,
    /// Whether slots missed while the daemon or the machine was down are made up for by one run.
    pub catch_up: bool,
    /// The last slot decided, from the state; `None` where the state has none.
    pub decided: Option<Timestamp>,
}

/// Why a slot was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Its time has come: run it.
    OnTime,
    /// It was missed: run it once for all that were.
    CatchUp,
    /// It was missed and shall not be made up for: count it, run nothing.
    Missed,
    /// Counting begins here: the key is new, its schedule changed, or the clock was set far back. Run nothing.
    Rebased,
    /// Its time has come and its run is put off: to the end of a blackout, or, when it was missed, by its delay. Nothing
    /// is decided yet and nothing is to be stored.
    Held,
}

impl Kind {
    /// Whether something is to be run.
    pub const fn runs(self) -> bool {
        matches!(self, Self::OnTime | Self::CatchUp)
    }
}

/// A decision. First store `slot` as the last one decided for `key`, durably, then act on it; but for [`Kind::Held`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The key of the entry.
    pub key: String,
    /// The slot, without random delay; for [`Kind::Rebased`] the instant from which slots count.
    pub slot: Timestamp,
    /// Why.
    pub kind: Kind,
    /// How many earlier slots this decision covers beside its own; counted up to 1000.
    pub skipped: u32,
}

/// Decides which slots are due. It has no clock: `now` is given.
#[derive(Debug)]
pub struct Planner {
    host: String,
    plans: BTreeMap<Arc<str>, Plan>,
    queue: BTreeSet<(Timestamp, Arc<str>)>,
    latest_now: Timestamp,
}

/// One entry and where it stands.
#[derive(Debug)]
struct Plan {
    entry: Entry,
    delay: Duration,
    decided: Option<Timestamp>,
    /// When a missed slot is made up for.
    catch_up_at: Option<Timestamp>,
    /// Since when the clock is seen far behind the last slot decided.
    behind_since: Option<Timestamp>,
    /// Whether it was told that a slot has come and is put off.
    held: bool,
    /// When this must be looked at again; mirrored in the queue.
    wake: Option<Timestamp>,
}

impl Planner {
    /// A planner without entries; `host` seeds the random delays.
    pub fn new(host: &str) -> Self {
        Self {
            host: host.to_owned(),
            plans: BTreeMap::new(),
            queue: BTreeSet::new(),
            latest_now: Timestamp::MIN,
        }
    }

    /// Takes a new set of entries, at start and at each reload. Of an entry that is already there `decided` is ignored:
    /// the planner knows better.
    ///
    /// The decisions returned must be handled like those of [`Planner::due`]: keys seen for the first time count from
    /// now, and where an entry changed, a slot that had come but waited for its delay is handed out under its old
    /// definition, then the new one counts from now.
    pub fn replace(&mut self, entries: Vec<Entry>, now: Timestamp) -> Vec<Due> {
        self.queue.clear();
        let mut old = std::mem::take(&mut self.plans);
        let mut decisions = Vec::new();
        for entry in entries {
            let key: Arc<str> = entry.key.as_str().into();
            let plan = match old.remove(&key) {
                Some(plan) if plan.is_for(&entry) => plan,
                Some(plan) => plan.succeed(&self.host, entry, now, &mut decisions),
                None => Plan::new(&self.host, entry),
            };
            self.plans.insert(key, plan);
        }
        decisions.extend(self.refresh(now));
        decisions
    }

    /// Everything that is due, ordered by the time at which it was to be looked at and by key. Each slot is returned
    /// once.
    pub fn due(&mut self, now: Timestamp) -> Vec<Due> {
        let mut decisions =
            if now < self.latest_now || self.latest_now < SANE { self.refresh(now) } else { Vec::new() };
        if now < SANE {
            return decisions;
        }
        self.latest_now = now;
        while let Some((wake, key)) = self.queue.pop_first() {
            if wake > now {
                self.queue.insert((wake, key));
                break;
            }
            if let Some(plan) = self.plans.get_mut(&key) {
                decisions.extend(plan.look(now));
                self.queue.extend(plan.wake.map(|wake| (wake, key)));
            }
        }
        decisions
    }

    /// When [`Planner::due`] must be asked again, unless the clock is set before. `None`: only then, or never.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.queue.first().map(|(wake, _)| *wake)
    }

    /// When something will run next, its random delay included. A run that is due already is told as `now`.
    pub fn next_run(&self, key: &str, now: Timestamp) -> Option<Timestamp> {
        let plan = self.plans.get(key)?;
        plan.next_run().map(|run| plan.clear(run.max(now)))
    }

    /// Until when a slot that has come is held back by a blackout.
    pub fn held_until(&self, key: &str, now: Timestamp) -> Option<Timestamp> {
        let plan = self.plans.get(key)?;
        plan.open_slots(earlier(now, plan.delay))?;
        Some(plan.clear(now)).filter(|clear| *clear > now)
    }

    /// Plans everything anew: after a change of the entries, when the clock went back, when it became sane.
    fn refresh(&mut self, now: Timestamp) -> Vec<Due> {
        self.queue.clear();
        self.latest_now = now;
        if now < SANE {
            return Vec::new();
        }
        let mut decisions = Vec::new();
        for (key, plan) in &mut self.plans {
            decisions.extend(plan.begin(now));
            plan.arm(now);
            self.queue.extend(plan.wake.map(|wake| (wake, Arc::clone(key))));
        }
        decisions
    }
}

impl Plan {
    fn new(host: &str, entry: Entry) -> Self {
        let delay = delay::stable(host, &entry.key, entry.random_delay);
        let decided = entry.decided;
        Self { entry, delay, decided, catch_up_at: None, behind_since: None, held: false, wake: None }
    }

    fn is_for(&self, entry: &Entry) -> bool {
        let Entry { key, schedule, zone, random_delay, blackout, catch_up, decided: _ } = entry;
        let own = &self.entry;
        own.key == *key
            && own.schedule == *schedule
            && own.zone == *zone
            && own.random_delay == *random_delay
            && own.blackout == *blackout
            && own.catch_up == *catch_up
    }

    /// Lets a new key count from now, and forgets a catch-up that another clock had planned: one that lies further ahead
    /// than its delay, or whose slot has not come any more.
    fn begin(&mut self, now: Timestamp) -> Option<Due> {
        let Some(decided) = self.decided else { return Some(self.rebase(now)) };
        let open = self.next_slot(decided).is_some_and(|first| first <= earlier(now, self.delay));
        self.catch_up_at = self.catch_up_at.filter(|at| open && *at <= later(now, self.delay));
        self.held &= open;
        None
    }

    fn rebase(&mut self, now: Timestamp) -> Due {
        (self.decided, self.behind_since, self.catch_up_at, self.held) = (Some(now), None, None, false);
        self.decision(now, Kind::Rebased, 0)
    }

    /// The plan for a changed entry: what was owed under the old one is decided, the new one counts from now.
    fn succeed(mut self, host: &str, entry: Entry, now: Timestamp, decisions: &mut Vec<Due>) -> Self {
        if now < SANE {
            return Self::new(host, Entry { decided: self.decided, ..entry });
        }
        decisions.extend(self.settle(now));
        let from = self.decided.filter(|_| !self.is_far_behind(now)).map_or(now, |decided| decided.max(now));
        let mut plan = Self::new(host, entry);
        decisions.push(plan.rebase(from));
        plan
    }

    /// Decides what was owed under a definition that is about to be replaced, without waiting for its delay.
    fn settle(&mut self, now: Timestamp) -> Option<Due> {
        let (latest, count) = self.open_slots(now)?;
        self.decide(latest, count, self.is_late(latest, now))
    }

    /// Looks at what has happened by `now`, decides, and plans the next look.
    fn look(&mut self, now: Timestamp) -> Option<Due> {
        let decision = self.judge(now);
        self.arm(now);
        decision
    }

    fn judge(&mut self, now: Timestamp) -> Option<Due> {
        if self.is_far_behind(now) {
            let believed = self.behind_since.is_some_and(|since| later(since, BELIEF) <= now);
            return believed.then(|| self.rebase(now));
        }
        let (latest, count) = self.open_slots(earlier(now, self.delay))?;
        if self.clear(now) > now {
            return self.hold(latest, count);
        }
        let late = self.is_late(latest, now);
        if late && self.entry.catch_up && !self.catch_up_is_due(latest, now) {
            return self.hold(latest, count);
        }
        self.decide(latest, count, late)
    }

    /// Says once that a slot has come and is put off.
    fn hold(&mut self, latest: Timestamp, count: u32) -> Option<Due> {
        let told = std::mem::replace(&mut self.held, true);
        (!told).then(|| self.decision(latest, Kind::Held, count.saturating_sub(1)))
    }

    /// Whether a missed slot is to be made up for now. The first time it is noticed its run is put off by the random
    /// delay, so that a fleet does not wake at once; it is left to the next slot where that one comes earlier.
    fn catch_up_is_due(&mut self, latest: Timestamp, now: Timestamp) -> bool {
        if self.catch_up_at.is_none() {
            let at = later(now, self.delay);
            let next = self.next_slot(latest).filter(|next| *next <= at && !self.delay.is_zero());
            self.catch_up_at = Some(next.map_or(at, |next| later(next, self.delay)));
        }
        self.catch_up_at.is_some_and(|at| at <= now)
    }

    fn decide(&mut self, slot: Timestamp, count: u32, late: bool) -> Option<Due> {
        let kind = match (late, self.entry.catch_up) {
            (false, _) => Kind::OnTime,
            (true, true) => Kind::CatchUp,
            (true, false) => Kind::Missed,
        };
        (self.decided, self.catch_up_at, self.held) = (Some(slot), None, false);
        Some(self.decision(slot, kind, count.saturating_sub(1)))
    }

    /// Whether a slot, its delay and blackout included, was to run longer ago than [`GRACE`].
    fn is_late(&self, slot: Timestamp, now: Timestamp) -> bool {
        self.clear(later(slot, self.delay)) < earlier(now, GRACE)
    }

    /// The same moment, or the end of the blackout that it lies in.
    fn clear(&self, at: Timestamp) -> Timestamp {
        clear_of(&self.entry.blackout, at, &self.entry.zone)
    }

    /// The latest slot up to `reached` that is not decided, and how many there are.
    fn open_slots(&self, reached: Timestamp) -> Option<(Timestamp, u32)> {
        let Entry { schedule, zone, .. } = &self.entry;
        let first =
            self.decided.and_then(|decided| self.next_slot(decided)).filter(|first| *first <= reached)?;
        let latest = schedule.latest_at_or_before(reached, zone, self.decided).unwrap_or(first);
        let slots = std::iter::successors(Some(first), |slot| self.next_slot(*slot));
        let count = slots.take_while(|slot| *slot <= latest).take(MOST_COUNTED as usize).count();
        Some((latest, count as u32))
    }

    fn next_slot(&self, after: Timestamp) -> Option<Timestamp> {
        self.entry.schedule.next_after(after, &self.entry.zone, self.decided)
    }

    /// When something runs next, as far as it is known.
    fn next_run(&self) -> Option<Timestamp> {
        self.catch_up_at.or_else(|| Some(later(self.next_slot(self.decided?)?, self.delay)))
    }

    fn is_far_behind(&self, now: Timestamp) -> bool {
        self.decided.is_some_and(|decided| decided > later(now, FAR_BACK))
    }

    fn arm(&mut self, now: Timestamp) {
        if self.is_far_behind(now) {
            let since = self.behind_since.filter(|since| *since <= now).unwrap_or(now);
            self.behind_since = Some(since);
            self.wake = Some(later(since, BELIEF));
        } else {
            self.behind_since = None;
            // What is put off is looked at twice: when its slot has come, and when it may run.
            self.wake = self.next_run().map(|run| if self.held { self.clear(run.max(now)) } else { run });
        }
    }

    fn decision(&self, slot: Timestamp, kind: Kind, skipped: u32) -> Due {
        Due { key: self.entry.key.clone(), slot, kind, skipped }
    }
}

/// Later by a duration, at most the end of time.
fn later(instant: Timestamp, by: Duration) -> Timestamp {
    instant.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// Earlier by a duration, at least the beginning of time.
fn earlier(instant: Timestamp, by: Duration) -> Timestamp {
    instant.saturating_sub(by).unwrap_or(Timestamp::MIN)
}
