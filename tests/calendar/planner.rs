//! The planner on a fake clock: one run per slot or per missed stretch, whatever the clock and the daemon do.

use std::time::Duration;

use holdfast::calendar::Schedule;
use holdfast::schedule::{Due, Entry, Kind, Planner};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::instant;

const NIGHTLY: &str = "02:30";

fn entry(expr: &str, decided: Option<&str>) -> Entry {
    Entry {
        key: "backup/b".to_owned(),
        schedule: Schedule::parse(expr).unwrap(),
        zone: TimeZone::get("Europe/Berlin").unwrap(),
        random_delay: Duration::ZERO,
        blackout: Vec::new(),
        catch_up: true,
        decided: decided.map(instant),
    }
}

fn planner(entry: Entry, now: &str) -> (Planner, Vec<Due>) {
    let mut planner = Planner::new("srv1");
    let decisions = planner.replace(vec![entry], instant(now));
    (planner, decisions)
}

/// Kinds, slots and counts of what is due.
fn due(planner: &mut Planner, now: &str) -> Vec<(Kind, String, u32)> {
    told(planner.due(instant(now)))
}

fn told(decisions: Vec<Due>) -> Vec<(Kind, String, u32)> {
    decisions.into_iter().map(|due| (due.kind, due.slot.to_string(), due.skipped)).collect()
}

fn one(kind: Kind, slot: &str, skipped: u32) -> Vec<(Kind, String, u32)> {
    vec![(kind, slot.to_owned(), skipped)]
}

const NOTHING: Vec<(Kind, String, u32)> = Vec::new();

#[test]
fn a_new_key_counts_from_now_and_says_so() {
    let (mut planner, decisions) = planner(entry(NIGHTLY, None), "2026-06-01T10:00:00Z");
    assert_eq!(told(decisions), one(Kind::Rebased, "2026-06-01T10:00:00Z", 0));
    assert_eq!(due(&mut planner, "2026-06-01T10:00:00Z"), NOTHING);
    assert_eq!(planner.next_wake(), Some(instant("2026-06-02T00:30:00Z")));
    assert_eq!(
        planner.next_run("backup/b", instant("2026-06-01T10:00:00Z")),
        Some(instant("2026-06-02T00:30:00Z"))
    );
    assert_eq!(planner.next_run("backup/other", instant("2026-06-01T10:00:00Z")), None);
}

#[test]
fn a_slot_is_handed_out_once() {
    let (mut planner, _) = planner(entry(NIGHTLY, Some("2026-06-01T00:30:00Z")), "2026-06-01T10:00:00Z");
    assert_eq!(due(&mut planner, "2026-06-02T00:29:59Z"), NOTHING);
    assert_eq!(due(&mut planner, "2026-06-02T00:30:00Z"), one(Kind::OnTime, "2026-06-02T00:30:00Z", 0));
    assert_eq!(due(&mut planner, "2026-06-02T00:30:00Z"), NOTHING);
    assert_eq!(planner.next_wake(), Some(instant("2026-06-03T00:30:00Z")));
}

#[test]
fn a_slot_noticed_within_the_grace_is_on_time_even_without_catch_up() {
    let nightly = Entry { catch_up: false, ..entry(NIGHTLY, Some("2026-06-01T00:30:00Z")) };
    let (mut planner, _) = planner(nightly.clone(), "2026-06-02T00:31:59Z");
    assert_eq!(due(&mut planner, "2026-06-02T00:31:59Z"), one(Kind::OnTime, "2026-06-02T00:30:00Z", 0));
    let (mut late, _) = self::planner(nightly, "2026-06-02T00:32:01Z");
    assert_eq!(due(&mut late, "2026-06-02T00:32:01Z"), one(Kind::Missed, "2026-06-02T00:30:00Z", 0));
}

#[test]
fn three_days_down_are_one_run() {
    let (mut planner, decisions) =
        planner(entry(NIGHTLY, Some("2026-06-01T00:30:00Z")), "2026-06-04T10:00:00Z");
    assert_eq!(told(decisions), NOTHING);
    assert_eq!(due(&mut planner, "2026-06-04T10:00:00Z"), one(Kind::CatchUp, "2026-06-04T00:30:00Z", 2));
    assert_eq!(due(&mut planner, "2026-06-04T10:00:00Z"), NOTHING);
}

