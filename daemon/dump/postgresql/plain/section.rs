//! The databases of an SQL text: what each holds, and how it is made.

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use super::scan::Taker;
use crate::dump::Record;
use crate::dump::postgresql::Database;
use crate::dump::postgresql::sql::name;

/// One database of the text, or the text of one.
#[derive(Debug, Default)]
pub(super) struct Section {
    /// As the text calls it; none: it does not say.
    pub(super) name: Option<String>,
    /// How many tables it makes.
    tables: usize,
    /// Whether it makes anything.
    makes: bool,
    /// What is said about the database itself.
    about: About,
}

#[derive(Debug, Default)]
struct About {
    /// The options of its making.
    create: Option<String>,
    owner: Option<String>,
    after: Vec<(String, String)>,
}

/// Statements, told apart by the database that they are for.
pub(super) struct Sorter<K> {
    keep: K,
    sections: Vec<Section>,
    /// The section that statements are for.
    current: usize,
    roles: Vec<u8>,
}

/// The databases of a text, read to its end.
#[derive(Debug)]
pub(super) struct Sections {
    sections: Vec<Section>,
    /// Statements about roles.
    pub(super) roles: Vec<u8>,
}

impl Sections {
    /// The first section is of what stands before any database is named.
    #[expect(clippy::new_ret_no_self, reason = "what it sorts becomes these")]
    pub(super) fn new<K: FnMut(usize, &[u8]) -> Result<()>>(keep: K) -> Sorter<K> {
        Sorter { keep, sections: vec![Section::default()], current: 0, roles: Vec::new() }
    }

    /// Those that the text names; a template is nobody's database.
    pub(super) fn named(&self) -> impl Iterator<Item = &Section> {
        let template =
            |section: &&Section| section.name.as_deref().is_some_and(|name| name.starts_with("template"));
        self.sections
            .iter()
            .filter(|section| section.name.is_some())
            .filter(move |section| !template(section))
    }

    /// Which sections are wanted, with their databases' names. `wanted` are databases that were asked for, `named` those
    /// of the definition.
    pub(super) fn choose(
        &self,
        from: &Record,
        wanted: &[String],
        named: &[String],
    ) -> Result<Vec<(usize, String)>> {
        let number =
            |name: &str| self.sections.iter().position(|section| section.name.as_deref() == Some(name));
        let there: Vec<&str> = self.named().filter_map(|section| section.name.as_deref()).collect();
        if there.is_empty() {
            let one = if named.len() == 1 { named.first() } else { None };
            let Some(name) = from.database.as_ref().or(wanted.first()).or(one) else {
                bail!("it does not say of which database it is; say it as DUMP/DATABASE");
            };
            return Ok(vec![(0, name.clone())]);
        }
        if let Some(name) = &from.database {
            // One that stands for a single database: the one of that name, or the only one that it holds.
            let found = number(name).or_else(|| if there.len() == 1 { number(there[0]) } else { None });
            let Some(found) = found else {
                bail!("it holds no database {name:?}; there are {}", there.join(", "));
            };
            return Ok(vec![(found, name.clone())]);
        }
        let asked = if wanted.is_empty() { named } else { wanted };
        let mut chosen = Vec::new();
        for name in asked {
            let Some(found) = number(name) else {
                bail!("it holds no database {name:?}; there are {}", there.join(", "));
            };
            chosen.push((found, name.clone()));
        }
        if asked.is_empty() {
            let full =
                self.named().filter(|section| section.makes).filter_map(|section| section.name.clone());
            chosen.extend(full.filter_map(|name| Some((number(&name)?, name))));
        }
        Ok(chosen)
    }

    /// How a database is made anew: as the text says, as the file did that this one stands for, or nothing.
    pub(super) fn details(&self, number: usize, from: &Record) -> Result<Value> {
        let section = &self.sections[number];
        let mut details = match &section.about.create {
            Some(options) => serde_json::to_value(section.database(options)?)?,
            None if from.details["name"].is_string() => from.details.clone(),
            None => json!({}),
        };
        details["tables"] = section.tables.into();
        Ok(details)
    }
}

impl Section {
    fn database(&self, options: &str) -> Result<Database> {
        let locale = option(options, "LOCALE");
        let encoding = option(options, "ENCODING").unwrap_or_else(|| "UTF8".to_owned());
        let (collate, ctype) = (option(options, "LC_COLLATE"), option(options, "LC_CTYPE"));
        let (Some(collate), Some(ctype)) = (collate.or(locale.clone()), ctype.or(locale)) else {
            bail!("the statement that makes {:?} names no locale: {options}", self.name);
        };
        let provider = option(options, "LOCALE_PROVIDER").filter(|word| word.eq_ignore_ascii_case("icu"));
        Ok(Database {
            name: self.name.clone().unwrap_or_default(),
            owner: self.about.owner.clone().unwrap_or_default(),
            encoding,
            collate,
            ctype,
            provider: provider.map(|_| "i".to_owned()),
            locale: option(options, "ICU_LOCALE"),
            after: self.about.after.clone(),
        })
    }
}

