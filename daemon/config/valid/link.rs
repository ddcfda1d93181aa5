//! All files together: which of two definitions lives, what refers to what, what stays from before.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::diagnostic::{Diagnostic, Place, Severity};
use super::super::parse::Kind;
use super::super::raw::{Entry, RawBackup, RawInstance, RawModule};
use super::super::{Environment, Loaded};
use super::{LocalFile, after, backup, instance, paths, repository};
use crate::definition::{Backup, Daemon, Definitions, Instance, Name, Repository};

/// What has been linked so far, kind after kind: repositories, modules, instances, backups.
#[derive(Debug, Default)]
pub(super) struct Linked {
    pub(super) repositories: BTreeMap<Name, Arc<Repository>>,
    pub(super) modules: BTreeSet<Name>,
    pub(super) instances: BTreeMap<Name, Arc<Instance>>,
    backups: BTreeMap<Name, Arc<Backup>>,
    /// Every name that a file defines, and which file's wins.
    winners: BTreeMap<String, Winner>,
    pub(super) unusable: BTreeMap<String, String>,
    pub(super) outdated: BTreeMap<String, String>,
    pub(super) kept: BTreeSet<String>,
    /// Files and directories that could not be used, with the reason.
    pub(super) refused: BTreeMap<PathBuf, String>,
    /// Names may be missing because a file could not be understood at all.
    blind: bool,
}

#[derive(Debug)]
struct Winner {
    file: usize,
    kind: Kind,
    name: Name,
    place: Place,
}

/// Why a name cannot be followed.
pub(super) enum Broken {
    /// It is defined, but not usable: reported where it stands.
    Unusable(String),
    /// Nobody defines it.
    Undefined(Undefined),
}

/// A name that nobody defines.
pub(super) struct Undefined {
    pub(super) message: String,
    pub(super) known: Vec<Name>,
    /// False when a file that could not be understood may define it.
    pub(super) certain: bool,
}

/// Joins the files, in their order, with what stays from `previous` in place of what cannot be used.
///
/// `refused` are files and directories that could not even be read.
pub(in crate::config) fn link(
    mut files: Vec<LocalFile>,
    refused: BTreeMap<PathBuf, String>,
    mut found: Vec<Diagnostic>,
    env: &Environment,
    previous: Option<&Loaded>,
) -> Loaded {
    let mut linked = Linked { blind: !refused.is_empty(), refused, ..Linked::default() };
    linked.blind |= files.iter().any(|file| !file.syntax_ok);
    for file in &files {
        linked.refused.extend(file.refused.clone().map(|reason| (file.source.file.clone(), reason)));
    }
    linked.index(&files, &mut found);
    let before = previous.is_some_and(|previous| previous.definitions.discover_docker);
    let discover_docker = discovers(&files, before);
    let daemon = linked.daemon(&mut files, env, previous, &mut found);
    linked.repositories(&mut files, env, previous);
    let modules = linked.modules(&mut files);
    linked.instances(&mut files, &modules, env, &daemon, previous, &mut found);
    linked.backups(&mut files, env, previous, &mut found);
    let mut loaded = linked.loaded(daemon, &files, previous, found);
    loaded.definitions.discover_docker = discover_docker;
    loaded
}

/// Whether any file says that compose projects are looked for; one that cannot be used says what it said before.
pub(in crate::config) fn discovers(files: &[LocalFile], before: bool) -> bool {
    files.iter().any(|file| match (file.discover_docker, &file.refused) {
        (Some(docker), None) => docker,
        (Some(_), Some(_)) => before,
        (None, _) => false,
    })
}

impl Linked {
    /// Finds for each name the file that defines it; the others are reported.
    fn index(&mut self, files: &[LocalFile], found: &mut Vec<Diagnostic>) {
        for (number, file) in files.iter().enumerate() {
            for named in &file.names {
                let id = named.kind.id(&named.name);
                let place = file.source.place(named.span.start);
                if let Some(first) = self.winners.get(&id) {
                    let severity = if file.library { Severity::Warning } else { Severity::Error };
                    let message = format!(
                        "`{}.{}` is defined twice; first at {}",
                        named.kind.word(),
                        named.name,
                        first.place
                    );
                    let help = "the first one is used; remove or rename one of them".to_owned();
                    found.push(file.source.diagnostic(&named.span, severity, message, Some(help)));
                    continue;
                }
                let (kind, name) = (named.kind, named.name.clone());
                self.winners.insert(id, Winner { file: number, kind, name, place });
            }
        }
    }

    /// Whether some file defines it, usable or not.
    pub(super) fn defines(&self, kind: Kind, name: &Name) -> bool {
        self.winners.contains_key(&kind.id(name))
    }

    fn wins(&self, kind: Kind, name: &Name, file: usize) -> bool {
        self.winners.get(&kind.id(name)).is_some_and(|winner| winner.file == file)
    }

