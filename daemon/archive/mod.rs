//! Archives that come from outside: tar, plain or compressed by gzip or zstd, unpacked into a directory of ours.
//!
//! Nothing of an archive is trusted. Names lead nowhere but below the directory: each is walked component by component
//! and no link is followed. Devices, pipes and sockets are never made. What is cut off is an error, never half a tree.

mod into;
mod member;
mod source;
mod sparse;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio_util::sync::CancellationToken;

use into::Into;
use member::{BLOCK, Kind, Members};
use source::{Source, Sum};

/// How unpacking goes about it.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Ends it.
    pub cancel: CancellationToken,
    /// How long nothing may come.
    pub stall: Duration,
    /// What stays free on the disk, in bytes: an archive can hold more than its size tells.
    pub reserve: u64,
}

/// What was unpacked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What was left out, and why.
    pub left_out: Vec<String>,
    /// Directories that the archive does not name: it holds something in them, not all of them.
    pub implied: BTreeSet<PathBuf>,
    /// The SHA-256 of the archive as it came, in hexadecimal digits.
    pub sha256: String,
}

/// How many names are told.
const TOLD: usize = 20;

/// Unpacks all of an archive into a directory that exists and is empty. `heard` is told how far it is.
///
/// Blocking.
///
/// # Errors
/// It is no archive of a known kind, is cut off or damaged, or wants to lead out; the disk is full. The directory is to
/// be removed then.
pub fn unpack(
    from: OwnedFd,
    into: &Path,
    terms: &Terms,
    mut heard: impl FnMut(&Unpacked),
) -> Result<Unpacked> {
    let sum = Sum::default();
    let mut members = Members::new(opened(from, terms, &sum)?);
    let mut into = Into::open(into, terms.reserve)?;
    let mut done = Unpacked::default();
    while let Some(member) = members.next().context("reading the archive")? {
        let taking = || format!("{}", member.path.display());
        match &member.kind {
            Kind::Dir => into.dir(&member).with_context(taking)?,
            Kind::Link(to) => into.link(&member, to).with_context(taking)?,
            Kind::Same(other) => into.same(&member, other).with_context(taking)?,
            Kind::File => {
                done.bytes += into.file(&member, |piece| members.data(piece)).with_context(taking)?;
                done.files += 1;
            }
            Kind::Other(what) if done.left_out.len() < TOLD => {
                done.left_out.push(format!("{}, {what}", member.path.display()));
            }
            Kind::Other(_) => {}
        }
        members.skip_rest().with_context(taking)?;
        heard(&done);
    }
    members.drain().context("reading the archive to its end")?;
    done.implied = into.finish()?;
    done.sha256 = sum.text();
    Ok(done)
}

/// The tar in it, whatever it is compressed by; its first bytes tell.
fn opened(from: OwnedFd, terms: &Terms, sum: &Sum) -> Result<Box<dyn Read + Send>> {
    let mut source = Source::new(File::from(from), terms.clone(), sum.clone());
    let mut head = Vec::new();
    source.by_ref().take(BLOCK as u64).read_to_end(&mut head).context("reading the archive")?;
    ensure!(!head.is_empty(), "it is empty");
    let whole = std::io::Cursor::new(head.clone()).chain(source);
    Ok(match head.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(whole))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Box::new(zstd::Decoder::new(whole).context("opening the zstd stream")?)
        }
        [0xfd, b'7', b'z', b'X', b'Z', ..] => bail!(unknown("xz", "xz -dc")),
        [b'B', b'Z', b'h', ..] => bail!(unknown("bzip2", "bzip2 -dc")),
        [b'P', b'K', 3, 4, ..] => bail!("it is a zip archive; make a tar of its contents"),
        head if member::is_header(head) => Box::new(BufReader::new(whole)),
        _ => bail!("it is no tar, tar.gz or tar.zst, or it is damaged from its first byte on"),
    })
}

fn unknown(what: &str, program: &str) -> String {
    format!("it is compressed by {what}, which is not known here: `{program} FILE | holdfast import - …`")
}
