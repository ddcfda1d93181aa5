//! Where a directory of a server lies on this machine, and whose it may be.
//!
//! A podman without root is its user's own, and so is all that it tells of where its containers' directories lie. We may be
//! root: what is not that user's is not touched for it, and no link is followed to it.

use std::ffi::OsStr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::laid::{Laid, Owner};
use crate::process::Account;

/// Says which users' ids stand for others in a user's containers.
const SUBUID: &str = "/etc/subuid";

/// Where a directory of a container lies on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lies {
    pub(super) path: PathBuf,
    /// It is the root of a mount: what is in it can be exchanged, and not the directory itself.
    pub(super) root: bool,
    /// Who told it, where that is not ourselves.
    pub(super) theirs: Option<Theirs>,
}

impl Lies {
    /// A directory that we were told of by nobody but the definition.
    pub(super) fn ours(path: &Path) -> Self {
        Self { path: path.to_owned(), root: false, theirs: None }
    }

    /// Whose it is.
    pub(super) fn owner(&self) -> Result<Owner> {
        match &self.theirs {
            None => Owner::of(&self.path),
            Some(theirs) => theirs
                .owner(&self.path)?
                .with_context(|| format!("there is no directory {}", self.path.display())),
        }
    }

    /// Makes sure that whoever told it may have us change names there.
    pub(super) fn check(&self) -> Result<()> {
        let Some(theirs) = &self.theirs else { return Ok(()) };
        let above = if self.root { Some(self.path.as_path()) } else { self.path.parent() };
        let above = above.unwrap_or(Path::new("/"));
        ensure!(theirs.owner(above)?.is_some(), "there is no directory {}", above.display());
        theirs.owner(&self.path).map(drop)
    }

    /// What was made for it, given to whose it is, else to whose it was.
    pub(super) fn laid(self, made: PathBuf, rests: Vec<PathBuf>, saved: &Owner) -> Result<Laid> {
        let laid = Laid { live: self.path, made, rests, within: self.root, owner: None };
        laid.give(saved, self.theirs.as_ref())?;
        Ok(laid)
    }
}

/// What belongs to a user who has a podman without root: that user's files, and those of the others in its containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Theirs {
    user: String,
    ids: Vec<Range<u64>>,
}

impl Theirs {
    /// What belongs to this user.
    pub(super) fn of(account: &Account) -> Result<Self> {
        match std::fs::read_to_string(SUBUID) {
            Ok(text) => Ok(Self::told(account, &text)),
            Err(failure) if failure.kind() == std::io::ErrorKind::NotFound => Ok(Self::told(account, "")),
            Err(failure) => Err(failure).with_context(|| format!("reading {SUBUID}")),
        }
    }

    /// As `/etc/subuid` says it: `user:first:count`, the user by name or by number.
    fn told(account: &Account, text: &str) -> Self {
        let (own, number) = (u64::from(account.uid), account.uid.to_string());
        let range = |line: &str| {
            let mut words = line.trim().split(':');
            let name = words.next()?;
            let (first, count): (u64, u64) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            // Whatever stands there, root's files are nobody else's.
            let whose = (name == account.name || name == number) && first > 0;
            whose.then(|| first..first.saturating_add(count))
        };
        let ids = std::iter::once(own..own + 1).chain(text.lines().filter_map(range));
        Self { user: account.name.clone(), ids: ids.collect() }
    }

    /// Makes sure that an owner is one of theirs.
    pub(super) fn check(&self, owner: &Owner, path: &Path) -> Result<()> {
        let uid = u64::from(owner.uid());
        ensure!(
            self.ids.iter().any(|ids| ids.contains(&uid)),
            "{} belongs to the user id {uid}, which is neither {} nor, by {SUBUID}, another one of its containers: it is not \
             exchanged for a podman without root",
            path.display(),
            self.user
        );
        Ok(())
    }

