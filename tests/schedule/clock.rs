//! Clocks: both changes of daylight saving time, downtime, a clock set back, a clock that was never set.

use super::{House, backup, told};

#[tokio::test(flavor = "multi_thread")]
async fn t01_a_slot_in_the_gap_of_spring_runs_once_behind_it() {
    // 02:30 does not exist on this day: 02:00 is 03:00. It runs at 03:30, 01:30 UTC.
    let house = House::at("2026-03-29 01:29:57", &backup("nightly", "schedule = '02:30'")).await;
    house.runs_at("nightly", "2026-03-29T01:30:00Z").await;
    let history = house.ended("nightly", 1).await;
    assert_eq!(told(&history), [("schedule", "succeeded")]);
    assert!(history[0].queued.to_string().starts_with("2026-03-29T01:30:0"), "{history:?}");
    house.runs_at("nightly", "2026-03-30T00:30:00Z").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t02_t03_in_autumn_named_hours_run_once_and_every_hour_runs_twice() {
    // From 01:00 UTC on the wall clock shows 02:00 to 03:00 once more.
    let backups = backup("nightly", "schedule = '02:30'") + &backup("hourly", "schedule = 'hourly'");
    let mut house = House::at("2026-10-25 00:29:57", &backups).await;
    assert_eq!(told(&house.ended("nightly", 1).await), [("schedule", "succeeded")]);
    house.runs_at("nightly", "2026-10-26T01:30:00Z").await;
    house.restart_at("2026-10-25 00:59:57").await;
    house.ended("hourly", 1).await;
    house.restart_at("2026-10-25 01:29:58").await;
    house.runs_at("nightly", "2026-10-26T01:30:00Z").await;
    house.restart_at("2026-10-25 01:59:57").await;
    assert_eq!(told(&house.ended("hourly", 2).await), [("schedule", "succeeded"), ("schedule", "succeeded")]);
    assert_eq!(house.history("nightly").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn t12_t13_three_days_down_make_one_run_or_one_line_of_skipped() {
    let backups = backup("kept", "schedule = '02:30'")
        + &super::backup_of("given-up", "other", "schedule = '02:30'\ncatch_up = false");
    let mut house = House::at("2026-06-01 10:00:00", &backups).await;
    house.restart_at("2026-06-04 10:00:00").await;
    assert_eq!(told(&house.ended("kept", 1).await), [("catch-up", "succeeded")]);
    let given_up = house.ended("given-up", 1).await;
    assert_eq!(told(&given_up), [("schedule", "skipped")]);
    assert!(given_up[0].error.contains("3 slots up to 2026-06-04T00:30:00Z"), "{given_up:?}");
    house.runs_at("kept", "2026-06-05T00:30:00Z").await;
    house.restart_at("2026-06-04 10:00:10").await;
    assert_eq!((house.history("kept").await.len(), house.history("given-up").await.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn t09_a_clock_set_back_repeats_nothing() {
    let mut house = House::at("2026-06-01 00:29:57", &backup("nightly", "schedule = '02:30'")).await;
    house.ended("nightly", 1).await;
    // Two seconds behind the same slot something else is due: when that has run, the slot has passed again.
    house
        .daemon
        .write("config/conf.d/witness.toml", &super::backup_of("witness", "other", "schedule = '02:30:02'"));
    house.restart_at("2026-06-01 00:29:57").await;
    house.ended("witness", 1).await;
    assert_eq!(told(&house.history("nightly").await), [("schedule", "succeeded")]);
    house.runs_at("nightly", "2026-06-02T00:30:00Z").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t11_nothing_is_decided_on_a_clock_of_1970() {
    let mut house = House::at("2026-06-01 10:00:00", &backup("nightly", "schedule = '02:30'")).await;
    house.restart_at("1970-01-01 00:29:58").await;
    house.says("nightly", "Schedule", "02:30").await;
    house.restart_at("1970-01-01 00:30:01").await;
    assert_eq!(house.history("nightly").await.len(), 0);
    house.restart_at("2026-06-02 00:29:57").await;
    assert_eq!(told(&house.ended("nightly", 1).await), [("schedule", "succeeded")]);
}
