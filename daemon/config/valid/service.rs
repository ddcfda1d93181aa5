//! The tables `[[….service]]` to services in stop order.

use std::ops::Range;

use toml::Spanned;

use super::super::raw::{RawModule, RawService};
use super::super::value::{Argv, Part, Reader, Stop, Table, nearest};
use crate::definition::{Manager, Name, STOP_TIMEOUT, Service, StopUntil};

/// Notes what is wrong with the services of one table.
pub(super) fn check(raw: &RawModule, reader: &mut Reader<'_>) {
    let Some(list) = &raw.service else { return };
    let mut note = |span: &Range<usize>, message: String, help: &str| {
        reader.error(span, message, Some(help.to_owned()));
    };
    let services: Vec<_> = list.get_ref().iter().map(|raw| (raw, one(raw, &mut note))).collect();
    if services.iter().any(|(_, service)| service.is_none()) {
        return;
    }
    let names: Vec<&str> =
        services.iter().filter_map(|(_, service)| Some(service.as_ref()?.name.as_str())).collect();
    for (at, (raw, _)) in services.iter().enumerate() {
        if names[..at].contains(&names[at]) {
            let message = format!("two services here are called `{}`", names[at]);
            note(&raw.span(), message, "give one of them a `name` of its own");
        }
        for needed in raw.get_ref().depends_on.iter().flat_map(|list| list.get_ref()) {
            let known = names.contains(&needed.get_ref().as_str());
            if !known || names[at] == needed.get_ref().as_str() {
                unknown(needed, names[at], &names, &mut note);
            }
        }
    }
    if in_stop_order(services.into_iter().filter_map(|(_, service)| service).collect()).is_none() {
        note(&list.span(), "services depend on each other in a circle".into(), "remove one `depends_on`");
    }
}

fn unknown(
    needed: &Spanned<Name>,
    own: &str,
    names: &[&str],
    note: &mut impl FnMut(&Range<usize>, String, &str),
) {
    let name = needed.get_ref();
    if name.as_str() == own {
        return note(&needed.span(), format!("`{own}` depends on itself"), "name another service");
    }
    let help = match nearest(name, names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("services here: {}", names.join(", ")),
    };
    note(&needed.span(), format!("there is no service `{name}` here"), &help);
}

/// Services that were found right, in stop order.
pub(super) fn services(list: &[Spanned<RawService>]) -> Vec<Service> {
    let mut note = |_: &Range<usize>, _: String, _: &str| {};
    in_stop_order(list.iter().filter_map(|raw| one(raw, &mut note)).collect()).unwrap_or_default()
}

/// As they are given, but each before those that it depends on; none when that is impossible.
fn in_stop_order(mut left: Vec<Service>) -> Option<Vec<Service>> {
    let mut ordered = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let free = |at: &usize| !left.iter().any(|other| other.depends_on.contains(&left[*at].name));
        let next = (0..left.len()).find(free)?;
        ordered.push(left.remove(next));
    }
    Some(ordered)
}

/// Which keys belong to which managers; the others belong to all.
const OWN: [(&str, &[&str]); 8] = [
    ("units", &["systemd"]),
    ("containers", &["docker", "podman"]),
    ("project", &["compose"]),
    ("services", &["monit", "compose"]),
    ("binary", &["monit"]),
    ("start", &["command"]),
    ("status", &["command"]),
    ("until", &["command"]),
];

type Note<'n> = &'n mut dyn FnMut(&Range<usize>, String, &str);

/// One service; none when something is wrong with it, which was noted.
fn one(raw: &Spanned<RawService>, note: &mut impl FnMut(&Range<usize>, String, &str)) -> Option<Service> {
    let mut sound = true;
    let mut note = |span: &Range<usize>, message: String, help: &str| {
        sound = false;
        note(span, message, help);
    };
    let (span, raw) = (raw.span(), raw.get_ref());
    let Some(word) = raw.manager.as_ref().map(|word| word.get_ref().0) else {
        let help = "write manager = \"systemd\", or monit, docker, podman, compose, command";
        note(&span, "this service has no `manager`".into(), help);
        return None;
    };
    for (key, at) in raw.given() {
        let owners = OWN.iter().find(|(own, _)| *own == key).map(|(_, owners)| *owners);
        if let Some(owners) = owners.filter(|owners| !owners.contains(&word)) {
            let help = format!("it belongs to {}", owners.join(" and "));
            note(&at, format!("`{key}` is no key of the manager {word}"), &help);
        }
    }
    let manager = manager(raw, word, &span, &mut note);
    let stop = until(raw, word, &mut note);
    let service = service(raw, manager?, stop, &mut note);
    sound.then_some(service)
}

