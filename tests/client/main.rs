//! `holdfast` as a person or a script uses it: real client, real daemon, real bus, real restic.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "tests start real programs themselves")]

#[expect(dead_code, unreachable_pub, reason = "shared with the other integration tests; each uses a part")]
#[path = "../support/mod.rs"]
mod support;

mod alone;
mod definitions;
mod export;
mod first;
mod import;
mod import_faults;
mod jobs;
mod looks;
mod no_daemon;
mod restores;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use support::{Bus, Daemon};

/// Two instances with a file each, a backup of each, a disabled one, and hooks that a test may slow down or break.
const CONFIG: &[(&str, &str)] = &[(
    "holdfast.toml",
    r#"[daemon]
staging_dir = "@DIR@/staging"
host = "testhost"

[repository.local]
url = "@DIR@/repository"

[instance.app-1]
install_dir = "@DIR@/app"
include = ["@DIR@/data"]

[backup.nightly]
repositories = ["local"]
instances = ["app-1"]   # kept: inline
schedule = "daily"

[backup.off]
repositories = ["local"]
instances = ["app-1"]
enabled = false
"#,
)];

/// A bus, a daemon with [`CONFIG`], and data for its instance.
struct House {
    bus: Bus,
    daemon: Daemon,
}

impl House {
    async fn build() -> Self {
        let bus = Bus::start();
        let daemon = Daemon::start(&bus, CONFIG).await;
        daemon.write("data/file", "one\n");
        daemon.write("data/sub/other", "two\n");
        daemon.write("app/state/environment", "APP_VERSION=1\n");
        for dir in ["app/bin", "app/state"] {
            std::fs::create_dir_all(daemon.dir.path().join(dir)).unwrap();
        }
        Self { bus, daemon }
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.daemon.dir.path().join(path)
    }

    /// A hook of the instance: `bin/module-dump-state` and the like.
    fn hook(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.daemon.write(&format!("app/bin/{name}"), script);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        command(&self.bus.address, self.daemon.dir.path(), arguments)
    }

    /// Runs `holdfast` to its end.
    fn holdfast(&self, arguments: &[&str]) -> Said {
        Said::of(self.command(arguments).output().unwrap())
    }

    /// Runs `holdfast --json` and expects 0.
    fn json(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(arguments);
        let said = self.holdfast(&all);
        assert_eq!(said.code, Some(0), "{said:?}\n{}", self.daemon.log());
        serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {}", said.out))
    }
}

/// `holdfast` with a clean environment.
fn command(bus: &str, dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.env("TZ", "UTC").env("HOLDFAST_BUS", bus).stdin(Stdio::null());
    command.env("HOLDFAST_CONFIG", dir.join("config")).env("HOLDFAST_STATE", dir.join("state"));
    command.args(arguments);
    command
}

/// What a program said, and how it ended.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    fn of(output: Output) -> Self {
        Self { code: output.status.code(), out: support::stdout(&output), err: support::stderr(&output) }
    }

    #[track_caller]
    fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self
    }

    #[track_caller]
    fn has(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.out.contains(word), "{word:?} is not in:\n{}", self.out);
        }
        self
    }

    #[track_caller]
    fn complains(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.err.contains(word), "{word:?} is not in:\n{}", self.err);
        }
        self
    }
}

/// The keys of a JSON object.
fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}
