//! A directory as something that can be compared: every name with its kind, mode, owner, time and content.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Everything below a directory, the directory itself included as the empty path.
pub(crate) type Tree = BTreeMap<PathBuf, Entry>;

/// One file, directory or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    mode: u32,
    owner: (u32, u32),
    /// Nanoseconds since the epoch; a link's is not restored by every restic, so it is left out.
    mtime: Option<i128>,
    content: Vec<u8>,
}

impl Entry {
    /// The same without its time.
    pub(crate) fn timeless(self) -> Self {
        Self { mtime: None, ..self }
    }
}

/// Reads a tree.
pub(crate) fn read(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(relative) = todo.pop() {
        let path = if relative.as_os_str().is_empty() { root.to_owned() } else { root.join(&relative) };
        let meta = fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let content = match meta.file_type() {
            kind if kind.is_dir() => {
                todo.extend(fs::read_dir(&path).unwrap().map(|e| relative.join(e.unwrap().file_name())));
                Vec::new()
            }
            kind if kind.is_symlink() => fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec(),
            _ => fs::read(&path).unwrap(),
        };
        let mtime = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
        let mtime = (!meta.is_symlink()).then_some(mtime);
        tree.insert(relative, Entry { mode: meta.mode(), owner: (meta.uid(), meta.gid()), mtime, content });
    }
    tree
}

/// Fails with the names that differ, not with all bytes.
#[track_caller]
pub(crate) fn assert_same(before: &Tree, after: &Tree, what: &str) {
    let names: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let different: Vec<_> = names.into_iter().filter(|n| before.get(*n) != after.get(*n)).collect();
    let show = |tree: &Tree, name: &Path| {
        tree.get(name).map_or("nothing".to_owned(), |e| {
            format!("mode {:o}, owner {:?}, time {:?}, {} bytes", e.mode, e.owner, e.mtime, e.content.len())
        })
    };
    let lines: Vec<_> =
        different.iter().map(|n| format!("{:?}: {} became {}", n, show(before, n), show(after, n))).collect();
    assert!(lines.is_empty(), "{what}:\n{}", lines.join("\n"));
}

/// Writes a file with a mode and a time long ago, and the directories to it.
pub(crate) fn plant(root: &Path, name: &str, content: &[u8], mode: u32) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_500_000_000 + u64::from(mode), 123_456_789);
    fs::File::open(&path).unwrap().set_modified(time).unwrap();
}
