//! Container engines in a directory of their own, with nothing in them but images that are made here.
#![expect(clippy::disallowed_methods, reason = "tests start real programs themselves")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use crate::lab::Setup;
use crate::support::{stderr, stdout, until};

/// What is in the small image, besides libraries.
const PROGRAMS: [&str; 7] = ["sh", "sleep", "cat", "tar", "ls", "rm", "mkdir"];
/// What servers need besides.
const SERVERS: [&str; 8] =
    ["slapd", "slapadd", "slapcat", "ldapsearch", "ldapmodify", "etcd", "etcdctl", "chmod"];
/// What a container of the small image does: it runs until it is told to stop, but not where `/data/die` is.
pub(crate) const STAYS: &str =
    "[ ! -e /data/die ] || exit 3; trap 'exit 0' TERM; while :; do sleep 0.1; done";
/// Where programs are.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An engine; ended on drop with all that runs in it.
pub(crate) struct Engine {
    pub(crate) word: &'static str,
    dir: TempDir,
    daemon: Option<Child>,
    /// Whose it is, if it is not root's.
    user: Option<u32>,
}

/// The user of [`Engine::rootless_podman`]: it has no range of other users, and needs none.
pub(crate) const NOBODY: u32 = 65534;

/// crun refuses control groups of both versions at once, and limits that it may not raise.
const PODMAN: &str = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=512:512\"]\n\
                      [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n";

