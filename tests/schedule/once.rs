//! One run per slot: over reloads and kills at the slot itself, over a pause, over restarts.

use std::collections::BTreeSet;
use std::time::Duration;

use holdfast::state::{Database, JobRecord, Kind, Phase, Slot};
use rustix::process::Signal;

use super::{House, Run, backup, told};

/// Seconds between two slots, and its expression.
const STEP: i64 = 4;
const EVERY_FOUR_SECONDS: &str = "schedule = '*:*:0/4'";

/// The slot in whose time a run was asked for.
fn slot(run: &Run) -> i64 {
    run.queued.as_second().div_euclid(STEP)
}

fn begun(history: &[Run]) -> Vec<i64> {
    history.iter().filter(|run| run.begun).map(slot).collect()
}

fn without_doubles(slots: &[i64]) -> bool {
    slots.iter().collect::<BTreeSet<_>>().len() == slots.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn t17_reloads_at_the_slot_neither_drop_nor_double_it() {
    let house = House::now(&backup("often", EVERY_FOUR_SECONDS)).await;
    let mut history = house.history("often").await;
    while history.len() < 4 {
        house.daemon.signal(Signal::HUP);
        tokio::time::sleep(Duration::from_millis(100)).await;
        history = house.history("often").await;
    }
    let slots: Vec<i64> = history.iter().map(slot).collect();
    assert!(without_doubles(&slots), "{history:#?}");
    // A slot that comes while the one before is still at work is told as skipped: it has its line too.
    assert_eq!(slots.last().unwrap() - slots[0], slots.len() as i64 - 1, "{history:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_around_its_slot_a_run_is_never_doubled_and_never_lost() {
    let mut house = House::now(&backup("often", EVERY_FOUR_SECONDS)).await;
    for kill in 0..10_i64 {
        // From just before the slot to some 90 ms behind it.
        let now = jiff::Timestamp::now();
        let next = (now.as_second().div_euclid(STEP) + 1) * STEP;
        let left = next * 1000 - now.as_millisecond() - 5 + kill * 10;
        tokio::time::sleep(Duration::from_millis(u64::try_from(left).unwrap())).await;
        house.daemon.restart_after_kill().await;
        let run = |history: &[Run]| begun(history).iter().any(|slot| *slot >= next / STEP);
        house.until("run of the slot at which it was killed", "often", run).await;
    }
    let history = house.history("often").await;
    assert!(without_doubles(&begun(&history)), "{history:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_due_in_a_pause_runs_once_after_it_also_over_a_restart() {
    let mut house = House::at("2026-06-01 00:29:57", &backup("nightly", "schedule = '02:30'")).await;
    house.pause().await;
    house.says("nightly", "Waiting", "the daemon is paused").await;
    house.restart_at("2026-06-03 10:00:00").await;
    house.says("nightly", "Waiting", "the daemon is paused").await;
    assert_eq!(house.history("nightly").await.len(), 0);
    house.resume().await;
    assert_eq!(told(&house.ended("nightly", 1).await), [("catch-up", "succeeded")]);
    house.restart_at("2026-06-03 10:00:10").await;
    assert_eq!(house.history("nightly").await.len(), 1);
}

/// What a daemon leaves that dies between storing a slot with its job and beginning that job.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_was_taken_but_not_begun_runs_at_the_next_start_once() {
    let mut house = House::at("2026-06-01 10:00:00", &backup("nightly", "schedule = '02:30'")).await;
    assert_eq!(house.daemon.stop(), Some(0));
    let slot: jiff::Timestamp = "2026-06-02T00:30:00Z".parse().unwrap();
    let job = JobRecord {
        id: "j20260602T003000Z_abcdef".to_owned(),
        kind: Kind::Backup,
        subject: "nightly".to_owned(),
        cause: "schedule".to_owned(),
        queued: slot,
        started: None,
        finished: None,
        phase: Phase::Queued,
        outcome: None,
        error: String::new(),
        bytes_done: 0,
        bytes_total: 0,
        files_done: 0,
        units: Vec::new(),
    };
    let (database, _) = Database::open(&house.daemon.dir.path().join("state"), slot).unwrap();
    let of = Slot { key: "backup/nightly".to_owned(), at: Some(slot) };
    database.save_job_of_slot(&job, &of).await.unwrap();
    drop(database);
    house.restart_at("2026-06-02 00:30:05").await;
    let runs = [("schedule", "interrupted"), ("catch-up", "succeeded")];
    assert_eq!(told(&house.ended("nightly", 2).await), runs);
    house.restart_at("2026-06-02 00:31:00").await;
    assert_eq!(told(&house.history("nightly").await), runs);
    // With a later slot missed as well, one run is for both.
    let (again, of) = (
        JobRecord { id: "j20260603T003000Z_abcdef".to_owned(), ..job },
        Slot { at: Some("2026-06-03T00:30:00Z".parse().unwrap()), ..of },
    );
    assert_eq!(house.daemon.stop(), Some(0));
    let (database, _) = Database::open(&house.daemon.dir.path().join("state"), slot).unwrap();
    database.save_job_of_slot(&again, &of).await.unwrap();
    drop(database);
    house.restart_at("2026-06-05 12:00:00").await;
    house
        .until("one run", "nightly", |h| h.iter().filter(|run| run.outcome == "succeeded").count() == 2)
        .await;
    house.restart_at("2026-06-05 12:00:30").await;
    let succeeded = house.history("nightly").await.iter().filter(|run| run.outcome == "succeeded").count();
    assert_eq!(succeeded, 2);
}
