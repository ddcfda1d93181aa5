//! Compose projects whose labels ask for a backup: `backup.enable`, `backup.volume-path.NAME`,
//! `backup.database.pg_dumpall`, `backup.database.mariadb-dump`.
//!
//! Services with only paths are stopped meanwhile, those with only a database dump it while they run. A service with both
//! is refused: its files are worth nothing while it runs, and it cannot dump while it is stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result};
use tokio_util::sync::CancellationToken;

use super::call::Caller;
use super::compose::{self, PROJECT, SERVICE};
use super::engine::{Container, Engine, Mount};
use crate::definition::{Stack, StackDump, VolumePlace};
use crate::target;

const ENABLE: &str = "backup.enable";
const PATH: &str = "backup.volume-path.";
/// Labels of databases, and the sources that they mean.
const DATABASES: [(&str, &str); 2] =
    [("backup.database.pg_dumpall", "postgresql"), ("backup.database.mariadb-dump", "mariadb")];

/// All projects of this machine's Docker that have a container labelled `backup.enable=true`, by name.
///
/// # Errors
/// Docker does not answer.
pub async fn stacks(cancel: &CancellationToken) -> Result<Vec<Stack>> {
    let account = tokio::task::spawn_blocking(|| target::account(None)).await??;
    let caller = Caller { account, remote: None };
    let filter = format!("label={ENABLE}=true");
    let format = format!("{{{{.Label \"{PROJECT}\"}}}}");
    let arguments = ["ps", "--all", "--filter", &filter, "--format", &format];
    let listed = Engine::Docker.answer(&caller, &arguments, cancel).await;
    let listed = listed.context("asking Docker for containers that are labelled backup.enable=true")?;
    let listed = String::from_utf8_lossy(&listed).into_owned();
    let projects: BTreeSet<&str> = listed.lines().map(str::trim).filter(|name| !name.is_empty()).collect();
    let mut found = Vec::new();
    for project in projects {
        let containers = compose::containers(&caller, project, cancel).await?;
        let held = held(&caller, &containers, cancel).await?;
        let project = project.to_owned();
        let look = move || stack(&project, &containers, &held, Path::is_dir);
        found.push(tokio::task::spawn_blocking(look).await?);
    }
    Ok(found)
}

/// The volumes that are not to be read at their mountpoints: when their containers are stopped there is nothing.
async fn held(
    caller: &Caller,
    containers: &[Container],
    cancel: &CancellationToken,
) -> Result<BTreeSet<String>> {
    let names: BTreeSet<&str> = containers
        .iter()
        .flat_map(|c| &c.mounts)
        .map(|m| m.name.as_str())
        .filter(|n| !n.is_empty())
        .collect();
    if names.is_empty() {
        return Ok(BTreeSet::new());
    }
    let arguments: Vec<&str> = ["volume", "inspect"].into_iter().chain(names).collect();
    let described = Engine::Docker.answer(caller, &arguments, cancel).await;
    target::not_at_their_mountpoints(&described.context("asking Docker for the volumes of a project")?)
}

/// What the labels of a project's containers mean. `directory` says whether a place of this machine is one.
fn stack(
    project: &str,
    containers: &[Container],
    held: &BTreeSet<String>,
    directory: impl Fn(&Path) -> bool,
) -> Stack {
    let mut stack = Stack { project: project.to_owned(), ..Stack::default() };
    let mut services: BTreeMap<&str, Vec<&Container>> = BTreeMap::new();
    for container in containers.iter().filter(|container| container.label(ENABLE) != Some("false")) {
        services.entry(container.label(SERVICE).unwrap_or_default()).or_default().push(container);
    }
    let mut places: Vec<(&str, &str, VolumePlace)> = Vec::new();
    for (service, all) in &services {
        let paths = paths(all);
        let sources = sources(all);
        if let (Some((path, _)), Some((label, _))) = (paths.iter().next(), sources.first()) {
            stack.refused.push(format!(
                "its service {service} has both {label}, for which it must run, and {PATH}{path}, for which it must be \
                 stopped; keep one of the two labels"
            ));
        }
        for (name, path) in &paths {
            match place(all[0], path, held, &directory) {
                Ok(place) => places.push((service, name, place)),
                Err(why) => stack.refused.push(format!("{PATH}{name} of its service {service}: {why}")),
            }
        }
        if !paths.is_empty() {
            stack.stopped.push((*service).to_owned());
        }
        dumps(&mut stack, service, all, &sources);
    }
    stack.volumes = named(&places);
    if stack.refused.is_empty() && stack.volumes.is_empty() && stack.dumps.is_empty() {
        stack.refused.push(format!(
            "no label says what to back up: give a service {PATH}NAME=/path or {}=true",
            DATABASES[0].0
        ));
    }
    stack
}

