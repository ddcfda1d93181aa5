//! Locks: our own dead ones go by themselves, everybody else's stay.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use holdfast::restic::{Error, LockInfo, Terms};
use rustix::process::{Pid, Signal, kill_process};

use crate::each_restic;
use crate::lab::{Lab, until};

/// The restic processes that work on this lab, by id.
pub(crate) fn restics(lab: &Lab) -> Vec<i32> {
    let own = lab.dir.path().to_str().unwrap().to_owned();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let named = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(&own);
        let program = fs::read_link(entry.path().join("exe")).unwrap_or_default();
        if program.ends_with("usr/bin/restic") && (named(&command) || named(&environment)) {
            found.push(pid);
        }
    }
    found
}

pub(crate) fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Runs a long backup and does something to its restic when it is well under way.
pub(crate) async fn disturbed(lab: &Lab, terms: &Terms, disturb: impl FnOnce(i32) + Send) -> Error {
    lab.write_long("tree/data/long");
    let mut disturb = Some(disturb);
    let progress = |progress: holdfast::restic::Progress| {
        if progress.bytes_done > 0
            && let Some(disturb) = disturb.take()
        {
            assert_eq!(lab.locks().len(), 1);
            disturb(restics(lab)[0]);
        }
    };
    lab.restic.backup(&lab.access, &lab.request(&["data"]), terms, progress).await.unwrap_err()
}

each_restic!(a_killed_restic_leaves_a_lock_and_the_next_run_heals_it, |lab| {
    let lab = lab.initialised().await;
    let error = disturbed(&lab, &lab.terms, |pid| signal(pid, Signal::KILL)).await;
    assert!(matches!(error, Error::Killed { signal: 9 }) && error.retryable(), "{error:?}");
    assert!(error.advice().contains("out-of-memory"));
    assert_eq!(lab.locks().len(), 1);
    let locks = lab.restic.locks(&lab.access, &lab.terms).await.unwrap();
    assert!(locks[0].ours_and_dead && !locks[0].exclusive, "{locks:?}");
    lab.restic.prune(&lab.access, "0", &lab.terms).await.unwrap();
    assert!(lab.locks().is_empty());
    lab.restic.check(&lab.access, None, &lab.terms).await.unwrap();
});

each_restic!(a_terminated_restic_is_a_failure_that_heals, |lab| {
    let lab = lab.initialised().await;
    let error = disturbed(&lab, &lab.terms, |pid| signal(pid, Signal::TERM)).await;
    assert!(matches!(error, Error::Killed { .. }), "{error:?}");
    lab.restic.prune(&lab.access, "0", &lab.terms).await.unwrap();
    assert!(lab.locks().is_empty());
});

each_restic!(an_interrupt_from_outside_is_no_success, |lab| {
    let lab = lab.initialised().await;
    let error = disturbed(&lab, &lab.terms, |pid| signal(pid, Signal::INT)).await;
    assert!(matches!(error, Error::Killed { signal: 2 }), "{error:?}");
    assert!(lab.locks().is_empty());
});

each_restic!(a_stopped_restic_is_seen_as_stalled_and_still_takes_its_lock_away, |lab| {
    let lab = lab.initialised().await;
    let terms = Terms { stall: Some(Duration::from_secs(3)), ..lab.terms.clone() };
    let began = Instant::now();
    let error = disturbed(&lab, &terms, |pid| signal(pid, Signal::STOP)).await;
    assert!(matches!(error, Error::Stalled(_)) && error.retryable(), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(30));
    assert!(lab.locks().is_empty() && restics(&lab).is_empty());
});

each_restic!(cancelling_ends_restic_without_a_lock, |lab| {
    let lab = lab.initialised().await;
    let error = disturbed(&lab, &lab.terms, |_| lab.terms.cancel.cancel()).await;
    assert!(matches!(error, Error::Cancelled) && !error.retryable(), "{error:?}");
    assert!(lab.locks().is_empty() && restics(&lab).is_empty());
});

each_restic!(a_time_limit_ends_restic_without_a_lock, |lab| {
    let lab = lab.initialised().await;
    let terms = Terms { timeout: Some(Duration::from_secs(4)), ..lab.terms.clone() };
    let error = disturbed(&lab, &terms, |_| ()).await;
    assert!(matches!(error, Error::TimedOut(_)), "{error:?}");
    assert!(lab.locks().is_empty() && restics(&lab).is_empty());
});

/// A restic that holds a lock under another host's name until it is ended.
struct Foreign(std::process::Child);

impl Foreign {
    #[expect(clippy::disallowed_methods, reason = "stands for another machine, which does not use our room")]
    async fn hold(lab: &Lab) -> Self {
        let script = "hostname elsewhere && exec \"$@\"";
        let mut command = std::process::Command::new("unshare");
        command.args(["--user", "--map-root-user", "--uts", "sh", "-c", script, "sh"]);
        command.arg(lab.restic.path()).args(["backup", "--stdin", "--quiet"]);
        command.env("RESTIC_REPOSITORY", lab.path("repo")).env("RESTIC_PASSWORD_FILE", lab.path("password"));
        command.env("RESTIC_CACHE_DIR", lab.path("cache")).stdin(Stdio::piped()).stdout(Stdio::null());
        let child = command.spawn().unwrap();
        let foreign = Self(child);
        until("a foreign lock", || !lab.locks().is_empty()).await;
        // It waits for others' locks for 200 ms; then it holds.
        tokio::time::sleep(Duration::from_millis(500)).await;
        foreign
    }

