//! Who may work where: one job per instance, readers or one writer per repository, a cap on restic processes over all.
//!
//! Take them in this order, or two jobs wait for each other for ever: instance, repository, permit; and never the same
//! one twice. Of equal priority everything is first come, first served: a writer that waits holds back the readers after
//! it. Higher priority goes before lower, but only so often before the same one: nobody starves. Instances and repositories are also `flock`ed, for commands that work beside the daemon (`--no-daemon`).
//! Dropping the future or cancelling its caller ends a wait at once and leaves no trace; dropping the [`Guard`] releases.

mod flock;
mod lanes;

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::state::lock::{LockFile, Mode};
pub use lanes::Waiting;
use lanes::{Key, Lanes, Ticket};

/// All locks and permits. Copies are the same.
#[derive(Debug, Clone)]
pub struct Queue {
    lanes: Arc<Lanes>,
    files: flock::Files,
    priority: i8,
}

/// Who asks.
#[derive(Debug, Clone)]
pub struct Caller {
    /// What others are told that they wait for: `backup of job j…`.
    pub label: String,
    /// Ends the wait.
    pub cancel: CancellationToken,
}

/// Why nothing was got.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The caller was cancelled.
    #[error("cancelled while waiting for {0}")]
    Cancelled(String),
    /// The lock's file cannot be used.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

/// Held until dropped.
#[derive(Debug)]
#[must_use = "what is held is released when this is dropped"]
pub struct Guard {
    // In this order: other processes may begin before others of ours do.
    _file: Option<LockFile>,
    _ticket: Ticket,
}

impl Queue {
    /// A queue for so many restic processes at once (at least one); lock files lie in `locks`.
    pub fn new(max_parallel: usize, locks: PathBuf) -> Self {
        Self { lanes: Arc::new(Lanes::new(max_parallel)), files: flock::Files::new(locks), priority: 0 }
    }

    /// The same queue for somebody of this priority; 0 is everybody's, higher goes first.
    pub fn with_priority(&self, priority: i8) -> Self {
        Self { priority, ..self.clone() }
    }

    /// Has an instance alone.
    ///
    /// `on_wait` is told what is waited for each time it changes, and `None` when the wait is over; nothing when there
    /// is none.
    ///
    /// # Errors
    /// [`Ended`]; likewise below.
    pub async fn instance(
        &self,
        name: &str,
        caller: &Caller,
        on_wait: impl FnMut(Option<String>) + Send,
    ) -> Result<Guard, Ended> {
        let key = Key::Instance(name.to_owned());
        self.acquire(key, &format!("instance {name}"), Mode::Alone, caller, on_wait).await
    }

    /// Has a repository together with others that share it: backup, restore, listing.
    ///
    /// `key` is its identity (restic's repository id), never a url with a password in it: two names of one place have one
    /// lock. `name` is what people call it.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn share(
        &self,
        key: &str,
        name: &str,
        caller: &Caller,
        on_wait: impl FnMut(Option<String>) + Send,
    ) -> Result<Guard, Ended> {
        self.repository((key, name), Mode::Share, caller, on_wait).await
    }

    /// Has a repository alone: forget, prune, unlock. Names as in [`Queue::share`].
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn alone(
        &self,
        key: &str,
        name: &str,
        caller: &Caller,
        on_wait: impl FnMut(Option<String>) + Send,
    ) -> Result<Guard, Ended> {
        self.repository((key, name), Mode::Alone, caller, on_wait).await
    }

    async fn repository(
        &self,
        (key, name): (&str, &str),
        mode: Mode,
        caller: &Caller,
        on_wait: impl FnMut(Option<String>) + Send,
    ) -> Result<Guard, Ended> {
        let key = Key::Repository(key.to_owned());
        self.acquire(key, &format!("repository {name}"), mode, caller, on_wait).await
    }

    /// May run one restic process.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn permit(
        &self,
        caller: &Caller,
        on_wait: impl FnMut(Option<String>) + Send,
    ) -> Result<Guard, Ended> {
        self.acquire(Key::Permit, "a restic process", Mode::Share, caller, on_wait).await
    }

    /// Changes the cap (at least one). Those that run are not disturbed.
    pub fn set_max_parallel(&self, max_parallel: usize) {
        self.lanes.set_max_parallel(max_parallel);
    }

    /// Who waits now, for what; in the order in which they will be served, instances and repositories by name.
    pub fn waiting(&self) -> Vec<Waiting> {
        self.lanes.waiting()
    }

    /// Whether nobody holds anything or waits: what a drain waits for.
    pub fn is_idle(&self) -> bool {
        self.lanes.is_idle()
    }

    async fn acquire(
        &self,
        key: Key,
        name: &str,
        mode: Mode,
        caller: &Caller,
        on_wait: impl FnMut(Option<String>) + Send,
    ) -> Result<Guard, Ended> {
        tokio::select! {
            biased;
            () = caller.cancel.cancelled() => Err(Ended::Cancelled(name.to_owned())),
            guard = self.wait(key, name, mode, caller, on_wait) => guard,
        }
    }

    async fn wait(
        &self,
        key: Key,
        name: &str,
        mode: Mode,
        caller: &Caller,
        on_wait: impl FnMut(Option<String>) + Send,
    ) -> Result<Guard, Ended> {
        let mut told = Told { on_wait, last: None };
        let files = self.files.of(&key)?;
        let mut ticket = Ticket::take(&self.lanes, key, name, mode, &caller.label, self.priority);
        ticket.granted(|why| told.tell(Some(why))).await;
        let file = match files {
            Some(files) => files.lock(mode, |who| told.tell(Some(format!("{name}: {who} uses it")))).await?,
            None => None,
        };
        told.tell(None);
        Ok(Guard { _file: file, _ticket: ticket })
    }
}

/// Says only what is new.
struct Told<F> {
    on_wait: F,
    last: Option<String>,
}

impl<F: FnMut(Option<String>)> Told<F> {
    fn tell(&mut self, why: Option<String>) {
        if self.last != why {
            self.last.clone_from(&why);
            (self.on_wait)(why);
        }
    }
}

#[cfg(test)]
mod tests;
