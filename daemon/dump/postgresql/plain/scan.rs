//! Statements of an SQL text as psql tells them apart: quotes, comments, the data of COPY, psql's own commands.

use std::io::BufRead;

use anyhow::{Result, bail, ensure};

/// Takes what is found, in order.
pub(super) trait Taker {
    /// A statement with its `;`, without comments before it.
    fn statement(&mut self, text: &[u8]) -> Result<()>;
    /// A line of data of the COPY that was the last statement, also the one that ends it.
    fn data(&mut self, line: &[u8]) -> Result<()>;
    /// A command of psql's, without the backslash.
    fn command(&mut self, line: &str) -> Result<()>;
}

/// What a line ends within.
#[derive(Debug, Clone, PartialEq)]
enum Within {
    Nothing,
    /// `'`; with backslashes or without.
    Text(bool),
    /// `"`
    Name,
    /// `$tag$`
    Dollar(Vec<u8>),
    /// `/* */`, so deep.
    Comment(usize),
}

/// Reads to the end.
pub(super) fn scan(mut from: impl BufRead, taker: &mut impl Taker) -> Result<()> {
    let (mut line, mut number) = (Vec::new(), 0_u64);
    let (mut statement, mut within, mut copies) = (Vec::new(), Within::Nothing, false);
    loop {
        line.clear();
        if from.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        number += 1;
        if copies {
            taker.data(&line)?;
            copies = trimmed(&line) != b"\\.";
            continue;
        }
        if statement.is_empty() && within == Within::Nothing && line[0] == b'\\' {
            let Ok(text) = std::str::from_utf8(&line[1..]) else { bail!("line {number} is not UTF-8") };
            taker.command(text.trim()).map_err(|failure| failure.context(format!("line {number}")))?;
            continue;
        }
        let mut rest = &line[..];
        while let Some(end) = statement_end(rest, &mut within, &mut statement, number)? {
            taker.statement(&statement).map_err(|failure| failure.context(format!("line {number}")))?;
            copies = is_copy(&statement);
            statement.clear();
            rest = &rest[end..];
        }
    }
    ensure!(!copies && within == Within::Nothing, "it ends within a statement or the data of a table");
    ensure!(trimmed(&statement).is_empty(), "its last statement is not ended");
    Ok(())
}

fn trimmed(line: &[u8]) -> &[u8] {
    line.trim_ascii()
}

/// `COPY … FROM stdin;`: its data follows.
fn is_copy(statement: &[u8]) -> bool {
    let text = trimmed(statement);
    let end = &text[text.len().saturating_sub(32)..];
    let end = String::from_utf8_lossy(end).to_ascii_lowercase();
    text.len() > 5
        && text[..5].eq_ignore_ascii_case(b"COPY ")
        && end.trim_end_matches(';').trim_end().ends_with("from stdin")
}

/// Takes a line, or what is left of one, into the statement: to its `;` (answered is what follows it) or to the line's end.
fn statement_end(
    line: &[u8],
    within: &mut Within,
    statement: &mut Vec<u8>,
    number: u64,
) -> Result<Option<usize>> {
    let mut at = 0;
    while at < line.len() {
        let (byte, next) = (line[at], line.get(at + 1).copied());
        let mut taken = 1;
        match within {
            Within::Nothing => match byte {
                b'-' if next == Some(b'-') => {
                    if !statement.is_empty() {
                        statement.push(b'\n');
                    }
                    return Ok(None);
                }
                b'/' if next == Some(b'*') => (*within, taken) = (Within::Comment(1), 2),
                b'\\' => bail!("line {number} holds a command of psql's within a statement"),
                b'\'' => {
                    let escapes = statement.last().is_some_and(|last| matches!(last, b'E' | b'e'))
                        && !statement
                            .iter()
                            .rev()
                            .nth(1)
                            .is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
                    *within = Within::Text(escapes);
                }
                b'"' => *within = Within::Name,
                b'$' if !statement.last().is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_') => {
                    if let Some(tag) = tag(&line[at..]) {
                        taken = tag.len();
                        *within = Within::Dollar(tag.to_vec());
                    }
                }
                b';' => {
                    statement.push(b';');
                    return Ok(Some(at + 1));
                }
                _ => {}
            },
            Within::Text(escapes) => match byte {
                b'\\' if *escapes => taken = 2.min(line.len() - at),
                b'\'' => *within = Within::Nothing,
                _ => {}
            },
            Within::Name if byte == b'"' => *within = Within::Nothing,
            Within::Name => {}
            Within::Dollar(tag) => {
                if line[at..].starts_with(tag) {
                    taken = tag.len();
                    *within = Within::Nothing;
                }
            }
            Within::Comment(depth) => (*within, taken) = comment(*depth, byte, next),
        }
        let blank = statement.is_empty() && byte.is_ascii_whitespace();
        if !blank {
            statement.extend_from_slice(&line[at..at + taken]);
        }
        at += taken;
    }
    Ok(None)
}

