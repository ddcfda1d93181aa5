//! Single databases of a set: what they need of it, and under which name they are to live.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};

use super::dumps;
use crate::definition::{Instance, Source};
use crate::dump::{Record, Site};
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

    fn renamed(&self) -> bool {
        self.saved != self.lives
    }

    fn is(&self, record: &Record) -> bool {
        record.source != "sqlite" && record.database.as_deref() == Some(&self.saved)
    }
}

/// The paths of the tree that these databases need: their dumps, and the roles saved with them.
///
/// # Errors
/// The set holds no such database, or two; or its engine cannot load one under another name.
pub fn paths(manifest: &Manifest, instance: &Instance, wanted: &[Database]) -> Result<Vec<PathBuf>> {
    let records = dumps::records(manifest)?;
    let mut paths = Vec::new();
    for database in wanted {
        let found: Vec<&Record> = records.iter().filter(|record| database.is(record)).collect();
        let [record] = found[..] else {
            let dumps: Vec<&str> = found.iter().map(|record| &*record.file).collect();
            ensure!(
                dumps.is_empty(),
                "{:?} is in several dumps, {}: name one of them with include",
                database.saved,
                dumps.join(" and ")
            );
            let there = records.iter().filter(|record| record.source != "sqlite");
            let there: Vec<&str> = there.filter_map(|record| record.database.as_deref()).collect();
            bail!("the set holds no database {:?}; there are {}", database.saved, there.join(", "));
        };
        let defined = instance.dumps.iter().find(|dump| *dump.name == *record.dump);
        let renames =
            defined.is_some_and(|dump| matches!(dump.source, Source::Postgresql(_) | Source::Mongodb(_)));
        ensure!(
            renames || !database.renamed(),
            "{} is of {}, which cannot be loaded under another name beside the database that lives: what it calls by \
             its own name (triggers, routines) would change that one; restore it into another server",
            record.file,
            record.source
        );
        paths.push(PathBuf::from(&record.file));
        let with_it = |other: &&Record| other.dump == record.dump && other.database.is_none();
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

/// A database under another name is made, never put in the place of one that is there.
pub(super) async fn check_new(site: &Site, wanted: &[Database], records: &[Record]) -> Result<()> {
    let new = wanted.iter().filter(|database| database.renamed());
    let here = |name: &str| records.iter().any(|record| record.database.as_deref() == Some(name));
    for database in new.filter(|database| here(&database.lives)) {
        ensure!(
            !site.has_database(&database.lives).await?,
            "there is a database {:?} on the server already; name another one, or remove it first",
            database.lives
        );
    }
    Ok(())
}
