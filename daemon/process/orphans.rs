//! Children of a daemon that was killed. They die with it, but for those that it had just started: whoever is born after
//! its parent's death hears no signal of that. So each child of our own carries whose it is, and the next start ends the
//! rest before it undoes anything.

use std::ffi::OsString;
use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

const PAUSE: Duration = Duration::from_millis(20);

/// Where a child finds whose it is: `PID:START`, the process and the clock tick at which that began (proc(5)).
const PARENT: &str = "HOLDFAST_PARENT";

/// What is added to the environment of a child that is not to live without us.
pub(super) fn mark() -> Option<(OsString, OsString)> {
    static OWN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let own = OWN.get_or_init(|| {
        let pid = std::process::id();
        Some(format!("{pid}:{}", begin_of(&pid.to_string())?))
    });
    own.as_ref().map(|own| (PARENT.into(), own.into()))
}

/// Kills the children, and theirs, of daemons that are dead, and waits until they are gone, at most `limit`; the ids of
/// those that are not. Blocks. A process that ends loses its environment when it can no longer write, so it need not be
/// reaped.
pub fn end_orphans(limit: Duration) -> Vec<i32> {
    let end = Instant::now() + limit;
    loop {
        let left = orphans();
        if left.is_empty() || Instant::now() >= end {
            return left;
        }
        left.iter().for_each(|pid| kill(*pid));
        std::thread::sleep(PAUSE);
    }
}

fn orphans() -> Vec<i32> {
    let names = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).filter(|pid| is_orphan(*pid)).collect()
}

/// Looks once more when it holds the process itself: its id may belong to another one by now.
fn kill(pid: i32) {
    let held = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    if let Some(held) = held.filter(|_| is_orphan(pid)) {
        // Gone already, or another user's: then it is told as one that is left.
        let _ = pidfd_send_signal(held, Signal::KILL);
    }
}

fn is_orphan(pid: i32) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|entry| names_a_dead_parent(entry).unwrap_or(false))
        && counts_as_we_do(pid)
}

/// Whether it has our process ids: those that a container's daemon wrote mean nothing here, and it ends its own.
fn counts_as_we_do(pid: i32) -> bool {
    let namespace = |who: &str| fs::read_link(format!("/proc/{who}/ns/pid")).ok();
    namespace("self").is_some_and(|own| namespace(&pid.to_string()) == Some(own))
}

fn names_a_dead_parent(entry: &[u8]) -> Option<bool> {
    let parent = std::str::from_utf8(entry).ok()?.strip_prefix(PARENT)?.strip_prefix('=')?;
    let (pid, began) = parent.split_once(':')?;
    Some(begin_of(pid).as_deref() != Some(began))
}

/// The 22nd field of `stat`. The second is a name in parentheses that may hold anything.
fn begin_of(pid: &str) -> Option<String> {
    let pid: u32 = pid.parse().ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (state, rest) = stat.rsplit_once(')')?.1.trim_start().split_once(' ')?;
    // A zombie is dead, whoever has not asked for its end.
    let began = rest.split(' ').nth(18).map(str::to_owned);
    began.filter(|_| state != "Z" && state != "X")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleep(parent: &str) -> std::process::Child {
        #[expect(clippy::disallowed_methods, reason = "stands for a child of another daemon")]
        std::process::Command::new("sleep").arg("600").env(PARENT, parent).spawn().unwrap()
    }

    #[test]
    fn what_a_dead_daemon_left_is_killed_and_nothing_else() {
        let own = mark().unwrap().1.into_string().unwrap();
        let (pid, began) = own.split_once(':').unwrap();
        let mut orphan = sleep(&format!("{pid}:1{began}"));
        let mut other = sleep("garbage");
        let mut ours = sleep(&own);
        assert_eq!(end_orphans(Duration::from_secs(20)), [0; 0]);
        // Ended, though not reaped: what counts is that it does nothing any more.
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&orphan.wait().unwrap()), Some(9));
        for child in [&mut other, &mut ours] {
            assert_eq!(child.try_wait().unwrap(), None, "it still runs");
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn what_has_other_process_ids_is_left_alone() {
        let mark = format!("{PARENT}=4194305:{}", std::process::id());
        #[expect(clippy::disallowed_methods, reason = "stands for a child of a container's daemon")]
        let mut unshare = std::process::Command::new("unshare");
        unshare.args([
            "--user",
            "--map-root-user",
            "--pid",
            "--fork",
            "--kill-child",
            "env",
            &mark,
            "sleep",
            "600",
        ]);
        let mut container = unshare.spawn().unwrap();
        let has_mark = |entry: &fs::DirEntry| {
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
        };
        let start = Instant::now();
        while !fs::read_dir("/proc").unwrap().flatten().any(|entry| has_mark(&entry)) {
            assert!(start.elapsed() < Duration::from_secs(60), "it is not found");
        }
        assert_eq!(end_orphans(Duration::from_secs(20)), [0; 0]);
        assert!(fs::read_dir("/proc").unwrap().flatten().any(|entry| has_mark(&entry)), "it was killed");
        container.kill().unwrap();
        container.wait().unwrap();
    }

    #[test]
    fn the_start_of_a_process_is_found_whatever_its_name() {
        assert_eq!(begin_of("1)x"), None);
        assert_eq!(begin_of("4194305"), None);
        assert!(begin_of(&std::process::id().to_string()).is_some_and(|began| began.parse::<u64>().is_ok()));
    }
}
