//! The archive that `mongodump --archive` writes: a magic number, what it holds, then blocks of documents.
//!
//! A block is a document that names a collection, documents of that collection, and four bytes 0xff. The last block of each
//! collection has no documents and says so, with the CRC-64 of all of them. (From the source of MongoDB's tools.)

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::dump::crc::{step, table};
use crate::dump::record;

/// How an archive begins.
const MAGIC: [u8; 4] = 0x8199_e26d_u32.to_le_bytes();
/// What stands at the end of each block.
const END: u32 = u32::MAX;
/// No document is longer: 16 MiB, and what the server adds to it.
const LONGEST: usize = (16 << 20) + (16 << 10);
/// The checksum's polynomial (CRC-64 of ECMA-182), reflected.
const POLYNOMIAL: u64 = 0xc96c_5795_d787_0f42;

/// A collection in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Collection {
    pub(super) database: String,
    pub(super) name: String,
    pub(super) documents: u64,
}

/// A collection while it is read.
struct Open {
    documents: u64,
    sum: u64,
    ended: bool,
}

/// Reads an archive to its end; the collections in it.
pub(super) async fn read(path: &Path) -> Result<Vec<Collection>> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || {
        let file = std::io::BufReader::with_capacity(256 << 10, record::open(&path)?);
        through(file).with_context(|| format!("{} is no whole archive of mongodump", path.display()))
    })
    .await?
}

/// The same of a file that is open.
pub(super) fn of(file: std::fs::File) -> Result<Vec<Collection>> {
    through(std::io::BufReader::with_capacity(256 << 10, file)).context("it is no whole archive of mongodump")
}

fn through(mut from: impl Read) -> Result<Vec<Collection>> {
    let mut magic = [0; 4];
    from.read_exact(&mut magic).context("it is too short")?;
    ensure!(magic == MAGIC, "it does not begin as one");
    let mut buffer = Vec::new();
    let mut expected = prelude(&mut from, &mut buffer)?;
    let mut found: BTreeMap<(String, String), Open> = BTreeMap::new();
    let table = table(POLYNOMIAL);
    while let Some(head) = block(&mut from, &mut buffer)? {
        let open = found.entry(head.clone()).or_insert(Open { documents: 0, sum: !0, ended: false });
        ensure!(!open.ended, "it goes on with {} after its end", head.1);
        let fields = Fields::read(&buffer)?;
        let (last, sum) = (fields.flag("EOF"), fields.number("CRC"));
        while document(&mut from, &mut buffer)? {
            open.documents += 1;
            open.sum = buffer.iter().fold(open.sum, |sum, byte| step(&table, sum, *byte));
        }
        if last {
            open.ended = true;
            let right = sum == Some((!open.sum).cast_signed());
            ensure!(right, "the checksum of {} is wrong: it was changed", head.1);
        }
    }
    expected.retain(|name| !found.contains_key(name));
    if let Some((database, name)) = expected.first() {
        bail!("it ends before {database}.{name}: it was cut off");
    }
    let all = found.into_iter().map(|((database, name), open)| {
        ensure!(open.ended, "it ends within {database}.{name}: it was cut off");
        Ok(Collection { database, name, documents: open.documents })
    });
    all.collect()
}

/// The collections that are to follow. Views have no documents, and those of a time series are in another collection.
fn prelude(from: &mut impl Read, buffer: &mut Vec<u8>) -> Result<Vec<(String, String)>> {
    ensure!(document(from, buffer)?, "it has no header");
    let mut expected = Vec::new();
    while document(from, buffer)? {
        let fields = Fields::read(buffer)?;
        let metadata = fields.text("metadata").unwrap_or_default();
        let plain =
            !metadata.contains("\"viewOn\"") && !matches!(fields.text("type"), Some("view" | "timeseries"));
        if plain {
            expected.push(fields.namespace()?);
        }
    }
    Ok(expected)
}

/// The beginning of a block, which stays in `buffer`; none: the archive ends here.
fn block(from: &mut impl Read, buffer: &mut Vec<u8>) -> Result<Option<(String, String)>> {
    let mut first = [0];
    loop {
        match from.read(&mut first) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(failure) if failure.kind() == ErrorKind::Interrupted => {}
            Err(failure) => return Err(failure.into()),
        }
    }
    ensure!(document(&mut (&first[..]).chain(from), buffer)?, "a block has no header");
    Fields::read(buffer)?.namespace().map(Some)
}

/// Reads a document; false: the end of the block stands there.
fn document(from: &mut impl Read, buffer: &mut Vec<u8>) -> Result<bool> {
    let mut size = [0; 4];
    from.read_exact(&mut size).context("it was cut off")?;
    let length = u32::from_le_bytes(size);
    if length == END {
        return Ok(false);
    }
    let length = usize::try_from(length)?;
    ensure!((5..=LONGEST).contains(&length), "a document says that it has {length} bytes");
    buffer.clear();
    buffer.extend(size);
    buffer.resize(length, 0);
    from.read_exact(&mut buffer[4..]).context("it was cut off")?;
    ensure!(buffer.last() == Some(&0), "a document does not end as one");
    Ok(true)
}

