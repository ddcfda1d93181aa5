//! What can go wrong with a call, as a caller needs to tell it apart.

use std::path::PathBuf;
use std::time::Duration;

use super::{LockInfo, Version};
use crate::process;

/// What went wrong with a call. No text in it holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is definitely no repository at that place: the only error after which `init` is right.
    #[error("there is no restic repository")]
    NoRepository,
    /// `init` met a repository, or the rest of one.
    #[error("there is a restic repository already")]
    AlreadyExists,
    /// Somebody holds a lock that forbids this.
    #[error("the repository is locked{}", holder.as_deref().map(|h| format!(" by {h}")).unwrap_or_default())]
    Locked {
        /// Who, if it could be told.
        holder: Option<Box<LockInfo>>,
    },
    /// The password opens no key.
    #[error("wrong password, or no key for it in the repository")]
    WrongPassword,
    /// The password could not be read.
    #[error("the password could not be read: {0}")]
    NoPassword(String),
    /// The storage does not answer.
    #[error("the storage is unreachable: {0}")]
    Unreachable(String),
    /// The storage answers, but not to us.
    #[error("the storage refuses access: {0}")]
    Denied(String),
    /// The storage refuses to delete: it is append-only.
    #[error("the storage refuses to delete")]
    RefusedDelete,
    /// A disk is full: the repository's, the cache's or the temporary one.
    #[error("no space left: {0}")]
    NoSpace(String),
    /// `forget` left some snapshots.
    #[error("these snapshots could not be removed: {}", left.join(", "))]
    Partial {
        /// Their ids, as far as restic told.
        left: Vec<String>,
    },
    /// The repository is broken.
    #[error("the repository is damaged: {0}")]
    Damaged(String),
    /// The snapshot, or the path in it, does not exist.
    #[error("no such snapshot or path: {0}")]
    NoSnapshot(String),
    /// None of the paths to be saved exists.
    #[error("nothing to back up: none of the paths exists")]
    NothingToBackUp,
    /// The call was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The call took too long.
    #[error("no end after {}", human(*.0))]
    TimedOut(Duration),
    /// The call made no progress.
    #[error("no progress for {}", human(*.0))]
    Stalled(Duration),
    /// Something else ended restic: the kernel's out-of-memory killer (9), or somebody.
    #[error("restic was ended by signal {signal} from outside")]
    Killed {
        /// The signal.
        signal: i32,
    },
    /// restic claims success, but did not say what it did.
    #[error("restic ended without a result")]
    NoSummary,
    /// restic is not where it should be.
    #[error("restic not found: {}", .0.display())]
    NotFound(PathBuf),
    /// The program is there, but does not answer like restic.
    #[error("{} does not work as restic: {reason}", program.display())]
    NotRestic {
        /// The program.
        program: PathBuf,
        /// What it did.
        reason: String,
    },
    /// restic is too old for us.
    #[error("restic {found} is too old, at least {needed} is needed")]
    TooOld {
        /// The version found.
        found: Version,
        /// The oldest that will do.
        needed: Version,
    },
    /// A request that restic would misunderstand.
    #[error("{0}")]
    Unusable(String),
    /// A file of ours could not be read or written.
    #[error("{what}: {source}")]
    File {
        /// What was being done with it.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The process could not be run.
    #[error(transparent)]
    Process(process::Error),
    /// Anything else; unknown exit codes are failures.
    #[error("restic failed with code {code}: {stderr}")]
    Unknown {
        /// The exit code.
        code: i32,
        /// The end of its messages.
        stderr: String,
    },
}

impl Error {
    /// The same with another text of restic's in it, one without secrets.
    pub(super) fn with_detail(self, detail: String) -> Self {
        match self {
            Self::NoPassword(_) => Self::NoPassword(detail),
            Self::Unreachable(_) => Self::Unreachable(detail),
            Self::Denied(_) => Self::Denied(detail),
            Self::NoSpace(_) => Self::NoSpace(detail),
            Self::Damaged(_) => Self::Damaged(detail),
            Self::NoSnapshot(_) => Self::NoSnapshot(detail),
            other => other,
        }
    }

    /// Whether the same call may succeed later, without anybody changing something.
    pub const fn retryable(&self) -> bool {
        match self {
            Self::Locked { .. } | Self::Unreachable(_) | Self::NoSpace(_) | Self::Partial { .. } => true,
            Self::TimedOut(_) | Self::Stalled(_) | Self::Killed { .. } | Self::NoSummary => true,
            Self::Unknown { .. } | Self::Process(_) | Self::File { .. } => true,
            Self::NoRepository | Self::AlreadyExists | Self::WrongPassword | Self::NoPassword(_) => false,
            Self::Denied(_) | Self::RefusedDelete | Self::Damaged(_) | Self::NoSnapshot(_) => false,
            Self::NothingToBackUp | Self::Cancelled | Self::NotFound(_) | Self::NotRestic { .. } => false,
            Self::TooOld { .. } | Self::Unusable(_) => false,
        }
    }

    /// What to do about it, in one sentence.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::NoRepository => "check the URL; create the repository if this is its first use",
            Self::AlreadyExists => "use it with its password, or choose another place",
            Self::Locked { holder: Some(h) } if h.ours_and_dead => {
                "its process is dead and restic will let go after 30 minutes; unlock the repository to go on at once"
            }
            Self::Locked { .. } => "wait for the holder; if it is dead for certain, unlock the repository",
            Self::WrongPassword => "put the right password into the repository's password file",
            Self::NoPassword(_) => "make the repository's password file readable, with one line in it",
            Self::Unreachable(_) => "check network, address and server; it is tried again",
            Self::Denied(_) => {
                "check the credentials in the repository's environment file and its rights there"
            }
            Self::RefusedDelete => {
                "set append_only = true for this repository, and forget on the server's side"
            }
            Self::NoSpace(_) => "free space where the message points to, or prune the repository",
            Self::Partial { .. } => "run it again; if it stays so, look at the rights to delete",
            Self::Damaged(_) => "stop pruning, copy the repository, then run restic check and restic repair",
            Self::NoSnapshot(_) => "list the snapshots and choose one of them",
            Self::NothingToBackUp => "check the includes: paths, volumes, mounts",
            Self::Cancelled => "run it again when it suits",
            Self::TimedOut(_) | Self::Stalled(_) => "look at network and disks, or allow it more time",
            Self::Killed { signal: 9 } => "look for the out-of-memory killer in the kernel's log",
            Self::Killed { .. } => "find out who sends signals to restic",
            Self::NoSummary | Self::NotRestic { .. } => "check that the configured program is restic itself",
            Self::NotFound(_) => "install restic, or set `restic` to where it is",
            Self::TooOld { .. } => "install a newer restic",
            Self::Unusable(_) => "change the request",
            Self::File { .. } | Self::Process(_) => "mend what the message names",
            Self::Unknown { .. } => {
                "read restic's message; run the same command by `holdfast restic` to see more"
            }
        }
    }
}

impl From<process::Error> for Error {
    fn from(error: process::Error) -> Self {
        match error {
            process::Error::NotFound(program) => Self::NotFound(program),
            other => Self::Process(other),
        }
    }
}

fn human(time: Duration) -> String {
    let time = jiff::SignedDuration::try_from(time).unwrap_or(jiff::SignedDuration::MAX);
    format!("{time:#}")
}
