//! The members of a tar: ustar, GNU and pax, sparse files among them. Sizes that an archive claims are never allocated.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tar::Header;

use super::sparse::{self, Map};

/// What a tar is made of.
pub(super) const BLOCK: usize = 512;
/// The largest name, or list of attributes, of one member.
const EXTENSION: u64 = 1 << 20;

/// One member, its data not read yet.
#[derive(Debug)]
pub(super) struct Member {
    /// Where it lies: relative, without `.` and `..`; empty: the directory itself.
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds and nanoseconds.
    pub(super) mtime: (i64, u32),
    /// Bytes of the file.
    pub(super) size: u64,
    /// Where its data lies, where it has holes.
    pub(super) map: Option<Map>,
    pub(super) xattrs: BTreeMap<String, Vec<u8>>,
}

/// What a member is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Dir,
    /// A symbolic link, and what it says.
    Link(PathBuf),
    /// Another name of a member before it.
    Same(PathBuf),
    /// What is never made here.
    Other(&'static str),
}

type Pax = BTreeMap<String, Vec<u8>>;

/// What stands before a member's own header.
#[derive(Default)]
struct Before {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Pax,
}

/// Reads member after member.
pub(super) struct Members<R> {
    from: R,
    /// Of the member's data in the stream.
    left: u64,
    padding: u64,
    global: Pax,
}

/// Whether a block is a header: its checksum tells.
pub(super) fn is_header(block: &[u8]) -> bool {
    let Ok(block) = <&[u8; BLOCK]>::try_from(block) else { return false };
    let header = Header::from_byte_slice(block);
    let sum = |range: std::ops::Range<usize>| block[range].iter().map(|byte| u32::from(*byte)).sum::<u32>();
    // The field itself counts as eight spaces.
    let is = sum(0..148) + 8 * 32 + sum(156..BLOCK);
    header.cksum().is_ok_and(|said| said == is)
}

impl<R: Read> Members<R> {
    pub(super) const fn new(from: R) -> Self {
        Self { from, left: 0, padding: 0, global: Pax::new() }
    }

    /// The next member; none at the end mark.
    pub(super) fn next(&mut self) -> Result<Option<Member>> {
        let mut before = Before::default();
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size().context("a size that is no number")?;
            match header.entry_type().as_byte() {
                b'L' => before.name = Some(self.extension(size)?),
                b'K' => before.link = Some(self.extension(size)?),
                b'x' | b'X' => before.pax = pax(&self.extension(size)?)?,
                b'g' => {
                    let more = pax(&self.extension(size)?)?;
                    self.global.extend(more);
                }
                // A label.
                b'V' => self.pass(size)?,
                b'M' => bail!("it is the second part of an archive in several volumes"),
                _ => return self.member(&header, before).map(Some),
            }
        }
    }

    /// A piece of the member's data; 0: that was all.
    pub(super) fn data(&mut self, piece: &mut [u8]) -> Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(piece.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.from.read(&mut piece[..most])?;
        ensure!(count > 0, "the archive is cut off in the middle of a file");
        self.left -= count as u64;
        Ok(count)
    }

    pub(super) fn skip_rest(&mut self) -> Result<()> {
        let rest = self.left + self.padding;
        (self.left, self.padding) = (0, 0);
        let passed = std::io::copy(&mut self.from.by_ref().take(rest), &mut std::io::sink())?;
        ensure!(passed == rest, "the archive is cut off in the middle of a member");
        Ok(())
    }

    /// To the end of the stream: what compressed it has its checksum there.
    pub(super) fn drain(&mut self) -> Result<()> {
        std::io::copy(&mut self.from, &mut std::io::sink())?;
        Ok(())
    }

    fn block(&mut self) -> Result<[u8; BLOCK]> {
        let mut block = [0; BLOCK];
        self.from.read_exact(&mut block).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                anyhow::anyhow!("it ends without the end mark of a tar: it is cut off")
            }
            _ => error.into(),
        })?;
        Ok(block)
    }

    fn header(&mut self) -> Result<Option<Header>> {
        let block = self.block()?;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        ensure!(is_header(&block), "a header is damaged: its checksum is another one");
        Ok(Some(Header::from_byte_slice(&block).clone()))
    }

    fn hold(&mut self, size: u64) {
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
    }

    fn pass(&mut self, size: u64) -> Result<()> {
        ensure!(size <= EXTENSION, "a label of {size} bytes");
        self.hold(size);
        self.skip_rest()
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        ensure!(size <= EXTENSION, "a name or a list of attributes of {size} bytes, more than {EXTENSION}");
        self.hold(size);
        let mut bytes = Vec::new();
        self.from.by_ref().take(size).read_to_end(&mut bytes)?;
        self.left -= bytes.len() as u64;
        ensure!(self.left == 0, "the archive is cut off in the middle of a name");
        self.skip_rest()?;
        Ok(bytes)
    }

    fn member(&mut self, header: &Header, before: Before) -> Result<Member> {
        let mut pax = self.global.clone();
        pax.extend(before.pax);
        let size = match number(&pax, "size")? {
            Some(size) => size,
            None => header.entry_size()?,
        };
        ensure!(size <= 1 << 62, "a member of {size} bytes");
        let raw = pax.get("GNU.sparse.name").or(pax.get("path")).cloned().or(before.name);
        let raw = raw.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = pax.get("linkpath").cloned().or(before.link);
        let link = link.or_else(|| header.link_name_bytes().map(|bytes| bytes.into_owned()));
        let kind = kind(header, &raw, text(link.unwrap_or_default()))?;
        self.hold(if kind == Kind::Dir && header.entry_type().as_byte() != b'D' { 0 } else { size });
        let (size, map) = self.holes(header, &pax, size)?;
        Ok(Member {
            path: clean(&text(raw))?,
            kind,
            mode: header.mode()? & 0o7777,
            uid: id(number(&pax, "uid")?, header.uid())?,
            gid: id(number(&pax, "gid")?, header.gid())?,
            mtime: moment(&pax, header)?,
            size,
            map,
            xattrs: xattrs(pax),
        })
    }

    /// The size of a file and where its data lies, where it was packed without its holes.
    fn holes(&mut self, header: &Header, pax: &Pax, size: u64) -> Result<(u64, Option<Map>)> {
        if header.entry_type().as_byte() == b'S' {
            let (real, map) = sparse::gnu(header, || self.block())?;
            return Ok((real, Some(map)));
        }
        if !pax.keys().any(|key| key.starts_with("GNU.sparse.")) {
            return Ok((size, None));
        }
        ensure!(
            number(pax, "GNU.sparse.major")? == Some(1),
            "a sparse file in a form of before 2006: pack it anew with a later tar"
        );
        let real = number(pax, "GNU.sparse.realsize")?.context("a sparse file without its size")?;
        let map = sparse::pax(real, |piece| self.data(piece))?;
        Ok((real, Some(map)))
    }
}

