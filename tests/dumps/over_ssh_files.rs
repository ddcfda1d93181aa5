//! SQLite, OpenLDAP and etcd on another machine: their files are made there by real programs over a real sshd, and change
//! places there.

use std::path::PathBuf;

use super::etcd::Etcd;
use super::host::Host;
use super::openldap::Slapd;
use super::over_ssh::{assert_secret, there};
use super::*;

/// The three of them on one machine, with different data.
struct Three {
    host: Host,
    slapd: Slapd,
    etcd: Etcd,
    /// A database in a tree that is included as well.
    inside: PathBuf,
    /// One in a directory of its own, with a name that shells and URIs read otherwise.
    odd: PathBuf,
}

impl Three {
    fn start() -> Self {
        let host = Host::start();
        let (slapd, etcd) = (Slapd::start("first"), Etcd::start("first"));
        let (inside, odd) = (host.path("data/deep/app.db"), host.path("apart/o'dd %.db"));
        drop((sqlite::make(&inside, 100), sqlite::make(&odd, 3)));
        host.write("data/plain", "plain\n", 0o644);
        Self { host, slapd, etcd, inside, odd }
    }

    /// An instance that is on that machine, with these keys.
    fn setup(&self, more: &str) -> Setup {
        let databases = [&self.inside, &self.odd].map(|path| path.display().to_string());
        let sqlite = format!("source = \"sqlite\"\ndatabases = {databases:?}\n");
        // Two services may not have one name.
        let etcd = self.etcd.definition().replace("name = \"server\"", "name = \"etcd\"");
        let keys = format!(
            "ssh = \"{}:{}\"\ninclude = [\"{}\"]\n{more}",
            self.host.login(),
            self.host.port,
            self.host.path("data").display()
        );
        let setup = there(&self.host, &keys, &[sqlite, self.slapd.definition(), etcd]);
        setup.write("health", "0\n", 0o644);
        setup
    }

    fn state(&self) -> String {
        self.slapd.answers();
        let counts = [&self.inside, &self.odd].map(|path| sqlite::count(path));
        format!("{}\n{}\n{counts:?}\n{}", self.slapd.state(), self.etcd.state(), self.host.text("data/plain"))
    }

    fn change(&self) {
        self.slapd.change();
        self.etcd.change();
        // Left open: what was written last stands beside the file.
        std::mem::forget(sqlite::make(&self.inside, 7));
        drop(sqlite::make(&self.odd, 7));
        self.host.write("data/plain", "changed\n", 0o644);
    }