#[test]
fn three_days_down_are_none_without_catch_up() {
    let nightly = Entry { catch_up: false, ..entry(NIGHTLY, Some("2026-06-01T00:30:00Z")) };
    let (mut planner, _) = planner(nightly, "2026-06-04T10:00:00Z");
    assert_eq!(due(&mut planner, "2026-06-04T10:00:00Z"), one(Kind::Missed, "2026-06-04T00:30:00Z", 2));
    assert_eq!(due(&mut planner, "2026-06-05T00:30:00Z"), one(Kind::OnTime, "2026-06-05T00:30:00Z", 0));
}

#[test]
fn a_clock_set_forward_a_day_is_one_catch_up_not_twenty_four() {
    let (mut planner, _) = planner(entry("hourly", Some("2026-06-01T10:00:00Z")), "2026-06-01T10:30:00Z");
    assert_eq!(due(&mut planner, "2026-06-02T10:30:00Z"), one(Kind::CatchUp, "2026-06-02T10:00:00Z", 23));
    assert_eq!(due(&mut planner, "2026-06-02T11:00:00Z"), one(Kind::OnTime, "2026-06-02T11:00:00Z", 0));
}

#[test]
fn a_clock_set_back_a_day_repeats_nothing() {
    let (mut planner, _) = planner(entry("hourly", Some("2026-06-02T10:00:00Z")), "2026-06-02T10:30:00Z");
    let mut now = instant("2026-06-01T10:30:00Z");
    while now < instant("2026-06-02T11:00:00Z") {
        assert_eq!(planner.due(now), []);
        now += 7.minutes();
    }
    assert_eq!(told(planner.due(now)), one(Kind::OnTime, "2026-06-02T11:00:00Z", 0));
}

#[test]
fn a_step_of_two_seconds_back_at_the_slot_is_one_run() {
    let (mut planner, _) = planner(entry(NIGHTLY, Some("2026-06-01T00:30:00Z")), "2026-06-01T10:00:00Z");
    assert_eq!(due(&mut planner, "2026-06-02T00:30:01Z").len(), 1);
    assert_eq!(due(&mut planner, "2026-06-02T00:29:59Z"), NOTHING);
    assert_eq!(due(&mut planner, "2026-06-02T00:30:00Z"), NOTHING);
    assert_eq!(due(&mut planner, "2026-06-02T00:30:01Z"), NOTHING);
}

#[test]
fn a_clock_that_stays_far_back_is_believed_after_a_while() {
    let (mut planner, _) = planner(entry(NIGHTLY, Some("2027-06-01T00:30:00Z")), "2026-06-01T10:00:00Z");
    assert_eq!(due(&mut planner, "2026-06-01T10:14:00Z"), NOTHING);
    assert_eq!(due(&mut planner, "2026-06-01T10:15:00Z"), one(Kind::Rebased, "2026-06-01T10:15:00Z", 0));
    assert_eq!(due(&mut planner, "2026-06-02T00:30:00Z"), one(Kind::OnTime, "2026-06-02T00:30:00Z", 0));
}

#[test]
fn a_clock_that_lags_until_the_network_sets_it_repeats_nothing() {
    let (mut planner, _) = planner(entry(NIGHTLY, Some("2026-06-01T00:30:00Z")), "2024-01-01T00:00:00Z");
    assert_eq!(due(&mut planner, "2024-01-01T00:00:40Z"), NOTHING);
    assert_eq!(due(&mut planner, "2026-06-01T10:00:00Z"), NOTHING);
    assert_eq!(due(&mut planner, "2026-06-02T00:30:00Z"), one(Kind::OnTime, "2026-06-02T00:30:00Z", 0));
}

#[test]
fn a_clock_of_1970_decides_nothing() {
    let (mut planner, decisions) = planner(entry(NIGHTLY, None), "1970-01-01T00:00:10Z");
    assert_eq!(told(decisions), NOTHING);
    assert_eq!((due(&mut planner, "1970-01-02T05:00:00Z"), planner.next_wake()), (NOTHING, None));
    assert_eq!(due(&mut planner, "2026-06-01T10:00:00Z"), one(Kind::Rebased, "2026-06-01T10:00:00Z", 0));
    assert_eq!(due(&mut planner, "2026-06-02T00:30:00Z"), one(Kind::OnTime, "2026-06-02T00:30:00Z", 0));
    let (mut known, _) = self::planner(entry(NIGHTLY, Some("2026-05-31T00:30:00Z")), "1970-01-01T00:00:10Z");
    assert_eq!(due(&mut known, "2026-06-01T10:00:00Z"), one(Kind::CatchUp, "2026-06-01T00:30:00Z", 0));
}

