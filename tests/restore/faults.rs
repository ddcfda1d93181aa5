//! Killed or failing at any moment, each live tree is wholly old or wholly new, and nothing is left lying about.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::tree::Tree;
use super::{House, Options};

/// The trees that are swapped, each by itself.
const TREES: [&str; 5] =
    ["app/state/conf", "app/state/one.txt", "volumes/data/x", "volumes/data/deep", "outside/dir"];

/// What is changed after the backup: something in each.
const CHANGED: [&str; 5] =
    ["app/state/conf/a", "app/state/one.txt", "volumes/data/x", "volumes/data/deep/y", "outside/dir/z"];

fn trees(house: &House) -> Vec<Tree> {
    TREES.map(|path| Tree::of(&house.path(path))).to_vec()
}

async fn furnished(instance: &str) -> (House, Vec<Tree>, Vec<Tree>) {
    let house = House::build(instance).await;
    for n in 0..50 {
        house.daemon.write(&format!("app/state/conf/many/{n}"), "old\n");
    }
    house.back_up().await;
    let saved = trees(&house);
    let newer = make_newer(&house);
    (house, saved, newer)
}

/// Whether all trees are as they were, or as they were saved; anything between fails.
#[track_caller]
fn assert_whole(house: &House, saved: &[Tree], newer: &[Tree], when: &str) -> bool {
    let now = trees(house);
    if now == saved {
        return true;
    }
    for (is, was) in now.iter().zip(newer) {
        is.assert_same(was, &format!("{when}\n{}", house.daemon.log()));
    }
    false
}

