//! How large the dumps of an instance were when last they were good: `dumps/UUID.json`, path in the tree to bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use uuid::Uuid;

use super::durable;

/// Sizes in bytes by the dumps' paths in the tree.
pub type Sizes = BTreeMap<String, u64>;

fn path(dir: &Path, instance: Uuid) -> PathBuf {
    dir.join("dumps").join(format!("{instance}.json"))
}

/// The last good sizes; none are known where the file is missing or damaged, for they only serve comparison. Blocking.
///
/// # Errors
/// The file is there and cannot be read.
pub fn read_sizes(dir: &Path, instance: Uuid) -> Result<Sizes> {
    let path = path(dir, instance);
    match std::fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Sizes::new()),
        Err(e) => Err(e).with_context(|| format!("reading {}", path.display())),
        Ok(text) => Ok(serde_json::from_slice(&text).unwrap_or_default()),
    }
}

/// Remembers the sizes of dumps that stand in a committed set. Blocking.
///
/// # Errors
/// The disk's.
pub fn write_sizes(dir: &Path, instance: Uuid, sizes: &Sizes) -> Result<()> {
    let path = path(dir, instance);
    durable::create_dir(&dir.join("dumps"), 0o700)?;
    durable::write(&path, 0o600, &serde_json::to_vec_pretty(sizes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_remembered_and_a_damaged_file_only_means_that_none_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let instance = Uuid::new_v4();
        assert!(read_sizes(dir.path(), instance).unwrap().is_empty());
        let sizes = Sizes::from([("dumps/a/b.dump".to_owned(), 7)]);
        write_sizes(dir.path(), instance, &sizes).unwrap();
        assert_eq!(read_sizes(dir.path(), instance).unwrap(), sizes);
        std::fs::write(path(dir.path(), instance), "{").unwrap();
        assert!(read_sizes(dir.path(), instance).unwrap().is_empty());
    }
}
