//! What a restore changes in a server, as written into undo steps and records of kept data.

use serde::{Deserialize, Serialize};

use super::Record;
use crate::target::TreePath;

/// A change, and all that is needed to take it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Change {
    /// A database was made for this job.
    DropDatabase {
        /// Its name.
        database: String,
    },
    /// Roles were made that were not there.
    DropRoles {
        /// Their names.
        roles: Vec<String>,
    },
    /// Databases changed names.
    Swapped {
        /// Each of them.
        pairs: Vec<Pair>,
    },
    /// What is on a server only while a dump or a restore works.
    Leftovers,
    /// What lived was dumped before it was replaced.
    Reload {
        /// Where that dump lies: `dumps/…` below it.
        dir: TreePath,
        /// Its files.
        records: Vec<Record>,
        /// What it speaks of, where the engine has databases.
        databases: Databases,
    },
}

/// The databases that a restore replaces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Databases {
    /// Those that were there before.
    pub here: Vec<String>,
    /// Those that were not.
    pub made: Vec<String>,
}

/// Two databases of which one carries the name that applications know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The name that applications know.
    pub live: String,
    /// The old one's number, which renaming does not change; none: there was none.
    pub old: Option<u32>,
    /// What the old one is called while it does not live.
    pub old_name: String,
    /// The new one's number.
    pub new: Option<u32>,
    /// What the new one is called while it does not live.
    pub new_name: String,
}

impl Pair {
    /// Old and new exchanged.
    pub(super) fn mirrored(&self) -> Self {
        Self {
            live: self.live.clone(),
            old: self.new,
            old_name: self.new_name.clone(),
            new: self.old,
            new_name: self.old_name.clone(),
        }
    }
}
