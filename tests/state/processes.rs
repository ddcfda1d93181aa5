//! Two processes respect each other's locks.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use holdfast::queue::{Caller, Queue};
use holdfast::state::lock::DaemonLock;
use tokio_util::sync::CancellationToken;

use crate::victim::{Victim, given, say, wait_for_release};

const LONG: Duration = Duration::from_secs(60);

fn caller() -> Caller {
    Caller { label: "test".into(), cancel: CancellationToken::new() }
}

fn quiet(_: Option<String>) {}

#[tokio::test]
#[ignore = "the victim of the tests below"]
async fn victim() {
    let (dir, mode) = given();
    let queue = Queue::new(1, dir);
    let _guard = match mode.as_str() {
        "share" => queue.share("id", "b2", &caller(), quiet).await.unwrap(),
        "alone" => queue.alone("id", "b2", &caller(), quiet).await.unwrap(),
        _ => queue.instance("a1", &caller(), quiet).await.unwrap(),
    };
    say("held");
    tokio::task::spawn_blocking(wait_for_release).await.unwrap();
}

fn holder(dir: &Path, mode: &str) -> Victim {
    let mut victim = Victim::start("processes::victim", dir, mode);
    assert_eq!(victim.hear().as_deref(), Some("held"));
    victim
}

#[tokio::test]
async fn a_writer_elsewhere_is_waited_for_named_and_gone_when_killed() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::new(1, dir.path().to_owned());
    let victim = Mutex::new(holder(dir.path(), "alone"));
    let told = Mutex::new(Vec::new());
    let tell = |why: Option<String>| {
        // The wait has begun: now the other process dies.
        victim.lock().unwrap().kill();
        told.lock().unwrap().push(why);
    };
    let caller = caller();
    let share = tokio::time::timeout(LONG, queue.share("id", "b2", &caller, tell)).await.unwrap().unwrap();
    let id = victim.lock().unwrap().id();
    let expected = [Some(format!("repository b2: another process ({id}) uses it")), None];
    assert_eq!(*told.lock().unwrap(), expected);
    drop(share);
}

#[tokio::test]
async fn readers_of_two_processes_share_and_a_writer_waits_for_both() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::new(1, dir.path().to_owned());
    let victim = Mutex::new(holder(dir.path(), "share"));
    let must_not = |why: Option<String>| panic!("told {why:?}");
    drop(queue.share("id", "b2", &caller(), must_not).await.unwrap());
    let tell = |why: Option<String>| {
        if why.is_some() {
            victim.lock().unwrap().release();
        }
    };
    let caller = caller();
    let guard = tokio::time::timeout(LONG, queue.alone("id", "b2", &caller, tell)).await.unwrap().unwrap();
    assert_eq!(victim.lock().unwrap().hear(), None, "the writer came in beside a reader");
    drop(guard);
}

#[tokio::test]
async fn a_wait_for_another_process_can_be_cancelled_and_leaves_the_lane_free() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::new(1, dir.path().to_owned());
    let mut victim = holder(dir.path(), "instance");
    let caller = caller();
    let cancel = caller.cancel.clone();
    let error = queue.instance("a1", &caller, |_| cancel.cancel()).await.unwrap_err();
    assert_eq!(error.to_string(), "cancelled while waiting for instance a1");
    assert!(queue.is_idle());
    victim.release();
    assert_eq!(victim.hear(), None);
    drop(queue.instance("a1", &self::caller(), |why| panic!("told {why:?}")).await.unwrap());
}

#[tokio::test]
#[ignore = "the victim of the test below"]
async fn readers_that_never_leave_together() {
    let (dir, _) = given();
    let queue = Queue::new(1, dir);
    let mut readers = tokio::task::JoinSet::new();
    for n in 0..4 {
        let queue = queue.clone();
        readers.spawn(async move {
            tokio::time::sleep(Duration::from_millis(10 * n)).await;
            loop {
                let _guard = queue.share("id", "b2", &caller(), quiet).await.unwrap();
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
        });
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    say("held");
    tokio::task::spawn_blocking(wait_for_release).await.unwrap();
    readers.shutdown().await;
}

#[tokio::test]
async fn a_writer_is_not_starved_by_readers_of_another_process() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::new(1, dir.path().to_owned());
    let mut victim = Victim::start("processes::readers_that_never_leave_together", dir.path(), "");
    assert_eq!(victim.hear().as_deref(), Some("held"));
    let caller = caller();
    let writer = tokio::time::timeout(LONG, queue.alone("id", "b2", &caller, quiet)).await;
    drop(writer.expect("the writer starved").unwrap());
    victim.release();
    assert_eq!(victim.hear(), None);
}

#[tokio::test]
async fn other_programs_see_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::new(1, dir.path().to_owned());
    let is_free = || {
        let file = dir.path().join("instance-a1");
        Command::new("flock").arg("-n").arg(file).arg("true").status().expect("flock is needed").success()
    };
    let guard = queue.instance("a1", &caller(), quiet).await.unwrap();
    assert!(!is_free());
    drop(guard);
    assert!(is_free());
}

#[test]
#[ignore = "the victim of the test below"]
fn daemon() {
    let (dir, _) = given();
    let lock = DaemonLock::take(&dir);
    say(&lock.as_ref().map_or_else(|e| format!("{e:#}"), |_| "held".to_owned()));
    wait_for_release();
}

#[test]
fn a_second_daemon_ends_and_the_first_is_undisturbed() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Victim::start("processes::daemon", dir.path(), "");
    assert_eq!(first.hear().as_deref(), Some("held"));
    let mut second = Victim::start("processes::daemon", dir.path(), "");
    let error = second.hear().unwrap();
    assert!(error.contains(&format!("process {}", first.id())), "{error}");
    first.kill();
    let mut third = Victim::start("processes::daemon", dir.path(), "");
    assert_eq!(third.hear().as_deref(), Some("held"), "the lock outlived its daemon");
}
