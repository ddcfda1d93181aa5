//! The directory that an archive is unpacked into. Every way is walked anew from it, through no link.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::member::Member;

/// How much is written before the disk is looked at again.
const LOOK: u64 = 16 << 20;

pub(super) struct Into {
    root: OwnedFd,
    reserve: u64,
    unlooked: u64,
    privileged: bool,
    /// Directories with what they are to become: at the end, for one may be that nobody can write into.
    dirs: Vec<Member>,
    /// Directories that no member names, made because something lies in them.
    implied: BTreeSet<PathBuf>,
    /// The directory that the last member went into.
    last: Option<(PathBuf, OwnedFd)>,
}

fn directory() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

impl Into {
    pub(super) fn open(dir: &Path, reserve: u64) -> Result<Self> {
        let root = rustix::fs::open(dir, directory(), Mode::empty())?;
        let privileged = rustix::process::geteuid().is_root();
        let (dirs, implied) = (Vec::new(), BTreeSet::new());
        let into = Self { root, reserve, unlooked: 0, privileged, dirs, implied, last: None };
        into.look()?;
        Ok(into)
    }

    pub(super) fn dir(&mut self, member: &Member) -> Result<()> {
        self.implied.remove(&member.path);
        self.dirs.push(member.described());
        if member.path.as_os_str().is_empty() {
            return Ok(());
        }
        let (parent, name) = self.parent(&member.path, true)?;
        match rustix::fs::mkdirat(parent, &name, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => drop(step(parent, &name)?),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    pub(super) fn link(&mut self, member: &Member, to: &Path) -> Result<()> {
        let privileged = self.privileged;
        let (parent, name) = self.free(&member.path)?;
        rustix::fs::symlinkat(to, parent, &name)?;
        if privileged {
            let (uid, gid) = owner(member);
            rustix::fs::chownat(parent, &name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        rustix::fs::utimensat(parent, &name, &times(member), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    /// Another name of what came before.
    pub(super) fn same(&mut self, member: &Member, other: &Path) -> Result<()> {
        let absent = || format!("it is another name of {}, which did not come before it", other.display());
        let (from, old) = self.parent(other, false).with_context(absent)?;
        let from = from.try_clone()?;
        let stat = rustix::fs::statat(&from, &old, AtFlags::SYMLINK_NOFOLLOW).with_context(absent)?;
        let is = FileType::from_raw_mode(stat.st_mode);
        ensure!(matches!(is, FileType::RegularFile | FileType::Symlink), "it is another name of no file");
        if other == member.path {
            return Ok(());
        }
        let (parent, name) = self.free(&member.path)?;
        // Without AT_SYMLINK_FOLLOW: of a link it is the link itself.
        rustix::fs::linkat(&from, &old, parent, &name, AtFlags::empty())?;
        Ok(())
    }

    /// Writes a file; the bytes that came.
    pub(super) fn file(
        &mut self,
        member: &Member,
        data: impl FnMut(&mut [u8]) -> Result<usize>,
    ) -> Result<u64> {
        let (parent, name) = self.free(&member.path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(parent, &name, flags, Mode::RUSR | Mode::WUSR)?);
        let bytes = match &member.map {
            None => self.write(&file, &[(0, member.size)], data)?,
            Some(map) => {
                file.set_len(member.size)?;
                self.write(&file, map, data)?
            }
        };
        describe(&file, member, self.privileged)?;
        Ok(bytes)
    }

    fn write(
        &mut self,
        file: &File,
        map: &[(u64, u64)],
        mut data: impl FnMut(&mut [u8]) -> Result<usize>,
    ) -> Result<u64> {
        let mut buffer = vec![0; 128 << 10];
        let mut bytes = 0;
        for (offset, length) in map {
            let mut done = 0;
            while done < *length {
                let most = usize::try_from(length - done).unwrap_or(usize::MAX).min(buffer.len());
                let count = data(&mut buffer[..most])?;
                ensure!(count > 0, "it holds less data than it says");
                file.write_all_at(&buffer[..count], offset + done)?;
                done += count as u64;
                self.wrote(count as u64)?;
            }
            bytes += length;
        }
        Ok(bytes)
    }

    fn wrote(&mut self, bytes: u64) -> Result<()> {
        self.unlooked += bytes;
        if self.unlooked < LOOK {
            return Ok(());
        }
        self.unlooked = 0;
        self.look()
    }

    fn look(&self) -> Result<()> {
        let stat = rustix::fs::fstatvfs(&self.root)?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        ensure!(
            free >= self.reserve,
            "the disk of the staging directory has {free} bytes left, {} are kept free; set daemon.staging_dir to a larger one",
            self.reserve
        );
        Ok(())
    }

    /// Directories get what they are to have, the deepest first.
    /// Answers with those that no member named.
    pub(super) fn finish(mut self) -> Result<BTreeSet<PathBuf>> {
        self.dirs.sort_by(|a, b| b.path.cmp(&a.path));
        // Of two of one name the later one counts, and sorting keeps their order.
        for member in std::mem::take(&mut self.dirs) {
            let dir = match member.path.as_os_str().is_empty() {
                true => self.root.try_clone()?,
                false => {
                    let (parent, name) = self.parent(&member.path, false)?;
                    step(parent, &name)?
                }
            };
            describe(&dir, &member, self.privileged)
                .with_context(|| format!("describing {}", member.path.display()))?;
            self.last = None;
        }
        Ok(self.implied)
    }

    /// The directory of a path that is free then: what the archive itself put there goes.
    fn free(&mut self, path: &Path) -> Result<(&OwnedFd, OsString)> {
        let (parent, name) = self.parent(path, true)?;
        match rustix::fs::unlinkat(parent, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok((parent, name)),
            Err(Errno::ISDIR) => bail!("the archive names it twice, as a directory and as something else"),
            Err(error) => Err(error.into()),
        }
    }

    /// The directory that a path lies in, and the path's last name.
    fn parent(&mut self, path: &Path, make: bool) -> Result<(&OwnedFd, OsString)> {
        let name = path.file_name().context("the archive names its own root")?.to_owned();
        let above = path.parent().unwrap_or(Path::new(""));
        if self.last.as_ref().is_none_or(|(known, _)| known != above) {
            let mut dir = self.root.try_clone()?;
            let mut way = PathBuf::new();
            for name in above {
                way.push(name);
                if make {
                    // For all to look into, as tar makes them; the directory around is private.
                    match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755)) {
                        Ok(()) => drop(self.implied.insert(way.clone())),
                        Err(Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                dir = step(&dir, name).with_context(|| format!("below {}", above.display()))?;
            }
            self.last = Some((above.to_owned(), dir));
        }
        let (_, dir) = self.last.as_ref().context("no directory")?;
        Ok((dir, name))
    }
}

/// Into a directory, never through a link.
fn step(dir: &OwnedFd, name: &std::ffi::OsStr) -> Result<OwnedFd> {
    match rustix::fs::openat(dir, name, directory(), Mode::empty()) {
        Err(Errno::LOOP | Errno::NOTDIR) => {
            bail!("{} is a link or a file in the archive, and may lead anywhere", name.display())
        }
        other => Ok(other?),
    }
}

fn owner(member: &Member) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(member.uid)), Some(Gid::from_raw(member.gid)))
}

fn times(member: &Member) -> Timestamps {
    let at = Timespec { tv_sec: member.mtime.0, tv_nsec: member.mtime.1.into() };
    Timestamps { last_access: at, last_modification: at }
}

/// The owner before the mode: changing it takes set-user bits away.
fn describe(file: &impl AsFd, member: &Member, privileged: bool) -> Result<()> {
    if privileged {
        let (uid, gid) = owner(member);
        rustix::fs::fchown(file, uid, gid)?;
    }
    for (name, value) in &member.xattrs {
        if privileged || name.starts_with("user.") {
            let set = rustix::fs::fsetxattr(file, name.as_str(), value, XattrFlags::empty());
            match set {
                // The staging disk knows no such attributes: what it cannot hold is not worth the whole import.
                Ok(()) | Err(Errno::NOTSUP) => {}
                Err(error) => return Err(error).with_context(|| format!("setting attribute {name}")),
            }
        }
    }
    rustix::fs::fchmod(file, Mode::from_raw_mode(member.mode))?;
    Ok(rustix::fs::futimens(file, &times(member))?)
}

impl Member {
    /// All but its data.
    fn described(&self) -> Self {
        Self {
            path: self.path.clone(),
            kind: super::member::Kind::Dir,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime,
            size: 0,
            map: None,
            xattrs: self.xattrs.clone(),
        }
    }
}
