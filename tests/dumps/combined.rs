//! Services and a dump together, in the order that BOSH directors need: all is stopped, only PostgreSQL is started, it is
//! dumped and stopped again, the files are read, all is started. Whatever happens in between, all runs afterwards.
#![expect(clippy::disallowed_methods, reason = "tests start real programs themselves")]

use std::process::Command;

use crate::lab::{Lab, names, text};
use crate::servers::{Postgres, postgres_program};

use super::*;

/// Speaks as monit does. `web` is a file, `postgres` is a real server. What it does is noted with its time.
const MONIT: &str = r#"#!/bin/bash
D='@DIR@'
[ ! -e "$D/on-$1-$2" ] || . "$D/on-$1-$2"
ctl() { env -i PATH=/usr/bin:/bin RUN 'CTL' -D 'DATA' -l 'DATA/../ctl.log' -w -t 60 "$@" </dev/null >/dev/null 2>&1; }
row() { printf "Process '%s'\n  status   OK\n  monitoring status   %s\n\n" "$1" "$2"; }
case $1 in
status)
    [ -e "$D/svc/web" ] && row web Monitored || row web 'Not monitored'
    ctl status && row postgres Monitored || row postgres 'Not monitored' ;;
start) [ "$2" = web ] && : >"$D/svc/web" || ctl status || ctl -o "-k 'DATA/..' -c listen_addresses= -c fsync=off" start ;;
stop) [ "$2" = web ] && rm -f "$D/svc/web" || ! ctl status || ctl -m fast stop ;;
esac || exit 1
[ "$1" = status ] || echo "$(date +%s.%N) $1 $2" >>"$D/did"
exit 0
"#;

/// PostgreSQL's own control program, run as its user.
fn control(server: &Postgres) -> String {
    let data = server.0.path("data").display().to_string();
    let run = match rustix::process::geteuid().is_root() {
        true => "setpriv --reuid postgres --regid postgres --clear-groups --",
        false => "",
    };
    MONIT.replace("RUN", run).replace("CTL", &postgres_program("pg_ctl")).replace("DATA", &data)
}

/// A director; its PostgreSQL is ended on drop.
struct Director {
    lab: Lab,
    server: Postgres,
}

impl Drop for Director {
    fn drop(&mut self) {
        let _ = Command::new(self.lab.path("monit")).args(["stop", "postgres"]).output();
    }
}

async fn director() -> Director {
    let mut server = Postgres::start();
    server.ask("postgres", "create database shop");
    server.ask("shop", "create table item as select generate_series(1, 10) as id");
    server.0.kill();
    let keys =
        format!("{}password_file = \"{PASSWORD_FILE}\"\ndatabases = [\"shop\"]\n", server.definition());
    let mut setup = setup("include = [\"@DIR@/data\"]\nrestore = { keep_previous = \"0s\" }", &[keys]);
    fake(&mut setup, "pg_dump", "[ ! -e \"$D/on-pg_dump\" ] || . \"$D/on-pg_dump\"\nexec \"$real\" \"$@\"");
    setup.write("data/file", "one\n", 0o644);
    setup.write("svc/web", "", 0o644);
    let program = setup.write("monit", &control(&server), 0o755);
    let started = Command::new(&program).args(["start", "postgres"]).output().unwrap();
    assert!(started.status.success(), "{}", server.0.path("ctl.log").display());
    std::fs::remove_file(setup.path("did")).unwrap();
    let service = format!(
        "[[instance.app.service]]\nmanager = \"monit\"\nbinary = \"{}\"\nservices = [\"web\", \"postgres\"]\n\
         start_for_dump = [\"postgres\"]\n",
        program.display()
    );
    let setup = setup
        .config(&service)
        .replace("instances = [\"app\"]", "instances = [\"app\"]\nretry = { attempts = 0 }");
    Director { lab: setup.start().await, server }
}

impl Director {
    fn did(&self) -> Vec<(f64, String)> {
        let line = |line: &str| line.split_once(' ').map(|(at, what)| (at.parse().unwrap(), what.to_owned()));
        self.lab.text("did").lines().filter_map(line).collect()
    }

    #[track_caller]
    fn assert_runs(&self, what: &str) {
        let log = self.lab.daemon.log();
        assert!(self.lab.path("svc/web").exists(), "{what}: web is down\n{log}");
        assert_eq!(self.server.ask("shop", "select count(*) from item"), "10", "{what}\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_database_runs_for_its_dump_and_all_runs_afterwards() {
    let director = director().await;
    let lab = &director.lab;
    lab.on("pg_dump", "ls \"$D/svc\" >\"$D/at-dump\"");
    lab.on("backup", "\"$D/monit\" status >\"$D/at-backup\"");
    lab.good_backup("b").await;
    let did = director.did();
    let order: Vec<&str> = did.iter().map(|(_, what)| what.as_str()).collect();
    let round =
        ["stop web", "stop postgres", "start postgres", "stop postgres", "start postgres", "start web"];
    assert_eq!(order, round);
    assert_eq!(lab.text("at-dump"), "", "web is down while PostgreSQL is dumped");
    assert!(!lab.text("at-backup").contains(" Monitored"), "{}", lab.text("at-backup"));
    director.assert_runs("a backup");
    let (down, work) = (did[5].0 - did[0].0, did[4].0 - did[2].0);
    eprintln!("web was down for {down:.2} s, of which the database's dump and the snapshot took {work:.2} s");
    director.server.ask("shop", "delete from item where id > 3");
    lab.write("data/file", "newer\n", 0o644);
    // A restore needs its server: nothing is stopped here.
    let restored = lab.restore("app", "", &[("stop", false.into())]).await;
    assert_eq!(restored.outcome, "succeeded", "{restored:?}\n{}", lab.daemon.log());
    director.assert_runs("a restore");
    assert_eq!(lab.text("data/file"), "one\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_any_phase_all_runs_after_the_next_start() {
    let mut director = director().await;
    for hold in ["stop-postgres", "start-postgres", "pg_dump", "backup", "start-web"] {
        director.lab.hold(hold);
        director.lab.daemon.run_backup("b").await;
        director.lab.reached(hold).await;
        director.lab.daemon.restart_after_kill().await;
        director.assert_runs(hold);
        assert_eq!(text(&director.lab.history().await[0], "Outcome"), "interrupted", "{hold}");
        assert_eq!(names(&director.lab.path("state/undo")), [""; 0], "{hold}");
        let sets = director.lab.sets("app").await.len();
        assert_eq!(sets, usize::from(hold == "start-web"), "{hold}: a set only when it was committed");
        let _ = std::fs::remove_file(director.lab.path(&format!("go-{hold}")));
    }
}
