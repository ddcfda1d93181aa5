//! The schedule of the real daemon, with real restic on a private bus: on clocks that are set by `faketime`, over
//! restarts, kills and reloads. The planner alone, over fortnights and zones, is in `tests/calendar`.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "tests start real programs themselves")]

#[expect(dead_code, unreachable_pub, reason = "shared with the other integration tests; each uses a part")]
#[path = "../support/mod.rs"]
mod support;

mod clock;
mod command;
mod cost;
mod crowd;
mod jumps;
mod once;
mod order;
mod policy;

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;
use support::{Bus, DEADLINE, Daemon};

/// A bus and a daemon whose clock may be another than this machine's.
struct House {
    bus: Bus,
    daemon: Daemon,
}

/// What every house has: a repository, an instance with a file; `@BACKUPS@` is the test's part.
const AROUND: &str = r#"[daemon]
staging_dir = "@DIR@/staging"
host = "testhost"
timezone = "Europe/Berlin"
max_parallel = 1
metrics_file = "@DIR@/metrics"

[repository.local]
url = "@DIR@/repository"
prune = false
check = false

[instance.app]
include = ["@DIR@/data"]

[instance.other]
include = ["@DIR@/data"]
"#;

/// A backup of the instance `app`, with further keys.
fn backup(name: &str, keys: &str) -> String {
    backup_of(name, "app", keys)
}

fn backup_of(name: &str, instance: &str, keys: &str) -> String {
    format!("\n[backup.{name}]\nrepositories = [\"local\"]\ninstances = [\"{instance}\"]\n{keys}\n")
}

impl House {
    /// A daemon with these backups, on this machine's clock.
    async fn now(backups: &str) -> Self {
        Self::start(backups, &[]).await
    }

    /// A daemon with these backups, whose clock starts at a time.
    async fn at(time: &str, backups: &str) -> Self {
        let environment = faked(time);
        let environment: Vec<_> = environment.iter().map(|(k, v)| (*k, v.as_str())).collect();
        Self::start(backups, &environment).await
    }

    async fn start(backups: &str, environment: &[(&str, &str)]) -> Self {
        let bus = Bus::start();
        let config = format!("{AROUND}{backups}");
        let files = [("holdfast.toml", config.as_str()), ("../data/file", "data\n")];
        let daemon = Daemon::start_in(&bus, &files, environment).await;
        Self { bus, daemon }
    }

    /// Kills the daemon and starts it with its clock at another time.
    async fn restart_at(&mut self, time: &str) {
        let environment = faked(time);
        let environment: Vec<_> = environment.iter().map(|(k, v)| (*k, v.as_str())).collect();
        self.daemon.restart_in(&environment).await;
    }

    /// The history of a backup, oldest first.
    async fn history(&self, backup: &str) -> Vec<Run> {
        let filter: HashMap<&str, zbus::Variant<'_>> = HashMap::from([("subject", backup.into())]);
        let rows: Vec<support::Row> = self.daemon.call("ListJobs", &(filter,)).await.unwrap();
        let mut runs: Vec<Run> = rows.iter().map(Run::of).collect();
        runs.reverse();
        runs
    }

    /// Waits until so many runs of a backup have ended; the history.
    async fn ended(&self, backup: &str, runs: usize) -> Vec<Run> {
        let what = format!("{runs} ended runs of {backup}");
        self.until(&what, backup, |history| {
            history.iter().filter(|run| !run.outcome.is_empty()).count() >= runs
        })
        .await
    }

    /// Waits for something in the history of a backup.
    async fn until(&self, what: &str, backup: &str, wanted: impl Fn(&[Run]) -> bool) -> Vec<Run> {
        let start = Instant::now();
        loop {
            let history = self.history(backup).await;
            if wanted(&history) {
                return history;
            }
            assert!(start.elapsed() < DEADLINE, "no {what}: {history:#?}\n{}", self.daemon.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn text(&self, backup: &str, property: &str) -> String {
        self.daemon.property(&format!("{}/backup/{backup}", support::ROOT), "Backup", property).await
    }

    /// Waits until a text property of a backup holds a text.
    async fn says(&self, backup: &str, property: &str, text: &str) {
        let start = Instant::now();
        loop {
            let found = self.text(backup, property).await;
            if found.contains(text) {
                return;
            }
            let log = self.daemon.log();
            assert!(start.elapsed() < DEADLINE, "{property} of {backup} is {found:?}, not {text:?}\n{log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a backup's next run is one that begins so, and says which: what happened is in the journal and in the
    /// history a moment before it is on the bus.
    async fn runs_at(&self, backup: &str, begin: &str) -> String {
        let start = Instant::now();
        loop {
            let found = self.next_run(backup).await;
            if found.starts_with(begin) {
                return found;
            }
            let log = self.daemon.log();
            assert!(start.elapsed() < DEADLINE, "{backup} runs next at {found}, not {begin}\n{log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// When a backup runs next.
    async fn next_run(&self, backup: &str) -> String {
        let path = format!("{}/backup/{backup}", support::ROOT);
        let micros: u64 = self.daemon.property(&path, "Backup", "NextRun").await;
        Timestamp::from_microsecond(i64::try_from(micros).unwrap()).unwrap().to_string()
    }

    async fn pause(&self) {
        self.daemon.call::<_, ()>("Pause", &(0_u64,)).await.unwrap();
    }

    async fn resume(&self) {
        self.daemon.call::<_, ()>("Resume", &()).await.unwrap();
    }

    /// The client on this bus.
    fn holdfast(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
        command.args(["--bus", &self.bus.address]).args(arguments).stdin(Stdio::null());
        command.output().unwrap()
    }
}

/// One row of the history.
#[derive(Debug, Clone)]
struct Run {
    id: String,
    cause: String,
    outcome: String,
    error: String,
    queued: Timestamp,
    begun: bool,
}

impl Run {
    fn of(row: &support::Row) -> Self {
        let json: HashMap<String, Value> =
            row.iter().map(|(k, v)| (k.clone(), serde_json::to_value(v).unwrap())).collect();
        let value = |key: &str| {
            let value = &json[key];
            value.get("zvariant::Value::Value").or(value.get("value")).unwrap_or(value).clone()
        };
        let text = |key: &str| value(key).as_str().unwrap_or_default().to_owned();
        let time = |key: &str| value(key).as_i64().unwrap_or_default();
        Self {
            id: text("Id"),
            cause: text("Cause"),
            outcome: text("Outcome"),
            error: text("Error"),
            queued: Timestamp::from_microsecond(time("Queued")).unwrap(),
            begun: time("Started") != 0,
        }
    }
}

/// Causes and outcomes.
fn told(runs: &[Run]) -> Vec<(&str, &str)> {
    runs.iter().map(|run| (run.cause.as_str(), run.outcome.as_str())).collect()
}

/// The environment in which a program's clock starts at a time, in UTC, and goes on.
fn faked(time: &str) -> Vec<(&'static str, String)> {
    vec![
        ("LD_PRELOAD", faketime()),
        ("FAKETIME", format!("@{time}")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("TZ", "UTC".to_owned()),
    ]
}

/// The library that does it.
fn faketime() -> String {
    let library = std::fs::read_dir("/usr/lib")
        .unwrap()
        .flatten()
        .map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"))
        .find(|path| path.exists())
        .expect("libfaketime is installed (package faketime)");
    Path::new(&library).display().to_string()
}