/// The fields of a document of the archive's own, which are of few kinds.
struct Fields<'d>(Vec<(&'d [u8], u8, &'d [u8])>);

impl<'d> Fields<'d> {
    fn read(document: &'d [u8]) -> Result<Self> {
        let mut fields = Vec::new();
        let mut left = document.get(4..).context("a document is too short")?;
        while let Some((&kind, rest)) = left.split_first().filter(|(kind, _)| **kind != 0) {
            let end = rest.iter().position(|byte| *byte == 0).context("a field has no name")?;
            let (name, rest) = (&rest[..end], &rest[end + 1..]);
            let length = match kind {
                0x01 | 0x09 | 0x11 | 0x12 => 8,
                0x02 => {
                    let size =
                        rest.get(..4).and_then(|size| size.try_into().ok()).context("a text is cut off")?;
                    4 + usize::try_from(u32::from_le_bytes(size))?
                }
                0x08 => 1,
                0x0a => 0,
                0x10 => 4,
                _ => bail!("a header has a field of kind {kind}"),
            };
            let value = rest.get(..length).context("a field is cut off")?;
            ensure!(kind != 0x02 || value.last() == Some(&0), "a text does not end as one");
            fields.push((name, kind, value));
            left = &rest[length..];
        }
        Ok(Self(fields))
    }

    fn value(&self, name: &str, kind: u8) -> Option<&'d [u8]> {
        self.0
            .iter()
            .find(|(field, of, _)| *field == name.as_bytes() && *of == kind)
            .map(|(_, _, value)| *value)
    }

    fn text(&self, name: &str) -> Option<&'d str> {
        let value = self.value(name, 0x02)?;
        std::str::from_utf8(value.get(4..value.len().checked_sub(1)?)?).ok()
    }

    fn flag(&self, name: &str) -> bool {
        self.value(name, 0x08) == Some(&[1])
    }

    fn number(&self, name: &str) -> Option<i64> {
        Some(i64::from_le_bytes(self.value(name, 0x12)?.try_into().ok()?))
    }

    fn namespace(&self) -> Result<(String, String)> {
        let text = |name: &str| self.text(name).map(str::to_owned).context("a block names no collection");
        Ok((text("db")?, text("collection")?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bson(fields: &[(u8, &str, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (kind, name, value) in fields {
            body.push(*kind);
            body.extend(name.bytes().chain([0]));
            body.extend(*value);
        }
        let length = u32::try_from(body.len() + 5).unwrap();
        [&length.to_le_bytes()[..], &body, &[0]].concat()
    }

    fn text(text: &str) -> Vec<u8> {
        let length = u32::try_from(text.len() + 1).unwrap();
        [&length.to_le_bytes()[..], text.as_bytes(), &[0]].concat()
    }

    fn archive(documents: &[Vec<u8>]) -> Vec<u8> {
        let names = [(0x02, "db", text("shop")), (0x02, "collection", text("item"))];
        let head: Vec<(u8, &str, &[u8])> =
            names.iter().map(|(kind, name, value)| (*kind, *name, &value[..])).collect();
        let table = table(POLYNOMIAL);
        let sum = !documents.concat().iter().fold(!0, |sum, byte| step(&table, sum, *byte));
        let sum = sum.to_le_bytes();
        let last = [&head[..], &[(0x08, "EOF", &[1]), (0x12, "CRC", &sum)]].concat();
        let end = END.to_le_bytes();
        let header = bson(&[(0x02, "version", &text("0.1"))]);
        [&MAGIC[..], &header, &bson(&head), &end, &bson(&head), &documents.concat(), &end, &bson(&last), &end]
            .concat()
    }

    #[test]
    fn a_whole_archive_is_counted_and_none_that_was_cut_or_changed_passes() {
        let documents = [bson(&[(0x10, "a", &[1, 0, 0, 0])]), bson(&[(0x02, "b", &text("x"))])];
        let whole = archive(&documents);
        let one = Collection { database: "shop".into(), name: "item".into(), documents: 2 };
        assert_eq!(through(&whole[..]).unwrap(), [one]);
        for length in 0..whole.len() {
            assert!(through(&whole[..length]).is_err(), "cut off at {length}");
        }
        let begin = MAGIC.len() + bson(&[(0x02, "version", &text("0.1"))]).len();
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] ^= 0x20;
            // Most of the header says nothing that is looked at.
            let header = (4..begin).contains(&place);
            assert!(header || through(&changed[..]).is_err(), "changed at {place}");
        }
    }
}
