//! A module in a temporary directory, and the real programs around it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use holdfast::definition::{Instance, Name, Restore, VersionMatch, VolumePlace, Volumes};
use holdfast::process::{self, Ended, Program, Sign};
use holdfast::target::{Place, Purpose, Staging, Tree};
use tokio_util::sync::CancellationToken;

/// A module installed in a temporary directory, with volumes beside it.
pub(crate) struct Module {
    pub(crate) place: tempfile::TempDir,
    pub(crate) instance: Instance,
}

impl Module {
    /// The fixture, installed as `wiki1`, its volumes given by a table.
    pub(crate) fn wiki() -> Self {
        let module = Self::bare();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ns8/wiki");
        copy(&source, &module.path("config"));
        let mut instance = module.instance.clone();
        instance.install_dir = Some(module.path("config"));
        let mut table = BTreeMap::new();
        for volume in ["wiki-data", "wiki-conf", "wiki-plugins"] {
            let dir = module.path("volumes").join(volume);
            fs::create_dir_all(&dir).unwrap();
            table.insert(volume.to_owned(), VolumePlace::Directory(dir));
        }
        instance.volumes = Volumes::Table(table);
        Self { instance, ..module }
    }

    /// An instance without anything.
    pub(crate) fn bare() -> Self {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("tools")).unwrap();
        for name in ["redis-dump", "redis-restore"] {
            symlink(env!("CARGO_BIN_EXE_holdfast"), place.path().join("tools").join(name)).unwrap();
        }
        let instance = Instance {
            name: Name::parse("wiki1").unwrap(),
            module: None,
            remote: None,
            user: None,
            install_dir: None,
            volumes: Volumes::None,
            include: Vec::new(),
            exclude: Vec::new(),
            strict: false,
            dump_state: None,
            cleanup_state: None,
            dumps: Vec::new(),
            hook_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(60),
            restore: Restore::default(),
            version: None,
            version_match: VersionMatch::Any,
            recovery: None,
            services: Vec::new(),
            allow: holdfast::definition::Allow::default(),
            written: std::sync::Arc::default(),
        };
        Self { place, instance }
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        // Real, as the daemon's directories are.
        self.place.path().canonicalize().unwrap().join(below)
    }

    pub(crate) fn write(&self, below: &str, text: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) async fn try_resolve(&self) -> anyhow::Result<Place> {
        self.resolve_for(Purpose::Backup, &[]).await
    }

    pub(crate) async fn resolve_for(&self, purpose: Purpose, volumes: &[String]) -> anyhow::Result<Place> {
        let instance = Arc::new(self.instance.clone());
        Place::resolve(&instance, purpose, &self.path("tools"), volumes, &CancellationToken::new()).await
    }

    pub(crate) async fn resolve(&self) -> Place {
        self.try_resolve().await.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Why the module cannot be resolved.
    pub(crate) async fn refusal(&self) -> String {
        match self.try_resolve().await {
            Ok(_) => panic!("it was resolved"),
            Err(error) => format!("{error:#}"),
        }
    }

    pub(crate) fn staging(&self) -> Staging {
        Staging::prepare(&self.path("staging"), &self.instance.name).unwrap()
    }

    pub(crate) async fn try_tree(&self) -> anyhow::Result<Tree> {
        Tree::build(&self.resolve().await, &self.staging().tree(), &[self.path("staging")])
    }

    pub(crate) async fn tree(&self) -> Tree {
        self.try_tree().await.unwrap_or_else(|error| panic!("{error:#}"))
    }
}

/// The targets of a tree as text.
pub(crate) fn targets(tree: &Tree) -> Vec<String> {
    tree.targets.iter().map(|target| target.to_string_lossy().into_owned()).collect()
}

/// Runs a program of a place; what it printed, and how it ended.
pub(crate) async fn run(program: Program) -> (String, Ended) {
    let mut printed = String::new();
    let hear = |_, line: &[u8]| {
        printed.push_str(&String::from_utf8_lossy(line));
        printed.push('\n');
        Sign::Life
    };
    let ended = process::run(program, &CancellationToken::new(), hear).await.unwrap();
    (printed, ended)
}

/// Runs a program that must succeed.
pub(crate) async fn run_well(program: Program) -> String {
    let (printed, ended) = run(program).await;
    assert!(ended.ok(), "{ended:?}\n{printed}");
    printed
}

pub(crate) fn argv<const N: usize>(argv: [&str; N]) -> Program {
    Program::new(argv)
}

pub(crate) fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    mode(path, 0o755);
}

/// Copies a directory; modes as in the repository, but never writable by others.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    mode(to, 0o755);
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
            let own = fs::metadata(&target).unwrap().permissions().mode();
            mode(&target, own & 0o755);
        }
    }
}

/// The restic programs of the Debian suites that are supported; `make deps` puts them there.
pub(crate) fn restics() -> Vec<PathBuf> {
    let deps = std::env::var_os("HOLDFAST_DEPS_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/deps"), PathBuf::from);
    let found: Vec<_> = ["restic-0.14", "restic-0.18", "restic-0.19"]
        .map(|name| deps.join(name).join("usr/bin/restic"))
        .into();
    for restic in &found {
        assert!(restic.is_file(), "{} is missing: run `make deps`", restic.display());
    }
    found
}

/// A Redis server on a socket of its own, ended with the test.
pub(crate) struct Redis {
    child: Child,
    pub(crate) socket: PathBuf,
}

impl Redis {
    #[expect(clippy::disallowed_methods, reason = "a server that lives as long as the test")]
    pub(crate) fn start(dir: &Path) -> Self {
        let socket = dir.join("redis.sock");
        let mut child = Command::new("redis-server")
            .args([
                "--port",
                "0",
                "--save",
                "",
                "--daemonize",
                "no",
                "--unixsocketperm",
                "777",
                "--unixsocket",
            ])
            .arg(&socket)
            .current_dir(dir)
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server is missing: run `make deps`");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.map_while(Result::ok).any(|line| line.contains("connections"));
        assert!(ready, "redis-server ended before it was ready");
        Self { child, socket }
    }

    pub(crate) fn environment(&self) -> Vec<(OsString, OsString)> {
        vec![("REDIS_ADDRESS".into(), self.socket.clone().into())]
    }

    pub(crate) fn connection(&self) -> redis::Connection {
        redis::Client::open(format!("unix://{}", self.socket.display())).unwrap().get_connection().unwrap()
    }

    pub(crate) fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let mut wanted = redis::cmd(command[0]);
        for argument in &command[1..] {
            wanted.arg(*argument);
        }
        wanted.query(&mut self.connection()).unwrap()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
