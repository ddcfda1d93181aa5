//! Restores from the command line.

use std::process::Command;

use super::House;

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_in_place_brings_back_what_was_lost() {
    let house = House::build().await;
    house.holdfast(&["run", "nightly"]).ends_with(0);
    std::fs::remove_dir_all(house.path("data/sub")).unwrap();
    house.daemon.write("data/file", "spoilt\n");
    house.holdfast(&["restore", "app-1"]).ends_with(2).complains(&["--yes"]);
    assert_eq!(house.daemon.read("data/file"), "spoilt\n");
    house.holdfast(&["restore", "app-1", "--yes"]).ends_with(0).has(&["restore app-1: succeeded"]);
    assert_eq!(
        (house.daemon.read("data/file"), house.daemon.read("data/sub/other")),
        ("one\n".into(), "two\n".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_beside_the_live_data_asks_nobody_and_leaves_that_as_it_is() {
    let house = House::build().await;
    house.holdfast(&["run", "nightly"]).ends_with(0);
    house.daemon.write("data/file", "newer\n");
    let snapshot = house.json(&["snapshots", "app-1"])[0]["id"].as_str().unwrap().to_owned();
    // Relative to the caller, not to the daemon.
    let mut command = house.command(&["restore", "app-1", "--snapshot", &snapshot[..8], "--target", "out"]);
    let output = command.current_dir(house.daemon.dir.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}\n{}", house.daemon.log());
    let found =
        Command::new("find").arg(house.path("out")).args(["-name", "file", "-type", "f"]).output().unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    assert_eq!(std::fs::read_to_string(found.trim()).unwrap(), "one\n", "{found}");
    assert_eq!(house.daemon.read("data/file"), "newer\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_not_there_restores_nothing() {
    let house = House::build().await;
    house.holdfast(&["run", "nightly"]).ends_with(0);
    house
        .holdfast(&["restore", "app-1", "--snapshot", "deadbeef", "--yes"])
        .ends_with(1)
        .complains(&["deadbeef"]);
    house.holdfast(&["restore", "app-1", "--before", "2020-01-01", "--yes"]).ends_with(1);
    assert_eq!(house.daemon.read("data/file"), "one\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn restic_itself_is_run_on_the_instances_repository_without_its_secrets_in_sight() {
    let house = House::build().await;
    house.holdfast(&["restic", "app-1", "--", "snapshots"]).ends_with(1).complains(&["never backed up"]);
    house.holdfast(&["run", "nightly"]).ends_with(0);
    house.holdfast(&["restic", "app-1", "--", "snapshots"]).ends_with(0).has(&["instance=app-1", "testhost"]);
    // restic's own exit code and message come through.
    house
        .holdfast(&["restic", "app-1", "--", "dump", "deadbeef", "/x"])
        .ends_with(1)
        .complains(&["deadbeef"]);
    house.holdfast(&["restic", "nobody", "--", "snapshots"]).ends_with(1).complains(&["nobody", "app-1"]);
    house.holdfast(&["restic", "app-1", "snapshots"]).ends_with(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_shown_and_a_restore_is_rolled_back() {
    let house = House::build().await;
    house.holdfast(&["run", "nightly"]).ends_with(0);
    house.daemon.write("data/file", "newer\n");
    house.daemon.write("data/extra", "goes\n");
    for plan in [&["plan", "app-1"][..], &["restore", "app-1", "--plan"]] {
        house.holdfast(plan).ends_with(0).has(&["replace", "/data (2 files", "delete files/", "/extra"]);
    }
    assert_eq!(house.json(&["plan", "app-1"])["delete_count"], 1);
    house
        .holdfast(&["plan", "app-1", "--include", "state/none"])
        .ends_with(1)
        .has(&["refused: ", "state/none"]);
    assert_eq!(house.daemon.read("data/extra"), "goes\n");
    house.holdfast(&["rollback", "app-1"]).ends_with(1).complains(&["nothing is kept"]);
    house
        .holdfast(&["restore", "app-1", "--yes"])
        .ends_with(0)
        .has(&["kept until", "holdfast rollback app-1"]);
    assert!(!house.path("data/extra").exists());
    house.holdfast(&["rollback", "app-1"]).ends_with(0).has(&["rollback app-1: succeeded"]);
    assert_eq!(
        (house.daemon.read("data/file"), house.daemon.read("data/extra")),
        ("newer\n".into(), "goes\n".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_instances_one_that_fails_does_not_keep_the_others_back() {
    let house = House::build().await;
    house.holdfast(&["run", "nightly"]).ends_with(0);
    house.daemon.write("data/file", "spoilt\n");
    house
        .holdfast(&["restore", "nobody", "app-1", "neither", "--yes"])
        .ends_with(1)
        .complains(&["2 of 3 instances were not restored: nobody, neither"])
        .has(&["restore app-1: succeeded"]);
    assert_eq!(house.daemon.read("data/file"), "one\n");
    house.holdfast(&["restore", "app-1", "nobody", "--target", "x"]).ends_with(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_a_snapshot_is_listed_found_and_printed() {
    let house = House::build().await;
    house.holdfast(&["run", "nightly"]).ends_with(0);
    let inside = format!("files{}", house.path("data").display());
    house.holdfast(&["ls", "app-1"]).ends_with(0).has(&["/sub/other", "/manifest.json"]);
    let below = house.holdfast(&["ls", "app-1", &inside]).ends_with(0).has(&["/sub/other"]);
    assert!(!below.out.contains("manifest.json"), "{}", below.out);
    house.holdfast(&["find", "app-1", "oth*"]).ends_with(0).has(&["/sub/other"]);
    let file = house.holdfast(&["cat", "app-1", &format!("{inside}/file")]).ends_with(0);
    assert_eq!(file.out, "one\n");
    house.holdfast(&["cat", "app-1", "state/none"]).ends_with(1).complains(&["none"]);
    house
        .holdfast(&["cat", "app-1", "--snapshot", "deadbeef", "x"])
        .ends_with(1)
        .complains(&["holdfast snapshots"]);
    house.holdfast(&["cat", "app-1", "--snapshot", "--tag", "x"]).ends_with(2);
}