async fn killed(points: u32, step: Duration) {
    let (mut house, saved, newer) = furnished("").await;
    for point in 0..points {
        if trees(&house) == saved {
            house.roll_back().await;
        }
        house.start_restore(&Options::new()).await;
        // Not a wait for something: the moment of the blow.
        tokio::time::sleep(step * point).await;
        house.daemon.restart_after_kill().await;
        let done = assert_whole(&house, &saved, &newer, &format!("killed {:?} after the call", step * point));
        house.assert_clean();
        let annexes = house.annexes();
        assert!(done || annexes.is_empty() || point > 0, "undone, and yet there is {annexes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r05_killed_at_ten_moments_of_a_restore_each_tree_is_old_or_new() {
    killed(10, Duration::from_millis(120)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes long; `make soak` or by name"]
async fn soak_r05_killed_at_two_hundred_moments() {
    killed(200, Duration::from_millis(7)).await;
}

/// strace on a daemon; it lets go when dropped.
struct Strace(Child);

impl Strace {
    /// Makes the n-th of these calls fail in each thread.
    fn inject(house: &House, calls: &str, error: &str, n: u32) -> Self {
        Self::inject_one(house, calls, calls, error, n)
    }

    /// The same, and writes down more calls.
    fn inject_one(house: &House, seen: &str, calls: &str, error: &str, n: u32) -> Self {
        let log = house.path("strace.log");
        let _ = std::fs::remove_file(&log);
        let child = Command::new("strace")
            .args(["-f", "-qq", "-o"])
            .arg(&log)
            .args(["-e", &format!("trace={seen}"), "-e", &format!("inject={calls}:error={error}:when={n}")])
            .args(["-p", &house.daemon.pid().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("strace runs (package strace)");
        let traced = || {
            let status =
                std::fs::read_to_string(format!("/proc/{}/status", house.daemon.pid())).unwrap_or_default();
            status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
        };
        super::support::until("strace is attached", traced);
        Self(child)
    }

    /// Ends it; whether a call failed.
    fn end(mut self, house: &House) -> bool {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.0.wait().unwrap();
        house.daemon.read("strace.log").contains("(INJECTED)")
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn make_newer(house: &House) -> Vec<Tree> {
    for path in CHANGED {
        house.daemon.write(path, "newer\n");
    }
    trees(house)
}

/// Restores; a refusal is an end as well.
async fn attempt(house: &House) -> (String, String) {
    let called =
        house.daemon.call::<_, zbus::OwnedObjectPath>("Restore", &("app1", "", Options::new())).await;
    match called {
        Ok(job) => house.ended(&job).await,
        Err(refused) => ("refused".to_owned(), refused.to_string()),
    }
}

async fn each_call_fails(calls: &str, error: &str) {
    let (house, saved, _) = furnished("restore.keep_previous = \"0s\"").await;
    let mut failed = 0;
    for n in 1..200 {
        let newer = make_newer(&house);
        let strace = Strace::inject(&house, calls, error, n);
        let (outcome, said) = attempt(&house).await;
        let injected = strace.end(&house);
        let done = assert_whole(&house, &saved, &newer, &format!("call {n}: {outcome}: {said}"));
        assert_eq!(outcome == "succeeded" || outcome == "warning", done, "call {n}: {outcome}: {said}");
        failed += u32::from(!done);
        if !injected {
            assert!(done && failed > 0, "{failed} failed; {said}");
            return;
        }
    }
    panic!("there are more calls than anybody makes");
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_rename_fails_the_live_data_is_whole() {
    each_call_fails("renameat,renameat2", "EIO").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_new_directory_cannot_be_made_the_live_data_is_whole() {
    each_call_fails("mkdirat,mkdir", "ENOSPC").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_sync_fails_the_live_data_is_whole() {
    each_call_fails("fsync,syncfs", "EIO").await;
}

/// Into a directory: it is there with all that was saved, or not at all; and nothing of it waits for the disk by then.
#[tokio::test(flavor = "multi_thread")]
async fn whichever_sync_fails_a_target_is_there_whole_or_not_at_all() {
    let (house, saved, _) = furnished("").await;
    let target = house.path("brought");
    for call in ["syncfs", "fsync"] {
        let mut failed = 0;
        for n in 1.. {
            if n % 2 == 0 {
                std::fs::create_dir(&target).unwrap();
            }
            let (outcome, said, trace) = brought(&house, &target, call, n).await;
            if ["succeeded", "warning"].contains(&outcome.as_str()) {
                let (brought, lived) = (target.join("state/conf"), house.path(TREES[0]));
                Tree::of(&brought)
                    .moved(&brought, &lived)
                    .assert_same(&saved[0], &format!("{call} {n}: {said}"));
                let moved = trace.find("/brought\"").expect("it was moved to its name");
                assert!(trace[..moved].contains("syncfs("), "all of it is on the disk before: {trace}");
                std::fs::remove_dir_all(&target).unwrap();
            } else {
                let left = std::fs::read_dir(&target).map_or(0, Iterator::count);
                assert_eq!((left, target.exists()), (0, n % 2 == 0), "{call} {n}: {outcome}: {said}");
                failed += 1;
            }
            let _ = std::fs::remove_dir(&target);
            assert_eq!(house.annexes(), Vec::<std::path::PathBuf>::new(), "{call} {n}");
            if !trace.contains("INJECTED") {
                assert!(
                    outcome == "succeeded" && failed >= 1,
                    "{failed} of {call} failed: {outcome}: {said}"
                );
                break;
            }
            assert!(call == "fsync" || said.contains("brought"), "{n}: {said}");
        }
    }
}

/// A restore into a directory, the n-th such call of each thread of which fails: outcome, message, trace.
async fn brought(house: &House, target: &std::path::Path, call: &str, n: u32) -> (String, String, String) {
    let strace = Strace::inject_one(house, "syncfs,fsync,rename,renameat,renameat2", call, "EIO", n);
    let options = super::option("target", target.display().to_string());
    let called = house.daemon.call::<_, zbus::OwnedObjectPath>("Restore", &("app1", "", options)).await;
    let (outcome, said) = match called {
        Ok(job) => house.ended(&job).await,
        Err(refused) => ("refused".to_owned(), refused.to_string()),
    };
    strace.end(house);
    (outcome, said, house.daemon.read("strace.log"))
}
