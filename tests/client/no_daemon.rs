//! Restores where no daemon runs: same locks, same undo steps.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use super::support::until;
use super::{House, Said};

/// A house with a set, its daemon stopped, its data spoilt since.
async fn stopped() -> House {
    let mut house = House::build().await;
    house.holdfast(&["run", "nightly"]).ends_with(0);
    assert_eq!(house.daemon.stop(), Some(0), "{}", house.daemon.log());
    house.daemon.write("data/file", "spoilt\n");
    house
}

/// `holdfast` with nothing but its directories, no bus among them.
fn alone(house: &House, arguments: &[&str]) -> Command {
    let mut command = house.command(arguments);
    command.env("HOLDFAST_BUS", "unix:path=/nonexistent/bus").env("HOLDFAST_CACHE", house.path("cache"));
    command.env("HOLDFAST_RUNTIME", house.path("runtime"));
    command
}

fn run(house: &House, arguments: &[&str]) -> Said {
    Said::of(alone(house, arguments).output().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_a_rescue_needs_works_without_bus_and_daemon() {
    let house = stopped().await;
    let listed = run(&house, &["--json", "snapshots", "app-1", "--no-daemon"]).ends_with(0);
    let rows: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!((rows[0]["backup"].as_str(), rows[0]["standing"].as_str()), (Some("nightly"), Some("latest")));
    let data = format!("files{}", house.path("data").display());
    run(&house, &["ls", "app-1", "--no-daemon", &data]).ends_with(0).has(&["data/file"]);
    run(&house, &["cat", "app-1", "--no-daemon", &format!("{data}/file")]).ends_with(0).has(&["one"]);
    run(&house, &["restore", "app-1", "--no-daemon"]).ends_with(2).complains(&["--yes"]);
    run(&house, &["restore", "app-1", "--no-daemon", "--plan"]).ends_with(0).has(&["replace"]);
    assert_eq!(house.daemon.read("data/file"), "spoilt\n");
    run(&house, &["restore", "app-1", "--no-daemon", "--yes"])
        .ends_with(0)
        .has(&["restore app-1: succeeded"]);
    assert_eq!(house.daemon.read("data/file"), "one\n");
    let out = house.path("out").display().to_string();
    run(&house, &["restore", "app-1", "--no-daemon", "--target", &out]).ends_with(0);
    assert!(house.path("out/manifest.json").exists());
    let none = ["restore", "app-1", "none", "--no-daemon", "--yes"];
    run(&house, &none).ends_with(1).complains(&["not restored: none"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_restored_alone_stands_in_the_daemons_history_and_can_be_rolled_back() {
    let mut house = stopped().await;
    run(&house, &["restore", "app-1", "--no-daemon", "--yes"]).ends_with(0);
    house.daemon.start_again().await;
    let jobs = house.json(&["history"]);
    assert_eq!((jobs[0]["Kind"].as_str(), jobs[0]["Outcome"].as_str()), (Some("restore"), Some("succeeded")));
    house.holdfast(&["rollback", "app-1"]).ends_with(0);
    assert_eq!(house.daemon.read("data/file"), "spoilt\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_daemon_works_it_is_refused_and_nothing_is_touched() {
    let house = House::build().await;
    house.holdfast(&["run", "nightly"]).ends_with(0);
    house.daemon.write("data/file", "newer\n");
    let refused = run(&house, &["restore", "app-1", "--no-daemon", "--yes"]).ends_with(1);
    refused.complains(&["only while no daemon does", &format!("process {}", house.daemon.pid())]);
    assert_eq!(house.daemon.read("data/file"), "newer\n");
    house.holdfast(&["restore", "app-1", "--yes"]).ends_with(0);
}

/// Killed after the swap, in a step: the next one of either kind puts the old data back and says so.
async fn killed() -> House {
    let house = stopped().await;
    let step = "#!/bin/sh\n: >../../at-step\nexec sleep 60\n";
    let path = house.daemon.write("app/actions/restore-module/50hang", step);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = alone(&house, &["restore", "app-1", "--no-daemon", "--yes"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let at = house.path("at-step");
    until("the step runs", || at.exists());
    assert_eq!(house.daemon.read("data/file"), "one\n", "swapped already");
    child.kill().unwrap();
    child.wait().unwrap();
    house
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_the_next_command_puts_the_old_data_back() {
    let house = killed().await;
    run(&house, &["snapshots", "app-1", "--no-daemon"]).ends_with(0).complains(&["putting back", "data"]);
    assert_eq!(house.daemon.read("data/file"), "spoilt\n");
    assert_eq!(std::fs::read_dir(house.path("state/undo")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_the_daemons_start_puts_the_old_data_back() {
    let mut house = killed().await;
    house.daemon.start_again().await;
    assert_eq!(house.daemon.read("data/file"), "spoilt\n");
    assert!(house.daemon.log().contains("putting back"), "{}", house.daemon.log());
    let jobs = house.json(&["history", "--outcome", "interrupted"]);
    assert_eq!(jobs[0]["Kind"].as_str(), Some("restore"));
}
