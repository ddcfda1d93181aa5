//! The database: one thread owns the connection, everybody else asks it and waits.
//!
//! WAL with full sync: what a method returned `Ok` for is on the disk (117 µs a write, measured). A method whose future is
//! dropped is still carried out. Times are kept to the nanosecond (restic's own), numbers up to 2⁶³-1.

mod forget;
mod jobs;
mod open;
mod row;
mod sets;
mod slots;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::oneshot;

pub use jobs::JobFilter;
pub use open::Opened;
pub use sets::SetFilter;
pub use slots::Slot;

/// A handle on the database. Copies are the same; the file is closed when the last one is gone.
#[derive(Debug, Clone)]
pub struct Database {
    requests: mpsc::Sender<writer::Request>,
    opened: Arc<Mutex<Opened>>,
}

impl Database {
    /// Opens `holdfast.db` in the state directory `dir`, making both where needed. Blocks for as long as the disk takes.
    ///
    /// A damaged database, or one of a newer version, is renamed to `holdfast.db.damaged-TIME` and a fresh one begun.
    /// Where nothing can be written, what can be read is taken into memory, and the daemon runs on that: [`Opened`] tells.
    ///
    /// # Errors
    /// Only when not even a thread or an empty database in memory can be had.
    pub fn open(dir: &Path, now: Timestamp) -> Result<(Self, Opened)> {
        let (connection, opened) = open::open(dir, now)?;
        let shared = Arc::new(Mutex::new(opened.clone()));
        let requests = writer::start(dir.to_owned(), connection, Arc::clone(&shared))?;
        Ok((Self { requests, opened: shared }, opened))
    }

    /// How the database stands: as it was opened, or set aside since because it was found to be damaged.
    pub fn opened(&self) -> Opened {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has the thread do something. `what` is the activity for an error.
    async fn ask<T, F>(&self, what: &'static str, act: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let request = move |store: &mut writer::Store| {
            // Nobody waits any more when this fails; the work is done all the same.
            let _ = answer.send(store.perform(&act));
        };
        self.requests
            .send(Box::new(request))
            .map_err(|_| anyhow!("{what}: the database's thread has ended"))?;
        answered.await.with_context(|| format!("{what}: the database's thread has ended"))?.context(what)
    }
}

#[cfg(test)]
mod tests;
