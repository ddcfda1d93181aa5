//! SQLite: the file is copied page by page by SQLite itself, while others read and write it.
//!
//! A copy made by anything else may be torn: what was committed last stands in `-wal` or has to be taken back by
//! `-journal`. For the same reason a restore sets those aside together with the old file.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::laid::{Laid, Owner};
use super::record::{self, Record, file_name};
use super::site::{Site, words};
use super::yard::Yard;
use super::{Ready, Taken};
use super::{far, run};

/// How long somebody else may hold the file locked.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a locked file is tried again.
const STEP: Duration = Duration::from_millis(50);
/// What SQLite puts beside a file.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Where a file of a definition lies in the tree.
fn tree_path(text: &str) -> PathBuf {
    match text.strip_prefix('/') {
        Some(absolute) => Path::new("files").join(absolute.trim_start_matches('/')),
        None => text.into(),
    }
}

/// The file itself, not where a link leads.
fn find(site: &Site, text: &str) -> Result<PathBuf> {
    let live = site.place.live_path(&tree_path(text))?;
    let meta = std::fs::symlink_metadata(&live).with_context(|| format!("looking at {}", live.display()))?;
    ensure!(meta.is_file(), "{} is not a file; name the database's own place", live.display());
    Ok(live)
}

fn connect(live: &Path) -> Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    // Links in the way to it are the administrator's where the definition names it by an absolute path.
    let real = live.parent().map(std::fs::canonicalize).transpose()?.unwrap_or_default();
    let path = real.join(live.file_name().unwrap_or_default());
    let connection =
        Connection::open_with_flags(&path, flags).with_context(|| format!("opening {}", live.display()))?;
    connection.busy_timeout(PATIENCE)?;
    Ok(connection)
}

pub(super) async fn ready(site: &Site, files: &[String]) -> Result<Ready> {
    if site.dump.remote.is_some() {
        return there(site, files).await;
    }
    for text in files {
        find(site, text)?;
    }
    Ok(Ready { server: rusqlite::version().to_owned(), client: rusqlite::version().to_owned() })
}

/// Likewise on another machine, where `sqlite3` reads them.
async fn there(site: &Site, files: &[String]) -> Result<Ready> {
    let said = run::ask(site.question(["sqlite3", "--version"], &[]), &site.cancel).await;
    let said = said.context("`sqlite3` is needed there (Debian: sqlite3)")?;
    for text in files {
        far::owner(site, Path::new(text)).await?;
    }
    let version = said.split_whitespace().next().unwrap_or_default().to_owned();
    Ok(Ready { server: version.clone(), client: version })
}

async fn from_there(site: &Site, files: &[String], dir: &Path) -> Result<Taken> {
    let version = there(site, files).await?.server;
    let mut records = Vec::new();
    for text in files {
        let (live, tree) = (Path::new(text), tree_path(text).to_string_lossy().into_owned());
        let to = dir.join(file_name(&tree, "sqlite"));
        run::into_file(far::sqlite(site, live), &to, &site.cancel).await?;
        let copy = to.clone();
        tokio::task::spawn_blocking(move || check_integrity(&copy)).await??;
        let details = serde_json::to_value(far::owner(site, live).await?)?;
        let record = Record { database: Some(tree), details, ..Record::of(&site.dump, &to).await? };
        records.push(Record { version: version.clone(), client_version: version.clone(), ..record });
    }
    Ok(Taken { records, warnings: Vec::new() })
}

pub(super) async fn dump(site: &Site, files: &[String], dir: &Path) -> Result<Taken> {
    if site.dump.remote.is_some() {
        return from_there(site, files, dir).await;
    }
    let mut records = Vec::new();
    for text in files {
        let live = find(site, text)?;
        let tree = tree_path(text).to_string_lossy().into_owned();
        let to = dir.join(file_name(&tree, "sqlite"));
        let (from, copy) = (live.clone(), to.clone());
        let meta = std::fs::metadata(&live)?;
        let copied = tokio::task::spawn_blocking(move || {
            self::copy(&from, &copy)?;
            check_integrity(&copy)
        });
        copied.await?.with_context(|| format!("dumping {}", live.display()))?;
        let owner = Owner::told_by(&meta);
        let record = Record::of(&site.dump, &to).await?;
        let (version, details) = (rusqlite::version().to_owned(), serde_json::to_value(owner)?);
        records.push(Record {
            client_version: version.clone(),
            version,
            database: Some(tree),
            details,
            ..record
        });
    }
    Ok(Taken { records, warnings: Vec::new() })
}