/// The value of `KEY = 'value'` or `KEY = word`.
fn option(options: &str, key: &str) -> Option<String> {
    let mut rest = options;
    loop {
        let at = rest.find(key)?;
        let whole = rest[..at].chars().next_back().is_none_or(|c| c.is_whitespace());
        let after = rest[at + key.len()..].trim_start();
        if let Some(value) = after.strip_prefix('=').filter(|_| whole) {
            let value = value.trim_start();
            return match value.strip_prefix('\'') {
                Some(quoted) => Some(quoted[..quoted.find('\'')?].to_owned()),
                None => Some(value.split([' ', ';']).next().unwrap_or_default().to_owned()),
            };
        }
        rest = &rest[at + key.len()..];
    }
}

impl<K: FnMut(usize, &[u8]) -> Result<()>> Sorter<K> {
    pub(super) fn end(self) -> Sections {
        Sections { sections: self.sections, roles: self.roles }
    }

    fn section(&mut self, name: String) -> usize {
        let known = self.sections.iter().position(|section| section.name.as_ref() == Some(&name));
        known.unwrap_or_else(|| {
            self.sections.push(Section { name: Some(name), ..Section::default() });
            self.sections.len() - 1
        })
    }

    /// A statement about a database itself; false: it is none.
    fn about(&mut self, text: &str) -> bool {
        let statement = text.trim_end_matches(';').trim_end();
        let after = |head: &str| statement.strip_prefix(head);
        if after("DROP DATABASE ").is_some() || after("UPDATE pg_catalog.pg_database ").is_some() {
            return true;
        }
        if let Some((database, options)) = after("CREATE DATABASE ").and_then(name) {
            let number = self.section(database);
            self.sections[number].about.create = Some(options.to_owned());
            return true;
        }
        let found =
            ["ALTER DATABASE ", "COMMENT ON DATABASE "].iter().find(|head| statement.starts_with(**head));
        let within = [" ON DATABASE ", " IN DATABASE "];
        let speaks = ["GRANT ", "REVOKE ", "ALTER ROLE ", "SECURITY LABEL "];
        let head = match found {
            Some(head) => head.len(),
            None if speaks.iter().any(|word| statement.starts_with(word)) => {
                let at = within.iter().filter_map(|word| Some(statement.find(word)? + word.len())).min();
                match at {
                    Some(at) => at,
                    None => return false,
                }
            }
            None => return false,
        };
        let (head, rest) = statement.split_at(head);
        let Some((database, tail)) = name(rest) else { return false };
        let number = self.section(database);
        let about = &mut self.sections[number].about;
        match tail.strip_prefix(" OWNER TO ").and_then(name).filter(|_| head == "ALTER DATABASE ") {
            Some((owner, _)) => about.owner = Some(owner),
            None => about.after.push((head.to_owned(), tail.to_owned())),
        }
        true
    }

    fn is_role(text: &str) -> bool {
        use crate::dump::postgresql::sql::{About, about};
        let statement = text.trim_end_matches(';');
        let drops = statement.starts_with("DROP ROLE ") || statement.starts_with("CREATE TABLESPACE ");
        drops || (about(statement) != About::Other && !statement.contains(" ON "))
    }
}

impl<K: FnMut(usize, &[u8]) -> Result<()>> Taker for Sorter<K> {
    fn statement(&mut self, text: &[u8]) -> Result<()> {
        let short = String::from_utf8_lossy(&text[..text.len().min(64 << 10)]).into_owned();
        if self.about(&short) {
            return Ok(());
        }
        if self.current == 0 && Self::is_role(&short) {
            self.roles.extend_from_slice(text);
            self.roles.push(b'\n');
            return Ok(());
        }
        let section = &mut self.sections[self.current];
        // `--clean` begins with what is to go: in a new database there is nothing of it.
        let drops = short.starts_with("DROP ") || (short.starts_with("ALTER ") && short.contains(" DROP "));
        if drops && !section.makes {
            return Ok(());
        }
        section.makes |= short.starts_with("CREATE ") || short.starts_with("SELECT pg_catalog.lo_create");
        let table = ["CREATE TABLE ", "CREATE UNLOGGED TABLE "].iter().any(|head| short.starts_with(head));
        section.tables += usize::from(table);
        (self.keep)(self.current, text)?;
        (self.keep)(self.current, b"\n")
    }

    fn data(&mut self, line: &[u8]) -> Result<()> {
        (self.keep)(self.current, line)
    }

    fn command(&mut self, line: &str) -> Result<()> {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match word {
            // It forbids commands such as are refused here in any case.
            "restrict" | "unrestrict" => Ok(()),
            // For a name of a database that is not plain; what follows sets its own.
            "encoding" => Ok(()),
            "connect" | "c" => {
                let database = connected(rest.trim())?;
                self.current = self.section(database);
                Ok(())
            }
            _ => bail!("\\{word} is no command that pg_dump writes; take it out"),
        }
    }
}

