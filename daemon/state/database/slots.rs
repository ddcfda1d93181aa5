//! Decided slots, and small values by key.

use std::collections::BTreeMap;

use anyhow::Result;
use jiff::Timestamp;
use rusqlite::params;

use super::Database;
use super::row::{At, one, sound};

impl Database {
    /// The last slot of a schedule that was decided: run, skipped or given up.
    ///
    /// # Errors
    /// The database's; likewise below.
    pub async fn decided(&self, key: &str) -> Result<Option<Timestamp>> {
        let key = key.to_owned();
        self.ask("reading a slot", move |connection| {
            let mut query = connection.prepare_cached("SELECT decided FROM slot WHERE key = ?1")?;
            one(query.query_row([&key], |row| Ok(row.get::<_, At>(0)?.0)))
        })
        .await
    }

    /// The last decided slots of all schedules.
    ///
    /// # Errors
    /// The database's.
    pub async fn all_decided(&self) -> Result<BTreeMap<String, Timestamp>> {
        self.ask("reading the slots", |connection| {
            let mut query = connection.prepare_cached("SELECT key, decided FROM slot")?;
            let slots = query.query_map([], |row| Ok((row.get(0)?, row.get::<_, At>(1)?.0)))?;
            slots.filter_map(|row| sound(row).transpose()).collect()
        })
        .await
    }

    /// Notes that a slot is decided.
    ///
    /// # Errors
    /// The database's; then nothing was noted.
    pub async fn set_decided(&self, key: &str, slot: Timestamp) -> Result<()> {
        let key = key.to_owned();
        self.ask("saving a slot", move |connection| {
            let sql = "INSERT INTO slot VALUES (?1, ?2) ON CONFLICT DO UPDATE SET decided = excluded.decided";
            connection.prepare_cached(sql)?.execute(params![key, At(slot)]).map(drop)
        })
        .await
    }

    /// A small value.
    ///
    /// # Errors
    /// The database's.
    pub async fn meta(&self, key: &str) -> Result<Option<String>> {
        let key = key.to_owned();
        self.ask("reading a value", move |connection| {
            let mut query = connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
            one(query.query_row([&key], |row| row.get(0)))
        })
        .await
    }

    /// Keeps a small value.
    ///
    /// # Errors
    /// The database's; then the old value stands.
    pub async fn set_meta(&self, key: &str, value: &str) -> Result<()> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.ask("saving a value", move |connection| {
            let sql = "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value";
            connection.prepare_cached(sql)?.execute(params![key, value]).map(drop)
        })
        .await
    }
}
