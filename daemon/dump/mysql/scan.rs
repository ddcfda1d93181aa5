//! Statements of an SQL text as the `mysql` client tells them apart: quotes, comments, delimiters.

use std::io::BufRead;

use anyhow::{Result, ensure};

/// The most that is kept of a statement's beginning: rows of data are not looked at.
const HEAD: usize = 64 << 10;

/// A statement of a text.
#[derive(Debug, Default)]
pub(super) struct Statement {
    /// Where it begins, in bytes; comments before it belong to it.
    pub(super) start: u64,
    /// Where it ends, behind its delimiter.
    pub(super) end: u64,
    /// How it begins, without comments; what only some servers execute (`/*!50003 … */`) is in it.
    pub(super) head: String,
    /// The names before a `.`, in it and in what its quotes do not hold: databases and tables that it speaks of.
    pub(super) qualifiers: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Within {
    Nothing,
    Quote(u8),
    Comment,
}

struct Scan {
    within: Within,
    delimiter: Vec<u8>,
    head: Vec<u8>,
    /// The name that was read last, if nothing but a `.` may follow it now.
    name: Vec<u8>,
    quoted: bool,
    qualifiers: Vec<String>,
    fresh: bool,
}

/// Reads to the end; each statement is handed over.
pub(super) fn scan(mut from: impl BufRead, mut take: impl FnMut(Statement) -> Result<()>) -> Result<()> {
    let mut scan = Scan {
        within: Within::Nothing,
        delimiter: b";".to_vec(),
        head: Vec::new(),
        name: Vec::new(),
        quoted: false,
        qualifiers: Vec::new(),
        fresh: true,
    };
    let (mut line, mut at, mut start) = (Vec::new(), 0_u64, 0_u64);
    loop {
        line.clear();
        if from.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if let Some(delimiter) = scan.new_delimiter(&line) {
            scan.delimiter = delimiter;
            at += line.len() as u64;
            continue;
        }
        let mut done = 0;
        while let Some(end) = scan.line(&line[done..]) {
            done += end;
            let end = at + done as u64;
            let head = String::from_utf8_lossy(&std::mem::take(&mut scan.head)).trim().to_owned();
            take(Statement { start, end, head, qualifiers: std::mem::take(&mut scan.qualifiers) })?;
            (start, scan.fresh) = (end, true);
        }
        at += line.len() as u64;
    }
    ensure!(scan.within == Within::Nothing && scan.fresh, "it ends within a statement");
    Ok(())
}

impl Scan {
    /// `DELIMITER ;;`, a command of the client's.
    fn new_delimiter(&self, line: &[u8]) -> Option<Vec<u8>> {
        let word = b"DELIMITER ";
        let is = self.fresh && line.len() > word.len() && line[..word.len()].eq_ignore_ascii_case(word);
        is.then(|| line[word.len()..].trim_ascii().to_vec()).filter(|delimiter| !delimiter.is_empty())
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.head.len() < HEAD {
            self.head.extend_from_slice(bytes);
        }
    }

    /// Takes a line, or what is left of one; where the statement ended in it.
    fn line(&mut self, line: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < line.len() {
            let rest = &line[at..];
            let taken = match self.within {
                Within::Quote(quote) => self.quote(rest, quote),
                Within::Comment => match rest.starts_with(b"*/") {
                    true => {
                        self.within = Within::Nothing;
                        2
                    }
                    false => 1,
                },
                Within::Nothing => {
                    if rest.starts_with(&self.delimiter) {
                        self.end_name(0);
                        return Some(at + self.delimiter.len());
                    }
                    let Some(taken) = self.plain(rest) else { break };
                    taken
                }
            };
            at += taken;
        }
        if self.within == Within::Nothing {
            self.end_name(0);
        }
        if !self.fresh {
            self.push(b"\n");
        }
        None
    }

