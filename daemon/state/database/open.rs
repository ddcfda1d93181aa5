//! Opening: migrations, and what is done when the file cannot be used.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::state::durable;

const FILE: &str = "holdfast.db";
/// SQLite's own files beside the database.
const COMPANIONS: [&str; 3] = ["", "-wal", "-shm"];
/// One step per version; the database's `user_version` counts those that were taken. Only ever append.
const MIGRATIONS: &[&str] = &[
    include_str!("schema.sql"),
    // For how long services were down, in microseconds.
    "ALTER TABLE unit ADD COLUMN downtime INTEGER NOT NULL DEFAULT 0;",
];
const TABLES: [&str; 7] = ["job", "unit", "tally", "committed_set", "synced", "slot", "meta"];
/// For a command that works beside the daemon (`--no-daemon`).
const BUSY: Duration = Duration::from_secs(5);

/// How the database was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// There was none.
    Fresh,
    /// As it was left.
    Existing,
    /// What was there cannot be used and now lies at `path`; a fresh one was begun. Slots before now count as decided.
    SetAside {
        /// Where it lies now.
        path: PathBuf,
        /// Why it cannot be used.
        why: String,
    },
    /// Nothing can be written: what could be read is in memory, and what is saved is lost at the end.
    InMemory(String),
}

impl fmt::Display for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fresh => f.write_str("begun"),
            Self::Existing => f.write_str("in use"),
            Self::SetAside { path, why } => write!(
                f,
                "{why}; it was set aside as {} and a fresh one begun: history before now is missing from lists, \
                 sets are listed again from their repositories",
                path.display()
            ),
            Self::InMemory(why) => write!(
                f,
                "{why}; running in memory: backups run, but history and decided slots are lost at the end. \
                 Make the directory writable, with free space, and restart"
            ),
        }
    }
}

/// Why a file cannot be used.
enum Unusable {
    /// It is not what it should be: set it aside.
    Damaged(String),
    /// It cannot be reached or written: leave it alone.
    Unreachable(String),
}

impl From<rusqlite::Error> for Unusable {
    fn from(e: rusqlite::Error) -> Self {
        if is_damage(&e) {
            Self::Damaged(format!("it is damaged: {e}"))
        } else {
            Self::Unreachable(e.to_string())
        }
    }
}

pub(super) fn open(dir: &Path, now: Timestamp) -> Result<(Connection, Opened)> {
    let path = dir.join(FILE);
    let (connection, opened) = match prepare(dir, now).and_then(|()| usable(&path)) {
        Ok((connection, 0)) => return Ok((connection, Opened::Fresh)),
        Ok((connection, _)) => return Ok((connection, Opened::Existing)),
        Err(Unusable::Damaged(why)) => replace(dir, now, &why)?,
        Err(Unusable::Unreachable(why)) => from_disk(&path, why)?,
    };
    tracing::error!("the database {}: {opened}", path.display());
    Ok((connection, opened))
}

/// Sets the database aside and begins a fresh one; in memory where that is impossible.
pub(super) fn replace(dir: &Path, now: Timestamp, why: &str) -> Result<(Connection, Opened)> {
    let begun = set_aside(dir, now).and_then(|path| match usable(&dir.join(FILE)) {
        Ok((connection, _)) => Ok((connection, Opened::SetAside { path, why: why.to_owned() })),
        Err(Unusable::Damaged(why) | Unusable::Unreachable(why)) => Err(io::Error::other(why)),
    });
    match begun {
        Ok(begun) => Ok(begun),
        Err(e) => Ok((in_memory()?, Opened::InMemory(format!("{why}; setting it aside: {e}")))),
    }
}

/// An empty database in memory.
pub(super) fn in_memory() -> Result<Connection> {
    let mut connection = Connection::open_in_memory().context("opening a database in memory")?;
    let made = configure(&mut connection).and_then(|()| migrate(&mut connection, 0));
    made.context("making a database in memory")?;
    Ok(connection)
}

