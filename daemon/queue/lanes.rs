//! The locks within this process: for each thing a lane of those that hold it and those that wait, in order of arrival.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::state::lock::Mode;

/// What is held.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Instance(String),
    Repository(String),
    Permit,
}

/// Somebody who waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// For what: `repository b2`.
    pub place: String,
    /// Who: the caller's label.
    pub label: String,
    /// Why: `repository b2: forget of job j… runs`.
    pub why: String,
}

/// So often somebody of higher priority goes before the same one; then it is that one's turn.
const MOST_PASSED: u32 = 8;

/// All lanes in which somebody is.
#[derive(Debug)]
pub(super) struct Lanes {
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    lanes: BTreeMap<Key, Lane>,
    max_parallel: usize,
    next_ticket: u64,
}

#[derive(Debug)]
struct Lane {
    /// Who waits is let in from the front only.
    holders: VecDeque<Member>,
    waiting: VecDeque<Member>,
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct Member {
    ticket: u64,
    priority: i8,
    /// How often somebody of higher priority went before.
    passed: u32,
    mode: Mode,
    place: String,
    label: String,
}

/// A place in a lane, waiting or holding; dropped, it is free for the next.
#[derive(Debug)]
pub(super) struct Ticket {
    lanes: Arc<Lanes>,
    key: Key,
    number: u64,
    changed: watch::Receiver<()>,
}

impl Lanes {
    pub(super) fn new(max_parallel: usize) -> Self {
        let table = Table { lanes: BTreeMap::new(), max_parallel: max_parallel.max(1), next_ticket: 0 };
        Self { table: Mutex::new(table) }
    }

    pub(super) fn set_max_parallel(&self, max_parallel: usize) {
        let mut table = self.table();
        table.max_parallel = max_parallel.max(1);
        table.admit(&Key::Permit);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.table().lanes.is_empty()
    }

    pub(super) fn waiting(&self) -> Vec<Waiting> {
        let table = self.table();
        let of_lane = |lane: &Lane| -> Vec<Waiting> {
            let why = |(ahead, member): (usize, &Member)| Waiting {
                place: member.place.clone(),
                label: member.label.clone(),
                why: lane.why(ahead, &member.place),
            };
            lane.waiting.iter().enumerate().map(why).collect()
        };
        table.lanes.values().flat_map(of_lane).collect()
    }

    /// The table is sound whenever its lock is free: nothing that can panic runs between two changes of it.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Lets in from the front whoever may come in now, and tells the lane.
    fn admit(&mut self, key: &Key) {
        let cap = if *key == Key::Permit { self.max_parallel } else { usize::MAX };
        if let Some(lane) = self.lanes.get_mut(key) {
            while lane.waiting.front().is_some_and(|next| lane.may_enter(next.mode, cap)) {
                lane.holders.extend(lane.waiting.pop_front());
            }
            lane.changed.send_replace(());
        }
    }
}

impl Lane {
    /// Places somebody behind all that have at least as high a priority, or were passed often enough.
    fn join(&mut self, member: Member) {
        let goes_before = |other: &&Member| other.priority < member.priority && other.passed < MOST_PASSED;
        let passed = self.waiting.iter().rev().take_while(goes_before).count();
        let place = self.waiting.len() - passed;
        self.waiting.range_mut(place..).for_each(|other| other.passed += 1);
        self.waiting.insert(place, member);
    }

    fn new() -> Self {
        Self { holders: VecDeque::new(), waiting: VecDeque::new(), changed: watch::Sender::new(()) }
    }

    fn may_enter(&self, mode: Mode, cap: usize) -> bool {
        match (self.holders.front(), mode) {
            (None, _) => true,
            (Some(holder), Mode::Share) => holder.mode == Mode::Share && self.holders.len() < cap,
            (Some(_), Mode::Alone) => false,
        }
    }

    /// What somebody with so many others ahead waits for.
    fn why(&self, ahead: usize, place: &str) -> String {
        let runs = match (self.holders.front(), self.holders.len()) {
            (None, _) => "its turn comes".to_owned(),
            (Some(holder), 1) => format!("{} runs", holder.label),
            (Some(holder), n) => format!("{} and {} more run", holder.label, n - 1),
        };
        match (self.waiting.front().filter(|_| ahead > 0), ahead) {
            (None, _) => format!("{place}: {runs}"),
            (Some(next), 1) => format!("{place}: {runs}, then {}", next.label),
            (Some(next), n) => format!("{place}: {runs}, then {} and {} more", next.label, n - 1),
        }
    }
}

impl Ticket {
    /// Joins a lane; let in at once when nobody is in the way.
    pub(super) fn take(
        lanes: &Arc<Lanes>,
        key: Key,
        place: &str,
        mode: Mode,
        label: &str,
        priority: i8,
    ) -> Self {
        let mut table = lanes.table();
        let number = table.next_ticket;
        table.next_ticket += 1;
        let lane = table.lanes.entry(key.clone()).or_insert_with(Lane::new);
        lane.join(Member {
            ticket: number,
            priority,
            passed: 0,
            mode,
            place: place.to_owned(),
            label: label.to_owned(),
        });
        let changed = lane.changed.subscribe();
        table.admit(&key);
        Self { lanes: Arc::clone(lanes), key, number, changed }
    }

    /// Waits until let in; `on_wait` hears why not yet, again after each change of the lane.
    pub(super) async fn granted(&mut self, mut on_wait: impl FnMut(String)) {
        while let Some(why) = self.waits_for() {
            on_wait(why);
            // The sender lives as long as somebody is in the lane, and we are.
            if self.changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// What is waited for; none: nothing, it is held.
    fn waits_for(&self) -> Option<String> {
        let table = self.lanes.table();
        let lane = table.lanes.get(&self.key)?;
        let ahead = lane.waiting.iter().position(|member| member.ticket == self.number)?;
        Some(lane.why(ahead, &lane.waiting[ahead].place))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut table = self.lanes.table();
        let Some(lane) = table.lanes.get_mut(&self.key) else { return };
        for members in [&mut lane.holders, &mut lane.waiting] {
            if let Some(place) = members.iter().position(|member| member.ticket == self.number) {
                members.remove(place);
            }
        }
        if lane.holders.is_empty() && lane.waiting.is_empty() {
            table.lanes.remove(&self.key);
        } else {
            table.admit(&self.key);
        }
    }
}
