//! An instance on this machine: found, checked, nothing touched.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tokio_util::sync::CancellationToken;

use super::account::account;
use super::environment::Environment;
use super::held::Held;
use super::include::{ALWAYS, Include, Root};
use super::volumes::{Found, Lies, Make, Resolver, Wanted, wanted_by};
use super::walk;
use crate::definition::{Instance, Remote, Volumes};
use crate::process::Account;

/// The root of a tree that holds what is of this machine, where the instance is on another one.
pub(super) const LOCAL: &str = "local";

/// What a place is resolved for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To read: what is named must be there.
    Backup,
    /// To write: the state directory, hooks and volumes may be missing still.
    Restore,
    /// To look at what is to be made: the install dir may be missing as well.
    Found,
}

/// An instance on this machine: its user, its directories, its volumes, its programs.
#[derive(Debug, Clone)]
pub struct Place {
    /// What was defined.
    pub instance: Arc<Instance>,
    /// Whom its programs run as.
    pub account: Account,
    /// `install_dir`, free of links.
    pub install_dir: Option<PathBuf>,
    /// `state/` below it, free of links.
    pub state_dir: Option<PathBuf>,
    /// Volumes that were asked for and exist (from a table: all of it), and where they lie.
    pub volumes: BTreeMap<String, PathBuf>,
    /// Volumes of the instance's other machine, and where they lie there. For a backup `volumes` says where they are mirrored.
    pub there: BTreeMap<String, PathBuf>,
    /// Volumes that were asked for and exist, whose data only their engine reaches.
    pub held: BTreeMap<String, Held>,
    /// Those of them that were brought into a directory of ours, which `volumes` names.
    pub brought: BTreeSet<String>,
    /// How volumes could be made anew, where it is not as any volume is made.
    pub makes: BTreeMap<String, Make>,
    /// `state/environment`.
    pub environment: Environment,
    /// What was noticed on the way and is no failure.
    pub warnings: Vec<String>,
    pub(super) tools: PathBuf,
    pub(super) dump: Option<Vec<OsString>>,
    pub(super) cleanup: Option<Vec<OsString>>,
}

impl Place {
    /// Finds an instance. `tools` is the directory with `redis-dump` and `redis-restore`, put on the hooks' search path;
    /// `volumes` are names that are wanted besides those in the includes. Asks NSS and the container engine, changes
    /// nothing.
    ///
    /// # Errors
    /// What is missing or not as it should be, with the instance's name.
    pub async fn resolve(
        instance: &Arc<Instance>,
        purpose: Purpose,
        tools: &Path,
        volumes: &[String],
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let context = format!("instance {}", instance.name);
        let (defined, tools) = (Arc::clone(instance), tools.to_owned());
        let prepared = tokio::task::spawn_blocking(move || Self::prepare(defined, purpose, tools)).await;
        let mut place =
            prepared.context("looking for the instance's files")?.with_context(|| context.clone())?;
        place.find_volumes(purpose, volumes, cancel).await.with_context(|| context)?;
        Ok(place)
    }

    /// Makes a volume that a restore needs and that does not exist, and remembers where it lies.
    ///
    /// # Errors
    /// The engine's words; options that must not come from a snapshot.
    pub async fn create_volume(&mut self, name: &str, make: &Make, cancel: &CancellationToken) -> Result<()> {
        let resolver =
            Resolver { instance: &self.instance, account: &self.account, tools: &self.tools, cancel };
        let lies = resolver.create(name, make).await;
        match lies.with_context(|| format!("instance {}", self.instance.name))? {
            Lies::Here(real) => drop(self.volumes.insert(name.to_owned(), real)),
            Lies::There(place) => drop(self.there.insert(name.to_owned(), place)),
            Lies::Held(held) => drop(self.held.insert(name.to_owned(), held)),
        }
        Ok(())
    }

    /// `MODULE_UUID` of `state/environment`, if it is one.
    pub fn identity(&self) -> Option<uuid::Uuid> {
        self.environment.module_uuid()
    }

