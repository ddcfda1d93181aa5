//! Texts that were made elsewhere, hold several databases, or are to live under another name: one text for each database.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::scan::{Statement, scan};
use super::{BEGIN, Details, END, OWN, databases};
use crate::dump::record::{self, Record, file_name};
use crate::dump::{MADE, Site, run};

/// A database in a text: where what belongs to it stands.
#[derive(Debug, Default)]
struct Section {
    /// As the text calls it; none: it does not say.
    name: Option<String>,
    details: Option<Details>,
    ranges: Vec<(u64, u64)>,
    tables: usize,
    makes: bool,
    /// Statements that speak of something by a name in front of a point: that name, and how the statement begins.
    speaks: Vec<(String, String)>,
}

/// The databases that a text names.
pub(in crate::dump) fn names_in(file: &File) -> Result<Vec<String>> {
    Ok(sections(BufReader::with_capacity(1 << 20, file))?
        .into_iter()
        .filter_map(|section| section.name)
        .filter(|name| !own(name))
        .collect())
}

fn own(name: &str) -> bool {
    OWN.contains(&name.to_ascii_lowercase().as_str())
}

fn read(path: &Path) -> Result<Vec<Section>> {
    let from = BufReader::with_capacity(1 << 20, record::open(path)?);
    sections(from).with_context(|| format!("reading {}", path.display()))
}

/// The first section is what stands before any database is named.
fn sections(from: impl BufRead) -> Result<Vec<Section>> {
    let mut sections = vec![Section::default()];
    let mut current = 0;
    scan(from, |statement| {
        let words = statement.head.to_ascii_uppercase();
        let words: Vec<&str> = words.split_whitespace().collect();
        match words[..] {
            ["USE", ..] => current = section(&mut sections, last_name(&statement.head)?),
            ["CREATE", "DATABASE" | "SCHEMA", ..] => {
                let number = section(&mut sections, first_name(&statement.head)?);
                sections[number].details = details(&words);
            }
            ["DROP", "DATABASE" | "SCHEMA", ..] => {}
            _ => sections[current].take(statement, &words),
        }
        Ok(())
    })?;
    Ok(sections)
}

fn section(sections: &mut Vec<Section>, name: String) -> usize {
    let known = sections.iter().position(|section| section.name.as_ref() == Some(&name));
    known.unwrap_or_else(|| {
        sections.push(Section { name: Some(name), ..Section::default() });
        sections.len() - 1
    })
}

impl Section {
    fn take(&mut self, statement: Statement, words: &[&str]) {
        let creates = words.first() == Some(&"CREATE");
        self.makes |= creates;
        self.tables += usize::from(creates && words.get(1) == Some(&"TABLE"));
        let head: String = statement.head.chars().take(60).collect();
        self.speaks.extend(statement.qualifiers.into_iter().map(|name| (name, head.clone())));
        match self.ranges.last_mut() {
            Some((_, end)) if *end == statement.start => *end = statement.end,
            _ => self.ranges.push((statement.start, statement.end)),
        }
    }
}

/// The name in backquotes, or the last word.
fn last_name(head: &str) -> Result<String> {
    first_name(head).or_else(|_| {
        let word = head.split_whitespace().next_back().map(|word| word.trim_end_matches(';'));
        word.map(str::to_owned).context("a statement names no database")
    })
}

/// The first name in backquotes.
fn first_name(head: &str) -> Result<String> {
    let (_, rest) =
        head.split_once('`').with_context(|| format!("{head:?} names no database in backquotes"))?;
    let mut name = String::new();
    let mut chars = rest.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '`' if chars.peek() == Some(&'`') => {
                name.push('`');
                chars.next();
            }
            '`' => return Ok(name),
            c => name.push(c),
        }
    }
    bail!("{head:?} names no database")
}

/// `… DEFAULT CHARACTER SET latin1 COLLATE latin1_swedish_ci …`
fn details(words: &[&str]) -> Option<Details> {
    let after = |key: &[&str]| {
        let at = words.windows(key.len()).position(|window| window == key)?;
        Some(words.get(at + key.len())?.trim_matches(';').to_ascii_lowercase())
    };
    let charset = after(&["CHARACTER", "SET"])?;
    Some(Details { collation: after(&["COLLATE"]).unwrap_or_default(), charset })
}

