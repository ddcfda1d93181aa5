//! A director like microBOSH's on the other host: a tree like `/var/vcap/store`, monit with three services (PostgreSQL, one
//! that needs it, and one by itself), and the agent, which something else than monit starts and stops.
#![expect(clippy::disallowed_methods, reason = "tests start real programs themselves")]

use std::process::Command;

use crate::host::Host;
use crate::servers::{good, postgres_data};
use crate::support::{stdout, until};

/// The services that monit watches.
pub(crate) const SERVICES: [&str; 3] = ["postgres", "director", "blobstore"];

/// Starts and stops a service of monit, and notes it. PostgreSQL refuses to be root.
const SERVICE: &str = r#"#!/bin/bash
D='@DIR@'
echo "$*" >>"$D/did"
as=()
[ "$(id -u)" != 0 ] || as=(setpriv --reuid postgres --regid postgres --clear-groups --)
run() { cd / && HOME="$D/home" setsid "$@" </dev/null >>"$D/$name.log" 2>&1 & }
name=$2
case $1:$2 in
start:postgres)
    rm -f "$D/store/postgres/postmaster.pid"
    run "${as[@]}" '@POSTGRES@' -D "$D/store/postgres" -k "$D/run" -c listen_addresses= -c fsync=off ;;
start:*) run bash -c "echo \$\$ >'$D/$2.pid'; exec sleep 100000" ;;
stop:postgres) kill -INT "$(head -n 1 "$D/store/postgres/postmaster.pid")" ;;
stop:*) kill "$(cat "$D/$2.pid")"; rm -f "$D/$2.pid" ;;
esac
"#;

/// The agent: as `sv` would, exit code 0 when it runs and 3 when it does not.
const AGENT: &str = r#"#!/bin/bash
D='@DIR@'
case $1 in
status) [ -e "$D/agent.pid" ] && kill -0 "$(cat "$D/agent.pid")" 2>/dev/null || exit 3 ;;
start) echo 'start agent' >>"$D/did"
    cd /; HOME="$D/home" setsid bash -c "echo \$\$ >'$D/agent.pid'; exec sleep 100000" </dev/null >/dev/null 2>&1 &
    until [ -s "$D/agent.pid" ]; do sleep 0.01; done ;;
stop) echo 'stop agent' >>"$D/did"; kill "$(cat "$D/agent.pid")"; rm -f "$D/agent.pid" ;;
esac
"#;

/// The director; ended on drop.
pub(crate) struct Director {
    pub(crate) host: Host,
}

impl Director {
    /// With everything running and a table `vms` of one row in the database `bosh`.
    pub(crate) fn start() -> Self {
        Self::on(Host::start())
    }

    /// The same on a host that is there already.
    pub(crate) fn on(host: Host) -> Self {
        let director = Self { host };
        let host = &director.host;
        let postgres = crate::servers::postgres_program("postgres");
        host.write("store/blobstore/store/0a/blob-1", "a compiled package\n", 0o640);
        host.write("store/blobstore/store/ff/blob-2", "another one\n", 0o600);
        host.write("store/director/tasks/1/debug", "done\n", 0o644);
        host.write("store/director/tmp/scratch", "not worth a backup\n", 0o644);
        std::os::unix::fs::symlink("0a/blob-1", host.path("store/blobstore/store/latest")).unwrap();
        postgres_data(&host.path("store/postgres"));
        std::fs::create_dir(host.path("run")).unwrap();
        crate::servers::own("postgres", &host.path("run"));
        host.write("service", &SERVICE.replace("@POSTGRES@", &postgres), 0o755);
        host.write("bin/agent", AGENT, 0o755);
        host.write("monitrc", &director.monitrc(), 0o700);
        host.write(
            "bin/monit",
            "#!/bin/sh\nexec @MONIT@ -c '@DIR@/monitrc' \"$@\"\n".replace("@MONIT@", &monit()).as_str(),
            0o755,
        );
        director.monit(&[]);
        director.agent("start");
        until("the director runs", || director.all_run());
        director.ask("postgres", "create database bosh");
        director.ask("bosh", "create table vms (name text); insert into vms values ('router/0')");
        std::fs::remove_file(host.path("did")).unwrap();
        director
    }

