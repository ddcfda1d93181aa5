//! `flock` files in `locks/`: what two processes must not do at once. The kernel releases them when a process dies.
//!
//! The files are never removed: a lock on a removed file would exclude nobody.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::durable;

/// The longest file name on Linux's file systems, in bytes.
const MAX_FILE_NAME: usize = 255;

/// Held by the one daemon of a state directory, as long as it lives.
#[derive(Debug)]
pub struct DaemonLock {
    _file: File,
}

impl DaemonLock {
    /// Takes the lock of the state directory `dir`, making the directory where needed.
    ///
    /// Where the lock's file cannot be made (read-only, disk full) the directory itself is locked, for backups must still run.
    ///
    /// # Errors
    /// Another daemon has it: the error names its process. Or there is no directory and none can be made.
    pub fn take(dir: &Path) -> Result<Self> {
        let path = dir.join("locks/daemon");
        let made = durable::create_dir(&dir.join("locks"), 0o700);
        let (mut file, owned) = match made.and_then(|()| Ok(open(&path)?)) {
            Ok(file) => (file, true),
            Err(e) => {
                let file = File::open(dir).with_context(|| format!("opening {}: {e:#}", dir.display()))?;
                tracing::warn!("{} is locked as a whole: {e:#}", dir.display());
                (file, false)
            }
        };
        if !try_lock(&file, Mode::Alone).with_context(|| format!("locking {}", path.display()))? {
            bail!(
                "{} already uses {}: stop it first, or give this one another --state",
                other(file),
                dir.display()
            );
        }
        if owned && let Err(e) = write_pid(&mut file) {
            tracing::debug!("writing the process id to {}: {e}", path.display());
        }
        Ok(Self { _file: file })
    }
}

/// Whether a lock may be held by several at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// With others that share it.
    Share,
    /// By one.
    Alone,
}

/// The file of a lock: `kind-key`, bytes that are unfit for a file name written as `%XX`.
///
/// # Errors
/// The key is too long.
pub fn file_name(kind: &str, key: &str) -> Result<PathBuf> {
    let mut name = format!("{kind}-");
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => name.push(byte.into()),
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    if name.len() > MAX_FILE_NAME {
        bail!("the name of a {kind} lock has {} bytes, {MAX_FILE_NAME} is the most", name.len());
    }
    Ok(name.into())
}

/// Opens a lock's file, making it (0600) where needed.
///
/// # Errors
/// The disk's.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Takes a lock if that is possible at once; it is released when all copies of `file` are closed.
///
/// # Errors
/// The kernel's.
pub fn try_lock(file: &File, mode: Mode) -> io::Result<bool> {
    let locked = match mode {
        Mode::Share => file.try_lock_shared(),
        Mode::Alone => file.try_lock(),
    };
    match locked {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn other(file: File) -> String {
    let mut text = String::new();
    match file.take(32).read_to_string(&mut text).ok().and_then(|_| text.trim().parse::<u32>().ok()) {
        Some(pid) => format!("another holdfastd (process {pid})"),
        None => "another holdfastd".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_refused_and_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let first = DaemonLock::take(dir.path()).unwrap();
        let error = format!("{:#}", DaemonLock::take(dir.path()).unwrap_err());
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        assert!(error.contains(dir.path().to_str().unwrap()), "{error}");
        drop(first);
        DaemonLock::take(dir.path()).unwrap();
    }

    #[test]
    fn a_lock_file_that_cannot_be_made_does_not_stop_the_daemon_but_a_second_one() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("locks"), "no directory").unwrap();
        let _first = DaemonLock::take(dir.path()).unwrap();
        assert!(DaemonLock::take(dir.path()).is_err());
    }

    #[test]
    fn any_key_is_a_file_name_of_its_own() {
        let name = |key: &str| file_name("repository", key).unwrap().into_os_string().into_string().unwrap();
        assert_eq!(name("3f9a2c"), "repository-3f9a2c");
        assert_eq!(name("../a/b c%"), "repository-..%2Fa%2Fb%20c%25");
        assert_ne!(name("a/b"), name("a%2Fb"));
        assert!(file_name("repository", &"/".repeat(100)).is_err());
    }
}