    /// Its machine dies: the lock stays.
    fn die(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// It finishes: the lock goes.
    fn finish(mut self) {
        std::io::Write::write_all(self.0.stdin.as_mut().unwrap(), b"data").unwrap();
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn holder(error: &Error) -> &LockInfo {
    match error {
        Error::Locked { holder: Some(holder) } => holder,
        other => panic!("not locked with a holder: {other:?}"),
    }
}

each_restic!(a_foreign_lock_is_waited_for_and_never_removed, |lab| {
    let lab = lab.initialised().await;
    Foreign::hold(&lab).await.die();
    let terms = Terms { wait_for_lock: Duration::from_secs(3), ..lab.terms.clone() };
    let began = Instant::now();
    let error = lab.restic.prune(&lab.access, "0", &terms).await.unwrap_err();
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
    let held = holder(&error);
    assert_eq!((held.host.as_str(), held.ours_and_dead, held.exclusive), ("elsewhere", false, false));
    let age = jiff::Timestamp::now().duration_since(held.created.unwrap());
    assert!(age.as_secs().abs() < 60, "created in UTC: {held:?}");
    assert!(error.retryable() && error.to_string().contains("on elsewhere since"), "{error}");
    assert_eq!(lab.locks().len(), 1);
    // A shared lock does not keep others from saving; by hand the lock goes.
    lab.backup(&["hello"]).await.unwrap();
    lab.restic.unlock(&lab.access, &lab.terms, false).await.unwrap();
    assert_eq!(lab.locks().len(), 1, "not stale yet");
    lab.restic.unlock(&lab.access, &lab.terms, true).await.unwrap();
    assert!(lab.locks().is_empty());
});

each_restic!(a_call_goes_on_when_the_foreign_lock_is_gone, |lab| {
    let lab = lab.initialised().await;
    let foreign = Foreign::hold(&lab).await;
    let terms = Terms { wait_for_lock: Duration::from_secs(60), ..lab.terms.clone() };
    let finish = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        foreign.finish();
    };
    let (result, ()) = tokio::join!(lab.restic.prune(&lab.access, "0", &terms), finish);
    result.unwrap();
});

each_restic!(waiting_for_a_lock_can_be_cancelled, |lab| {
    let lab = lab.initialised().await;
    Foreign::hold(&lab).await.die();
    let terms = Terms { wait_for_lock: Duration::from_secs(600), ..lab.terms.clone() };
    let cancel = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        terms.cancel.cancel();
    };
    let (result, ()) = tokio::join!(lab.restic.prune(&lab.access, "0", &terms), cancel);
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
});

each_restic!(our_dead_lock_goes_but_a_foreign_one_beside_it_stays, |lab| {
    let lab = lab.initialised().await;
    disturbed(&lab, &lab.terms, |pid| signal(pid, Signal::KILL)).await;
    let ours = lab.locks().pop().unwrap();
    let kept = lab.path("kept");
    fs::rename(&ours, &kept).unwrap();
    Foreign::hold(&lab).await.die();
    fs::rename(&kept, &ours).unwrap();
    assert_eq!(lab.locks().len(), 2);
    let error = lab.restic.prune(&lab.access, "0", &lab.terms).await.unwrap_err();
    assert_eq!(holder(&error).host, "elsewhere");
    let left: Vec<PathBuf> = lab.locks().into_iter().filter(|p| *p != ours).collect();
    assert_eq!(left.len(), 1);
});

each_restic!(an_empty_lock_file_hinders_nobody, |lab| {
    let lab = lab.initialised().await;
    lab.write(&format!("repo/locks/{}", "0".repeat(64)), b"");
    lab.backup(&["hello"]).await.unwrap();
    assert!(lab.restic.locks(&lab.access, &lab.terms).await.unwrap().is_empty());
    lab.restic.prune(&lab.access, "0", &lab.terms).await.unwrap();
});

each_restic!(system_a_reused_process_id_does_not_keep_a_dead_lock_alive, |lab| {
    let lab = lab.initialised().await;
    let mut reuser = None;
    // On a busy machine somebody else may have the id by then; with another dead restic it is another id.
    for _ in 0..10 {
        let mut pid = 0;
        disturbed(&lab, &lab.terms, |restic| {
            pid = restic;
            signal(restic, Signal::KILL);
        })
        .await;
        reuser = reuse(pid);
        if reuser.is_some() {
            break;
        }
        // Not by a prune: whoever has the id may have it since the lock's own second, and the lock then stands.
        lab.locks().iter().for_each(|lock| fs::remove_file(lock).unwrap());
    }
    assert!(reuser.is_some(), "no process id could be had again");
    let locks = lab.restic.locks(&lab.access, &lab.terms).await.unwrap();
    assert!(locks[0].ours_and_dead, "{locks:?}");
    lab.restic.prune(&lab.access, "0", &lab.terms).await.unwrap();
    assert!(lab.locks().is_empty());
});

/// A process with a wanted id; none where others are quicker.
#[expect(clippy::disallowed_methods, reason = "no child of the daemon, just somebody with that id")]
fn reuse(pid: i32) -> Option<Foreign> {
    // A lock made in the same second would be given the benefit of the doubt.
    std::thread::sleep(Duration::from_secs(3));
    for _ in 0..2000 {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
        let child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let got = i32::try_from(child.id()).unwrap();
        let child = Foreign(child);
        if got == pid {
            return Some(child);
        }
    }
    None
}
