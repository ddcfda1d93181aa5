//! Definition files to definitions: read safely, each file by itself, joined in one step.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Place};
use super::parse::{Kind, parse};
use super::valid::{LocalFile, discovers, link, local};
use super::{Dirs, Environment, files, stacks};
use crate::definition::{Backup, Definitions, Name, Selector};

/// What was loaded, good and bad.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What is active.
    pub definitions: Definitions,
    /// Everything that was found wrong, in file order.
    pub diagnostics: Vec<Diagnostic>,
    /// Where definitions (`backup/NAME`, at their name) and their values (`backup/NAME/KEY`, `daemon/KEY`) stand. What is not here
    /// is a default, or for an instance comes from its module (`module/NAME/KEY`).
    pub origins: BTreeMap<String, Place>,
    /// Definitions (`backup/NAME`, …, `daemon`) that are not active, with the reason.
    pub unusable: BTreeMap<String, String>,
    /// Definitions whose present text is not usable and whose previous version stays active, with the reason.
    pub outdated: BTreeMap<String, String>,
    /// Files and directories of which nothing is used, with the reason.
    pub refused: BTreeMap<PathBuf, String>,
}

/// A file's text in place of what is on disk: how an edit is checked before it is written. `None`: the file is removed.
#[derive(Debug)]
pub(super) struct Overlay<'a> {
    pub(super) path: &'a Path,
    pub(super) text: Option<&'a str>,
}

/// Reads all definitions. Never fails: what is wrong is in [`Loaded::diagnostics`], and hinders only itself.
///
/// In place of what cannot be used the version in `previous` stays active. Reads small local files: call it off the runtime.
pub fn load(dirs: &Dirs, env: &Environment, previous: Option<&Loaded>) -> Loaded {
    load_with(dirs, env, previous, None)
}

/// [`load`] with one file's text replaced.
pub(super) fn load_with(
    dirs: &Dirs,
    env: &Environment,
    previous: Option<&Loaded>,
    overlay: Option<&Overlay<'_>>,
) -> Loaded {
    let mut reading =
        Reading { env, overlay, files: Vec::new(), refused: BTreeMap::new(), found: Vec::new() };
    if reading.directory(&dirs.config) {
        reading.file(&dirs.main_file(), false);
        reading.all(&dirs.fragments(), false);
    }
    let before = previous.is_some_and(|previous| previous.definitions.discover_docker);
    if discovers(&reading.files, before) {
        // What somebody defines by hand goes before what was found.
        reading.all(&stacks::directory(&env.state_dir), true);
    }
    reading.all(&dirs.modules, true);
    let Reading { files, refused, found, .. } = reading;
    link(files, refused, found, env, previous)
}

/// What has been read so far.
struct Reading<'a> {
    env: &'a Environment,
    overlay: Option<&'a Overlay<'a>>,
    files: Vec<LocalFile>,
    refused: BTreeMap<PathBuf, String>,
    found: Vec<Diagnostic>,
}

impl Reading<'_> {
    /// Whether a directory may be looked into; it need not exist.
    fn directory(&mut self, directory: &Path) -> bool {
        match files::trusted_directory(directory, self.env.uid) {
            Ok(_) => true,
            Err(diagnostic) => {
                self.refuse(directory, *diagnostic);
                false
            }
        }
    }

    fn refuse(&mut self, path: &Path, diagnostic: Diagnostic) {
        self.refused.insert(path.to_owned(), diagnostic.to_string());
        self.found.push(diagnostic);
    }

    fn all(&mut self, directory: &Path, library: bool) {
        let mut paths = match files::list(directory, self.env.uid) {
            Ok(paths) => paths,
            Err(diagnostic) => return self.refuse(directory, *diagnostic),
        };
        if let Some(overlay) = self.overlay.filter(|overlay| overlay.path.parent() == Some(directory)) {
            paths.retain(|path| path != overlay.path);
            paths.push(overlay.path.to_owned());
            paths.sort();
        }
        for path in paths {
            self.file(&path, library);
        }
    }

    fn file(&mut self, path: &Path, library: bool) {
        let read = match self.overlay.filter(|overlay| overlay.path == path) {
            Some(overlay) => overlay.text.map(|text| files::text(path, text.into(), false)),
            None => files::read(path, self.env.uid),
        };
        match read {
            None => {}
            Some(Err(diagnostic)) => self.refuse(path, *diagnostic),
            Some(Ok(source)) => {
                let (raw, found) = parse(&Arc::new(source));
                let (file, found) = local(raw, found, library, self.env);
                self.found.extend(found);
                self.files.push(file);
            }
        }
    }
}

impl Loaded {
    /// Whether nothing is wrong; warnings are not.
    pub fn is_good(&self) -> bool {
        !self.diagnostics.iter().any(Diagnostic::is_error)
    }

    /// The instances that a backup names and whose definitions are unusable, with the reason: a run of it must not end as if they
    /// had been backed up.
    pub fn unusable_instances_of(&self, backup: &Backup) -> Vec<(Name, String)> {
        let named = backup.instances.iter().filter_map(|selector| match selector {
            Selector::Instance(name) if !self.definitions.instances.contains_key(name) => Some(name),
            _ => None,
        });
        let reason = |name: &Name| {
            let known = self.unusable.get(&Kind::Instance.id(name)).cloned();
            known.unwrap_or_else(|| {
                format!("the instance `{name}` is not defined in any file that could be read")
            })
        };
        named.map(|name| (name.clone(), reason(name))).collect()
    }

    /// The file that a table stands in, as its origin or its first key's.
    pub(super) fn origins_of(&self, id: &str) -> Option<PathBuf> {
        let key = format!("{id}/");
        let below = || self.origins.iter().find(|(at, _)| at.starts_with(&key)).map(|(_, place)| place);
        self.origins.get(id).or_else(below).map(|place| place.file.clone())
    }

    /// The active definitions of a kind that stand in a file.
    pub(super) fn names(&self, kind: Kind) -> Vec<(Name, PathBuf)> {
        let all: Vec<&Name> = match kind {
            Kind::Repository => self.definitions.repositories.keys().collect(),
            Kind::Backup => self.definitions.backups.keys().collect(),
            Kind::Instance => self.definitions.instances.keys().collect(),
            Kind::Module => Vec::new(),
        };
        let file = |name: &Name| self.origins.get(&kind.id(name)).map(|place| place.file.clone());
        all.into_iter().filter_map(|name| Some((name.clone(), file(name)?))).collect()
    }

    /// The origins of a definition and its keys.
    pub(super) fn origins_below(&self, id: &str) -> Vec<(String, Place)> {
        let below = format!("{id}/");
        let inside = |key: &str| key == id || key.starts_with(&below);
        self.origins
            .iter()
            .filter(|(key, _)| inside(key))
            .map(|(key, place)| (key.clone(), place.clone()))
            .collect()
    }
}
