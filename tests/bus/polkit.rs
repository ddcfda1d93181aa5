//! Who may do what behind the bus policy, as polkit says. What calls as others needs root.

use std::time::{Duration, Instant};

use crate::authority::{MANAGER, Says, as_nobody, authority, job_of, manager, run};
use crate::support::{Bus, NAME, ROOT, stderr};

/// B28: each action is asked for by its name, about the sender's name on the bus (never its process), and only a yes is one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs root: calls as other users"]
async fn system_polkit_is_asked_about_the_sender_and_only_a_yes_is_one() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let (authority, _connection) =
        authority(&bus, &[("run", Says::Yes), ("view", Says::Yes), ("restore", Says::Password)]).await;
    let job = job_of(&run(&bus, "mybackup"));
    assert_eq!(daemon.wait_for_job(&job).await, "succeeded");
    let restore = manager(&bus, &["Restore", "ssa{sv}", "app-1", "", "0"]);
    assert!(stderr(&restore).contains("needs an administrator's password"), "{}", stderr(&restore));
    let reload = manager(&bus, &["Reload"]);
    assert!(stderr(&reload).contains("polkit refuses org.holdfast.backup1.manage"), "{}", stderr(&reload));
    let cancel = as_nobody(&bus, &["call", NAME, &job, "org.holdfast.Backup1.Job", "Cancel"]);
    assert!(stderr(&cancel).contains("polkit refuses org.holdfast.backup1.cancel"), "{}", stderr(&cancel));
    let asked = authority.asked.lock().unwrap().clone();
    let (kind, name, action, object, flags) = asked[0].clone();
    assert_eq!((kind.as_str(), action.as_str()), ("system-bus-name", "org.holdfast.backup1.run"));
    assert_eq!((object.as_str(), flags), ("mybackup", 0));
    assert!(name.starts_with(":1."), "{name}");
    assert!(asked.iter().all(|question| question.4 == 0), "a dialog was allowed: {asked:?}");
    let jobs = daemon.call::<_, Vec<crate::support::Row>>("ListJobs", &(crate::support::Row::new(),)).await;
    assert_eq!(jobs.unwrap().len(), 1, "a refused call started something");
}

/// B27: a dialog is only allowed where the caller allows one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs root: calls as other users"]
async fn system_a_dialog_is_allowed_where_the_caller_allows_one() {
    let bus = Bus::start();
    let _daemon = crate::daemon(&bus).await;
    let (authority, _connection) = authority(&bus, &[("manage", Says::Yes)]).await;
    let mut setpriv = bus.command("setpriv");
    setpriv.args(["--reuid=65534", "--regid=65534", "--clear-groups", "busctl"]);
    setpriv.arg(format!("--address={}", bus.address)).args(["call", NAME, ROOT, MANAGER, "Reload"]);
    let reload = setpriv.arg("--allow-interactive-authorization=yes").output().unwrap();
    assert!(reload.status.success(), "{}", stderr(&reload));
    assert_eq!(authority.asked.lock().unwrap()[0].4, 1);
}

/// B25: without polkit only root may, and others are told what to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs root: calls as other users"]
async fn system_without_polkit_only_root_may() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let refused = run(&bus, "mybackup");
    assert!(stderr(&refused).contains("polkit did not answer, so only root may"), "{}", stderr(&refused));
    let seen = as_nobody(&bus, &["get-property", NAME, ROOT, MANAGER, "Version"]);
    assert!(stderr(&seen).contains("polkit did not answer"), "{}", stderr(&seen));
    let job = daemon.run_backup("mybackup").await;
    assert_eq!(daemon.wait_for_job(&job).await, "succeeded");
}

/// B26: polkit that never answers holds nobody else up; in the end it is a no, and the question is taken back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs root: calls as other users"]
async fn system_polkit_that_never_answers_is_a_no_and_holds_nobody_up() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let (authority, _connection) = authority(&bus, &[("run", Says::Never), ("view", Says::Never)]).await;
    let asking = std::thread::scope(|scope| {
        let asking = scope.spawn(|| run(&bus, "mybackup"));
        crate::support::until("the question", || !authority.asked.lock().unwrap().is_empty());
        let start = Instant::now();
        let seen = bus.busctl(&["call", NAME, ROOT, MANAGER, "Reload"]);
        assert!(seen.status.success() && start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        asking.join().unwrap()
    });
    assert!(stderr(&asking).contains("polkit did not answer"), "{}", stderr(&asking));
    let looked = Instant::now();
    let seen = as_nobody(&bus, &["get-property", NAME, ROOT, MANAGER, "Version"]);
    assert!(stderr(&seen).contains("polkit did not answer"), "{}", stderr(&seen));
    let again = as_nobody(&bus, &["get-property", NAME, ROOT, MANAGER, "Version"]);
    assert!(!again.status.success() && looked.elapsed() < Duration::from_secs(8), "{:?}", looked.elapsed());
    crate::support::until("the questions to be taken back", || {
        authority.withdrawn.lock().unwrap().len() >= 2
    });
    assert_no_jobs(&daemon).await;
}