    /// Where a path of the tree lies on this machine.
    ///
    /// # Errors
    /// An absolute path, `..`, an unknown root or volume.
    pub fn live_path(&self, tree_path: &Path) -> Result<PathBuf> {
        let shown = tree_path.display();
        let mut parts = Vec::new();
        for component in tree_path.components() {
            match component {
                Component::Normal(part) => parts.push(part),
                _ => bail!("{shown:?} is no path of a tree: it must be relative and without '..'"),
            }
        }
        let (base, rest) = match parts.split_first() {
            Some((root, rest)) if *root == "state" => (self.state_dir.clone(), rest),
            Some((root, rest)) if *root == "files" => (Some(self.files_root()), rest),
            Some((root, rest)) if *root == LOCAL => (Some(PathBuf::from("/")), rest),
            Some((root, [name, rest @ ..])) if *root == "volumes" => {
                (name.to_str().and_then(|name| self.volumes.get(name)).cloned(), rest)
            }
            _ => bail!("{shown:?} lies under no root of a tree (state/, volumes/NAME/, files/, local/)"),
        };
        let name = &self.instance.name;
        let held =
            self.held.values().find(|held| parts.get(1).is_some_and(|part| *part == held.name.as_str()));
        let mut live = base.ok_or_else(|| match held {
            Some(held) => {
                anyhow!("{shown:?} lies in {}, whose data is no directory of this machine", held.shown())
            }
            None => anyhow!("instance {name} has no place for {shown:?}"),
        })?;
        live.extend(rest);
        Ok(live)
    }

    /// Where a path of the tree lies on the instance's other machine; none: it does not lie there.
    pub fn there(&self, tree_path: &Path) -> Option<PathBuf> {
        self.instance.remote.as_ref()?;
        if let Ok(below) = tree_path.strip_prefix("files") {
            return Some(Path::new("/").join(below));
        }
        let mut below = tree_path.strip_prefix("volumes").ok()?.components();
        let name = below.next()?.as_os_str().to_str()?;
        let (dir, rest) = (self.there.get(name)?, below.as_path());
        Some(if rest.as_os_str().is_empty() { dir.clone() } else { dir.join(rest) })
    }

    /// Where `files/` of the tree is read: `/`, or the mirror of another machine.
    pub fn files_root(&self) -> PathBuf {
        self.instance.remote.as_ref().map_or_else(|| PathBuf::from("/"), Remote::root)
    }

    fn prepare(instance: Arc<Instance>, purpose: Purpose, tools: PathBuf) -> Result<Self> {
        let mut place = Self {
            account: account(instance.user.as_deref())?,
            instance,
            install_dir: None,
            state_dir: None,
            volumes: BTreeMap::new(),
            there: BTreeMap::new(),
            held: BTreeMap::new(),
            brought: BTreeSet::new(),
            makes: BTreeMap::new(),
            environment: Environment::default(),
            warnings: Vec::new(),
            tools,
            dump: None,
            cleanup: None,
        };
        place.find_dirs(purpose)?;
        place.environment = place.read_environment()?;
        place.note_environment();
        if purpose == Purpose::Backup {
            let instance = Arc::clone(&place.instance);
            place.dump =
                place.find_hook("dump_state", instance.dump_state.as_deref(), "bin/module-dump-state")?;
            place.cleanup = place.find_hook(
                "cleanup_state",
                instance.cleanup_state.as_deref(),
                "bin/module-cleanup-state",
            )?;
        }
        Ok(place)
    }

    fn find_dirs(&mut self, purpose: Purpose) -> Result<()> {
        let Some(given) = self.instance.install_dir.as_deref() else { return Ok(()) };
        let install = walk::open(given).context("`install_dir`")?;
        let Some(install) = install else {
            ensure!(
                purpose == Purpose::Found,
                "`install_dir`: there is no directory {}; install the module there first",
                given.display()
            );
            self.state_dir = Some(given.join("state"));
            self.install_dir = Some(given.to_owned());
            return Ok(());
        };
        let state = install.real.join("state");
        match walk::open(&state)? {
            Some(dir) => self.state_dir = Some(dir.real),
            None if purpose != Purpose::Backup => self.state_dir = Some(state),
            None => bail!("there is no directory {}; a module in `install_dir` has one", state.display()),
        }
        self.install_dir = Some(install.real);
        Ok(())
    }