/// The paths that a service's labels name, by the names that they give them.
fn paths<'c>(containers: &[&'c Container]) -> BTreeMap<&'c str, &'c str> {
    let labels = containers.iter().flat_map(|container| container.labels());
    labels.filter_map(|(key, path)| Some((key.strip_prefix(PATH)?, path))).collect()
}

/// The databases that a service's labels name.
fn sources(containers: &[&Container]) -> Vec<(&'static str, &'static str)> {
    let wanted = |label: &str| containers.iter().any(|container| container.label(label) == Some("true"));
    DATABASES.into_iter().filter(|(label, _)| wanted(label)).collect()
}

fn dumps(stack: &mut Stack, service: &str, containers: &[&Container], sources: &[(&str, &'static str)]) {
    if sources.len() > 1 {
        stack.refused.push(format!(
            "its service {service} cannot be both PostgreSQL and MariaDB; keep one of the two labels"
        ));
    }
    if !sources.is_empty() && containers.len() > 1 {
        let count = containers.len();
        stack.refused.push(format!(
            "its service {service} has {count} containers, and nobody knows which one has the data"
        ));
    }
    for (_, source) in sources {
        let container = containers[0].name().to_owned();
        stack.dumps.push(StackDump { source, service: service.to_owned(), container });
    }
}

/// Where a path of a container lies on this machine.
fn place(
    container: &Container,
    path: &str,
    held: &BTreeSet<String>,
    directory: impl Fn(&Path) -> bool,
) -> Result<VolumePlace, String> {
    let wanted = Path::new(path);
    let plain = wanted.is_absolute() && !path.split('/').any(|part| part == "." || part == "..");
    if !plain {
        return Err(format!("{path:?} is not an absolute path in the container"));
    }
    let holds = |mount: &&Mount| wanted.starts_with(&mount.destination);
    let deepest =
        container.mounts.iter().filter(holds).max_by_key(|mount| mount.destination.components().count());
    let Some(mount) = deepest else {
        return Err(format!(
            "{path} lies on no volume or bind mount of {}; mount one there",
            container.name()
        ));
    };
    let rest = wanted.strip_prefix(&mount.destination).unwrap_or(Path::new(""));
    if held.contains(&mount.name) {
        if !rest.as_os_str().is_empty() {
            let (volume, whole) = (&mount.name, mount.destination.display());
            return Err(format!(
                "{path} is inside volume {volume}, which only Docker reaches as a whole; label {whole}"
            ));
        }
        return Ok(VolumePlace::Of(crate::definition::Engine::Docker, mount.name.clone()));
    }
    let place = if rest.as_os_str().is_empty() { mount.source.clone() } else { mount.source.join(rest) };
    if !mount.source.is_absolute() || !directory(&place) {
        let driver = if mount.driver.is_empty() { "none" } else { &mount.driver };
        return Err(format!(
            "{path} is no directory that this machine can read (driver {driver}); mount a directory, or define the instance by hand"
        ));
    }
    Ok(VolumePlace::Directory(place))
}

/// Each place under the name that its label gives it; where several services give one name to different places, the
/// service stands before it.
fn named(places: &[(&str, &str, VolumePlace)]) -> BTreeMap<String, VolumePlace> {
    let shared = |name: &str, place: &VolumePlace| !places.iter().any(|(_, n, p)| *n == name && p != place);
    let name = |service: &str, name: &str, place: &VolumePlace| match shared(name, place) {
        true => name.to_owned(),
        false => format!("{service}-{name}"),
    };
    places.iter().map(|(service, given, place)| (name(service, given, place), place.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(service: &str, labels: serde_json::Value, mounts: serde_json::Value) -> Container {
        let mut labels = labels;
        labels[SERVICE] = service.into();
        labels[PROJECT] = "shop".into();
        let json = serde_json::json!({
            "Id": service, "Name": format!("/shop-{service}-1"), "State": {"Running": true},
            "Config": {"Labels": labels}, "Mounts": mounts,
        });
        serde_json::from_value(json).unwrap()
    }

    fn mount(from: &str, to: &str) -> serde_json::Value {
        serde_json::json!([{"Type": "volume", "Name": "x", "Source": from, "Destination": to, "Driver": "local"}])
    }

    fn of(containers: &[Container]) -> Stack {
        stack("shop", containers, &["held".to_owned()].into(), |path| !path.starts_with("/gone"))
    }

    #[test]
    fn labels_say_what_is_stopped_and_what_dumps_while_it_runs() {
        let web = container(
            "web",
            serde_json::json!({"backup.enable": "true", "backup.volume-path.data": "/data/sub", "backup.volume-path.x": "/data"}),
            mount("/v/web", "/data"),
        );
        let db = container(
            "db",
            serde_json::json!({"backup.database.pg_dumpall": "true"}),
            mount("/v/db", "/var/lib"),
        );
        let off = container(
            "off",
            serde_json::json!({"backup.enable": "false", "backup.volume-path.y": "/none"}),
            mount("/v/off", "/y"),
        );
        let found = of(&[web, db, off]);
        assert_eq!(found.refused, [""; 0]);
        assert_eq!(
            found.volumes,
            [
                ("data".into(), VolumePlace::Directory("/v/web/sub".into())),
                ("x".into(), VolumePlace::Directory("/v/web".into()))
            ]
            .into()
        );
        assert_eq!(found.stopped, ["web"]);
        assert_eq!((found.dumps[0].source, found.dumps[0].container.as_str()), ("postgresql", "shop-db-1"));
    }

    #[test]
    fn what_cannot_be_right_is_refused_with_the_reason() {
        let both = serde_json::json!({"backup.database.mariadb-dump": "true", "backup.volume-path.d": "/d"});
        let cases = [
            (both, mount("/v", "/d"), "keep one of the two labels"),
            (serde_json::json!({"backup.volume-path.d": "/other"}), mount("/v", "/d"), "on no volume"),
            (
                serde_json::json!({"backup.volume-path.d": "/d/../etc"}),
                mount("/v", "/d"),
                "not an absolute path",
            ),
            (serde_json::json!({"backup.volume-path.d": "/d"}), mount("/gone", "/d"), "no directory"),
            (serde_json::json!({"backup.volume-path.d": "/dd"}), mount("/v", "/d"), "on no volume"),
            (serde_json::json!({}), mount("/v", "/d"), "no label says"),
        ];
        for (labels, mounts, word) in cases {
            let refused = of(&[container("a", labels, mounts)]).refused.join("; ");
            assert!(refused.contains(word), "{word}: {refused}");
        }
        let twice =
            || container("a", serde_json::json!({"backup.database.pg_dumpall": "true"}), mount("/v", "/d"));
        assert!(of(&[twice(), twice()]).refused[0].contains("2 containers"));
    }

    #[test]
    fn a_volume_that_is_mounted_on_demand_is_named_and_not_its_mountpoint() {
        let mut mounts = mount("/v/held", "/d");
        mounts[0]["Name"] = "held".into();
        let labels = |path: &str| serde_json::json!({"backup.volume-path.data": path});
        let found = of(&[container("a", labels("/d"), mounts.clone())]);
        assert_eq!(found.volumes["data"].text(), "docker:held");
        let inside = of(&[container("a", labels("/d/sub"), mounts)]).refused;
        assert!(inside[0].contains("as a whole"), "{inside:?}");
    }

    #[test]
    fn one_name_for_two_places_becomes_two_names() {
        let one = |service: &str| {
            let labels = serde_json::json!({"backup.volume-path.data": "/d"});
            container(service, labels, mount(&format!("/v/{service}"), "/d"))
        };
        let found = of(&[one("a"), one("b")]);
        assert_eq!(found.volumes.keys().collect::<Vec<_>>(), ["a-data", "b-data"]);
    }
}
