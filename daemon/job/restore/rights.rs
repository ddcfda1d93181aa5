//! Whose restored files are, and what they may do: settled on what was fetched, before anybody can see it.

mod acl;

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::{Request, Work};
use crate::definition::Owners;
use crate::target::{Manifest, RootKind, group_number, spelled, user_number};

/// What was said of owners, set-uid bits and device files; none: as the instance's definition says.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rights {
    /// Whose the files are.
    pub owners: Option<Owners>,
    /// Whether set-user-id and set-group-id bits of files come back.
    pub setuid: Option<bool>,
    /// Whether device files come back.
    pub devices: Option<bool>,
}

impl Request {
    /// Whether owners are found by their names.
    fn by_name(&self) -> bool {
        // Names of another machine say nothing about this one, and its numbers are its own.
        self.instance.remote.is_none()
            && self.rights.owners.unwrap_or(self.instance.restore.owners) == Owners::Name
    }

    pub(super) fn setuid(&self) -> bool {
        self.rights.setuid.unwrap_or(self.instance.restore.setuid)
    }

    pub(super) fn devices(&self) -> bool {
        self.rights.devices.unwrap_or(self.instance.restore.devices)
    }
}

/// How many paths a warning names.
const NAMED: usize = 3;
/// The attribute that holds a program's capabilities; the kernel removes it with each change of the owner.
const CAPABILITY: &str = "security.capability";
const SET_ID: u32 = 0o6000;

/// Gives what was fetched the owners that it is to have here, and takes off what nobody asked for. Returns warnings.
pub(super) async fn settle(work: &Work, staging: &Path, manifest: &mut Manifest) -> Result<Vec<String>> {
    let request = &work.request;
    let privileged = rustix::process::geteuid().is_root();
    let numbers = Numbers::of(manifest, request.by_name() && privileged);
    let (setuid, devices) = (request.setuid(), request.devices());
    let settling = Settling { staging: staging.to_owned(), setuid, devices, numbers, told: Told::default() };
    let (cancel, mut owned) = (work.live.cancelled().clone(), manifest.clone());
    let settled = tokio::task::spawn_blocking(move || {
        let mut settling = settling;
        settling.roots(&mut owned);
        settling.tree(&cancel)?;
        anyhow::Ok((owned, settling.told.warnings(&settling.numbers)))
    });
    let (owned, warnings) = settled.await?.context("settling owners and rights of what was fetched")?;
    *manifest = owned;
    Ok(warnings)
}

/// What the saved numbers are here.
struct Numbers {
    wanted: bool,
    users: Names,
    groups: Names,
}

/// The names of one kind, and what was found for their numbers so far.
struct Names {
    saved: BTreeMap<u32, String>,
    find: fn(&str) -> Option<u32>,
    found: BTreeMap<u32, u32>,
    missing: BTreeMap<u32, String>,
}

impl Names {
    fn new(saved: BTreeMap<u32, String>, find: fn(&str) -> Option<u32>) -> Self {
        Self { saved, find, found: BTreeMap::new(), missing: BTreeMap::new() }
    }

    /// The number here of whoever has that number there; the same where nobody has that name here.
    fn here(&mut self, there: u32) -> u32 {
        if let Some(known) = self.found.get(&there) {
            return *known;
        }
        let name = self.saved.get(&there);
        let here = name.map(|name| (self.find)(name).ok_or(name));
        if let Some(Err(name)) = here {
            self.missing.insert(there, name.clone());
        }
        let here = here.and_then(Result::ok).unwrap_or(there);
        self.found.insert(there, here);
        here
    }
}

impl Numbers {
    fn of(manifest: &Manifest, wanted: bool) -> Self {
        let (mut users, mut groups) = (manifest.users.clone(), manifest.groups.clone());
        // Sets of older releases name those of their roots at least.
        for root in &manifest.roots {
            users.extend(root.user.clone().map(|name| (root.uid, name)));
            groups.extend(root.group.clone().map(|name| (root.gid, name)));
        }
        Self { wanted, users: Names::new(users, user_number), groups: Names::new(groups, group_number) }
    }
}

