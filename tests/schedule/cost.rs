//! What the schedule costs: 10,000 definitions of 100 distinct expressions. The bounds hold for a release build:
//! `cargo test --release --test schedule -- --ignored --nocapture cost`.

use std::time::{Duration, Instant};

use holdfast::calendar::Schedule;
use holdfast::schedule::{Entry, Planner};
use jiff::Timestamp;
use jiff::tz::TimeZone;

const DEFINITIONS: usize = 10_000;
const EXPRESSIONS: usize = 100;

/// Bytes of memory that this process has resident.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

fn entries(now: Timestamp) -> Vec<Entry> {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let expression = |n: usize| format!("Mon..Sat {:02}:{:02}", n % 24, n % 60);
    let entry = |n: usize| Entry {
        key: format!("backup/definition-{n}"),
        schedule: Schedule::parse(&expression(n % EXPRESSIONS)).unwrap(),
        zone: zone.clone(),
        random_delay: Duration::ZERO,
        blackout: Vec::new(),
        catch_up: true,
        decided: Some(now),
    };
    (0..DEFINITIONS).map(entry).collect()
}

#[test]
#[ignore = "a measurement: its bounds are those of a release build alone on the machine"]
fn cost_of_ten_thousand_definitions() {
    let mut now: Timestamp = "2026-06-01T00:00:30Z".parse().unwrap();
    let before = resident();
    let mut planner = Planner::new("srv1");
    let started = Instant::now();
    planner.replace(entries(now), now);
    let load = started.elapsed();
    let memory = resident().saturating_sub(before);
    let end = now + jiff::SignedDuration::from_hours(48);
    let (mut ticks, mut handed_out, mut spent, mut longest) = (0_u32, 0, Duration::ZERO, Duration::ZERO);
    while let Some(wake) = planner.next_wake().filter(|wake| *wake < end) {
        now = wake;
        let began = Instant::now();
        handed_out += planner.due(now).len();
        let took = began.elapsed();
        (ticks, spent, longest) = (ticks + 1, spent + took, longest.max(took));
    }
    let mean = spent / ticks;
    println!(
        "{DEFINITIONS} definitions: planned in {load:?}, {} KiB; {ticks} ticks in two days, {handed_out} slots, \
         mean {mean:?}, longest {longest:?}",
        memory / 1024
    );
    assert!(memory < 20 << 20, "{memory} bytes");
    assert!(mean < Duration::from_millis(1), "{mean:?}");
    assert!(handed_out > DEFINITIONS);
}
