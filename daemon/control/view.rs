//! What is shown of definitions and jobs: plain data for the bus and the client.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Database;
use crate::definition::Owners;
use crate::job::restore::Edited;
use crate::state::{JobRecord, Outcome, SetRecord};

/// A job as it stands now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// What is stored of it.
    #[serde(flatten)]
    pub record: JobRecord,
    /// What it waits for, or empty.
    pub waiting: String,
    /// 0.0 to 1.0, weighted by bytes.
    pub progress: f64,
}

/// A backup as it stands now.
#[derive(Debug, Clone, PartialEq)]
pub struct BackupView {
    /// Its name.
    pub name: String,
    /// Its schedule as written, `after NAME`, or empty.
    pub schedule: String,
    /// Whether it runs.
    pub enabled: bool,
    /// The instances that it covers now.
    pub instances: Vec<String>,
    /// Where it goes.
    pub repositories: Vec<String>,
    /// When it will run by itself.
    pub next_run: Option<Timestamp>,
    /// When its last job ended.
    pub last_run: Option<Timestamp>,
    /// When its last job ended that made all sets (`succeeded` or `warning`).
    pub last_success: Option<Timestamp>,
    /// How its last job ended.
    pub last_outcome: Option<Outcome>,
    /// What its running job waits for, or what holds back a slot that has come; or empty.
    pub waiting: String,
}

/// A repository as it stands now. No secret.
#[derive(Debug, Clone, PartialEq)]
pub struct RepositoryView {
    /// Its name.
    pub name: String,
    /// Where it is, without a password.
    pub url: String,
    /// `per-instance` or `shared`.
    pub layout: String,
    /// When its last check ended.
    pub last_check: Option<Timestamp>,
    /// When its last prune ended.
    pub last_prune: Option<Timestamp>,
    /// Whether the last check found damage.
    pub damaged: bool,
}

/// An instance as it stands now.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceView {
    /// Its name.
    pub name: String,
    /// Its module, or empty.
    pub module: String,
    /// When its newest committed set was made.
    pub last_success: Option<Timestamp>,
    /// The snapshot of that set, or empty.
    pub last_snapshot: String,
    /// When a set of it was last proven by a restore drill.
    pub last_proven: Option<Timestamp>,
}

/// A set as `ListSnapshots` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetView {
    /// What is stored of it.
    #[serde(flatten)]
    pub record: SetRecord,
    /// `<UTC time>_<version>`.
    pub name: String,
    /// Words with commas between: `latest` of its repository, `pinned`, and towards a recovery `candidate`, `restored`,
    /// `other version`, `taken while unhealthy`, `warning`, `other host`.
    pub standing: String,
}

/// What `ListContents` shows of one instance that a repository holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContentView {
    /// Its module, or empty.
    pub module: String,
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uuid: String,
    /// The host of its newest set.
    pub host: String,
    /// When that was made.
    pub last_set: Option<Timestamp>,
    /// Bytes of it.
    pub size: u64,
    /// Whether an instance of this identity is defined here.
    pub defined_here: bool,
}

/// What a recovery may be told besides its instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoverOptions {
    /// Whether the failed data is kept; none: as defined.
    pub save_failed: Option<bool>,
    /// Nothing is stopped or started.
    pub no_start: bool,
    /// Earlier attempts do not count against the bound any more.
    pub acknowledge: bool,
}

/// What an import may be told besides its instance and archive.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImportOptions {
    /// Into this repository; none: the first of the instance's backups.
    pub repository: Option<String>,
    /// Parts of the archive, and the places where they belong.
    pub map: Vec<(String, String)>,
    /// Parts of the archive that are left out.
    pub exclude: Vec<String>,
    /// When the data was saved; none: as the archive says.
    pub time: Option<Timestamp>,
    /// Of what version it is; none: as the archive says.
    pub version: Option<String>,
    /// How the set stands towards recoveries: `restored` or `failed`.
    pub standing: Option<String>,
}

/// What a restore may be told besides its instance and snapshot.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RestoreOptions {
    /// Only from this repository; none: the first of the instance's backups that has a set.
    pub repository: Option<String>,
    /// The newest set at or before this time.
    pub before: Option<Timestamp>,
    /// Only these paths of the tree (`state/…`, `volumes/NAME/…`, `files/…`); empty: all.
    pub include: Vec<String>,
    /// Only these databases, each under the name that it is to have; empty: all.
    pub databases: Vec<Database>,
    /// Files that are loaded instead of saved dumps.
    pub dumps: Vec<Edited>,
    /// Into this directory; none: in place.
    pub target: Option<PathBuf>,
    /// As a new instance of this name, which is defined with it.
    pub new_name: Option<String>,
    /// Where absolute paths of the set's instance lie for the one that is defined.
    pub map: Vec<(PathBuf, PathBuf)>,
    /// Restore a set that another host or instance made.
    pub force_foreign: bool,
    /// Restore whatever the version that was saved.
    pub force_version: bool,
    /// The instance's user is made where this machine lacks it.
    pub create_user: bool,
    /// Services are not stopped while data is exchanged.
    pub no_stop: bool,
    /// They are not started again once it is; where it fails they are in any case.
    pub no_start: bool,
    /// Whose the files are; none: as the instance's definition says.
    pub owners: Option<Owners>,
    /// Whether set-uid bits come back; none: as the instance's definition says.
    pub setuid: Option<bool>,
    /// Whether device files come back; none: as the instance's definition says.
    pub devices: Option<bool>,
}

/// Which jobs `ListJobs` shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobQuery {
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only about this backup, instance or repository.
    pub subject: Option<String>,
    /// Only with a unit of this instance.
    pub instance: Option<String>,
    /// Only with this outcome.
    pub outcome: Option<String>,
    /// Only queued at or after this time.
    pub since: Option<Timestamp>,
    /// At most so many, newest first; 0: 100.
    pub limit: u32,
}

/// Keys of a definition as given by a caller: the TOML keys of the design, as JSON values.
pub type Keys = BTreeMap<String, serde_json::Value>;

/// What has changed; the bus turns it into signals.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A job was started.
    JobNew(String),
    /// A job's state, phase, progress or waiting reason changed.
    JobChanged(String),
    /// A job ended.
    JobRemoved(String, Outcome),
    /// A finished job is no longer readable on the bus.
    JobGone(String),
    /// A backup's next or last run changed.
    BackupChanged(String),
    /// A repository's state changed.
    RepositoryChanged(String),
    /// An instance's newest set changed.
    InstanceChanged(String),
    /// Definitions were reloaded.
    DefinitionsChanged,
    /// The daemon was paused or resumed.
    PausedChanged,
}
