//! Walking down directories without being led elsewhere.
//!
//! A directory is held open and each step is taken from its descriptor, without following links. Inside an instance's
//! data no link is ever followed on the way to an entry. On the way from `/` a link is followed only where nobody but
//! root (or ourselves) could have put it: its directory belongs to us and nobody else may write there.

use std::collections::VecDeque;
use std::fmt;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::include::Step;

/// More links than this on one path are a loop.
const MAX_LINKS: usize = 40;

/// The longest file of patterns or variables that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// A directory held open.
#[derive(Debug)]
pub(super) struct Dir {
    fd: OwnedFd,
    /// Its path, free of links when it was opened.
    pub(super) real: PathBuf,
}

/// Which links are followed on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// None.
    Refused,
    /// Those that only root or ourselves can have made.
    Trusted,
}

/// A link that is not followed.
#[derive(Debug)]
pub(super) struct Untrusted(pub(super) PathBuf);

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.0.display();
        write!(
            f,
            "{path} is a symbolic link that others could turn elsewhere: it is not followed; name its target"
        )
    }
}

impl std::error::Error for Untrusted {}

/// What stands under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Dir,
    Link,
    Other,
}

/// Opens a directory by its absolute path; see [`Links::Trusted`]. `None`: there is none.
///
/// # Errors
/// [`Untrusted`], or the system's refusal.
pub(super) fn open(path: &Path) -> Result<Option<Dir>> {
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let root = Dir { fd: root, real: "/".into() };
    if !path.is_absolute() {
        bail!("{} is not an absolute path", path.display());
    }
    root.down(path.as_os_str().as_bytes(), &mut 0)
}

impl Dir {
    /// The directory under a name; `None`: nothing there, or no directory.
    pub(super) fn child(&self, name: &[u8], links: Links) -> Result<Option<Self>> {
        self.step(name, links, &mut 0)
    }

    fn down(&self, path: &[u8], followed: &mut usize) -> Result<Option<Self>> {
        let mut names: VecDeque<&[u8]> =
            path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").collect();
        let mut at = self.again()?;
        while let Some(name) = names.pop_front() {
            let Some(next) = at.step(name, Links::Trusted, followed)? else { return Ok(None) };
            at = next;
        }
        Ok(Some(at))
    }

