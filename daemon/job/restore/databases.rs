//! Single databases of a set: what they need of it, and under which name they are to live.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};

use super::{Request, dumps};
use crate::definition::{Instance, Source};
use crate::dump::{Change, Record, Site};
use crate::target::Manifest;

/// A saved database, and the name that it is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Its name in the dump.
    pub saved: String,
    /// Its name on the server; the same one is replaced, another one is made.
    pub lives: String,
}

impl Database {
    /// `NAME`, or `NEW=OLD`: the saved database OLD under the name NEW.
    ///
    /// # Errors
    /// One of the names is empty.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (lives, saved) = text.split_once('=').unwrap_or((text, text));
        match lives.is_empty() || saved.is_empty() || text.contains('\0') {
            true => Err(format!("database {text:?} is neither NAME nor NEW=OLD")),
            false => Ok(Self { saved: saved.to_owned(), lives: lives.to_owned() }),
        }
    }

    pub(super) fn renamed(&self) -> bool {
        self.saved != self.lives
    }

    fn in_it(&self, record: &Record) -> bool {
        record.source != "sqlite" && record.names().contains(&self.saved)
    }

    fn is(&self, record: &Record) -> bool {
        record.source != "sqlite" && record.database.as_deref() == Some(&self.saved)
    }
}

/// A dump of a set, and the databases in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Its name in the instance.
    pub dump: String,
    /// The engine's word.
    pub source: String,
    /// The databases in it, by their names.
    pub databases: Vec<String>,
}

/// The dumps of a set.
///
/// # Errors
/// The manifest's list of dumps makes no sense.
pub fn saved(manifest: &Manifest) -> Result<Vec<Saved>> {
    let mut all: Vec<Saved> = Vec::new();
    for record in dumps::records(manifest)? {
        let databases = record.names();
        match all.iter_mut().find(|saved| saved.dump == record.dump) {
            Some(known) => known.databases.extend(databases),
            None => all.push(Saved { dump: record.dump, source: record.source, databases }),
        }
    }
    Ok(all)
}

/// The paths of the tree that these databases need: their dumps, and the roles saved with them.
///
/// # Errors
/// The set holds no such database, or two; or its engine cannot load one under another name.
pub fn paths(manifest: &Manifest, instance: &Instance, wanted: &[Database]) -> Result<Vec<PathBuf>> {
    let records = dumps::records(manifest)?;
    let mut paths = Vec::new();
    for database in wanted {
        let found: Vec<&Record> = records.iter().filter(|record| database.in_it(record)).collect();
        let [record] = found[..] else {
            let dumps: Vec<&str> = found.iter().map(|record| &*record.file).collect();
            ensure!(
                dumps.is_empty(),
                "{:?} is in several dumps, {}: name one of them with include",
                database.saved,
                dumps.join(" and ")
            );
            let there = records.iter().filter(|record| record.source != "sqlite");
            let there: Vec<String> = there.flat_map(Record::names).collect();
            bail!("the set holds no database {:?}; there are {}", database.saved, there.join(", "));
        };
        let defined = instance.dumps.iter().find(|dump| *dump.name == *record.dump);
        // MariaDB's are judged when they are there: by what they call by their own name.
        let renames = defined.is_some_and(|dump| {
            matches!(
                dump.source,
                Source::Postgresql(_) | Source::Mongodb(_) | Source::Mariadb(_) | Source::Mysql(_)
            )
        });
        ensure!(
            renames || !database.renamed(),
            "{} is of {}, which cannot be loaded under another name beside what lives; restore it into another server",
            record.file,
            record.source
        );
        paths.push(PathBuf::from(&record.file));
        let with_it = |other: &&Record| other.dump == record.dump && other.names().is_empty();
        paths.extend(records.iter().filter(with_it).map(|other| PathBuf::from(&other.file)));
    }
    paths.sort();
    paths.dedup();
    Ok(paths)
}

/// Gives records the names that their databases are to have.
pub(super) fn rename(records: &mut [Record], wanted: &[Database]) {
    for record in records {
        if let Some(database) = wanted.iter().find(|database| database.is(record)) {
            record.database = Some(database.lives.clone());
        }
    }
}

/// Why databases that are to be made are not: what is there already is never taken over.
pub(super) async fn in_the_way(site: &Site, request: &Request, records: &[Record]) -> Result<Vec<String>> {
    let mut there = Vec::new();
    for name in records.iter().filter_map(|record| record.database.as_deref()) {
        if makes(request, name) && site.has_database(name).await? {
            there.push(format!("{name:?}"));
        }
    }
    if there.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![format!(
        "dump {}: there is a database {} on the server already, and nothing that lives is taken over; say under which \
         other name it is to live with database, as NEW={}, or remove it first",
        site.name(),
        there.join(", "),
        there[0].trim_matches('"')
    )])
}

/// Whether a database of this name is to be made, not replaced.
fn makes(request: &Request, name: &str) -> bool {
    let second = request.founding.as_ref().is_some_and(|founding| founding.second);
    second || request.databases.iter().any(|database| database.renamed() && database.lives == name)
}

/// What appeared meanwhile under a name that is to be made is not replaced either.
pub(super) fn check_made(request: &Request, change: &Change) -> Result<()> {
    let lives: Vec<&str> = match change {
        Change::Swapped { pairs } => {
            pairs.iter().filter(|pair| pair.old.is_some()).map(|pair| pair.live.as_str()).collect()
        }
        Change::Reload { databases, .. } => databases.here.iter().map(String::as_str).collect(),
        Change::DropDatabase { .. } | Change::DropRoles { .. } | Change::Leftovers => Vec::new(),
    };
    let taken = lives.into_iter().find(|name| makes(request, name));
    ensure!(taken.is_none(), "the database {taken:?} appeared meanwhile; it was left as it is");
    Ok(())
}