    /// Whose something is that must be theirs; none: there is nothing. No link is followed anywhere on the way.
    pub(super) fn owner(&self, path: &Path) -> Result<Option<Owner>> {
        let looking = || format!("looking at {}", path.display());
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let found = match rustix::fs::openat2(CWD, path, flags, Mode::empty(), resolve) {
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => {
                Err(Errno::LOOP).context("a symbolic link is on the way, and is not followed")
            }
            found => Ok(found?),
        };
        let found = std::fs::File::from(found.with_context(looking)?);
        let owner = Owner::told_by(&found.metadata().with_context(looking)?);
        self.check(&owner, path)?;
        Ok(Some(owner))
    }
}

/// Makes plain what came from such a user: nothing but directories and files, with no more than permissions. So it must lie
/// where only we enter.
pub(super) fn plain(path: &Path) -> Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
    let meta = std::fs::symlink_metadata(path)?;
    let shown = path.display();
    ensure!(meta.is_dir() || meta.is_file(), "{shown} is neither a file nor a directory");
    ensure!(meta.is_dir() || meta.nlink() == 1, "{shown} has more names than one");
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    lchown(path, Some(uid), Some(gid)).with_context(|| format!("the owner of {shown}"))?;
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::llistxattr(path, &mut names) {
        Err(Errno::NOTSUP) => 0,
        listed => listed.with_context(|| format!("the attributes of {shown}"))?,
    };
    let names = names.get(..length).unwrap_or_default().split(|byte| *byte == 0);
    for name in names.filter(|name| !name.is_empty() && *name != b"security.selinux") {
        let name = <OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name);
        rustix::fs::lremovexattr(path, name).with_context(|| format!("the attributes of {shown}"))?;
    }
    let mode = std::fs::Permissions::from_mode(meta.mode() & 0o777);
    std::fs::set_permissions(path, mode).with_context(|| format!("the mode of {shown}"))?;
    if meta.is_dir() {
        for entry in std::fs::read_dir(path)? {
            plain(&entry?.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn account(uid: u32) -> Account {
        Account { name: "ann".into(), uid, gid: uid, home: "/".into() }
    }

    #[test]
    fn the_ids_of_a_user_are_its_own_and_those_of_its_containers() {
        let text = "bob:100000:65536\nann:200000:10\n1000:300000:1\nann:nonsense\nann:0:70000\n";
        let theirs = Theirs::told(&account(1000), text);
        for (uid, has) in [
            (0, false),
            (999, false),
            (1000, true),
            (100_000, false),
            (200_009, true),
            (200_010, false),
            (300_000, true),
        ] {
            let owner = Owner::told(&format!("700 {uid} 0")).unwrap();
            assert_eq!(theirs.check(&owner, Path::new("/x")).is_ok(), has, "{uid}");
        }
    }

    #[test]
    fn what_is_another_users_or_behind_a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("volume/data")).unwrap();
        symlink(at("volume"), at("link")).unwrap();
        let lies = |path: PathBuf, uid| {
            let theirs = Some(Theirs::told(&account(uid), ""));
            Lies { path, root: false, theirs }.check().map_err(|failure| format!("{failure:#}"))
        };
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(lies(at("volume/data"), own), Ok(()));
        assert_eq!(lies(at("volume/gone"), own), Ok(()));
        assert!(lies(at("gone/data"), own).unwrap_err().contains("there is no directory"));
        assert!(lies(at("link/data"), own).unwrap_err().contains("symbolic link"));
        assert!(lies(at("volume/data"), own + 1).unwrap_err().contains("belongs to the user id"));
    }

    #[test]
    fn what_comes_is_made_plain_or_refused() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o4755)).unwrap();
        plain(dir.path()).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o7777, 0o755);
        std::fs::hard_link(&file, dir.path().join("same")).unwrap();
        assert!(plain(dir.path()).unwrap_err().to_string().contains("more names"));
        std::fs::remove_file(dir.path().join("same")).unwrap();
        symlink("/etc/passwd", dir.path().join("link")).unwrap();
        assert!(plain(dir.path()).unwrap_err().to_string().contains("neither"));
    }
}
