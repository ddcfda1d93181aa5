//! Full and read-only disks: a small tmpfs in a mount namespace of the victim's own (`unshare`, also for ordinary users).

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use holdfast::queue::{Caller, Queue};
use holdfast::state::lock::DaemonLock;
use holdfast::state::undo::{Step, Undo, pending};
use holdfast::state::{Database, Opened, Outcome, durable};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::records::job;
use crate::victim::{command, given};

fn run(test: &str) {
    let dir = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=1m tmpfs \"$HOLDFAST_TEST_DIR\" && exec \"$@\"";
    let wrapper = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh"];
    let output = command(&wrapper, test, dir.path(), "").output().expect("unshare is needed");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// Takes all space that is left.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    for size in [4096, 1] {
        while file.write_all(&vec![b'x'; size]).is_ok() {}
    }
}

fn open(state: &Path) -> (Database, Opened) {
    Database::open(state, Timestamp::now()).unwrap()
}

#[tokio::test]
#[ignore = "the victim of the test below"]
async fn full() {
    let (dir, _) = given();
    let (state, filler) = (dir.join("state"), dir.join("filler"));
    let (db, _) = open(&state);
    db.save_job(&job("j1", None)).await.unwrap();
    durable::write(&state.join("file"), 0o600, b"old").unwrap();
    let undo = Undo::begin(&state.join("undo"), "j1").unwrap();
    undo.push(Step::RemoveDir { path: "/a".into() }).await.unwrap();
    fill(&filler);

    let mut large = job("j1", Some(Outcome::Failed));
    large.error = "x".repeat(300_000);
    let error = format!("{:#}", db.save_job(&large).await.unwrap_err());
    assert!(error.contains("full"), "{error}");
    assert_eq!(db.job("j1").await.unwrap().unwrap().outcome, None);
    durable::write(&state.join("file"), 0o600, &[b'x'; 10_000]).unwrap_err();
    assert_eq!(fs::read(state.join("file")).unwrap(), b"old");
    let long = format!("/{}", "x".repeat(9_000));
    undo.push(Step::RemoveDir { path: long.into() }).await.unwrap_err();
    drop(undo);
    assert_eq!(pending(&state.join("undo")).unwrap()[0].steps.len(), 1);

    // A start with a full disk: what was there stays there, and is known.
    let copy = open(&state).0;
    assert_eq!(copy.unfinished_jobs().await.unwrap().len(), 1);
    let (fresh, opened) = open(&dir.join("fresh"));
    assert!(matches!(opened, Opened::InMemory(_)), "{opened}");
    fresh.save_job(&job("j2", None)).await.unwrap();
    assert_eq!(fresh.unfinished_jobs().await.unwrap().len(), 1);

    fs::remove_file(&filler).unwrap();
    db.save_job(&large).await.unwrap();
    assert_eq!(open(&dir.join("fresh")).1, Opened::Fresh);
}

#[test]
fn a_full_disk_harms_nothing_that_was_there_and_the_daemon_goes_on() {
    run("disks::full");
}

#[tokio::test]
#[ignore = "the victim of the test below"]
async fn read_only() {
    let (dir, _) = given();
    let state = dir.join("state");
    let (db, _) = open(&state);
    db.save_job(&job("j1", None)).await.unwrap();
    drop(db);
    while state.join("holdfast.db-wal").exists() {
        tokio::task::yield_now().await;
    }
    assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(&dir).status().unwrap().success());

    let lock = DaemonLock::take(&state).unwrap();
    DaemonLock::take(&state).unwrap_err();
    let (db, opened) = open(&state);
    assert!(matches!(opened, Opened::InMemory(_)), "{opened}");
    assert_eq!(db.unfinished_jobs().await.unwrap().len(), 1, "what could be read was not taken over");
    db.save_job(&job("j2", None)).await.unwrap();
    let queue = Queue::new(1, state.join("locks"));
    let caller = Caller { label: "test".into(), cancel: CancellationToken::new() };
    drop(queue.share("id", "b2", &caller, |_| {}).await.unwrap());
    drop(lock);
}

#[test]
fn on_a_read_only_disk_the_daemon_runs_in_memory_with_what_was_known() {
    run("disks::read_only");
}