/// Replaces texts that were made elsewhere by one for each database that is wanted; makes sure that one which is to live
/// under another name speaks of no other. `lives` are the names in the dump with those that they are to have.
pub(in crate::dump) async fn prepare(
    site: &Site,
    tree: &Path,
    records: Vec<Record>,
    wanted: &[String],
    lives: &[(String, String)],
) -> Result<Vec<Record>> {
    let there = databases(site).await?;
    let named = site.dump.source.server().map(|server| server.databases.clone()).unwrap_or_default();
    let mut all = Vec::new();
    for record in records {
        let accounts = record.database.is_none() && record.details.is_null();
        let renamed = lives.iter().find(|(_, new)| Some(new) == record.database.as_ref());
        if accounts || (renamed.is_none() && !record.version.is_empty()) {
            all.push(record);
            continue;
        }
        record::check_ends(&record.path(tree), BEGIN, END).await?;
        let dir = tree.join(MADE).join(site.name());
        run::private_dir(&dir).await?;
        let (from, tree) = (record.clone(), tree.to_owned());
        let asked = if wanted.is_empty() { named.clone() } else { wanted.to_vec() };
        let lives = lives.to_vec();
        let taken = tokio::task::spawn_blocking(move || take_apart(&from, &tree, &asked, &lives)).await?;
        for mut taken in taken.with_context(|| record.file.clone())? {
            if taken.details["charset"].is_null()
                && let Some((_, living)) =
                    there.iter().find(|(name, _)| Some(name) == taken.database.as_ref())
            {
                (taken.details["charset"], taken.details["collation"]) =
                    (living.charset.clone().into(), living.collation.clone().into());
            }
            all.push(taken);
        }
    }
    Ok(all)
}

fn take_apart(
    from: &Record,
    tree: &Path,
    asked: &[String],
    lives: &[(String, String)],
) -> Result<Vec<Record>> {
    let path = from.path(tree);
    let sections = read(&path)?;
    let mut all = Vec::new();
    for (number, saved) in choose(&sections, from, asked)? {
        let section = &sections[number];
        own_only(section, lives)?;
        let file = Path::new(MADE).join(&from.dump).join(file_name(&saved, "sql"));
        let preamble = if number == 0 { &[][..] } else { &sections[0].ranges[..] };
        copy(&path, preamble.iter().chain(&section.ranges), &tree.join(&file))?;
        let mut details = match &section.details {
            Some(details) => serde_json::to_value(details)?,
            None if from.details["charset"].is_string() => from.details.clone(),
            None => serde_json::json!({}),
        };
        details["tables"] = section.tables.into();
        let database = Some(from.database.clone().unwrap_or(saved));
        let file = file.display().to_string();
        all.push(Record { database, file, details, ..from.clone() });
    }
    ensure!(!all.is_empty(), "it holds nothing that is wanted");
    Ok(all)
}

/// Which sections are wanted, with their databases' names.
fn choose(sections: &[Section], from: &Record, asked: &[String]) -> Result<Vec<(usize, String)>> {
    let number = |name: &str| sections.iter().position(|section| section.name.as_deref() == Some(name));
    let there: Vec<&str> =
        sections.iter().filter_map(|section| section.name.as_deref()).filter(|name| !own(name)).collect();
    let lacks = |name: &str| format!("it holds no database {name:?}; there are {}", there.join(", "));
    match (&from.database, there.is_empty()) {
        (Some(name), true) => Ok(vec![(0, name.clone())]),
        (None, true) => {
            let [name] = asked else {
                bail!("it does not say of which database it is; say it as DUMP/DATABASE")
            };
            Ok(vec![(0, name.clone())])
        }
        (Some(name), false) => {
            let only = if there.len() == 1 { number(there[0]) } else { None };
            let found = number(name).or(only).with_context(|| lacks(name))?;
            Ok(vec![(found, name.clone())])
        }
        (None, false) if asked.is_empty() => {
            Ok(there.iter().filter_map(|name| Some((number(name)?, (*name).to_owned()))).collect())
        }
        (None, false) => {
            let one = |name: &String| Ok((number(name).with_context(|| lacks(name))?, name.clone()));
            asked.iter().map(one).collect()
        }
    }
}

