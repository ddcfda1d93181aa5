//! The first contact: nothing is defined, and one command later there is a backup that can be restored.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use super::support::{Bus, Daemon};
use super::{Said, command};

/// A daemon with nothing defined, and something worth a backup.
async fn fresh() -> (Bus, Daemon) {
    let bus = Bus::start();
    let daemon = Daemon::start(&bus, &[]).await;
    daemon.write("data/letter", "dear reader\n");
    daemon.write("data/sub/photo", "a face\n");
    (bus, daemon)
}

fn holdfast(bus: &Bus, daemon: &Daemon, arguments: &[&str]) -> Said {
    Said::of(command(&bus.address, daemon.dir.path(), arguments).output().unwrap())
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nothing_defined_one_command_makes_a_backup_that_restores() {
    let (bus, daemon) = fresh().await;
    holdfast(&bus, &daemon, &["status"]).ends_with(0).has(&["What to do next", "`holdfast init`"]);

    let (data, place) = (text(&daemon.dir.path().join("data")), text(&daemon.dir.path().join("store")));
    let init = ["init", "--include", &data, "--to", &place, "--schedule", "02:30"];
    let said = holdfast(&bus, &daemon, &init).ends_with(0);
    let said = said.has(&["backup files: succeeded", "snapshot "]);
    let said = said.complains(&["on the same disk", "holdfast repository key main", "keep it elsewhere"]);
    assert!(!said.err.contains("error:"), "{}", said.err);

    let key = holdfast(&bus, &daemon, &["repository", "key", "main"]).ends_with(0).out;
    let written = daemon.read("config/conf.d/files.toml") + &daemon.read("config/conf.d/main.toml");
    assert!(written.contains("[instance.files]") && written.contains("[backup.files]"), "{written}");
    for secret_free in [&written, &said.out, &said.err, &daemon.log()] {
        assert!(!secret_free.contains(key.trim()), "the password is in: {secret_free}");
    }

    let look = text(&daemon.dir.path().join("look"));
    holdfast(&bus, &daemon, &["restore", "files", "--target", &look]).ends_with(0);
    let restored = std::fs::read_to_string(format!("{look}/files{data}/sub/photo")).unwrap();
    assert_eq!(restored, "a face\n");
    let status = holdfast(&bus, &daemon, &["status"]).ends_with(0).has(&["files", "02:30"]);
    assert!(!status.out.contains("What to do next"), "{}", status.out);

    // Once is enough: nothing of it is ever overwritten.
    let again = holdfast(&bus, &daemon, &init).ends_with(1);
    again.complains(&["backups are defined already: files", "nothing was changed", "holdfast run files"]);
    let same = daemon.read("config/conf.d/files.toml") + &daemon.read("config/conf.d/main.toml");
    assert_eq!(same, written);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_it_asks_and_asks_again_until_the_answers_are_good() {
    let (bus, daemon) = fresh().await;
    let (data, place) = (text(&daemon.dir.path().join("data")), text(&daemon.dir.path().join("data/store")));
    let client = command(&bus.address, daemon.dir.path(), &["init"]);
    // `script` gives it a terminal.
    let mut terminal = std::process::Command::new("script");
    terminal.env_clear().envs(client.get_envs().filter_map(|(name, value)| Some((name, value?))));
    terminal.arg("-qec").arg(format!("{} init", env!("CARGO_BIN_EXE_holdfast"))).arg("/dev/null");
    terminal.env("HOME", daemon.dir.path()).env("TERM", "dumb").env("SHELL", "/bin/sh");
    let mut child = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let answers = format!("/nowhere/at/all\n{data}/letter\n~/data/sub\n\n{place}\nMon..Fry\nhourly\n");
    child.stdin.take().unwrap().write_all(answers.as_bytes()).unwrap();
    let said = Said::of(child.wait_with_output().unwrap()).ends_with(0);
    said.has(&["there is no /nowhere/at/all", "Fry", "backup files: succeeded", "repository key main"]);
    let written = daemon.read("config/conf.d/files.toml");
    assert!(
        written.contains(&format!("{data}/letter")) && written.contains(&format!("{data}/sub")),
        "{written}"
    );
    assert!(written.contains("schedule = \"hourly\""), "{written}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_inside_of_what_is_backed_up_is_left_out_of_it() {
    let (bus, daemon) = fresh().await;
    let data = text(&daemon.dir.path().join("data"));
    let init = ["--json", "init", "--include", &data, "--to", &format!("{data}/store")];
    let said = holdfast(&bus, &daemon, &init).ends_with(0).complains(&["is left out of it"]);
    let job: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(job["Outcome"], "succeeded", "{job}");
    let look = text(&daemon.dir.path().join("look"));
    holdfast(&bus, &daemon, &["restore", "files", "--target", &look]).ends_with(0);
    let restored = format!("{look}/files{data}");
    assert!(
        Path::new(&format!("{restored}/letter")).exists()
            && !Path::new(&format!("{restored}/store")).exists()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_leaves_nothing_behind() {
    let (bus, daemon) = fresh().await;
    let data = text(&daemon.dir.path().join("data"));
    let store = text(&daemon.dir.path().join("store"));
    for (arguments, code, words) in [
        (vec!["init"], 2, "--include PATH"),
        (vec!["init", "--include", &data], 2, "--to URL"),
        (vec!["init", "--include", "/nowhere/at/all", "--to", &store], 1, "/nowhere/at/all"),
        (vec!["init", "--include", &data, "--to", &store, "--schedule", "Mon..Fry"], 1, "Fry"),
        (vec!["init", "--include", &data, "--to", &store, "--retention", "often"], 2, "--retention"),
        // Refused by the daemon, after the repository was defined.
        (vec!["init", "--include", &data, "--to", &store, "--retention", "daily=0"], 1, "retention"),
    ] {
        holdfast(&bus, &daemon, &arguments).ends_with(code).complains(&[words]);
        let left: Vec<_> = std::fs::read_dir(daemon.dir.path().join("config/conf.d"))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name())
            .filter(|name| name.to_string_lossy().ends_with(".toml"))
            .collect();
        assert!(left.is_empty(), "{arguments:?} left {left:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_already_is_taken_as_it_is() {
    let (bus, daemon) = fresh().await;
    let store = text(&daemon.dir.path().join("store"));
    let data = text(&daemon.dir.path().join("data"));
    holdfast(&bus, &daemon, &["repository", "add", "main", "--url", &store]).ends_with(0);
    daemon.write("config/conf.d/own.toml", "[instance.files]\ninclude = [\"@DIR@/data/letter\"]\n");
    holdfast(&bus, &daemon, &["reload"]).ends_with(0);
    let refused = holdfast(&bus, &daemon, &["init", "--include", &data]).ends_with(1);
    refused.complains(&["the instance `files` is defined already", "--include"]);
    let refused = holdfast(&bus, &daemon, &["init", "--to", "/elsewhere"]).ends_with(1);
    refused.complains(&["the repository `main` is defined already", "--to"]);
    let done = holdfast(&bus, &daemon, &["init", "--no-run"]).ends_with(0);
    assert!(done.out.is_empty(), "{}", done.out);
    assert!(daemon.read("config/conf.d/own.toml").contains("data/letter"));
    holdfast(&bus, &daemon, &["run", "files"]).ends_with(0).has(&["backup files: succeeded"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_backup_that_fails_says_why_and_keeps_the_definitions() {
    let (bus, daemon) = fresh().await;
    let data = text(&daemon.dir.path().join("data"));
    let blocked = text(&daemon.write("blocked", "a file, not a directory"));
    let init = ["init", "--include", &data, "--to", &format!("{blocked}/store")];
    let said = holdfast(&bus, &daemon, &init).ends_with(1);
    said.complains(&["error:", "blocked", "The definitions stay", "holdfast run files"]);
    assert!(daemon.read("config/conf.d/files.toml").contains("[backup.files]"));
}