    /// Outside of quotes and comments; none: the rest of the line is a comment.
    fn plain(&mut self, rest: &[u8]) -> Option<usize> {
        let byte = rest[0];
        let dashes = rest.starts_with(b"--") && rest.get(2).is_none_or(u8::is_ascii_whitespace);
        if byte == b'#' || dashes {
            return None;
        }
        // What only some servers execute is read as what they execute.
        let never = rest.starts_with(b"/*M!999999");
        let opens = [&b"/*!"[..], b"/*M!"].into_iter().find(|open| rest.starts_with(open) && !never);
        if let Some(open) = opens {
            let digits = rest[open.len()..].iter().take_while(|b| b.is_ascii_digit()).count();
            self.push(b" ");
            self.fresh = false;
            return Some(open.len() + digits);
        }
        if rest.starts_with(b"/*") {
            self.within = Within::Comment;
            return Some(2);
        }
        if rest.starts_with(b"*/") {
            return Some(2);
        }
        if self.fresh && byte.is_ascii_whitespace() {
            return Some(1);
        }
        self.fresh = false;
        match byte {
            b'\'' | b'"' | b'`' => {
                self.end_name(0);
                self.within = Within::Quote(byte);
                self.quoted = byte == b'`';
            }
            _ if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80 => {
                if self.quoted {
                    self.end_name(0);
                }
                self.name.push(byte);
            }
            // A name, perhaps spaces, and a point.
            b' ' if !self.name.is_empty() && rest.get(1) == Some(&b'.') => {}
            _ => self.end_name(byte),
        }
        self.push(&rest[..1]);
        Some(1)
    }

    fn quote(&mut self, rest: &[u8], quote: u8) -> usize {
        let taken = match rest[0] {
            b'\\' if quote != b'`' => 2.min(rest.len()),
            byte if byte == quote && rest.get(1) == Some(&quote) => {
                if quote == b'`' {
                    self.name.push(b'`');
                }
                2
            }
            byte if byte == quote => {
                self.within = Within::Nothing;
                1
            }
            byte => {
                if quote == b'`' {
                    self.name.push(byte);
                }
                1
            }
        };
        self.push(&rest[..taken]);
        taken
    }

    /// What follows a name says what it is.
    fn end_name(&mut self, follows: u8) {
        let name = std::mem::take(&mut self.name);
        self.quoted = false;
        if follows == b'.' && !name.is_empty() && self.qualifiers.len() < 10_000 {
            self.qualifiers.push(String::from_utf8_lossy(&name).into_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<Statement> {
        let mut all = Vec::new();
        scan(text.as_bytes(), |statement| {
            all.push(statement);
            Ok(())
        })
        .unwrap();
        all
    }

    #[test]
    fn statements_end_at_the_delimiter_and_nowhere_in_quotes_or_comments() {
        let text = "-- USE `x`;\n/*M!999999\\- sandbox */ \nUSE `a;``b`;\nINSERT INTO t VALUES ('\\';',\"a\nUSE x;\");\nDELIMITER ;;\n\
            /*!50003 CREATE*/ /*!50017 DEFINER=`r`@`h`*/ /*!50003 TRIGGER tr BEFORE INSERT ON t FOR EACH ROW BEGIN\nSELECT 1; -- ;;\nEND */;;\nDELIMITER ;\nSELECT 1;\n";
        let found = all(text);
        let heads: Vec<&str> = found.iter().map(|statement| statement.head.as_str()).collect();
        assert_eq!(heads.len(), 4, "{heads:?}");
        assert!(heads[0].ends_with("USE `a;``b`") && heads[1].starts_with("INSERT"), "{heads:?}");
        assert!(heads[2].starts_with("CREATE") && heads[2].contains("SELECT 1;"), "{heads:?}");
        assert_eq!(heads[3], "SELECT 1");
        assert_eq!(found[3].end as usize, text.len() - 1);
        assert!(scan("INSERT INTO t VALUES ('".as_bytes(), |_| Ok(())).is_err());
        assert!(scan("INSERT INTO t".as_bytes(), |_| Ok(())).is_err());
    }

    #[test]
    fn names_before_a_point_are_told_and_those_in_texts_are_not() {
        let found = all("select wiki.a, `wi ki` . b, c.d, 'x.y', \"z.w\", `e`.`f` from `shop`;");
        assert_eq!(found[0].qualifiers, ["wiki", "wi ki", "c", "e"]);
    }
}
