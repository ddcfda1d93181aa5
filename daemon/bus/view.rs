//! The Manager's view of the daemon.

/// What the Manager shows of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ManagerView {
    pub(super) restic_version: String,
    pub(super) findings: Vec<String>,
    pub(super) paused: bool,
    pub(super) paused_until: u64,
    pub(super) active_jobs: u32,
}
