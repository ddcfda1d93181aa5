//! A real monit, of the test's own user, with processes that it starts again by itself when it is not told of a stop.
#![expect(clippy::disallowed_methods, reason = "tests start real programs themselves")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::lab::{Lab, Setup, names, text};
use crate::support::{stdout, until};

/// Starts and stops a process that does nothing, and notes it. Its parent waits for it: the first process of some machines
/// takes its time for that, and until then monit takes it for alive.
const PROCESS: &str = "#!/bin/sh\nD='@DIR@'\necho \"$*\" >>\"$D/did\"\ncase $1 in\n\
    start) setsid sh -c \"sleep 100000 & echo \\$! >'$D/$2.pid'; wait\" >/dev/null 2>&1 & ;;\n\
    stop) kill \"$(cat \"$D/$2.pid\")\"; rm -f \"$D/$2.pid\" ;;\nesac\n";

/// The monit of one test; ended on drop, with all that it watches.
struct Monit(tempfile::TempDir);

impl Monit {
    fn start() -> Self {
        let monit = Self(tempfile::tempdir().unwrap());
        let dir = monit.0.path().display().to_string();
        let check = |name: &str, more: &str| {
            format!(
                "check process {name} with pidfile {dir}/{name}.pid\n start program = \"{dir}/process start {name}\"\n \
                 stop program = \"{dir}/process stop {name}\"\n{more}\n"
            )
        };
        let config = format!(
            "set daemon 1\nset pidfile {dir}/monit.pid\nset idfile {dir}/id\nset statefile {dir}/state\n\
             set logfile {dir}/log\nset httpd unixsocket {dir}/sock allow holdfast:test\n{}{}{}",
            check("db", ""),
            check("web", " depends on db"),
            check("cold", "")
        );
        monit.write("rc", &config, 0o700);
        monit.write("process", &PROCESS.replace("@DIR@", &dir), 0o755);
        let wrapper = format!("#!/bin/sh\nexec monit -c '{dir}/rc' \"$@\"\n");
        monit.write("monit", &wrapper, 0o755);
        assert!(monit.call(&[]).0, "monit runs (package monit)");
        until("monit watches its processes", || monit.runs("db") && monit.runs("web") && monit.runs("cold"));
        assert!(monit.call(&["stop", "cold"]).0);
        until("one is stopped by hand", || monit.status("cold").contains("Not monitored"));
        monit
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.path(name), text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(self.path(name), mode).unwrap();
    }

    fn call(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(self.path("monit"));
        let done = command.args(arguments).stdin(Stdio::null()).output().unwrap();
        (done.status.success(), stdout(&done))
    }

    fn status(&self, name: &str) -> String {
        self.call(&["status", name]).1
    }

    fn runs(&self, name: &str) -> bool {
        let pid = fs::read_to_string(self.path(&format!("{name}.pid"))).unwrap_or_default();
        let status = self.status(name);
        let watched = status.contains("Monitored") && !status.contains("Not monitored");
        !pid.is_empty()
            && watched
            && Path::new("/proc").join(pid.trim()).exists()
            && !status.contains("pending")
    }

    fn did(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("did")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn assert_as_before(&self, lab: &Lab, what: &str) {
        let log = lab.daemon.log();
        assert!(self.runs("db") && self.runs("web"), "{what}: {}\n{log}", self.call(&["status"]).1);
        assert!(self.status("cold").contains("Not monitored"), "{what}: what was stopped stays so\n{log}");
    }
}

impl Drop for Monit {
    fn drop(&mut self) {
        self.call(&["quit"]);
        for name in ["monit", "db", "web", "cold"] {
            let pid = fs::read_to_string(self.path(&format!("{name}.pid"))).unwrap_or_default();
            if let Some(pid) = pid.trim().parse().ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_of_monit_are_stopped_for_a_backup_and_as_before_whatever_happens() {
    let monit = Monit::start();
    let binary = monit.path("monit").display().to_string();
    let service = format!(
        "[[instance.app.service]]\nmanager = \"monit\"\nbinary = \"{binary}\"\nstop_timeout = \"60s\"\n"
    );
    let setup = Setup::new()
        .plain()
        .replace("instances = [\"app\"]", "instances = [\"app\"]\nretry = { attempts = 0 }");
    let mut lab = setup.config(&service).start().await;
    lab.on(
        "backup",
        &format!("'{binary}' status >\"$D/at-monit\"; ls '{}' >>\"$D/at-monit\"", monit.0.path().display()),
    );
    fs::remove_file(monit.path("did")).unwrap();
    lab.good_backup("b").await;
    assert!(
        !lab.text("at-monit").contains(".pid\ndb") && !lab.text("at-monit").contains("db.pid"),
        "{}",
        lab.text("at-monit")
    );
    monit.assert_as_before(&lab, "a backup");
    let did = monit.did();
    assert_eq!(did[..2], ["stop web", "stop db"], "{did:?}");
    assert!(!did.iter().any(|line| line.ends_with("cold")), "{did:?}");
    lab.measure_downtime("monit", "b").await;
    lab.write("data/file", "newer\n", 0o644);
    lab.good_restore("app").await;
    assert_eq!(lab.text("data/file"), "one\n");
    monit.assert_as_before(&lab, "a restore");
    lab.hold("backup");
    lab.daemon.run_backup("b").await;
    lab.reached("backup").await;
    assert!(!monit.runs("db"));
    lab.daemon.restart_after_kill().await;
    monit.assert_as_before(&lab, "a kill and a start");
    assert_eq!(text(&lab.history().await[0], "Outcome"), "interrupted");
    assert_eq!(names(&lab.path("state/undo")), [""; 0]);
}