    /// Why a name cannot be followed.
    pub(super) fn missing(&self, kind: Kind, name: &Name) -> Broken {
        let id = kind.id(name);
        let what = format!("the {} `{name}`", kind.word());
        if let Some(reason) = self.unusable.get(&id) {
            return Broken::Unusable(format!("{what} cannot be used: {reason}"));
        }
        let known =
            self.winners.values().filter(|winner| winner.kind == kind).map(|winner| winner.name.clone());
        let known = known.collect();
        let where_read = if self.blind { " in any file that could be read" } else { "" };
        Broken::Undefined(Undefined {
            message: format!("{what} is not defined{where_read}"),
            known,
            certain: !self.blind,
        })
    }

    fn repositories(&mut self, files: &mut [LocalFile], env: &Environment, previous: Option<&Loaded>) {
        let before = previous.map(|previous| &previous.definitions.repositories);
        let mut good = BTreeMap::new();
        for (number, file) in files.iter_mut().enumerate() {
            for local in std::mem::take(&mut file.repositories) {
                if self.wins(Kind::Repository, &local.name, number) {
                    let value = file.refused.clone().map_or(Ok(local.value), Err);
                    good.insert(local.name, value);
                }
            }
        }
        self.repositories = self.settle(Kind::Repository, good, files, before, previous, |_| true);
        let none = self.repositories.is_empty()
            && !self.winners.values().any(|winner| winner.kind == Kind::Repository);
        if none && self.refused.is_empty() {
            self.repositories.extend(repository::embedded(env));
        }
    }

    fn modules(&mut self, files: &mut [LocalFile]) -> BTreeMap<Name, Entry<RawModule>> {
        let mut modules = BTreeMap::new();
        for (number, file) in files.iter_mut().enumerate() {
            for entry in std::mem::take(&mut file.modules) {
                if self.wins(Kind::Module, &entry.name, number) && file.refused.is_none() {
                    modules.insert(entry.name.clone(), entry);
                }
            }
        }
        let of_kind = self.winners.iter().filter(|(_, winner)| winner.kind == Kind::Module);
        let lost: Vec<(String, String)> = of_kind
            .filter(|(_, winner)| !modules.contains_key(&winner.name))
            .map(|(id, winner)| (id.clone(), files[winner.file].refused.clone().unwrap_or_default()))
            .collect();
        self.unusable.extend(lost);
        self.modules = modules.keys().cloned().collect();
        modules
    }

    fn instances(
        &mut self,
        files: &mut [LocalFile],
        modules: &BTreeMap<Name, Entry<RawModule>>,
        env: &Environment,
        daemon: &Daemon,
        previous: Option<&Loaded>,
        found: &mut Vec<Diagnostic>,
    ) {
        let before = previous.map(|previous| &previous.definitions.instances);
        let mut good = BTreeMap::new();
        for (number, file) in files.iter_mut().enumerate() {
            for entry in std::mem::take(&mut file.instances) {
                if self.wins(Kind::Instance, &entry.name, number) {
                    // A refused file's tables are looked at all the same: everything wrong is said at once.
                    let value = self.instance(&entry, modules, env, daemon, found);
                    let value = file.refused.clone().map_or(value, Err);
                    good.insert(entry.name, value);
                }
            }
        }
        self.instances = self.settle(Kind::Instance, good, files, before, previous, |_| true);
    }

    fn instance(
        &self,
        entry: &Entry<RawInstance>,
        modules: &BTreeMap<Name, Entry<RawModule>>,
        env: &Environment,
        daemon: &Daemon,
        found: &mut Vec<Diagnostic>,
    ) -> Result<Instance, String> {
        let module = match &entry.raw.module {
            None => None,
            Some(name) => match modules.get(name.get_ref()) {
                Some(module) => Some(module),
                None => {
                    return Err(instance::no_module(
                        entry,
                        name,
                        &self.missing(Kind::Module, name.get_ref()),
                        found,
                    ));
                }
            },
        };
        if !entry.sound {
            return Err(String::new());
        }
        instance::instance(entry, module, env, daemon, found)
    }

    fn backups(
        &mut self,
        files: &mut [LocalFile],
        env: &Environment,
        previous: Option<&Loaded>,
        found: &mut Vec<Diagnostic>,
    ) {
        let before = previous.map(|previous| &previous.definitions.backups);
        let mut good = BTreeMap::new();
        let mut followers = BTreeMap::new();
        for (number, file) in files.iter_mut().enumerate() {
            for entry in std::mem::take(&mut file.backups) {
                if self.wins(Kind::Backup, &entry.name, number) {
                    let place = |span| after::Place { source: Arc::clone(&entry.source), span };
                    let place = entry.raw.after.as_ref().map(|after| place(after.span()));
                    followers.extend(place.map(|place| (entry.name.clone(), place)));
                    let value = self.backup(&entry, env, found);
                    let value = file.refused.clone().map_or(value, Err);
                    good.insert(entry.name, value);
                }
            }
        }
        after::follow(self, &followers, &mut good, before, found);
        let repositories = std::mem::take(&mut self.repositories);
        let whole = |backup: &Backup| backup.repositories.iter().all(|name| repositories.contains_key(name));
        self.backups = self.settle(Kind::Backup, good, files, before, previous, whole);
        self.repositories = repositories;
    }

