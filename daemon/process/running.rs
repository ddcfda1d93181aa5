//! What runs for us, wherever it does.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::Signal;

use super::run::How;
use super::work::Work;
use super::{spawner, unit};

/// Our ends of a child's standard streams.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
}

/// A child that runs or is not yet reaped. Dropped early, it is killed with all that it started.
#[derive(Debug)]
pub(super) enum Running {
    /// A child of our own.
    Child(spawner::Running),
    /// A unit of systemd.
    Unit(unit::Running),
}

impl Running {
    /// Its process id, for messages.
    pub(super) const fn pid(&self) -> i32 {
        match self {
            Self::Child(child) => child.pid(),
            Self::Unit(unit) => unit.pid(),
        }
    }

    /// Sends a signal to all of it.
    pub(super) fn signal(&self, signal: Signal) {
        match self {
            Self::Child(child) => child.signal(signal),
            Self::Unit(unit) => unit.signal(signal),
        }
    }

    /// What it has done so far.
    pub(super) fn work(&self) -> Work {
        match self {
            Self::Child(child) => Work::of(child.pid()),
            Self::Unit(unit) => unit.work(),
        }
    }

    /// Our ends of its streams, once.
    pub(super) fn pipes(&mut self) -> Pipes {
        match self {
            Self::Child(running) => Pipes {
                stdin: running.child.stdin.take().map(Into::into),
                stdout: running.child.stdout.take().map(Into::into),
                stderr: running.child.stderr.take().map(Into::into),
            },
            Self::Unit(unit) => std::mem::take(&mut unit.pipes),
        }
    }

    /// Readable once it has ended.
    pub(super) fn end(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Child(child) => child.pidfd.try_clone(),
            Self::Unit(unit) => unit.end.try_clone(),
        }
    }

    /// Ends what it left and takes its status. Only after its end.
    pub(super) async fn reap(&mut self) -> io::Result<How> {
        match self {
            Self::Child(child) => child.reap().map(how),
            Self::Unit(unit) => unit.reap().await,
        }
    }
}

fn how(status: ExitStatus) -> How {
    status.code().map_or_else(|| How::Signalled(status.signal().unwrap_or(0)), How::Exited)
}