fn kind(header: &Header, raw: &[u8], link: PathBuf) -> Result<Kind> {
    Ok(match header.entry_type().as_byte() {
        b'5' | b'D' => Kind::Dir,
        // Of before 1988: a name that ends in a slash is a directory.
        0 | b'0' | b'7' if raw.ends_with(b"/") => Kind::Dir,
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::Same(clean(&link)?),
        b'2' => {
            ensure!(!link.as_os_str().is_empty(), "a link that says nothing");
            Kind::Link(link)
        }
        b'3' | b'4' => Kind::Other("a device"),
        b'6' => Kind::Other("a pipe"),
        _ => Kind::Other("of a kind that is not known"),
    })
}

/// A name as a path below the directory: absolute ones begin there, those that climb are refused.
fn clean(path: &Path) -> Result<PathBuf> {
    use std::path::Component;
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                bail!("{path:?} climbs with '..': such an archive is not taken")
            }
        }
    }
    Ok(clean)
}

/// A name as bytes, up to its first NUL.
fn text(mut bytes: Vec<u8>) -> PathBuf {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    OsString::from_vec(bytes).into()
}

fn number(pax: &Pax, key: &str) -> Result<Option<u64>> {
    let Some(bytes) = pax.get(key) else { return Ok(None) };
    let digits = std::str::from_utf8(bytes).ok().and_then(|digits| digits.parse().ok());
    digits.map(Some).with_context(|| format!("{key} is no number"))
}

fn id(pax: Option<u64>, header: std::io::Result<u64>) -> Result<u32> {
    let id = match pax {
        Some(id) => id,
        None => header?,
    };
    u32::try_from(id).with_context(|| format!("{id} is no uid or gid"))
}

fn moment(pax: &Pax, header: &Header) -> Result<(i64, u32)> {
    let Some(said) = pax.get("mtime").and_then(|bytes| std::str::from_utf8(bytes).ok()) else {
        return Ok((i64::try_from(header.mtime()?)?, 0));
    };
    let (seconds, fraction) = said.split_once('.').unwrap_or((said, ""));
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let seconds: i64 = seconds.parse().with_context(|| format!("mtime {said:?} is no time"))?;
    let part: u32 = digits.parse().with_context(|| format!("mtime {said:?} is no time"))?;
    // Before 1970 the fraction goes back, too.
    match said.starts_with('-') && part > 0 {
        true => Ok((seconds - 1, 1_000_000_000 - part)),
        false => Ok((seconds, part)),
    }
}

fn xattrs(pax: Pax) -> BTreeMap<String, Vec<u8>> {
    let named =
        |(key, value): (String, Vec<u8>)| Some((key.strip_prefix("SCHILY.xattr.")?.to_owned(), value));
    pax.into_iter().filter_map(named).collect()
}

/// Lines `LENGTH KEY=VALUE`, the length in decimal and of all of the line.
fn pax(mut bytes: &[u8]) -> Result<Pax> {
    let mut all = Pax::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|byte| *byte == b' ').context("an attribute without a length")?;
        let digits =
            std::str::from_utf8(&bytes[..space]).ok().and_then(|digits| digits.parse::<usize>().ok());
        let length = digits.context("an attribute without a length")?;
        ensure!(length > space + 1 && length <= bytes.len(), "an attribute of {length} bytes");
        let line = bytes[space + 1..length].strip_suffix(b"\n").context("an attribute without an end")?;
        let equals = line.iter().position(|byte| *byte == b'=').context("an attribute without a value")?;
        let key = String::from_utf8_lossy(&line[..equals]).into_owned();
        all.insert(key, line[equals + 1..].to_vec());
        bytes = &bytes[length..];
    }
    Ok(all)
}
