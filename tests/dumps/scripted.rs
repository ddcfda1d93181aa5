//! Servers that a script starts, asks and stops, for the daemon does so too: they are services of an instance.
#![expect(clippy::disallowed_methods, reason = "tests start real programs themselves")]

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::servers::{good, open_dir};

/// What is the same in each script: `$D` is the server's directory, `run` a function that starts it and leaves its
/// process id in `$D/pid`.
const SCRIPT: &str = r#"
up() { [ -s "$D/pid" ] && kill -0 "$(cat "$D/pid")" 2>/dev/null; }
case $1 in
start) up || { rm -f "$D/pid"; run; echo start >>"$D/done"; } ;;
stop) if up; then p=$(cat "$D/pid"); kill "$p"; while kill -0 "$p" 2>/dev/null; do sleep 0.02; done; echo stop >>"$D/done"; fi ;;
end) if up; then p=$(cat "$D/pid"); kill -9 "$p"; while kill -0 "$p" 2>/dev/null; do sleep 0.02; done; fi ;;
status) up || exit 3 ;;
esac
"#;

/// Such a server; ended on drop.
pub(crate) struct Scripted {
    pub(crate) dir: TempDir,
}

impl Scripted {
    /// A server that is not started yet; `run` is the shell function's body.
    pub(crate) fn new(run: &str) -> Self {
        let dir = open_dir();
        let text = format!(
            "#!/bin/bash\nset -e\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\nD='{}'\nrun() {{\n{run}\n}}\n{SCRIPT}",
            dir.path().display()
        );
        std::fs::write(dir.path().join("service"), text).unwrap();
        let run = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path().join("service"), run).unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    #[track_caller]
    pub(crate) fn run(&self, verb: &str) {
        good(Command::new(self.path("service")).arg(verb).output().unwrap());
    }

    /// How often it was started and stopped.
    pub(crate) fn done(&self) -> String {
        std::fs::read_to_string(self.path("done")).unwrap_or_default().replace('\n', " ")
    }

    /// Its definition as a service that only restores stop.
    pub(crate) fn service(&self) -> String {
        let argv = |verb: &str| format!("[\"{}\", \"{verb}\"]", self.path("service").display());
        format!(
            "[[instance.app.service]]\nmanager = \"command\"\nname = \"server\"\nuntil = \"restore\"\n\
             start = {}\nstop = {}\nstatus = {}\n",
            argv("start"),
            argv("stop"),
            argv("status")
        )
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        let _ = Command::new(self.path("service")).arg("end").status();
    }
}

/// A port that nobody has now.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
