//! restic as a tool: one file per subcommand, typed errors, nothing of jobs, schedules or TOML.
//!
//! [`Restic::probe`] finds the program and its version. Every call takes an [`Access`] (which repository, with which
//! secrets) and [`Terms`] (how long, whether to wait for locks, what cancels it). A call is one process, with these
//! exceptions: a lock that our own dead process left is removed and the call made again; a wait for somebody else's lock
//! repeats it; and restic before 0.17, which says 1 to everything, is asked a second, cheap question after a failure.
//!
//! Facts are measured on restic 0.14.0, 0.18.0 and 0.19.1 (`tests/restic/` holds them).

mod access;
mod archive;
mod backup;
mod call;
mod check;
mod classify;
mod dump;
mod error;
mod forget;
mod init;
mod lock;
mod ls;
mod notes;
mod probe;
mod prune;
mod raw;
mod restore;
mod snapshots;
mod stats;
mod stream;
mod terms;

pub use access::{Access, local_path, private_dir, write_private};
pub use archive::Passed;
pub use backup::{BackupRequest, BackupSummary, Progress};
pub use error::Error;
pub use lock::LockInfo;
pub use ls::Entry;
pub use probe::{OLDEST, Restic, Version};
pub use restore::RestoreRequest;
pub use snapshots::{Snapshot, SnapshotSummary, Snapshots, same_snapshot};
pub use stats::Stats;
pub use stream::StreamRequest;
pub use terms::Terms;

#[cfg(test)]
mod tests {
    use super::*;

    fn spawnable<T: Send>(_: &T) {}

    #[tokio::test]
    async fn calls_can_be_spawned() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("restic");
        std::fs::write(&program, "#!/bin/sh\necho restic 0.18.0 compiled\n").unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let restic = Restic::probe(&program).await.unwrap();
        let access =
            Access::prepare(dir.path(), "/r", &dir.path().join("p"), vec![], &dir.path().join("c")).unwrap();
        let terms = Terms::new(&tokio_util::sync::CancellationToken::new());
        let request = BackupRequest::default();
        spawnable(&restic.backup(&access, &request, &terms, |_| ()));
        spawnable(&restic.forget(&access, &["0123456789abcdef"], &terms));
        spawnable(&restic.config_id(&access, &terms));
        let target = RestoreRequest {
            snapshot: String::new(),
            target: "/".into(),
            includes: vec![],
            verify: false,
            over: false,
        };
        spawnable(&restic.restore(&access, &target, &terms, |_| ()));
    }
}
