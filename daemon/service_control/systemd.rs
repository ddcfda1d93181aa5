//! Units of the machine's systemd, over D-Bus.
//!
//! A unit is stopped together with the sockets, timers and paths that would start it again, and with the units that
//! systemd stops along with it: all that ran is remembered, and only that is started again.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use tokio_util::sync::CancellationToken;
use zbus::Connection;
use zbus::proxy::CacheProperties;

use super::{Seen, Started, State};
use crate::definition::Ran;
use crate::process::systemd::{self, ManagerProxy, ServiceProxy, UnitProxy};

/// How long systemd may take to answer a question.
pub(super) const ANSWER: Duration = Duration::from_secs(25);

pub(super) async fn bus() -> Result<Connection> {
    let bus = tokio::time::timeout(ANSWER, Connection::system()).await;
    bus.context("the system bus does not answer")?.context("connecting to the system bus, for systemd")
}

pub(super) async fn unit(bus: &Connection, name: &str) -> Result<UnitProxy<'static>> {
    let path = ManagerProxy::new(bus).await?.load_unit(name).await;
    let path = path.with_context(|| format!("asking systemd for {name}"))?;
    Ok(UnitProxy::builder(bus).path(path).cache_properties(CacheProperties::No).build().await?)
}

/// The units of a definition with what is stopped along with them, in stop order.
pub(super) async fn look(units: &[String]) -> Result<Vec<Seen>> {
    let looked = tokio::time::timeout(ANSWER, async {
        let bus = bus().await?;
        let mut found = Found { bus, triggers: Vec::new(), others: Vec::new() };
        for name in units {
            let unit = unit(&found.bus, name).await?;
            refuse_unusable(name, &unit.load_state().await?)?;
            found.add(name.clone()).await?;
        }
        found.triggers.extend(found.others);
        Ok(found.triggers)
    });
    looked.await.context("systemd does not answer")?
}

/// Refuses a unit of a definition that could not be stopped and started again.
pub(super) fn refuse_unusable(name: &str, load: &str) -> Result<()> {
    match load {
        "loaded" => Ok(()),
        "masked" => {
            bail!("{name} is masked, so it could not be started again; unmask it, or take it out of `units`")
        }
        "not-found" => bail!("systemd knows no unit {name}; install it, or take it out of `units`"),
        other => bail!("{name} cannot be used: systemd says {other}; `systemctl status {name}` says more"),
    }
}

/// What a walk over units has found.
struct Found {
    bus: Connection,
    triggers: Vec<Seen>,
    others: Vec<Seen>,
}

impl Found {
    fn has(&self, name: &str) -> bool {
        self.triggers.iter().chain(&self.others).any(|seen| seen.part.name == name)
    }

    /// Adds a unit after those that systemd would stop with it. Its triggers come before all.
    async fn add(&mut self, name: String) -> Result<()> {
        let mut left = vec![(name, false)];
        let mut entered: Vec<String> = Vec::new();
        while let Some((name, ready)) = left.pop() {
            let unit = unit(&self.bus, &name).await?;
            let id = unit.id().await?;
            if self.has(&id) {
                continue;
            }
            if ready {
                let seen = seen(&unit).await?;
                if is_trigger(&id) {
                    self.triggers.push(seen)
                } else {
                    self.others.push(seen)
                }
                continue;
            }
            if entered.contains(&id) {
                continue;
            }
            entered.push(id.clone());
            left.push((name, true));
            left.extend(along(&unit).await?.into_iter().map(|name| (name, false)));
        }
        Ok(())
    }
}

/// What starts a unit by itself, and what systemd stops when the unit is stopped (systemd.unit(5)).
async fn along(unit: &UnitProxy<'_>) -> zbus::Result<Vec<String>> {
    let mut all = unit.triggered_by().await?;
    for more in
        [unit.required_by().await, unit.requisite_of().await, unit.bound_by().await, unit.consists_of().await]
    {
        all.extend(more?);
    }
    Ok(all)
}

pub(super) fn is_trigger(name: &str) -> bool {
    [".socket", ".timer", ".path"].iter().any(|suffix| name.ends_with(suffix))
}

async fn seen(unit: &UnitProxy<'_>) -> Result<Seen> {
    let (name, active, sub) = (unit.id().await?, unit.active_state().await?, unit.sub_state().await?);
    let life = unit.invocation_id().await?.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(standing(&name, &active, &sub, life))
}

