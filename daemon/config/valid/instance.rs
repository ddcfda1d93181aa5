//! An instance's table, its module's below it, to an instance.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;

use super::super::Environment;
use super::super::diagnostic::{Diagnostic, Source};
use super::super::raw::{Entry, RawHealth, RawInstance, RawModule, RawRestore, RawVersion};
use super::super::value::{Argv, Exclude, Include, Reader, nearest};
use super::super::written;
use super::backup::names_of;
use super::link::Broken;
use super::{dump, paths, remote};
use crate::definition::{Address, Allow, Daemon, Engine, Health, Instance, Name, Restore, Version, Volumes};

/// Notes a version that is given in two ways, or in none.
pub(super) fn version_is_one(raw: &RawModule, reader: &mut Reader<'_>) {
    let Some(version) = &raw.version else { return };
    let RawVersion { command, builtin, r#match: _ } = version.get_ref();
    if command.is_some() == builtin.is_some() {
        let help = "write command = [\"…\"], or builtin = \"dpkg:NAME\"";
        reader.error(&version.span(), "`version` takes one of `command` and `builtin`", Some(help.into()));
    }
}

/// Reports an instance whose module cannot be had; the reason.
pub(super) fn no_module(
    entry: &Entry<RawInstance>,
    name: &Spanned<Name>,
    broken: &Broken,
    found: &mut Vec<Diagnostic>,
) -> String {
    let what = match broken {
        Broken::Unusable(reason) => return reason.clone(),
        Broken::Undefined(what) => what,
    };
    let known: Vec<&str> = what.known.iter().map(|name| &**name).collect();
    let help = match nearest(name.get_ref(), &known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "define [module.NAME], or leave `module` out and give its keys here".into(),
    };
    let diagnostic = entry.source.error(&name.span(), &what.message, Some(help));
    found.push(diagnostic.clone());
    diagnostic.to_string()
}

/// A value with the file that it stands in.
pub(super) type Placed<'a, T> = (&'a Arc<Source>, &'a Spanned<T>);

/// One key of a layer.
type Key<T> = for<'r> fn(&'r RawModule) -> &'r Option<Spanned<T>>;

/// An instance over its module.
pub(super) struct Layers<'a> {
    own: (&'a Arc<Source>, &'a RawModule),
    module: Option<(&'a Arc<Source>, &'a RawModule)>,
}

impl<'a> Layers<'a> {
    /// The instance's value, else its module's.
    pub(super) fn pick<T>(&self, key: Key<T>) -> Option<Placed<'a, T>> {
        let at =
            |(source, raw): (&'a Arc<Source>, &'a RawModule)| key(raw).as_ref().map(|value| (source, value));
        at(self.own).or_else(|| self.module.and_then(at))
    }

    pub(super) fn value<T: Clone>(&self, key: Key<T>) -> Option<T> {
        self.pick(key).map(|(_, value)| value.get_ref().clone())
    }

    /// Both layers, with the files that they stand in.
    pub(super) fn all(&self) -> Vec<(&'a Arc<Source>, &'a RawModule)> {
        self.module.into_iter().chain([self.own]).collect()
    }

    /// A list, and what is appended to it on both layers.
    fn list<T>(&self, key: Key<Vec<Spanned<T>>>, add: Key<Vec<Spanned<T>>>) -> Vec<Placed<'a, T>> {
        let layers = self.module.into_iter().chain([self.own]);
        let added = layers.filter_map(|(source, raw)| add(raw).as_ref().map(|list| (source, list)));
        let lists = self.pick(key).into_iter().chain(added);
        lists.flat_map(|(source, list)| list.get_ref().iter().map(move |value| (source, value))).collect()
    }
}

/// What is wrong with one instance.
pub(super) struct Complaints<'f> {
    name: &'f Name,
    first: Option<String>,
    found: &'f mut Vec<Diagnostic>,
}

impl Complaints<'_> {
    pub(super) fn add(&mut self, source: &Source, span: &Range<usize>, message: String, help: &str) {
        let diagnostic =
            source.error(span, format!("instance `{}`: {message}", self.name), Some(help.into()));
        self.first.get_or_insert(diagnostic.to_string());
        self.found.push(diagnostic);
    }
}

