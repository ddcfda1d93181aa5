//! What is found out of a dump while it passes: its size, its SHA-256, how it begins and ends.

use anyhow::{Result, ensure};
use sha2::{Digest, Sha256};

use super::object::Looks;
use super::record::{HEAD, TAIL, check_head, check_text, hex};

/// A dump so far.
#[derive(Default)]
pub(super) struct Judge {
    head: Vec<u8>,
    tail: Vec<u8>,
    size: u64,
    hash: Sha256,
}

impl Judge {
    /// Takes the next piece.
    pub(super) fn feed(&mut self, piece: &[u8]) {
        self.hash.update(piece);
        self.size += piece.len() as u64;
        let wanted = HEAD.saturating_sub(self.head.len()).min(piece.len());
        self.head.extend_from_slice(&piece[..wanted]);
        let last = &piece[piece.len().saturating_sub(TAIL)..];
        let surplus = (self.tail.len() + last.len()).saturating_sub(TAIL);
        self.tail.drain(..surplus.min(self.tail.len()));
        self.tail.extend_from_slice(last);
    }

    /// Whether all of it came, as far as its bytes tell.
    pub(super) fn check(&self, looks: Looks) -> Result<()> {
        ensure!(self.size > 0, "the dump is empty");
        match looks {
            Looks::Any => Ok(()),
            Looks::Begins(magic) => check_head(&self.head, magic),
            Looks::Ends { begins, end } => check_text(&self.head, &self.tail, begins, end),
        }
    }

    /// Its size and SHA-256.
    pub(super) fn measured(self) -> (u64, String) {
        (self.size, hex(&self.hash.finalize()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOKS: Looks = Looks::Ends { begins: &["--"], end: "-- end" };

    fn judged(text: &[u8], step: usize) -> (Result<(), String>, u64, String) {
        let mut judge = Judge::default();
        text.chunks(step).for_each(|piece| judge.feed(piece));
        let verdict = judge.check(LOOKS).map_err(|failure| failure.to_string());
        let (size, digest) = judge.measured();
        (verdict, size, digest)
    }

    #[test]
    fn a_dump_is_judged_alike_however_it_was_cut_into_pieces() {
        let mut text = b"-- begin\n".to_vec();
        text.extend(vec![b'x'; 20_000]);
        text.extend(b"\n-- end\n");
        let whole = judged(&text, text.len());
        assert_eq!((&whole.0, whole.1), (&Ok(()), text.len() as u64));
        for step in [1, 7, 4095, 4096, 4097, 10_000] {
            assert_eq!(judged(&text, step), whole, "{step}");
            assert!(judged(&text[..text.len() - 3], step).0.unwrap_err().contains("cut off"), "{step}");
            assert!(judged(&text[1..], step).0.unwrap_err().contains("begin"), "{step}");
        }
        assert!(judged(b"", 1).0.unwrap_err().contains("empty"));
        text.extend(vec![b'x'; TAIL]);
        assert!(judged(&text, 64).0.is_err(), "an end marker far from the end is none");
    }
}
