//! Committed sets, as far as they are known here; restic's own list decides.

use std::collections::BTreeMap;

use anyhow::Result;
use jiff::Timestamp;
use rusqlite::types::ToSql;
use rusqlite::{Connection, Row, params};

use super::Database;
use super::row::{At, Count, one, sound};
use crate::state::SetRecord;

/// Which sets are asked for; what is not given does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SetFilter {
    /// The repository's name.
    pub repository: Option<String>,
    /// What follows its url.
    pub location: Option<String>,
    /// The instance's name when the set was made.
    pub instance: Option<String>,
    /// The instance's identity.
    pub uuid: Option<String>,
    /// The backup that made it.
    pub backup: Option<String>,
}

const SET: &str = "SELECT repository, location, snapshot, job, instance, uuid, backup, host, time, size, files, version, \
                   outcome FROM committed_set";

impl Database {
    /// Keeps a set that was committed, in place of what was known of it.
    ///
    /// # Errors
    /// The database's; then what was known stands.
    pub async fn save_set(&self, set: &SetRecord) -> Result<()> {
        let (set, now) = (set.clone(), Timestamp::now());
        self.ask("saving a set", move |connection| save(connection, &set, now)).await
    }

    /// The sets that were asked for, newest first.
    ///
    /// # Errors
    /// The database's; likewise below.
    pub async fn sets(&self, filter: SetFilter) -> Result<Vec<SetRecord>> {
        self.ask("reading sets", move |connection| find(connection, &filter)).await
    }

    /// Drops sets of a repository by their snapshots' full ids: they were forgotten.
    ///
    /// # Errors
    /// The database's; then none was dropped.
    pub async fn remove_sets(&self, repository: &str, snapshots: &[String]) -> Result<()> {
        let (repository, snapshots) = (repository.to_owned(), snapshots.to_vec());
        self.ask("dropping sets", move |connection| {
            let transaction = connection.transaction()?;
            let sql = "DELETE FROM committed_set WHERE repository = ?1 AND snapshot = ?2";
            for snapshot in &snapshots {
                transaction.prepare_cached(sql)?.execute([&repository, snapshot])?;
            }
            transaction.commit()
        })
        .await
    }

    /// Takes restic's own list over, in one step: all sets of this restic repository, as listed from the instant `listed`
    /// on. Outcome, size, files and version stay where the list does not know them; sets that were saved here after
    /// `listed` stay too, for the list may have been made before them.
    ///
    /// # Errors
    /// The database's; then all stays as it was.
    pub async fn replace_sets(
        &self,
        repository: &str,
        location: &str,
        listed: Timestamp,
        sets: Vec<SetRecord>,
    ) -> Result<()> {
        let (repository, location) = (repository.to_owned(), location.to_owned());
        self.ask("taking over a list of sets", move |connection| {
            let transaction = connection.transaction()?;
            replace(&transaction, &repository, &location, listed, &sets)?;
            let sql = "INSERT INTO synced VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET at = excluded.at";
            transaction.prepare_cached(sql)?.execute(params![repository, location, At(listed)])?;
            transaction.commit()
        })
        .await
    }

    /// The instant of the list that was last taken over; none: never.
    ///
    /// # Errors
    /// The database's.
    pub async fn last_synced(&self, repository: &str, location: &str) -> Result<Option<Timestamp>> {
        let of = [repository.to_owned(), location.to_owned()];
        self.ask("reading the time of a list", move |connection| {
            let sql = "SELECT at FROM synced WHERE repository = ?1 AND location = ?2";
            let mut query = connection.prepare_cached(sql)?;
            one(query.query_row([&of[0], &of[1]], |row| Ok(row.get::<_, At>(0)?.0)))
        })
        .await
    }

