//! What may be asked of the daemon: one function per verb. The bus and the signals call it; it knows neither.

mod contents;
mod elsewhere;
mod error;
mod events;
mod import;
mod owed;
mod recover;
mod redefine;
mod restore;
mod run;
mod slots;
mod stacks;
mod standing;
mod startup;
mod verbs;
mod versions;
mod view;
mod write;

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use jiff::Timestamp;
use tokio::sync::broadcast;

use crate::config::{self, Loaded};
use crate::definition::{Backup, Definitions, Instance, Name, Repository};
pub use crate::job::restore::{Database, Edited};
use crate::job::{Context, Jobs};
use crate::schedule::{Planner, Trigger};

pub use error::{Error, ErrorKind};
pub use slots::Wakeups;
pub use stacks::stacks;
pub use startup::{Start, alone, start};
pub use view::{
    BackupView, ContentView, Event, ImportOptions, InstanceView, JobQuery, JobView, Keys, RecoverOptions,
    RepositoryView, RestoreOptions, SetView,
};

pub use crate::target::carried;

type Result<T> = std::result::Result<T, Error>;

/// A handle to everything that may be asked. Cheap to clone.
#[derive(Clone)]
pub struct Control(Arc<Inner>);

struct Inner {
    context: Context,
    jobs: Jobs,
    config_dirs: config::Dirs,
    environment: config::Environment,
    /// What is not well with the stored history since the start; empty: all is.
    history_trouble: String,
    active: RwLock<Active>,
    /// One change of definitions at a time; held across await because reading and switching belong together.
    changing: tokio::sync::Mutex<()>,
    /// One look for compose projects at a time; held across await because looking and writing belong together.
    discovering: tokio::sync::Mutex<()>,
    /// Definitions of compose projects are to be read.
    stacks_changed: tokio::sync::Notify,
    /// How often they were written, and how often when the active definitions were read.
    stacks_written: AtomicU64,
    stacks_read: AtomicU64,
    events: broadcast::Sender<Event>,
    planner: Arc<Mutex<Planner>>,
    trigger: std::sync::OnceLock<Trigger>,
    paused: Mutex<Option<Timestamp>>,
    held: Mutex<Vec<crate::schedule::Due>>,
    /// One look at what is owed or follows at a time; held across await because reading and deciding belong together.
    owing: tokio::sync::Mutex<()>,
    stopping: AtomicBool,
    began: std::time::Instant,
}

/// What was loaded last. The definitions stand apart, so that a job can keep them without their diagnostics.
#[derive(Clone)]
struct Active {
    loaded: Arc<Loaded>,
    definitions: Arc<Definitions>,
}

impl Active {
    fn new(loaded: Loaded) -> Self {
        Self { definitions: Arc::new(loaded.definitions.clone()), loaded: Arc::new(loaded) }
    }
}

pub(crate) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Control {
    fn active(&self) -> Active {
        self.0.active.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn loaded(&self) -> Arc<Loaded> {
        self.active().loaded
    }

    /// What is active now.
    pub fn definitions(&self) -> Arc<Definitions> {
        self.active().definitions
    }

    /// What changes, from now on. A receiver that lags must read everything anew.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.0.events.subscribe()
    }

    fn tell(&self, event: Event) {
        let _ = self.0.events.send(event);
    }

    fn known_backup(&self, name: &str) -> Result<Arc<Backup>> {
        let loaded = self.loaded();
        let found = self.definitions().backups.get(name).cloned();
        found.ok_or_else(|| missing(&loaded, "backup", name, ErrorKind::NoSuchBackup))
    }

    fn known_repository(&self, name: &str) -> Result<Arc<Repository>> {
        let loaded = self.loaded();
        let found = self.definitions().repositories.get(name).cloned();
        found.ok_or_else(|| missing(&loaded, "repository", name, ErrorKind::NoSuchRepository))
    }

    fn known_instance(&self, name: &str) -> Result<Arc<Instance>> {
        let loaded = self.loaded();
        let found = self.definitions().instances.get(name).cloned();
        found.ok_or_else(|| missing(&loaded, "instance", name, ErrorKind::NoSuchInstance))
    }
}

/// The error for a name that is not active: unusable definitions say why.
fn missing(loaded: &Loaded, kind: &str, name: &str, error: ErrorKind) -> Error {
    if let Some(why) = loaded.unusable.get(&format!("{kind}/{name}")) {
        let text =
            format!("{kind} {name} is defined, but cannot be used: {why}; see `holdfast config check`");
        return Error::new(ErrorKind::InvalidDefinition, text);
    }
    let shown: String = name.chars().take(80).flat_map(char::escape_default).collect();
    let text = format!("there is no {kind} \"{shown}\"; `holdfast {kind} list` names those that there are");
    let text =
        if kind == "instance" { text.replace("holdfast instance list", "holdfast status") } else { text };
    Error::new(error, text)
}

fn checked(name: &str) -> Result<Name> {
    Name::parse(name).map_err(|why| Error::new(ErrorKind::InvalidArgument, why))
}