/// Whether an error says that the file is not a sound database.
pub(super) fn is_damage(e: &rusqlite::Error) -> bool {
    matches!(e.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Makes the directory, and a WAL without its database harmless: it would be taken for the next database's.
fn prepare(dir: &Path, now: Timestamp) -> Result<(), Unusable> {
    let prepare = || -> Result<()> {
        durable::create_dir(dir, 0o700)?;
        durable::sweep(dir)?;
        for below in ["instances", "pins", "recovery", "stacks"] {
            durable::sweep(&dir.join(below))?;
        }
        if !dir.join(FILE).exists() && COMPANIONS.iter().any(|c| dir.join(format!("{FILE}{c}")).exists()) {
            set_aside(dir, now)?;
        }
        Ok(())
    };
    prepare().map_err(|e| Unusable::Unreachable(format!("{e:#}")))
}

/// Opens a database and proves that it can be read and written. Tells also which version it had, 0 when it was empty.
fn usable(path: &Path) -> Result<(Connection, usize), Unusable> {
    // SQLite gives its companions the mode of the database.
    durable::open_private(OpenOptions::new().write(true).create(true), path)
        .map_err(|e| Unusable::Unreachable(format!("opening {}: {e}", path.display())))?;
    let mut connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    configure(&mut connection)?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = MIGRATIONS.len();
    let taken = usize::try_from(version).ok().filter(|taken| *taken <= known).ok_or_else(|| {
        Unusable::Damaged(format!(
            "it was made by a newer holdfast (version {version}, this one knows {known})"
        ))
    })?;
    let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if sound != "ok" {
        return Err(Unusable::Damaged(format!("it is damaged: {sound}")));
    }
    migrate(&mut connection, taken).map_err(|e| match e.sqlite_error_code() {
        // Tables that do not fit their version.
        Some(ErrorCode::Unknown) => {
            Unusable::Damaged(format!("it cannot be brought to version {known}: {e}"))
        }
        _ => e.into(),
    })?;
    shape(&connection)?;
    Ok((connection, taken))
}

fn configure(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    // One that reads before it writes would not wait for another writer, but fail at once.
    connection.set_transaction_behavior(rusqlite::TransactionBehavior::Immediate);
    // Answers with the mode that it chose: "memory" in memory.
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "journal_size_limit", 4 << 20)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn migrate(connection: &mut Connection, taken: usize) -> rusqlite::Result<()> {
    for (index, step) in MIGRATIONS.iter().enumerate().skip(taken) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", index as i64 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Whether the tables are there: a sound file of the right version may still be somebody else's.
fn shape(connection: &Connection) -> Result<(), Unusable> {
    for table in TABLES {
        if !connection.table_exists(None, table)? {
            return Err(Unusable::Damaged(format!("its table {table} is missing")));
        }
    }
    // A write that changes nothing: a read-only file shows here and not at the first job.
    connection.execute_batch("BEGIN IMMEDIATE; UPDATE meta SET value = value WHERE 0; COMMIT;")?;
    Ok(())
}

/// A database in memory with what can be read from the disk, as far as it was written back from the WAL.
fn from_disk(path: &Path, why: String) -> Result<(Connection, Opened)> {
    let connection = in_memory()?;
    if path.exists()
        && let Err(e) = copy(path, &connection)
    {
        tracing::warn!("reading {}: {e}", path.display());
        return Ok((in_memory()?, Opened::InMemory(why)));
    }
    Ok((connection, Opened::InMemory(why)))
}

fn copy(path: &Path, connection: &Connection) -> rusqlite::Result<()> {
    // `immutable`: no lock, no -shm, so nothing needs to be written beside it.
    let escaped = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    connection.execute("ATTACH ?1 AS disk", [format!("file:{escaped}?mode=ro&immutable=1")])?;
    let copied = TABLES.iter().try_for_each(|table| {
        connection.execute_batch(&format!("INSERT INTO main.{table} SELECT * FROM disk.{table}"))
    });
    copied.and_then(|()| connection.execute_batch("DETACH disk"))
}

/// Renames the database and what belongs to it; the first name given is where it lies now.
fn set_aside(dir: &Path, now: Timestamp) -> io::Result<PathBuf> {
    let time = now.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
    let name = |n: u32| match n {
        1 => format!("{FILE}.damaged-{time}"),
        n => format!("{FILE}.damaged-{time}-{n}"),
    };
    let free = |name: &String| COMPANIONS.iter().all(|c| !dir.join(format!("{name}{c}")).exists());
    let aside = (1..).map(name).find(free).unwrap_or_else(|| name(0));
    for companion in COMPANIONS {
        match fs::rename(dir.join(format!("{FILE}{companion}")), dir.join(format!("{aside}{companion}"))) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    durable::sync_dir(dir)?;
    Ok(dir.join(aside))
}