fn delayed(expr: &str, decided: Option<&str>) -> (Entry, jiff::SignedDuration) {
    let entry = Entry { random_delay: Duration::from_secs(3600), ..entry(expr, decided) };
    let (planner, _) = planner(entry.clone(), "2026-06-01T10:00:00Z");
    let run = planner.next_run("backup/b", instant("2026-06-01T10:00:00Z")).unwrap();
    let slot = entry.schedule.next_after(entry.decided.unwrap(), &entry.zone, entry.decided).unwrap();
    let delay = run.duration_since(slot);
    assert!(
        delay > jiff::SignedDuration::from_mins(5) && delay < jiff::SignedDuration::from_hours(1),
        "{delay:?}"
    );
    (entry, delay)
}

#[test]
fn the_random_delay_is_added_to_the_slot_and_shown() {
    let (entry, delay) = delayed(NIGHTLY, Some("2026-06-01T00:30:00Z"));
    let (mut planner, _) = planner(entry, "2026-06-01T10:00:00Z");
    let run = instant("2026-06-02T00:30:00Z") + delay;
    assert_eq!(planner.next_wake(), Some(run));
    assert_eq!(told(planner.due(run - 1.second())), NOTHING);
    assert_eq!(told(planner.due(run)), one(Kind::OnTime, "2026-06-02T00:30:00Z", 0));
}

#[test]
fn the_random_delay_differs_by_host_and_key_and_stays_the_same() {
    let delay = |host: &str, key: &str| {
        let mut planner = Planner::new(host);
        let entry =
            Entry { random_delay: Duration::from_secs(86_400), key: key.to_owned(), ..entry(NIGHTLY, None) };
        planner.replace(vec![entry], instant("2026-06-01T10:00:00Z"));
        planner.next_run(key, instant("2026-06-01T10:00:00Z")).unwrap()
    };
    assert_eq!(delay("srv1", "backup/b"), delay("srv1", "backup/b"));
    assert_ne!(delay("srv1", "backup/b"), delay("srv2", "backup/b"));
    assert_ne!(delay("srv1", "backup/b"), delay("srv1", "backup/c"));
}

#[test]
fn catching_up_is_spread_by_the_random_delay_also_over_reloads() {
    let (entry, delay) = delayed(NIGHTLY, Some("2026-06-01T00:30:00Z"));
    let start = instant("2026-06-04T10:00:00Z");
    let (mut planner, _) = planner(entry.clone(), "2026-06-04T10:00:00Z");
    assert_eq!(told(planner.due(start)), one(Kind::Held, "2026-06-04T00:30:00Z", 2), "told once");
    assert_eq!(planner.next_run("backup/b", start), Some(start + delay));
    assert_eq!(told(planner.replace(vec![entry], start + 60.seconds())), NOTHING);
    assert_eq!(told(planner.due(start + delay - 1.second())), NOTHING);
    assert_eq!(told(planner.due(start + delay)), one(Kind::CatchUp, "2026-06-04T00:30:00Z", 2));
}

#[test]
fn a_catch_up_is_forgotten_when_the_clock_goes_back_before_its_slot() {
    let (entry, delay) = delayed(NIGHTLY, Some("2026-06-01T00:30:00Z"));
    let (mut planner, _) = planner(entry, "2026-06-02T12:00:00Z");
    assert_eq!(due(&mut planner, "2026-06-02T12:00:00Z"), one(Kind::Held, "2026-06-02T00:30:00Z", 0));
    assert_eq!(due(&mut planner, "2026-06-01T23:59:00Z"), NOTHING);
    let run = instant("2026-06-02T00:30:00Z") + delay;
    assert_eq!(planner.next_wake(), Some(run));
    assert_eq!(told(planner.due(run)), one(Kind::OnTime, "2026-06-02T00:30:00Z", 0));
}

#[test]
fn catching_up_is_left_to_the_next_slot_when_that_is_near() {
    let (entry, delay) = delayed(NIGHTLY, Some("2026-06-01T00:30:00Z"));
    let next = instant("2026-06-04T00:30:00Z");
    let start = next - 3.minutes();
    let (mut planner, _) = planner(entry, &start.to_string());
    assert_eq!(told(planner.due(start)), one(Kind::Held, "2026-06-03T00:30:00Z", 1));
    assert_eq!(planner.next_wake(), Some(next + delay));
    assert_eq!(told(planner.due(next + delay)), one(Kind::OnTime, "2026-06-04T00:30:00Z", 2));
}

