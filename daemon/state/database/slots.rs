//! Decided slots, and small values by key.

use std::collections::BTreeMap;

use anyhow::Result;
use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::row::{At, one, sound};
use super::{Database, jobs};
use crate::state::JobRecord;

/// Keys of values that say since when a run is owed.
const OWED: &str = "owed/";

/// A slot that a job is the run of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The key of its schedule.
    pub key: String,
    /// The slot; none: it was decided before, and its run is still owed.
    pub at: Option<Timestamp>,
}

impl Database {
    /// Notes in one step that a slot is decided, that nothing is owed for it, and the job that is its run.
    ///
    /// # Errors
    /// The database's; then neither was noted: the slot is found due again.
    pub async fn save_job_of_slot(&self, job: &JobRecord, slot: &Slot) -> Result<()> {
        let (job, slot) = (job.clone(), slot.clone());
        self.ask("saving a slot and its job", move |connection| {
            let transaction = connection.transaction()?;
            settle(&transaction, &slot)?;
            jobs::save(&transaction, &job)?;
            transaction.commit()
        })
        .await
    }

    /// Notes that a slot is decided and that nothing is owed for it.
    ///
    /// # Errors
    /// The database's; then nothing was noted.
    pub async fn settle_slot(&self, slot: &Slot) -> Result<()> {
        let slot = slot.clone();
        self.ask("saving a slot", move |connection| {
            let transaction = connection.transaction()?;
            settle(&transaction, &slot)?;
            transaction.commit()
        })
        .await
    }

    /// Notes in one step that a slot is decided and that its run is owed.
    ///
    /// # Errors
    /// The database's; then neither was noted.
    pub async fn owe(&self, key: &str, slot: Timestamp) -> Result<()> {
        let key = key.to_owned();
        self.ask("saving what is owed", move |connection| {
            let transaction = connection.transaction()?;
            decide(&transaction, &key, slot)?;
            owe(&transaction, &key, slot)?;
            transaction.commit()
        })
        .await
    }

    /// The keys whose run is owed, and since when.
    ///
    /// # Errors
    /// The database's.
    pub async fn owed(&self) -> Result<Vec<(String, Timestamp)>> {
        self.ask("reading what is owed", |connection| {
            let sql = "SELECT substr(key, length(?1) + 1), value FROM meta
                WHERE substr(key, 1, length(?1)) = ?1 ORDER BY key";
            let mut query = connection.prepare_cached(sql)?;
            let rows = query.query_map([OWED], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
            let rows = rows.collect::<rusqlite::Result<Vec<(String, String)>>>()?;
            Ok(rows.into_iter().filter_map(|(key, since)| Some((key, since.parse().ok()?))).collect())
        })
        .await
    }

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
        self.ask("saving a slot", move |connection| decide(connection, &key, slot)).await
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

fn settle(connection: &Connection, slot: &Slot) -> rusqlite::Result<()> {
    if let Some(at) = slot.at {
        decide(connection, &slot.key, at)?;
    }
    let owed = format!("{OWED}{}", slot.key);
    connection.prepare_cached("DELETE FROM meta WHERE key = ?1")?.execute([owed]).map(drop)
}

fn decide(connection: &Connection, key: &str, slot: Timestamp) -> rusqlite::Result<()> {
    let sql = "INSERT INTO slot VALUES (?1, ?2) ON CONFLICT DO UPDATE SET decided = excluded.decided";
    connection.prepare_cached(sql)?.execute(params![key, At(slot)]).map(drop)
}

/// Notes that the run of a slot is owed.
pub(super) fn owe(connection: &Connection, key: &str, since: Timestamp) -> rusqlite::Result<()> {
    let sql = "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value";
    connection.prepare_cached(sql)?.execute(params![format!("{OWED}{key}"), since.to_string()]).map(drop)
}
