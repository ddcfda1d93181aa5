//! Whether a silent child works: its CPU time and I/O, from /proc.

use std::time::Duration;

/// What a child must have read and written between two looks to count as alive, in bytes, its output to us left out.
const SOME_IO: u64 = 64 << 10;

/// How much of the time it must have computed to count as alive, in percent.
const SOME_CPU: u32 = 5;

/// What a child has done so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Work {
    io: u64,
    cpu: Duration,
}

impl Work {
    /// Looks at a process. All zero when it cannot be seen.
    pub(super) fn of(pid: i32) -> Self {
        Self { io: io(pid).unwrap_or(0), cpu: cpu(pid).unwrap_or_default() }
    }

    /// Looks at all processes of a control group, named as systemd does (`/system.slice/x.service`).
    pub(super) fn of_group(name: &str) -> Self {
        let all = processes(name).into_iter().map(Self::of);
        all.fold(Self::default(), |sum, one| Self { io: sum.io + one.io, cpu: sum.cpu + one.cpu })
    }

    /// Whether this much was done since an earlier look that it counts as a sign of life.
    pub(super) fn advanced(self, before: Self, since: Duration, heard: u64) -> bool {
        let io = self.io.saturating_sub(before.io).saturating_sub(heard);
        io >= SOME_IO || self.cpu.saturating_sub(before.cpu) * 100 >= since * SOME_CPU
    }
}

/// Bytes through `read` and `write`, sockets and pipes included.
fn io(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.trim().parse::<u64>().ok());
    Some(field("rchar:")?.saturating_add(field("wchar:")?))
}

/// The processes of a control group, in whichever of its layouts the machine has: unified, hybrid or legacy.
fn processes(name: &str) -> Vec<i32> {
    let places = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"];
    let read = |place: &&str| std::fs::read_to_string(format!("{place}{name}/cgroup.procs")).ok();
    let text = places.iter().find_map(read).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Time on a CPU, its own and that of children that it waited for; the kernel counts it in hundredths of a second on every architecture that we are built for.
fn cpu(pid: i32) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = 0_u64;
    for _ in ["utime", "stime", "cutime", "cstime"] {
        ticks = ticks.saturating_add(fields.next()?.parse().ok()?);
    }
    Some(Duration::from_millis(ticks.saturating_mul(10)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_seen_and_idleness_too() {
        let own = i32::try_from(std::process::id()).unwrap();
        let before = Work::of(own);
        assert!(before.io > 0);
        let _ = std::fs::read("/proc/self/exe").unwrap();
        assert!(Work::of(own).advanced(before, Duration::from_secs(1), 0));
        assert!(!before.advanced(before, Duration::from_secs(1), 0));
    }
}