impl Numbers {
    /// An access control list with the numbers that its names have here; none: it stays.
    fn in_list(&mut self, value: &[u8]) -> Option<Vec<u8>> {
        let Self { users, groups, .. } = self;
        acl::mapped(value, |id| users.here(id), |id| groups.here(id))
    }
}

#[derive(Default)]
struct Told {
    stripped: Vec<PathBuf>,
    removed: Vec<PathBuf>,
}

struct Settling {
    staging: PathBuf,
    setuid: bool,
    devices: bool,
    numbers: Numbers,
    told: Told,
}

impl Settling {
    /// Roots are not among what restic brings.
    fn roots(&mut self, manifest: &mut Manifest) {
        let named = manifest.roots.iter_mut().filter(|root| root.kind == RootKind::State);
        let wanted = self.numbers.wanted;
        for root in named.filter(|_| wanted) {
            root.uid = self.numbers.users.here(root.uid);
            root.gid = self.numbers.groups.here(root.gid);
            for name in acl::NAMES {
                let Some(value) = root.xattrs.get_mut(name) else { continue };
                if let Some(new) = self.numbers.in_list(&value.0) {
                    value.0 = new;
                }
            }
        }
    }

    fn tree(&mut self, cancel: &CancellationToken) -> Result<()> {
        let mut todo = vec![PathBuf::new()];
        while let Some(dir) = todo.pop() {
            anyhow::ensure!(!cancel.is_cancelled(), crate::restic::Error::Cancelled);
            let at = self.staging.join(&dir);
            let entries = std::fs::read_dir(&at).with_context(|| spelled(&dir))?;
            for entry in entries {
                let entry = entry?;
                let path = dir.join(entry.file_name());
                if self.one(&path, &entry.metadata()?).with_context(|| spelled(&path))? {
                    todo.push(path);
                }
            }
        }
        Ok(())
    }

    /// Whether it is a directory.
    fn one(&mut self, path: &Path, meta: &std::fs::Metadata) -> Result<bool> {
        let (at, kind) = (self.staging.join(path), meta.file_type());
        if (kind.is_block_device() || kind.is_char_device()) && !self.devices {
            self.told.removed.push(path.to_owned());
            remove(&at)?;
            return Ok(false);
        }
        let mut mode = meta.mode() & 0o7777;
        let takes_off = kind.is_file() && mode & SET_ID != 0 && !self.setuid;
        if takes_off {
            self.told.stripped.push(path.to_owned());
            mode &= !SET_ID;
        }
        let names = self.numbers.wanted && !path.starts_with("volumes");
        let moved = names && self.own(&at, meta)?;
        if names && !kind.is_symlink() {
            self.lists(&at)?;
        }
        if takes_off || (moved && !kind.is_symlink()) {
            std::fs::set_permissions(&at, std::fs::Permissions::from_mode(mode))?;
        }
        Ok(kind.is_dir())
    }

    /// Whom its access control lists name.
    fn lists(&mut self, at: &Path) -> Result<()> {
        for name in acl::NAMES {
            let Some(value) = attribute(at, name)? else { continue };
            if let Some(new) = self.numbers.in_list(&value) {
                rustix::fs::lsetxattr(at, name, &new, XattrFlags::empty())
                    .with_context(|| name.to_owned())?;
            }
        }
        Ok(())
    }

    /// Gives it to its owner here; whether that is another number.
    fn own(&mut self, at: &Path, meta: &std::fs::Metadata) -> Result<bool> {
        let (uid, gid) = (self.numbers.users.here(meta.uid()), self.numbers.groups.here(meta.gid()));
        if (uid, gid) == (meta.uid(), meta.gid()) {
            return Ok(false);
        }
        let capability = if meta.is_file() { attribute(at, CAPABILITY)? } else { None };
        lchown(at, Some(uid), Some(gid))?;
        if let Some(value) = capability {
            rustix::fs::lsetxattr(at, CAPABILITY, &value, XattrFlags::empty())?;
        }
        Ok(true)
    }
}