    fn backup(
        &self,
        entry: &Entry<RawBackup>,
        env: &Environment,
        found: &mut Vec<Diagnostic>,
    ) -> Result<Backup, String> {
        let backup = backup::backup(entry, self, found)?;
        if !entry.sound {
            return Err(String::new());
        }
        let covered = self.instances.values().filter(|i| backup.instances.iter().any(|s| s.matches(i)));
        let swallowed =
            covered.flat_map(|instance| paths::swallowed(instance, &backup, &self.repositories, env)).next();
        match swallowed {
            None => Ok(backup),
            Some(message) => {
                let span = entry.raw.repositories.as_ref().map_or(entry.span.clone(), toml::Spanned::span);
                let help =
                    "exclude the repository's directory in the instance, or store it elsewhere".to_owned();
                let diagnostic = entry.source.error(&span, message, Some(help));
                found.push(diagnostic.clone());
                Err(diagnostic.to_string())
            }
        }
    }

    /// Good definitions live; in place of one that is not, the previous one stays, if `whole` holds for it.
    fn settle<T>(
        &mut self,
        kind: Kind,
        new: BTreeMap<Name, Result<T, String>>,
        files: &[LocalFile],
        before: Option<&BTreeMap<Name, Arc<T>>>,
        previous: Option<&Loaded>,
        whole: impl Fn(&T) -> bool,
    ) -> BTreeMap<Name, Arc<T>> {
        let mut active = BTreeMap::new();
        let mut lost: BTreeMap<Name, String> = BTreeMap::new();
        for winner in
            self.winners.values().filter(|winner| winner.kind == kind && !new.contains_key(&winner.name))
        {
            lost.insert(winner.name.clone(), files[winner.file].refused.clone().unwrap_or_default());
        }
        for (name, result) in new {
            match result {
                Ok(value) => drop(active.insert(name, Arc::new(value))),
                Err(reason) => drop(lost.insert(name, reason)),
            }
        }
        for (name, file) in previous.iter().flat_map(|previous| previous.names(kind)) {
            let gone = !self.winners.contains_key(&kind.id(&name));
            if let (true, Some(reason)) = (gone, refusal(&self.refused, &file)) {
                lost.insert(name, reason);
            }
        }
        for (name, reason) in lost {
            let id = kind.id(&name);
            match before.and_then(|before| before.get(&name)).filter(|old| whole(old)) {
                Some(old) => {
                    active.insert(name, Arc::clone(old));
                    self.kept.insert(id.clone());
                    self.outdated.insert(id, reason);
                }
                None => drop(self.unusable.insert(id, reason)),
            }
        }
        active
    }

    fn loaded(
        self,
        daemon: Daemon,
        files: &[LocalFile],
        previous: Option<&Loaded>,
        mut found: Vec<Diagnostic>,
    ) -> Loaded {
        let mut origins: BTreeMap<String, Place> = BTreeMap::new();
        for (number, file) in files.iter().enumerate() {
            for (key, offset) in &file.given {
                let mine = self.owner(key).map_or(!origins.contains_key(key), |owner| owner == number);
                if mine {
                    origins.insert(key.clone(), file.source.place(*offset));
                }
            }
        }
        origins.extend(self.winners.iter().map(|(id, winner)| (id.clone(), winner.place.clone())));
        for id in &self.kept {
            let below = format!("{id}/");
            origins.retain(|key, _| key != id && !key.starts_with(&below));
            origins.extend(previous.iter().flat_map(|previous| previous.origins_below(id)));
        }
        let order = |diagnostic: &Diagnostic| {
            let file = files.iter().position(|file| file.source.file == diagnostic.file);
            (file.map_or(0, |at| at + 1), diagnostic.line, diagnostic.column)
        };
        found.sort_by_cached_key(order);
        Loaded {
            definitions: Definitions {
                daemon,
                discover_docker: false,
                repositories: self.repositories,
                backups: self.backups,
                instances: self.instances,
            },
            diagnostics: found,
            origins,
            unusable: self.unusable,
            outdated: self.outdated,
            refused: self.refused,
        }
    }

    /// The number of the file whose definition a key `KIND/NAME/KEY` belongs to; none for `daemon/KEY`.
    fn owner(&self, key: &str) -> Option<usize> {
        let (id, _) = key.rsplit_once('/')?;
        self.winners.get(id).map(|winner| winner.file)
    }
}

/// Why a file is refused, by itself or with its directory.
pub(super) fn refusal(refused: &BTreeMap<PathBuf, String>, file: &Path) -> Option<String> {
    refused.iter().find(|(path, _)| file.starts_with(path)).map(|(_, reason)| reason.clone())
}