/// What systemd's words for the state of a unit mean.
pub(super) fn standing(name: &str, active: &str, sub: &str, life: String) -> Seen {
    let state = match active {
        "active" | "reloading" | "refreshing" | "activating" => State::Running,
        _ => State::Stopped,
    };
    let starting = active == "activating" && sub != "auto-restart";
    let sick =
        (active != "active" && active != "reloading").then(|| format!("systemd says {active} ({sub})"));
    let part = Ran { name: name.to_owned(), id: String::new(), paused: false };
    Seen { called: name.to_owned(), part, state, sick, starting, life, wave: None }
}

/// One unit; none: there is none of this name any more.
pub(super) async fn look_at(part: &Ran) -> Result<Option<Seen>> {
    let looked = tokio::time::timeout(ANSWER, async {
        let unit = unit(&bus().await?, &part.name).await?;
        let seen = seen(&unit).await?;
        let gone = unit.load_state().await? == "not-found" && seen.state == State::Stopped;
        Ok((!gone).then_some(seen))
    });
    looked.await.context("systemd does not answer")?
}

#[derive(Debug, Clone, Copy)]
enum Verb {
    Start,
    Stop,
}

pub(super) async fn stop(part: &Ran, limit: Duration, cancel: &CancellationToken) -> Result<()> {
    tokio::select! {
        done = run(Verb::Stop, &part.name, limit) => done,
        () = cancel.cancelled() => bail!("cancelled"),
    }
}

pub(super) async fn start(part: &Ran, limit: Duration) -> Result<Started> {
    let name = &part.name;
    let before = unit(&bus().await?, name).await?;
    match before.load_state().await?.as_str() {
        "not-found" => return Ok(Started::Gone),
        "masked" => bail!("it is masked; `systemctl unmask {name}`, then `systemctl start {name}`"),
        _ => {}
    }
    // One that failed too often in a short time is refused otherwise; not known to have failed, it is well so too.
    let _ = ManagerProxy::new(before.inner().connection()).await?.reset_failed_unit(name).await;
    run(Verb::Start, name, limit).await?;
    let after = seen(&before).await?;
    if after.state == State::Running || ends_by_itself(&before).await {
        return Ok(Started::Runs { life: after.life });
    }
    let why = after.sick.unwrap_or_default();
    bail!("it was started, but does not run: {why}; `journalctl -u {name}` says why")
}

/// Whether it is a unit that does something once, and is well then.
async fn ends_by_itself(unit: &UnitProxy<'_>) -> bool {
    let path = unit.inner().path().to_owned();
    let service = ServiceProxy::builder(unit.inner().connection()).path(path);
    match service.cache_properties(CacheProperties::No).build().await {
        Ok(service) => service.kind().await.is_ok_and(|kind| kind == "oneshot"),
        Err(_) => false,
    }
}

/// Starts or stops a unit and waits for the result of systemd's job.
async fn run(verb: Verb, name: &str, limit: Duration) -> Result<()> {
    let bus = bus().await?;
    let manager = ManagerProxy::new(&bus).await?;
    let mut ends = systemd::ends(&manager).await?;
    // A target is only marked: starting it would start all that it wants, also what was stopped by hand.
    let mode = if name.ends_with(".target") { "ignore-dependencies" } else { "replace" };
    let job = match verb {
        Verb::Start => manager.start_unit(name, mode).await,
        Verb::Stop => manager.stop_unit(name, "replace").await,
    };
    let job = match (verb, job) {
        (Verb::Stop, Err(zbus::Error::MethodError(error, ..)))
            if error.as_str() == "org.freedesktop.systemd1.NoSuchUnit" =>
        {
            return Ok(());
        }
        (_, job) => job.map_err(|failure| refused(&failure))?,
    };
    let result = tokio::time::timeout(limit, ends.of(&job));
    let doing = if matches!(verb, Verb::Start) { "start" } else { "stop" };
    let result = result.await.with_context(|| format!("{name} did not {doing} within {limit:?}"))??;
    let result = result.ok_or_else(|| anyhow!("the system bus is gone"))?;
    match result.as_str() {
        "done" => Ok(()),
        result => {
            bail!("systemd's job to {doing} {name} ended with {result:?}; `journalctl -u {name}` says why")
        }
    }
}

/// systemd's own words, without the bus's names for them.
fn refused(failure: &zbus::Error) -> anyhow::Error {
    match failure {
        zbus::Error::MethodError(name, text, _) => {
            anyhow!("systemd refuses: {}", text.clone().unwrap_or_else(|| name.to_string()))
        }
        other => anyhow!("asking systemd: {other}"),
    }
}
