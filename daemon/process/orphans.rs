//! Children of a daemon that was killed: they are killed with it, but for a moment they still write.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(20);

/// Waits until no other process has this path in its environment, at most `limit`; the ids of those that still have.
/// Blocks. A process that ends loses its environment when it can no longer write, so it need not be reaped.
pub fn await_orphans(path: &Path, limit: Duration) -> Vec<i32> {
    let end = Instant::now() + limit;
    loop {
        let left = with_path(path);
        if left.is_empty() || Instant::now() >= end {
            return left;
        }
        std::thread::sleep(PAUSE);
    }
}

fn with_path(path: &Path) -> Vec<i32> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let names = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.file_name());
    let pids = names.filter_map(|name| name.to_str()?.parse().ok()).filter(|pid| *pid != own);
    pids.filter(|pid| knows(*pid, path.as_os_str().as_bytes())).collect()
}

fn knows(pid: i32, path: &[u8]) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.windows(path.len().max(1)).any(|window| window == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_the_path_is_waited_for_until_it_ends() {
        let marker = tempfile::tempdir().unwrap();
        #[expect(clippy::disallowed_methods, reason = "stands for a child of another daemon")]
        let mut child =
            std::process::Command::new("sleep").arg("600").env("MARKER", marker.path()).spawn().unwrap();
        let start = Instant::now();
        while with_path(marker.path()).is_empty() {
            assert!(start.elapsed() < Duration::from_secs(20), "it is not found");
        }
        let pid = i32::try_from(child.id()).unwrap();
        assert_eq!(await_orphans(marker.path(), Duration::from_millis(50)), [pid]);
        child.kill().unwrap();
        // Not reaped yet: what counts is that it does nothing any more.
        assert_eq!(await_orphans(marker.path(), Duration::from_secs(20)), [0; 0]);
        child.wait().unwrap();
    }
}