    fn monitrc(&self) -> String {
        let check = |name: &str, pid: &str, more: &str| {
            format!(
                "check process {name} with pidfile @DIR@/{pid}\n start program = \"@DIR@/service start {name}\"\n \
                 stop program = \"@DIR@/service stop {name}\"\n{more}\n"
            )
        };
        format!(
            "set daemon 1\nset pidfile @DIR@/monit.pid\nset idfile @DIR@/monit.id\nset statefile @DIR@/monit.state\n\
             set logfile @DIR@/monit.log\nset httpd unixsocket @DIR@/monit.sock allow holdfast:test\n{}{}{}",
            check("postgres", "store/postgres/postmaster.pid", ""),
            check("director", "director.pid", " depends on postgres"),
            check("blobstore", "blobstore.pid", "")
        )
    }

    /// Where monit is on the other host.
    pub(crate) fn monit_path(&self) -> String {
        self.host.path("bin/monit").display().to_string()
    }

    /// Where the agent's program is on the other host.
    pub(crate) fn agent_path(&self) -> String {
        self.host.path("bin/agent").display().to_string()
    }

    /// Asks monit on the spot, not over ssh.
    pub(crate) fn monit(&self, arguments: &[&str]) -> String {
        let mut monit = Command::new(self.host.path("bin/monit"));
        good(
            monit
                .args(arguments)
                .env("HOME", self.host.path("home"))
                .output()
                .expect("monit runs (package monit)"),
        )
    }

    /// Starts, stops or asks the agent on the spot.
    pub(crate) fn agent(&self, verb: &str) -> bool {
        Command::new(self.host.path("bin/agent")).arg(verb).status().unwrap().success()
    }

    /// Asks PostgreSQL on the spot.
    #[track_caller]
    pub(crate) fn ask(&self, database: &str, sql: &str) -> String {
        let mut psql = Command::new(crate::servers::postgres_program("psql"));
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            "-d",
            database,
            "-c",
            sql,
        ]);
        good(psql.arg("-h").arg(self.host.path("run")).output().unwrap())
    }

    /// Whether a service of monit runs, and monit watches it.
    pub(crate) fn runs(&self, name: &str) -> bool {
        let mut monit = Command::new(self.host.path("bin/monit"));
        let status = stdout(&monit.args(["status", name]).output().unwrap());
        let watched = status.contains("Monitored") && !status.contains("Not monitored");
        watched && !status.contains("pending") && self.process(name)
    }

    /// Whether the process of a service is there, whatever monit says.
    pub(crate) fn process(&self, name: &str) -> bool {
        let file = if name == "postgres" {
            "store/postgres/postmaster.pid".to_owned()
        } else {
            format!("{name}.pid")
        };
        let text = self.host.text(&file);
        let pid = text.lines().next().unwrap_or_default().trim();
        !pid.is_empty() && std::path::Path::new("/proc").join(pid).exists()
    }

    /// Whether all services, the agent and the database are there.
    pub(crate) fn all_run(&self) -> bool {
        SERVICES.iter().all(|name| self.runs(name)) && self.agent("status") && self.answers()
    }

    fn answers(&self) -> bool {
        let mut psql = Command::new(crate::servers::postgres_program("psql"));
        psql.args(["-X", "-U", "postgres", "-d", "postgres", "-c", "select 1", "-h"])
            .arg(self.host.path("run"));
        psql.output().unwrap().status.success()
    }

    /// What services were told, oldest first: `stop director`, `start agent`.
    pub(crate) fn did(&self) -> Vec<String> {
        self.host.text("did").lines().map(str::to_owned).collect()
    }

    /// Forgets that.
    pub(crate) fn forget(&self) {
        let _ = std::fs::remove_file(self.host.path("did"));
    }
}

/// The real monit: the lab's own program of that name stands before it on the other host's PATH.
fn monit() -> String {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|dir| dir.join("monit"))
        .find(|p| p.is_file());
    found.expect("monit is installed (package monit)").display().to_string()
}

impl Drop for Director {
    fn drop(&mut self) {
        // First, so that it starts nothing again. The host ends whatever else runs there.
        let _ = Command::new(self.host.path("bin/monit")).arg("quit").output();
        crate::host::end_all_of(&self.host.path("home"));
    }
}