#[test]
fn a_reload_at_the_slot_neither_drops_nor_doubles_it() {
    let nightly = entry(NIGHTLY, Some("2026-06-01T00:30:00Z"));
    for reload in ["2026-06-02T00:29:59.9Z", "2026-06-02T00:30:00Z", "2026-06-02T00:30:00.1Z"] {
        let (mut planner, _) = planner(nightly.clone(), "2026-06-01T10:00:00Z");
        let mut runs = told(planner.replace(vec![nightly.clone()], instant(reload)));
        runs.extend(due(&mut planner, "2026-06-02T00:30:01Z"));
        runs.extend(told(planner.replace(vec![nightly.clone()], instant("2026-06-02T00:30:01Z"))));
        runs.extend(due(&mut planner, "2026-06-02T00:30:02Z"));
        assert_eq!(runs, one(Kind::OnTime, "2026-06-02T00:30:00Z", 0), "{reload}");
    }
}

#[test]
fn a_changed_expression_counts_from_now_and_invents_no_missed_slot() {
    let (mut planner, _) = planner(entry(NIGHTLY, Some("2026-06-01T00:30:00Z")), "2026-06-01T10:00:00Z");
    let decisions = planner.replace(vec![entry("08:00", None)], instant("2026-06-01T12:00:00Z"));
    assert_eq!(told(decisions), one(Kind::Rebased, "2026-06-01T12:00:00Z", 0));
    assert_eq!(due(&mut planner, "2026-06-01T12:00:00Z"), NOTHING);
    assert_eq!(due(&mut planner, "2026-06-02T06:00:00Z"), one(Kind::OnTime, "2026-06-02T06:00:00Z", 0));
}

#[test]
fn a_change_while_a_slot_waits_for_its_delay_hands_the_slot_out() {
    let (entry, _) = delayed(NIGHTLY, Some("2026-06-01T00:30:00Z"));
    let (mut planner, _) = planner(entry.clone(), "2026-06-01T10:00:00Z");
    let changed = Entry { schedule: Schedule::parse("03:30").unwrap(), ..entry };
    let decisions = planner.replace(vec![changed], instant("2026-06-02T00:31:00Z"));
    let mut expected = one(Kind::OnTime, "2026-06-02T00:30:00Z", 0);
    expected.extend(one(Kind::Rebased, "2026-06-02T00:31:00Z", 0));
    assert_eq!(told(decisions), expected);
}

#[test]
fn a_change_while_the_clock_is_back_repeats_nothing() {
    let (mut planner, _) = planner(entry("hourly", Some("2026-06-02T10:00:00Z")), "2026-06-02T10:30:00Z");
    planner.replace(vec![entry("*:30", None)], instant("2026-06-02T05:00:00Z"));
    assert_eq!(due(&mut planner, "2026-06-02T09:31:00Z"), NOTHING);
    assert_eq!(due(&mut planner, "2026-06-02T10:30:00Z"), one(Kind::OnTime, "2026-06-02T10:30:00Z", 0));
}

#[test]
fn intervals_count_from_the_last_slot_also_after_a_catch_up() {
    let (mut planner, _) = planner(entry("every 6h", None), "2026-06-01T10:10:00Z");
    assert_eq!(due(&mut planner, "2026-06-01T16:10:00Z"), one(Kind::OnTime, "2026-06-01T16:10:00Z", 0));
    assert_eq!(due(&mut planner, "2026-06-02T20:00:00Z"), one(Kind::CatchUp, "2026-06-02T16:10:00Z", 3));
    assert_eq!(planner.next_wake(), Some(instant("2026-06-02T22:10:00Z")));
}

#[test]
fn an_exhausted_schedule_sleeps_for_ever() {
    let (mut planner, _) = planner(entry("2026-07-01 02:30", None), "2026-06-01T10:00:00Z");
    assert_eq!(due(&mut planner, "2026-07-01T00:30:00Z").len(), 1);
    assert_eq!((planner.next_wake(), due(&mut planner, "2030-01-01T00:00:00Z")), (None, NOTHING));
}

#[test]
fn slots_of_one_instant_come_in_a_stable_order() {
    let mut planner = Planner::new("srv1");
    let names = ["backup/c", "backup/a", "prune/r", "backup/b"];
    let entries = names.map(|key| Entry { key: key.to_owned(), ..entry(NIGHTLY, None) });
    planner.replace(entries.into(), instant("2026-06-01T10:00:00Z"));
    let keys =
        planner.due(instant("2026-06-02T00:30:00Z")).into_iter().map(|due| due.key).collect::<Vec<_>>();
    assert_eq!(keys, ["backup/a", "backup/b", "backup/c", "prune/r"]);
}

#[test]
fn removed_entries_are_forgotten() {
    let (mut planner, _) = planner(entry(NIGHTLY, None), "2026-06-01T10:00:00Z");
    assert_eq!(told(planner.replace(Vec::new(), instant("2026-06-01T10:00:00Z"))), NOTHING);
    assert_eq!((planner.next_wake(), due(&mut planner, "2026-06-09T10:00:00Z")), (None, NOTHING));
}

