//! A unit from its start to its certain end.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::{mpsc, oneshot};
use zbus::OwnedObjectPath;
use zbus::export::futures_core::Stream;
use zbus::fdo::PropertiesProxy;

use super::super::How;
use super::super::running::Pipes;
use super::super::work::Work;
use super::systemd::ManagerProxy;

/// How often a unit is looked at when systemd says nothing: after systemd was executed anew, it might have forgotten us.
const LOOK: Duration = Duration::from_secs(5);

/// A unit that runs or whose end is not yet taken. Dropped early, it is killed.
#[derive(Debug)]
pub(in crate::process) struct Running {
    /// Our ends of its standard streams.
    pub(in crate::process) pipes: Pipes,
    /// Readable once it has ended, with all that it left.
    pub(in crate::process) end: OwnedFd,
    pub(super) pid: i32,
    pub(super) cgroup: String,
    pub(super) orders: mpsc::UnboundedSender<Signal>,
    pub(super) verdict: Option<oneshot::Receiver<zbus::Result<How>>>,
}

impl Running {
    /// Its main process's id.
    pub(in crate::process) const fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends a signal to all of its processes, in the order of the calls.
    pub(in crate::process) fn signal(&self, signal: Signal) {
        // Refused when it has ended.
        let _ = self.orders.send(signal);
    }

    /// What its processes have done.
    pub(in crate::process) fn work(&self) -> Work {
        Work::of_group(&self.cgroup)
    }

    /// How its main process ended. Only once [`Running::end`] is readable.
    pub(in crate::process) async fn reap(&mut self) -> io::Result<How> {
        let verdict = self.verdict.take().ok_or(io::ErrorKind::NotFound)?;
        let verdict = verdict.await.map_err(|_| io::Error::other("the runtime is ending"))?;
        verdict.map_err(io::Error::other)
    }
}

/// What is needed to follow a unit.
pub(super) struct Followed {
    pub(super) bus: zbus::Connection,
    pub(super) name: String,
    pub(super) path: OwnedObjectPath,
}

impl Followed {
    /// Follows the unit to its end, and passes signals on to it. When nobody can send any more, it is killed.
    pub(super) async fn to_its_end(&self, mut orders: mpsc::UnboundedReceiver<Signal>) -> zbus::Result<How> {
        let manager = ManagerProxy::new(&self.bus).await?;
        let properties = PropertiesProxy::builder(&self.bus)
            .destination("org.freedesktop.systemd1")
            .path(&self.path)
            .build()
            .await?;
        let mut changes = properties.receive_properties_changed().await?;
        let unit = super::unit(&self.bus, &self.path).await?;
        let mut wanted = true;
        while !matches!(unit.active_state().await?.as_str(), "inactive" | "failed") {
            tokio::select! {
                order = orders.recv(), if wanted => {
                    wanted = order.is_some();
                    self.pass_on(&manager, order.unwrap_or(Signal::KILL)).await;
                }
                Some(_) = next(&mut changes) => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        self.how().await
    }

    async fn pass_on(&self, manager: &ManagerProxy<'_>, signal: Signal) {
        if let Err(failure) = manager.kill_unit(&self.name, "all", signal.as_raw()).await {
            // Nearly always: it has just ended.
            tracing::debug!("signal {} to {}: {failure}", signal.as_raw(), self.name);
        }
    }

    /// How the main process ended, by the codes of waitid(2).
    pub(super) async fn how(&self) -> zbus::Result<How> {
        const EXITED: i32 = 1;
        let service = super::service(&self.bus, &self.path).await?;
        let status = service.exec_main_status().await?;
        match service.exec_main_code().await? {
            0 => Err(zbus::Error::Failure(format!("{} ended before it began", self.name))),
            EXITED => Ok(How::Exited(status)),
            _ => Ok(How::Signalled(status)),
        }
    }
}

/// The next item of a stream of the bus; none: it has ended.
pub async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await
}
