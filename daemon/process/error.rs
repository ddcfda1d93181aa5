//! Why a child could not be run to its end.

use std::path::PathBuf;

/// Why a child could not be run to its end. A child that ran and failed is not an error here: see [`super::Ended`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is not where it should be, or not on PATH.
    #[error("program not found: {}", .0.display())]
    NotFound(PathBuf),
    /// The program is there, but cannot be executed.
    #[error("program {} cannot be executed: {reason}", program.display())]
    NotExecutable {
        /// The program.
        program: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// The directory that the program was to run in is missing.
    #[error("directory {} to run {} in: {source}", dir.display(), program.display())]
    Directory {
        /// The program.
        program: PathBuf,
        /// The directory.
        dir: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// `setpriv` (util-linux) is missing; without it no child dies with the daemon.
    #[error("setpriv not found on PATH: install util-linux")]
    NoSetpriv,
    /// Only root may run programs as somebody else.
    #[error("cannot run {} as user {user}: only root can; run the daemon as root or as {user}", program.display())]
    OtherUser {
        /// The program.
        program: PathBuf,
        /// Who should have run it.
        user: String,
    },
    /// The system refused to start it.
    #[error("starting {}: {source}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Its pipes or its end could not be watched.
    #[error("watching {}: {source}", program.display())]
    Watch {
        /// The program.
        program: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// It outlived SIGKILL: it hangs in the kernel, mostly on a dead disk or network file system.
    #[error("{} (pid {pid}) did not end after SIGKILL: it hangs in the kernel; look at its disks and mounts", program.display())]
    Unkillable {
        /// The program.
        program: PathBuf,
        /// Its process id.
        pid: i32,
    },
    /// It printed more than was allowed.
    #[error("{} printed more than {limit} bytes", program.display())]
    TooMuchOutput {
        /// The program.
        program: PathBuf,
        /// The limit, in bytes.
        limit: usize,
    },
}
