//! How long ago something was, whatever became of the clock since: machines without a battery start years behind, and are
//! set right minutes later.

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// A moment of one boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    id: String,
    seconds: i64,
}

impl Boot {
    /// Now; none where the kernel does not tell.
    pub(super) fn now() -> Option<Self> {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        Some(Self { id, seconds: clock_gettime(ClockId::Boottime).tv_sec })
    }

    /// The seconds from this moment to a later one; none: that is of another boot.
    pub(super) fn until(&self, later: &Self) -> Option<i64> {
        (self.id == later.id).then(|| later.seconds.saturating_sub(self.seconds))
    }
}

#[cfg(test)]
pub(super) fn moment(id: &str, seconds: i64) -> Boot {
    Boot { id: id.into(), seconds }
}