/// A trigger or a routine may call its database by its name (measured: `CREATE TRIGGER wiki.t ON wiki.page` is kept as it
/// was written). Under another name it would change the one that lives.
fn own_only(section: &Section, lives: &[(String, String)]) -> Result<()> {
    let renamed = |name: &str| lives.iter().find(|(old, new)| old != new && name.eq_ignore_ascii_case(old));
    let speaks = section.speaks.iter().find_map(|(name, head)| Some((renamed(name)?, head)));
    if let Some(((old, new), head)) = speaks {
        bail!(
            "it cannot be loaded beside the database that lives, as {new:?}: a statement in it speaks of {old:?} by that name ({head} …), and would change \
             the database that lives; take the name out of the dump, then load that with --dump"
        );
    }
    Ok(())
}

fn copy<'r>(from: &Path, ranges: impl Iterator<Item = &'r (u64, u64)>, to: &Path) -> Result<()> {
    let mut from = record::open(from)?;
    let file = File::create(to).with_context(|| format!("creating {}", to.display()))?;
    let mut file = BufWriter::new(file);
    for (number, (start, end)) in ranges.enumerate() {
        // What stood between may have left another one.
        if number > 0 {
            file.write_all(b"DELIMITER ;\n")?;
        }
        from.seek(SeekFrom::Start(*start))?;
        let copied = std::io::copy(&mut (&mut from).take(end - start), &mut file)?;
        ensure!(copied == end - start, "the text became shorter while it was read");
        file.write_all(b"\n")?;
    }
    Ok(file.flush()?)
}

/// Whether a file was made by [`prepare`].
pub(super) fn made(record: &Record) -> bool {
    Path::new(&record.file).starts_with(MADE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "-- MariaDB dump\n/*!40101 SET NAMES utf8mb4 */;\n\n\
        CREATE DATABASE /*!32312 IF NOT EXISTS*/ `shop` /*!40100 DEFAULT CHARACTER SET latin1 COLLATE latin1_swedish_ci */;\n\n\
        USE `shop`;\nCREATE TABLE `t` (a int);\nINSERT INTO `t` VALUES ('wiki.x;\\nUSE `wiki`;');\n\
        CREATE DATABASE `wiki` /*!40100 DEFAULT CHARACTER SET utf8mb4 */;\nUSE `wiki`;\n\
        DELIMITER ;;\n/*!50003 CREATE*/ /*!50003 TRIGGER wiki.t BEFORE INSERT ON wiki.page FOR EACH ROW SET @x = 1 */;;\nDELIMITER ;\n\
        -- Dump completed\n";

    #[test]
    fn a_text_of_several_databases_is_taken_apart_and_one_that_names_itself_is_not_renamed() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path();
        std::fs::create_dir_all(tree.join(MADE).join("m")).unwrap();
        std::fs::create_dir_all(tree.join("dumps/m")).unwrap();
        std::fs::write(tree.join("dumps/m/all.sql"), TEXT).unwrap();
        let record: Record = serde_json::from_value(serde_json::json!({
            "dump": "m", "source": "mariadb", "file": "dumps/m/all.sql", "size": 1, "sha256": "",
        }))
        .unwrap();
        assert_eq!(names_in(&File::open(tree.join("dumps/m/all.sql")).unwrap()).unwrap(), ["shop", "wiki"]);
        let all = take_apart(&record, tree, &[], &[]).unwrap();
        assert_eq!(
            all.iter().filter_map(|one| one.database.as_deref()).collect::<Vec<_>>(),
            ["shop", "wiki"]
        );
        assert_eq!(
            all[0].details,
            serde_json::json!({"charset": "latin1", "collation": "latin1_swedish_ci", "tables": 1})
        );
        let shop = std::fs::read_to_string(all[0].path(tree)).unwrap();
        assert!(
            shop.contains("SET NAMES") && shop.contains("CREATE TABLE") && !shop.contains("TRIGGER"),
            "{shop}"
        );
        assert!(!shop.contains("CREATE DATABASE"), "{shop}");
        let to = |old: &str| [(old.to_owned(), "other".to_owned())];
        assert!(take_apart(&record, tree, &["shop".into()], &to("shop")).is_ok());
        let refused = format!("{:#}", take_apart(&record, tree, &["wiki".into()], &to("wiki")).unwrap_err());
        assert!(refused.contains("speaks of \"wiki\""), "{refused}");
        assert!(take_apart(&record, tree, &["x".into()], &[]).is_err());
    }
}