#[test]
fn a_tick_among_ten_thousand_definitions_is_short() {
    let mut planner = Planner::new("srv1");
    let entries = (0..10_000).map(|index| Entry {
        key: format!("backup/{index}"),
        random_delay: Duration::from_secs(6 * 3600),
        ..entry(&format!("{:02}:{:02}", index % 24, index % 60), None)
    });
    planner.replace(entries.collect(), instant("2026-06-01T00:00:00Z"));
    let end = instant("2026-06-01T04:00:00Z");
    let (mut ticks, mut runs) = (0_u32, 0);
    let started = std::time::Instant::now();
    while let Some(wake) = planner.next_wake().filter(|wake| *wake < end) {
        runs += planner.due(wake).len();
        ticks += 1;
    }
    let per_tick = started.elapsed() / ticks;
    assert!(runs > 500 && per_tick < Duration::from_millis(1), "{runs} runs, {per_tick:?} per tick");
}

#[test]
fn after_each_look_the_next_wake_lies_ahead() {
    let mut planner = Planner::new("srv1");
    let expressions = ["hourly", "02:30", "*:0/5", "every 7m", "Mon 02:30", "*:*:0/10"];
    let entries = expressions.iter().enumerate().map(|(index, expr)| Entry {
        key: format!("backup/{index}"),
        random_delay: Duration::from_secs(index as u64 * 400),
        blackout: Vec::new(),
        catch_up: index % 2 == 0,
        ..entry(expr, None)
    });
    planner.replace(entries.collect(), instant("2026-03-28T00:00:00Z"));
    let mut now = instant("2026-03-28T00:00:00Z").as_second();
    for step in 0..600_i64 {
        now += (step * 7919) % 1301 - 300;
        let now = Timestamp::from_second(now).unwrap();
        planner.due(now);
        assert!(planner.next_wake().is_some_and(|wake| wake > now), "{now}");
    }
}

fn office(decided: &str) -> Entry {
    let blackout = vec![holdfast::calendar::Window::parse("Mon..Fri 08:00-18:00").unwrap()];
    Entry { blackout, catch_up: false, ..entry("hourly", Some(decided)) }
}

/// 2026-06-01 is a Monday; Berlin is two hours ahead.
#[test]
fn slots_in_a_blackout_become_one_run_at_its_end() {
    let (mut planner, _) = planner(office("2026-06-01T05:00:00Z"), "2026-06-01T05:30:00Z");
    assert_eq!(
        planner.next_run("backup/b", instant("2026-06-01T05:30:00Z")),
        Some(instant("2026-06-01T16:00:00Z"))
    );
    // It wakes when the slot has come, says so once, and then at the end.
    assert_eq!(planner.next_wake(), Some(instant("2026-06-01T06:00:00Z")));
    assert_eq!(due(&mut planner, "2026-06-01T06:00:00Z"), one(Kind::Held, "2026-06-01T06:00:00Z", 0));
    assert_eq!(planner.next_wake(), Some(instant("2026-06-01T16:00:00Z")));
    assert_eq!(due(&mut planner, "2026-06-01T12:00:00Z"), NOTHING);
    assert_eq!(due(&mut planner, "2026-06-01T16:00:00Z"), one(Kind::OnTime, "2026-06-01T16:00:00Z", 10));
    assert_eq!(due(&mut planner, "2026-06-01T17:00:00Z"), one(Kind::OnTime, "2026-06-01T17:00:00Z", 0));
}

#[test]
fn a_slot_missed_before_a_blackout_waits_for_its_end_and_nothing_wakes_before() {
    let told = one(Kind::Held, "2026-06-01T00:30:00Z", 0);
    let nightly = Entry {
        schedule: Schedule::parse(NIGHTLY).unwrap(),
        catch_up: true,
        ..office("2026-05-31T00:30:00Z")
    };
    let (mut planner, _) = planner(nightly, "2026-06-01T09:00:00Z");
    assert_eq!(due(&mut planner, "2026-06-01T09:00:00Z"), told);
    assert_eq!(planner.next_wake(), Some(instant("2026-06-01T16:00:00Z")));
    assert_eq!(
        planner.held_until("backup/b", instant("2026-06-01T09:00:00Z")),
        Some(instant("2026-06-01T16:00:00Z"))
    );
    assert_eq!(due(&mut planner, "2026-06-01T16:00:00Z"), one(Kind::CatchUp, "2026-06-01T00:30:00Z", 0));
}
