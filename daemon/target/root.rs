//! The roots of a tree: what restic does not keep of them, recorded and put back.
//!
//! Measured: behind a link restic 0.14 keeps owner, mode, times and ACLs of the directory that the link leads to, 0.18
//! and 0.19 lose its ACLs and other extended attributes, and none of them stores a root without children at all.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use rustix::fs::{Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::account::{group_name, user_name};
use super::walk::Dir;
use super::{Make, TreePath};

/// A root of the tree: where links lead to live data. restic stores its children, so what it is itself stands here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Root {
    /// `state`, `volumes/NAME` or `files`.
    pub path: TreePath,
    /// What it is.
    pub kind: RootKind,
    /// Whether all of it was included, not just paths inside it.
    pub whole: bool,
    /// Whether it had no children at all: then it leaves no trace in the snapshot but this.
    pub empty: bool,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The owner's name, if it had one there.
    #[serde(default)]
    pub user: Option<String>,
    /// The group's name, if it had one there.
    #[serde(default)]
    pub group: Option<String>,
    /// When its list of names last changed.
    pub mtime: Timestamp,
    /// ACLs and other extended attributes.
    #[serde(default)]
    pub xattrs: BTreeMap<String, Hex>,
    /// How a volume's engine is to make it: its labels, and its driver with its options where that is another one.
    #[serde(flatten)]
    pub make: Make,
}

/// What a root of the tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RootKind {
    /// The state directory.
    State,
    /// A volume.
    Volume,
    /// `/`.
    Files,
}

/// Bytes, in JSON as hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hex(pub Vec<u8>);

impl Root {
    /// The volume that it is, by the name that the tree gives it.
    pub fn volume(&self) -> Option<String> {
        let name = self.path.as_path().strip_prefix("volumes").ok()?;
        (self.kind == RootKind::Volume).then(|| name.to_string_lossy().into_owned())
    }

    /// What a directory has now, to be put on it again.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(path: &TreePath, kind: RootKind, dir: &Path) -> Result<Option<Self>> {
        let Some(dir) = super::walk::open(dir)? else { return Ok(None) };
        describe(path.as_path(), &dir, kind, Some(false)).map(Some)
    }

    /// Puts owner, mode, attributes and time on a directory that was restored in the root's place; after its children,
    /// for they change the time. Owner and `security.*`, `trusted.*` attributes only as root.
    ///
    /// # Errors
    /// The system's refusal, with what was being set.
    pub fn put_on(&self, dir: &Path) -> Result<()> {
        let setting = |what: &str| format!("setting {what} of {}", dir.display());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(dir, flags, Mode::empty())
            .with_context(|| format!("opening {}", dir.display()))?;
        let privileged = rustix::process::geteuid().is_root();
        if privileged {
            let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
            rustix::fs::fchown(&fd, Some(uid), Some(gid)).with_context(|| setting("the owner"))?;
        }
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(self.mode)).with_context(|| setting("the mode"))?;
        for (name, value) in &self.xattrs {
            if privileged || name.starts_with("user.") || name.starts_with("system.") {
                let set = rustix::fs::fsetxattr(&fd, name.as_str(), &value.0, XattrFlags::empty());
                set.with_context(|| setting(&format!("attribute {name}")))?;
            }
        }
        let mtime =
            Timespec { tv_sec: self.mtime.as_second(), tv_nsec: self.mtime.subsec_nanosecond().into() };
        let times = Timestamps { last_access: mtime, last_modification: mtime };
        rustix::fs::futimens(&fd, &times).with_context(|| setting("the time"))
    }
}

/// Describes a root. `empty` is known of roots that are included as a whole.
pub(super) fn describe(path: &Path, dir: &Dir, kind: RootKind, empty: Option<bool>) -> Result<Root> {
    let stat = dir.stat()?;
    let mtime = i32::try_from(stat.st_mtime_nsec).ok().and_then(|ns| Timestamp::new(stat.st_mtime, ns).ok());
    Ok(Root {
        path: TreePath(path.to_owned()),
        kind,
        whole: empty.is_some(),
        empty: empty.unwrap_or(false),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        user: user_name(stat.st_uid),
        group: group_name(stat.st_gid),
        mtime: mtime.unwrap_or(Timestamp::UNIX_EPOCH),
        xattrs: if empty.is_some() { attributes(&dir.readable()?, &dir.real)? } else { BTreeMap::new() },
        make: Make::default(),
    })
}

/// All extended attributes whose names are UTF-8 (others are not made by any known program).
fn attributes(fd: &OwnedFd, path: &Path) -> Result<BTreeMap<String, Hex>> {
    let reading = || format!("reading the attributes of {}", path.display());
    let mut names = vec![0u8; 64 << 10];
    let length = match rustix::fs::flistxattr(fd.as_fd(), &mut names) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(error) => return Err(error).with_context(reading),
    };
    let mut all = BTreeMap::new();
    for name in names[..length].split(|b| *b == 0).filter_map(|name| std::str::from_utf8(name).ok()) {
        if name.is_empty() {
            continue;
        }
        let mut value = vec![0u8; 64 << 10];
        match rustix::fs::fgetxattr(fd.as_fd(), name, &mut value) {
            Ok(length) => {
                value.truncate(length);
                all.insert(name.to_owned(), Hex(value));
            }
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) => {}
            Err(error) => return Err(error).with_context(reading),
        }
    }
    Ok(all)
}

/// Gives a directory the attributes of another one, ACLs among them.
///
/// # Errors
/// The system's refusal.
pub fn copy_attributes(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let privileged = rustix::process::geteuid().is_root();
    for (name, value) in attributes(from, Path::new("a directory"))? {
        if privileged || name.starts_with("user.") || name.starts_with("system.") {
            let set = rustix::fs::fsetxattr(to, name.as_str(), &value.0, XattrFlags::empty());
            set.with_context(|| format!("setting attribute {name}"))?;
        }
    }
    Ok(())
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.iter().map(|b| format!("{b:02x}")).collect::<String>())
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        from_hex(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

fn from_hex(text: &str) -> Result<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    match digits {
        Some(digits) if digits.len() % 2 == 0 => {
            Ok(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
        }
        _ => bail!("{text:?} is not hexadecimal"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_json_and_damage_is_refused() {
        let all = Hex((0..=255).collect());
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<Hex>(&text).unwrap(), all);
        for bad in ["\"0\"", "\"0g\"", "\"+1\"", "\"ää\"", "1"] {
            assert!(serde_json::from_str::<Hex>(bad).is_err(), "{bad}");
        }
    }
}
