//! Definitions from the command line: what is written, and what is refused.

use std::io::Write;
use std::process::Stdio;

use super::{House, Said};

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_added_altered_switched_and_removed() {
    let house = House::build().await;
    let add =
        ["backup", "add", "weekly", "--repository", "local", "--instance", "app-1", "--schedule", "weekly"];
    house.holdfast(&add).ends_with(0).has(&["weekly is defined; next run "]);
    house.holdfast(&add).ends_with(1).complains(&["weekly"]);
    let alter = [
        "backup",
        "alter",
        "weekly",
        "--schedule",
        "monthly",
        "--retention",
        "daily=7,last=2",
        "--set",
        "catch_up=false",
    ];
    house.holdfast(&alter).ends_with(0);
    assert_eq!(house.json(&["backup", "show", "weekly"])["Schedule"], "monthly");
    house.holdfast(&["backup", "disable", "weekly"]).ends_with(0).has(&["is disabled"]);
    assert_eq!(house.json(&["backup", "show", "weekly"])["Enabled"], false);
    house.holdfast(&["backup", "enable", "weekly"]).ends_with(0).has(&["is enabled"]);
    house.holdfast(&["backup", "remove", "weekly"]).ends_with(0).has(&["snapshots are kept"]);
    house.holdfast(&["backup", "show", "weekly"]).ends_with(1);
    assert!(house.daemon.read("config/holdfast.toml").contains("# kept: inline"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_not_be_valid_is_refused_and_nothing_is_written() {
    let house = House::build().await;
    let before = house.daemon.read("config/holdfast.toml");
    house
        .holdfast(&["backup", "alter", "nightly", "--schedule", "Mon..Fry 02:30"])
        .ends_with(1)
        .complains(&["Fry"]);
    house.holdfast(&["backup", "alter", "nightly", "--repository", "nope"]).ends_with(1).complains(&["nope"]);
    house
        .holdfast(&["backup", "alter", "nightly", "--set", "dump_state=[\"sh\"]"])
        .ends_with(1)
        .complains(&["dump_state"]);
    assert_eq!(house.daemon.read("config/holdfast.toml"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_finds_errors_shows_them_and_ends_with_1() {
    let house = House::build().await;
    house.holdfast(&["reload"]).ends_with(0).has(&["all are good"]);
    assert!(!house.holdfast(&["status"]).ends_with(0).out.contains("Need"));
    house.daemon.write("config/conf.d/bad.toml", "[backup.bad]\nschedul = \"daily\"\n");
    house
        .holdfast(&["reload"])
        .ends_with(1)
        .has(&["bad.toml:2:1", "schedul"])
        .complains(&["previous good version"]);
    house.holdfast(&["status"]).ends_with(0).has(&["Needs a look", "bad.toml:2:1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_takes_its_secrets_from_files_and_shows_its_key_to_the_daemons_user() {
    let house = House::build().await;
    let url = house.path("second").display().to_string();
    let mut child = house
        .command(&["repository", "add", "second", "--url", &url, "--password-file", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"correct horse\n").unwrap();
    Said::of(child.wait_with_output().unwrap()).ends_with(0).has(&["second is defined"]);
    let key = house.holdfast(&["repository", "key", "second"]).ends_with(0);
    assert_eq!(key.out, "correct horse\n");
    assert_eq!(house.json(&["repository", "show", "second"])["Url"], url);
    house.holdfast(&["repository", "list"]).ends_with(0).has(&["local", "second", "per-instance"]);
    house.holdfast(&["repository", "remove", "local"]).ends_with(1).complains(&["local"]);
    house.holdfast(&["repository", "remove", "second"]).ends_with(0).has(&["data", "kept"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generated_password_is_named_as_something_to_keep() {
    let house = House::build().await;
    let url = house.path("third").display().to_string();
    let said =
        house.holdfast(&["repository", "add", "third", "--url", &url, "--layout", "shared"]).ends_with(0);
    said.complains(&["holdfast repository key third"]);
    assert_eq!(house.json(&["repository", "show", "third"])["Layout"], "shared");
}

#[tokio::test(flavor = "multi_thread")]
async fn effective_values_are_explained_with_their_origin() {
    let house = House::build().await;
    let said = house.holdfast(&["config", "explain", "nightly"]).ends_with(0);
    said.has(&["backup/nightly", "schedule", "daily", "holdfast.toml:", "default"]);
    let rows = house.json(&["config", "explain", "backup/nightly"]);
    let schedule = rows.as_array().unwrap().iter().find(|row| row["key"] == "schedule").unwrap();
    assert_eq!(schedule["value"], "\"daily\"");
    house
        .holdfast(&["config", "explain", "backup/nightli"])
        .ends_with(1)
        .complains(&["did you mean", "backup/nightly"]);
    let schema = house.json(&["config", "schema"]);
    assert!(schema["properties"]["backup"].is_object(), "{schema}");
}
