//! Around the changes of a zone's offset: the rows of the documented table, and brute force.

use std::collections::BTreeSet;

use holdfast::calendar::Schedule;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::{between, instant, slots};

/// Local times (and the count) of one civil day in Berlin.
fn berlin(expr: &str, day: &str) -> Vec<String> {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let midnight = day.parse::<jiff::civil::Date>().unwrap().to_zoned(zone).unwrap();
    let from = midnight.timestamp() - 1.second();
    let until = midnight.tomorrow().unwrap().timestamp() - 1.second();
    slots(expr, "Europe/Berlin", &from.to_string(), &until.to_string())
        .into_iter()
        .map(|slot| slot[11..16].to_owned() + &slot[20..23])
        .collect()
}

#[test]
fn spring_named_hours_are_shifted_by_the_gap() {
    let day = "2026-03-29";
    assert_eq!(berlin("02:30", day), ["03:30+02"]);
    assert_eq!(berlin("30 2 * * *", day), ["03:30+02"]);
    assert_eq!(berlin("0,30 2 * * *", day), ["03:00+02", "03:30+02"]);
    assert_eq!(berlin("*/15 2 * * *", day), ["03:00+02", "03:15+02", "03:30+02", "03:45+02"]);
    assert_eq!(berlin("30 2,3 * * *", day), ["03:30+02"]);
    assert_eq!(berlin("02,03:30", day), ["03:30+02"]);
    assert_eq!(berlin("03:00", day), ["03:00+02"]);
    assert_eq!(berlin("Sun 02:30", day), ["03:30+02"]);
    assert_eq!(berlin("Mon 02:30", day), Vec::<String>::new());
    assert_eq!(berlin("daily", day), ["00:00+01"]);
}

#[test]
fn spring_every_hour_and_steps_are_real_time() {
    let day = "2026-03-29";
    assert_eq!(berlin("hourly", day).len(), 23);
    assert_eq!(berlin("*:0/15", day).len(), 92);
    assert_eq!(berlin("02/4:30", day), ["06:30+02", "10:30+02", "14:30+02", "18:30+02", "22:30+02"]);
    assert_eq!(berlin("0 */6 * * *", day), ["00:00+01", "06:00+02", "12:00+02", "18:00+02"]);
}

#[test]
fn autumn_named_hours_run_in_the_first_pass_only() {
    let day = "2026-10-25";
    assert_eq!(berlin("02:30", day), ["02:30+02"]);
    assert_eq!(berlin("30 2 * * *", day), ["02:30+02"]);
    assert_eq!(berlin("0,30 2 * * *", day), ["02:00+02", "02:30+02"]);
    assert_eq!(berlin("15 1-3 * * *", day), ["01:15+02", "02:15+02", "03:15+01"]);
    assert_eq!(berlin("30 2,3 * * *", day), ["02:30+02", "03:30+01"]);
    assert_eq!(berlin("daily", day), ["00:00+02"]);
}

#[test]
fn autumn_every_hour_runs_twenty_five_times() {
    let day = "2026-10-25";
    assert_eq!(berlin("hourly", day).len(), 25);
    assert_eq!(berlin("0 * * * *", day).len(), 25);
    assert_eq!(berlin("*:0/15", day).len(), 100);
    assert_eq!(berlin("0 0-23 * * *", day).len(), 25);
    let twice = slots("0 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z");
    assert_eq!(twice, ["2026-10-25 02:00:00 +01:00"]);
}

#[test]
fn zones_with_half_hour_changes_are_right() {
    let zone = "Australia/Lord_Howe"; // forward at 02:00 by 30 minutes, back at 02:00
    let spring = |expr| slots(expr, zone, "2026-10-03T13:29:59Z", "2026-10-04T12:59:59Z");
    assert_eq!(spring("02:15"), ["2026-10-04 02:45:00 +11:00"]);
    assert_eq!(spring("02:00,30"), ["2026-10-04 02:30:00 +11:00"]);
    assert_eq!(spring("hourly").len(), 23);
    let autumn = |expr| slots(expr, zone, "2026-04-04T12:59:59Z", "2026-04-05T13:29:59Z");
    assert_eq!(autumn("01:45"), ["2026-04-05 01:45:00 +11:00"]);
    assert_eq!(autumn("*:30").len(), 25);
    assert_eq!(autumn("hourly").len(), 24);
}

#[test]
fn a_skipped_day_runs_on_the_next_and_only_once() {
    let found = slots("02:30", "Pacific/Apia", "2011-12-29T00:00:00Z", "2011-12-31T10:00:00Z");
    assert_eq!(found, ["2011-12-29 02:30:00 -10:00", "2011-12-31 02:30:00 +14:00"]);
    let friday = slots("Fri 02:30", "Pacific/Apia", "2011-12-24T00:00:00Z", "2011-12-31T10:00:00Z");
    assert_eq!(friday, ["2011-12-31 02:30:00 +14:00"]);
}

