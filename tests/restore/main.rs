//! Restores in place and beside, as users see them: real daemon on a private bus, real restic, real files.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "tests start real programs themselves")]

#[expect(dead_code, unreachable_pub, reason = "shared with the other integration tests; each uses a part")]
#[path = "../support/mod.rs"]
mod support;

mod anew;
mod elsewhere;
mod faults;
mod health;
mod hostile;
mod kept;
mod lossless;
mod onto;
mod phases;
mod plan;
mod refused;
mod rights;
mod rows;
mod system;
mod tree;

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use support::{Bus, Daemon, Row};
use zbus::wire::{OwnedObjectPath, OwnedVariant, Variant};

/// The restic of one version.
fn restic(version: &str) -> PathBuf {
    let given = std::env::var_os("HOLDFAST_DEPS_DIR").map(PathBuf::from);
    let deps = given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/deps"));
    let path = deps.join(format!("restic-{version}/usr/bin/restic"));
    assert!(path.is_file(), "{} is missing: run `make deps`", path.display());
    path
}

/// Options of a call.
type Options = HashMap<&'static str, OwnedVariant>;

fn option(key: &'static str, value: impl Into<Variant<'static>>) -> Options {
    HashMap::from([(key, OwnedVariant::try_from(value.into()).unwrap())])
}

/// A bus and a daemon with one instance: `state/` of an NS8 layout, a volume, and a directory by its absolute path.
struct House {
    _bus: Bus,
    daemon: Daemon,
}

impl House {
    /// `instance` is added to the instance's table.
    async fn build(instance: &str) -> Self {
        Self::with(&restic("0.19"), instance).await
    }

    async fn with(restic: &Path, instance: &str) -> Self {
        let bus = Bus::start();
        let config = format!(
            "[daemon]\nstaging_dir = \"@DIR@/staging\"\nhost = \"here\"\nrestic = \"{}\"\n\
             [repository.local]\nurl = \"@DIR@/repository\"\n\
             [backup.b]\nrepositories = [\"local\"]\ninstances = [\"*\"]\n\
             [instance.app1]\ninstall_dir = \"@DIR@/app\"\nvolumes = {{ data = \"@DIR@/volumes/data\" }}\n\
             include = [\"state/conf\", \"state/one.txt\", \"volumes/data\", \"@DIR@/outside/dir\"]\n\
             exclude = [\"cache\", \"*.tmp\"]\n{instance}\n",
            restic.display()
        );
        let daemon = Daemon::start(&bus, &[("holdfast.toml", &config)]).await;
        for (path, text) in [
            ("app/state/environment", "A=1\n"),
            ("app/state/conf/a", "a\n"),
            ("app/state/conf/sub/b", "b\n"),
            ("app/state/one.txt", "one\n"),
            ("volumes/data/x", "x\n"),
            ("volumes/data/deep/y", "y\n"),
            ("outside/dir/z", "z\n"),
            ("outside/beside", "not ours\n"),
        ] {
            daemon.write(path, text);
        }
        Self { _bus: bus, daemon }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.daemon.dir.path().join(path)
    }

    /// A program that the daemon may run.
    fn program(&self, path: &str, script: &str) -> PathBuf {
        let path = self.daemon.write(path, script);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    async fn back_up(&self) {
        let job = self.daemon.run_backup("b").await;
        let outcome = self.daemon.wait_for_job(&job).await;
        assert_eq!(outcome, "succeeded", "{}", self.daemon.log());
    }

    async fn start_restore(&self, options: &Options) -> OwnedObjectPath {
        let called = self.daemon.call("Restore", &("app1", "", options)).await;
        called.unwrap_or_else(|e| panic!("Restore: {e}\n{}", self.daemon.log()))
    }

    /// Restores the latest set: the outcome, and what the unit says.
    async fn restore(&self, options: &Options) -> (String, String) {
        let job = self.start_restore(options).await;
        self.ended(&job).await
    }

    async fn roll_back(&self) -> (String, String) {
        let job: OwnedObjectPath = self.daemon.call("Rollback", &("app1",)).await.unwrap();
        self.ended(&job).await
    }

    async fn ended(&self, job: &str) -> (String, String) {
        let outcome = self.daemon.wait_for_job(job).await;
        let units: Vec<Row> = self.daemon.property(job, "Job", "Units").await;
        let Variant::Str(error) = &*units[0]["error"] else { panic!("no text") };
        (outcome, error.to_string())
    }

    /// The live data, without what the daemon keeps beside it.
    fn live(&self) -> tree::Tree {
        let parts = ["app/state", "volumes/data", "outside"];
        tree::Tree::of_all(parts.iter().map(|part| self.path(part)))
    }

    /// Our directories beside live data.
    fn annexes(&self) -> Vec<PathBuf> {
        let found = std::process::Command::new("find")
            .arg(self.daemon.dir.path())
            .args(["-name", ".*holdfast-j*", "-prune", "-print"])
            .output()
            .unwrap();
        support::stdout(&found).lines().map(PathBuf::from).collect()
    }

    /// Nothing of a restore is left anywhere, but what is kept on purpose.
    fn assert_clean(&self) {
        let left = |dir: &str| -> Vec<_> {
            let entries = std::fs::read_dir(self.path(dir)).into_iter().flatten();
            entries.map(|entry| entry.unwrap().file_name()).collect()
        };
        assert_eq!(left("state/undo"), Vec::<std::ffi::OsString>::new(), "{}", self.daemon.log());
        let staged: Vec<_> = left("staging")
            .into_iter()
            .filter(|name| name.to_string_lossy().starts_with("restore"))
            .collect();
        assert_eq!(staged, Vec::<std::ffi::OsString>::new());
    }
}
