//! A child's environment as a file for systemd: what stands in a unit's properties, everybody can read.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file that is removed when it is no longer needed.
#[derive(Debug)]
pub(super) struct EnvironmentFile(PathBuf);

impl EnvironmentFile {
    /// Writes a new file that only we and systemd can read.
    pub(super) fn write(path: PathBuf, variables: &[(OsString, OsString)]) -> io::Result<Self> {
        let text = text(variables).map_err(|name| {
            let reason = format!(
                "environment variable {name:?} cannot be handed on by systemd: not UTF-8, or an odd name"
            );
            io::Error::new(io::ErrorKind::InvalidInput, reason)
        })?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let written = Self(path);
        file.write_all(text.as_bytes())?;
        Ok(written)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for EnvironmentFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// One quoted assignment for each variable, of several of one name the last. Fails with the name of one that systemd
/// would drop without a word (`systemd.exec(5)`, `EnvironmentFile=`).
fn text(variables: &[(OsString, OsString)]) -> Result<String, OsString> {
    let mut text = String::new();
    for (at, (name, value)) in variables.iter().enumerate() {
        if variables[at + 1..].iter().any(|(later, _)| later == name) {
            continue;
        }
        let known = name.to_str().filter(|n| valid(n)).zip(value.to_str()).ok_or_else(|| name.clone())?;
        text.push_str(known.0);
        text.push_str("=\"");
        for c in known.1.chars() {
            if "\"\\`$".contains(c) {
                text.push('\\');
            }
            text.push(c);
        }
        text.push_str("\"\n");
    }
    Ok(text)
}

fn valid(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    name.bytes().all(fits) && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(OsString, OsString)> {
        pairs.map(|(name, value)| (name.into(), value.into())).to_vec()
    }

    #[test]
    fn values_are_quoted_so_that_they_arrive_as_they_are() {
        let given = pairs([("A", "old"), ("B", "a \"b\" \\ $HOME `x`\nsecond # line"), ("A", "")]);
        assert_eq!(text(&given).unwrap(), "B=\"a \\\"b\\\" \\\\ \\$HOME \\`x\\`\nsecond # line\"\nA=\"\"\n");
    }

    #[test]
    fn what_systemd_would_drop_is_refused() {
        for bad in ["", "1A", "A B", "A-B", "ä"] {
            assert_eq!(text(&pairs([(bad, "x")])).unwrap_err(), bad);
        }
        let latin = [("A".into(), OsString::from_vec(vec![0xe4]))];
        assert_eq!(text(&latin).unwrap_err(), "A");
    }

    #[test]
    fn the_file_is_private_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let file = EnvironmentFile::write(path.clone(), &pairs([("A", "1")])).unwrap();
        assert_eq!(std::fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(EnvironmentFile::write(path.clone(), &[]).is_err(), "an existing file is never written");
        drop(file);
        assert!(!path.exists());
    }
}
