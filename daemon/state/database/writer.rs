//! The thread that owns the connection.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use anyhow::{Context, Result};
use jiff::Timestamp;
use rusqlite::Connection;

use super::open::{self, Opened};

pub(super) type Request = Box<dyn FnOnce(&mut Store) + Send>;

/// The connection, and what is needed to replace it.
pub(super) struct Store {
    dir: PathBuf,
    connection: Connection,
    opened: Arc<Mutex<Opened>>,
    replaced: bool,
}

/// Starts the thread. It ends when all senders are gone.
pub(super) fn start(
    dir: PathBuf,
    connection: Connection,
    opened: Arc<Mutex<Opened>>,
) -> Result<mpsc::Sender<Request>> {
    let (requests, asked) = mpsc::channel::<Request>();
    let mut store = Store { dir, connection, opened, replaced: false };
    let serve = move || asked.into_iter().for_each(|request| request(&mut store));
    std::thread::Builder::new()
        .name("database".into())
        .spawn(serve)
        .context("starting the database's thread")?;
    Ok(requests)
}

impl Store {
    /// Does something; when the database turns out to be damaged, once more on the one that replaces it.
    pub(super) fn perform<T>(&mut self, act: &impl Fn(&mut Connection) -> rusqlite::Result<T>) -> Result<T> {
        match act(&mut self.connection) {
            Err(e) if open::is_damage(&e) => {
                self.replace(&e)?;
                Ok(act(&mut self.connection)?)
            }
            done => Ok(done?),
        }
    }

    /// Sets the damaged database aside, once; if the next one is damaged too the disk is to blame, and memory must do.
    fn replace(&mut self, damage: &rusqlite::Error) -> Result<()> {
        let why = format!("it was found to be damaged: {damage}");
        self.connection = open::in_memory()?;
        let opened = if self.replaced {
            Opened::InMemory(format!("{why}; the one begun in its place as well"))
        } else {
            let (connection, opened) = open::replace(&self.dir, Timestamp::now(), &why)?;
            self.connection = connection;
            opened
        };
        self.replaced = true;
        tracing::error!("the database in {}: {opened}", self.dir.display());
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = opened;
        Ok(())
    }
}
