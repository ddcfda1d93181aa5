//! A backup: which instances go where, when, and how long they are kept.

use std::fmt;
use std::time::Duration;

use super::{Instance, Manager, Name};
use crate::calendar::{Schedule, Window};

/// A backup as defined.
#[derive(Debug, Clone, PartialEq)]
pub struct Backup {
    /// Its name.
    pub name: Name,
    /// Where its snapshots go; each gets a snapshot of its own from one dump. Never empty.
    pub repositories: Vec<Name>,
    /// When it runs by itself; none: only when asked.
    pub schedule: Option<Schedule>,
    /// Runs after each run of this backup that made sets; then it has no schedule.
    pub after: Option<Name>,
    /// Runs when the daemon starts and an instance's version is another one than its last set's.
    pub before_new_version: bool,
    /// What is kept; none: everything.
    pub retention: Option<Retention>,
    /// What it covers, evaluated at each run.
    pub instances: Vec<Selector>,
    /// A disabled backup runs neither by schedule nor when asked.
    pub enabled: bool,
    /// One run after downtime when a slot was missed.
    pub catch_up: bool,
    /// Slots are delayed by up to this much, by an amount that is stable per host and name.
    pub random_delay: Duration,
    /// No slot runs in these windows: it waits until they end.
    pub blackout: Vec<Window>,
    /// Who goes first where several wait; 0 unless told otherwise.
    pub priority: i8,
    /// After this long a run is ended as if cancelled, and fails.
    pub max_duration: Option<Duration>,
    /// Whether a failed unit is tried again within the job.
    pub retry: Retry,
    /// Who else may see, run and cancel it.
    pub allow: Allow,
}

/// Who, beside those whom polkit lets, may see, run and cancel something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allow {
    /// Names of users.
    pub users: Vec<String>,
    /// Names of groups.
    pub groups: Vec<String>,
}

/// How a failed unit is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How often at most, after the first try; 0: never.
    pub attempts: u32,
    /// The pause before the first retry; it doubles each time.
    pub delay: Duration,
}

/// Which committed sets are kept, per backup, instance and repository. A set is kept if any rule keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    /// The newest so many.
    pub last: u32,
    /// The newest of each of so many hours that have one; likewise below.
    pub hourly: u32,
    /// Days.
    pub daily: u32,
    /// ISO weeks.
    pub weekly: u32,
    /// Months.
    pub monthly: u32,
    /// Years.
    pub yearly: u32,
    /// Everything younger than this, counted back from the newest set.
    pub within: Option<Duration>,
    /// Only sets of so many versions, those seen last; 0: of all.
    pub versions: u32,
}

/// Which instances a backup covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// This one.
    Instance(Name),
    /// All: `"*"`.
    All,
    /// All of a module: `"module:NAME"`.
    Module(Name),
    /// This compose project, or all: `"compose:NAME"`, `"compose:*"`.
    Compose(Option<Name>),
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance(name) => f.write_str(name),
            Self::All => f.write_str("*"),
            Self::Module(name) => write!(f, "module:{name}"),
            Self::Compose(Some(project)) => write!(f, "compose:{project}"),
            Self::Compose(None) => f.write_str("compose:*"),
        }
    }
}

impl Selector {
    /// Whether an instance is meant.
    pub fn matches(&self, instance: &Instance) -> bool {
        match self {
            Self::Instance(name) => *name == instance.name,
            Self::All => true,
            Self::Module(module) => instance.module.as_ref() == Some(module),
            Self::Compose(wanted) => instance.services.iter().any(|service| match &service.manager {
                Manager::Compose { project, .. } => {
                    wanted.as_ref().is_none_or(|name| name.as_str() == project)
                }
                _ => false,
            }),
        }
    }
}
