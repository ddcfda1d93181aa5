//! A unit of systemd that may fail: how it stands, when that changes, how it is started.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use zbus::proxy::CacheProperties;

use super::Started;
use super::systemd;
use crate::definition::Ran;
use crate::process::next;
use crate::process::systemd::{ManagerProxy, UnitProxy};

/// How a unit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It has failed.
    Failed,
    /// It does not run, and has not failed.
    Inactive,
    /// It runs, or is about to.
    Active,
}

/// How long a unit must stand after its start until it counts as well started.
const SETTLE: Duration = Duration::from_secs(1);

/// How a unit stands now.
///
/// # Errors
/// systemd does not answer, or knows no such unit.
pub async fn condition(name: &str) -> Result<Condition> {
    let asked = tokio::time::timeout(systemd::ANSWER, async {
        let unit = systemd::unit(&systemd::bus().await?, name).await?;
        if unit.load_state().await? == "not-found" {
            bail!("systemd knows no unit {name}; install it, or correct `recovery.unit`");
        }
        Ok(match unit.active_state().await?.as_str() {
            "failed" => Condition::Failed,
            "inactive" => Condition::Inactive,
            _ => Condition::Active,
        })
    });
    asked.await.context("systemd does not answer")?
}

/// Starts a unit, whether it has failed or not, and looks whether it stays.
///
/// # Errors
/// It does not run.
pub async fn start(name: &str, limit: Duration) -> Result<()> {
    let part = Ran { name: name.to_owned(), id: String::new(), paused: false };
    if systemd::start(&part, limit).await? == Started::Gone {
        bail!("systemd knows no unit {name}");
    }
    tokio::time::sleep(SETTLE).await;
    match condition(name).await? {
        Condition::Failed => bail!("it was started and failed again; `journalctl -u {name}` says why"),
        Condition::Inactive | Condition::Active => Ok(()),
    }
}

/// Returns when a unit stands otherwise than it was `known` to, or when the bus or systemd is gone.
///
/// # Errors
/// systemd cannot be asked to tell.
pub async fn changed(name: &str, known: Condition) -> Result<()> {
    let bus = systemd::bus().await?;
    ManagerProxy::new(&bus).await?.subscribe().await?;
    let path = systemd::unit(&bus, name).await?.inner().path().to_owned();
    let unit = UnitProxy::builder(&bus).path(path).cache_properties(CacheProperties::Lazily).build().await?;
    let mut changes = unit.receive_active_state_changed().await;
    // The first is how it stands now: what changed before we listened is not missed.
    while next(&mut changes).await.is_some() {
        if condition(name).await? != known {
            return Ok(());
        }
    }
    Ok(())
}