async fn assert_no_jobs(daemon: &crate::support::Daemon) {
    let jobs = daemon.call::<_, Vec<crate::support::Row>>("ListJobs", &(crate::support::Row::new(),)).await;
    assert!(jobs.unwrap().is_empty());
}

/// B24: an authority that goes, or a caller that goes, while it is asked: no, and no job.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs root: calls as other users"]
async fn system_whoever_vanishes_while_polkit_is_asked_gets_a_no() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let (asked, connection) = authority(&bus, &[("run", Says::Never)]).await;
    let answer = std::thread::scope(|scope| {
        let asking = scope.spawn(|| run(&bus, "mybackup"));
        crate::support::until("the question", || !asked.asked.lock().unwrap().is_empty());
        drop(connection.graceful_shutdown());
        asking.join().unwrap()
    });
    assert!(stderr(&answer).contains("not authorised to run"), "{}", stderr(&answer));
    assert_no_jobs(&daemon).await;
}

/// B22: what was authorised is judged as it is when it begins: gone or switched off meanwhile, nothing runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs root: calls as other users"]
async fn system_what_changes_while_polkit_is_asked_is_not_run_as_it_was() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let (authority, _connection) = authority(&bus, &[("run", Says::Held)]).await;
    for (change, expected) in [
        (
            &[
                "call",
                NAME,
                "/org/holdfast/Backup1/backup/mybackup",
                "org.holdfast.Backup1.Backup",
                "Disable",
            ][..],
            "disabled",
        ),
        (&["call", NAME, ROOT, MANAGER, "RemoveBackup", "s", "mybackup"], "mybackup"),
    ] {
        authority.asked.lock().unwrap().clear();
        authority.says.lock().unwrap().insert("run", Says::Held);
        let answer = std::thread::scope(|scope| {
            let asking = scope.spawn(|| run(&bus, "mybackup"));
            crate::support::until("the question", || !authority.asked.lock().unwrap().is_empty());
            let changed = bus.busctl(change);
            assert!(changed.status.success(), "{}", stderr(&changed));
            authority.says.lock().unwrap().insert("run", Says::Yes);
            asking.join().unwrap()
        });
        assert!(!answer.status.success() && stderr(&answer).contains(expected), "{}", stderr(&answer));
    }
    let jobs = daemon.call::<_, Vec<crate::support::Row>>("ListJobs", &(crate::support::Row::new(),)).await;
    assert!(jobs.unwrap().is_empty(), "what was refused began a job");
}

/// A set is what a restore puts in place as root: polkit cannot hand on that somebody brings one in.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs root: calls as other users"]
async fn system_only_root_imports_whatever_polkit_says() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let (authority, _connection) =
        authority(&bus, &[("run", Says::Yes), ("restore", Says::Yes), ("manage", Says::Yes)]).await;
    // busctl hands no descriptor over; our own client does, from where anybody may read it.
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let program = dir.path().join("holdfast");
    std::fs::copy(env!("CARGO_BIN_EXE_holdfast"), &program).unwrap();
    let mut client = bus.command("setpriv");
    client.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
    client.args(["--bus", &bus.address, "import", "/dev/null", "--instance", "app-1"]);
    let import = client.output().unwrap();
    assert_eq!(import.status.code(), Some(5), "{}", stderr(&import));
    assert!(stderr(&import).contains("not authorised to import: only root"), "{}", stderr(&import));
    assert_eq!(authority.asked.lock().unwrap().len(), 0);
    let jobs = daemon.call::<_, Vec<crate::support::Row>>("ListJobs", &(crate::support::Row::new(),)).await;
    assert_eq!(jobs.unwrap().len(), 0, "a refused call started something");
}
