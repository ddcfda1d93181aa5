//! What needs no daemon, and what is said when there is none.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use super::support::Bus;
use super::{Said, command};

fn alone(arguments: &[&str]) -> Said {
    let dir = tempfile::tempdir().unwrap();
    Said::of(command("unix:path=/nowhere/bus", dir.path(), arguments).output().unwrap())
}

#[test]
fn without_a_bus_every_question_ends_with_4_and_says_what_to_do() {
    for arguments in [
        &["status"][..],
        &["run", "nightly"],
        &["history"],
        &["restore", "app-1", "--yes"],
        &["backup", "list"],
        &["reload"],
        &["pause"],
    ] {
        alone(arguments).ends_with(4).complains(&["no holdfast daemon answers", "hint:", "--bus"]);
    }
}

#[test]
fn on_a_bus_without_a_daemon_it_is_4_too() {
    let (bus, dir) = (Bus::start(), tempfile::tempdir().unwrap());
    let said = Said::of(command(&bus.address, dir.path(), &["status"]).output().unwrap());
    said.ends_with(4).complains(&["it is not running", "holdfastd --bus"]);
}

#[test]
fn a_misspelt_command_line_ends_with_2_and_nothing_is_asked_of_anyone() {
    for arguments in [
        &["staus"][..],
        &["run"],
        &["run", "a", "--instanc", "b"],
        &["pause", "soon"],
        &["history", "--since", "soon"],
        &["history", "-n", "0"],
        &["backup", "add", "x"],
        &["backup", "alter", "x"],
        &["backup", "alter", "x", "--set", "y"],
        &["--bus", "nonsense", "status"],
        &["--color", "red", "status"],
        &["logs", "j1 _UID=0"],
    ] {
        alone(arguments).ends_with(2);
    }
}

#[test]
fn what_a_later_version_will_have_is_refused_by_name_and_not_listed() {
    let help = alone(&["--help"]).ends_with(0);
    for name in ["drill", "bootstrap"] {
        alone(&[name, "app-1"]).ends_with(2).complains(&[name, "not supported yet in this version"]);
        assert!(!help.out.contains(&format!("\n  {name} ")), "{name} is listed");
    }
}

#[test]
fn live_data_is_never_replaced_unasked() {
    alone(&["restore", "app-1"]).ends_with(2).complains(&["nobody can be asked", "--yes", "--target"]);
}

#[test]
fn a_reader_that_has_gone_away_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = command("unix:path=/nowhere", dir.path(), &["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let said = Said::of(child.wait_with_output().unwrap()).ends_with(0);
    assert_eq!(said.err, "");
}

#[test]
fn a_full_disk_behind_standard_output_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output =
        command("unix:path=/nowhere", dir.path(), &["schedule", "daily"]).stdout(full).output().unwrap();
    Said::of(output).ends_with(1).complains(&["writing to standard output"]);
}

#[test]
fn a_schedule_is_explained_and_a_wrong_one_underlined() {
    let from = ["--from", "2026-11-20T12:00:00Z", "--zone", "Europe/Rome", "-n", "2"];
    let mut arguments = vec!["schedule", "Mon..Fri 02:30"];
    arguments.extend(from);
    alone(&arguments).ends_with(0).has(&["Mon 2026-11-23 02:30:00 CET", "Tue 2026-11-24 02:30:00 CET"]);
    arguments.push("--json");
    alone(&arguments).ends_with(0).has(&["\"2026-11-23T02:30:00+01:00\""]);
    alone(&["schedule", "Mon..Fry 02:30"]).ends_with(1).complains(&["Mon..Fry 02:30", "^^^"]);
    alone(&["schedule", "daily", "--zone", "Mars/Base"]).ends_with(2).complains(&["Mars/Base", "IANA"]);
}

#[test]
fn definitions_are_checked_without_a_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config");
    std::fs::create_dir(&config).unwrap();
    let check = |text: &str, arguments: &[&str]| {
        let file = config.join("holdfast.toml");
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut all = vec!["config", "check"];
        all.extend(arguments);
        Said::of(command("unix:path=/nowhere", dir.path(), &all).output().unwrap())
    };
    check("[instance.a]\ninclude = [\"/srv\"]\n", &[]).ends_with(0).has(&["are good"]);
    let wrong = "[instance.a]\ninclud = [\"/srv\"]\n";
    check(wrong, &[])
        .ends_with(1)
        .has(&["holdfast.toml:2:1", "includ", "did you mean"])
        .complains(&["1 error"]);
    let found = check(wrong, &["--json"]).ends_with(1);
    let found: serde_json::Value = serde_json::from_str(&found.out).unwrap();
    assert_eq!((&found[0]["line"], &found[0]["severity"]), (&2.into(), &"error".into()));
}

#[test]
fn man_pages_and_completions_come_from_the_same_definition() {
    let dir = tempfile::tempdir().unwrap();
    alone(&["man", dir.path().to_str().unwrap()]).ends_with(0);
    for page in [
        "man1/holdfast.1",
        "man1/holdfast-run.1",
        "man1/holdfast-backup-add.1",
        "man5/holdfast.toml.5",
        "man5/org.holdfast.Backup1.5",
        "man8/holdfastd.8",
    ] {
        assert!(dir.path().join(page).exists(), "{page} is not there");
    }
    for shell in ["bash", "zsh", "fish"] {
        alone(&["completions", shell]).ends_with(0).has(&["snapshots", "read-data"]);
    }
    alone(&["man", "/nowhere/man"]).ends_with(1).complains(&["/nowhere/man"]);
}

#[test]
fn colour_is_for_terminals_or_whoever_asks() {
    let plain = alone(&["schedule", "x"]).ends_with(1);
    assert!(!plain.err.contains('\u{1b}'), "{}", plain.err);
    let coloured = alone(&["--color", "always", "schedule", "x"]).ends_with(1);
    assert!(coloured.err.contains("\u{1b}[31merror:"), "{}", coloured.err);
}
