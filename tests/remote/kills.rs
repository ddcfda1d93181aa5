//! The daemon is killed in the middle of its work on another machine, and started again.

use crate::far::{in_lanes, served, soak};
use crate::faults::runs_there;
use crate::host::Host;
use crate::lab::{Lab, Setup, names, text};
use crate::restore::assert_nothing_beside;

/// When the daemon is killed.
#[derive(Debug, Clone)]
enum Moment {
    /// A call with this in it has come there, and nothing of it is done.
    Before(&'static str),
    /// All of it is done, and the call does not end.
    After(&'static str),
    /// The n-th call has come, and is done or not.
    Call(usize, bool),
    /// restic has been called with this.
    Restic(&'static str),
}

use Moment::{After, Before, Call, Restic};

/// The phases of a backup, in order.
const OF_A_BACKUP: &[Moment] = &[
    Before("true"),
    Before("/service stop web"),
    After("/service stop web"),
    After("/service stop db"),
    After("/service dump"),
    Before("rsync --server"),
    Before("/service start db"),
    After("/service start db"),
    After("/service start web"),
    Restic("backup"),
];

/// The phases of a restore, in order.
const OF_A_RESTORE: &[Moment] = &[
    Before(" sh look "),
    After(" sh make "),
    After("rsync --server"),
    After("/service stop db"),
    Before("/service dump"),
    Before(" sh swap "),
    After(" sh swap "),
    After("/service load"),
    Before("/service start db"),
    After("/service start db"),
    After("/service start web"),
    Before(" sh remove "),
    Restic("restore"),
];

/// The phases; where the slow proofs are wanted each call as well, before and after.
fn moments(phases: &[Moment], calls: usize) -> Vec<Moment> {
    let each = (0..calls).flat_map(|n| [Call(n, false), Call(n, true)]);
    phases.iter().cloned().chain(each.filter(|_| soak())).collect()
}

/// Makes the work stop at a moment; [`reached`] says that it has.
fn stop_at(host: &Host, lab: &Lab, moment: &Moment) {
    let waits = ": >\"$D/at\"; exec sleep 100000";
    let does = "/bin/sh -c \"$SSH_ORIGINAL_COMMAND\"";
    host.on_remote(&match moment {
        Before(part) => format!("case $SSH_ORIGINAL_COMMAND in *'{part}'*) {waits} ;; esac"),
        After(part) => format!("case $SSH_ORIGINAL_COMMAND in *'{part}'*) {does}; {waits} ;; esac"),
        Call(n, false) => format!("[ $n != {n} ] || {{ {waits}; }}"),
        Call(n, true) => format!("[ $n != {n} ] || {{ {does}; {waits}; }}"),
        Restic(call) => {
            lab.hold(call);
            "".to_owned()
        }
    });
}

/// Waits for the moment, kills the daemon there, and starts it again on a host where all goes well.
async fn killed_at(host: &Host, lab: &mut Lab, moment: &Moment) {
    let at = match moment {
        Restic(call) => lab.path(&format!("at-{call}")),
        _ => host.path("at"),
    };
    lab.until(&format!("{moment:?}"), || at.exists()).await;
    lab.daemon.kill();
    host.let_be();
    std::fs::remove_file(&at).unwrap();
    if let Restic(call) = moment {
        lab.remove(&format!("go-{call}"));
    }
    host.write("did", "", 0o644);
    lab.daemon.start_again().await;
    let runs = || host.path("running-web").exists() && host.path("running-db").exists();
    lab.until(&format!("{moment:?}: services run"), runs).await;
    lab.until(&format!("{moment:?}: all is undone"), || names(&lab.path("state/undo")).is_empty()).await;
    let what = format!("{moment:?}\n{}", lab.daemon.log());
    assert_eq!(text(&lab.history().await[0], "Outcome"), "interrupted", "{what}");
    let starts: Vec<String> =
        host.text("did").lines().filter(|l| l.starts_with("start")).map(str::to_owned).collect();
    let order = ["start db", "start web"];
    assert!(
        starts == order || starts.len() < 2 && order.join(" ").contains(&starts.concat()),
        "{starts:?} {what}"
    );
}

/// What lies there beside what always lies there.
fn lies_there(host: &Host) -> Vec<String> {
    let mut all: Vec<String> =
        ["", "home", "store", "store/tmp"].iter().flat_map(|dir| names(&host.path(dir))).collect();
    all.retain(|name| name != "on-remote" && name != "at");
    all.sort();
    all
}

/// How many calls a good run makes.
async fn calls_of_a_backup(host: &Host, lab: &Lab) -> usize {
    host.forget_calls();
    lab.good_backup("b").await;
    host.calls().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_phase_of_a_backup_services_run_again_and_no_set_is_left() {
    let calls = if soak() {
        let host = Host::start();
        let lab = served(&host).start().await;
        calls_of_a_backup(&host, &lab).await
    } else {
        0
    };
    in_lanes(moments(OF_A_BACKUP, calls), killed_in_backups).await;
}

async fn killed_in_backups(moments: Vec<Moment>) {
    let host = Host::start();
    let mut lab = served(&host).start().await;
    lab.good_backup("b").await;
    let there = lies_there(&host);
    for moment in &moments {
        stop_at(&host, &lab, moment);
        lab.daemon.run_backup("b").await;
        killed_at(&host, &mut lab, moment).await;
        assert_eq!(lab.sets("app").await.len(), 1, "{moment:?}\n{}", lab.daemon.log());
        assert_eq!(lies_there(&host), there, "{moment:?}");
    }
    lab.good_backup("b").await;
    lab.assert_settled().await;
}

/// As [`served`], with a second tree, and a dump that is loaded again: of the file `data`.
fn two_trees(host: &Host) -> Setup {
    host.write("second/file", "saved\n", 0o644);
    host.write("data", "saved\n", 0o644);
    let second =
        format!("restore = {{ keep_previous = \"0s\" }}\ninclude = [\"{}\", ", host.path("second").display());
    let setup = served(host).replace("include = [", &second);
    let service = host.text("bin/service").replace("echo 'the data'", "cat data");
    let program = host.write("bin/service", &service.replace("dump)", "load) cat >data ;;\ndump)"), 0o755);
    setup.config(&format!("restore = [\"{}\", \"load\"]\n", program.display()))
}

/// What lives in each tree, there and here, and in what is dumped.
fn live(host: &Host, lab: &Lab) -> [String; 4] {
    [host.text("store/one"), host.text("second/file"), lab.text("yml/micro_bosh.yml"), host.text("data")]
}

fn change(host: &Host, lab: &Lab) {
    host.write("store/one", "changed\n", 0o640);
    host.write("second/file", "changed\n", 0o644);
    host.write("data", "changed\n", 0o644);
    lab.write("yml/micro_bosh.yml", "changed\n", 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_phase_of_a_restore_all_trees_are_old_or_all_are_new() {
    let calls = if soak() {
        let host = Host::start();
        let lab = two_trees(&host).start().await;
        lab.good_backup("b").await;
        host.forget_calls();
        lab.good_restore("app").await;
        host.calls().len()
    } else {
        0
    };
    in_lanes(moments(OF_A_RESTORE, calls), killed_in_restores).await;
}

async fn killed_in_restores(moments: Vec<Moment>) {
    let host = Host::start();
    let mut lab = two_trees(&host).start().await;
    lab.good_backup("b").await;
    let (saved, there) = (live(&host, &lab), lies_there(&host));
    for moment in &moments {
        change(&host, &lab);
        stop_at(&host, &lab, moment);
        lab.start_restore("app", "", &[]).await;
        killed_at(&host, &mut lab, moment).await;
        let now = live(&host, &lab);
        let what = format!("{moment:?}: {now:?}\n{}", lab.daemon.log());
        assert!(now == saved || now.iter().all(|text| text == "changed\n"), "{what}");
        assert_nothing_beside(&host, &lab);
        assert_eq!(lies_there(&host), there, "{what}");
    }
    lab.good_restore("app").await;
    assert_eq!(live(&host, &lab), saved);
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_goes_on_when_the_daemon_is_killed_does_not_come_late() {
    let host = Host::start();
    let mut lab = served(&host).start().await;
    let service = host.text("bin/service");
    let slow = service.replace("stop) rm", "stop) : >at; sleep 5.0625; rm");
    host.write("bin/service", &slow, 0o755);
    lab.daemon.run_backup("b").await;
    lab.until("it stops", || host.path("at").exists()).await;
    lab.daemon.restart_after_kill().await;
    lab.until("all is undone", || names(&lab.path("state/undo")).is_empty()).await;
    lab.until("nothing stops there", || !runs_there(&host, "stop")).await;
    assert!(host.path("running-web").exists() && host.path("running-db").exists(), "{}", lab.daemon.log());
    host.write("bin/service", &service, 0o755);
    lab.good_backup("b").await;
    lab.assert_settled().await;
}