    /// Nothing of ours lies there any more: of this job, or of any.
    #[track_caller]
    fn assert_clean(&self, job: &str, lab: &Lab) {
        let mut all = lab::names(Path::new("/var/tmp"));
        all.retain(|name| name.contains(job));
        for dir in [
            self.host.path(""),
            self.host.path("home"),
            self.host.path("data"),
            self.host.path("data/deep"),
            self.host.path("apart"),
            self.slapd.0.path(""),
            self.etcd.server.path(""),
        ] {
            all.extend(lab::names(&dir).into_iter().filter(|name| name.starts_with(".holdfast")));
        }
        assert_eq!(all, [""; 0], "{}", lab.daemon.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_engines_on_another_machine_change_places_there_and_a_rollback_gives_back_the_old_ones() {
    let three = Three::start();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
    std::fs::set_permissions(&three.odd, mode).unwrap();
    let lab = three.setup("").start().await;
    let first = three.state();
    lab.good_backup("b").await;
    three.change();
    let late = three.state();
    lab.good_restore("app").await;
    assert_eq!(three.state(), first, "{}", lab.daemon.log());
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&three.odd).unwrap()) & 0o777, 0o640);
    for done in [three.slapd.0.done(), three.etcd.server.done()] {
        assert_eq!(done, "start stop start ");
    }
    let made = lab::names(Path::new("/var/tmp")).into_iter().filter(|name| name.contains(".holdfast-j"));
    let kept: Vec<String> = lab::names(&lab.path("state/kept"));
    assert_eq!(made.filter(|name| name.contains(&kept[0])).count(), 0);
    roll_back(&lab).await;
    assert_eq!(three.state(), late, "{}", lab.daemon.log());
    // A rollback is rolled back too: what lies within a tree goes with it, and comes with it.
    roll_back(&lab).await;
    assert_eq!(three.state(), first, "{}", lab.daemon.log());
    assert_secret(&three.host, &lab);
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_load_on_another_machine_stops_nothing_there_and_changes_nothing() {
    let three = Three::start();
    let lab = three.setup(HEALTH).start().await;
    lab.good_backup("b").await;
    three.change();
    let late = three.state();
    for (call, shell, word) in [
        ("slapadd -q -n 1 -F", "echo no room >&2; exit 1", "no room"),
        (
            "slapcat -o 'ldif-wrap=no' -n 1 -F /var/tmp",
            "exit 0",
            "2 entries are in the dump and 0 were loaded",
        ),
        ("snapshot restore", "echo no room >&2; exit 1", "no room"),
        ("pragma integrity_check", "echo row 7 missing; exit 0", "came damaged"),
        ("wc -c", "cat >/dev/null; echo 9", "came"),
        ("sh fits", "kill -9 $PPID", "cannot be reached over ssh"),
    ] {
        three.host.on_remote(&format!("case $SSH_ORIGINAL_COMMAND in *\"{call}\"*) {shell};; esac"));
        not_restored(&lab, &lab.restore("app", "", &[]).await, word);
        assert_eq!(
            three.slapd.0.done(),
            "start ",
            "{word}: nothing was stopped for what could not be loaded"
        );
    }
    three.host.let_be();
    let link = three.host.path("apart/real.db");
    std::fs::rename(&three.odd, &link).unwrap();
    std::os::unix::fs::symlink(&link, &three.odd).unwrap();
    not_restored(&lab, &lab.restore("app", "", &[]).await, "is a symbolic link");
    std::fs::rename(&link, &three.odd).unwrap();
    let no = zbus::wire::Variant::from(false);
    let ended = lab.restore("app", "", &[("stop", no)]).await;
    not_restored(&lab, &ended, "a server has");
    lab.write("health", "1\n", 0o644);
    not_restored(&lab, &lab.restore("app", "", &[]).await, "the old data is back");
    assert_eq!(three.state(), late, "{}", lab.daemon.log());
    three.assert_clean("holdfast-jNONE", &lab);
    assert_secret(&three.host, &lab);
    lab.assert_settled().await;
}

/// Stops a command there that has this in it: before it begins, or when it is done. The file `at` says so.
fn stop_at(three: &Three, part: &str, after: bool) {
    let does = if after { "/bin/sh -c \"$SSH_ORIGINAL_COMMAND\"; " } else { "" };
    three.host.on_remote(&format!(
        "case $SSH_ORIGINAL_COMMAND in *\"{part}\"*) {does}: >\"$D/at\"; exec sleep 100000 ;; esac"
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_anywhere_the_old_files_of_engines_live_when_the_other_machine_answers_again() {
    let three = Three::start();
    let mut lab = three.setup("").start().await;
    lab.good_backup("b").await;
    three.change();
    let late = three.state();
    for (part, after) in [
        ("snapshot restore", true),
        (" sh bring ''", true),
        (" sh swap ''", true),
        ("_etcd data new", true),
        (" sh remove ''", false),
    ] {
        stop_at(&three, part, after);
        let job = lab.start_restore("app", "", &[]).await;
        lab.until(part, || three.host.path("at").exists()).await;
        three.host.refuse(true);
        lab.daemon.restart_after_kill().await;
        lab.until("there is an alarm", || lab.daemon.log().contains("is not put right yet")).await;
        std::fs::remove_file(three.host.path("at")).unwrap();
        three.host.let_be();
        three.host.refuse(false);
        lab.until("all is undone", || lab::names(&lab.path("state/undo")).is_empty()).await;
        assert_eq!(three.state(), late, "{part}: {}", lab.daemon.log());
        let job = job.to_string();
        three.assert_clean(job.rsplit('/').next().unwrap(), &lab);
    }
    lab.good_restore("app").await;
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_while_files_of_engines_change_places_leaves_them_wholly_old_or_wholly_new() {
    let three = Three::start();
    let lab = three.setup("restore = { keep_previous = \"0s\" }\n").start().await;
    lab.good_backup("b").await;
    let first = three.state();
    three.change();
    let late = three.state();
    let once = "mkdir \"$D/lost\" 2>/dev/null";
    for (part, after) in
        [(" sh make ''", true), (" sh bring ''", false), ("_openldap/new", true), ("_etcd data new", true)]
    {
        let does = if after { "/bin/sh -c \"$SSH_ORIGINAL_COMMAND\"; " } else { "" };
        three.host.on_remote(&format!(
            "case $SSH_ORIGINAL_COMMAND in *\"{part}\"*) ! {once} || {{ {does}kill -9 $PPID; exit; }} ;; esac"
        ));
        not_restored(&lab, &lab.restore("app", "", &[]).await, "cannot be reached over ssh");
        assert!(three.host.path("lost").exists(), "{part}");
        std::fs::remove_dir(three.host.path("lost")).unwrap();
        assert_eq!(three.state(), late, "{part}: {}", lab.daemon.log());
    }
    three.host.let_be();
    lab.good_restore("app").await;
    assert_eq!(three.state(), first);
    lab.assert_settled().await;
}
