//! Compose projects that are found by their labels: defined as instances, before each backup that covers them.
//!
//! Each project found has a definition file below the state directory. One that is there no more keeps its file, so that
//! its sets can be listed and restored; it is only left out of backups that name it by a pattern.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Control;
use crate::config::{self, Loaded};
use crate::definition::{Backup, Instance, Manager, Name, Selector, Stack, Volumes};
use crate::service_control;
use crate::state::durable;

/// How long Docker may take to tell what it has.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was found, for a backup.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Projects that can be backed up now.
    present: BTreeSet<String>,
    /// What cannot, with the reason.
    pub(super) refused: Vec<(String, String)>,
    /// The definitions with what was found; none: they are what they were.
    pub(super) loaded: Option<Loaded>,
    /// Where the definitions of projects are.
    directory: PathBuf,
}

impl Found {
    /// Whether a run by pattern covers an instance: not a project that is not there.
    pub(super) fn covers(&self, loaded: &Loaded, instance: &Instance) -> bool {
        let place = loaded.origins.get(&format!("instance/{}", instance.name));
        let discovered = place.is_some_and(|place| place.file.starts_with(&self.directory));
        !discovered || self.present.contains(instance.name.as_str())
    }
}

/// All projects that ask to be backed up, whether they can be or not.
///
/// # Errors
/// Docker does not answer.
pub async fn stacks() -> Result<Vec<Stack>> {
    let never = CancellationToken::new();
    let asked = tokio::time::timeout(PATIENCE, service_control::stacks(&never)).await;
    asked.map_err(|_| anyhow!("Docker did not answer within {PATIENCE:?}"))?
}

impl Control {
    /// Looks for projects, where that is asked for and the backup names them by a pattern.
    pub(super) async fn stacks_for(&self, backup: &Backup) -> Option<Found> {
        let by_pattern = |selector: &Selector| matches!(selector, Selector::All | Selector::Compose(_));
        let wanted = self.definitions().discover_docker && backup.instances.iter().any(by_pattern);
        if !wanted {
            return None;
        }
        let mut found = self.look_for_stacks().await;
        let covered = |name: &String| {
            backup.instances.iter().any(|selector| match selector {
                Selector::Compose(Some(project)) => project.as_str() == name || name == NOBODY,
                _ => true,
            })
        };
        found.refused.retain(|(name, _)| covered(name));
        Some(found)
    }

    /// Looks for projects, and writes down what is new of them.
    pub(super) async fn look_for_stacks(&self) -> Found {
        let _one_at_a_time = self.0.discovering.lock().await;
        let directory = config::stacks_directory(&self.0.environment.state_dir);
        let mut found = Found { directory, ..Found::default() };
        match stacks().await {
            Ok(stacks) => self.write_stacks(stacks, &mut found).await,
            Err(failure) => found.refused.push((NOBODY.to_owned(), format!("{failure:#}"))),
        }
        for (name, why) in &found.refused {
            warn!(holdfast_instance = %name, "the compose project {name} cannot be backed up: {why}");
        }
        found
    }

    async fn write_stacks(&self, stacks: Vec<Stack>, found: &mut Found) {
        let (loaded, directory) = (self.loaded(), found.directory.clone());
        let written = tokio::task::spawn_blocking(move || write(&directory, &stacks, &loaded)).await;
        let (present, refused, changed) =
            match written.map_err(anyhow::Error::new).and_then(|written| written) {
                Ok(written) => written,
                Err(failure) => return found.refused.push((NOBODY.to_owned(), format!("{failure:#}"))),
            };
        (found.present, found.refused) = (present, refused);
        if changed {
            self.0.stacks_written.fetch_add(1, Ordering::Relaxed);
        }
        // Also when somebody else wrote them just now.
        if self.0.stacks_written.load(Ordering::Relaxed) != self.0.stacks_read.load(Ordering::Relaxed) {
            let (dirs, environment) = (self.0.config_dirs.clone(), self.0.environment.clone());
            let previous = self.loaded();
            let read = move || config::load(&dirs, &environment, Some(&previous));
            found.loaded = tokio::task::spawn_blocking(read).await.ok();
            // Everybody else sees them soon: not from here, for a reload may be what began this.
            self.0.stacks_changed.notify_one();
        }
    }

    /// Reads definitions anew when projects were found; looks for them after each reload. For as long as the daemon lives.
    pub(super) async fn watch_stacks(self) {
        loop {
            if self.definitions().discover_docker {
                self.look_for_stacks().await;
            }
            self.0.stacks_changed.notified().await;
            self.read_again().await;
        }
    }

