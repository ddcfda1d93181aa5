//! Each effective value and where it came from.

mod dumps;

use dumps::dump;
use serde::Serialize;
use toml_edit::{Array, InlineTable, Value};

use super::Loaded;
use super::value::{duration_text, nearest};
use crate::definition::{
    Backup, Daemon, Health, Instance, Layout, Manager, Name, Password, Recovery, Repository, Restore,
    Retention, Service, Version, Volumes,
};

/// One effective value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// `daemon`, `repository/NAME`, `backup/NAME`, `instance/NAME`.
    pub definition: String,
    /// The key, as in the file.
    pub key: String,
    /// The value, as it would be written in the file; `-` for none.
    pub value: String,
    /// `FILE:LINE` (several when lists are appended), or `default`.
    pub origin: String,
}

/// The values of everything that is active, or of one definition: `daemon`, `backup/NAME`, `backup.NAME` or just `NAME`.
///
/// # Errors
/// There is no such definition, or it is unusable: which, why, and what was probably meant.
pub fn explain(loaded: &Loaded, subject: Option<&str>) -> Result<Vec<Row>, String> {
    let rows = all(loaded);
    let Some(subject) = subject else { return Ok(rows) };
    let meant = |id: &str| {
        id == subject
            || id.replacen('/', ".", 1) == subject
            || id.split_once('/').is_some_and(|(_, name)| name == subject)
    };
    let chosen: Vec<Row> = rows.iter().filter(|row| meant(&row.definition)).cloned().collect();
    if !chosen.is_empty() {
        return Ok(chosen);
    }
    if let Some((id, reason)) = loaded.unusable.iter().find(|(id, _)| meant(id)) {
        return Err(format!("`{id}` cannot be used: {reason}"));
    }
    let known: Vec<&str> = rows.iter().map(|row| row.definition.as_str()).collect();
    let help = nearest(subject, &known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    Err(format!("`{}` is not defined{help}", subject.escape_debug()))
}

fn all(loaded: &Loaded) -> Vec<Row> {
    let definitions = &loaded.definitions;
    let mut rows = Vec::new();
    let mut add = |id: String, module: Option<&Name>, values: Vec<(&str, Value)>| {
        rows.extend(values.into_iter().map(|(key, value)| row(loaded, &id, module, key, &value)));
    };
    add("daemon".into(), None, daemon(&definitions.daemon));
    add("discovery".into(), None, vec![("docker", definitions.discover_docker.into())]);
    for repository in definitions.repositories.values() {
        add(format!("repository/{}", repository.name), None, self::repository(repository));
    }
    for backup in definitions.backups.values() {
        add(format!("backup/{}", backup.name), None, self::backup(backup));
    }
    for instance in definitions.instances.values() {
        add(format!("instance/{}", instance.name), instance.module.as_ref(), self::instance(instance));
    }
    rows
}

fn row(loaded: &Loaded, id: &str, module: Option<&Name>, key: &str, value: &Value) -> Row {
    let place = |key: &str| {
        let own = loaded.origins.get(&format!("{id}/{key}"));
        own.or_else(|| loaded.origins.get(&format!("module/{}/{key}", module?)))
    };
    let added = |key: &str| {
        let layers = [module.map(|module| format!("module/{module}/{key}")), Some(format!("{id}/{key}"))];
        layers.into_iter().flatten().filter_map(|key| loaded.origins.get(&key)).collect::<Vec<_>>()
    };
    let appended = added(&format!("{key}_add"));
    let places: Vec<String> = place(key)
        .into_iter()
        .chain(appended)
        .map(|place| format!("{}:{}", place.file.display(), place.line))
        .collect();
    let text = value.to_string();
    Row {
        definition: id.to_owned(),
        key: key.to_owned(),
        value: if text == "\"\"" { "-".into() } else { text },
        origin: if places.is_empty() { "default".into() } else { places.join(", ") },
    }
}

/// `""` stands for none: no key takes an empty string.
fn text(value: impl Into<Option<String>>) -> Value {
    value.into().unwrap_or_default().into()
}

fn number(value: impl TryInto<i64>) -> Value {
    value.try_into().unwrap_or(i64::MAX).into()
}

fn list<T: AsRef<str>>(values: impl IntoIterator<Item = T>) -> Value {
    Value::Array(values.into_iter().map(|value| value.as_ref().to_owned()).collect::<Array>())
}

fn argv(value: Option<&Vec<String>>) -> Value {
    value.map_or_else(|| text(None), list)
}

fn table<const N: usize>(entries: [(&str, Option<Value>); N]) -> Value {
    let given = entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::InlineTable(given.collect::<InlineTable>())
}

fn path(path: &std::path::Path) -> String {
    path.to_string_lossy().into_owned()
}

fn daemon(daemon: &Daemon) -> Vec<(&'static str, Value)> {
    let Daemon { staging_dir, timezone, max_parallel, host, restic, metrics_file } = daemon;
    vec![
        ("staging_dir", text(path(staging_dir))),
        ("timezone", text(timezone.iana_name().unwrap_or("the machine's").to_owned())),
        ("max_parallel", number(*max_parallel)),
        ("host", text(host.clone())),
        ("restic", text(path(restic))),
        ("metrics_file", text(metrics_file.as_deref().map(path))),
    ]
}

fn repository(repository: &Repository) -> Vec<(&'static str, Value)> {
    let Repository {
        name: _,
        url: _,
        password,
        environment_file,
        layout,
        append_only,
        prune,
        check,
        unlock_foreign_after,
    } = repository;
    let (key, secret) = match password {
        Password::File(file) | Password::Generated(file) => ("password_file", text(path(file))),
        Password::Credential(name) => ("password_credential", text(name.clone())),
        Password::Command(words) => ("password_command", list(words)),
    };
    let prune = prune.as_ref().map(|prune| {
        table([
            ("schedule", Some(prune.schedule.text().into())),
            ("max_unused", Some(prune.max_unused.as_str().into())),
        ])
    });
    let check = check.as_ref().map(|check| {
        table([
            ("schedule", Some(check.schedule.text().into())),
            ("read_data", check.read_data.as_deref().map(Value::from)),
        ])
    });
    let layout = match layout {
        Layout::PerInstance => "per-instance",
        Layout::Shared => "shared",
    };
    vec![
        ("url", text(repository.shown_url())),
        (key, secret),
        ("environment_file", text(environment_file.as_deref().map(path))),
        ("layout", layout.into()),
        ("append_only", (*append_only).into()),
        ("prune", prune.unwrap_or_else(|| false.into())),
        ("check", check.unwrap_or_else(|| false.into())),
        ("unlock_foreign_after", text(unlock_foreign_after.map(duration_text))),
    ]
}

fn backup(backup: &Backup) -> Vec<(&'static str, Value)> {
    let Backup {
        name: _,
        repositories,
        schedule,
        after,
        before_new_version,
        retention,
        instances,
        enabled,
        catch_up,
        random_delay,
        blackout,
        priority,
        max_duration,
        retry,
        allow,
    } = backup;
    let retry =
        [("attempts", Some(number(retry.attempts))), ("delay", Some(duration_text(retry.delay).into()))];
    vec![
        ("repositories", list(repositories.iter().map(Name::as_str))),
        ("schedule", text(schedule.as_ref().map(|schedule| schedule.text().to_owned()))),
        ("after", text(after.as_ref().map(Name::to_string))),
        ("before", text(before_new_version.then(|| "new-version".to_owned()))),
        ("retention", retention.as_ref().map_or_else(|| text(None), retained)),
        ("instances", list(instances.iter().map(ToString::to_string))),
        ("enabled", (*enabled).into()),
        ("catch_up", (*catch_up).into()),
        ("random_delay", duration_text(*random_delay).into()),
        ("blackout", list(blackout.iter().map(crate::calendar::Window::text))),
        ("priority", i64::from(*priority).into()),
        ("max_duration", text(max_duration.map(duration_text))),
        ("retry", table(retry)),
        ("allow_users", list(&allow.users)),
        ("allow_groups", list(&allow.groups)),
    ]
}

fn retained(retention: &Retention) -> Value {
    let Retention { last, hourly, daily, weekly, monthly, yearly, within, versions } = retention;
    let count = |count: &u32| (*count > 0).then(|| number(*count));
    table([
        ("last", count(last)),
        ("hourly", count(hourly)),
        ("daily", count(daily)),
        ("weekly", count(weekly)),
        ("monthly", count(monthly)),
        ("yearly", count(yearly)),
        ("within", within.map(|within| duration_text(within).into())),
        ("versions", count(versions)),
    ])
}

fn instance(instance: &Instance) -> Vec<(&'static str, Value)> {
    let Instance {
        name: _,
        module,
        remote,
        user,
        install_dir,
        volumes,
        include,
        exclude,
        strict,
        dump_state,
        cleanup_state,
        dumps,
        hook_timeout,
        stall_timeout,
        restore,
        version,
        version_match,
        services,
        recovery,
        allow,
        written: _,
    } = instance;
    let version = version.as_ref().map(|version| {
        let (key, value) = match version {
            Version::Command(words) => ("command", list(words)),
            Version::Dpkg(name) => ("builtin", format!("dpkg:{name}").into()),
            Version::Ostree => ("builtin", "ostree".into()),
            Version::Bootc => ("builtin", "bootc".into()),
            Version::Rpm(name) => ("builtin", format!("rpm:{name}").into()),
        };
        table([(key, Some(value)), ("match", Some(version_match.word().into()))])
    });
    vec![
        ("module", text(module.as_ref().map(Name::to_string))),
        ("ssh", text(remote.as_ref().map(dumps::address))),
        ("ssh_key", text(remote.as_ref().map(|remote| path(&remote.key)))),
        ("sudo", remote.as_ref().is_some_and(|remote| remote.sudo).into()),
        ("user", text(user.clone())),
        ("install_dir", text(install_dir.as_deref().map(path))),
        ("volumes", self::volumes(volumes)),
        ("include", list(include)),
        ("exclude", list(exclude)),
        ("strict", (*strict).into()),
        ("dump_state", argv(dump_state.as_ref())),
        ("cleanup_state", argv(cleanup_state.as_ref())),
        ("dump", Value::Array(dumps.iter().map(self::dump).collect())),
        ("hook_timeout", duration_text(*hook_timeout).into()),
        ("stall_timeout", duration_text(*stall_timeout).into()),
        ("restore", self::restore(restore)),
        ("version", version.unwrap_or_else(|| text(None))),
        ("recovery", recovery.as_ref().map_or_else(|| text(None), self::recovery)),
        ("service", Value::Array(services.iter().map(service).collect())),
        ("allow_users", list(&allow.users)),
        ("allow_groups", list(&allow.groups)),
    ]
}

fn recovery(recovery: &Recovery) -> Value {
    let Recovery {
        unit,
        guard,
        attempts,
        window,
        cool_down,
        patience,
        save_failed,
        keep_failed,
        allow_warning,
    } = recovery;
    table([
        ("unit", Some(unit.as_str().into())),
        ("guard", guard.as_ref().map(list)),
        ("attempts", Some(number(*attempts))),
        ("window", Some(duration_text(*window).into())),
        ("cool_down", Some(duration_text(*cool_down).into())),
        ("patience", Some(duration_text(*patience).into())),
        ("save_failed", Some((*save_failed).into())),
        ("keep_failed", Some(duration_text(*keep_failed).into())),
        ("allow_warning", Some((*allow_warning).into())),
    ])
}

fn restore(restore: &Restore) -> Value {
    let Restore { steps, keep_previous, health, owners, setuid, devices } = restore;
    let health = health.as_ref().map(|Health { command, timeout }| {
        table([("command", Some(list(command))), ("timeout", Some(duration_text(*timeout).into()))])
    });
    table([
        ("steps", steps.as_deref().map(|steps| path(steps).into())),
        ("keep_previous", Some(duration_text(*keep_previous).into())),
        ("health", health),
        ("owners", Some(owners.word().into())),
        ("setuid", Some((*setuid).into())),
        ("devices", Some((*devices).into())),
    ])
}

fn service(service: &Service) -> Value {
    let Service { name, manager, stop, start_for_dump, require_healthy, stop_timeout, depends_on } = service;
    let some = |values: &Vec<String>| (!values.is_empty()).then(|| list(values));
    let mut entries = vec![("manager", manager.word().into()), ("name", name.as_str().into())];
    let until = match manager {
        Manager::Command { start, stop, status } => {
            entries.extend([("start", list(start)), ("stop", list(stop)), ("status", list(status))]);
            "until"
        }
        Manager::Compose { project, .. } => {
            entries.push(("project", project.as_str().into()));
            "stop"
        }
        Manager::Monit { binary, .. } => {
            entries.push(("binary", binary.as_str().into()));
            "stop"
        }
        Manager::Systemd { .. } | Manager::Docker { .. } | Manager::Podman { .. } => "stop",
    };
    let parts = match manager {
        Manager::Systemd { .. } => "units",
        Manager::Docker { .. } | Manager::Podman { .. } => "containers",
        Manager::Monit { .. } | Manager::Compose { .. } | Manager::Command { .. } => "services",
    };
    entries.extend(some(&manager.parts().to_vec()).map(|parts_of| (parts, parts_of)));
    entries.push((until, stop.word().into()));
    entries.extend(some(start_for_dump).map(|names| ("start_for_dump", names)));
    entries.push(("require_healthy", (*require_healthy).into()));
    entries.push(("stop_timeout", duration_text(*stop_timeout).into()));
    entries.extend(some(depends_on).map(|names| ("depends_on", names)));
    Value::InlineTable(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn volumes(volumes: &Volumes) -> Value {
    match volumes {
        Volumes::None => text(None),
        Volumes::Podman => "podman".into(),
        Volumes::Docker => "docker".into(),
        Volumes::Table(table) => {
            let entries = table.iter().map(|(name, place)| (name.clone(), Value::from(place.text())));
            Value::InlineTable(entries.collect())
        }
    }
}
