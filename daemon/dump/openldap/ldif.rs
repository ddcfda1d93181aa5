//! LDIF as `slapcat -o ldif-wrap=no` writes it, and as slapd keeps its configuration.

use std::borrow::Cow;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::dump::record;

/// The attribute that says where a database's files lie.
const DIRECTORY: &str = "olcDbDirectory";

/// A database with files of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Database {
    /// Its number in the configuration.
    pub(super) number: u32,
    /// Its first suffix.
    pub(super) suffix: String,
    /// Where its files lie.
    pub(super) directory: PathBuf,
}

/// The databases of a configuration that have files.
pub(super) fn databases(config: &str) -> Result<Vec<Database>> {
    let entries = config.split("\n\n").filter(|entry| !entry.trim().is_empty());
    let found = entries.filter_map(|entry| database(entry).transpose());
    found.collect()
}

fn database(entry: &str) -> Result<Option<Database>> {
    let find = |name: &str| entry.lines().find_map(|line| value(line, name)).transpose();
    let Some(directory) = find(DIRECTORY)? else { return Ok(None) };
    let word = find("olcDatabase")?.context("a database of the configuration has no name")?;
    let number = word.strip_prefix('{').and_then(|rest| rest.split_once('}')?.0.parse().ok());
    let number =
        number.with_context(|| format!("the database {word:?} of the configuration has no number"))?;
    let suffix = find("olcSuffix")?.with_context(|| format!("the database {word:?} has no suffix"))?;
    let directory = PathBuf::from(directory);
    ensure!(
        directory.is_absolute(),
        "the database {word:?} lies at {}, which is no absolute path",
        directory.display()
    );
    Ok(Some(Database { number, suffix, directory }))
}

/// The value of a line, if it is of this attribute.
fn value(line: &str, name: &str) -> Option<Result<String>> {
    let rest = line.strip_prefix(name)?.strip_prefix(':')?;
    Some(match rest.strip_prefix(':') {
        Some(coded) => decoded(coded.trim()).with_context(|| format!("the value of {name}")),
        None => Ok(rest.trim_start().to_owned()),
    })
}

fn decoded(text: &str) -> Result<String> {
    let (mut bytes, mut buffer, mut bits) = (Vec::new(), 0_u32, 0);
    for c in text.trim_end_matches('=').bytes() {
        let six = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => bail!("it is not base64"),
        };
        (buffer, bits) = (buffer << 6 | u32::from(six), bits + 6);
        if bits >= 8 {
            bits -= 8;
            bytes.push((buffer >> bits & 0xff) as u8);
        }
    }
    String::from_utf8(bytes).context("it is not UTF-8")
}

/// A configuration whose databases lie elsewhere.
pub(super) fn moved(config: &str, to: impl Fn(&Path) -> Option<PathBuf>) -> Result<String> {
    let mut text = String::with_capacity(config.len());
    for line in config.lines() {
        let there = value(line, DIRECTORY).transpose()?.and_then(|directory| to(Path::new(&directory)));
        let line = there.map_or(Cow::Borrowed(line), |to| format!("{DIRECTORY}: {}", to.display()).into());
        text.push_str(&line);
        text.push('\n');
    }
    Ok(text)
}

/// A file of slapd's configuration with its databases elsewhere. slapd folds lines there, and checks a sum.
pub(super) fn moved_file(text: &str, to: impl Fn(&Path) -> Option<PathBuf>) -> Result<String> {
    let entry = text.replace("\n ", "");
    let entry: String =
        entry.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    let entry = moved(&entry, to)?;
    let mut sum = flate2::Crc::new();
    sum.update(entry.as_bytes());
    Ok(format!("# AUTO-GENERATED FILE - DO NOT EDIT!! Use ldapmodify.\n# CRC32 {:08x}\n{entry}", sum.sum()))
}

/// Reads a dump through: entries of attributes, each ended by an empty line. Their number.
pub(super) fn entries(path: &Path) -> Result<u64> {
    let mut file = BufReader::with_capacity(256 << 10, record::open(path)?);
    let (mut line, mut count, mut inside) = (Vec::new(), 0, false);
    while file.read_until(b'\n', &mut line).with_context(|| path.display().to_string())? > 0 {
        ensure!(line.ends_with(b"\n"), "{} ends within a line: the dump was cut off", path.display());
        let empty = line == b"\n";
        ensure!(
            empty || (if inside { line.contains(&b':') } else { line.starts_with(b"dn:") }),
            "{} is no LDIF: {:?} stands where {} should",
            path.display(),
            String::from_utf8_lossy(line.get(..60).unwrap_or(&line)),
            if inside { "an attribute" } else { "an entry's name" }
        );
        count += u64::from(inside && empty);
        inside = !empty;
        line.clear();
    }
    ensure!(!inside, "{} ends within an entry: the dump was cut off", path.display());
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_found_with_values_in_base64_and_moved() {
        let text = "dn: olcDatabase={-1}frontend,cn=config\nolcDatabase: {-1}frontend\n\n\
            dn: olcDatabase={2}mdb,cn=config\nolcDatabase: {2}mdb\nolcDbDirectory:: L3Nydi9sw6Q=\nolcSuffix: o=x\n\n";
        let found = databases(text).unwrap();
        assert_eq!(found, [Database { number: 2, suffix: "o=x".into(), directory: "/srv/lä".into() }]);
        let moved = moved(text, |from| (from == Path::new("/srv/lä")).then(|| "/new".into())).unwrap();
        assert!(moved.contains("\nolcDbDirectory: /new\nolcSuffix: o=x\n"), "{moved}");
        assert!(databases("dn: x\nolcDatabase: mdb\nolcDbDirectory: /a\nolcSuffix: o=x\n").is_err());
        assert!(databases("dn: x\nolcDatabase: {1}mdb\nolcDbDirectory: a\nolcSuffix: o=x\n").is_err());
    }

    #[test]
    fn a_file_of_the_configuration_keeps_a_sum_that_is_right() {
        let text = "# AUTO\n# CRC32 00000000\ndn: olcDatabase={1}mdb\nolcDbDirectory: /a/ve\n ry/long/path\n";
        let moved =
            moved_file(text, |from| (from == Path::new("/a/very/long/path")).then(|| "/b".into())).unwrap();
        assert!(moved.ends_with("\ndn: olcDatabase={1}mdb\nolcDbDirectory: /b\n"), "{moved}");
        assert!(!moved.contains("CRC32 00000000"), "{moved}");
    }

    #[test]
    fn an_entry_that_is_cut_off_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ldif");
        let count = |text: &str| {
            std::fs::write(&path, text).unwrap();
            entries(&path).map_err(|failure| failure.to_string())
        };
        assert_eq!(count("dn: o=x\no: x\n\ndn: o=y\no: y\n\n"), Ok(2));
        assert!(count("dn: o=x\no: x\n\ndn: o=y\no: y\n").unwrap_err().contains("within an entry"));
        assert!(count("dn: o=x\no: x\n\ndn: o").unwrap_err().contains("within a line"));
        assert!(count("slapcat: no\n").unwrap_err().contains("is no LDIF"));
    }
}
