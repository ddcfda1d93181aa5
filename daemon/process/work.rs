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

    /// Looks at a control group, named as systemd does (`/system.slice/x.service`). Its I/O is not counted.
    pub(super) fn of_group(name: &str) -> Self {
        Self { io: 0, cpu: group_cpu(name).unwrap_or_default() }
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

/// Time on a CPU of all that a control group ever held, in whichever layout the machine has: unified, hybrid or legacy.
fn group_cpu(name: &str) -> Option<Duration> {
    if name.is_empty() {
        return None;
    }
    for place in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        let Ok(text) = std::fs::read_to_string(format!("{place}{name}/cpu.stat")) else { continue };
        let usage = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
        return usage.trim().parse().ok().map(Duration::from_micros);
    }
    let usage = std::fs::read_to_string(format!("/sys/fs/cgroup/cpuacct{name}/cpuacct.usage")).ok()?;
    usage.trim().parse().ok().map(Duration::from_nanos)
}

/// Time on a CPU, its own and that of children that it waited for; the kernel counts it in hundredths of a
/// second on every architecture that we are built for.
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