/// All pages in one step, so that nobody writes in between.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let source = connect(from)?;
    let mut target = Connection::open(to).with_context(|| format!("creating {}", to.display()))?;
    let backup = Backup::new(&source, &mut target)?;
    let end = Instant::now() + PATIENCE;
    loop {
        match backup.step(-1)? {
            StepResult::Done => break,
            _ if Instant::now() > end => bail!("somebody kept it locked for {PATIENCE:?}"),
            _ => std::thread::sleep(STEP),
        }
    }
    drop(backup);
    target.close().map_err(|(_, failure)| failure)?;
    Ok(())
}

/// As nobody writes it any more, no locks and no files beside it are needed.
fn check_integrity(path: &Path) -> Result<()> {
    let checking = || format!("checking {}", path.display());
    let uri = format!("file:{}?immutable=1", escaped(path));
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(uri, flags).with_context(checking)?;
    let answer: String =
        connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).with_context(checking)?;
    ensure!(answer == "ok", "{} is damaged: {answer}", path.display());
    Ok(())
}

/// A path as a part of a URI.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}

pub(super) async fn verify(tree: &Path, records: &[Record]) -> Result<()> {
    for record in records {
        let path = record.path(tree);
        drop(record::open(&path)?);
        tokio::task::spawn_blocking(move || check_integrity(&path)).await??;
    }
    Ok(())
}

/// Brings saved files to another machine and has them read to their end there. Nothing live is touched.
pub(super) async fn lay_there(tree: &Path, records: &[Record], yard: &Yard<'_>) -> Result<Vec<Laid>> {
    let mut all = Vec::new();
    for (number, record) in records.iter().enumerate() {
        let path = record.database.as_deref().context("the manifest does not say which file it was")?;
        let below = Path::new(path).strip_prefix("files");
        let live = below.with_context(|| format!("{path} is no path of another machine"))?;
        let live = Path::new("/").join(live);
        let made = yard.put(&record.path(tree), &format!("{number}.db")).await?;
        let mut argv = words(["sqlite3", "-readonly", "-bail"]);
        argv.extend([format!("file:{}?immutable=1", made.display()).into(), "pragma integrity_check".into()]);
        let said = yard.ask(argv, &[]).await.with_context(|| format!("checking {} there", record.file))?;
        ensure!(said.trim() == "ok", "{} came damaged: {}", record.file, said.trim());
        let owner = serde_json::from_value(record.details.clone());
        let owner = owner.with_context(|| format!("the manifest does not say whose file {path} was"))?;
        let owner = yard.give(&made, &live, &owner).await?;
        all.push(Laid { live, made, rests: Vec::new(), within: false, owner });
    }
    Ok(all)
}

/// Gives a saved file the owner and mode of the one that lives, else those that it had.
///
/// # Errors
/// The disk's; a record that does not say whose file it was.
pub fn lay(record: &Record, file: &Path, live: &Path) -> Result<()> {
    let saved: Owner = serde_json::from_value(record.details.clone())
        .with_context(|| format!("the manifest does not say whose file {} was", record.file))?;
    let owner = match std::fs::symlink_metadata(live) {
        Ok(meta) if meta.is_file() => Owner::told_by(&meta),
        _ => saved,
    };
    owner.put_on(file)
}

/// What SQLite may have put beside a file, by path.
pub fn companions(path: &Path) -> impl Iterator<Item = PathBuf> {
    BESIDE.into_iter().map(move |ending| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        name.into()
    })
}
