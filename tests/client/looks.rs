//! `holdfast status` and who may look.

use super::support::{Bus, Daemon};
use super::{House, Said, command, keys};

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_daemon_says_what_to_write_next() {
    let bus = Bus::start();
    let daemon = Daemon::start(&bus, &[]).await;
    let said = Said::of(command(&bus.address, daemon.dir.path(), &["status"]).output().unwrap()).ends_with(0);
    said.has(&[
        "holdfastd ",
        "restic ",
        "What to do next",
        "[instance.files]",
        "holdfast backup add nightly --repository local",
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_every_backup_with_next_and_last_run() {
    let house = House::build().await;
    house.holdfast(&["status"]).ends_with(0).has(&[
        "nightly",
        "daily",
        "(in ",
        "never",
        "disabled",
        "holdfast run nightly",
    ]);
    house.holdfast(&["run", "nightly"]).ends_with(0);
    let said = house.holdfast(&["status"]).ends_with(0).has(&["nightly", "succeeded"]);
    assert!(!said.out.contains("Needs a look"), "{}", said.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_of_status_has_the_keys_of_the_bus() {
    let house = House::build().await;
    let status = house.json(&["status"]);
    for key in [
        "Version",
        "ResticVersion",
        "Paused",
        "ActiveJobs",
        "backups",
        "repositories",
        "instances",
        "jobs",
        "problems",
    ] {
        assert!(keys(&status).contains(&key), "{key} is missing: {status}");
    }
    let backup = &status["backups"][0];
    for key in [
        "Name",
        "Schedule",
        "Enabled",
        "Instances",
        "Repositories",
        "NextRun",
        "LastRun",
        "LastSuccess",
        "LastOutcome",
        "Waiting",
    ] {
        assert!(keys(backup).contains(&key), "{key} is missing: {backup}");
    }
    assert_eq!((&backup["Name"], &backup["LastRun"]), (&"nightly".into(), &0.into()));
    assert!(backup["NextRun"].as_u64().unwrap() > 1_600_000_000_000_000);
    assert_eq!(status["instances"][0]["Name"], "app-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_seen_and_ended() {
    let house = House::build().await;
    house.holdfast(&["pause", "2h"]).ends_with(0).has(&["paused for 2h"]);
    house.holdfast(&["status"]).ends_with(0).has(&["paused until ", "no schedule runs anything"]);
    house.holdfast(&["resume"]).ends_with(0);
    assert_eq!(house.json(&["status"])["Paused"], false);
    house.holdfast(&["pause"]).ends_with(0);
    house.holdfast(&["status"]).ends_with(0).has(&["paused until `holdfast resume`"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_whom_the_bus_refuses_ends_with_5() {
    // Names may be owned, nothing may be sent to them.
    let bus = Bus::with_policies("<policy context=\"default\"><allow own=\"*\"/></policy>");
    let daemon = Daemon::start(&bus, &[]).await;
    for arguments in [&["status"][..], &["run", "nightly"], &["backup", "list"]] {
        let said =
            Said::of(command(&bus.address, daemon.dir.path(), arguments).output().unwrap()).ends_with(5);
        said.complains(&["refuses", "holdfast"]);
    }
}
