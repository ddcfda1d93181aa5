//! Where restic is, which version, and what that version can.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Error;
use crate::process::{self, Limits, Program, Why};

/// The oldest restic that will do: Debian 12's.
pub const OLDEST: Version = Version { major: 0, minor: 14, patch: 0 };

/// How long `restic version` may take; measured: 12 to 29 ms.
const PROBE_TIME: Duration = Duration::from_secs(10);

/// A version of restic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// 0 so far.
    pub major: u32,
    /// What counts.
    pub minor: u32,
    /// Fixes.
    pub patch: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A restic that answered: the program and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restic {
    path: Arc<Path>,
    version: Version,
}

/// What a probed file was: a replaced program is another one.
type Identity = (PathBuf, u64, u64, i64, i64);

static PROBED: Mutex<Option<HashMap<Identity, Version>>> = Mutex::new(None);

impl Restic {
    /// Finds restic by absolute path or by name on PATH, and asks for its version, once per file.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotRestic`] when it does not answer within 10 s or not like restic,
    /// [`Error::TooOld`].
    pub async fn probe(name: &Path) -> Result<Self, Error> {
        let path = process::find(name)?;
        let identity = identity(&path)?;
        let known = PROBED
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .and_then(|m| m.get(&identity).copied());
        let version = match known {
            Some(version) => version,
            None => {
                let version = ask(&path).await?;
                let mut probed = PROBED.lock().unwrap_or_else(PoisonError::into_inner);
                probed.get_or_insert_default().insert(identity, version);
                version
            }
        };
        if version < OLDEST {
            return Err(Error::TooOld { found: version, needed: OLDEST });
        }
        Ok(Self { path: path.into(), version })
    }

    /// The program.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its version.
    pub const fn version(&self) -> Version {
        self.version
    }

    const fn since(&self, minor: u32) -> bool {
        self.version.major > 0 || self.version.minor >= minor
    }

    /// `backup --no-scan`: no second walk for an estimate (0.15).
    pub const fn has_no_scan(&self) -> bool {
        self.since(15)
    }

    /// `--retry-lock` (0.16).
    pub const fn has_retry_lock(&self) -> bool {
        self.since(16)
    }

    /// `backup --group-by` for the search of a parent (0.16).
    pub const fn has_group_by_on_backup(&self) -> bool {
        self.since(16)
    }

    /// `backup --stdin-from-command` (0.17).
    pub const fn has_stdin_from_command(&self) -> bool {
        self.since(17)
    }

    /// `backup --skip-if-unchanged` (0.17).
    pub const fn has_skip_if_unchanged(&self) -> bool {
        self.since(17)
    }

    /// Exit codes 10 (no repository) and 11 (locked), and 12 (wrong password) from 0.17.1 on.
    pub const fn typed_exit_codes(&self) -> bool {
        self.since(17)
    }

    /// `restore` counts what it restored, in JSON (0.17; before, we count).
    pub const fn restore_reports(&self) -> bool {
        self.since(17)
    }

    /// `restore --overwrite` and `--delete`: onto older data, of which only what differs is written (0.17).
    pub const fn restores_in_place(&self) -> bool {
        self.since(17)
    }

    /// `restore --sparse` (0.15).
    pub const fn has_sparse(&self) -> bool {
        self.since(15)
    }

    /// `restore` does not follow links that lie in the target (0.17).
    pub const fn restore_is_link_safe(&self) -> bool {
        self.since(17)
    }
}

fn identity(path: &Path) -> Result<Identity, Error> {
    let meta = std::fs::metadata(path).map_err(|_| Error::NotFound(path.into()))?;
    Ok((path.into(), meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec()))
}

async fn ask(path: &Path) -> Result<Version, Error> {
    let not_restic = |reason: String| Error::NotRestic { program: path.into(), reason };
    let argv: [OsString; 2] = [path.into(), "version".into()];
    let limits = Limits { grace: Duration::from_millis(500), ..Limits::within(PROBE_TIME) };
    let program = Program { limits, ..Program::new(argv) };
    let heard = process::capture(program, &CancellationToken::new(), 64 << 10).await?;
    if heard.ended.stopped == Some(Why::TimedOut) {
        return Err(not_restic(format!("no answer to `version` within {} s", PROBE_TIME.as_secs())));
    }
    let text = process::printable(&heard.stdout);
    let answer = text.lines().next().unwrap_or_default();
    parse(answer).filter(|_| heard.ended.ok()).ok_or_else(|| {
        let shown: String = answer.chars().take(100).collect();
        not_restic(format!("{:?}, answering `version` with {shown:?}", heard.ended.how))
    })
}

/// Reads `restic 0.14.0 compiled with …`, `restic 0.19.1-dev (compiled manually) …`.
fn parse(answer: &str) -> Option<Version> {
    let number = answer.strip_prefix("restic ")?.split([' ', '-', '+']).next()?;
    let mut parts = number.trim_start_matches('v').split('.').map(str::parse::<u32>);
    let (major, minor) = (parts.next()?.ok()?, parts.next()?.ok()?);
    Some(Version { major, minor, patch: parts.next().and_then(Result::ok).unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_ordered() {
        let read = |s| parse(s).map(|v| v.to_string());
        assert_eq!(read("restic 0.14.0 compiled with go1.19.8 on linux/amd64").as_deref(), Some("0.14.0"));
        assert_eq!(read("restic 0.19.1-dev (compiled manually) compiled with").as_deref(), Some("0.19.1"));
        assert_eq!(read("restic 1.0").as_deref(), Some("1.0.0"));
        for other in ["", "restic", "restic dev", "borg 1.2.3", "rustic 0.9.0"] {
            assert_eq!(read(other), None, "{other}");
        }
        assert!(parse("restic 0.9.6").unwrap() < OLDEST && parse("restic 1.0.0").unwrap() > OLDEST);
    }
}