#[test]
fn brute_force_agrees_around_every_kind_of_change() {
    let changes = [
        ("Europe/Berlin", "2026-03-29T01:00:00Z"),
        ("Europe/Berlin", "2026-10-25T01:00:00Z"),
        ("Europe/London", "2026-03-29T01:00:00Z"),
        ("America/New_York", "2026-03-08T07:00:00Z"),
        ("America/New_York", "2026-11-01T06:00:00Z"),
        ("America/Sao_Paulo", "2018-11-04T03:00:00Z"),
        ("America/Sao_Paulo", "2018-02-18T02:00:00Z"),
        ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
        ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
        ("Pacific/Apia", "2011-12-30T10:00:00Z"),
        ("Asia/Kathmandu", "1985-12-31T18:30:00Z"),
        ("Africa/Casablanca", "2026-02-15T02:00:00Z"),
        ("Africa/Casablanca", "2026-03-22T02:00:00Z"),
        ("America/St_Johns", "2011-03-13T03:31:00Z"),
        ("America/St_Johns", "2010-11-07T02:31:00Z"),
        ("Antarctica/Troll", "2026-03-29T01:00:00Z"),
        ("Antarctica/Troll", "2026-10-25T01:00:00Z"),
        ("Asia/Pyongyang", "2018-05-04T15:00:00Z"),
        ("America/Caracas", "2016-05-01T07:00:00Z"),
        ("Asia/Kolkata", "2026-03-29T01:00:00Z"),
    ];
    for (zone, change) in changes {
        for expr in EXPRESSIONS {
            compare(expr, zone, change);
        }
    }
}

const EXPRESSIONS: [&str; 16] = [
    "02:30",
    "00:00",
    "00,01,02,03:00/15",
    "1..3:15",
    "*:0/15",
    "hourly",
    "02/4:30",
    "0 */2 * * *",
    "Sun,Fri 00..04:05,35",
    "*-*-29,30,31,1,5 00:30",
    "23:50",
    "*-*~01 02:10",
    "*/15 2 * * *",
    "30 2,3 * * *",
    "0 0 1,15 * SUN",
    "1,2,3,0:*",
];

fn compare(expr: &str, zone_name: &str, change: &str) {
    let zone = TimeZone::get(zone_name).unwrap();
    let schedule = Schedule::parse(expr).unwrap();
    let (from, until) = (instant(change) - 30.hours(), instant(change) + 30.hours());
    let expected = brute_force(&schedule, &zone, from, until);
    let found = between(&schedule, &zone, from, until);
    let shown =
        |slots: &[Timestamp]| slots.iter().map(|s| s.to_zoned(zone.clone()).to_string()).collect::<Vec<_>>();
    assert_eq!(shown(&found), shown(&expected), "{expr} in {zone_name} around {change}");
    let mut back = Vec::new();
    let mut at = until;
    while let Some(slot) = schedule.latest_at_or_before(at, &zone, None).filter(|slot| *slot > from) {
        back.push(slot);
        at = slot - 1.second();
    }
    back.reverse();
    assert_eq!(shown(&back), shown(&expected), "backwards: {expr} in {zone_name} around {change}");
}

/// All slots in `(from, until]`: every civil time that matches, mapped by jiff's rule for gaps and folds where hours are
/// named; every minute of real time whose civil time matches otherwise. Which civil times match is asked of the same
/// expression in UTC, where no change confuses anything.
pub(crate) fn brute_force(
    schedule: &Schedule,
    zone: &TimeZone,
    from: Timestamp,
    until: Timestamp,
) -> Vec<Timestamp> {
    let utc = TimeZone::UTC;
    let civil = between(schedule, &utc, from - 48.hours(), until + 48.hours());
    let civil = civil.into_iter().map(|slot| utc.to_datetime(slot)).collect::<BTreeSet<DateTime>>();
    let found = if is_real_time(schedule) {
        let minutes = (from.as_second().div_euclid(60)..=until.as_second() / 60).map(|minute| minute * 60);
        let instants = minutes.map(|second| Timestamp::from_second(second).unwrap());
        instants.filter(|at| civil.contains(&zone.to_datetime(*at))).collect::<BTreeSet<_>>()
    } else {
        civil.into_iter().map(|civil| zone.to_ambiguous_timestamp(civil).compatible().unwrap()).collect()
    };
    found.into_iter().filter(|slot| *slot > from && *slot <= until).collect()
}

/// Told by the hour in the normal form: `*` or a step.
fn is_real_time(schedule: &Schedule) -> bool {
    let normal = schedule.normal();
    let words = normal.split(' ').collect::<Vec<_>>();
    let hour = if words.len() == 6 { words[2] } else { words[words.len() - 1].split(':').next().unwrap() };
    hour.contains(['*', '/'])
}
