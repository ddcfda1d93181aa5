//! Running, following, cancelling: what is shown and what a script gets.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::support::until;
use super::{House, Said, keys};

/// A dump that says that it has begun, and then waits for a file.
const SLOW: &str = "#!/bin/sh\ntouch @DIR@/begun\nwhile [ ! -e @DIR@/go ]; do sleep 0.05; done\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_followed_to_its_end_and_its_snapshot_named() {
    let house = House::build().await;
    let said = house.holdfast(&["run", "nightly"]).ends_with(0);
    let said = said.has(&["backup nightly: succeeded", "app-1 in local: succeeded, snapshot "]);
    assert!(said.err.contains("backup nightly: "), "no phase was shown: {}", said.err);
    let id = said.out.rsplit("snapshot ").next().unwrap().trim().to_owned();
    house.holdfast(&["snapshots", "app-1"]).ends_with(0).has(&[&id, "nightly", "testhost", "latest"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_of_a_run_is_the_job_as_on_the_bus() {
    let house = House::build().await;
    let job = house.json(&["run", "nightly"]);
    for key in [
        "Id",
        "Kind",
        "Subject",
        "State",
        "Phase",
        "Progress",
        "BytesDone",
        "BytesTotal",
        "FilesDone",
        "Started",
        "Finished",
        "Outcome",
        "Error",
        "Waiting",
        "Units",
    ] {
        assert!(keys(&job).contains(&key), "{key} is missing: {job}");
    }
    assert_eq!((&job["Outcome"], &job["Kind"]), (&"succeeded".into(), &"backup".into()));
    assert!(job["Finished"].as_u64().unwrap() > 1_600_000_000_000_000, "{job}");
    let unit = &job["Units"][0];
    for key in ["instance", "repository", "phase", "outcome", "snapshot", "error"] {
        assert!(keys(unit).contains(&key), "{key} is missing: {unit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_waiting_the_id_is_printed_and_history_knows_the_end() {
    let house = House::build().await;
    let id = house.holdfast(&["run", "nightly", "--no-wait"]).ends_with(0).out.trim().to_owned();
    house.daemon.wait_for_job(&format!("/org/holdfast/Backup1/job/{id}")).await;
    let jobs = house.json(&["history", "--backup", "nightly", "--since", "1h", "-n", "1"]);
    assert_eq!((&jobs[0]["Id"], &jobs[0]["Outcome"]), (&Value::from(id), &"succeeded".into()));
    house.holdfast(&["history"]).ends_with(0).has(&["nightly", "succeeded"]);
    assert_eq!(house.json(&["history", "--outcome", "failed"]), Value::Array(vec![]));
    house.holdfast(&["history", "--outcome", "nice"]).ends_with(1).complains(&["nice", "succeeded"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_disabled_is_named_and_nothing_runs() {
    let house = House::build().await;
    house.holdfast(&["run", "nightli"]).ends_with(1).complains(&["nightli"]);
    house.holdfast(&["run", "nightly", "--instance", "nobody"]).ends_with(1).complains(&["nobody"]);
    house.holdfast(&["run", "off"]).ends_with(1).complains(&["off", "disabled"]);
    house.holdfast(&["snapshots", "nobody"]).ends_with(1).complains(&["nobody"]);
    house.holdfast(&["prune", "nowhere"]).ends_with(1).complains(&["nowhere"]);
    house.holdfast(&["cancel", "j0"]).ends_with(1).complains(&["j0", "holdfast history"]);
    house.holdfast(&["backup", "show", "nope"]).ends_with(1).complains(&["no backup `nope`"]);
    house.holdfast(&["repository", "test", "nope"]).ends_with(1).complains(&["no repository `nope`"]);
    assert_eq!(house.json(&["history"]), Value::Array(vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_dump_ends_with_1_and_the_reason() {
    let house = House::build().await;
    house.hook("module-dump-state", "#!/bin/sh\necho the database is on fire >&2\nexit 3\n");
    let said = house.holdfast(&["run", "nightly"]).ends_with(1);
    said.has(&["backup nightly: failed"]).complains(&[
        "error:",
        "the database is on fire",
        "holdfast logs j",
    ]);
    house.holdfast(&["status"]).ends_with(0).has(&["nightly: the last run failed", "last success: never"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_with_warnings_ends_with_3() {
    let house = House::build().await;
    house.daemon.write("app/etc/state-include.conf", "state/missing\n");
    house.holdfast(&["run", "nightly"]).ends_with(3).has(&["backup nightly: warning", "missing"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn control_c_cancels_the_job_and_ends_with_130() {
    let house = House::build().await;
    house.hook("module-dump-state", SLOW);
    let child =
        house.command(&["run", "nightly"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the dump", || house.path("begun").exists());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let said = Said::of(child.wait_with_output().unwrap()).ends_with(130);
    said.has(&["backup nightly: cancelled"]).complains(&["cancelling the job"]);
    assert_eq!(house.json(&["history"])[0]["Outcome"], "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_cancelled_by_its_id_while_status_shows_it() {
    let house = House::build().await;
    house.hook("module-dump-state", SLOW);
    let id = house.holdfast(&["run", "nightly", "--no-wait"]).ends_with(0).out.trim().to_owned();
    until("the dump", || house.path("begun").exists());
    house.holdfast(&["status"]).ends_with(0).has(&[&id, "backup nightly: dump", "1 running"]);
    house.holdfast(&["cancel", &id]).ends_with(0).has(&[&id]);
    let outcome = house.daemon.wait_for_job(&format!("/org/holdfast/Backup1/job/{id}")).await;
    assert_eq!(outcome, "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_under_the_follower_is_4_not_a_hang() {
    let house = House::build().await;
    house.hook("module-dump-state", SLOW);
    let child =
        house.command(&["run", "nightly"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the dump", || house.path("begun").exists());
    house.daemon.signal(Signal::KILL);
    let said = Said::of(child.wait_with_output().unwrap()).ends_with(4);
    // It follows the job by then, or is about to.
    said.complains(&["holdfast"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_hangs_is_4_after_a_while_for_a_question_and_for_a_follower() {
    let house = House::build().await;
    house.hook("module-dump-state", SLOW);
    let spawn = |arguments: &[&str]| {
        house.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let follower = spawn(&["run", "nightly"]);
    until("the dump", || house.path("begun").exists());
    house.daemon.signal(Signal::STOP);
    let begin = std::time::Instant::now();
    // One that only looks, and one whose call may wait for a person.
    let asking = [spawn(&["status"]), spawn(&["pause", "1h"]), follower];
    for child in asking {
        let said = Said::of(child.wait_with_output().unwrap()).ends_with(4);
        said.complains(&["it has not answered for 20 s", "--bus"]);
    }
    assert!(begin.elapsed().as_secs() < 50, "it took {:?}", begin.elapsed());
    house.daemon.signal(Signal::CONT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_only_paused_loses_no_follower() {
    let house = House::build().await;
    house.hook("module-dump-state", SLOW);
    let child =
        house.command(&["run", "nightly"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the dump", || house.path("begun").exists());
    house.daemon.signal(Signal::STOP);
    // Within the client's patience, and beyond its first question.
    tokio::time::sleep(std::time::Duration::from_secs(7)).await;
    house.daemon.signal(Signal::CONT);
    house.daemon.write("go", "");
    Said::of(child.wait_with_output().unwrap()).ends_with(0).has(&["backup nightly: succeeded"]);
}

/// B37, B44 of the list of hostile calls in the project's research.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_end_ends_no_follower_and_a_follower_that_dies_ends_no_job() {
    let house = House::build().await;
    house.hook("module-dump-state", SLOW);
    let spawn = || {
        let mut client = house.command(&["run", "nightly"]);
        client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut follower = spawn();
    until("the dump", || house.path("begun").exists());
    let job = house.json(&["status"])["jobs"][0]["Id"].as_str().unwrap().to_owned();
    let path = format!("/org/holdfast/Backup1/job/{job}");
    let stranger = house.bus.connect().await;
    let object = zbus::wire::ObjectPath::try_from(path.as_str()).unwrap();
    let manager = "org.holdfast.Backup1.Manager";
    let body = (object, "succeeded");
    stranger.emit_signal(None::<&str>, "/org/holdfast/Backup1", manager, "JobRemoved", &body).await.unwrap();
    // The stranger's call comes after its signal, so the follower has had both.
    house.holdfast(&["status"]).ends_with(0).has(&["1 running"]);
    assert!(follower.try_wait().unwrap().is_none(), "a forged signal ended the follower");
    follower.kill().unwrap();
    follower.wait().unwrap();
    house.daemon.write("go", "");
    assert_eq!(house.daemon.wait_for_job(&path).await, "succeeded", "{}", house.daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_are_checked_pruned_and_unlocked_by_name() {
    let house = House::build().await;
    house.holdfast(&["run", "nightly"]).ends_with(0);
    house.holdfast(&["check", "local", "--read-data", "all"]).ends_with(0).has(&["check local: succeeded"]);
    house.holdfast(&["prune", "local"]).ends_with(0).has(&["prune local: succeeded"]);
    house.holdfast(&["unlock", "local"]).ends_with(0);
    house.holdfast(&["repository", "test", "local"]).ends_with(0).has(&["can be opened"]);
    let contents = house.json(&["repository", "contents", "local"]);
    assert_eq!((&contents[0]["name"], &contents[0]["defined_here"]), (&"app-1".into(), &true.into()));
    assert_eq!(keys(&contents[0]), ["defined_here", "host", "last_set", "module", "name", "size", "uuid"]);
}
