//! Files replaced in one step, with their final mode from the first moment.

use std::fs::{DirBuilder, File, Permissions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{FlockOperation, Gid, Mode, OFlags, Uid};

use crate::config::{Dirs, Environment, files};

/// Keeps other edits out until dropped. Makes the configuration directory if there is none.
pub(super) fn lock(dirs: &Dirs) -> Result<OwnedFd> {
    directory(&dirs.config, 0o755)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(&dirs.config, flags, Mode::empty());
    let handle = opened.with_context(|| format!("opening {}", dirs.config.display()))?;
    rustix::fs::flock(&handle, FlockOperation::LockExclusive)
        .context("locking the configuration directory")?;
    for directory in [dirs.config.clone(), dirs.fragments(), dirs.config.join("secrets")] {
        clear(&directory);
    }
    Ok(handle)
}

/// What files are called before they get their name: hidden, so that a left-over is not taken for a definition.
const UNFINISHED: &str = ".holdfast-";

/// Removes what an edit left that was killed; it may hold a secret. Under the lock nobody is writing.
fn clear(directory: &Path) {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(UNFINISHED)) {
        if let Err(error) = std::fs::remove_file(entry.path()) {
            tracing::warn!(file = %entry.path().display(), %error, "a left-over of an edit could not be removed");
        }
    }
}

fn directory(path: &Path, mode: u32) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.with_context(|| format!("making the directory {}", path.display()))
}

/// Replaces a definition file, or removes it when there is no text. Owner and mode stay; a new or `private` one is 0600.
pub(super) fn replace(dirs: &Dirs, path: &Path, text: Option<&str>, private: bool) -> Result<()> {
    directory(&dirs.fragments(), 0o755)?;
    match text {
        Some(text) => put(path, text.as_bytes(), private),
        None => {
            std::fs::remove_file(path).with_context(|| format!("removing {}", path.display()))?;
            sync_parent(path)
        }
    }
}

/// Writes a secret, 0600 in a 0700 directory. A different one of that name is set aside, not lost: data may need it.
pub(super) fn secret(dirs: &Dirs, env: &Environment, path: &Path, text: &str) -> Result<()> {
    let secrets = dirs.config.join("secrets");
    directory(&secrets, 0o700)?;
    files::trusted_directory(&secrets, env.uid).map_err(|diagnostic| anyhow!("{diagnostic}"))?;
    let known = path.symlink_metadata().is_ok();
    if known && std::fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(());
    }
    if known {
        set_aside(path)?;
    }
    put(path, text.as_bytes(), true)
}

/// Gives a file a second name `NAME.N`, the first that is free.
fn set_aside(path: &Path) -> Result<()> {
    for number in 1..1000 {
        let mut aside = path.as_os_str().to_owned();
        aside.push(format!(".{number}"));
        match std::fs::hard_link(path, &aside) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("setting {} aside", path.display())),
        }
    }
    bail!("{} was set aside too often; remove what is not needed", path.display())
}

fn put(path: &Path, text: &[u8], private: bool) -> Result<()> {
    let directory = path.parent().ok_or_else(|| anyhow!("{} has no directory", path.display()))?;
    let writing = || format!("writing {}; it was left as it was", path.display());
    // Made with mode 0600, whatever the umask.
    let mut file =
        tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(directory).with_context(writing)?;
    file.write_all(text).with_context(writing)?;
    if let Ok(old) = path.symlink_metadata()
        && old.is_file()
    {
        keep_owner(file.as_file(), &old).with_context(writing)?;
        let mode = if private { 0o600 } else { old.mode() & 0o7777 };
        file.as_file().set_permissions(Permissions::from_mode(mode)).with_context(writing)?;
    }
    file.as_file().sync_all().with_context(writing)?;
    file.persist(path).map_err(|error| error.error).with_context(writing)?;
    sync_parent(path)
}

fn keep_owner(file: &File, old: &std::fs::Metadata) -> std::io::Result<()> {
    let new = file.metadata()?;
    if (new.uid(), new.gid()) == (old.uid(), old.gid()) {
        return Ok(());
    }
    Ok(rustix::fs::fchown(file, Some(Uid::from_raw(old.uid())), Some(Gid::from_raw(old.gid())))?)
}

fn sync_parent(path: &Path) -> Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.with_context(|| format!("syncing {}", directory.display()))
}
