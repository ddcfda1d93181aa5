//! A service of an instance: what is stopped while it is backed up or restored, and by whom.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A service, or several of one manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// What others call it in `depends_on`.
    pub name: String,
    /// Who starts and stops it.
    pub manager: Manager,
    /// Until when a backup keeps it stopped.
    pub stop: StopUntil,
    /// Which of its parts run while dumps are made, though it is stopped.
    pub start_for_dump: Vec<String>,
    /// A backup is refused unless it runs and is healthy.
    pub require_healthy: bool,
    /// How long one part of it may take to stop.
    pub stop_timeout: Duration,
    /// Names of services that must run before it; it is stopped before them.
    pub depends_on: Vec<String>,
}

/// How long a service may take to stop unless told otherwise.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Who starts and stops services, and which. Written into undo steps as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "manager", rename_all = "snake_case", deny_unknown_fields)]
pub enum Manager {
    /// The machine's systemd.
    Systemd {
        /// Names with their suffix, in stop order.
        units: Vec<String>,
    },
    /// monit.
    Monit {
        /// Names, in stop order; none: all processes that it watches.
        services: Vec<String>,
        /// The program: an absolute path, or a name to be found on PATH.
        binary: String,
    },
    /// Docker's engine.
    Docker {
        /// Names or ids, in stop order.
        containers: Vec<String>,
    },
    /// podman, as the instance's user.
    Podman {
        /// Names or ids, in stop order.
        containers: Vec<String>,
    },
    /// The containers of a compose project, found by their labels.
    Compose {
        /// The project's exact name.
        project: String,
        /// Names of its services; none: all.
        services: Vec<String>,
    },
    /// Three programs, argv each, run as the instance's user.
    Command {
        /// Starts it.
        start: Vec<String>,
        /// Stops it.
        stop: Vec<String>,
        /// Exits with 0 when it runs, with 1, 2 or 3 when it does not.
        status: Vec<String>,
    },
}

impl Manager {
    /// The words for them in a definition.
    pub const WORDS: [&'static str; 6] = ["systemd", "monit", "docker", "podman", "compose", "command"];

    /// Its word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Systemd { .. } => "systemd",
            Self::Monit { .. } => "monit",
            Self::Docker { .. } => "docker",
            Self::Podman { .. } => "podman",
            Self::Compose { .. } => "compose",
            Self::Command { .. } => "command",
        }
    }

    /// The names of its parts, as far as they are given.
    pub fn parts(&self) -> &[String] {
        match self {
            Self::Systemd { units } => units,
            Self::Monit { services, .. } | Self::Compose { services, .. } => services,
            Self::Docker { containers } | Self::Podman { containers } => containers,
            Self::Command { .. } => &[],
        }
    }
}

/// Until when a backup keeps a service stopped. A restore stops all but [`StopUntil::Never`], until its data is in place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StopUntil {
    /// It is not stopped.
    Never,
    /// It runs on: only a restore, which exchanges its data, stops it.
    Restore,
    /// Until the dumps are made.
    Dump,
    /// Until the snapshot is made.
    #[default]
    Snapshot,
}

impl StopUntil {
    /// The words for them in a definition.
    pub const WORDS: [(&'static str, Self); 4] = [
        ("never", Self::Never),
        ("restore", Self::Restore),
        ("dump", Self::Dump),
        ("snapshot", Self::Snapshot),
    ];

    /// Whether a backup stops it.
    pub fn in_backups(self) -> bool {
        matches!(self, Self::Dump | Self::Snapshot)
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, value)| *value == self).map_or("snapshot", |(word, _)| word)
    }
}

/// A part of a service that ran when it was to be stopped: a unit, a container, a process.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ran {
    /// What people call it.
    pub name: String,
    /// What its manager knows it by, if that is not its name: a container's id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// It was paused and is to be paused again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}
