//! `dump` of a whole snapshot as one tar stream, counted while it passes.

use std::io;

use super::call::Call;
use super::forget::check_id;
use super::{Access, Error, Restic, Terms};
use crate::process::Sign;

/// The unit of a tar stream, in bytes.
const BLOCK: usize = 512;

/// What passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// Entries: files, directories, links and the like.
    pub entries: u64,
    /// Bytes of the stream.
    pub bytes: u64,
}

impl Restic {
    /// Hands the whole tree of a snapshot to `sink`, as a tar stream. Takes no lock. Never tried again: what was handed
    /// over cannot be taken back.
    ///
    /// # Errors
    /// As any call; [`Error::File`] with what the sink refused; [`Error::Damaged`] when the stream is no whole archive. What
    /// was handed over is worth nothing then.
    pub async fn archive(
        &self,
        access: &Access,
        snapshot: &str,
        terms: &Terms,
        mut sink: impl FnMut(&[u8]) -> io::Result<()> + Send,
    ) -> Result<Passed, Error> {
        check_id(snapshot)?;
        // A cache that is full would mean another try.
        let mut call = Call::unlocked(["dump", "--archive", "tar", snapshot, "/"]);
        call.no_cache = true;
        let (mut walk, mut refused) = (Walk::default(), None);
        let mut hear = |piece: &[u8]| {
            walk.feed(piece);
            match sink(piece) {
                Ok(()) => Sign::Life,
                Err(failure) => {
                    refused.get_or_insert(failure);
                    Sign::Stop
                }
            }
        };
        let done = self.attempt(access, terms, &call, &mut hear).await;
        if let Some(source) = refused {
            return Err(Error::File { what: "writing the archive".into(), source });
        }
        done?;
        walk.end().ok_or_else(|| Error::Damaged("restic ended well, but its archive is not whole".into()))
    }
}

/// Follows a tar stream from header to header.
#[derive(Default)]
struct Walk {
    passed: Passed,
    /// Bytes of content that follow, padding included.
    skip: u64,
    header: Vec<u8>,
    /// Blocks of zeros; two end the archive.
    zeros: u32,
    broken: bool,
}

impl Walk {
    fn feed(&mut self, mut piece: &[u8]) {
        self.passed.bytes += piece.len() as u64;
        while !piece.is_empty() {
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(piece.len());
            self.skip -= skipped as u64;
            piece = &piece[skipped..];
            let wanted = (BLOCK - self.header.len()).min(piece.len());
            self.header.extend_from_slice(&piece[..wanted]);
            piece = &piece[wanted..];
            if self.header.len() == BLOCK {
                self.block();
                self.header.clear();
            }
        }
    }

    fn block(&mut self) {
        if self.header.iter().all(|byte| *byte == 0) {
            self.zeros += 1;
            return;
        }
        self.broken |= self.zeros > 0;
        let Some(size) = size(&self.header[124..136]) else {
            self.broken = true;
            return;
        };
        // Extended headers belong to the entry that follows; links and directories have no content.
        let kind = self.header[156];
        if !matches!(kind, b'x' | b'g' | b'L' | b'K') {
            self.passed.entries += 1;
        }
        let block = BLOCK as u64;
        self.skip = if matches!(kind, b'1'..=b'6') { 0 } else { size.div_ceil(block) * block };
    }

    fn end(self) -> Option<Passed> {
        (!self.broken && self.zeros >= 2 && self.skip == 0 && self.header.is_empty()).then_some(self.passed)
    }
}

/// A number in a header: octal digits, or binary with the first bit set.
fn size(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        return Some(field[4..].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
    }
    let digits = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: u8, size: &str) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        block[0] = b'n';
        block[124..124 + size.len()].copy_from_slice(size.as_bytes());
        block[156] = kind;
        block
    }

    fn walked(stream: &[u8], step: usize) -> Option<Passed> {
        let mut walk = Walk::default();
        stream.chunks(step).for_each(|piece| walk.feed(piece));
        walk.end()
    }

    #[test]
    fn entries_are_counted_however_the_stream_is_cut_and_a_part_of_it_is_no_archive() {
        let mut stream =
            [header(b'x', "00000000003\0"), vec![1; BLOCK], header(b'0', "00000001001\0")].concat();
        stream.extend([vec![7; 2 * BLOCK], header(b'5', "0"), header(b'2', "00000000777\0")].concat());
        stream.extend(vec![0; 2 * BLOCK]);
        for step in [1, 7, 512, 513, 10_000] {
            let passed = walked(&stream, step).unwrap();
            assert_eq!((passed.entries, passed.bytes), (3, stream.len() as u64), "{step}");
        }
        for end in [stream.len() - 1, stream.len() - BLOCK, 3 * BLOCK + 5, 0] {
            assert_eq!(walked(&stream[..end], 512), None, "{end}");
        }
        stream[124] = b'9';
        assert_eq!(walked(&stream, 512), None);
    }
}
