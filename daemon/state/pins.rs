//! Sets that no retention may forget: a file for each below `pins/`, named by its snapshot. Files, so that they outlive a
//! database that is damaged.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::durable;

const DIR: &str = "pins";

/// Pins a snapshot by its full id, durably. The text is for people.
///
/// # Errors
/// The disk's, or it is no snapshot's id.
pub fn pin(state: &Path, snapshot: &str, text: &str) -> Result<()> {
    let hex = !snapshot.is_empty() && snapshot.bytes().all(|byte| byte.is_ascii_hexdigit());
    ensure!(hex, "{snapshot:?} is no snapshot's id");
    durable::create_dir(&state.join(DIR), 0o700)?;
    durable::write(&state.join(DIR).join(snapshot), 0o600, text.as_bytes())
}

/// Takes a pin back; nothing where there is none.
///
/// # Errors
/// The disk's; then it stands.
pub fn unpin(state: &Path, snapshot: &str) -> Result<()> {
    durable::remove(&state.join(DIR).join(snapshot))
}

/// The snapshots that are pinned.
///
/// # Errors
/// The directory cannot be read: then nobody knows, and nothing may be forgotten.
pub fn pinned(state: &Path) -> Result<BTreeSet<String>> {
    let dir = state.join(DIR);
    let entries = match std::fs::read_dir(&dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
        entries => entries.with_context(|| format!("reading {}", dir.display()))?,
    };
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.map(|e| e.file_name());
    let names = entries.map(name).collect::<std::io::Result<Vec<_>>>();
    let names = names.with_context(|| format!("reading {}", dir.display()))?;
    Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_stands_until_it_is_taken_back_and_is_no_path() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(pinned(dir.path()).unwrap(), BTreeSet::new());
        pin(dir.path(), "00ff", "shop").unwrap();
        pin(dir.path(), "00ff", "shop").unwrap();
        assert!(pin(dir.path(), "../x", "").is_err() && pin(dir.path(), "", "").is_err());
        assert_eq!(pinned(dir.path()).unwrap(), BTreeSet::from(["00ff".to_owned()]));
        unpin(dir.path(), "00ff").unwrap();
        unpin(dir.path(), "00ff").unwrap();
        assert_eq!(pinned(dir.path()).unwrap(), BTreeSet::new());
        std::fs::remove_dir(dir.path().join(DIR)).unwrap();
        std::fs::write(dir.path().join(DIR), "").unwrap();
        assert!(pinned(dir.path()).is_err(), "nobody knows");
    }
}
