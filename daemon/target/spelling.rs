//! How a path stands in a line of text: in options, plans and messages. `\n`, `\t`, `\\` and `\xHH` are what they are in
//! many programs, and a star, question mark or bracket that is part of a name has a backslash before it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// What other programs take as a pattern.
const PATTERN: [char; 3] = ['*', '?', '['];

/// The path in a line, also where it is not UTF-8 or holds line breaks.
pub fn spelled(path: &Path) -> String {
    write(path.as_os_str(), |c| c == '\\' || PATTERN.contains(&c))
}

/// What somebody wrote as a path, in a line that can be carried everywhere; its backslashes mean what they meant.
pub fn carried(text: &OsStr) -> String {
    write(text, |_| false)
}

fn write(text: &OsStr, escaped: impl Fn(char) -> bool) -> String {
    let mut line = String::new();
    for chunk in text.as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => line.push_str("\\n"),
                '\t' => line.push_str("\\t"),
                c if c.is_control() => {
                    let mut bytes = [0; 4];
                    c.encode_utf8(&mut bytes).bytes().for_each(|byte| hex(&mut line, byte));
                }
                c => {
                    line.extend(escaped(c).then_some('\\'));
                    line.push(c);
                }
            }
        }
        chunk.invalid().iter().for_each(|byte| hex(&mut line, *byte));
    }
    line
}

fn hex(line: &mut String, byte: u8) {
    line.push_str(&format!("\\x{byte:02x}"));
}

/// The path that a line spells.
///
/// # Errors
/// A backslash before something that it does not go with, or a pattern.
pub fn unspelled(line: &str) -> Result<PathBuf> {
    let mut bytes = Vec::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if PATTERN.contains(&c) {
            bail!("patterns are not known here; write \\{c} where {c} is part of a name");
        }
        if c != '\\' {
            bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        match rest.next() {
            Some('n') => bytes.push(b'\n'),
            Some('t') => bytes.push(b'\t'),
            Some(c @ ('\\' | '*' | '?' | '[' | ']')) => bytes.push(u8::try_from(c)?),
            Some('x') => {
                let digits: String = rest.by_ref().take(2).collect();
                let good = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                let byte = u8::from_str_radix(&digits, 16).ok().filter(|_| good);
                bytes.push(byte.context("\\x needs two hexadecimal digits")?);
            }
            _ => bail!("write \\\\ for a backslash, \\n for a line break, \\xHH for any byte"),
        }
    }
    Ok(OsString::from_vec(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_read_as_it_was_spelled_and_stays_in_its_line() {
        let all: Vec<u8> = (1..=255).collect();
        for bytes in [&all[..], b"a\nb", b"\xff\xfe", b"star*?[]\\", "é\u{85}".as_bytes(), b"plain/path"] {
            let path = Path::new(OsStr::from_bytes(bytes));
            let line = spelled(path);
            assert!(!line.chars().any(char::is_control), "{line:?}");
            assert_eq!(unspelled(&line).unwrap(), path, "{line}");
        }
        assert_eq!(spelled(Path::new("plain/päth -x")), "plain/päth -x");
    }

    #[test]
    fn what_was_typed_is_carried_and_patterns_and_stray_backslashes_are_refused() {
        let typed = OsStr::from_bytes(b"state/\xff\n\\x41");
        assert_eq!(unspelled(&carried(typed)).unwrap().as_os_str().as_bytes(), b"state/\xff\nA");
        for bad in ["a*", "a?", "[a", "a\\", "a\\q", "\\x4", "\\xg0", "\\x+1"] {
            assert!(unspelled(bad).is_err(), "{bad:?}");
        }
    }
}
