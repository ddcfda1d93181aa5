//! `flock` files in `locks/`: what two processes must not do at once. The kernel releases them when a process dies.
//!
//! The files are never removed: a lock on a removed file would exclude nobody.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::durable;

/// The longest file name on Linux's file systems, in bytes.
const MAX_FILE_NAME: usize = 255;

/// Held by the one daemon of a state directory, as long as it lives.
#[derive(Debug)]
pub struct DaemonLock {
    _file: LockFile,
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
        let file = match made.and_then(|()| Ok(LockFile::open(&path)?)) {
            Ok(file) => file,
            Err(e) => {
                let file = File::open(dir).with_context(|| format!("opening {}: {e:#}", dir.display()))?;
                tracing::warn!("{} is locked as a whole: {e:#}", dir.display());
                LockFile(file)
            }
        };
        if !file.try_lock_soon().with_context(|| format!("locking {}", path.display()))? {
            bail!(
                "{} already uses {}: stop it first, or give this one another --state",
                other(&file),
                dir.display()
            );
        }
        // Only for the error above, where the kernel does not tell (another pid namespace).
        if let Err(e) = write_pid(&file.0) {
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

/// A lock's file. Dropped, the lock is released, even while a child that was just forked still has a copy of it.
#[derive(Debug)]
pub struct LockFile(File);

impl LockFile {
    /// Opens the file, making it (0600) where needed.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        durable::open_private(options.read(true).write(true).create(true), path).map(Self)
    }

    /// Takes the lock alone, if that is possible within a second: a child that a killed process had just forked keeps a copy
    /// of its files until it is gone as well. Blocks.
    fn try_lock_soon(&self) -> io::Result<bool> {
        for _ in 0..20 {
            if self.try_lock(Mode::Alone)? {
                return Ok(true);
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        self.try_lock(Mode::Alone)
    }

    /// Takes the lock if that is possible at once.
    ///
    /// # Errors
    /// The kernel's.
    pub fn try_lock(&self, mode: Mode) -> io::Result<bool> {
        let locked = match mode {
            Mode::Share => self.0.try_lock_shared(),
            Mode::Alone => self.0.try_lock(),
        };
        match locked {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }

    /// The processes that hold the lock, as far as the kernel shows them.
    pub fn holders(&self) -> Vec<u32> {
        let (Ok(locks), Ok(of)) = (std::fs::read_to_string("/proc/locks"), self.0.metadata()) else {
            return Vec::new();
        };
        // `1: FLOCK  ADVISORY  WRITE 4711 fe:00:917 0 EOF`; a line with `->` waits. Some file systems show another device.
        let inode = format!(":{}", of.ino());
        let holder = |line: &str| {
            let mut words = line.split_whitespace().skip(1);
            let flock = words.next() == Some("FLOCK");
            let pid = words.nth(2).and_then(|pid| pid.parse().ok()).filter(|pid| *pid > 0);
            let same = words.next().is_some_and(|file| file.ends_with(&inode));
            pid.filter(|_| flock && same)
        };
        locks.lines().filter_map(holder).collect()
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // Closing releases it as well, only later where a copy is open.
        let _ = self.0.unlock();
    }
}

fn write_pid(file: &File) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)
}

fn other(file: &LockFile) -> String {
    let mut text = [0; 16];
    let written = || {
        let read = file.0.read_at(&mut text, 0).ok()?;
        std::str::from_utf8(&text[..read]).ok()?.trim().parse().ok()
    };
    match file.holders().first().copied().or_else(written) {
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
