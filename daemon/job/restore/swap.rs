//! The swap of one directory or file: new data waits beside the live one, in a directory that only root enters, and
//! changes places with it in one step.
//!
//! All names are looked up below open directories, never through a symbolic link: whoever owns the live tree may
//! rename things in it meanwhile, but cannot lead us out of it.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

/// Where a swap happens: the directory that the live thing lies in, and our own one beside it.
pub(crate) struct Site {
    parent: OwnedFd,
    annex: OwnedFd,
    name: OsString,
    /// The live thing, without links in its path.
    pub(crate) live: PathBuf,
    /// Where the new data waits, and the old data lies afterwards.
    pub(crate) aside: PathBuf,
    /// The inode of the live thing; none: there is none.
    pub(crate) inode: Option<u64>,
}

/// How the names of our directories beside live data begin; backups leave them out.
pub(crate) const ANNEX_PREFIX: &str = ".holdfast-j";

/// Our directory beside live data, for this job (whose id begins with a j).
pub(crate) fn annex_name(job: &str) -> String {
    format!(".holdfast-{job}")
}

/// Opens the directory that `relative` lies in, below `root`; and says where that really is.
pub(crate) fn parent_of(root: &Path, relative: &Path) -> Result<(OwnedFd, PathBuf)> {
    let root_fd = fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let root_fd = root_fd.with_context(|| format!("opening {}", root.display()))?;
    let parent = relative.parent().unwrap_or(Path::new(""));
    let parent = beneath(&root_fd, parent)
        .with_context(|| format!("opening {} in {}", parent.display(), root.display()))?;
    let real = std::fs::read_link(format!("/proc/self/fd/{}", parent.as_raw_fd()))?;
    Ok((parent, real))
}

/// Opens a directory below another one, through no link.
pub(super) fn beneath(root: &OwnedFd, relative: &Path) -> rustix::io::Result<OwnedFd> {
    let path = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    fs::openat2(root, path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), resolve)
}

impl Site {
    /// Makes our directory beside the live thing, 0700. Its removal must stand in the undo file already.
    pub(crate) fn open(root: &Path, relative: &Path, job: &str) -> Result<Self> {
        let name = relative.file_name().context("the root itself cannot be swapped")?.to_owned();
        let (parent, real) = parent_of(root, relative)?;
        let annex = annex_name(job);
        match fs::mkdirat(&parent, &*annex, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(other) => bail!("making {} in {}: {other}", annex, real.display()),
        }
        let annex_fd = beneath(&parent, Path::new(&annex)).context("opening our own directory")?;
        let meta = fs::fstat(&annex_fd)?;
        ensure!(
            meta.st_uid == rustix::process::geteuid().as_raw(),
            "{annex} in {} is not ours",
            real.display()
        );
        plain(&annex_fd).with_context(|| format!("making {annex} in {} plain", real.display()))?;
        Ok(Self {
            live: real.join(&name),
            aside: real.join(&annex).join(&name),
            inode: inode(&parent, &name)?,
            parent,
            annex: annex_fd,
            name,
        })
    }

    /// Brings new data in by rename. False: it lies on another file system and must be copied to [`Site::aside_dir`].
    pub(crate) fn bring(&self, staged: &Path) -> Result<bool> {
        match fs::renameat(CWD, staged, &self.annex, &self.name) {
            Ok(()) => Ok(true),
            Err(Errno::XDEV) => Ok(false),
            Err(other) => bail!("moving {} to {}: {other}", staged.display(), self.aside.display()),
        }
    }