fn manager(raw: &RawService, word: &str, span: &Range<usize>, note: Note<'_>) -> Option<Manager> {
    let parts = |list: &Option<Spanned<Vec<Spanned<Part>>>>| -> Vec<String> {
        list.iter().flat_map(|list| list.get_ref()).map(|part| part.get_ref().0.clone()).collect()
    };
    let units = || raw.units.iter().flat_map(|l| l.get_ref()).map(|u| u.get_ref().0.clone()).collect();
    let found = match word {
        "systemd" => Manager::Systemd { units: units() },
        "monit" => {
            let binary = raw.binary.as_ref().map(|path| path.get_ref().0.to_string_lossy().into_owned());
            let binary = binary.unwrap_or_else(|| "monit".into());
            return Some(Manager::Monit { services: parts(&raw.services), binary });
        }
        "docker" => Manager::Docker { containers: parts(&raw.containers) },
        "podman" => Manager::Podman { containers: parts(&raw.containers) },
        "compose" => match &raw.project {
            Some(project) => {
                let project = project.get_ref().0.clone();
                return Some(Manager::Compose { project, services: parts(&raw.services) });
            }
            None => {
                let help = "write project = \"NAME\", as `docker compose ls` shows it";
                note(span, "this service has no `project`".into(), help);
                return None;
            }
        },
        _ => return command(raw, span, note),
    };
    if found.parts().is_empty() {
        let key = if word == "systemd" { "units" } else { "containers" };
        note(span, format!("this service names no {key}"), &format!("write {key} = [\"NAME\"]"));
        return None;
    }
    Some(found)
}

fn command(raw: &RawService, span: &Range<usize>, note: Note<'_>) -> Option<Manager> {
    let program = |argv: &Option<Spanned<Argv>>| argv.as_ref().map(|argv| argv.get_ref().0.clone());
    let stop = raw.stop.as_ref().and_then(|stop| match stop.get_ref() {
        Stop::Program(argv) => Some(argv.0.clone()),
        Stop::Until(_) => None,
    });
    let (start, status) = (program(&raw.start), program(&raw.status));
    for (key, given) in [("start", &start), ("stop", &stop), ("status", &status)] {
        let relative = given.as_ref().and_then(|argv| argv.first());
        if relative.is_some_and(|name| name.contains('/') && !name.starts_with('/')) {
            let help = "write an absolute path, or a name to be found on PATH";
            note(span, format!("`{key}` of a service is a relative path"), help);
        }
        if given.is_none() {
            let help = "write start, stop and status, each [\"program\", \"argument\"]; until when it stays \
                        stopped says `until`";
            note(span, format!("this service has no program `{key}`"), help);
        }
    }
    Some(Manager::Command { start: start?, stop: stop?, status: status? })
}

fn until(raw: &RawService, word: &str, note: Note<'_>) -> StopUntil {
    if word == "command" {
        return raw.until.as_ref().map(|until| *until.get_ref()).unwrap_or_default();
    }
    match &raw.stop {
        Some(stop) => match stop.get_ref() {
            Stop::Until(until) => *until,
            Stop::Program(_) => {
                let help = "write \"never\", \"dump\" or \"snapshot\"; programs take manager = \"command\"";
                note(&stop.span(), format!("`stop` of the manager {word} says until when"), help);
                StopUntil::default()
            }
        },
        None => StopUntil::default(),
    }
}

fn service(raw: &RawService, manager: Manager, stop: StopUntil, note: Note<'_>) -> Service {
    let wanted: Vec<_> = raw.start_for_dump.iter().flat_map(|list| list.get_ref()).collect();
    for part in &wanted {
        let known = manager.parts();
        let name = part_name(&manager, &part.get_ref().0);
        let any = known.is_empty() && !matches!(manager, Manager::Command { .. });
        if !stop.in_backups() {
            let help = "leave it out, or write stop = \"dump\" or \"snapshot\"";
            note(&part.span(), "`start_for_dump` of a service that no backup stops".into(), help);
        } else if !any && !known.contains(&name) {
            let help = "name one of the units, containers or services of this table";
            note(&part.span(), format!("`start_for_dump`: there is no {name:?} here"), help);
        }
    }
    Service {
        name: raw.name.as_ref().map_or_else(|| called(&manager), |name| name.get_ref().to_string()),
        stop,
        start_for_dump: wanted.iter().map(|part| part_name(&manager, &part.get_ref().0)).collect(),
        require_healthy: raw.require_healthy.as_ref().is_some_and(|wanted| *wanted.get_ref()),
        stop_timeout: raw.stop_timeout.as_ref().map_or(STOP_TIMEOUT, |limit| limit.get_ref().0),
        depends_on: raw
            .depends_on
            .iter()
            .flat_map(|list| list.get_ref())
            .map(|name| name.get_ref().to_string())
            .collect(),
        manager,
    }
}

/// A part as its manager knows it: a unit has its suffix.
fn part_name(manager: &Manager, written: &str) -> String {
    let bare = format!("{written}.service");
    if manager.parts().contains(&bare) { bare } else { written.to_owned() }
}

/// What a service is called that has no `name`.
fn called(manager: &Manager) -> String {
    let own = match manager {
        Manager::Compose { project, .. } => project.as_str(),
        Manager::Command { start, .. } => {
            start.first().and_then(|program| program.rsplit('/').next()).unwrap_or("command")
        }
        Manager::Monit { .. } if manager.parts().is_empty() => "monit",
        _ => manager.parts().first().map_or("", String::as_str),
    };
    own.strip_suffix(".service").unwrap_or(own).to_owned()
}