/// A byte of a comment, or the two that begin or end one.
fn comment(depth: usize, byte: u8, next: Option<u8>) -> (Within, usize) {
    match (byte, next) {
        (b'*', Some(b'/')) if depth == 1 => (Within::Nothing, 2),
        (b'*', Some(b'/')) => (Within::Comment(depth - 1), 2),
        (b'/', Some(b'*')) => (Within::Comment(depth + 1), 2),
        _ => (Within::Comment(depth), 1),
    }
}

/// `$tag$` at the beginning of a text.
fn tag(text: &[u8]) -> Option<&[u8]> {
    let end = 1 + text[1..].iter().position(|b| *b == b'$')?;
    let plain = text[1..end].iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b >= 0x80);
    (plain && !text.get(1).is_some_and(u8::is_ascii_digit)).then(|| &text[..=end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(Vec<String>);

    impl Taker for Heard {
        fn statement(&mut self, text: &[u8]) -> Result<()> {
            self.0.push(format!("s {}", String::from_utf8_lossy(text)));
            Ok(())
        }
        fn data(&mut self, line: &[u8]) -> Result<()> {
            self.0.push(format!("d {}", String::from_utf8_lossy(line).trim_end()));
            Ok(())
        }
        fn command(&mut self, line: &str) -> Result<()> {
            self.0.push(format!("c {line}"));
            Ok(())
        }
    }

    fn heard(text: &str) -> Result<Vec<String>> {
        let mut heard = Heard::default();
        scan(text.as_bytes(), &mut heard)?;
        Ok(heard.0)
    }

    #[test]
    fn what_looks_like_a_command_in_quotes_or_in_data_is_none() {
        let text = "-- c;\n\\connect a\nSELECT 'x\n\\connect b\n';\nCOPY t (a) FROM stdin;\n\\connect c\n;\n\\.\n\
            CREATE FUNCTION f() AS $_$\n\\connect d\nselect ';'; $x$ $_$; SELECT E'\\';', \"\\\n;\";\n/* ; /* */\n\\x */ SELECT $1;\n";
        let found = heard(text).unwrap();
        let expected = [
            "c connect a",
            "s SELECT 'x\n\\connect b\n';",
            "s COPY t (a) FROM stdin;",
            "d \\connect c",
            "d ;",
            "d \\.",
            "s CREATE FUNCTION f() AS $_$\n\\connect d\nselect ';'; $x$ $_$;",
            "s SELECT E'\\';', \"\\\n;\";",
            "s /* ; /* */\n\\x */ SELECT $1;",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_text_that_is_cut_off_or_holds_a_command_elsewhere_is_refused() {
        for bad in ["SELECT 'x", "COPY t FROM stdin;\n1\n", "SELECT 1", "SELECT 1 \\gexec\n;", "SELECT $a$;"]
        {
            assert!(heard(bad).is_err(), "{bad:?} was taken");
        }
    }
}