    /// Our directory as a path that a child can enter before it executes, whatever happens to its name.
    pub(crate) fn aside_dir(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.annex.as_raw_fd()))
    }

    /// The live directory; none: it is none.
    pub(super) fn live_dir(&self) -> Result<Option<OwnedFd>> {
        directory(&self.parent, &self.name)
    }

    /// The new directory that waits; none: it is none.
    pub(super) fn new_dir(&self) -> Result<Option<OwnedFd>> {
        directory(&self.annex, &self.name)
    }

    /// The inode of the new data that waits.
    pub(super) fn new_inode(&self) -> Result<Option<u64>> {
        inode(&self.annex, &self.name)
    }

    /// Has everything written to the disk that was written to this file system.
    pub(super) fn settle(&self) -> Result<()> {
        fs::syncfs(&self.annex)
            .with_context(|| format!("writing new data for {} to the disk", self.live.display()))
    }

    /// Changes places: afterwards the new data lives and the old data, if any, lies aside.
    pub(crate) fn swap(&self) -> Result<()> {
        let putting = || format!("putting new data at {}", self.live.display());
        exchange(&self.annex, &self.name, &self.parent, &self.name, self.inode.is_some())
            .with_context(putting)?;
        if inode(&self.annex, &self.name)? != self.inode {
            // Somebody put another thing there since it was written down; the undo step would not find it.
            exchange(&self.annex, &self.name, &self.parent, &self.name, true).with_context(putting)?;
            bail!(
                "{} was replaced by somebody else just now; stop the application and try again",
                self.live.display()
            );
        }
        Ok(())
    }

    /// Sets the live thing aside, with nothing in its place.
    pub(crate) fn set_aside(&self) -> Result<()> {
        fs::renameat(&self.parent, &self.name, &self.annex, &self.name)
            .with_context(|| format!("setting {} aside", self.live.display()))?;
        self.sync()
    }

    fn sync(&self) -> Result<()> {
        fs::fsync(&self.annex)?;
        Ok(fs::fsync(&self.parent)?)
    }
}

/// Moves `from` to `to`; when `both` exist they change places. Synced afterwards.
fn exchange(from_dir: &OwnedFd, from: &OsStr, to_dir: &OwnedFd, to: &OsStr, both: bool) -> Result<()> {
    let flags = if both { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
    match fs::renameat_with(from_dir, from, to_dir, to, flags) {
        Ok(()) => {}
        Err(Errno::BUSY) => bail!("it is a mount point and cannot be swapped; nothing was changed there"),
        Err(Errno::XDEV) => bail!(
            "the file system refuses to move it (a lower layer of an overlay?); nothing was changed there, restore into a \
             directory with target"
        ),
        Err(Errno::INVAL | Errno::NOSYS) => swap_in_two(from_dir, from, to_dir, to, both)?,
        Err(other) => bail!("{other}"),
    }
    fs::fsync(from_dir)?;
    Ok(fs::fsync(to_dir)?)
}

/// For file systems that cannot exchange: between the two renames nothing lives there, and the undo step says so.
fn swap_in_two(from_dir: &OwnedFd, from: &OsStr, to_dir: &OwnedFd, to: &OsStr, both: bool) -> Result<()> {
    if !both {
        return Ok(fs::renameat(from_dir, from, to_dir, to)?);
    }
    let mut waiting = OsString::from(".waiting-");
    waiting.push(from);
    fs::renameat(from_dir, from, from_dir, &waiting)?;
    fs::renameat(to_dir, to, from_dir, from)?;
    Ok(fs::renameat(from_dir, &waiting, to_dir, to)?)
}

/// Takes off what a directory inherits and gives on to what is copied into it: the set-group-id bit and default rights.
fn plain(dir: &OwnedFd) -> rustix::io::Result<()> {
    fs::fchmod(dir, Mode::RWXU)?;
    match fs::fremovexattr(dir, "system.posix_acl_default") {
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
        removed => removed,
    }
}

/// A directory in another one; none: it is none, or not there.
pub(super) fn directory(parent: &OwnedFd, name: &OsStr) -> Result<Option<OwnedFd>> {
    match beneath(parent, Path::new(name)) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(other) => bail!("opening {}: {other}", name.display()),
    }
}

