//! The directory in which an instance's tree and dumps are staged: `<staging_dir>/<instance>`, 0700, with a marker file.
//!
//! The path is the same each time, so that snapshots of one instance look alike. What a dead run left is removed only if
//! it is ours: a directory of our own user with our marker (or nothing at all) in it. The marker goes last, so that a
//! removal that was interrupted can be finished.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::definition::Name;

const MARKER: &str = ".holdfast-staging";

/// A staging directory, empty but for its marker and `tree/`. The caller holds the instance's lock.
#[derive(Debug)]
pub struct Staging {
    dir: PathBuf,
    /// Whether a dead run had left something, which is gone now.
    pub cleared: bool,
}

impl Staging {
    /// Whether the directory may be made, and removed again: nothing is there, or what a dead run of ours left.
    ///
    /// # Errors
    /// Something there that is not ours: it is left as it is.
    pub fn check(staging_dir: &Path, instance: &Name) -> Result<()> {
        let dir = staging_dir.join(instance.as_str());
        match fs::symlink_metadata(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            _ => check_ours(&dir),
        }
    }

    /// Makes the directory, clearing what a dead run left there.
    ///
    /// # Errors
    /// Something there that is not ours: it is left as it is. No permission, no space.
    pub fn prepare(staging_dir: &Path, instance: &Name) -> Result<Self> {
        make(staging_dir, true)?;
        check_private(staging_dir)?;
        let real =
            fs::canonicalize(staging_dir).with_context(|| format!("resolving {}", staging_dir.display()))?;
        let dir = real.join(instance.as_str());
        let cleared = match fs::symlink_metadata(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error).with_context(|| format!("looking at {}", dir.display())),
            Ok(_) => clear(&dir)?,
        };
        make(&dir, false)?;
        let marker = dir.join(MARKER);
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&marker)
            .with_context(|| format!("creating {}", marker.display()))?;
        make(&dir.join("tree"), false)?;
        Ok(Self { dir, cleared })
    }

    /// Where the tree is laid and restic runs: real, absolute, empty at first.
    pub fn tree(&self) -> PathBuf {
        self.dir.join("tree")
    }

    /// A place beside the tree for lists and excludes, which must not be part of it.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Removes everything.
    ///
    /// # Errors
    /// What could not be removed; the next run tries again.
    pub fn remove(self) -> Result<()> {
        clear(&self.dir).map(drop)
    }
}

/// Removes what dead runs left of every instance; to be called at start, before any job. Answers with the names removed
/// and with what was left because it is not ours. What is `awaited` is removed by an undo step that is still to come, and
/// nothing is said of it.
///
/// # Errors
/// The staging directory cannot be read; that there is none yet is no error.
pub fn clear_all(staging_dir: &Path, awaited: &[PathBuf]) -> Result<(Vec<String>, Vec<String>)> {
    let (mut removed, mut left) = (Vec::new(), Vec::new());
    let entries = match fs::read_dir(staging_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((removed, left)),
        Err(error) => return Err(error).with_context(|| format!("reading {}", staging_dir.display())),
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("reading {}", staging_dir.display()))?;
        let shown = entry.file_name().to_string_lossy().into_owned();
        if awaited.contains(&entry.path()) {
            continue;
        }
        if Name::parse(&shown).is_err() {
            left.push(format!("{}: it does not carry an instance's name", entry.path().display()));
            continue;
        }
        match clear(&entry.path()) {
            Ok(_) => removed.push(shown),
            Err(error) => left.push(format!("{error:#}")),
        }
    }
    Ok((removed, left))
}

/// Removes a directory that is ours; whether there was more in it than the marker.
fn clear(dir: &Path) -> Result<bool> {
    let removing = || format!("removing {}", dir.display());
    check_ours(dir)?;
    let mut had_content = false;
    for entry in fs::read_dir(dir).with_context(removing)? {
        let entry = entry.with_context(removing)?;
        if entry.file_name() == MARKER {
            continue;
        }
        had_content = true;
        let gone = if entry.file_type().with_context(removing)?.is_dir() {
            fs::remove_dir_all(entry.path())
        } else {
            fs::remove_file(entry.path())
        };
        gone.with_context(removing)?;
    }
    match fs::remove_file(dir.join(MARKER)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(removing),
        _ => {}
    }
    fs::remove_dir(dir).with_context(removing)?;
    Ok(had_content)
}