fn attribute(at: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    // A list of access rights may be as long as the kernel allows for attributes.
    let mut value = vec![0_u8; 1024];
    let mut read = rustix::fs::lgetxattr(at, name, &mut value);
    if read == Err(Errno::RANGE) {
        value = vec![0_u8; 64 << 10];
        read = rustix::fs::lgetxattr(at, name, &mut value);
    }
    match read {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(other) => Err(other.into()),
    }
}

/// Removes a file; its directory keeps its time.
fn remove(at: &Path) -> Result<()> {
    let dir = std::fs::File::open(at.parent().context("no parent directory")?)?;
    let before = dir.metadata()?;
    std::fs::remove_file(at)?;
    let times = std::fs::FileTimes::new().set_accessed(before.accessed()?).set_modified(before.modified()?);
    Ok(dir.set_times(times)?)
}

impl Told {
    fn warnings(&self, numbers: &Numbers) -> Vec<String> {
        let stripped = some(&self.stripped).map(|names| {
            format!("set-uid or set-gid bits were taken off {names}; restore with setuid to have them")
        });
        let removed = some(&self.removed)
            .map(|names| format!("device files were left out: {names}; restore with devices to have them"));
        let missing = [("user", &numbers.users.missing), ("group", &numbers.groups.missing)];
        let missing = missing.into_iter().flat_map(|(kind, missing)| {
            missing.iter().map(move |(number, name)| {
                format!("there is no {kind} {name} here: files keep the number {number}; create it and restore again, \
                         or restore with owners = number")
            })
        });
        stripped.into_iter().chain(removed).chain(missing).collect()
    }
}

/// The first few of them; none where there are none.
pub(super) fn some(paths: &[PathBuf]) -> Option<String> {
    let named: Vec<String> = paths.iter().take(NAMED).map(|path| spelled(path)).collect();
    let more = paths.len().saturating_sub(NAMED);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!named.is_empty()).then(|| named.join(", ") + &rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_becomes_that_of_the_same_name_and_stays_where_there_is_none() {
        let saved = [(1000, "root"), (0, "root"), (1001, "nobody of this name"), (7, "root")];
        let saved = saved.map(|(number, name)| (number, name.to_owned())).into();
        let mut names = Names::new(saved, user_number);
        assert_eq!([1000, 0, 1001, 55].map(|there| names.here(there)), [0, 0, 1001, 55]);
        assert_eq!(names.missing.into_keys().collect::<Vec<_>>(), [1001]);
    }

    #[test]
    fn set_uid_bits_go_unless_they_were_asked_for_and_the_directories_keep_theirs() {
        let dir = tempfile::tempdir().unwrap();
        let settle = |setuid: bool| {
            let (sub, file) = (dir.path().join("state"), dir.path().join("state/program"));
            std::fs::create_dir_all(&sub).unwrap();
            std::fs::write(&file, "#!").unwrap();
            for path in [&sub, &file] {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o2755)).unwrap();
            }
            let names = || Names::new(BTreeMap::new(), user_number);
            let numbers = Numbers { wanted: false, users: names(), groups: names() };
            let staging = dir.path().to_owned();
            let mut settling = Settling { staging, setuid, devices: false, numbers, told: Told::default() };
            settling.tree(&CancellationToken::new()).unwrap();
            let modes = [sub, file].map(|path| path.metadata().unwrap().mode() & 0o7777);
            (modes, settling.told.warnings(&settling.numbers))
        };
        assert_eq!(settle(true), ([0o2755, 0o2755], Vec::new()));
        let (modes, warnings) = settle(false);
        assert_eq!(modes, [0o2755, 0o755]);
        assert!(warnings[0].contains("state/program") && warnings[0].contains("setuid"), "{warnings:?}");
    }
}
