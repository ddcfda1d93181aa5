//! Raw tables to valid definitions: pure, no file is touched. [`local`] looks at one file alone; `link` joins them.

mod backup;
mod instance;
mod link;
mod paths;
mod repository;

use std::sync::Arc;

use super::Environment;
use super::diagnostic::{Diagnostic, Source};
use super::parse::{Kind, Named, RawFile};
use super::raw::{Entry, RawBackup, RawDaemon, RawInstance, RawModule};
use super::value::{Reader, Table};
use crate::definition::{Daemon, Name, Repository};

pub(super) use link::link;

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
    let RawFile { source: _, daemon, repositories, backups, instances, modules, names, syntax_ok } = file;
    let mut reader = Reader::new(&source);
    // What lacks a key because that key's value was refused would be reported twice.
    let first_pass_ok = !found.iter().any(Diagnostic::is_error);
    let repositories = repositories
        .into_iter()
        .filter_map(|entry| {
            let value = repository::repository(&entry, env, &mut reader, first_pass_ok)?;
            Some(Local { name: entry.name, value })
        })
        .collect();
    for entry in &backups {
        backup::required(entry, &mut reader, first_pass_ok);
    }
    let instance_raws = instances.iter().map(|entry| &entry.raw.own);
    for raw in instance_raws.chain(modules.iter().map(|entry| &entry.raw)) {
        instance::version_is_one(raw, &mut reader, first_pass_ok);
    }
    let mut found = found;
    found.extend(reader.finish());
    let refused = found.iter().find(|finding| finding.is_error()).map(|first| first.to_string());
    let daemon = daemon.map(toml::Spanned::into_inner);
    let file = LocalFile {
        source,
        daemon,
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
    all.extend(file.repositories.iter().flat_map(|e| of(&Kind::Repository.id(&e.name), &e.raw)));
    all.extend(file.backups.iter().flat_map(|e| of(&Kind::Backup.id(&e.name), &e.raw)));
    all.extend(file.instances.iter().flat_map(|e| of(&Kind::Instance.id(&e.name), &e.raw)));
    all.extend(file.modules.iter().flat_map(|e| of(&Kind::Module.id(&e.name), &e.raw)));
    all
}

/// Settings of the daemon: what was written, the rest by default.
pub(super) fn daemon(raw: RawDaemon, env: &Environment) -> Daemon {
    let RawDaemon { staging_dir, timezone, max_parallel, host, restic, metrics_file } = raw;
    Daemon {
        staging_dir: staging_dir.map_or_else(|| env.state_dir.join("staging"), |dir| dir.into_inner().0),
        timezone: timezone.map_or_else(|| env.zone.clone(), |zone| zone.into_inner().0),
        max_parallel: max_parallel.map_or(env.cpus.max(1), |count| count.into_inner().0 as usize),
        host: host.map_or_else(|| env.host.clone(), |host| host.into_inner().0),
        restic: restic.map_or_else(|| "restic".into(), |restic| restic.into_inner().into()),
        metrics_file: metrics_file.map(|file| file.into_inner().0),
    }
}
