//! An instance: one installed module, its own keys merged over its module's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Allow, Dump, Engine, Name, Recovery, Remote, Service};

/// An instance as defined.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// Its name.
    pub name: Name,
    /// The module it is one of; none: its own keys are all.
    pub module: Option<Name>,
    /// The machine that it is on; none: this one.
    pub remote: Option<Remote>,
    /// The user that hooks run as; none: root (the daemon's own user when that is not root).
    pub user: Option<String>,
    /// NS8's layout: `bin/`, `etc/`, `actions/`, `state/` below it.
    pub install_dir: Option<PathBuf>,
    /// Who knows where `volumes/NAME` lies.
    pub volumes: Volumes,
    /// What is backed up: `state/…`, `volumes/NAME[/…]`, `~/…`, absolute paths; globs allowed.
    pub include: Vec<String>,
    /// What is left out, in restic's exclude syntax over the tree `state/…`, `volumes/NAME/…`, `files/…`.
    pub exclude: Vec<String>,
    /// A literal include that is missing fails the unit instead of a warning.
    pub strict: bool,
    /// The program that prepares data, argv; relative paths lie in `install_dir`.
    pub dump_state: Option<Vec<String>>,
    /// The program that clears up after it.
    pub cleanup_state: Option<Vec<String>>,
    /// Its data sources, dumped in this order.
    pub dumps: Vec<Dump>,
    /// How long one hook may run.
    pub hook_timeout: Duration,
    /// How restic or a hook may go without any progress before it is ended.
    pub stall_timeout: Duration,
    /// How it is restored.
    pub restore: Restore,
    /// How its version is found; stored with every set.
    pub version: Option<Version>,
    /// Which saved versions may be restored over the present one.
    pub version_match: VersionMatch,
    /// What is stopped while it is worked on, in the order in which it is stopped.
    pub services: Vec<Service>,
    /// How it comes back by itself when it fails; none: it does not.
    pub recovery: Option<Recovery>,
    /// Who else may see, run and cancel what is only about it.
    pub allow: Allow,
    /// Its keys and its module's as they are written, without who may see it: so that it can be defined elsewhere.
    pub written: Arc<serde_json::Map<String, serde_json::Value>>,
}

impl Instance {
    /// An instance that has nothing but a name: what is restored beside live data needs no more.
    pub fn bare(name: Name) -> Self {
        let hour = Duration::from_secs(3_600);
        Self {
            name,
            module: None,
            remote: None,
            user: None,
            install_dir: None,
            volumes: Volumes::None,
            include: Vec::new(),
            exclude: Vec::new(),
            strict: false,
            dump_state: None,
            cleanup_state: None,
            dumps: Vec::new(),
            hook_timeout: hour,
            stall_timeout: hour / 2,
            restore: Restore::default(),
            version: None,
            version_match: VersionMatch::Any,
            services: Vec::new(),
            recovery: None,
            allow: Allow::default(),
            written: Arc::default(),
        }
    }
}

/// How an instance is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    /// The directory of `NNname` executables, relative to `install_dir` or absolute.
    pub steps: Option<PathBuf>,
    /// How long the data that a restore replaced is kept for a rollback; zero: not at all.
    pub keep_previous: Duration,
    /// What must answer well after a restore, else it is undone.
    pub health: Option<Health>,
    /// Whose the files are that come back.
    pub owners: Owners,
    /// Whether set-user-id and set-group-id bits of files come back.
    pub setuid: bool,
    /// Whether device files come back.
    pub devices: bool,
}

impl Default for Restore {
    fn default() -> Self {
        Self {
            steps: None,
            keep_previous: Duration::from_secs(24 * 3_600),
            health: None,
            owners: Owners::Name,
            setuid: false,
            devices: false,
        }
    }
}

/// Whose restored files are, where names have other numbers than on the machine that saved them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Owners {
    /// Those with the same names; in volumes the numbers, for names there are those of the containers.
    #[default]
    Name,
    /// Those with the same numbers.
    Number,
}

impl Owners {
    /// The words for them.
    pub const WORDS: [(&'static str, Self); 2] = [("name", Self::Name), ("number", Self::Number)];

    /// What a word means.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, owners)| *owners)
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, value)| *value == self).map_or("name", |(word, _)| word)
    }
}

/// A question about an application's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// A program that exits with 0 when all is well, argv; asked again until then.
    pub command: Vec<String>,
    /// How long it may take until all is well.
    pub timeout: Duration,
}

/// Which saved versions may be restored over the present one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum VersionMatch {
    /// All.
    #[default]
    Any,
    /// The very same.
    Exact,
    /// Those that agree in the first two numbers.
    Minor,
    /// Those that agree in the first number.
    Major,
    /// The same and older ones.
    NotNewer,
}

impl VersionMatch {
    /// The words for them in a definition.
    pub const WORDS: [(&'static str, Self); 5] = [
        ("any", Self::Any),
        ("exact", Self::Exact),
        ("minor", Self::Minor),
        ("major", Self::Major),
        ("not-newer", Self::NotNewer),
    ];

    /// Its word.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, value)| *value == self).map_or("any", |(word, _)| word)
    }
}

/// Who knows where volume `NAME` lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Volumes {
    /// Nobody: `volumes/…` may not be included.
    None,
    /// `podman volume inspect`, as the instance's user.
    Podman,
    /// `docker volume inspect`.
    Docker,
    /// This table.
    Table(BTreeMap<String, VolumePlace>),
}

/// Where one volume lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumePlace {
    /// In this directory.
    Directory(PathBuf),
    /// Where this engine has the volume of exactly this name.
    Of(Engine, String),
}

impl VolumePlace {
    /// As a definition says it.
    pub fn text(&self) -> String {
        match self {
            Self::Directory(place) => place.to_string_lossy().into_owned(),
            Self::Of(engine, name) => format!("{}:{name}", engine.word()),
        }
    }
}

/// How an instance's version is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// A program that prints it, argv.
    Command(Vec<String>),
    /// `dpkg:NAME`.
    Dpkg(String),
    /// `rpm:NAME`.
    Rpm(String),
    /// The deployment that the machine has booted, as rpm-ostree names it.
    Ostree,
    /// The image that the machine has booted: its digest.
    Bootc,
}
