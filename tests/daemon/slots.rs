//! Slots, retries, pauses, and definitions that change under a running job.

use std::collections::HashMap;

use zbus::wire::{OwnedObjectPath, Variant};

use crate::lab::{Lab, SECOND, Setup, text};
use crate::support::{Row, error_of};

/// Waits until the history holds such jobs; their rows, newest first.
async fn wait_for_jobs(lab: &Lab, count: usize, wanted: impl Fn(&Row) -> bool) -> Vec<Row> {
    let start = std::time::Instant::now();
    loop {
        let found: Vec<_> = lab.history().await.into_iter().filter(|row| wanted(row)).collect();
        if found.len() >= count {
            return found;
        }
        assert!(
            start.elapsed() < crate::support::DEADLINE,
            "{:#?}\n{}",
            lab.outcomes().await,
            lab.daemon.log()
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

fn scheduled(setup: Setup, schedule: &str) -> Setup {
    setup.replace("instances = [\"app\"]", &format!("instances = [\"app\"]\nschedule = \"{schedule}\""))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passing_cause_is_tried_again_after_a_pause() {
    let lab = Setup::new()
        .hooked()
        .replace("instances = [\"app\"]", "instances = [\"app\"]\nretry = { attempts = 2, delay = \"1s\" }")
        .start()
        .await;
    lab.on(
        "backup",
        "rm \"$D/on-backup\"; echo 'Fatal: unable to save: connection reset by peer' >&2; exit 1",
    );
    lab.good_backup("b").await;
    assert_eq!(
        (lab.calls("backup"), lab.text("hooks").matches("dump begins").count()),
        (2, 1),
        "dumped once"
    );
    assert!(lab.daemon.log().contains("will be tried again in 1s"), "{}", lab.daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_end() {
    let lab = Setup::new()
        .plain()
        .replace("instances = [\"app\"]", "instances = [\"app\"]\nretry = { attempts = 1, delay = \"1s\" }")
        .start()
        .await;
    lab.on("backup", "echo 'Fatal: unable to save: connection reset by peer' >&2; exit 1");
    let ended = lab.backup("b").await;
    assert_eq!((&*ended.outcome, lab.calls("backup")), ("failed", 2), "{ended:#?}");
    assert!(ended.error.contains("connection reset"), "{}", ended.error);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_before_a_retry_ends_when_the_job_is_cancelled() {
    let lab = Setup::new()
        .plain()
        .replace("instances = [\"app\"]", "instances = [\"app\"]\nretry = { attempts = 3, delay = \"1h\" }")
        .start()
        .await;
    lab.on("backup", "echo 'Fatal: unable to save: connection reset by peer' >&2; exit 1");
    let job = lab.daemon.run_backup("b").await;
    let start = std::time::Instant::now();
    loop {
        let waiting: String = lab.daemon.property(&job, "Job", "Waiting").await;
        if waiting.contains("tries again in") {
            break;
        }
        assert!(start.elapsed() < crate::support::DEADLINE, "{waiting}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    lab.cancel(&job).await;
    assert_eq!(lab.ended(&job).await.outcome, "cancelled");
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_at_work_is_busy_and_a_slot_meanwhile_is_skipped() {
    let lab = scheduled(Setup::new().hooked(), "*:*:*").start().await;
    lab.hold("dump");
    lab.reached("dump").await;
    let (name, said) =
        error_of(lab.daemon.call::<_, OwnedObjectPath>("RunBackup", &("b", Row::new())).await).unwrap();
    assert!(name.ends_with("Busy") && said.contains("at work as job j"), "{name}: {said}");
    let skipped = wait_for_jobs(&lab, 1, |row| text(row, "Outcome") == "skipped").await;
    assert!(text(&skipped[0], "Error").contains("at work"), "{skipped:?}");
    let () = lab.daemon.call("Pause", &(0_u64,)).await.unwrap();
    lab.go("dump");
    let done = wait_for_jobs(&lab, 1, |row| text(row, "Outcome") == "succeeded").await;
    assert_eq!(text(&done[0], "Cause"), "schedule");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_backup_runs_neither_by_schedule_nor_when_asked() {
    let lab = scheduled(Setup::new().plain(), "*:*:*")
        .replace("schedule = ", "enabled = false\nschedule = ")
        .start()
        .await;
    let (name, said) =
        error_of(lab.daemon.call::<_, OwnedObjectPath>("RunBackup", &("b", Row::new())).await).unwrap();
    assert!(name.ends_with("Disabled") && said.contains("backup enable"), "{name}: {said}");
    let object = lab.daemon.proxy("/org/holdfast/Backup1/backup/b", "Backup").await;
    let () = object.call("Enable", &()).await.unwrap();
    wait_for_jobs(&lab, 1, |row| text(row, "Outcome") == "succeeded" && text(row, "Cause") == "schedule")
        .await;
    assert_eq!(
        lab.history().await.iter().filter(|row| text(row, "Cause") == "catch-up").count(),
        0,
        "not made up for"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_come_again_and_again_and_not_while_paused() {
    let lab = scheduled(Setup::new().plain(), "*:*:0/2").start().await;
    let jobs = wait_for_jobs(&lab, 2, |row| text(row, "Outcome") == "succeeded").await;
    assert!(jobs.iter().all(|row| text(row, "Cause") == "schedule"), "{jobs:?}");
    let queued = |row: &Row| u64::try_from(row["Queued"].try_clone().unwrap()).unwrap();
    let apart = queued(&jobs[0]) - queued(&jobs[1]);
    assert!((1_000_000..7_000_000).contains(&apart), "{apart} µs");

    let () = lab.daemon.call("Pause", &(0_u64,)).await.unwrap();
    wait_for_jobs(&lab, 0, |_| true).await;
    lab.until("a slot is held", || lab.daemon.log().contains("but the daemon is paused: it waits")).await;
    let before = lab.history().await.len();
    let () = lab.daemon.call("Resume", &()).await.unwrap();
    wait_for_jobs(&lab, before + 1, |_| true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_downtime_there_is_exactly_one_catch_up() {
    // Half a day away: no slot comes meanwhile.
    let away = (jiff::Zoned::now().hour() + 12) % 24;
    let mut lab = scheduled(Setup::new().plain(), &format!("*-*-* {away:02}:30")).start().await;
    lab.daemon.stop();
    let database = rusqlite::Connection::open(lab.path("state/holdfast.db")).unwrap();
    let long_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(72);
    let nanoseconds = i64::try_from(long_ago.as_nanosecond()).unwrap();
    database
        .execute("INSERT OR REPLACE INTO slot (key, decided) VALUES ('backup/b', ?1)", [nanoseconds])
        .unwrap();
    drop(database);
    lab.daemon.start_again().await;
    let jobs = wait_for_jobs(&lab, 1, |row| !text(row, "Outcome").is_empty()).await;
    assert_eq!(
        (jobs.len(), text(&jobs[0], "Cause"), text(&jobs[0], "Outcome")),
        (1, "catch-up".into(), "succeeded".into())
    );
    lab.daemon.restart_after_kill().await;
    lab.daemon.stop();
    lab.daemon.start_again().await;
    assert_eq!(lab.history().await.len(), 1, "the slot is decided");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_keeps_the_definition_that_it_began_with() {
    let lab = Setup::new().hooked().start().await;
    lab.hold("dump");
    let job = lab.daemon.run_backup("b").await;
    lab.reached("dump").await;
    let config = lab.text("config/holdfast.toml");
    lab.write("config/holdfast.toml", config.split("[backup.b]").next().unwrap(), 0o600);
    let said: Vec<String> = lab.daemon.call("Reload", &()).await.unwrap();
    assert!(said.is_empty(), "{said:?}");
    let (name, _) =
        error_of(lab.daemon.call::<_, OwnedObjectPath>("RunBackup", &("b", Row::new())).await).unwrap();
    assert!(name.ends_with("NoSuchBackup"), "{name}");
    lab.go("dump");
    let ended = lab.ended(&job).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}");
    assert_eq!((lab.snapshots_in("repo"), lab.text("hooks").matches("cleanup ends").count()), (1, 1));
    lab.assert_settled().await;
    lab.write("config/holdfast.toml", &config, 0o600);
    let _: Vec<String> = lab.daemon.call("Reload", &()).await.unwrap();
    assert_eq!(lab.sets("app").await.len(), 1, "what it made is known");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_the_next_run_not_the_running_one() {
    let lab = Setup::new().hooked().config(SECOND).start().await;
    lab.hold("dump");
    let job = lab.daemon.run_backup("b").await;
    lab.reached("dump").await;
    let config = lab.text("config/holdfast.toml");
    let other = config.replace("repositories = [\"local\"]", "repositories = [\"second\"]");
    lab.write("config/holdfast.toml", &other, 0o600);
    let _: Vec<String> = lab.daemon.call("Reload", &()).await.unwrap();
    lab.go("dump");
    assert_eq!(lab.ended(&job).await.units[0].repository, "local");
    assert_eq!(lab.good_backup("b").await.units[0].repository, "second");
    assert_eq!((lab.snapshots_in("repo"), lab.snapshots_in("repo2")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_keeps_the_previous_definitions_at_work() {
    let lab = Setup::new().plain().start().await;
    let config = lab.text("config/holdfast.toml");
    lab.write("config/holdfast.toml", &config.replace("instances = [", "instanzes = ["), 0o600);
    let said: Vec<String> = lab.daemon.call("Reload", &()).await.unwrap();
    assert!(said.iter().any(|line| line.contains("instanzes")), "{said:?}");
    lab.good_backup("b").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_altered_over_the_bus_takes_effect() {
    let lab = Setup::new().plain().start().await;
    for _ in 0..3 {
        lab.good_backup("b").await;
    }
    let keys: HashMap<&str, Variant<'_>> = [("retention", Variant::U64(1))].into();
    let () = lab.daemon.call("AlterBackup", &("b", keys)).await.unwrap();
    lab.good_backup("b").await;
    assert_eq!((lab.sets("app").await.len(), lab.snapshots_in("repo")), (1, 1));
    assert!(lab.text("config/holdfast.toml").contains("retention = 1"));
    let keys: HashMap<&str, Variant<'_>> = [("schedule", Variant::from("*:*:*"))].into();
    let () = lab.daemon.call("AlterBackup", &("b", keys)).await.unwrap();
    wait_for_jobs(&lab, 1, |row| text(row, "Cause") == "schedule" && text(row, "Outcome") == "succeeded")
        .await;
}
