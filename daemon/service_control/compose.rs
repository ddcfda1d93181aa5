//! The containers of a compose project, by the labels that compose gives them; compose itself is not needed.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use tokio_util::sync::CancellationToken;

use super::Seen;
use super::call::Caller;
use super::engine::{Container, Engine};

pub(super) const PROJECT: &str = "com.docker.compose.project";
pub(super) const SERVICE: &str = "com.docker.compose.service";
/// `True` for what `compose run` made.
const ONE_OFF: &str = "com.docker.compose.oneoff";
/// `db:service_healthy:false,cache:service_started:false`.
const DEPENDS_ON: &str = "com.docker.compose.depends_on";

/// All containers of the project, those first that depend on others.
pub(super) async fn look(
    caller: &Caller,
    project: &str,
    services: &[String],
    cancel: &CancellationToken,
) -> Result<Vec<Seen>> {
    let all = containers(caller, project, cancel).await?;
    if all.is_empty() {
        bail!("no container belongs to the compose project {project}; create it, or correct `project`");
    }
    for service in services {
        if !all.iter().any(|container| container.label(SERVICE) == Some(service)) {
            bail!("the compose project {project} has no service {service}; correct `services`");
        }
    }
    let wanted = |c: &Container| {
        services.is_empty() || c.label(SERVICE).is_some_and(|name| services.iter().any(|s| s == name))
    };
    let seen = |(container, wave): (Container, Option<usize>)| Seen { wave, ..named(&container) };
    Ok(in_waves(in_stop_order(all)).into_iter().filter(|(c, _)| wanted(c)).map(seen).collect())
}

/// How many stand, one on the other, on top of each: those with as many need nothing of each other. Old compose does not
/// tell what depends on what, so then all go one after the other.
fn in_waves(ordered: Vec<Container>) -> Vec<(Container, Option<usize>)> {
    if ordered.iter().any(|container| container.label(DEPENDS_ON).is_none()) {
        return ordered.into_iter().map(|container| (container, None)).collect();
    }
    let mut waves: Vec<usize> = Vec::new();
    for container in &ordered {
        let on = |other: &Container| {
            let needs = needs(other);
            needs.iter().any(|n| *n == container.id || Some(n.as_str()) == container.label(SERVICE))
        };
        let above = ordered.iter().zip(&waves).filter(|(other, _)| on(other)).map(|(_, wave)| wave + 1);
        waves.push(above.max().unwrap_or(0));
    }
    let mut all: Vec<_> = ordered.into_iter().zip(waves.into_iter().map(Some)).collect();
    all.sort_by_key(|(_, wave)| *wave);
    all
}

/// The containers of exactly this project.
pub(super) async fn containers(
    caller: &Caller,
    project: &str,
    cancel: &CancellationToken,
) -> Result<Vec<Container>> {
    let filter = format!("label={PROJECT}={project}");
    let arguments = ["ps", "--all", "--no-trunc", "--quiet", "--filter", &filter];
    let listed = Engine::Docker.answer(caller, &arguments, cancel).await?;
    let mut all = Vec::new();
    for id in String::from_utf8_lossy(&listed).lines().map(str::trim).filter(|id| !id.is_empty()) {
        // One that went away meanwhile is none of them.
        let found = Engine::Docker.inspect(caller, id, cancel).await?;
        all.extend(found.filter(|c| c.label(PROJECT) == Some(project) && c.label(ONE_OFF) != Some("True")));
    }
    Ok(all)
}

/// A container under the name of its service.
fn named(container: &Container) -> Seen {
    let mut seen = container.seen();
    if let Some(service) = container.label(SERVICE) {
        seen.called = service.to_owned();
    }
    seen
}

/// The last created first, as compose creates in the order of dependencies, and each before those that it depends on.
fn in_stop_order(mut left: Vec<Container>) -> Vec<Container> {
    left.sort_by(|a, b| b.created.cmp(&a.created));
    let mut ordered: Vec<Container> = Vec::new();
    while !left.is_empty() {
        let needed: BTreeSet<String> = left.iter().flat_map(needs).collect();
        let free =
            |c: &Container| !needed.contains(&c.id) && !needed.contains(c.label(SERVICE).unwrap_or(""));
        // A circle, which compose would refuse, is cut anywhere.
        let next = left.iter().position(free).unwrap_or(0);
        ordered.push(left.remove(next));
    }
    ordered
}

/// What a container depends on: names of services, and the id of the container whose network it uses.
fn needs(container: &Container) -> Vec<String> {
    let listed = container.label(DEPENDS_ON).unwrap_or_default();
    let services = listed.split(',').filter_map(|entry| entry.split(':').next()).map(str::to_owned);
    let network = container.host_config.network_mode.strip_prefix("container:").map(str::to_owned);
    services.chain(network).filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(id: &str, created: u32, depends_on: &str, network: &str) -> Container {
        let json = serde_json::json!({
            "Id": id, "Name": format!("/{id}"), "Created": created.to_string(), "State": {"Running": true},
            "Config": {"Labels": {SERVICE: id, DEPENDS_ON: depends_on}},
            "HostConfig": {"NetworkMode": network},
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn what_depends_on_others_is_stopped_before_them() {
        let all = vec![
            container("db", 5, "", "vpn_default"),
            container("web", 1, "db:service_healthy:false,cache:service_started:true", "x"),
            container("cache", 3, "db:service_started:false", "x"),
            container("side", 2, "", "container:web"),
        ];
        let names: Vec<_> = in_stop_order(all).iter().map(|c| c.name().to_owned()).collect();
        assert_eq!(names, ["side", "web", "cache", "db"]);
    }

    #[test]
    fn what_needs_nothing_of_each_other_goes_at_once() {
        let one = |id: &str, on: &str, network: &str| container(id, 1, on, network);
        let all = vec![
            one("db", "", ""),
            one("cache", "", ""),
            one("web", "db:service_healthy:false,cache:x:false", ""),
            one("worker", "db:x:false", ""),
            one("side", "", "container:web"),
            one("alone", "", ""),
        ];
        let waves = in_waves(in_stop_order(all));
        let mut told: Vec<_> = waves.iter().map(|(c, wave)| (wave.unwrap(), c.name().to_owned())).collect();
        assert!(told.is_sorted_by_key(|(wave, _)| *wave), "{told:?}");
        told.sort();
        let told: Vec<_> = told.iter().map(|(wave, name)| (*wave, name.as_str())).collect();
        let all = [(0, "alone"), (0, "side"), (0, "worker"), (1, "web"), (2, "cache"), (2, "db")];
        assert_eq!(told, all);
        let old: Container =
            serde_json::from_str(r#"{"Id":"a","Name":"a","State":{"Running":true}}"#).unwrap();
        assert_eq!(in_waves(vec![old])[0].1, None, "no label says what it needs");
    }

    #[test]
    fn a_circle_does_not_go_on_for_ever() {
        let all = vec![container("a", 1, "b:x:false", ""), container("b", 2, "a:x:false", "")];
        assert_eq!(in_stop_order(all).len(), 2);
    }
}
