//! The thread that starts all children, and the guard over each of them.
//!
//! A parent-death signal is bound to the *thread* that forked (measured: children of a blocking-pool thread died after
//! 10 s, when the pool let it go). So one thread, which lives as long as the process, starts them all.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::mpsc;

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use tokio::sync::oneshot;

/// How a child is started and ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// It has a process group of its own.
    pub(super) group: bool,
    /// It gives way to others.
    pub(super) yields: bool,
    /// What it leaves behind lives on when it has ended by itself.
    pub(super) spares: bool,
}

struct Request {
    command: Command,
    terms: Terms,
    reply: oneshot::Sender<io::Result<Running>>,
}

/// A child that runs or is not yet reaped. Dropped early, it is killed with its group.
#[derive(Debug)]
pub(super) struct Running {
    /// The standard library's handle: pipes, and the last `wait`.
    pub(super) child: Child,
    /// Readable once it has ended; it stays a zombie until [`Running::reap`], so its ids cannot be reused before.
    pub(super) pidfd: OwnedFd,
    pid: Pid,
    terms: Terms,
    reaped: bool,
}

/// Starts a command from the spawning thread.
pub(super) async fn spawn(command: Command, terms: Terms) -> io::Result<Running> {
    let (reply, answer) = oneshot::channel();
    let request = Request { command, terms, reply };
    thread()?.send(request).map_err(|_| io::Error::other("the spawning thread has ended"))?;
    answer.await.map_err(|_| io::Error::other("the spawning thread has ended"))?
}

fn thread() -> io::Result<mpsc::Sender<Request>> {
    static THREAD: std::sync::Mutex<Option<mpsc::Sender<Request>>> = std::sync::Mutex::new(None);
    let mut slot = THREAD.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(sender) = slot.as_ref() {
        return Ok(sender.clone());
    }
    let (sender, requests) = mpsc::channel::<Request>();
    std::thread::Builder::new().name("spawner".into()).spawn(move || {
        for request in requests {
            // A requester that went away drops the answer, and with it the child.
            let _ = request.reply.send(start(request.command, request.terms));
        }
    })?;
    *slot = Some(sender.clone());
    Ok(sender)
}

fn start(mut command: Command, terms: Terms) -> io::Result<Running> {
    let mut child = command.spawn()?;
    let watched = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(io::ErrorKind::InvalidData.into())
        .and_then(|pid| Ok((pid, rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)?)));
    let (pid, pidfd) = match watched {
        Ok(pair) => pair,
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
    };
    if terms.yields {
        // Refused only in odd containers, and then nothing is lost but the preference.
        let _ = std::fs::write(format!("/proc/{}/oom_score_adj", child.id()), "500");
    }
    Ok(Running { child, pidfd, pid, terms, reaped: false })
}

impl Running {
    /// Its process id.
    pub(super) const fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Sends a signal to its group (or to itself, on a terminal). Only before [`Running::reap`]: then the ids are ours.
    pub(super) fn signal(&self, signal: Signal) {
        if self.reaped {
            return;
        }
        let _ = if self.terms.group {
            rustix::process::kill_process_group(self.pid, signal)
        } else {
            rustix::process::kill_process(self.pid, signal)
        };
    }

    /// Whether it has ended, without reaping it.
    pub(super) fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        matches!(rustix::process::waitid(WaitId::Pid(self.pid), options), Ok(Some(_)))
    }

    /// Kills what is left of its group, unless that is to stay, then reaps it. Only after [`Running::has_ended`].
    pub(super) fn reap(&mut self) -> io::Result<std::process::ExitStatus> {
        if self.terms.group && !self.terms.spares {
            self.signal(Signal::KILL);
        }
        let status = self.child.wait()?;
        self.reaped = true;
        Ok(status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        self.signal(Signal::KILL);
        if self.has_ended() {
            let _ = self.child.wait();
            return;
        }
        // Reaped on a thread of its own: it may hang in the kernel, and nobody waits for it any more.
        let pid = self.pid;
        let _ = std::thread::Builder::new().name("reaper".into()).spawn(move || reap(pid));
    }
}

fn reap(pid: Pid) {
    let options = rustix::process::WaitOptions::empty();
    while matches!(rustix::process::waitpid(Some(pid), options), Err(rustix::io::Errno::INTR)) {}
}
