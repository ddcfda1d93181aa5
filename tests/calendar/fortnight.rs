//! Fourteen simulated days of 200 definitions in ten zones, over a change of offset, with restarts, kills before and after
//! a decision was stored, reloads, suspends, and a clock that is set forward and back. What ran must be what an oracle
//! says that knows only the lists of slots (found by brute force) and when the daemon was up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holdfast::calendar::Schedule;
use holdfast::schedule::{Due, Entry, Kind, Planner};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use crate::dst::brute_force;
use crate::instant;
use crate::random::{Dice, ZONES};

const EXPRESSIONS: [&str; 20] = [
    "02:30",
    "daily",
    "weekly",
    "Sun 01:45",
    "Mon..Fri 04:00",
    "hourly",
    "*:0/20",
    "00..06:15",
    "02/4:30",
    "0 */6 * * *",
    "30 2,3 * * *",
    "*/30 2 * * *",
    "0 4 1,15 * SUN",
    "*-*~01 03:10",
    "23:59",
    "every 6h",
    "every 90m",
    "every 1d",
    "monthly",
    "Sat,Sun 01..03:05,35",
];

/// A stretch in which the daemon ran and its clock went evenly.
struct Stretch {
    from: Timestamp,
    to: Timestamp,
    how: Begin,
    /// Killed at its end: the keys whose decisions of that last instant were stored; they did not run all the same.
    killed: Option<BTreeSet<String>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Begin {
    /// The daemon was started.
    Start,
    /// The clock was set, or the machine woke.
    Jump,
}

/// What ran: the slot, when, and why.
type Runs = BTreeMap<String, Vec<(Timestamp, Timestamp, Kind)>>;

struct Machine {
    entries: Vec<Entry>,
    state: BTreeMap<String, Timestamp>,
    planner: Planner,
    wall: Timestamp,
    runs: Runs,
    stretches: Vec<Stretch>,
    begun: (Timestamp, Begin),
}

#[test]
fn fourteen_days_run_as_the_oracle_says_in_spring() {
    simulate("2026-03-22T06:00:00Z", 1);
}

#[test]
fn fourteen_days_run_as_the_oracle_says_in_autumn() {
    simulate("2026-10-24T06:00:00Z", 2);
}

fn simulate(start: &str, seed: u64) {
    let start = instant(start);
    let mut dice = Dice::new(seed);
    let mut machine = Machine::new(start);
    let mut elapsed = SignedDuration::ZERO;
    while elapsed < SignedDuration::from_hours(14 * 24) {
        let quiet = SignedDuration::from_secs(i64::from(60 + dice.below(8 * 3600)));
        let kill = dice.one_in(4).then(|| dice.below(60));
        elapsed += machine.run(quiet, kill, &mut dice);
        match dice.below(10) {
            0 | 1 => machine.reload(),
            2 => machine.jump(SignedDuration::from_secs(i64::from(dice.below(26 * 3600)))),
            3 => machine.jump(-SignedDuration::from_secs(i64::from(dice.below(12 * 3600)))),
            4 => machine.jump(SignedDuration::from_secs(-2)),
            5 | 6 => machine.restart(SignedDuration::from_secs(i64::from(dice.below(90)))),
            7 => machine.restart(SignedDuration::from_secs(i64::from(dice.below(40 * 3600)))),
            _ => {}
        }
    }
    machine.close(None);
    compare(&machine, start);
}

impl Machine {
    fn new(start: Timestamp) -> Self {
        let entries = definitions();
        let (state, planner) = (BTreeMap::new(), Planner::new("srv1"));
        let mut machine = Self {
            entries,
            state,
            planner,
            wall: start,
            runs: Runs::new(),
            stretches: Vec::new(),
            begun: (start, Begin::Start),
        };
        machine.start();
        machine
    }

