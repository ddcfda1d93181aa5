//! Plain SQL of `pg_dump` and `pg_dumpall`, made here, edited or made elsewhere: taken apart into its databases.
//!
//! psql would read all of it in one go, into the databases that it names itself, and go on after errors. Here each
//! database's statements go into a file of its own, which is loaded into a new database; what makes the database itself and
//! what makes roles is kept apart. psql's own commands are understood or refused, never passed on.

mod scan;
mod section;

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{GLOBALS, MAGIC};
use crate::dump::record::{self, Record, file_name};
use crate::dump::{MADE, Site, run};
use section::Sections;

/// How a whole text ends.
const END: &str = "dump complete";

/// Whether a file is SQL and no archive.
fn is_sql(path: &Path) -> Result<bool> {
    use std::io::Read;
    let mut head = Vec::new();
    record::open(path)?.take(MAGIC.len() as u64).read_to_end(&mut head)?;
    Ok(head != MAGIC)
}

/// The databases that a text of `pg_dumpall` names; none in one of `pg_dump`, or in an archive.
pub(in crate::dump) fn names_in(mut file: &File) -> Result<Vec<String>> {
    use std::io::{Read, Seek};
    let mut head = Vec::new();
    file.take(MAGIC.len() as u64).read_to_end(&mut head)?;
    if head == MAGIC {
        return Ok(Vec::new());
    }
    file.rewind()?;
    let mut sections = Sections::new(|_, _: &[u8]| Ok(()));
    scan::scan(BufReader::with_capacity(1 << 20, file), &mut sections)?;
    let sections = sections.end();
    Ok(sections.named().map(|section| section.name.clone().unwrap_or_default()).collect())
}

/// Reads it to its end; each database's own statements are handed over with the number of the database's section.
fn read(path: &Path, keep: impl FnMut(usize, &[u8]) -> Result<()>) -> Result<Sections> {
    let mut sections = Sections::new(keep);
    scan::scan(BufReader::with_capacity(1 << 20, record::open(path)?), &mut sections)
        .with_context(|| format!("reading {}", path.display()))?;
    Ok(sections.end())
}

/// Replaces each text among the files by one for each database that is wanted, and one for its roles.
pub(in crate::dump) async fn prepare(
    site: &Site,
    tree: &Path,
    records: Vec<Record>,
    wanted: &[String],
) -> Result<Vec<Record>> {
    let mut all = Vec::new();
    for record in records {
        let roles = record.database.is_none() && record.details.is_null();
        if roles || !is_sql(&record.path(tree))? {
            all.push(record);
            continue;
        }
        record::check_ends(&record.path(tree), &["--"], END).await?;
        let dir = tree.join(MADE).join(site.name());
        run::private_dir(&dir).await?;
        let (from, tree, wanted) = (record.clone(), tree.to_owned(), wanted.to_vec());
        let named = site.dump.source.server().map(|server| server.databases.clone()).unwrap_or_default();
        let taken = tokio::task::spawn_blocking(move || take_apart(&from, &tree, &wanted, &named)).await?;
        all.extend(taken.with_context(|| record.file.clone())?);
    }
    Ok(all)
}

fn take_apart(from: &Record, tree: &Path, wanted: &[String], named: &[String]) -> Result<Vec<Record>> {
    let dir = Path::new(MADE).join(&from.dump);
    let part = |number: usize| dir.join(format!("part-{number}.sql"));
    let mut files: Vec<BufWriter<File>> = Vec::new();
    let sections = read(&from.path(tree), |number, text| {
        while files.len() <= number {
            let path = tree.join(part(files.len()));
            let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
            files.push(BufWriter::new(file));
        }
        Ok(files[number].write_all(text)?)
    })?;
    for file in &mut files {
        file.flush()?;
    }
    drop(files);
    let mut all = Vec::new();
    for (number, name) in sections.choose(from, wanted, named)? {
        let file = dir.join(file_name(&name, "sql"));
        let path = tree.join(part(number));
        if !path.exists() {
            File::create(&path)?;
        }
        std::fs::rename(&path, tree.join(&file))?;
        let details = sections.details(number, from)?;
        let file = file.display().to_string();
        // Under its own name, or under that which the restore gives it.
        let database = Some(from.database.clone().unwrap_or(name));
        all.push(Record { database, file, details, version: String::new(), ..from.clone() });
    }
    if !sections.roles.is_empty() {
        let file = dir.join(GLOBALS);
        std::fs::write(tree.join(&file), &sections.roles)?;
        let file = file.display().to_string();
        let details = serde_json::Value::Null;
        all.push(Record { database: None, file, details, version: String::new(), ..from.clone() });
    }
    ensure!(!all.is_empty(), "it holds nothing that is wanted");
    Ok(all)
}

/// Whether a file was made by [`prepare`].
pub(in crate::dump) fn made(record: &Record) -> bool {
    Path::new(&record.file).starts_with(MADE)
}
