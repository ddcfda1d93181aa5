//! The n-th write, sync or rename fails, for all n: old or new is readable, never neither.

use std::fs;
use std::path::Path;

use holdfast::definition::Name;
use holdfast::state::undo::{Recorded, Step, Undo, pending};
use holdfast::state::{Database, JobFilter, Opened, Outcome, durable, identity};
use jiff::Timestamp;

use crate::records::job;
use crate::victim::{command, given, said, say};

#[tokio::test]
#[ignore = "the victim of the test below"]
async fn victim() {
    let (dir, _) = given();
    let (db, opened) = Database::open(&dir, Timestamp::now()).unwrap();
    let on_disk = opened == Opened::Existing;
    let mut done = Vec::new();
    let mut note = |what: &'static str, ok: bool| {
        if ok {
            done.push(what)
        }
    };
    note("meta", db.set_meta("value", "new").await.is_ok() && on_disk);
    note("job", db.save_job(&job("j1", Some(Outcome::Failed))).await.is_ok() && on_disk);
    note("file", durable::write(&dir.join("file"), 0o600, b"new").is_ok());
    note("identity", identity(&dir, &Name::parse("a1").unwrap(), None).is_ok());
    let undo = Undo::begin(&dir.join("undo"), "j1").unwrap();
    let first = undo.push(Step::RemoveDir { path: "/a".into() }).await;
    note("step", first.is_ok());
    note("step 2", undo.push(Step::RemoveDir { path: "/b".into() }).await.is_ok());
    if let Ok(first) = first {
        note("done", undo.done(first).await.is_ok());
    }
    done.into_iter().for_each(say);
}

async fn template(dir: &Path) {
    let (db, _) = Database::open(dir, Timestamp::now()).unwrap();
    db.set_meta("value", "old").await.unwrap();
    db.save_job(&job("j1", None)).await.unwrap();
    fs::write(dir.join("file"), "old").unwrap();
}

/// Runs the victim with the n-th of these system calls failing; false when it makes fewer.
async fn fail(calls: &str, error: &str, n: usize) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    template(&state).await;
    let trace = dir.path().join("trace");
    let (only, inject) = (format!("trace={calls}"), format!("inject={calls}:error={error}:when={n}"));
    let wrapper = ["strace", "-f", "-qq", "-o", trace.to_str().unwrap(), "-e", &only, "-e", &inject];
    let output = command(&wrapper, "faults::victim", &state, "").output().expect("strace is needed");
    let context = format!("{calls} {n} {error}");
    assert!(output.status.success(), "{context}: {}", String::from_utf8_lossy(&output.stdout));
    let done: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().filter_map(said).collect();
    check(&state, &done, &context).await;
    fs::read_to_string(&trace).unwrap().contains("INJECTED")
}

async fn check(state: &Path, done: &[String], context: &str) {
    let done = |what: &str| done.iter().any(|done| done == what);
    let (db, opened) = Database::open(state, Timestamp::now()).unwrap();
    assert_eq!(opened, Opened::Existing, "{context}");
    let value = db.meta("value").await.unwrap().unwrap();
    assert!(value == "new" || (value == "old" && !done("meta")), "{context}: {value}");
    let jobs = db.jobs(JobFilter::default()).await.unwrap();
    assert_eq!((jobs.len(), jobs[0].units.len()), (1, 3), "{context}");
    assert_eq!(jobs[0].units[2].outcome, jobs[0].outcome, "{context}");
    assert!(jobs[0].outcome.is_some() || !done("job"), "{context}: the outcome is lost");
    let file = fs::read_to_string(state.join("file")).unwrap();
    assert!(file == "new" || (file == "old" && !done("file")), "{context}: {file:?}");
    let first = state.join("instances/a1").exists();
    assert!(first || !done("identity"), "{context}: the identity is lost");
    identity(state, &Name::parse("a1").unwrap(), None).unwrap();

    let pending = pending(&state.join("undo")).unwrap();
    let steps: Vec<usize> = pending.iter().flat_map(|of| of.steps.iter().map(|step| step.0)).collect();
    assert!(pending.iter().all(|of| of.problems.is_empty()), "{context}: {pending:?}");
    let second = Recorded::Known(Step::RemoveDir { path: "/b".into() });
    let found = pending.iter().flat_map(|of| &of.steps).any(|(_, step)| *step == second);
    assert!(found || !done("step 2"), "{context}: a step is lost: {pending:?}");
    assert!(!done("done") || !steps.contains(&0), "{context}: {pending:?}");
}

