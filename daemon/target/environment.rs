//! The file `state/environment`, read as NS8 itself reads it.
//!
//! One `NAME=value` a line. The value is everything after the first `=` to the end of the line: quotes, blanks, `#` and
//! backslashes are part of it and nothing is expanded. Blank lines and lines that begin with `#` are skipped, a carriage
//! return before the line break is dropped, the last line needs no line break, a later line wins. A line that is none of
//! this is skipped with a warning, as NS8 does. (systemd's `EnvironmentFile=` would strip quotes; a value that
//! begins with a quote is passed on as it stands.)

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::{Result, bail};

/// Variables of an instance in the order of the file, and what was wrong in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// Names and values; each name once.
    pub variables: Vec<(String, OsString)>,
    /// What was skipped and why, with line numbers; never a value.
    pub warnings: Vec<String>,
}

impl Environment {
    /// Reads the text of the file.
    ///
    /// # Errors
    /// A NUL byte: no environment can hold it, so the file is not what it seems.
    pub fn parse(text: &[u8]) -> Result<Self> {
        if let Some(at) = text.iter().position(|b| *b == 0) {
            let line = 1 + text[..at].iter().filter(|b| **b == b'\n').count();
            bail!("line {line} holds a NUL byte; write the file anew as NAME=value lines");
        }
        let mut read = Self::default();
        for (number, line) in text.split(|b| *b == b'\n').enumerate() {
            read.take(number + 1, line.strip_suffix(b"\r").unwrap_or(line));
        }
        Ok(read)
    }

    fn take(&mut self, number: usize, line: &[u8]) {
        if line.iter().all(u8::is_ascii_whitespace) || line.starts_with(b"#") {
            return;
        }
        let name_end = line.iter().position(|b| *b == b'=');
        let Some((name, value)) = name_end.map(|at| (&line[..at], &line[at + 1..])) else {
            self.warnings.push(format!("line {number} has no '=' and was skipped"));
            return;
        };
        let Some(name) = valid_name(name) else {
            self.warnings
                .push(format!("line {number} does not begin with a variable's name and was skipped"));
            return;
        };
        if kept_from_hooks(name) {
            self.warnings.push(format!("line {number} sets {name}, which is never passed on"));
            return;
        }
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), OsString::from_vec(value.to_vec())));
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_os_str())
    }

    /// `MODULE_UUID`, in lower case with hyphens, if it is one.
    pub fn module_uuid(&self) -> Option<uuid::Uuid> {
        let text = std::str::from_utf8(self.get("MODULE_UUID")?.as_bytes()).ok()?;
        uuid::Uuid::try_parse(text.trim()).ok()
    }
}

fn valid_name(name: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(name).ok()?;
    let first = name.chars().next()?;
    let fits = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !first.is_ascii_digit();
    fits.then_some(name)
}

/// Variables that change which code runs, or that speak to restic and to us.
fn kept_from_hooks(name: &str) -> bool {
    ["LD_", "RESTIC_", "HOLDFAST_"].iter().any(|prefix| name.starts_with(prefix))
        || ["BASH_ENV", "ENV", "GCONV_PATH", "GLIBC_TUNABLES"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Environment {
        Environment::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn values_are_taken_as_they_stand() {
        let read = parse("# c\n\nA=1\r\nB=\"q x\" # no comment\nC=a=b\nD=\n A=2\nE=last line");
        let shown: Vec<_> = read.variables.iter().map(|(n, v)| format!("{n}={}", v.display())).collect();
        assert_eq!(shown, ["A=1", "B=\"q x\" # no comment", "C=a=b", "D=", "E=last line"]);
        assert_eq!(read.warnings.len(), 1, "{:?}", read.warnings);
    }

    #[test]
    fn a_later_line_wins() {
        assert_eq!(parse("A=1\nA=2\n").variables, [("A".into(), "2".into())]);
    }

    #[test]
    fn what_changes_the_code_that_runs_is_dropped_with_its_line_and_without_its_value() {
        let read = parse("LD_PRELOAD=/tmp/secret.so\nRESTIC_PASSWORD=secret\nOK=1\nLD_LIBRARY_PATH=secret\n");
        assert_eq!(read.variables, [("OK".into(), "1".into())]);
        assert_eq!(read.warnings.len(), 3);
        assert!(read.warnings[1].contains("line 2") && read.warnings[1].contains("RESTIC_PASSWORD"));
        assert!(!read.warnings.concat().contains("secret"));
    }

    #[test]
    fn a_nul_byte_is_refused_with_its_line() {
        let error = Environment::parse(b"A=1\nB=\0\n").unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn bytes_that_are_not_utf8_reach_the_hook() {
        let read = Environment::parse(b"A=\xff\xfe\n\xff=1\n").unwrap();
        assert_eq!(read.get("A").unwrap().as_bytes(), b"\xff\xfe");
        assert_eq!(read.warnings.len(), 1);
    }

    #[test]
    fn the_modules_uuid_is_read_only_if_it_is_one() {
        let text = "f3b25a4c-2f3d-4b3e-9a55-000000000001";
        assert_eq!(parse(&format!("MODULE_UUID={text}\n")).module_uuid().unwrap().to_string(), text);
        assert_eq!(parse("MODULE_UUID=../../x\n").module_uuid(), None);
        assert_eq!(parse("").module_uuid(), None);
    }
}
