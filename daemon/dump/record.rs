//! What a manifest says of each file of a dump, and whether a file is still that.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How much of a dump's beginning is looked at, in bytes.
pub(super) const HEAD: usize = 64;
/// How much of a text's end is searched for its end marker, in bytes.
pub(super) const TAIL: usize = 4 << 10;

/// One file of a dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The dump's name in its instance.
    pub dump: String,
    /// The engine's word.
    pub source: String,
    /// The server's version.
    #[serde(default)]
    pub version: String,
    /// The client program's version.
    #[serde(default)]
    pub client_version: String,
    /// The database, if it is of one: for sqlite its path in the tree.
    #[serde(default)]
    pub database: Option<String>,
    /// Where it lies in the tree.
    pub file: String,
    /// Its size, in bytes.
    pub size: u64,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
    /// What else the engine needs to make it anew.
    #[serde(default)]
    pub details: serde_json::Value,
    /// The snapshot of its own that it is in; none: it lies in the tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<Stream>,
}

/// Where a dump is that was streamed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// The repository that it was streamed into, by its name then. Each has its own, for a dump that was taken again for
    /// one of them is another one.
    pub repository: String,
    /// The snapshot there.
    pub snapshot: String,
}

impl Record {
    /// Describes a file that was just written at `path` and that nobody writes any more.
    ///
    /// # Errors
    /// The disk's; an empty file.
    pub(super) async fn of(dump: &crate::definition::Dump, path: &Path) -> Result<Self> {
        let (size, sha256) = measure(path).await?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(Self { size, sha256, ..Self::named(dump, &name) })
    }

    /// Describes a file of this name of which nothing is known yet.
    pub(super) fn named(dump: &crate::definition::Dump, name: &str) -> Self {
        Self {
            dump: dump.name.to_string(),
            source: dump.source.word().to_owned(),
            version: String::new(),
            client_version: String::new(),
            database: None,
            file: format!("dumps/{}/{name}", dump.name),
            size: 0,
            sha256: String::new(),
            details: serde_json::Value::Null,
            stream: None,
        }
    }

    /// The name of its file.
    pub fn name(&self) -> &str {
        self.file.rsplit('/').next().unwrap_or_default()
    }

    /// The databases in it.
    pub fn names(&self) -> Vec<String> {
        let several = self.details["databases"].as_array().into_iter().flatten();
        let several = several.filter_map(|name| Some(name.as_str()?.to_owned()));
        self.database.clone().into_iter().chain(several).collect()
    }

    /// Where its file lies; `tree` is where `dumps/` lies.
    pub fn path(&self, tree: &Path) -> PathBuf {
        tree.join(&self.file)
    }
}

/// Describes a file that another program dumped; nothing is known of its server.
///
/// # Errors
/// As `Record::of`.
pub async fn foreign(
    dump: &crate::definition::Dump,
    path: &Path,
    database: Option<String>,
) -> Result<Record> {
    let mut record = Record { database, ..Record::of(dump, path).await? };
    if record.database.is_none() && matches!(&*record.source, "postgresql" | "mariadb" | "mysql") {
        let (at, source) = (path.to_owned(), record.source.clone());
        let names = move || super::names_given(&source, &open(&at)?);
        let names = tokio::task::spawn_blocking(names).await?;
        record.details =
            serde_json::json!({ "databases": names.context("looking for the databases in it")? });
    }
    Ok(record)
}

/// Whether an SQL dump of PostgreSQL or MariaDB is whole: its end marker is there.
///
/// # Errors
/// It is not, or cannot be read.
pub async fn check_sql(path: &Path, mariadb: bool) -> Result<()> {
    match mariadb {
        true => check_ends(path, &["--", "/*"], "-- Dump completed").await,
        false => check_ends(path, &["--"], "dump complete").await,
    }
}

/// Whether a file is an archive of pg_dump, by its first bytes; it is read through before it is restored.
///
/// # Errors
/// It is not, or cannot be read.
pub async fn check_pg_archive(path: &Path) -> Result<()> {
    check_magic(path, b"PGDMP").await
}

/// Whether a file begins with these bytes.
pub(super) async fn check_magic(path: &Path, magic: &'static [u8]) -> Result<()> {
    let at = path.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut head = Vec::new();
        open(&at)?.take(HEAD as u64).read_to_end(&mut head)?;
        check_head(&head, magic).with_context(|| at.display().to_string())
    })
    .await?
}