    /// The newest snapshot of an instance in a restic repository: the next one's `--parent`.
    ///
    /// # Errors
    /// The database's.
    pub async fn parent(&self, repository: &str, location: &str, uuid: &str) -> Result<Option<String>> {
        let of = [repository.to_owned(), location.to_owned(), uuid.to_owned()];
        self.ask("reading the parent", move |connection| {
            let sql =
                "SELECT snapshot FROM committed_set WHERE repository = ?1 AND location = ?2 AND uuid = ?3
                ORDER BY time DESC, snapshot DESC LIMIT 1";
            one(connection.prepare_cached(sql)?.query_row([&of[0], &of[1], &of[2]], |row| row.get(0)))
        })
        .await
    }
}

fn save(connection: &Connection, set: &SetRecord, saved: Timestamp) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO committed_set VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
    connection.prepare_cached(sql)?.execute(params![
        set.repository,
        set.location,
        set.snapshot,
        set.set,
        set.instance,
        set.uuid,
        set.backup,
        set.host,
        At(set.time),
        Count(set.size),
        Count(set.files),
        set.version,
        set.outcome,
        At(saved),
    ])?;
    Ok(())
}

fn replace(
    connection: &Connection,
    repository: &str,
    location: &str,
    listed: Timestamp,
    sets: &[SetRecord],
) -> rusqlite::Result<()> {
    let filter = SetFilter {
        repository: Some(repository.to_owned()),
        location: Some(location.to_owned()),
        ..SetFilter::default()
    };
    let known: BTreeMap<_, _> =
        find(connection, &filter)?.into_iter().map(|set| (set.snapshot.clone(), set)).collect();
    let sql = "DELETE FROM committed_set WHERE repository = ?1 AND location = ?2 AND saved < ?3";
    connection.prepare_cached(sql)?.execute(params![repository, location, At(listed)])?;
    for set in sets {
        let mut set = known.get(&set.snapshot).map_or_else(|| set.clone(), |known| completed(set, known));
        (set.repository, set.location) = (repository.to_owned(), location.to_owned());
        save(connection, &set, Timestamp::MIN)?;
    }
    Ok(())
}

/// A listed set with what only we know of it.
fn completed(listed: &SetRecord, known: &SetRecord) -> SetRecord {
    let number = |listed: u64, known: u64| if listed == 0 { known } else { listed };
    SetRecord {
        size: number(listed.size, known.size),
        files: number(listed.files, known.files),
        version: if listed.version.is_empty() { &known.version } else { &listed.version }.clone(),
        outcome: listed.outcome.or(known.outcome),
        ..listed.clone()
    }
}

fn find(connection: &Connection, filter: &SetFilter) -> rusqlite::Result<Vec<SetRecord>> {
    let given = [
        ("repository", &filter.repository),
        ("location", &filter.location),
        ("instance", &filter.instance),
        ("uuid", &filter.uuid),
        ("backup", &filter.backup),
    ];
    let mut sql = format!("{SET} WHERE true");
    let mut values: Vec<&dyn ToSql> = Vec::new();
    for (column, value) in given {
        if let Some(value) = value {
            sql = format!("{sql} AND {column} = ?");
            values.push(value);
        }
    }
    let mut query = connection.prepare_cached(&format!("{sql} ORDER BY time DESC, snapshot DESC"))?;
    query.query_map(&values[..], set_of)?.filter_map(|row| sound(row).transpose()).collect()
}

fn set_of(row: &Row<'_>) -> rusqlite::Result<SetRecord> {
    Ok(SetRecord {
        repository: row.get(0)?,
        location: row.get(1)?,
        snapshot: row.get(2)?,
        set: row.get(3)?,
        instance: row.get(4)?,
        uuid: row.get(5)?,
        backup: row.get(6)?,
        host: row.get(7)?,
        time: row.get::<_, At>(8)?.0,
        size: row.get::<_, Count>(9)?.0,
        files: row.get::<_, Count>(10)?.0,
        version: row.get(11)?,
        outcome: row.get(12)?,
    })
}
