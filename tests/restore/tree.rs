//! Compares trees in everything that a file has.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// All that is below some directories, by path.
#[derive(PartialEq, Eq, Clone)]
pub(crate) struct Tree(BTreeMap<PathBuf, Thing>);

/// One thing, with all that it has.
#[derive(PartialEq, Eq, Clone)]
struct Thing {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    /// Seconds and nanoseconds; not of the directories that were named.
    mtime: (i64, i64),
    /// The content, where a link leads, or a device's number.
    content: Vec<u8>,
    /// The first path of the same inode.
    same_as: Option<PathBuf>,
    /// Whether it takes less room than its length.
    sparse: bool,
    attributes: BTreeMap<OsString, Vec<u8>>,
}

impl std::fmt::Debug for Thing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, mode, owner, mtime, content, same_as, sparse, attributes } = self;
        let text = String::from_utf8_lossy(&content[..content.len().min(40)]).into_owned();
        let length = content.len();
        write!(
            f,
            "{kind} {mode:o} {owner:?} {mtime:?} {length} bytes {text:?} {same_as:?} sparse={sparse} {attributes:?}"
        )
    }
}

impl Tree {
    pub(crate) fn of(dir: &Path) -> Self {
        Self::of_all([dir.to_owned()])
    }

    pub(crate) fn of_all(dirs: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut all = BTreeMap::new();
        let mut inodes = BTreeMap::new();
        for dir in dirs {
            let mut todo = vec![dir.clone()];
            while let Some(path) = todo.pop() {
                let Ok(meta) = path.symlink_metadata() else { continue };
                if meta.is_dir() {
                    let mut names: Vec<_> =
                        std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()).collect();
                    // What is kept of a restore is none of the data.
                    names.retain(|p| !p.file_name().unwrap().as_bytes().starts_with(b".holdfast-j"));
                    names.sort();
                    todo.extend(names.into_iter().rev());
                }
                let mut thing = thing(&path, &meta);
                if path == dir {
                    thing.mtime = (0, 0);
                }
                if !meta.is_dir() && meta.nlink() > 1 {
                    let first = inodes.entry((meta.dev(), meta.ino())).or_insert_with(|| path.clone());
                    thing.same_as = Some(first.clone());
                }
                all.insert(path, thing);
            }
        }
        Self(all)
    }

    /// What differs, in words.
    #[track_caller]
    pub(crate) fn assert_same(&self, other: &Self, what: &str) {
        let mut differences = Vec::new();
        let paths: std::collections::BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        for path in paths {
            let (a, b) = (self.0.get(path), other.0.get(path));
            if a != b {
                differences.push(format!("{path:?}:\n  {a:?}\n  {b:?}"));
            }
        }
        assert!(differences.is_empty(), "{what}:\n{}", differences.join("\n"));
    }

    /// The same without the paths that end or lie in this.
    pub(crate) fn without(&self, part: &str) -> Self {
        let part = format!("/{part}");
        Self(
            self.0
                .iter()
                .filter(|(path, _)| !path.to_string_lossy().contains(&part))
                .map(|(p, t)| (p.clone(), t.clone()))
                .collect(),
        )
    }

    /// The same, as if no file had holes.
    pub(crate) fn without_holes(mut self) -> Self {
        self.0.values_mut().for_each(|thing| thing.sparse = false);
        self
    }

    /// The same with another beginning of all paths.
    pub(crate) fn moved(&self, from: &Path, to: &Path) -> Self {
        let moved = |path: &Path| to.join(path.strip_prefix(from).unwrap());
        let things = self.0.iter().map(|(path, thing)| {
            let same_as = thing.same_as.as_deref().map(moved);
            (moved(path), Thing { same_as, ..thing.clone() })
        });
        Self(things.collect())
    }
}

fn thing(path: &Path, meta: &std::fs::Metadata) -> Thing {
    let kind = meta.file_type();
    let (kind, content) = match () {
        () if kind.is_file() => ("file", std::fs::read(path).unwrap()),
        () if kind.is_dir() => ("directory", Vec::new()),
        () if kind.is_symlink() => {
            ("link", std::fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec())
        }
        () if kind.is_fifo() => ("fifo", Vec::new()),
        () if kind.is_socket() => ("socket", Vec::new()),
        () => ("device", meta.rdev().to_le_bytes().to_vec()),
    };
    Thing {
        sparse: kind == "file" && meta.blocks() * 512 < meta.len() / 2,
        kind,
        mode: meta.mode(),
        owner: (meta.uid(), meta.gid()),
        mtime: (meta.mtime(), meta.mtime_nsec()),
        content,
        same_as: None,
        attributes: if kind == "link" { BTreeMap::new() } else { attributes(path) },
    }
}

fn attributes(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let mut names = vec![0; 1 << 16];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap_or(0);
    let names = names[..length].split(|b| *b == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 1 << 16];
        let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap_or(0);
        value.truncate(length);
        value
    };
    names.map(|name| (std::ffi::OsStr::from_bytes(name).to_owned(), value(name))).collect()
}

#[test]
fn the_comparison_sees_each_kind_of_difference() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path();
    let make = |name: &str| {
        let at = base.join(name);
        std::fs::create_dir_all(at.join("d")).unwrap();
        std::fs::write(at.join("d/f"), "x").unwrap();
        std::fs::hard_link(at.join("d/f"), at.join("d/g")).unwrap();
        let copy = std::process::Command::new("touch")
            .args(["-d", "2020-01-01"])
            .arg(at.join("d/f"))
            .arg(at.join("d"))
            .status();
        assert!(copy.unwrap().success());
        at
    };
    let one = make("one");
    let differs = |name: &str, change: &dyn Fn(&Path)| {
        let other = make(name);
        let fresh = Tree::of(&other).moved(&other, &one);
        assert!(fresh == Tree::of(&one), "{name}");
        change(&other);
        assert!(Tree::of(&other).moved(&other, &one) != Tree::of(&one), "{name} was not seen");
    };
    differs("content", &|at| {
        let times = std::fs::metadata(at.join("d/f")).unwrap().modified().unwrap();
        std::fs::write(at.join("d/f"), "y").unwrap();
        std::fs::File::options().write(true).open(at.join("d/f")).unwrap().set_modified(times).unwrap();
    });
    differs("time", &|at| {
        let file = std::fs::File::options().write(true).open(at.join("d/f")).unwrap();
        let before = file.metadata().unwrap().modified().unwrap();
        file.set_modified(before + std::time::Duration::from_nanos(1)).unwrap();
    });
    differs("mode", &|at| {
        std::fs::set_permissions(at.join("d/f"), std::os::unix::fs::PermissionsExt::from_mode(0o4755))
            .unwrap();
    });
    differs("hard link", &|at| {
        assert!(
            std::process::Command::new("cp")
                .arg("-p")
                .arg(at.join("d/g"))
                .arg(at.join("d/h"))
                .status()
                .unwrap()
                .success()
        );
        std::fs::rename(at.join("d/h"), at.join("d/g")).unwrap();
    });
    differs("attribute", &|at| {
        rustix::fs::setxattr(at.join("d/f"), "user.x", b"1", rustix::fs::XattrFlags::empty()).unwrap();
    });
}
