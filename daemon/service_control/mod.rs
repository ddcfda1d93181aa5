//! Services of others: whether they run, how they are stopped and started. One file per manager.
//!
//! Nothing here decides what is stopped, or remembers it: that is `job`'s. Stopping what is stopped and starting what
//! runs is well done at once, so every call may be repeated.

mod call;
mod command;
mod compose;
mod engine;
pub mod failure;
mod monit;
mod stacks;
mod systemctl;
mod systemd;

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::definition::{Manager, Ran, Remote};
use crate::process::Account;
use crate::target;
use call::Caller;
use engine::Engine;
pub use stacks::stacks;
pub use systemctl::told as systemctl_words;

/// The first and the longest pause between two looks at something that changes. In between it is a part of what was waited
/// by then: so what is over is seen soon, and what takes long is not asked for all the time.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
const PAUSE_PART: u32 = 5;

/// How a part of a service stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It runs, or is about to.
    Running,
    /// A container that is frozen.
    Paused,
    /// It does not run.
    Stopped,
}

/// A part of a service as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What a definition calls it: of compose its service.
    pub called: String,
    /// What it is called, and what its manager knows it by.
    pub part: Ran,
    /// How it stands.
    pub state: State,
    /// Why it is not healthy; none: it is, or nobody knows.
    pub sick: Option<String>,
    /// It becomes healthy or sick soon.
    pub starting: bool,
    /// Another one after each start; empty: nobody knows.
    pub life: String,
    /// Neighbours with the same number need nothing of each other, and may be stopped and started at once; none: it goes
    /// alone.
    pub wave: Option<usize>,
}

/// A service's manager, with what is needed to reach it.
#[derive(Debug, Clone)]
pub struct Reach {
    manager: Manager,
    name: String,
    caller: Caller,
}

/// Why something was not stopped.
#[derive(Debug, thiserror::Error)]
#[error("{failure:#}")]
pub struct StopFailed {
    /// What happened.
    failure: anyhow::Error,
    /// It was told to stop, and may do so yet.
    pub unsure: bool,
}

/// What came of a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Started {
    /// It runs.
    Runs {
        /// What tells this life of it from the next; empty: nobody knows.
        life: String,
    },
    /// It is there no more, so nothing can be started.
    Gone,
}

impl Reach {
    /// The manager of the service `name` of an instance whose programs run as `user`, here or on another machine.
    ///
    /// # Errors
    /// The user is unknown.
    pub async fn of(
        manager: &Manager,
        name: &str,
        user: Option<&str>,
        remote: Option<&Remote>,
    ) -> Result<Self> {
        let user = user.map(str::to_owned);
        let account: Account =
            tokio::task::spawn_blocking(move || target::account(user.as_deref())).await??;
        Ok(Self {
            manager: manager.clone(),
            name: name.to_owned(),
            caller: Caller { account, remote: remote.cloned() },
        })
    }

    /// All parts as they stand now, in the order in which they are to be stopped.
    ///
    /// # Errors
    /// The manager does not answer, or does not know a part: which, and what to do.
    pub async fn look(&self, cancel: &CancellationToken) -> Result<Vec<Seen>> {
        let caller = &self.caller;
        match &self.manager {
            Manager::Systemd { units } if caller.remote.is_some() => {
                systemctl::look(caller, units, cancel).await
            }
            Manager::Systemd { units } => systemd::look(units).await,
            Manager::Monit { services, binary } => monit::look(caller, binary, services, cancel).await,
            Manager::Docker { containers } => Engine::Docker.look(caller, containers, cancel).await,
            Manager::Podman { containers } => Engine::Podman.look(caller, containers, cancel).await,
            Manager::Compose { project, services } => compose::look(caller, project, services, cancel).await,
            Manager::Command { start, status, .. } => {
                command::look(caller, &self.name, start, status, cancel).await.map(|seen| vec![seen])
            }
        }
    }