impl Engine {
    /// A Docker engine with the image `small`.
    pub(crate) fn docker() -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test must be run as root");
        let dir = tempfile::Builder::new().prefix("hfd").tempdir_in("/tmp").unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let socket = format!("unix://{}", path("sock"));
        // Containers here need no network, so no rule of this machine is touched.
        let options = [
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            "--ip-forward=false",
            "--ip-masq=false",
        ];
        let daemon = Command::new("dockerd")
            .args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("pid")])
            .args(["--host", &socket])
            .args(options)
            .env("PATH", PATH)
            .stdin(Stdio::null())
            .stdout(fs::File::create(dir.path().join("log")).unwrap())
            .stderr(fs::File::create(dir.path().join("log.err")).unwrap())
            .spawn()
            .expect("dockerd runs (package docker.io)");
        let engine = Self { word: "docker", dir, daemon: Some(daemon), user: None };
        until("dockerd answers", || engine.call(&["info"]).status.success());
        engine.import_small();
        engine
    }

    /// A podman with a storage of its own and the image `small`.
    pub(crate) fn podman() -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test must be run as root");
        let dir = tempfile::Builder::new().prefix("hfp").tempdir_in("/tmp").unwrap();
        let engine = Self { word: "podman", dir, daemon: None, user: None };
        fs::write(engine.dir.path().join("containers.conf"), PODMAN).unwrap();
        engine.import_small();
        engine
    }

    /// The same without root, of the user `nobody`.
    pub(crate) fn rootless_podman() -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test must be run as root");
        let dir = tempfile::Builder::new().prefix("hfp").tempdir_in("/tmp").unwrap();
        fs::write(dir.path().join("containers.conf"), PODMAN).unwrap();
        for name in ["", "home", "session"] {
            let path = dir.path().join(name);
            fs::create_dir_all(&path).unwrap();
            std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let engine = Self { word: "podman", dir, daemon: None, user: Some(NOBODY) };
        engine.import_small();
        engine
    }

    /// The program with what leads it to this engine.
    fn argv(&self) -> Vec<String> {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let own: Vec<String> = match self.daemon {
            Some(_) => vec!["--host".into(), format!("unix://{}", path("sock"))],
            None => vec!["--root".into(), path("root"), "--runroot".into(), path("run")],
        };
        let (home, session) = match self.user {
            Some(_) => (path("home"), format!("XDG_RUNTIME_DIR={}", path("session"))),
            None => ("/root".into(), "TERM=dumb".into()),
        };
        let home = format!("HOME={home}");
        let own = match self.user {
            Some(_) => [own, vec!["--storage-driver".into(), "vfs".into()]].concat(),
            None => own,
        };
        let config = format!("CONTAINERS_CONF={}", path("containers.conf"));
        let start = ["env", "-i", &format!("PATH={PATH}"), &home, &session, &config, self.word];
        start.iter().map(|word| (*word).to_owned()).chain(own).collect()
    }

    pub(crate) fn socket(&self) -> String {
        format!("unix://{}", self.dir.path().join("sock").display())
    }

    /// Calls the engine.
    pub(crate) fn call(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("setpriv");
        if let Some(user) = self.user {
            let user = user.to_string();
            command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
        }
        command.arg("--").args(self.argv()).args(arguments).stdin(Stdio::null()).current_dir("/");
        command.output().unwrap_or_else(|e| panic!("{}: {e}", self.word))
    }

    /// What it prints when all is well.
    #[track_caller]
    pub(crate) fn good(&self, arguments: &[&str]) -> String {
        let output = self.call(arguments);
        let word = self.word;
        assert!(output.status.success(), "{word} {arguments:?}: {}{}", stdout(&output), stderr(&output));
        stdout(&output).trim().to_owned()
    }

    /// A program that is this engine's, with the environment that whoever calls it has: passwords come that way.
    pub(crate) fn script(&self) -> String {
        let argv = self.argv().into_iter().filter(|word| word != "-i");
        let argv: Vec<String> = argv.map(|word| format!("'{word}'")).collect();
        format!("#!/bin/sh\nexec {} \"$@\"\n", argv.join(" "))
    }

    /// Lets a daemon find this engine, and it alone, by its word.
    pub(crate) fn lend(&self, setup: &mut Setup) {
        setup.write(&format!("fake/{}", self.word), &self.script(), 0o755);
        setup.environment.retain(|(name, _)| name != "PATH");
        setup.environment.push(("PATH".into(), format!("{}:{PATH}", setup.path("fake").display())));
    }

    /// Runs a container of the small image that stays, detached, with more options.
    pub(crate) fn run(&self, name: &str, options: &[&str]) {
        let mut arguments = vec!["run", "--detach", "--network", "none", "--name", name];
        arguments.extend(options);
        arguments.extend(["small:1", "/bin/sh", "-c", STAYS]);
        self.good(&arguments);
    }

    /// How a container stands: `running`, `paused`, `exited`, …; empty: there is none.
    pub(crate) fn state(&self, name: &str) -> String {
        let asked = self.call(&["container", "inspect", "--format", "{{.State.Status}}", name]);
        if asked.status.success() { stdout(&asked).trim().to_owned() } else { String::new() }
    }

    /// Imports a tar as an image.
    pub(crate) fn import(&self, tar: &Path, name: &str) {
        self.good(&["import", &tar.display().to_string(), name]);
    }

    /// Imports an image with real servers, which is built once and kept.
    pub(crate) fn import_servers(&self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/system/container-image");
        let image = Command::new(script).output().unwrap();
        assert!(image.status.success(), "{}", stderr(&image));
        self.import(Path::new(stdout(&image).trim()), "servers:1");
    }

    /// Imports an image with this machine's own slapd and etcd, in which everything is root's: a podman whose user has no
    /// others cannot import [`Engine::import_servers`].
    pub(crate) fn import_own_servers(&self) {
        let trees = ["/usr/lib/ldap", "/etc/ldap/schema"].map(Path::new);
        self.import_of(&[&PROGRAMS[..], &SERVERS[..]].concat(), &trees, "servers:1");
    }

    fn import_small(&self) {
        self.import_of(&PROGRAMS, &[], "small:1");
    }

    fn import_of(&self, programs: &[&str], trees: &[&Path], name: &str) {
        let tree = tempfile::tempdir().unwrap();
        for program in programs {
            let real = fs::canonicalize(find(program)).unwrap();
            for library in libraries(&real) {
                copy(&library, &tree.path().join(library.strip_prefix("/").unwrap()));
            }
            copy(&real, &tree.path().join("bin").join(program));
        }
        for from in trees {
            let to = tree.path().join(from.strip_prefix("/").unwrap());
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            let copied = Command::new("cp").args(["-r", "--"]).arg(from).arg(&to).status().unwrap();
            assert!(copied.success(), "{}", from.display());
        }
        for dir in ["tmp", "data", "etc", "dev", "proc", "sys", "run"] {
            fs::create_dir_all(tree.path().join(dir)).unwrap();
        }
        let tar = self.dir.path().join(format!("{}.tar", name.replace(':', "-")));
        let mut packed = Command::new("tar");
        packed.arg("-C").arg(tree.path()).args(["--owner=0", "--group=0", "-cf"]).arg(&tar).arg(".");
        let packed = packed.status().unwrap();
        assert!(packed.success(), "tar");
        fs::set_permissions(&tar, fs::Permissions::from_mode(0o644)).unwrap();
        self.import(&tar, name);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let all = stdout(&self.call(&["ps", "--all", "--quiet"]));
        let mut arguments = vec!["rm", "--force"];
        arguments.extend(all.lines());
        if arguments.len() > 2 {
            self.call(&arguments);
        }
        if let Some(daemon) = &mut self.daemon {
            let _ = rustix::process::kill_process(
                rustix::process::Pid::from_child(daemon),
                rustix::process::Signal::TERM,
            );
            let _ = daemon.wait();
        } else {
            self.call(&["image", "rm", "--force", "--all"]);
            // What podman mounts to hold its storage together.
            let _ = Command::new("umount").arg(self.dir.path().join("root/overlay")).output();
        }
    }
}

fn find(program: &str) -> PathBuf {
    let found = PATH.split(':').rev().map(|dir| Path::new(dir).join(program)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{program} is not installed"))
}

fn libraries(program: &Path) -> Vec<PathBuf> {
    let listed = stdout(&Command::new("ldd").arg(program).output().unwrap());
    let words = listed.split_whitespace().filter(|word| word.starts_with('/'));
    words.map(PathBuf::from).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
}