    /// An instance that is not known may be a project that was made just now.
    pub(super) async fn instance_or_stack(&self, name: &str) -> super::Result<Arc<Instance>> {
        if self.known_instance(name).is_err() && self.definitions().discover_docker {
            let found = self.look_for_stacks().await;
            let known = found.loaded.and_then(|loaded| loaded.definitions.instances.get(name).cloned());
            if let Some(instance) = known {
                self.read_again().await;
                return Ok(instance);
            }
        }
        self.known_instance(name).map_err(|mut refused| {
            if self.definitions().discover_docker && refused.kind == super::ErrorKind::NoSuchInstance {
                refused.message +=
                    "; of a compose project that is not created yet, `docker compose up --no-start` makes one";
            }
            refused
        })
    }
}

impl Control {
    /// Another compose project, to take what was saved of the project that `first` is. None: `first` is no project that was
    /// found, so that its definition says what a second one is.
    ///
    /// # Errors
    /// There is no such project, or it has no place for a part of what was saved.
    pub(super) async fn other_project(
        &self,
        first: &Instance,
        name: &str,
    ) -> super::Result<Option<Arc<Instance>>> {
        if !self.definitions().discover_docker || !is_project(first) {
            return Ok(None);
        }
        let refused = |text: String| super::Error::new(super::ErrorKind::InvalidArgument, text);
        let Ok(other) = self.instance_or_stack(super::checked(name)?.as_str()).await else {
            return Err(refused(format!(
                "there is no compose project {name} that could take what was saved of {}: make it with the same compose \
                 file, `docker compose -p {name} up -d`, and restore again; what it has by then is kept for a rollback",
                first.name
            )));
        };
        if !is_project(&other) {
            let text = format!("{name} is defined, and is no compose project; choose another name");
            return Err(super::Error::new(super::ErrorKind::AlreadyExists, text));
        }
        let missing = missing(first, &other);
        if !missing.is_empty() {
            let text = format!(
                "the compose project {name} has no place for {} of {}",
                missing.join(", "),
                first.name
            );
            return Err(refused(format!("{text}; give its services the same labels")));
        }
        Ok(Some(other))
    }
}

/// Whether an instance is the compose project of its name.
fn is_project(instance: &Instance) -> bool {
    instance.services.iter().any(|service| match &service.manager {
        Manager::Compose { project, .. } => project == instance.name.as_str(),
        _ => false,
    })
}

/// The volumes and dumps of one that the other does not have.
fn missing(first: &Instance, other: &Instance) -> Vec<String> {
    let volumes = |instance: &Instance| match &instance.volumes {
        Volumes::Table(table) => table.keys().map(|name| format!("volumes/{name}")).collect::<Vec<_>>(),
        _ => Vec::new(),
    };
    let dumps = |instance: &Instance| {
        instance.dumps.iter().map(|dump| format!("dumps/{}", dump.name)).collect::<Vec<_>>()
    };
    let there = [volumes(other), dumps(other)].concat();
    [volumes(first), dumps(first)].concat().into_iter().filter(|part| !there.contains(part)).collect()
}

/// What stands in place of a project's name when not even Docker could be asked.
const NOBODY: &str = "compose";

type Written = (BTreeSet<String>, Vec<(String, String)>, bool);

/// Writes a file for each project that is not defined by hand; removes those of projects that are by now.
fn write(directory: &Path, stacks: &[Stack], loaded: &Loaded) -> Result<Written> {
    let (mut present, mut refused, mut changed) = (BTreeSet::new(), Vec::new(), false);
    durable::create_dir(directory, 0o700).with_context(|| format!("making {}", directory.display()))?;
    for stack in stacks {
        let file = directory.join(format!("{}.toml", stack.project));
        if by_hand(directory, &stack.project, loaded) {
            if file.exists() {
                durable::remove(&file).with_context(|| format!("removing {}", file.display()))?;
                changed = true;
            }
            continue;
        }
        match config::stack_toml(stack) {
            Err(why) => refused.push((stack.project.clone(), why)),
            Ok(text) => {
                present.insert(stack.project.clone());
                if std::fs::read_to_string(&file).is_ok_and(|old| old == text) {
                    continue;
                }
                info!(holdfast_instance = %stack.project, "the compose project {} is defined anew", stack.project);
                durable::write(&file, 0o600, text.as_bytes())
                    .with_context(|| format!("writing {}", file.display()))?;
                changed = true;
            }
        }
    }
    Ok((present, refused, changed))
}

/// Whether somebody defines an instance of this name in a file of the configuration.
fn by_hand(directory: &Path, project: &str, loaded: &Loaded) -> bool {
    let place = loaded.origins.get(&format!("instance/{project}"));
    Name::parse(project).is_ok() && place.is_some_and(|place| !place.file.starts_with(directory))
}
