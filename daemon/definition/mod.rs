//! Valid definitions as plain data: what the daemon was told to do.
//!
//! `config` makes them from TOML, every other room reads them. Nothing here knows TOML, D-Bus or restic's flags,
//! and nothing here touches the file system: a definition says what should be, not what is.

mod backup;
mod dump;
mod instance;
mod moves;
mod name;
mod recovery;
mod remote;
mod repository;
mod service;
mod stack;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

pub use backup::{Allow, Backup, Retention, Retry, Selector};
pub use dump::{
    Command, Container, Dump, Engine, Etcd, Mongo, Openldap, Rabbit, Search, Server, Source, Tls,
};
pub use instance::{Health, Instance, Owners, Restore, Version, VersionMatch, VolumePlace, Volumes};
pub use moves::Moves;
pub use name::{MAX_NAME, Name};
pub use recovery::Recovery;
pub use remote::{Address, Remote};
pub use repository::{Check, Layout, Password, Prune, Repository};
pub use service::{Manager, Ran, STOP_TIMEOUT, Service, StopUntil};
pub use stack::{Stack, StackDump};

/// Everything that is defined, in one consistent state. A reload makes a new one; running jobs keep theirs.
#[derive(Debug, Clone)]
pub struct Definitions {
    /// Settings of the daemon itself.
    pub daemon: Daemon,
    /// Whether compose projects whose labels ask for it become instances.
    pub discover_docker: bool,
    /// Repositories by name.
    pub repositories: BTreeMap<Name, Arc<Repository>>,
    /// Backups by name.
    pub backups: BTreeMap<Name, Arc<Backup>>,
    /// Instances by name, each with its module's keys already merged in.
    pub instances: BTreeMap<Name, Arc<Instance>>,
}

/// Settings of the daemon itself: the table `[daemon]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Daemon {
    /// Where dumps and trees are staged; 0700.
    pub staging_dir: PathBuf,
    /// The IANA zone that schedules are read in.
    pub timezone: jiff::tz::TimeZone,
    /// restic processes at once, over all repositories.
    pub max_parallel: usize,
    /// The host name stored in snapshots.
    pub host: String,
    /// The restic program: an absolute path, or a bare name to be found on PATH.
    pub restic: PathBuf,
    /// Where the Prometheus text file is written; none: no metrics file.
    pub metrics_file: Option<PathBuf>,
}

impl Definitions {
    /// The instances that a backup covers now: its selectors applied to what is defined.
    pub fn instances_of(&self, backup: &Backup) -> Vec<Arc<Instance>> {
        self.instances.values().filter(|i| backup.instances.iter().any(|s| s.matches(i))).cloned().collect()
    }
}
