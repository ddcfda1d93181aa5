//! On which terms a call is made.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::process::Limits;

/// On which terms a call is made.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Ends the call: SIGINT first, so that restic removes its lock.
    pub cancel: CancellationToken,
    /// The longest one process may run; none: for ever.
    pub timeout: Option<Duration>,
    /// The longest it may go without progress, CPU time or I/O; none: for ever.
    pub stall: Option<Duration>,
    /// The time between SIGINT, SIGTERM and SIGKILL.
    pub grace: Duration,
    /// How long to wait for somebody else's lock, with back-off, before the call fails as locked.
    pub wait_for_lock: Duration,
    /// Whether it yields CPU, disk and memory to others.
    pub nice: bool,
}

impl Terms {
    /// No time limit, 30 min without progress, 30 s between signals, no wait for locks, yielding.
    pub fn new(cancel: &CancellationToken) -> Self {
        Self {
            cancel: cancel.clone(),
            timeout: None,
            stall: Some(Duration::from_secs(30 * 60)),
            grace: Duration::from_secs(30),
            wait_for_lock: Duration::ZERO,
            nice: true,
        }
    }

    /// The same for a question that should be answered within a time.
    pub fn question(&self, timeout: Duration) -> Self {
        Self { timeout: Some(self.timeout.map_or(timeout, |t| t.min(timeout))), ..self.clone() }
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            timeout: self.timeout,
            stall: self.stall,
            work_counts: true,
            grace: self.grace,
            ..Limits::NONE
        }
    }
}
