//! Containers of Docker and podman: their commands are the same as far as we need them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::call::{Caller, PATIENCE, Said};
use super::{Seen, Started, State};
use crate::definition::Ran;
use crate::process::Leftovers;

/// How long an engine may take beyond the time that it gives a container.
const OVERHEAD: Duration = Duration::from_secs(15);
/// What a container exits with that was killed because it did not stop.
const KILLED: i64 = 137;

/// Who runs containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    Docker,
    Podman,
}

/// What an engine knows of one container: the part of `inspect` that we need.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Container {
    pub(super) id: String,
    name: String,
    #[serde(default)]
    pub(super) created: String,
    state: Standing,
    #[serde(default)]
    pub(super) config: Config,
    #[serde(default)]
    pub(super) host_config: HostConfig,
    #[serde(default)]
    pub(super) mounts: Vec<Mount>,
}

/// A volume or directory that is seen in a container.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Mount {
    /// On this machine; empty where its driver keeps it elsewhere.
    #[serde(default)]
    pub(super) source: PathBuf,
    /// In the container.
    pub(super) destination: PathBuf,
    #[serde(default)]
    pub(super) driver: String,
    /// Of a volume.
    #[serde(default)]
    pub(super) name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Standing {
    running: bool,
    #[serde(default)]
    paused: bool,
    #[serde(default)]
    restarting: bool,
    #[serde(default)]
    exit_code: i64,
    #[serde(default)]
    started_at: String,
    /// Older podman calls it so.
    #[serde(default, alias = "Healthcheck")]
    health: Option<Health>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Health {
    #[serde(default)]
    status: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Config {
    #[serde(default)]
    pub(super) labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HostConfig {
    #[serde(default)]
    pub(super) network_mode: String,
}

impl Container {
    /// Its name without the slash that Docker puts before it.
    pub(super) fn name(&self) -> &str {
        self.name.trim_start_matches('/')
    }

    /// A label, if it has it.
    pub(super) fn label(&self, key: &str) -> Option<&str> {
        self.config.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// All labels.
    pub(super) fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.config.labels.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// How it stands.
    pub(super) fn seen(&self) -> Seen {
        let (state, health) = (&self.state, self.state.health.as_ref().map_or("", |h| h.status.as_str()));
        let standing = match (state.paused, state.running || state.restarting) {
            (true, _) => State::Paused,
            (false, true) => State::Running,
            (false, false) => State::Stopped,
        };
        let sick = match (standing, health) {
            (State::Stopped, _) => Some("it does not run".to_owned()),
            (State::Paused, _) => Some("it is paused".to_owned()),
            _ if state.restarting => Some("it is started again and again".to_owned()),
            (State::Running, "unhealthy") => Some("its health check fails".to_owned()),
            (State::Running, "starting") => Some("its health check has not succeeded yet".to_owned()),
            (State::Running, _) => None,
        };
        Seen {
            called: self.name().to_owned(),
            part: Ran {
                name: self.name().to_owned(),
                id: self.id.clone(),
                paused: standing == State::Paused,
            },
            state: standing,
            sick,
            starting: standing == State::Running && health == "starting",
            life: state.started_at.clone(),
            wave: None,
        }
    }
}

impl Engine {
    fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }

    async fn call(
        self,
        caller: &Caller,
        arguments: &[&str],
        limit: Duration,
        cancel: &CancellationToken,
    ) -> Result<Said> {
        let argv: Vec<String> =
            std::iter::once(self.program()).chain(arguments.iter().copied()).map(str::to_owned).collect();
        caller.ask(&argv, limit, self.leftovers(caller, arguments), cancel).await
    }

    /// What watches a container of podman is its child, and must live as long as the container. On another machine what
    /// stays is not heard, so only what starts one may.
    fn leftovers(self, caller: &Caller, arguments: &[&str]) -> Leftovers {
        let watched = self == Self::Podman && arguments.first() == Some(&"start");
        if caller.remote.is_some() && !watched { Leftovers::End } else { Leftovers::Stay }
    }

    /// What it prints for some arguments.
    pub(super) async fn answer(
        self,
        caller: &Caller,
        arguments: &[&str],
        cancel: &CancellationToken,
    ) -> Result<Vec<u8>> {
        self.call(caller, arguments, PATIENCE, cancel).await?.good()
    }

    /// One container, by its exact name or its id; none: there is none.
    pub(super) async fn inspect(
        self,
        caller: &Caller,
        name: &str,
        cancel: &CancellationToken,
    ) -> Result<Option<Container>> {
        let arguments = ["container", "inspect", name];
        let said = self.call(caller, &arguments, PATIENCE, cancel).await?;
        if !said.ok() {
            if said.code().is_some() && said.complaint().contains("no such") {
                return Ok(None);
            }
            return Err(said.failure());
        }
        let list: Vec<Container> = serde_json::from_slice(&said.stdout)
            .with_context(|| format!("reading what `{} container inspect {name}` printed", self.program()))?;
        // Engines take the beginning of an id as well: what merely begins so is another container.
        let exact = |c: &Container| c.name() == name || (name.len() >= 12 && c.id.starts_with(name));
        Ok(list.into_iter().find(exact))
    }

    /// The containers of a definition.
    pub(super) async fn look(
        self,
        caller: &Caller,
        names: &[String],
        cancel: &CancellationToken,
    ) -> Result<Vec<Seen>> {
        let mut all = Vec::new();
        for name in names {
            match self.inspect(caller, name, cancel).await? {
                Some(container) => all.push(container.seen()),
                None => bail!(
                    "{} knows no container {name}; create it, or take it out of `containers`",
                    self.program()
                ),
            }
        }
        Ok(all)
    }

    /// A container that was seen before: by its id, or, when it was made anew, by its name.
    async fn find(
        self,
        caller: &Caller,
        part: &Ran,
        cancel: &CancellationToken,
    ) -> Result<Option<Container>> {
        if !part.id.is_empty()
            && let Some(found) = self.inspect(caller, &part.id, cancel).await?
        {
            return Ok(Some(found));
        }
        self.inspect(caller, &part.name, cancel).await
    }

    /// Its id, without asking where it was written down. A name alone might be the beginning of another one's id.
    async fn known(self, caller: &Caller, part: &Ran, cancel: &CancellationToken) -> Result<Option<String>> {
        if part.id.is_empty() {
            return Ok(self.find(caller, part, cancel).await?.map(|container| container.id));
        }
        Ok(Some(part.id.clone()))
    }

    pub(super) async fn look_at(
        self,
        caller: &Caller,
        part: &Ran,
        cancel: &CancellationToken,
    ) -> Result<Option<Seen>> {
        Ok(self.find(caller, part, cancel).await?.map(|container| container.seen()))
    }

    pub(super) async fn stop(
        self,
        caller: &Caller,
        part: &Ran,
        limit: Duration,
        cancel: &CancellationToken,
    ) -> Result<State> {
        let Some(id) = self.known(caller, part, cancel).await? else { return Ok(State::Stopped) };
        if part.paused {
            // One that is not paused any more is as well.
            self.call(caller, &["unpause", &id], PATIENCE, cancel).await?;
        }
        let seconds = limit.as_secs().max(1).to_string();
        let told =
            async |id: &str| self.call(caller, &["stop", "-t", &seconds, id], limit + OVERHEAD, cancel).await;
        let mut said = told(&id).await?;
        if !said.ok() {
            // It was made anew under its name, or somebody has paused it meanwhile.
            let Some(found) = self.find(caller, part, cancel).await? else { return Ok(State::Stopped) };
            if found.seen().state == State::Paused {
                self.answer(caller, &["unpause", &found.id], cancel).await?;
            }
            said = told(&found.id).await?;
            if !said.ok() && !said.complaint().contains("no such container") {
                return Err(said.failure());
            }
        }
        let Some(after) = self.find(caller, part, cancel).await? else { return Ok(State::Stopped) };
        if after.state.exit_code == KILLED {
            warn!("{} did not stop within {limit:?} and was killed by {}", part.name, self.program());
        }
        Ok(after.seen().state)
    }

    pub(super) async fn start(self, caller: &Caller, part: &Ran, limit: Duration) -> Result<Started> {
        let (never, name) = (CancellationToken::new(), &part.name);
        let Some(id) = self.known(caller, part, &never).await? else { return Ok(Started::Gone) };
        let said = self.call(caller, &["start", &id], limit, &never).await?;
        let Some(mut found) = self.find(caller, part, &never).await? else { return Ok(Started::Gone) };
        if !said.ok() && found.seen().state == State::Stopped {
            // It was made anew under its name; or it says once more why it does not start.
            self.call(caller, &["start", &found.id], limit, &never).await?.good()?;
            let Some(now) = self.find(caller, part, &never).await? else { return Ok(Started::Gone) };
            found = now;
        }
        match found.seen().state {
            // What does not run by now has ended, and would be waited for in vain.
            State::Stopped => bail!("{name} was started, but ended again"),
            State::Running if part.paused => {
                self.answer(caller, &["pause", &found.id], &never).await?;
            }
            State::Running | State::Paused => {}
        }
        Ok(Started::Runs { life: found.seen().life })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(json: &str) -> Seen {
        let list: Vec<Container> = serde_json::from_str(json).unwrap();
        list[0].seen()
    }

    #[test]
    fn both_engines_answers_are_understood() {
        let docker = r#"[{"Id":"aa11","Name":"/db","Created":"x","State":{"Status":"running","Running":true,
            "Paused":false,"Restarting":false,"ExitCode":0,"StartedAt":"t","Health":{"Status":"healthy"}},
            "Config":{"Labels":null},"HostConfig":{"NetworkMode":"bridge"}}]"#;
        let podman = r#"[{"Id":"bb22","Name":"db","State":{"Status":"exited","Running":false,"Paused":false,
            "ExitCode":137,"StartedAt":"t","Healthcheck":{"Status":"","FailingStreak":0,"Log":null}},
            "Config":{"Labels":{"a":"b"}}}]"#;
        let (docker, podman) = (seen(docker), seen(podman));
        assert_eq!((docker.part.name.as_str(), docker.state, docker.sick), ("db", State::Running, None));
        assert_eq!((podman.part.id.as_str(), podman.state), ("bb22", State::Stopped));
        assert!(podman.sick.is_some());
    }

    #[test]
    fn a_container_that_is_started_again_and_again_runs_but_is_sick() {
        let text = r#"[{"Id":"aa","Name":"x","State":{"Running":false,"Restarting":true}}]"#;
        let seen = seen(text);
        assert_eq!(seen.state, State::Running);
        assert!(seen.sick.unwrap().contains("again"));
    }
}