/// The instance; otherwise the first reason why not, and all of them in `found`.
pub(super) fn instance(
    entry: &Entry<RawInstance>,
    module: Option<&Entry<RawModule>>,
    env: &Environment,
    daemon: &Daemon,
    found: &mut Vec<Diagnostic>,
) -> Result<Instance, String> {
    let layers = Layers {
        own: (&entry.source, &entry.raw.own),
        module: module.map(|entry| (&entry.source, &entry.raw)),
    };
    let mut complaints = Complaints { name: &entry.name, first: None, found };
    let includes = layers.list(|raw| &raw.include, |raw| &raw.include_add);
    let excludes = layers.list(|raw| &raw.exclude, |raw| &raw.exclude_add);
    check(entry, &layers, &includes, &mut complaints);
    for (source, include) in &includes {
        let here = remote::of_this_machine(&layers, std::slice::from_ref(&include.get_ref().0));
        if let Some(message) = here.first().and_then(|path| paths::refused(path, env, daemon)) {
            complaints.add(
                source,
                &include.span(),
                message,
                "include something else; the daemon keeps its own state there",
            );
        }
    }
    match complaints.first {
        Some(reason) => Err(reason),
        None => {
            let written = written::merged(&entry.written, module.map(|module| &module.written));
            let merged = merged(entry, &layers, &includes, &excludes, env, daemon);
            Ok(Instance { written: Arc::new(written), ..merged })
        }
    }
}