    /// Runs for a while, or until a kill at the given decision; returns how long it was.
    fn run(&mut self, quiet: SignedDuration, mut kill: Option<u32>, dice: &mut Dice) -> SignedDuration {
        let from = self.wall;
        let end = from + quiet;
        while self.planner.next_wake().is_some_and(|wake| wake <= end) {
            self.wall = self.wall.max(self.planner.next_wake().unwrap());
            let mut decisions = self.planner.due(self.wall);
            // Only told, not decided.
            decisions.retain(|due| due.kind != Kind::Held);
            if let Some(left) = kill {
                kill = Some(left.saturating_sub(decisions.len() as u32));
            }
            if kill == Some(0) && !decisions.is_empty() {
                self.kill(decisions, dice);
                return self.wall.duration_since(from);
            }
            decisions.into_iter().for_each(|due| self.carry_out(due, true));
        }
        self.wall = end;
        quiet
    }

    /// Dies while it stores decisions: some are stored, none of them runs.
    fn kill(&mut self, decisions: Vec<Due>, dice: &mut Dice) {
        let stored = dice.below(decisions.len() as u32 + 1) as usize;
        let keys = decisions.iter().take(stored).map(|due| due.key.clone()).collect();
        decisions.into_iter().take(stored).for_each(|due| self.carry_out(due, false));
        self.close(Some(keys));
        self.wall += 1.second();
        self.start();
    }

    fn carry_out(&mut self, due: Due, run: bool) {
        if due.kind == Kind::Held {
            return;
        }
        self.state.insert(due.key.clone(), due.slot);
        if run && due.kind.runs() {
            self.runs.entry(due.key).or_default().push((due.slot, self.wall, due.kind));
        }
    }

    fn restart(&mut self, down: SignedDuration) {
        self.close(None);
        self.wall += down;
        self.start();
    }

    fn start(&mut self) {
        self.planner = Planner::new("srv1");
        self.begun = (self.wall, Begin::Start);
        self.reload();
        self.look();
    }

    fn reload(&mut self) {
        let decided = |entry: &Entry| self.state.get(&entry.key).copied();
        let entries = self.entries.iter().map(|entry| Entry { decided: decided(entry), ..entry.clone() });
        let decisions = self.planner.replace(entries.rev().collect(), self.wall);
        decisions.into_iter().for_each(|due| self.carry_out(due, true));
    }

    /// The clock is set; the tick notices at once.
    fn jump(&mut self, by: SignedDuration) {
        self.close(None);
        self.wall += by;
        self.begun = (self.wall, Begin::Jump);
        self.look();
    }

    fn look(&mut self) {
        self.planner.due(self.wall).into_iter().for_each(|due| self.carry_out(due, true));
    }

    fn close(&mut self, killed: Option<BTreeSet<String>>) {
        self.stretches.push(Stretch { from: self.begun.0, to: self.wall, how: self.begun.1, killed });
    }
}

fn definitions() -> Vec<Entry> {
    let mut entries = Vec::new();
    for (row, expr) in EXPRESSIONS.iter().enumerate() {
        for (column, zone) in ZONES.iter().enumerate() {
            entries.push(Entry {
                key: format!("backup/{row:02}-{column}"),
                schedule: Schedule::parse(expr).unwrap(),
                zone: TimeZone::get(zone).unwrap(),
                random_delay: Duration::from_secs([0, 0, 600, 5400][(row + column) % 4]),
                blackout: Vec::new(),
                catch_up: (row * 3 + column) % 5 != 0,
                decided: None,
            });
        }
    }
    entries
}

fn compare(machine: &Machine, start: Timestamp) {
    let mut kinds = BTreeMap::from([("on time", 0), ("catch-up", 0)]);
    for entry in &machine.entries {
        let found = machine.runs.get(&entry.key).cloned().unwrap_or_default();
        let expected = Oracle::new(entry, start, machine.wall + 24.hours()).runs(&machine.stretches);
        let what = format!("{} `{}` {:?}", entry.key, entry.schedule.text(), entry.zone.iana_name());
        let difference = found.iter().zip(&expected).position(|(found, expected)| found != expected);
        if let Some(at) = difference {
            panic!("{what}: {:?} instead of {:?}", found[at], expected[at]);
        }
        assert_eq!(found.len(), expected.len(), "{what}");
        let slots = found.iter().map(|(slot, ..)| slot).collect::<Vec<_>>();
        assert!(slots.is_sorted_by(|a, b| a < b), "a slot of {} ran twice", entry.key);
        for (.., kind) in found {
            *kinds.get_mut(if kind == Kind::OnTime { "on time" } else { "catch-up" }).unwrap() += 1;
        }
    }
    assert!(kinds["on time"] > 2000 && kinds["catch-up"] > 200, "too little happened: {kinds:?}");
    assert!(machine.stretches.iter().filter(|stretch| stretch.killed.is_some()).count() > 3);
}

/// Says what one definition should have done.
struct Oracle<'a> {
    entry: &'a Entry,
    slots: Vec<Timestamp>,
    delay: SignedDuration,
    decided: Timestamp,
    catch_up_at: Option<Timestamp>,
    runs: Vec<(Timestamp, Timestamp, Kind)>,
}

