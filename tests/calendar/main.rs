//! Schedule expressions and the planner, against tables, brute force and other implementations.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on must fail"
)]
#![expect(clippy::too_many_lines, reason = "tables are long")]

mod dst;
mod fortnight;
mod parse;
mod planner;
mod random;
mod systemd;
mod trigger;

use holdfast::calendar::Schedule;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The slots after `from` up to and including `until`, as local times with offset.
fn slots(expr: &str, zone: &str, from: &str, until: &str) -> Vec<String> {
    let (from, until) = (instant(from), instant(until));
    let zone = TimeZone::get(zone).unwrap();
    let schedule = Schedule::parse(expr).unwrap();
    between(&schedule, &zone, from, until)
        .into_iter()
        .map(|slot| slot.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string())
        .collect()
}

/// The slots of a stretch, found by walking forward.
fn between(schedule: &Schedule, zone: &TimeZone, from: Timestamp, until: Timestamp) -> Vec<Timestamp> {
    let mut found = Vec::new();
    let mut at = from;
    while let Some(next) = schedule.next_after(at, zone, None).filter(|next| *next <= until) {
        found.push(next);
        at = next;
    }
    found
}

fn instant(text: &str) -> Timestamp {
    text.parse().unwrap()
}