/// Whether a dump begins with these bytes.
pub(super) fn check_head(head: &[u8], magic: &[u8]) -> Result<()> {
    ensure!(head.starts_with(magic), "it is no archive of pg_dump: it does not begin as one");
    Ok(())
}

/// The size and SHA-256 of a file that is not empty.
pub(super) async fn measure(path: &Path) -> Result<(u64, String)> {
    let read = path.to_owned();
    let (size, sha256) = tokio::task::spawn_blocking(move || digest(&read)).await??;
    ensure!(size > 0, "the dump {} is empty", path.display());
    Ok((size, sha256))
}

/// Compares files with their records: size and SHA-256. `tree` is where `dumps/` lies.
///
/// # Errors
/// A file that is missing or is another one.
pub async fn check(tree: &Path, records: &[Record]) -> Result<()> {
    for record in records {
        check_name(record)?;
        let path = record.path(tree);
        let found = tokio::task::spawn_blocking(move || digest(&path)).await?;
        let (size, sha256) = found.with_context(|| format!("reading {}", record.file))?;
        ensure!(
            size == record.size,
            "{} has {size} bytes, the manifest says {}: it is not the dump that was taken",
            record.file,
            record.size
        );
        ensure!(
            sha256 == record.sha256,
            "{} has another SHA-256 than the manifest says: it was changed since it was taken",
            record.file
        );
    }
    Ok(())
}

/// A manifest comes from outside: its paths lead nowhere but below `dumps/`.
///
/// # Errors
/// They would.
pub fn check_name(record: &Record) -> Result<()> {
    let mut parts = record.file.split('/');
    let whole = parts.next() == Some("dumps")
        && parts.next() == Some(record.dump.as_str())
        && parts.next().is_some_and(|name| !name.is_empty() && name != "." && name != "..")
        && parts.next().is_none();
    ensure!(whole, "the manifest names {:?} as a dump's file, which lies elsewhere", record.file);
    Ok(())
}

/// Opens a file that we or restic wrote; through no link.
pub(super) fn open(path: &Path) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::empty());
    let file = File::from(file.with_context(|| format!("opening {}", path.display()))?);
    ensure!(file.metadata()?.is_file(), "{} is not a file", path.display());
    Ok(file)
}

fn digest(path: &Path) -> Result<(u64, String)> {
    let mut file = open(path)?;
    let (mut hash, mut size) = (Sha256::new(), 0_u64);
    let mut buffer = vec![0; 256 << 10];
    loop {
        let n = file.read(&mut buffer).with_context(|| format!("reading {}", path.display()))?;
        if n == 0 {
            return Ok((size, hex(&hash.finalize())));
        }
        hash.update(&buffer[..n]);
        size += n as u64;
    }
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a text begins with one of these and has its end marker near its end.
pub(super) async fn check_ends(
    path: &Path,
    begins: &'static [&'static str],
    end: &'static str,
) -> Result<()> {
    let at = path.to_owned();
    tokio::task::spawn_blocking(move || ends(&at, begins, end)).await?
}

fn ends(path: &Path, begins: &[&str], end: &str) -> Result<()> {
    let mut file = open(path)?;
    let size = file.metadata()?.len();
    let mut head = vec![0; HEAD.min(usize::try_from(size).unwrap_or(HEAD))];
    file.read_exact(&mut head)?;
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL as u64)))?;
    let mut tail = Vec::new();
    file.take(TAIL as u64).read_to_end(&mut tail)?;
    check_text(&head, &tail, begins, end).with_context(|| path.display().to_string())
}

/// Whether a text's first and last bytes are those of a whole dump.
pub(super) fn check_text(head: &[u8], tail: &[u8], begins: &[&str], end: &str) -> Result<()> {
    let begun = begins.iter().any(|text| head.starts_with(text.as_bytes()));
    ensure!(begun, "it does not begin as a dump does");
    let whole = tail.windows(end.len()).any(|window| window == end.as_bytes());
    ensure!(whole, "it has no end marker {end:?}: the dump was cut off");
    Ok(())
}

/// A file's name for a database's name, which may be anything: other bytes than letters, digits, `_` and `-` are `%` and
/// two hex digits.
pub(super) fn file_name(database: &str, ending: &str) -> String {
    let mut name = String::new();
    for byte in database.bytes() {
        match byte {
            b if b.is_ascii_alphanumeric() || b == b'_' || b == b'-' => name.push(char::from(b)),
            b => name.push_str(&format!("%{b:02x}")),
        }
    }
    format!("{name}.{ending}")
}