    fn step(&self, name: &[u8], links: Links, followed: &mut usize) -> Result<Option<Self>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let real = if name == b".." { self.parent() } else { self.join(name) };
        let fd = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("opening {}", real.display())),
        };
        match kind(&rustix::fs::fstat(&fd)?) {
            Kind::Dir => Ok(Some(Self { fd, real })),
            Kind::Other => Ok(None),
            Kind::Link if links == Links::Refused || !self.only_ours()? => Err(Untrusted(real).into()),
            Kind::Link => self.follow(&fd, &real, followed),
        }
    }

    fn follow(&self, link: &OwnedFd, real: &Path, followed: &mut usize) -> Result<Option<Self>> {
        *followed += 1;
        if *followed > MAX_LINKS {
            bail!("{} is one of too many symbolic links: they form a loop", real.display());
        }
        let target = rustix::fs::readlinkat(link, "", Vec::new())?.into_bytes();
        if target.starts_with(b"/") {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = Self { fd: rustix::fs::open("/", flags, Mode::empty())?, real: "/".into() };
            return root.down(&target, followed);
        }
        self.down(&target, followed)
    }

    /// Whether nobody but root and ourselves can put names into it.
    fn only_ours(&self) -> Result<bool> {
        let stat = self.stat()?;
        let owner = stat.st_uid == 0 || stat.st_uid == rustix::process::geteuid().as_raw();
        Ok(owner && stat.st_mode & 0o022 == 0)
    }

    fn again(&self) -> Result<Self> {
        Ok(Self { fd: self.fd.try_clone().context("holding a directory open")?, real: self.real.clone() })
    }

    fn parent(&self) -> PathBuf {
        self.real.parent().unwrap_or(&self.real).to_path_buf()
    }

    /// The path of a name in it.
    pub(super) fn join(&self, name: &[u8]) -> PathBuf {
        self.real.join(std::ffi::OsStr::from_bytes(name))
    }

    /// Its owner, mode and times.
    pub(super) fn stat(&self) -> Result<Stat> {
        rustix::fs::fstat(&self.fd).with_context(|| format!("looking at {}", self.real.display()))
    }

    /// What stands under a name, itself: a link is a link.
    pub(super) fn look(&self, name: &[u8]) -> Result<Option<Kind>> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(kind(&stat))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("looking at {}", self.join(name).display())),
        }
    }

    /// A descriptor for reading what is in it; the one that is held only finds names.
    pub(super) fn readable(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, ".", flags, Mode::empty());
        fd.with_context(|| format!("reading directory {}", self.real.display()))
    }

    /// All names in it, in the order of their bytes.
    pub(super) fn names(&self) -> Result<Vec<Vec<u8>>> {
        let reading = || format!("reading directory {}", self.real.display());
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(self.readable()?).with_context(reading)? {
            let name = entry.with_context(reading)?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The content of a small regular file below it; links may be followed as long as they stay below it.
    ///
    /// # Errors
    /// A link that leads out, something that is no file, more than 1 MiB.
    pub(super) fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let shown = || format!("reading {}", self.real.join(path).display());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let fd = match rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), beneath) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(Errno::XDEV) => {
                return Err(anyhow!("a symbolic link leads out of {}", self.real.display()))
                    .with_context(shown);
            }
            Err(error) => return Err(error).with_context(shown),
        };
        let file = std::fs::File::from(fd);
        if !file.metadata().with_context(shown)?.is_file() {
            return Err(anyhow!("it is not a regular file")).with_context(shown);
        }
        let mut text = Vec::new();
        file.take(MAX_FILE + 1).read_to_end(&mut text).with_context(shown)?;
        if text.len() as u64 > MAX_FILE {
            return Err(anyhow!("it has more than {MAX_FILE} bytes")).with_context(shown);
        }
        Ok(Some(text))
    }
}

fn kind(stat: &Stat) -> Kind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Link,
        _ => Kind::Other,
    }
}

/// What an include led to.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The entries, in order.
    pub(super) entries: Vec<Entry>,
    /// Why something could not be looked at.
    pub(super) problems: Vec<String>,
}

/// An entry that an include names.
#[derive(Debug)]
pub(super) struct Entry {
    /// Relative to where the search began.
    pub(super) path: PathBuf,
    /// The path to its real place.
    pub(super) real: PathBuf,
    pub(super) kind: Kind,
}

/// Looks for everything that the steps name below a directory.
pub(super) fn find(start: &Dir, steps: &[Step], links: Links) -> Found {
    let mut found = Found::default();
    search(start, Path::new(""), steps, links, &mut found);
    found
}

fn search(dir: &Dir, path: &Path, steps: &[Step], links: Links, found: &mut Found) {
    let Some((step, rest)) = steps.split_first() else { return };
    let names = match names_for(dir, step) {
        Ok(names) => names,
        Err(error) => return found.problems.push(format!("{error:#}")),
    };
    for name in names {
        let below = path.join(std::ffi::OsStr::from_bytes(&name));
        if let Err(error) = take(dir, &name, below, rest, links, found) {
            found.problems.push(format!("{error:#}"));
        }
    }
}

fn take(dir: &Dir, name: &[u8], path: PathBuf, rest: &[Step], links: Links, found: &mut Found) -> Result<()> {
    if rest.is_empty() {
        if let Some(kind) = dir.look(name)? {
            found.entries.push(Entry { path, real: dir.join(name), kind });
        }
    } else if let Some(child) = dir.child(name, links)? {
        search(&child, &path, rest, links, found);
    }
    Ok(())
}

fn names_for(dir: &Dir, step: &Step) -> Result<Vec<Vec<u8>>> {
    match step {
        Step::Name(name) => Ok(vec![name.clone()]),
        Step::Glob(glob) => Ok(dir.names()?.into_iter().filter(|name| glob.matches(name)).collect()),
    }
}

/// A path from bytes.
pub(super) fn path_of(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}
