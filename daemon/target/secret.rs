//! Files with secrets that users name in definitions.

use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// No password is longer, in bytes.
pub const MAX_SECRET: usize = 64 * 1024;

/// Reads a secret file without following a link at its end and without waiting on a FIFO. Blocking.
///
/// # Errors
/// It is not there, is no regular file, is empty, or everybody can read it.
pub fn read_secret(path: &Path) -> Result<String> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).context("open flags")?;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = file.with_context(|| format!("opening {}", path.display()))?;
    let meta = file.metadata()?;
    ensure!(meta.is_file(), "{} is not a regular file", path.display());
    ensure!(
        meta.mode() & 0o007 == 0,
        "{} can be read by everybody; `chmod 600` it, and change the secret if others had access",
        path.display()
    );
    let mut text = String::new();
    let limit = MAX_SECRET as u64;
    file.take(limit).read_to_string(&mut text).with_context(|| format!("reading {}", path.display()))?;
    ensure!(!text.trim().is_empty(), "{} is empty", path.display());
    Ok(text)
}
