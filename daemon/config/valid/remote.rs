//! An instance on another machine: what its keys need of each other, and which have no meaning there.

use super::super::Environment;
use super::super::diagnostic::Source;
use super::super::raw::{Entry, RawDump, RawInstance};
use super::super::value::{Include, SourceWord, Table};
use super::instance::{Complaints, Layers, Placed};
use crate::definition::{Address, Remote};

/// How an include of this machine begins, where the instance is on another one.
const LOCAL: &str = "local:";

/// Keys that are about this machine alone.
const NEAR: [&str; 3] = ["user", "install_dir", "recovery"];

/// Sources that are not reached in containers there.
const OUTSIDE: [SourceWord; 4] =
    [SourceWord::Openldap, SourceWord::Etcd, SourceWord::Sqlite, SourceWord::Mongodb];

/// The machine of an instance, or of a dump that has its `own`.
pub(super) fn remote(
    entry: &Entry<RawInstance>,
    layers: &Layers<'_>,
    own: Option<&Address>,
    env: &Environment,
) -> Option<Remote> {
    let instance = layers.value(|raw| &raw.ssh).map(|address| address.0);
    let same = own.is_none() || own == instance.as_ref();
    let address = own.cloned().or(instance)?;
    let mut remote = Remote::new(&address, &entry.name, &env.state_dir, &env.cache_dir);
    if let Some(key) = layers.value(|raw| &raw.ssh_key) {
        remote.key = key.0;
    }
    remote.sudo = same && layers.value(|raw| &raw.sudo).unwrap_or(false);
    Some(remote)
}

/// Includes that are paths of this machine, without their mark.
pub(super) fn of_this_machine(layers: &Layers<'_>, includes: &[String]) -> Vec<String> {
    if layers.pick(|raw| &raw.ssh).is_none() {
        return includes.to_vec();
    }
    includes.iter().filter_map(|include| include.strip_prefix(LOCAL)).map(str::to_owned).collect()
}

/// Notes what does not fit to `ssh`, or means nothing without.
pub(super) fn check(layers: &Layers<'_>, includes: &[Placed<'_, Include>], complaints: &mut Complaints<'_>) {
    let far = layers.pick(|raw| &raw.ssh).is_some();
    if far {
        near_keys(layers, complaints);
    } else {
        far_keys(layers, complaints);
    }
    dumps(layers, far, complaints);
    for (source, include) in includes {
        let text = include.get_ref().0.as_str();
        if let Some((message, help)) = refused(text, far) {
            complaints.add(source, &include.span(), message, help);
        }
    }
}

fn refused(include: &str, far: bool) -> Option<(String, &'static str)> {
    let local = include.strip_prefix(LOCAL);
    match (far, local) {
        (false, Some(_)) => Some((
            format!("{include:?}: without `ssh` all paths are of this machine"),
            "write the path itself",
        )),
        (true, Some(path)) if path.trim_matches('/').is_empty() => {
            Some((format!("{include:?} is all of this machine"), "name directories"))
        }
        (true, None) if include.starts_with("volumes/") => None,
        (true, None) if !include.starts_with('/') => Some((
            format!("{include:?} is no path of another machine"),
            "write an absolute path there, volumes/NAME, or local:/path for one here",
        )),
        (true, None) if include.trim_matches('/').is_empty() => {
            Some(("\"/\" of another machine is not mirrored".into(), "name directories"))
        }
        (true, None) if include.contains('\\') => {
            Some((format!("{include:?}: a path of another machine may not hold a \"\\\""), "write ? for it"))
        }
        _ => None,
    }
}

/// Keys that an instance on another machine cannot have.
fn near_keys(layers: &Layers<'_>, complaints: &mut Complaints<'_>) {
    for (source, raw) in layers.all() {
        for (key, span) in raw.given().into_iter().filter(|(key, _)| NEAR.contains(key)) {
            let message =
                format!("`{key}` is about this machine, and `ssh` says that the instance is on another");
            complaints.add(source, &span, message, "leave one of them out");
        }
    }
}

/// Keys that say nothing without `ssh`.
fn far_keys(layers: &Layers<'_>, complaints: &mut Complaints<'_>) {
    if let Some((source, sudo)) = layers.pick(|raw| &raw.sudo).filter(|(_, sudo)| *sudo.get_ref()) {
        complaints.add(source, &sudo.span(), "`sudo` needs `ssh`".into(), "write ssh = \"user@host\"");
    }
    let dumped = layers
        .pick(|raw| &raw.dump)
        .is_some_and(|(_, all)| all.get_ref().iter().any(|dump| dump.get_ref().ssh.is_some()));
    if let Some((source, key)) = layers.pick(|raw| &raw.ssh_key).filter(|_| !dumped) {
        complaints.add(source, &key.span(), "`ssh_key` needs `ssh`".into(), "write ssh = \"user@host\"");
    }
}

fn dumps(layers: &Layers<'_>, far: bool, complaints: &mut Complaints<'_>) {
    let Some((source, list)) = layers.pick(|raw| &raw.dump) else { return };
    for dump in list.get_ref() {
        let raw: &RawDump = dump.get_ref();
        let Some(word) = &raw.source else { continue };
        let here =
            [SourceWord::Command, SourceWord::Sqlite, SourceWord::Opensearch, SourceWord::Elasticsearch];
        if !far && raw.ssh.is_none() {
            if let Some(user) = raw.run_as.as_ref().filter(|_| here.contains(word.get_ref())) {
                let message =
                    format!("`run_as` of source = {:?} counts only over ssh", word.get_ref().word());
                complaints.add(source, &user.span(), message, "give the instance its `user`");
            }
            continue;
        }
        if *word.get_ref() == SourceWord::Sqlite {
            relative(raw, source, complaints);
        }
        if let Some(cert) = raw.cert_file.as_ref().filter(|_| *word.get_ref() == SourceWord::Mongodb) {
            let message = "`cert_file` of a MongoDB on another machine is not there yet".to_owned();
            complaints.add(source, &cert.span(), message, "let a password log in there");
        }
        if let Some(container) = raw.container.as_ref().filter(|_| OUTSIDE.contains(word.get_ref())) {
            let message = format!(
                "source = {:?} in a container of another machine is not there yet",
                word.get_ref().word()
            );
            let help = "use source = \"command\" with `container`";
            complaints.add(source, &container.span(), message, help);
        }
    }
}

/// Files of SQLite there are named by where they lie.
fn relative(raw: &RawDump, source: &Source, complaints: &mut Complaints<'_>) {
    let files = raw.databases.iter().flat_map(|files| files.get_ref());
    for file in files.filter(|file| !file.get_ref().0.starts_with('/')) {
        let message = format!("{:?} is no path of another machine", file.get_ref().0);
        complaints.add(source, &file.span(), message, "write an absolute path there");
    }
}