    /// `state/environment` as it is now; empty when there is none.
    pub(super) fn read_environment(&self) -> Result<Environment> {
        let dir = self.state_dir.as_deref().map(walk::open).transpose()?.flatten();
        let Some(text) = dir.map(|dir| dir.read("environment")).transpose()?.flatten() else {
            return Ok(Environment::default());
        };
        Environment::parse(&text).context("state/environment")
    }

    fn note_environment(&mut self) {
        let notes = self.environment.warnings.iter().map(|w| format!("state/environment: {w}"));
        self.warnings.extend(notes);
        let name = self.instance.name.as_str();
        if let Some(other) = self.environment.get("MODULE_ID").filter(|id| *id != name) {
            self.warnings
                .push(format!("state/environment says MODULE_ID={}; hooks get {name}", other.display()));
        }
    }

    async fn find_volumes(
        &mut self,
        purpose: Purpose,
        more: &[String],
        cancel: &CancellationToken,
    ) -> Result<()> {
        let mut wanted = Wanted { names: more.to_vec(), all: false };
        for include in self.includes(&mut Vec::new())? {
            if include.root == Root::Volumes {
                wanted_by(include.steps.first(), &mut wanted);
            }
        }
        let resolver =
            Resolver { instance: &self.instance, account: &self.account, tools: &self.tools, cancel };
        let Found { places: mut volumes, there, held, makes, warnings } = resolver.resolve(&wanted).await?;
        if let Volumes::Table(_) = self.instance.volumes {
            for place in volumes.values_mut() {
                if let Some(dir) = walk::open(place).context("`volumes`")? {
                    *place = dir.real;
                }
            }
        }
        if let Some(remote) = self.instance.remote.as_ref().filter(|_| purpose == Purpose::Backup) {
            volumes = there.keys().map(|name| (name.clone(), remote.volume(name))).collect();
        }
        (self.volumes, self.there, self.held, self.makes) = (volumes, there, held, makes);
        self.warnings.extend(warnings);
        Ok(())
    }

    /// All includes: `state/environment`, the definition's, and the lines of `etc/state-include.conf`.
    pub(super) fn includes(&self, warnings: &mut Vec<String>) -> Result<Vec<Include>> {
        let mut includes = Vec::new();
        if self.install_dir.is_some() {
            includes.push(Include::in_tree(b"state/environment", ALWAYS)?);
        }
        for text in &self.instance.include {
            includes.push(Include::defined(text, &self.account.home)?);
        }
        for (number, line) in self.conf_lines("etc/state-include.conf")? {
            let origin = format!("etc/state-include.conf:{number}");
            match Include::in_tree(&line, &origin) {
                Ok(include) => includes.push(include),
                Err(error) => {
                    let text = String::from_utf8_lossy(&line).into_owned();
                    warnings.push(format!("{origin}: {text:?} was ignored: {error:#}"));
                }
            }
        }
        if self.state_dir.is_none() && includes.iter().any(|include| include.root == Root::State) {
            bail!("state/… is included, but there is no `install_dir`");
        }
        Ok(includes)
    }

    /// The lines of a pattern file below the install dir; none when there is no such file.
    pub(super) fn conf_lines(&self, path: &str) -> Result<Vec<(usize, Vec<u8>)>> {
        let dir = self.install_dir.as_deref().map(walk::open).transpose()?.flatten();
        let Some(text) = dir.map(|dir| dir.read(path)).transpose()?.flatten() else { return Ok(Vec::new()) };
        super::include::lines(&text).with_context(|| path.to_owned())
    }
}