fn check_ours(dir: &Path) -> Result<()> {
    let not_ours = |why: &str| {
        let path = dir.display();
        anyhow::anyhow!(
            "{path} is in the way and is not ours ({why}); it was left as it is: move it away or remove it"
        )
    };
    let own = rustix::process::geteuid().as_raw();
    let meta = fs::symlink_metadata(dir).with_context(|| format!("looking at {}", dir.display()))?;
    if !meta.is_dir() {
        return Err(not_ours("it is no directory"));
    }
    if meta.uid() != own {
        return Err(not_ours("it belongs to another user"));
    }
    match fs::symlink_metadata(dir.join(MARKER)) {
        Ok(marker) if marker.is_file() && marker.uid() == own => Ok(()),
        Ok(_) => Err(not_ours("its marker is not our file")),
        Err(_) if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none()) => Ok(()),
        Err(_) => Err(not_ours("it holds files but not our marker")),
    }
}

fn check_private(dir: &Path) -> Result<()> {
    let meta = fs::metadata(dir).with_context(|| format!("looking at {}", dir.display()))?;
    if meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
        bail!(
            "{} must belong to the daemon's user and be writable by nobody else; chown and chmod 0700 it",
            dir.display()
        );
    }
    Ok(())
}

fn make(dir: &Path, existing: bool) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(existing)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("creating directory {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn name() -> Name {
        Name::parse("wiki1").unwrap()
    }

    #[test]
    fn what_a_dead_run_left_is_cleared_and_links_in_it_are_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let precious = place.path().join("precious");
        fs::write(&precious, "x").unwrap();
        let base = place.path().join("deep/staging");
        let first = Staging::prepare(&base, &name()).unwrap();
        assert!(!first.cleared);
        symlink(place.path(), first.tree().join("files")).unwrap();
        fs::write(first.beside("exclude"), "x").unwrap();
        let second = Staging::prepare(&base, &name()).unwrap();
        assert!(second.cleared);
        assert_eq!(fs::read_dir(second.tree()).unwrap().count(), 0);
        second.remove().unwrap();
        assert_eq!(fs::read_dir(&base).unwrap().count(), 0);
        assert!(precious.exists());
    }

    #[test]
    fn directories_are_private() {
        let place = tempfile::tempdir().unwrap();
        let staging = Staging::prepare(&place.path().join("s"), &name()).unwrap();
        for dir in [place.path().join("s"), staging.tree(), staging.beside(".")] {
            assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700, "{}", dir.display());
        }
    }

    #[test]
    fn what_is_not_ours_is_left_alone_and_named() {
        let base = tempfile::tempdir().unwrap();
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let foreign = base.path().join("wiki1");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("mine"), "x").unwrap();
        let error = Staging::prepare(base.path(), &name()).unwrap_err().to_string();
        assert!(error.contains("wiki1") && error.contains("marker"), "{error}");
        symlink("/etc", base.path().join("link")).unwrap();
        fs::write(base.path().join("note to self"), "x").unwrap();
        let (removed, left) = clear_all(base.path(), &[]).unwrap();
        assert!(removed.is_empty() && left.len() == 3, "{removed:?} {left:?}");
        assert!(foreign.join("mine").exists());
    }

    #[test]
    fn a_removal_that_was_interrupted_is_finished_at_the_next_start() {
        let base = tempfile::tempdir().unwrap();
        let staging = Staging::prepare(&base.path().join("s"), &name()).unwrap();
        fs::remove_dir(staging.tree()).unwrap();
        fs::remove_file(staging.beside(MARKER)).unwrap();
        let (removed, left) = clear_all(&base.path().join("s"), &[]).unwrap();
        assert_eq!((removed, left.len()), (vec!["wiki1".to_owned()], 0));
    }

    #[test]
    fn a_staging_directory_that_others_can_write_is_refused() {
        let base = tempfile::tempdir().unwrap();
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Staging::prepare(base.path(), &name()).unwrap_err().to_string().contains("0700"));
    }
}
