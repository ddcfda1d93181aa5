//! A daemon with cheap repositories, a restic that can be led astray, and ways to see what it did.
#![expect(clippy::disallowed_methods, reason = "tests start real programs themselves")]

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use zbus::wire::{OwnedObjectPath, Variant};

use crate::support::{Bus, DEADLINE, Daemon, Row, stderr, stdout};

#[path = "lab_ask.rs"]
pub(crate) mod ask;

/// The password of all cheap repositories; searched for where it must not be.
pub(crate) const PASSWORD: &str = "canary-password-7261";

/// Three empty repositories whose keys cost nothing to open (see the README beside them).
const REPOSITORIES: [(&str, &str); 3] = [("one", "repo"), ("two", "repo2"), ("three", "repo3")];

/// What every configuration begins with: one repository, `local`, shared, at `repo`.
const HEAD: &str = r#"
[daemon]
staging_dir = "@DIR@/staging"
host = "testhost"
restic = "@DIR@/restic"
max_parallel = 4
timezone = "UTC"

[repository.local]
url = "@DIR@/repo"
layout = "shared"
password_file = "password"
prune = false
check = false
"#;

/// A second repository, to be added to a configuration.
pub(crate) const SECOND: &str = r#"
[repository.second]
url = "@DIR@/repo2"
layout = "shared"
password_file = "password"
prune = false
check = false
"#;

/// Where restic programs of a version are.
pub(crate) fn restic_program(version: &str) -> PathBuf {
    let given = std::env::var_os("HOLDFAST_DEPS_DIR").map(PathBuf::from);
    let deps = given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/deps"));
    let path = deps.join(format!("restic-{version}/usr/bin/restic"));
    assert!(path.is_file(), "{} is missing: run `make deps`", path.display());
    path
}

/// A directory that is being made ready for a daemon.
pub(crate) struct Setup {
    pub(crate) dir: TempDir,
    pub(crate) environment: Vec<(String, String)>,
    config: String,
}

/// A running daemon and what lies around it.
pub(crate) struct Lab {
    pub(crate) daemon: Daemon,
    pub(crate) dir: PathBuf,
    // Last: the bus goes after the daemon.
    pub(crate) bus: Bus,
}

/// How a job ended.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) outcome: String,
    pub(crate) error: String,
    pub(crate) units: Vec<Unit>,
}

/// One unit of a job.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    pub(crate) instance: String,
    pub(crate) repository: String,
    pub(crate) outcome: String,
    pub(crate) snapshot: String,
    pub(crate) error: String,
    /// In microseconds.
    pub(crate) downtime: u64,
}

impl Setup {
    /// With restic 0.18.
    pub(crate) fn new() -> Self {
        Self::with_restic("0.18")
    }

    /// Cheap repositories, a password, a wrapper around this restic.
    pub(crate) fn with_restic(version: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let setup = Self { dir, environment: Vec::new(), config: HEAD.to_owned() };
        for (from, to) in REPOSITORIES {
            cheap_repository(from, &setup.path(to));
        }
        setup.write("config/password", &format!("{PASSWORD}\n"), 0o600);
        setup.wrap(&restic_program(version));
        setup
    }

    /// Puts a wrapper at `restic`: it notes each call in `calls`, and reads `on-SUBCOMMAND`, a piece of shell that may
    /// exit, wait, or set `extra`, more arguments for the real one.
    fn wrap(&self, real: &Path) {
        let text = format!(
            "#!/bin/sh\nD='{}'\nreal='{}'\nextra=\nprintf '%s\\n' \"$*\" >>\"$D/calls\"\n\
             [ ! -e \"$D/on-$1\" ] || . \"$D/on-$1\"\nexec \"$real\" \"$@\" $extra\n",
            self.dir.path().display(),
            real.display()
        );
        self.write("restic", &text, 0o755);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file, `@DIR@` replaced.
    pub(crate) fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        write(self.dir.path(), name, text, mode)
    }

    /// Adds to the configuration.
    pub(crate) fn config(mut self, text: &str) -> Self {
        self.config.push_str(text);
        self
    }

    /// Replaces a part of the configuration.
    pub(crate) fn replace(mut self, old: &str, new: &str) -> Self {
        assert!(self.config.contains(old), "{old} is not in the configuration");
        self.config = self.config.replace(old, new);
        self
    }

    /// An instance `app` of plain files in `data`, and a backup `b` of it.
    pub(crate) fn plain(self) -> Self {
        self.write("data/file", "one\n", 0o644);
        self.write("data/sub/other", "two\n", 0o600);
        self.config(
            "[backup.b]\nrepositories = [\"local\"]\ninstances = [\"app\"]\n\
             [instance.app]\ninclude = [\"@DIR@/data\"]\n",
        )
    }

