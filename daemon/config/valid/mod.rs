//! Raw tables to valid definitions: pure, no file is touched. [`local`] looks at one file alone; `link` joins them.

mod after;
mod backup;
mod daemon;
mod dump;
mod instance;
mod link;
mod paths;
mod recovery;
mod remote;
mod repository;
mod service;

use std::sync::Arc;

use super::Environment;
use super::diagnostic::{Diagnostic, Source};
use super::parse::{Kind, Named, RawFile};
use super::raw::{Entry, RawBackup, RawDaemon, RawInstance, RawModule};
use super::value::{Reader, Table};
use crate::definition::{Name, Repository};

pub(super) use link::{discovers, link};

/// Something that one file defines by itself.
#[derive(Debug)]
pub(super) struct Local<T> {
    pub(super) name: Name,
    pub(super) value: T,
}

/// One file whose own values are known to be good or bad; references are not yet followed.
#[derive(Debug)]
pub(super) struct LocalFile {
    pub(super) source: Arc<Source>,
    pub(super) daemon: Option<RawDaemon>,
    /// `[discovery]` says that compose projects are looked for.
    pub(super) discover_docker: Option<bool>,
    pub(super) repositories: Vec<Local<Repository>>,
    pub(super) backups: Vec<Entry<RawBackup>>,
    pub(super) instances: Vec<Entry<RawInstance>>,
    pub(super) modules: Vec<Entry<RawModule>>,
    pub(super) names: Vec<Named>,
    /// Places of the keys that were given, by `KIND/NAME/KEY`, `daemon/KEY`.
    pub(super) given: Vec<(String, usize)>,
    /// The file's first error: none of its definitions is used then.
    pub(super) refused: Option<String>,
    pub(super) syntax_ok: bool,
    /// From the module library: the administrator's definition of the same name goes before.
    pub(super) library: bool,
}

/// Looks at one file alone.
pub(super) fn local(
    file: RawFile,
    found: Vec<Diagnostic>,
    library: bool,
    env: &Environment,
) -> (LocalFile, Vec<Diagnostic>) {
    let source = Arc::clone(&file.source);
    let given = given(&file);
    let RawFile { source: _, daemon, discovery, repositories, backups, instances, modules, names, syntax_ok } =
        file;
    let mut reader = Reader::new(&source);
    let repositories = repositories
        .into_iter()
        .filter_map(|entry| {
            let value = repository::repository(&entry, env, &mut reader)?;
            Some(Local { name: entry.name, value })
        })
        .collect();
    for entry in &backups {
        backup::required(entry, &mut reader);
    }
    let own = instances.iter().filter(|entry| entry.sound).map(|entry| &entry.raw.own);
    for raw in own.chain(modules.iter().filter(|entry| entry.sound).map(|entry| &entry.raw)) {
        instance::version_is_one(raw, &mut reader);
        service::check(raw, &mut reader);
        dump::check(raw, &mut reader);
        recovery::check(raw, &mut reader);
    }
    let mut found = found;
    found.extend(reader.finish());
    let refused = found.iter().find(|finding| finding.is_error()).map(|first| first.to_string());
    let daemon = daemon.map(toml::Spanned::into_inner);
    let discover_docker = discovery.and_then(|raw| raw.into_inner().docker.map(|docker| *docker.get_ref()));
    let file = LocalFile {
        source,
        daemon,
        discover_docker,
        repositories,
        backups,
        instances,
        modules,
        names,
        given,
        refused,
        syntax_ok,
        library,
    };
    (file, found)
}

fn given(file: &RawFile) -> Vec<(String, usize)> {
    fn of<T: Table>(id: &str, raw: &T) -> Vec<(String, usize)> {
        raw.given().into_iter().map(|(key, span)| (format!("{id}/{key}"), span.start)).collect()
    }
    let mut all: Vec<(String, usize)> = Vec::new();
    all.extend(file.daemon.iter().flat_map(|raw| of("daemon", raw.get_ref())));
    all.extend(file.discovery.iter().flat_map(|raw| of("discovery", raw.get_ref())));
    all.extend(file.repositories.iter().flat_map(|e| of(&Kind::Repository.id(&e.name), &e.raw)));
    all.extend(file.backups.iter().flat_map(|e| of(&Kind::Backup.id(&e.name), &e.raw)));
    all.extend(file.instances.iter().flat_map(|e| of(&Kind::Instance.id(&e.name), &e.raw)));
    all.extend(file.modules.iter().flat_map(|e| of(&Kind::Module.id(&e.name), &e.raw)));
    all
}