/// The database of `\connect shop`, `\connect "odd name"`, `\connect -reuse-previous=on "dbname='odd name'"`.
fn connected(rest: &str) -> Result<String> {
    let (info, rest) = match rest.strip_prefix("-reuse-previous=on") {
        Some(rest) => (true, rest.trim_start()),
        None => (false, rest),
    };
    let Some((text, rest)) = name(rest) else { bail!("\\connect names no database") };
    ensure!(rest.trim().is_empty(), "\\connect names more than a database: {rest:?}");
    let Some(value) = text.strip_prefix("dbname=").filter(|_| info) else { return Ok(text) };
    let value = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')).unwrap_or(value);
    let mut found = String::new();
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        found.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::scan::scan;
    use super::*;

    const TEXT: &str = "SET client_encoding = 'UTF8';\nCREATE ROLE keeper;\nALTER ROLE keeper WITH LOGIN PASSWORD 'x;';\n\
        GRANT clerk TO keeper;\n\\connect template1\nSET x = 1;\nDROP DATABASE shop;\n\
        CREATE DATABASE shop WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = libc LOCALE = 'C.UTF-8';\n\
        ALTER DATABASE shop OWNER TO keeper;\n\\connect shop\nALTER DATABASE shop SET work_mem TO '7MB';\n\
        ALTER TABLE public.t DROP CONSTRAINT x;\nDROP TABLE public.t;\nCREATE TABLE public.t (a int);\n\
        COPY public.t (a) FROM stdin;\n1\n\\.\nGRANT SELECT ON TABLE public.t TO keeper;\n\
        GRANT CONNECT ON DATABASE shop TO clerk;\n\\connect -reuse-previous=on \"dbname='o\\'dd \"\"x'\"\nSELECT 1;\n";

    fn record(database: Option<&str>) -> Record {
        serde_json::from_value(json!({
            "dump": "pg", "source": "postgresql", "database": database, "file": "dumps/pg/x", "size": 1, "sha256": "",
        }))
        .unwrap()
    }

    fn read(text: &str) -> (Sections, Vec<String>) {
        let mut kept = vec![String::new(); 9];
        let mut sorter = Sections::new(|number, text: &[u8]| {
            kept[number].push_str(std::str::from_utf8(text).unwrap());
            Ok(())
        });
        scan(text.as_bytes(), &mut sorter).unwrap();
        (sorter.end(), kept)
    }

    #[test]
    fn a_text_of_all_databases_is_taken_apart() {
        let (sections, kept) = read(TEXT);
        let names: Vec<_> = sections.named().filter_map(|section| section.name.as_deref()).collect();
        assert_eq!(names, ["shop", "o'dd \"x"]);
        let shop = "CREATE TABLE public.t (a int);\nCOPY public.t (a) FROM stdin;\n1\n\\.\nGRANT SELECT ON TABLE public.t TO keeper;\n";
        assert_eq!(kept[2], shop);
        let roles = String::from_utf8(sections.roles.clone()).unwrap();
        assert!(
            roles.starts_with("CREATE ROLE keeper;") && roles.ends_with("GRANT clerk TO keeper;\n"),
            "{roles}"
        );
        let details = sections.details(2, &record(None)).unwrap();
        assert_eq!(
            (&details["owner"], &details["collate"], &details["tables"]),
            (&json!("keeper"), &json!("C.UTF-8"), &json!(1))
        );
        let after = json!([
            ["ALTER DATABASE ", " SET work_mem TO '7MB'"],
            ["GRANT CONNECT ON DATABASE ", " TO clerk"]
        ]);
        assert_eq!(details["after"], after);
        // What makes nothing is nobody's, unless it is asked for.
        assert_eq!(sections.choose(&record(None), &[], &[]).unwrap(), [(2, "shop".to_owned())]);
        let odd = "o'dd \"x".to_owned();
        assert_eq!(sections.choose(&record(None), &[], std::slice::from_ref(&odd)).unwrap(), [(3, odd)]);
        assert_eq!(sections.choose(&record(Some("shop")), &[], &[]).unwrap(), [(2, "shop".to_owned())]);
        assert!(sections.choose(&record(Some("x")), &[], &[]).is_err());
        assert!(sections.choose(&record(None), &["x".into()], &[]).is_err());
    }

    #[test]
    fn a_text_of_one_database_is_that_of_the_one_it_stands_for() {
        let (sections, kept) = read("CREATE TABLE t (a int);\n");
        assert_eq!(sections.choose(&record(Some("x")), &[], &[]).unwrap(), [(0, "x".to_owned())]);
        assert_eq!(sections.choose(&record(None), &[], &["y".into()]).unwrap(), [(0, "y".to_owned())]);
        assert!(sections.choose(&record(None), &[], &[]).is_err());
        assert_eq!(kept[0], "CREATE TABLE t (a int);\n");
    }

    #[test]
    fn commands_that_no_dump_holds_are_refused() {
        let mut sorter = Sections::new(|_, _: &[u8]| Ok(()));
        for bad in ["! rm -rf /", "i /etc/passwd", "copy x from y", "connect a b c", "connect -x y", "o f"] {
            assert!(sorter.command(bad).is_err(), "{bad:?} was taken");
        }
        assert!(sorter.command("restrict abc").is_ok() && sorter.command("encoding SQL_ASCII").is_ok());
    }
}
