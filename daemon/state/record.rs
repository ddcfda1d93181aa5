//! What is remembered of jobs and sets: plain records, and the words for where they stand.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Makes an enum whose variants have one word each, used in the database, on the bus and in JSON.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+ }

        impl $name {
            /// All of them, in order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word for it.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The one that a word means.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(self.word()) }
        }
    };
}

words! {
    /// What a job does.
    Kind {
        /// Makes a set per instance and repository.
        #[default]
        Backup = "backup",
        /// Puts a set back.
        Restore = "restore",
        /// Swaps a restore back.
        Rollback = "rollback",
        /// Restores a failed service by itself.
        Recover = "recover",
        /// Removes sets by retention.
        Forget = "forget",
        /// Removes unused data.
        Prune = "prune",
        /// Checks a repository.
        Check = "check",
        /// Proves that a set restores.
        Drill = "drill",
        /// Copies sets between repositories.
        Copy = "copy",
        /// Takes archives in.
        Import = "import",
    }
}

words! {
    /// Where a unit stands; ordered by how far it is.
    Phase {
        /// Waits for a lock or a permit.
        #[default]
        Queued = "queued",
        /// Looks, touches nothing.
        Preflight = "preflight",
        /// Restore: decides what will be done.
        Plan = "plan",
        /// Restore: brings the data beside the live tree.
        Fetch = "fetch",
        /// Stops what must stand still.
        Quiesce = "quiesce",
        /// Exports data sources.
        Dump = "dump",
        /// restic stores the tree.
        Snapshot = "snapshot",
        /// Restore: sets the live data aside.
        Safety = "safety",
        /// Restore: puts the new data in place.
        Apply = "apply",
        /// Starts what was stopped.
        Resume = "resume",
        /// Restore: asks whether it works.
        Health = "health",
        /// Restore: puts the old data back.
        Rollback = "rollback",
        /// Removes what was staged.
        Cleanup = "cleanup",
        /// Forgets old sets.
        Retention = "retention",
        /// The unit is over.
        Done = "done",
    }
}

words! {
    /// How a unit or job ended; ordered from best to worst as a job takes them from its units.
    Outcome {
        /// It was right not to run.
        #[default]
        Skipped = "skipped",
        /// Everything asked for was done.
        Succeeded = "succeeded",
        /// A set exists, but something needs a look.
        Warning = "warning",
        /// Somebody ended it.
        Cancelled = "cancelled",
        /// The daemon or the machine died.
        Interrupted = "interrupted",
        /// It did not do what was asked.
        Failed = "failed",
    }
}

/// One execution of something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its identity, fit for a D-Bus object path and a restic tag: `j20261121T074500Z_3f9a2c`.
    pub id: String,
    /// What it does.
    pub kind: Kind,
    /// What it is about: the name of a backup, an instance or a repository.
    pub subject: String,
    /// Who asked: `schedule`, `catch-up`, `uid 1000`, `startup`.
    pub cause: String,
    /// When it was asked for.
    pub queued: Timestamp,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// The least advanced phase of its units.
    pub phase: Phase,
    /// How it ended; none: not yet.
    pub outcome: Option<Outcome>,
    /// What went wrong, or empty.
    pub error: String,
    /// Bytes read so far.
    pub bytes_done: u64,
    /// Bytes to be read, as far as known.
    pub bytes_total: u64,
    /// Files done so far.
    pub files_done: u64,
    /// Its parts.
    pub units: Vec<UnitRecord>,
}

/// The part of a job for one instance and one repository. A new one is queued and has no outcome.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UnitRecord {
    /// The instance, or empty where there is none (prune, check).
    pub instance: String,
    /// The repository.
    pub repository: String,
    /// Where it stands.
    pub phase: Phase,
    /// How it ended; none: not yet.
    pub outcome: Option<Outcome>,
    /// The snapshot that it made or used, or empty.
    pub snapshot: String,
    /// What went wrong, or empty; several lines where several things did.
    pub error: String,
    /// Bytes that restic read.
    pub bytes: u64,
    /// Bytes added to the repository.
    pub bytes_added: u64,
    /// Files that restic read.
    pub files: u64,
    /// For how long services of the instance were down meanwhile, in microseconds: the longest of them.
    pub downtime: u64,
}

/// A committed set: all snapshots of one instance from one job, in one repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetRecord {
    /// The repository's name.
    pub repository: String,
    /// What follows the repository's url: empty where instances share it, else `module/uuid`.
    pub location: String,
    /// The job that made it: the value of the tag `set=`.
    pub set: String,
    /// The tree snapshot that commits it: restic's full id.
    pub snapshot: String,
    /// The instance's name when it was made.
    pub instance: String,
    /// The instance's identity.
    pub uuid: String,
    /// The backup that made it.
    pub backup: String,
    /// The host name in the snapshot.
    pub host: String,
    /// When the snapshot was made.
    pub time: Timestamp,
    /// Bytes restored when this set is.
    pub size: u64,
    /// Files in it.
    pub files: u64,
    /// The instance's version, or empty.
    pub version: String,
    /// How its unit ended: `Succeeded` or `Warning`; none: not known here.
    pub outcome: Option<Outcome>,
}