async fn fail_all(calls: &str, error: &str) {
    let mut n = 1;
    while fail(calls, error, n).await {
        n += 1;
    }
    assert!(n > 1, "no {calls} was made: the test tests nothing");
}

#[tokio::test]
async fn a_write_that_fails_leaves_old_or_new() {
    fail_all("pwrite64", "ENOSPC").await;
}

#[tokio::test]
async fn a_sync_that_fails_leaves_old_or_new() {
    fail_all("fsync,fdatasync", "EIO").await;
}

#[tokio::test]
async fn a_rename_that_fails_leaves_old_or_new() {
    fail_all("rename,renameat,renameat2,link,linkat,mkdir,mkdirat", "ENOSPC").await;
}

#[tokio::test]
async fn a_change_of_size_or_mode_that_fails_leaves_old_or_new() {
    fail_all("ftruncate,fchmod,fallocate", "ENOSPC").await;
}

/// What a definition of a discovered stack, a pin, the result of a recovery are written by.
#[test]
#[ignore = "the victim of the test below"]
fn writer() {
    let (dir, new) = given();
    durable::write(&dir.join("stacks/shop.toml"), 0o600, new.as_bytes()).unwrap();
    say("written");
}

/// Killed at the n-th of its system calls, for all n: the file is old or new, nothing beside it ends in `.toml`, the next
/// start removes what is left, and what was written before the answer is synced before it got its name.
#[test]
fn a_kill_at_any_call_of_a_write_leaves_old_or_new() {
    let new = "[instance.shop]\n".repeat(500);
    for n in 1.. {
        let dir = tempfile::tempdir().unwrap();
        let (stacks, trace) = (dir.path().join("stacks"), dir.path().join("trace"));
        fs::create_dir(&stacks).unwrap();
        fs::write(stacks.join("shop.toml"), "old").unwrap();
        let calls =
            "write,pwrite64,fsync,fdatasync,fchmod,rename,renameat,renameat2,link,linkat,unlink,unlinkat";
        let (only, kill) = (format!("trace={calls}"), format!("inject={calls}:signal=KILL:when={n}"));
        let wrapper = ["strace", "-f", "-qq", "-y", "-o", trace.to_str().unwrap(), "-e", &only, "-e", &kill];
        let output =
            command(&wrapper, "faults::writer", dir.path(), &new).output().expect("strace is needed");
        let written = String::from_utf8(output.stdout).unwrap().lines().filter_map(said).next().is_some();
        let is = fs::read_to_string(stacks.join("shop.toml")).unwrap();
        assert!(is == new || is == "old" && !written, "{n}: {} bytes", is.len());
        let beside: Vec<_> = fs::read_dir(&stacks)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .filter(|n| n != "shop.toml")
            .collect();
        assert!(
            beside.iter().all(|name| name.to_str().unwrap().starts_with(".holdfast-")
                && !name.to_str().unwrap().ends_with(".toml")),
            "{beside:?}"
        );
        if !fs::read_to_string(&trace).unwrap().contains("killed by SIGKILL") {
            assert!(n > 4 && written && is == new, "only {n} calls: the test tests nothing");
            ordered(&fs::read_to_string(&trace).unwrap());
            return;
        }
    }
}

/// The content is on the disk before it has its name, and the name before the answer.
fn ordered(trace: &str) {
    let at = |what: &dyn Fn(&str) -> bool| trace.lines().position(what).unwrap_or_else(|| panic!("{trace}"));
    let content = at(&|line| line.contains("sync(") && line.contains("/stacks/.holdfast-"));
    let name = at(&|line| line.contains("rename") && line.contains("/stacks/shop.toml"));
    let dir = at(&|line| line.contains("sync(") && line.contains("/stacks>"));
    let answer = at(&|line| line.contains("write(") && line.contains("said: written"));
    assert!(content < name && name < dir && dir < answer, "{trace}");
}
