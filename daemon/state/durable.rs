//! Files that are wholly there or not at all, whenever the power goes, and never readable by others for a moment.
//!
//! All functions block for as long as the disk takes to sync.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

/// How the names of files begin that are not in place yet; [`sweep`] removes those of a dead process.
const PREFIX: &str = ".holdfast-";
/// From which age on they are those of a dead process.
const LEFT_AFTER: Duration = Duration::from_secs(3600);

/// Writes a file in one step: readers see the old content or the new one. `mode` is its mode under any umask.
///
/// # Errors
/// The disk's; then the old content stands as it was.
pub fn write(path: &Path, mode: u32, content: &[u8]) -> Result<()> {
    let write = || -> io::Result<()> {
        prepared(path, mode, content)?.persist(path)?;
        sync_dir(parent(path))
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// As [`write()`], but only where nothing has this name yet: `false` when something has.
///
/// # Errors
/// The disk's; then there is no file of this name, or a whole one.
pub fn write_new(path: &Path, mode: u32, content: &[u8]) -> Result<bool> {
    let write = || -> io::Result<bool> {
        match prepared(path, mode, content)?.persist_noclobber(path) {
            Ok(_) => sync_dir(parent(path)).map(|()| true),
            Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(e.error),
        }
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// Makes a directory and those above it, durably, with this mode under any umask. One that exists keeps its mode.
///
/// # Errors
/// The disk's; or something that is no directory has the name.
pub fn create_dir(path: &Path, mode: u32) -> Result<()> {
    let create = || -> io::Result<()> {
        match DirBuilder::new().mode(mode).create(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
            made => made?,
        }
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        sync_dir(parent(path))
    };
    if !parent(path).is_dir() {
        create_dir(parent(path), mode)?;
    }
    create().with_context(|| format!("making the directory {}", path.display()))
}

/// Opens a file for the daemon alone: 0600 under any umask, whatever its mode was. `options` say whether it may be made.
///
/// # Errors
/// The disk's.
pub fn open_private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o7777 != 0o600 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// Removes a file so that it stays removed. One that is not there is well removed.
///
/// # Errors
/// The disk's.
pub fn remove(path: &Path) -> Result<()> {
    let remove = || match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.and_then(|()| sync_dir(parent(path))),
    };
    remove().with_context(|| format!("removing {}", path.display()))
}

/// Makes the names in a directory durable.
///
/// # Errors
/// The disk's.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Has everything on the disk that was written to the file system of a directory; whoever wrote it. One call, whatever lies
/// in it: what was written long ago costs nothing, and files one by one would cost a flush of the disk each.
///
/// # Errors
/// The disk did not take something since it was last asked.
pub fn settle(dir: &Path) -> Result<()> {
    let settle = || Ok::<_, io::Error>(rustix::fs::syncfs(File::open(dir)?)?);
    settle().with_context(|| format!("writing what is in {} to the disk", dir.display()))
}

/// Removes what a process that was killed within [`write()`] left in a directory, when it is an hour old: somebody else may
/// be writing there.
///
/// # Errors
/// The disk's, except that a missing directory is clean.
pub fn sweep(dir: &Path) -> Result<()> {
    let sweep = || -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
            if ours && is_left(&entry.metadata()?) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    };
    match sweep() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        swept => swept.with_context(|| format!("clearing leftovers from {}", dir.display())),
    }
}

fn is_left(file: &Metadata) -> bool {
    let age = file.modified().ok().and_then(|modified| modified.elapsed().ok());
    file.is_file() && age.is_some_and(|age| age > LEFT_AFTER)
}

/// A file beside `path` with its final mode, content on the disk. It is empty and 0600 at most until the mode is set.
fn prepared(path: &Path, mode: u32, content: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix(PREFIX).tempfile_in(parent(path))?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_mode_and_replaces_the_old_one_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write(&path, 0o600, b"one").unwrap();
        write(&path, 0o640, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a leftover beside the file");
    }

    #[test]
    fn a_new_file_never_replaces_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        assert!(write_new(&path, 0o600, b"one").unwrap());
        assert!(!write_new(&path, 0o600, b"two").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a leftover beside the file");
    }

    #[test]
    fn leftovers_of_a_killed_process_are_swept_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let left = prepared(&dir.path().join("f"), 0o600, b"x").unwrap();
        let (file, left) = left.keep().unwrap();
        fs::write(dir.path().join("kept"), "x").unwrap();
        sweep(dir.path()).unwrap();
        assert!(left.exists(), "somebody may be writing it now");
        let long_ago = std::time::SystemTime::now() - 2 * LEFT_AFTER;
        file.set_modified(long_ago).unwrap();
        File::open(dir.path().join("kept")).unwrap().set_modified(long_ago).unwrap();
        sweep(dir.path()).unwrap();
        assert!(!left.exists() && dir.path().join("kept").exists());
        sweep(&dir.path().join("missing")).unwrap();
    }

    #[test]
    fn directories_are_made_with_their_mode_and_a_file_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        create_dir(&path, 0o700).unwrap();
        create_dir(&path, 0o755).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o700);
        fs::write(path.join("file"), "").unwrap();
        let error = format!("{:#}", create_dir(&path.join("file"), 0o700).unwrap_err());
        assert!(error.contains("b/file"), "{error}");
    }
}