    /// What tells a part from all others of this machine, whoever asks for it.
    pub fn key(&self, part: &Ran) -> String {
        let own = if part.id.is_empty() { &part.name } else { &part.id };
        let user = &self.caller.account.name;
        if let Some(remote) = &self.caller.remote {
            let port = remote.port.unwrap_or(22);
            return format!("{} {own} on {}:{port}", self.manager.word(), remote.host);
        }
        match &self.manager {
            Manager::Systemd { .. } => format!("systemd {own}"),
            Manager::Monit { binary, .. } => format!("monit {binary} {own}"),
            Manager::Docker { .. } | Manager::Compose { .. } => format!("docker {own}"),
            Manager::Podman { .. } => format!("podman {user} {own}"),
            Manager::Command { .. } => format!("command {user} {own}"),
        }
    }

    /// The order in which parts are started that were stopped in this one: the reverse, but what would start a unit by
    /// itself goes first, for systemd refuses a socket whose service runs.
    pub fn start_order<'p>(&self, stopped: &'p [Ran]) -> Vec<&'p Ran> {
        let triggers =
            |part: &&Ran| matches!(self.manager, Manager::Systemd { .. }) && systemd::is_trigger(&part.name);
        let (first, then): (Vec<&Ran>, Vec<&Ran>) = stopped.iter().rev().partition(triggers);
        first.into_iter().chain(then).collect()
    }

    /// One part as it stands now; none: it is there no more.
    ///
    /// # Errors
    /// The manager does not answer.
    pub async fn look_at(&self, part: &Ran, cancel: &CancellationToken) -> Result<Option<Seen>> {
        let caller = &self.caller;
        match &self.manager {
            Manager::Systemd { .. } if caller.remote.is_some() => {
                systemctl::look_at(caller, part, cancel).await
            }
            Manager::Systemd { .. } => systemd::look_at(part).await,
            Manager::Monit { binary, .. } => monit::look_at(caller, binary, part, cancel).await,
            Manager::Docker { .. } | Manager::Compose { .. } => {
                Engine::Docker.look_at(caller, part, cancel).await
            }
            Manager::Podman { .. } => Engine::Podman.look_at(caller, part, cancel).await,
            Manager::Command { start, status, .. } => {
                command::look(caller, &self.name, start, status, cancel).await.map(Some)
            }
        }
    }

    /// Stops one part and waits until it is stopped.
    ///
    /// # Errors
    /// It does not stop within the limit, or its manager refuses.
    pub async fn stop(
        &self,
        part: &Ran,
        limit: Duration,
        cancel: &CancellationToken,
    ) -> Result<(), StopFailed> {
        let name = &part.name;
        let end = Instant::now() + limit;
        let late = format!("{name} did not stop within {limit:?}");
        let stopped = |seen: Option<&Seen>| seen.is_none_or(|seen| seen.state == State::Stopped);
        let told = self.tell_to_stop(part, limit, cancel).await;
        let unsure = told.is_ok() || cancel.is_cancelled() || Instant::now() >= end;
        let result = match told {
            // An engine has said so itself.
            Ok(Some(State::Stopped)) => Ok(()),
            Ok(_) => self.wait(part, end, cancel, &late, stopped).await.map(drop),
            Err(failure) => Err(failure.context(format!("stopping {name}"))),
        };
        result.map_err(|failure| StopFailed { failure, unsure })
    }

    /// How it stands then, where the manager has said so.
    async fn tell_to_stop(
        &self,
        part: &Ran,
        limit: Duration,
        cancel: &CancellationToken,
    ) -> Result<Option<State>> {
        let caller = &self.caller;
        match &self.manager {
            Manager::Docker { .. } | Manager::Compose { .. } => {
                return Engine::Docker.stop(caller, part, limit, cancel).await.map(Some);
            }
            Manager::Podman { .. } => {
                return Engine::Podman.stop(caller, part, limit, cancel).await.map(Some);
            }
            Manager::Systemd { .. } if caller.remote.is_some() => {
                systemctl::stop(caller, part, limit, cancel).await
            }
            Manager::Systemd { .. } => systemd::stop(part, limit, cancel).await,
            Manager::Monit { binary, .. } => monit::tell(caller, binary, "stop", part, cancel).await,
            Manager::Command { stop, .. } => command::run(caller, "stop", stop, limit, cancel).await,
        }
        .map(|()| None)
    }

    /// Starts one part as it was and waits until it runs.
    ///
    /// # Errors
    /// It does not run within the limit, or its manager refuses.
    pub async fn start(&self, part: &Ran, limit: Duration) -> Result<Started> {
        let (name, never) = (&part.name, CancellationToken::new());
        let end = Instant::now() + limit;
        let told = tokio::time::timeout(limit, self.tell_to_start(part, limit)).await;
        let told = told.with_context(|| format!("{name} did not start within {limit:?}"))?;
        let told = told.with_context(|| format!("starting {name}"))?;
        let engine =
            matches!(self.manager, Manager::Docker { .. } | Manager::Podman { .. } | Manager::Compose { .. });
        // An engine answers when it runs.
        if engine || told == Started::Gone {
            return Ok(told);
        }
        let runs = |seen: Option<&Seen>| seen.is_none_or(|seen| seen.state != State::Stopped);
        let late = format!("{name} was started, but did not run within {limit:?}");
        let seen = self.wait(part, end, &never, &late, runs).await?;
        Ok(seen.map_or(Started::Gone, |seen| Started::Runs { life: seen.life }))
    }

    async fn tell_to_start(&self, part: &Ran, limit: Duration) -> Result<Started> {
        let (caller, never) = (&self.caller, CancellationToken::new());
        match &self.manager {
            Manager::Systemd { .. } if caller.remote.is_some() => {
                return systemctl::start(caller, part, limit).await;
            }
            Manager::Systemd { .. } => return systemd::start(part, limit).await,
            Manager::Docker { .. } | Manager::Compose { .. } => {
                return Engine::Docker.start(caller, part, limit).await;
            }
            Manager::Podman { .. } => return Engine::Podman.start(caller, part, limit).await,
            Manager::Monit { binary, .. } => {
                if monit::look_at(caller, binary, part, &never).await?.is_none() {
                    return Ok(Started::Gone);
                }
                monit::tell(caller, binary, "start", part, &never).await?;
            }
            Manager::Command { start, status, .. } => {
                // A start of what runs already is refused by many.
                if command::look(caller, &self.name, start, status, &never).await?.state != State::Running {
                    command::run(caller, "start", start, limit, &never).await?;
                }
            }
        }
        Ok(Started::Runs { life: String::new() })
    }

    /// Waits until a part that runs is no longer just starting.
    ///
    /// # Errors
    /// It is sick, does not run any more, or is still starting when the limit is over.
    pub async fn healthy(&self, part: &Ran, limit: Duration, cancel: &CancellationToken) -> Result<()> {
        let name = &part.name;
        let settled = |seen: Option<&Seen>| seen.is_none_or(|seen| !seen.starting);
        let late = format!("{name} was not healthy within {limit:?}");
        let seen = self.wait(part, Instant::now() + limit, cancel, &late, settled).await?;
        match seen {
            Some(Seen { state: State::Stopped, .. }) => bail!("{name} was started, but runs no more"),
            Some(Seen { sick: Some(why), .. }) => bail!("{name} is not healthy: {why}"),
            _ => Ok(()),
        }
    }

    /// Looks again and again until it is as wanted.
    async fn wait(
        &self,
        part: &Ran,
        end: Instant,
        cancel: &CancellationToken,
        late: &str,
        wanted: impl Fn(Option<&Seen>) -> bool,
    ) -> Result<Option<Seen>> {
        let (shortest, longest) = PAUSES;
        let begun = Instant::now();
        loop {
            let seen = self.look_at(part, cancel).await?;
            if wanted(seen.as_ref()) {
                return Ok(seen);
            }
            if Instant::now() >= end {
                bail!("{late}");
            }
            let pause = (begun.elapsed() / PAUSE_PART).clamp(shortest, longest);
            tokio::select! {
                () = sleep(pause) => {}
                () = cancel.cancelled() => bail!("cancelled"),
            }
        }
    }
}