/// Whether a directory of ours lies at this place, reached through no link.
pub(super) fn is_own_dir(path: &Path) -> bool {
    let open = || -> Result<bool> {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(false) };
        let (parent, _) = parent_of(Path::new("/"), path.strip_prefix("/").unwrap_or(dir))?;
        let Some(found) = directory(&parent, name)? else { return Ok(false) };
        Ok(fs::fstat(&found)?.st_uid == rustix::process::geteuid().as_raw())
    };
    open().unwrap_or(false)
}

fn inode(dir: &OwnedFd, name: &OsStr) -> Result<Option<u64>> {
    match fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(meta) => Ok(Some(meta.st_ino)),
        Err(Errno::NOENT) => Ok(None),
        Err(other) => bail!("looking at {}: {other}", name.display()),
    }
}

/// Undoes a swap wherever it stands; nothing where it never happened. Safe to repeat.
///
/// `inode` is that of the old data: where it is now tells what happened.
pub(crate) fn put_back(live: &Path, aside: &Path, inode_before: Option<u64>) -> Result<()> {
    let (Some(annex), Some(name)) = (aside.parent(), live.file_name()) else { bail!("no parent directory") };
    let (parent, _) = parent_of(Path::new("/"), live.strip_prefix("/").unwrap_or(live))?;
    let Some(annex_name) = annex.file_name() else { bail!("no directory beside {}", live.display()) };
    let annex = match beneath(&parent, Path::new(annex_name)) {
        Ok(annex) => annex,
        Err(Errno::NOENT) => return Ok(()),
        Err(other) => bail!("opening {}: {other}", annex.display()),
    };
    let (aside_now, live_now) = (inode(&annex, name)?, inode(&parent, name)?);
    match (inode_before, aside_now, live_now) {
        (Some(old), Some(aside), live) if aside == old => {
            exchange(&annex, name, &parent, name, live.is_some())
        }
        // Nothing lived there before, and what was to come is no longer aside: it lives now.
        (None, None, Some(_)) => exchange(&parent, name, &annex, name, false),
        _ => Ok(()),
    }
}

/// Exchanges the two sides of a finished swap, whichever of them there are: what lives and what lies aside.
///
/// `lives` and `rests` are the inodes that each side must have; otherwise nothing is changed.
pub(super) fn trade(live: &Path, aside: &Path, lives: Option<u64>, rests: Option<u64>) -> Result<()> {
    let (parent, annex, name) = sides(live, aside)?;
    ensure!(
        inode(&parent, name)? == lives && inode(&annex, name)? == rests,
        "{} is no longer what the restore left there",
        live.display()
    );
    match (lives, rests) {
        (_, Some(_)) => exchange(&annex, name, &parent, name, lives.is_some()),
        (Some(_), None) => exchange(&parent, name, &annex, name, false),
        (None, None) => Ok(()),
    }
}

/// Whether [`trade`] would go ahead; why not.
pub(super) fn tradable(live: &Path, aside: &Path, lives: Option<u64>, rests: Option<u64>) -> Result<()> {
    let (parent, annex, name) = sides(live, aside)?;
    ensure!(inode(&parent, name)? == lives, "{} is no longer what the restore put there", live.display());
    ensure!(inode(&annex, name)? == rests, "the old data is no longer at {}", aside.display());
    Ok(())
}

/// The directory that a thing lives in, our own one beside it, and the name that it has in both.
fn sides<'a>(live: &'a Path, aside: &Path) -> Result<(OwnedFd, OwnedFd, &'a OsStr)> {
    let (Some(annex), Some(name)) = (aside.parent(), live.file_name()) else { bail!("no parent directory") };
    let (parent, _) = parent_of(Path::new("/"), live.strip_prefix("/").unwrap_or(live))?;
    let Some(annex_name) = annex.file_name() else { bail!("no directory beside {}", live.display()) };
    let annex =
        beneath(&parent, Path::new(annex_name)).with_context(|| format!("opening {}", annex.display()))?;
    Ok((parent, annex, name))
}

#[cfg(test)]
mod tests;
