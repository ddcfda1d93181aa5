use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const NOW: &str = "2026-11-21T08:00:00Z";

fn set(time: &str) -> SetTime {
    SetTime { id: time.into(), time: time.parse().unwrap() }
}

fn kept(sets: &[SetTime], retention: &Retention, zone: &str) -> Vec<String> {
    let decisions = keep(sets, retention, &TimeZone::get(zone).unwrap(), NOW.parse().unwrap());
    decisions.into_iter().filter(|d| d.keep).map(|d| d.id).collect()
}

fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3600)
}

#[test]
fn the_newest_of_each_span_is_kept() {
    let times = [
        "2026-11-20T23:30:00Z",
        "2026-11-20T23:10:00Z",
        "2026-11-20T01:00:00Z",
        "2026-11-16T12:00:00Z",
        "2026-11-15T12:00:00Z",
        "2026-10-31T12:00:00Z",
        "2025-12-31T12:00:00Z",
    ];
    let sets = times.map(set);
    let none = Retention::default;
    for (retention, expected) in [
        (Retention { last: 2, ..none() }, &[0, 1][..]),
        (Retention { hourly: 2, ..none() }, &[0, 2]),
        (Retention { daily: 2, ..none() }, &[0, 3]),
        (Retention { weekly: 2, ..none() }, &[0, 4]),
        (Retention { monthly: 2, ..none() }, &[0, 5]),
        (Retention { yearly: 9, ..none() }, &[0, 6]),
        (Retention { within: Some(hours(24)), ..none() }, &[0, 1, 2]),
        (Retention { within: Some(Duration::ZERO), ..none() }, &[0]),
        (Retention { within: Some(Duration::MAX), ..none() }, &[0, 1, 2, 3, 4, 5, 6]),
        (Retention { last: 1, yearly: 2, ..none() }, &[0, 6]),
        (none(), &[0, 1, 2, 3, 4, 5, 6]),
    ] {
        let expected: Vec<&str> = expected.iter().map(|n: &usize| times[*n]).collect();
        assert_eq!(kept(&sets, &retention, "UTC"), expected, "{retention:?}");
    }
}

#[test]
fn a_day_is_a_day_of_the_zone() {
    let sets = ["2026-11-20T23:30:00Z", "2026-11-20T22:30:00Z"].map(set);
    let daily = Retention { daily: 9, ..Retention::default() };
    assert_eq!(kept(&sets, &daily, "UTC").len(), 1);
    assert_eq!(kept(&sets, &daily, "Europe/Berlin").len(), 2);
}

#[test]
fn a_week_is_an_iso_week_also_around_new_year() {
    let sets = ["2025-01-05T12:00:00Z", "2024-12-30T12:00:00Z", "2024-12-29T12:00:00Z"].map(set);
    let weekly = Retention { weekly: 9, ..Retention::default() };
    assert_eq!(kept(&sets, &weekly, "UTC"), ["2025-01-05T12:00:00Z", "2024-12-29T12:00:00Z"]);
}

#[test]
fn sets_from_the_future_cost_no_good_one() {
    let sets =
        ["2036-01-01T00:00:00Z", "2026-11-21T00:00:00Z", "2026-11-20T00:00:00Z", "2026-11-01T00:00:00Z"];
    let sets = sets.map(set);
    let retention = Retention { last: 1, within: Some(hours(48)), ..Retention::default() };
    let decisions = keep(&sets, &retention, &TimeZone::UTC, NOW.parse().unwrap());
    let reasons: Vec<_> = decisions.iter().map(|d| d.reasons.join(" ")).collect();
    assert_eq!(reasons, ["future", "within last", "within", ""]);
    // A clock that stands at the epoch removes nothing.
    assert!(keep(&sets, &retention, &TimeZone::UTC, Timestamp::UNIX_EPOCH).iter().all(|d| d.keep));
}

fn any_retention() -> impl Strategy<Value = Retention> {
    let within = proptest::option::of((0u64..20_000).prop_map(hours));
    (0u32..5, 0u32..5, 0u32..5, 0u32..5, 0u32..5, 0u32..3, within).prop_map(
        |(last, hourly, daily, weekly, monthly, yearly, within)| Retention {
            last,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
            within,
            versions: 0,
        },
    )
}

fn any_sets() -> impl Strategy<Value = Vec<SetTime>> {
    let time = (0i64..4, 0i64..400_000_000)
        .prop_map(|(scale, second)| 1_795_000_000 - second / 60i64.pow(scale as u32));
    proptest::collection::vec(time, 0..40).prop_map(|times| {
        let set = |(n, second): (usize, i64)| SetTime {
            id: format!("s{n}"),
            time: Timestamp::from_second(second).unwrap(),
        };
        times.into_iter().enumerate().map(set).collect()
    })
}

fn zone() -> impl Strategy<Value = TimeZone> {
    proptest::sample::select(vec!["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia"])
        .prop_map(|name| TimeZone::get(name).unwrap())
}

proptest! {
    #[test]
    fn the_newest_is_always_kept_and_each_is_decided_once(
        sets in any_sets(), retention in any_retention(), zone in zone(),
    ) {
        let decisions = keep(&sets, &retention, &zone, NOW.parse().unwrap());
        prop_assert_eq!(decisions.iter().map(|d| &d.id).collect::<BTreeSet<_>>().len(), sets.len());
        prop_assert_eq!(decisions.len(), sets.len());
        prop_assert!(decisions.first().is_none_or(|newest| newest.keep));
        prop_assert!(decisions.iter().all(|d| d.keep != d.reasons.is_empty()));
        let lasting = decisions.iter().filter(|d| d.keep).count();
        prop_assert!(lasting >= sets.len().min(retention.last as usize));
    }

    #[test]
    fn more_rules_never_keep_less(
        sets in any_sets(), one in any_retention(), more in any_retention(), zone in zone(),
    ) {
        prop_assume!(one != Retention::default());
        let both = Retention {
            last: one.last.max(more.last),
            hourly: one.hourly.max(more.hourly),
            daily: one.daily.max(more.daily),
            weekly: one.weekly.max(more.weekly),
            monthly: one.monthly.max(more.monthly),
            yearly: one.yearly.max(more.yearly),
            within: one.within.max(more.within),
            versions: 0,
        };
        let now = NOW.parse().unwrap();
        let (less, all) = (keep(&sets, &one, &zone, now), keep(&sets, &both, &zone, now));
        for (less, all) in less.iter().zip(&all) {
            prop_assert!(!less.keep || all.keep, "{} is kept by fewer rules only", less.id);
        }
    }

    #[test]
    fn the_order_of_the_list_does_not_matter_and_a_second_look_removes_no_more(
        sets in any_sets(), retention in any_retention(), zone in zone(),
    ) {
        let now = NOW.parse().unwrap();
        let decisions = keep(&sets, &retention, &zone, now);
        let mut turned = sets.clone();
        turned.reverse();
        prop_assert_eq!(&keep(&turned, &retention, &zone, now), &decisions);
        let left: Vec<SetTime> = sets
            .into_iter()
            .filter(|set| decisions.iter().any(|d| d.id == set.id && d.keep))
            .collect();
        prop_assert!(keep(&left, &retention, &zone, now).iter().all(|d| d.keep));
    }
}