    /// An instance `app` with an install dir at `app`, a dump and a cleanup hook that note what they do in `hooks`, and
    /// a backup `b` of it. The dump reads `on-dump`, the cleanup `on-cleanup`: pieces of shell.
    pub(crate) fn hooked(self) -> Self {
        let body = |name: &str| {
            format!(
                "#!/bin/sh\nD='@DIR@'\necho \"{name} begins\" >>\"$D/hooks\"\n\
                 [ ! -e \"$D/on-{name}\" ] || . \"$D/on-{name}\"\n"
            )
        };
        let (dump, cleanup) = (body("dump"), body("cleanup"));
        self.write(
            "app/bin/module-dump-state",
            &format!("{dump}echo dumped >dump.sql\necho \"dump ends\" >>\"$D/hooks\"\n"),
            0o755,
        );
        self.write(
            "app/bin/module-cleanup-state",
            &format!("{cleanup}rm -f dump.sql\necho \"cleanup ends\" >>\"$D/hooks\"\n"),
            0o755,
        );
        self.write("app/etc/state-include.conf", "state/dump.sql\nstate/files\n", 0o644);
        self.write("app/state/environment", "APP=1\n", 0o600);
        self.write("app/state/files/one", "one\n", 0o640);
        self.write("app/state/files/deep/two", "two\n", 0o600);
        self.config(
            "[backup.b]\nrepositories = [\"local\"]\ninstances = [\"app\"]\n\
             [instance.app]\nrestore = { keep_previous = \"0s\" }\ninstall_dir = \"@DIR@/app\"\n",
        )
    }

    /// Starts the daemon.
    pub(crate) async fn start(self) -> Lab {
        let mut lab = self.spawn().await;
        lab.daemon.wait_for_name().await;
        lab
    }

    /// Starts it and does not wait.
    pub(crate) async fn spawn(self) -> Lab {
        self.write("config/holdfast.toml", &self.config, 0o600);
        let bus = Bus::start();
        let dir = self.dir.path().to_owned();
        let daemon = Daemon::spawn_in(&bus, self.dir, self.environment).await;
        Lab { daemon, dir, bus }
    }
}

impl Lab {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes a file, `@DIR@` replaced.
    pub(crate) fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        write(&self.dir, name, text, mode)
    }

    /// Reads a text; empty when there is none.
    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    /// Leads the wrapper, or a hook of [`Setup::hooked`], astray with a piece of shell.
    pub(crate) fn on(&self, what: &str, shell: &str) {
        self.write(&format!("on-{what}"), &format!("{shell}\n"), 0o644);
    }

    /// Makes it stop where it is, once, until [`Lab::go`]; see [`Lab::reached`].
    pub(crate) fn hold(&self, what: &str) {
        let fifo = self.path(&format!("go-{what}"));
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
        self.on(what, &format!("rm -f \"$D/on-{what}\"; : >\"$D/at-{what}\"; read word <\"$D/go-{what}\""));
    }

    /// Lets restic do what it is asked, once, and makes the call not end then.
    pub(crate) fn hold_after(&self, what: &str) {
        self.hold(what);
        let wait = self.text(&format!("on-{what}"));
        self.on(what, &format!("\"$real\" \"$@\"; {wait}"));
    }

    /// Waits until it stopped there.
    pub(crate) async fn reached(&self, what: &str) {
        let at = self.path(&format!("at-{what}"));
        self.until(&format!("{what} is reached"), || at.exists()).await;
    }

    /// Lets it go on.
    pub(crate) fn go(&self, what: &str) {
        fs::write(self.path(&format!("go-{what}")), "go\n").unwrap();
    }

    /// Waits for a condition; fails with the log.
    pub(crate) async fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let start = std::time::Instant::now();
        while !condition() {
            assert!(start.elapsed() < DEADLINE, "waited too long: {what}\n{}", self.daemon.log());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// How often restic was called with this subcommand; `""`: at all.
    pub(crate) fn calls(&self, subcommand: &str) -> usize {
        let calls = self.text("calls");
        calls.lines().filter(|l| subcommand.is_empty() || l.split(' ').next() == Some(subcommand)).count()
    }
}

/// A text in a row.
pub(crate) fn text(row: &Row, key: &str) -> String {
    String::try_from(row[key].try_clone().unwrap()).unwrap()
}

fn unit(row: &Row) -> Unit {
    Unit {
        instance: text(row, "instance"),
        repository: text(row, "repository"),
        outcome: text(row, "outcome"),
        snapshot: text(row, "snapshot"),
        error: text(row, "error"),
        downtime: u64::try_from(&row["downtime"]).unwrap(),
    }
}

/// The names in a directory; none when it is not there.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

/// Copies a cheap repository to a place.
pub(crate) fn cheap_repository(which: &str, to: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/repositories").join(which);
    for dir in ["data", "index", "keys", "locks", "snapshots"] {
        fs::create_dir_all(to.join(dir)).unwrap();
    }
    for number in 0..256 {
        fs::create_dir(to.join(format!("data/{number:02x}"))).unwrap();
    }
    fs::copy(from.join("config"), to.join("config")).unwrap();
    for key in names(&from.join("keys")) {
        fs::copy(from.join("keys").join(&key), to.join("keys").join(&key)).unwrap();
    }
}

fn write(dir: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // A script that is being executed may be replaced, but not written to.
    let new = path.with_extension("new-file");
    fs::write(&new, text.replace("@DIR@", &dir.display().to_string())).unwrap();
    fs::set_permissions(&new, Permissions::from_mode(mode)).unwrap();
    fs::rename(&new, &path).unwrap();
    path
}