impl<'a> Oracle<'a> {
    fn new(entry: &'a Entry, start: Timestamp, end: Timestamp) -> Self {
        let mut planner = Planner::new("srv1");
        planner.replace(vec![entry.clone()], start);
        let first = entry.schedule.next_after(start, &entry.zone, Some(start)).unwrap();
        let delay = planner.next_run(&entry.key, start).unwrap().duration_since(first);
        let slots = slots(entry, start, end);
        Self { entry, slots, delay, decided: start, catch_up_at: None, runs: Vec::new() }
    }

    fn runs(mut self, stretches: &[Stretch]) -> Vec<(Timestamp, Timestamp, Kind)> {
        for stretch in stretches {
            self.begin(stretch);
            while let Some(at) = self.next_look(stretch.from).filter(|at| *at <= stretch.to) {
                let killed = stretch.killed.as_ref().filter(|_| at == stretch.to);
                if killed.is_some_and(|stored| !stored.contains(&self.entry.key)) {
                    break;
                }
                self.decide(at, killed.is_none());
            }
        }
        self.runs
    }

    fn begin(&mut self, stretch: &Stretch) {
        let missed = self.open(stretch.from).last().copied();
        if stretch.how == Begin::Start || missed.is_none() {
            self.catch_up_at = None;
        }
        self.catch_up_at = self.catch_up_at.filter(|at| *at <= stretch.from + self.delay);
        let Some(latest) = missed.filter(|latest| self.is_late(*latest, stretch.from)) else { return };
        if self.entry.catch_up && self.catch_up_at.is_none() {
            let at = stretch.from + self.delay;
            let next = self
                .slots
                .iter()
                .find(|slot| **slot > latest)
                .filter(|next| !self.delay.is_zero() && **next <= at);
            self.catch_up_at = Some(next.map_or(at, |next| *next + self.delay));
        }
    }

    /// Slots that have come, their delay included, and are not decided.
    fn open(&self, at: Timestamp) -> &[Timestamp] {
        let first = self.slots.partition_point(|slot| *slot <= self.decided);
        let end = self.slots.partition_point(|slot| *slot + self.delay <= at);
        &self.slots[first..end.max(first)]
    }

    fn is_late(&self, slot: Timestamp, at: Timestamp) -> bool {
        at.duration_since(slot + self.delay) > SignedDuration::from_mins(2)
    }

    fn next_look(&self, from: Timestamp) -> Option<Timestamp> {
        let next = self.slots.iter().find(|slot| **slot > self.decided).map(|slot| *slot + self.delay);
        self.catch_up_at.or(next).map(|at| at.max(from))
    }

    fn decide(&mut self, at: Timestamp, runs: bool) {
        let latest = *self.open(at).last().unwrap();
        let kind = if self.is_late(latest, at) { Kind::CatchUp } else { Kind::OnTime };
        if runs && (kind == Kind::OnTime || self.entry.catch_up) {
            self.runs.push((latest, at, kind));
        }
        (self.decided, self.catch_up_at) = (latest, None);
    }
}

fn slots(entry: &Entry, from: Timestamp, until: Timestamp) -> Vec<Timestamp> {
    let period = match entry.schedule.text() {
        "every 6h" => 6 * 60,
        "every 90m" => 90,
        "every 1d" => 24 * 60,
        _ => return brute_force(&entry.schedule, &entry.zone, from, until),
    };
    let grid = std::iter::successors(Some(from + period.minutes()), |slot| Some(*slot + period.minutes()));
    grid.take_while(|slot| *slot <= until).collect()
}
