//! Output in bounded memory: lines, and the tail that goes into messages.

use super::{MAX_LINE, MAX_TAIL};

/// Cuts a stream into lines. A line longer than [`MAX_LINE`] is delivered truncated.
#[derive(Debug, Default)]
pub struct Lines {
    held: Vec<u8>,
}

impl Lines {
    /// Takes a piece of the stream, delivers the lines that it completes.
    pub fn feed(&mut self, mut piece: &[u8], mut deliver: impl FnMut(&[u8])) {
        while let Some(end) = piece.iter().position(|&b| b == b'\n') {
            self.hold(&piece[..end]);
            self.flush(&mut deliver);
            piece = &piece[end + 1..];
        }
        self.hold(piece);
    }

    /// Delivers a last line that has no newline.
    pub fn end(&mut self, mut deliver: impl FnMut(&[u8])) {
        if !self.held.is_empty() {
            self.flush(&mut deliver);
        }
    }

    fn hold(&mut self, piece: &[u8]) {
        let room = MAX_LINE.saturating_sub(self.held.len());
        self.held.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    fn flush(&mut self, deliver: &mut impl FnMut(&[u8])) {
        deliver(self.held.strip_suffix(b"\r").unwrap_or(&self.held));
        self.held.clear();
        self.held.shrink_to(64 << 10);
    }
}

/// The last [`MAX_TAIL`] bytes of a stream.
#[derive(Debug, Default)]
pub(super) struct Tail {
    held: Vec<u8>,
}

impl Tail {
    /// Takes a piece of the stream.
    pub(super) fn feed(&mut self, piece: &[u8]) {
        self.held.extend_from_slice(&piece[piece.len().saturating_sub(MAX_TAIL)..]);
        if self.held.len() > 2 * MAX_TAIL {
            self.cut();
        }
    }

    /// The tail as text fit for messages.
    pub(super) fn text(mut self) -> String {
        self.cut();
        printable(&self.held).trim().to_owned()
    }

    fn cut(&mut self) {
        let surplus = self.held.len().saturating_sub(MAX_TAIL);
        self.held.drain(..surplus);
    }
}

/// Bytes as text fit for terminals and logs: invalid UTF-8 replaced, control characters other than newline and tab
/// written as escapes.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for c in String::from_utf8_lossy(bytes).chars() {
        match c {
            '\n' | '\t' => text.push(c),
            c if c.is_control() => text.extend(c.escape_default()),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut lines, mut got) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.feed(piece, |line| got.push(line.to_vec()));
        }
        lines.end(|line| got.push(line.to_vec()));
        got
    }

    #[test]
    fn lines_are_cut_wherever_the_stream_is() {
        assert_eq!(cut(&[b"a\nb", b"c\n\nd\r\ne"]), [&b"a"[..], b"bc", b"", b"d", b"e"]);
        assert!(cut(&[b""]).is_empty());
    }

    #[test]
    fn a_line_of_ten_megabytes_is_truncated_and_the_next_one_is_whole() {
        let long = vec![b'x'; 10 << 20];
        let got = cut(&[&long[..], b"y\nnext\n"]);
        assert_eq!(got.iter().map(Vec::len).collect::<Vec<_>>(), [MAX_LINE, 4]);
    }

    #[test]
    fn the_tail_is_the_last_part_and_can_be_shown() {
        let mut tail = Tail::default();
        for n in 0..10_000 {
            tail.feed(format!("line {n}\n").as_bytes());
        }
        tail.feed(b"\x1b[31mred\xff\x07");
        let text = tail.text();
        assert!(text.len() < MAX_TAIL + 32, "{}", text.len());
        assert!(text.ends_with("line 9999\n\\u{1b}[31mred\u{fffd}\\u{7}"), "{text}");
    }
}
