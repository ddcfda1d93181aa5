//! Programs outside our own sandbox: as transient units of the systemd that runs us.
//!
//! The daemon's unit takes away from it, and from its children, what users' programs may need: other users' ids, user
//! namespaces (rootless podman), system calls. So systemd is asked to run them, each as a unit of its own with our pipes
//! as its standard streams. The main process's own status is reported, whatever systemd makes of it (to systemd, death by
//! SIGTERM or SIGPIPE is success).
//!
//! Such a unit neither binds to ours nor is part of it, for then systemd would end it as soon as our stop is asked for,
//! and refuse to start the hooks that put things right while we stop. It ends with the daemon all the same: our unit's
//! `ExecStopPost=` stops what is left, and so does [`take_over`] at the next start, before anything is undone.

mod environment;
mod start;
pub(crate) mod systemd;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use zbus::OwnedObjectPath;

pub(super) use start::start;
pub(super) use watch::Running;
pub use watch::next;

use systemd::{ManagerProxy, ServiceProxy, UnitProxy};

/// How long units of a dead daemon may take to end, beyond which they hang in the kernel.
const LEFTOVERS: Duration = Duration::from_secs(30);

/// The systemd that runs us.
#[derive(Debug)]
pub(super) struct Host {
    /// What the names of our units begin with.
    prefix: String,
    /// Where environments are kept until systemd has read them.
    dir: PathBuf,
}

static HOST: OnceLock<Host> = OnceLock::new();

/// The systemd that runs us, once [`take_over`] has found it.
pub(super) fn host() -> Option<&'static Host> {
    HOST.get()
}

/// Finds out whether we are root and the main process of a system service. If so, programs that are to be free run as
/// transient units from now on, and those that a dead predecessor left are stopped. `runtime`: a directory of ours.
///
/// To be called once at start, before anything is undone.
///
/// # Errors
/// systemd does not answer.
pub async fn take_over(runtime: &Path) -> Result<(), zbus::Error> {
    if !may_be_a_service() {
        return Ok(());
    }
    let bus = zbus::Connection::system().await?;
    let Some(id) = own_service(&bus).await? else { return Ok(()) };
    let stem = id.trim_end_matches(".service").replace('@', "-");
    let host = HOST.get_or_init(|| Host { prefix: format!("{stem}-run-"), dir: runtime.join("environment") });
    if tokio::time::timeout(LEFTOVERS, stop_leftovers(&bus, host)).await.is_err() {
        tracing::error!(
            "programs that an earlier daemon ran do not end; `systemctl status '{}*'`",
            host.prefix
        );
    }
    Ok(())
}

fn may_be_a_service() -> bool {
    rustix::process::geteuid().is_root()
        && std::env::var_os("INVOCATION_ID").is_some()
        && Path::new("/run/systemd/system").is_dir()
}

/// The name of the service whose main process we are.
async fn own_service(bus: &zbus::Connection) -> zbus::Result<Option<String>> {
    let pid = std::process::id();
    let path = ManagerProxy::new(bus).await?.get_unit_by_pid(pid).await?;
    let id = unit(bus, &path).await?.id().await?;
    let main = id.ends_with(".service") && service(bus, &path).await?.main_pid().await? == pid;
    Ok(main.then_some(id))
}

async fn stop_leftovers(bus: &zbus::Connection, host: &Host) -> zbus::Result<()> {
    let manager = ManagerProxy::new(bus).await?;
    let mut ends = systemd::ends(&manager).await?;
    let mut jobs = Vec::new();
    let pattern = format!("{}*.service", host.prefix);
    for (name, ..) in manager.list_units_by_patterns(&[], &[&pattern]).await? {
        tracing::warn!("stopping {name}, which an earlier daemon left");
        // One that has just ended by itself is unknown.
        jobs.extend(manager.stop_unit(&name, "replace").await.ok());
    }
    while !jobs.is_empty() {
        let Some((done, _)) = ends.next().await? else { return Ok(()) };
        jobs.retain(|job| *job != done);
    }
    Ok(())
}

async fn unit<'a>(bus: &zbus::Connection, path: &'a OwnedObjectPath) -> zbus::Result<UnitProxy<'a>> {
    UnitProxy::builder(bus).path(path).cache_properties(zbus::proxy::CacheProperties::No).build().await
}

async fn service<'a>(bus: &zbus::Connection, path: &'a OwnedObjectPath) -> zbus::Result<ServiceProxy<'a>> {
    ServiceProxy::builder(bus).path(path).cache_properties(zbus::proxy::CacheProperties::No).build().await
}