fn merged(
    entry: &Entry<RawInstance>,
    layers: &Layers<'_>,
    includes: &[Placed<'_, Include>],
    excludes: &[Placed<'_, Exclude>],
    env: &Environment,
    daemon: &Daemon,
) -> Instance {
    let install_dir = layers.value(|raw| &raw.install_dir).map(|dir| dir.0);
    let volumes = if install_dir.is_some() { Volumes::Podman } else { Volumes::None };
    let include: Vec<String> = includes.iter().map(|(_, include)| include.get_ref().0.clone()).collect();
    let mut exclude: Vec<String> = excludes.iter().map(|(_, exclude)| exclude.get_ref().0.clone()).collect();
    let here: Vec<String> = remote::of_this_machine(layers, &include);
    exclude.extend(paths::own_state_below(&here, env, daemon));
    let far = |own: Option<&Address>| remote::remote(entry, layers, own, env);
    Instance {
        remote: far(None),
        name: entry.name.clone(),
        module: entry.raw.module.as_ref().map(|module| module.get_ref().clone()),
        user: layers.value(|raw| &raw.user).map(|user| user.0),
        install_dir,
        volumes: layers.value(|raw| &raw.volumes).unwrap_or(volumes),
        include,
        exclude,
        strict: layers.value(|raw| &raw.strict).unwrap_or(false),
        dump_state: layers.value(|raw| &raw.dump_state).map(|argv| argv.0),
        cleanup_state: layers.value(|raw| &raw.cleanup_state).map(|argv| argv.0),
        dumps: layers
            .pick(|raw| &raw.dump)
            .map_or_else(Vec::new, |(_, dumps)| dump::dumps(dumps.get_ref(), engine(layers), far)),
        hook_timeout: layers.value(|raw| &raw.hook_timeout).map_or(HOUR, |limit| limit.0),
        stall_timeout: layers.value(|raw| &raw.stall_timeout).map_or(HOUR / 2, |limit| limit.0),
        restore: restore(layers),
        version: layers.pick(|raw| &raw.version).and_then(|(_, version)| version_of(version.get_ref())),
        version_match: layers
            .pick(|raw| &raw.version)
            .and_then(|(_, version)| version.get_ref().r#match.as_ref())
            .map(|wanted| *wanted.get_ref())
            .unwrap_or_default(),
        services: layers
            .pick(|raw| &raw.service)
            .map(|(_, list)| super::service::services(list.get_ref()))
            .unwrap_or_default(),
        recovery: layers
            .pick(|raw| &raw.recovery)
            .and_then(|(_, raw)| super::recovery::recovery(raw.get_ref())),
        allow: Allow {
            users: names_of(layers.pick(|raw| &raw.allow_users).map(|(_, names)| names)),
            groups: names_of(layers.pick(|raw| &raw.allow_groups).map(|(_, names)| names)),
        },
        written: Arc::default(),
    }
}

/// Who runs the containers of dumps that do not say it.
fn engine(layers: &Layers<'_>) -> Engine {
    match layers.pick(|raw| &raw.volumes).map(|(_, volumes)| volumes.get_ref()) {
        Some(Volumes::Podman) => Engine::Podman,
        _ => Engine::Docker,
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

fn version_of(raw: &RawVersion) -> Option<Version> {
    let RawVersion { command, builtin, r#match: _ } = raw;
    let command = command.as_ref().map(|argv| Version::Command(argv.get_ref().0.clone()));
    command.or_else(|| builtin.as_ref().map(|builtin| builtin.get_ref().clone()))
}

/// The table stands for itself: an instance's replaces its module's.
fn restore(layers: &Layers<'_>) -> Restore {
    let default = Restore::default();
    let Some((_, raw)) = layers.pick(|raw| &raw.restore) else { return default };
    let RawRestore { steps, keep_previous, health, owners, setuid, devices } = raw.get_ref();
    Restore {
        steps: steps.as_ref().map(|steps| steps.get_ref().0.clone()),
        keep_previous: keep_previous.as_ref().map_or(default.keep_previous, |keep| keep.get_ref().0),
        health: health.as_ref().and_then(|health| health_of(health.get_ref())),
        owners: owners.as_ref().map_or(default.owners, |owners| *owners.get_ref()),
        setuid: setuid.as_ref().is_some_and(|setuid| *setuid.get_ref()),
        devices: devices.as_ref().is_some_and(|devices| *devices.get_ref()),
    }
}

fn health_of(raw: &RawHealth) -> Option<Health> {
    let RawHealth { command, timeout } = raw;
    let timeout = timeout.as_ref().map_or(HOUR / 30, |limit| limit.get_ref().0);
    command.as_ref().map(|argv| Health { command: argv.get_ref().0.clone(), timeout })
}

fn steps<'a>(layers: &Layers<'a>) -> Option<Placed<'a, super::super::value::Steps>> {
    let (source, restore) = layers.pick(|raw| &raw.restore)?;
    let RawRestore { steps, keep_previous: _, health: _, owners: _, setuid: _, devices: _ } =
        restore.get_ref();
    steps.as_ref().map(|steps| (source, steps))
}

/// What an instance's keys need of each other.
fn check(
    entry: &Entry<RawInstance>,
    layers: &Layers<'_>,
    includes: &[Placed<'_, Include>],
    complaints: &mut Complaints<'_>,
) {
    let placed = layers.pick(|raw| &raw.install_dir).is_some();
    let need = "give `install_dir`, or an absolute path";
    health(layers, placed, complaints);
    remote::check(layers, includes, complaints);
    let hooks = [
        ("dump_state", layers.pick(|raw| &raw.dump_state)),
        ("cleanup_state", layers.pick(|raw| &raw.cleanup_state)),
    ];
    for (key, hook) in hooks.into_iter().filter_map(|(key, hook)| Some((key, hook?))) {
        if !placed && relative(hook.1.get_ref()) {
            complaints.add(
                hook.0,
                &hook.1.span(),
                format!("`{key}` is relative to `install_dir`, which is not given"),
                need,
            );
        }
    }
    if let Some((source, steps)) =
        steps(layers).filter(|(_, steps)| !placed && steps.get_ref().0.is_relative())
    {
        complaints.add(
            source,
            &steps.span(),
            "`steps` is relative to `install_dir`, which is not given".into(),
            need,
        );
    }
    if includes.is_empty() && !placed && layers.pick(|raw| &raw.dump).is_none() {
        let help = "give `include`, `dump`, or `install_dir` with the NS8 layout";
        complaints.add(&entry.source, &entry.span, "there is nothing to back up".into(), help);
    }
    let volumes = layers.pick(|raw| &raw.volumes).map(|(_, volumes)| volumes.get_ref());
    for (source, include) in includes {
        let text = include.get_ref().0.as_str();
        if !placed && (text == "state" || text.starts_with("state/")) {
            let message = format!("{text:?} lies in `install_dir`, which is not given");
            complaints.add(
                source,
                &include.span(),
                message,
                "give `install_dir`, or include an absolute path",
            );
        }
        if let Some((message, help)) = volume_unknown(text, volumes, placed) {
            complaints.add(source, &include.span(), message, help);
        }
    }
}

/// What a health check needs.
fn health(layers: &Layers<'_>, placed: bool, complaints: &mut Complaints<'_>) {
    let need = "give `install_dir`, or an absolute path";
    if let Some((source, health)) = layers
        .pick(|raw| &raw.restore)
        .and_then(|(source, restore)| Some((source, restore.get_ref().health.as_ref()?)))
    {
        match &health.get_ref().command {
            None => complaints.add(
                source,
                &health.span(),
                "`health` has no `command`".into(),
                "write health = { command = [\"…\"], timeout = \"2m\" }",
            ),
            Some(argv) if !placed && relative(argv.get_ref()) => complaints.add(
                source,
                &argv.span(),
                "`health` is relative to `install_dir`, which is not given".into(),
                need,
            ),
            Some(_) => {}
        }
    }
}

/// Whether a program is given by a relative path; a bare name may also be found on PATH.
fn relative(argv: &Argv) -> bool {
    argv.0.first().is_some_and(|program| program.contains('/') && !program.starts_with('/'))
}

fn volume_unknown(include: &str, volumes: Option<&Volumes>, placed: bool) -> Option<(String, &'static str)> {
    let name = include.strip_prefix("volumes/")?.split('/').next().unwrap_or_default();
    match volumes {
        Some(Volumes::Table(table)) if !table.contains_key(name) && !name.contains(['*', '?', '[']) => {
            Some((
                format!("the volume `{name}` is not in the table `volumes`"),
                "add it: volumes = { NAME = \"/path\" }",
            ))
        }
        None if !placed => Some((
            format!("{include:?} is a volume, and nobody knows where volumes lie"),
            "give volumes = \"podman\", \"docker\" or { NAME = \"/path\" }",
        )),
        _ => None,
    }
}
