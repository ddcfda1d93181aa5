//! A restore in place begins with copies of live files, so that restic fetches and writes only what differs.
//!
//! restic runs with our rights over what lies there, so nothing of the live tree may lead it anywhere: only directories
//! and plain files with one name are copied, into a directory that nobody else enters, never linked. Whether a copy is
//! what was saved restic finds out by its content; a file that changes while it is copied is fetched.

use std::ffi::OsStr;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use rustix::fs::{self, FileType, Mode, OFlags};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::swap::{ANNEX_PREFIX, beneath, directory, parent_of};
use super::{Work, survey};
use crate::target::{Excludes, Manifest, Place, Purpose};

/// So many threads copy at the most: more of them wait for the same disk.
const THREADS: usize = 4;

/// Copies what lives into `staging`, if there is room for it twice. Whether there is anything to restore onto.
///
/// Nothing here can fail a restore: what is not copied is fetched.
pub(super) async fn lay(work: &Work, staging: &Path, manifest: &Manifest) -> bool {
    let request = &work.request;
    let in_place = request.target.is_none() && request.founding.is_none();
    if !in_place || !work.restic.restores_in_place() || !room_for_two(work, staging) {
        return false;
    }
    match items(work, manifest).await {
        Ok((items, excludes)) => {
            let seed = Seed {
                excludes,
                left: AtomicU64::new(request.set.size),
                cancel: work.live.cancelled().clone(),
                reflinks: AtomicBool::new(true),
                copied: AtomicU64::new(0),
            };
            let staging = staging.to_owned();
            let laid = tokio::task::spawn_blocking(move || seed.lay(&staging, &items)).await;
            laid.is_ok_and(|copied| copied > 0)
        }
        Err(failure) => {
            debug!("live files are not used for the restore: {failure:#}");
            false
        }
    }
}

fn room_for_two(work: &Work, staging: &Path) -> bool {
    let free = rustix::fs::statvfs(staging).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    free >= super::fetch::needed(&work.request).saturating_mul(2)
}

/// A path of the tree, the root that it lives below, and where there.
type Item = (PathBuf, PathBuf, PathBuf);

async fn items(work: &Work, manifest: &Manifest) -> Result<(Vec<Item>, Excludes)> {
    let (instance, tools) = (&work.request.instance, work.context.dirs.tools());
    let volumes: Vec<String> = manifest.roots.iter().filter_map(|root| root.volume()).collect();
    let place = Place::resolve(instance, Purpose::Restore, &tools, &volumes, work.live.cancelled()).await?;
    let excludes = survey::excludes(manifest)?;
    let children = |root: &Path| {
        let live = place.live_path(root).unwrap_or_default();
        survey::names_in(&live, root)
    };
    let survey = survey::look(&work.request, &place, manifest, |_| true, children)?;
    let item = |(path, spot): (PathBuf, super::apply::Spot)| {
        (path, spot.root().to_owned(), spot.relative().to_owned())
    };
    Ok((survey.items.into_iter().map(item).collect(), excludes))
}

struct Seed {
    excludes: Excludes,
    /// Bytes that may still be copied: no more than the set has.
    left: AtomicU64,
    cancel: CancellationToken,
    reflinks: AtomicBool,
    copied: AtomicU64,
}

/// A live directory, the one that takes copies of its files, and its path in the tree.
struct Pair {
    from: OwnedFd,
    to: OwnedFd,
    item: PathBuf,
}

impl Seed {
    fn lay(self, staging: &Path, items: &[Item]) -> u64 {
        for (path, root, relative) in items {
            if let Err(failure) = self.item(staging, path, root, relative) {
                debug!("{} is not used for the restore: {failure:#}", path.display());
            }
        }
        let copied = self.copied.into_inner();
        // They are on their way to the disk while restic reads them: the swap has the less to wait for.
        if copied > 0
            && let Ok(staging) = fs::open(staging, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        {
            std::thread::spawn(move || fs::syncfs(&staging));
        }
        copied
    }

    fn item(&self, staging: &Path, path: &Path, root: &Path, relative: &Path) -> Result<()> {
        let name = path.file_name().context("no name")?;
        let (from, _) = parent_of(root, relative)?;
        let live_name = relative.file_name().context("no name")?;
        let above = path.parent().unwrap_or(Path::new(""));
        std::fs::create_dir_all(staging.join(above))?;
        let staging = fs::open(staging, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let to = beneath(&staging, above)?;
        match directory(&from, live_name)? {
            Some(from) => {
                make(&to, name)?;
                self.tree(&Pair { from, to: beneath(&to, Path::new(name))?, item: path.to_owned() })
            }
            None => self.file(&from, live_name, &to, name),
        }
    }

    /// First all directories, then the files in them: each thread takes the next one.
    fn tree(&self, top: &Pair) -> Result<()> {
        let (dirs, next) = (self.directories(top)?, AtomicUsize::new(0));
        let copy = || {
            while let Some(dir) = dirs.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.files(top, dir)?;
            }
            Ok(())
        };
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(THREADS);
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads.min(dirs.len())).map(|_| scope.spawn(copy)).collect();
            let panicked = |_| Err(anyhow::anyhow!("a copying thread panicked"));
            let ended = others.into_iter().map(|thread| thread.join().unwrap_or_else(panicked));
            std::iter::once(copy()).chain(ended.collect::<Vec<_>>()).collect()
        })
    }

    /// Makes the directories; their paths below the top.
    fn directories(&self, top: &Pair) -> Result<Vec<PathBuf>> {
        let (mut found, mut todo) = (Vec::new(), vec![PathBuf::new()]);
        while let Some(dir) = todo.pop() {
            let Some((from, to)) = self.pair(top, &dir)? else { continue };
            for entry in fs::Dir::read_from(&from)? {
                let entry = entry?;
                let name = OsStr::from_bytes(entry.file_name().to_bytes());
                if entry.file_type() == FileType::Directory && !self.leave_out(top, &dir, name) {
                    make(&to, name)?;
                    todo.push(dir.join(name));
                }
            }
            found.push(dir);
        }
        Ok(found)
    }

    fn files(&self, top: &Pair, dir: &Path) -> Result<()> {
        let Some((from, to)) = self.pair(top, dir)? else { return Ok(()) };
        for entry in fs::Dir::read_from(&from)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            let may_be = matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown);
            if may_be && !self.leave_out(top, dir, name) {
                self.file(&from, name, &to, name)?;
            }
        }
        Ok(())
    }

    /// A live directory and its copy; none: it is gone, or something else by now.
    fn pair(&self, top: &Pair, dir: &Path) -> Result<Option<(OwnedFd, OwnedFd)>> {
        anyhow::ensure!(!self.cancel.is_cancelled(), "cancelled");
        match beneath(&top.from, dir) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            from => Ok(Some((from?, beneath(&top.to, dir)?))),
        }
    }

    fn leave_out(&self, top: &Pair, dir: &Path, name: &OsStr) -> bool {
        is_beside(name) || self.excludes.leave_out(top.item.join(dir).join(name).as_os_str().as_bytes())
    }

    /// Copies the content of a plain file with one name and no holes. The rest restic does better.
    fn file(&self, from: &OwnedFd, name: &OsStr, to: &OwnedFd, new: &OsStr) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let old = match fs::openat(from, name, flags, Mode::empty()) {
            Ok(old) => old,
            // A link, a socket, or gone.
            Err(Errno::LOOP | Errno::NXIO | Errno::NOENT) => return Ok(()),
            other => other?,
        };
        let meta = fs::fstat(&old)?;
        let length = u64::try_from(meta.st_size).unwrap_or(u64::MAX);
        let plain = FileType::from_raw_mode(meta.st_mode) == FileType::RegularFile && meta.st_nlink == 1;
        let holes = u64::try_from(meta.st_blocks).unwrap_or(0).saturating_mul(512) < length;
        if !plain || holes || length == 0 || !self.takes(length) {
            return Ok(());
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let copy = fs::openat(to, new, flags, Mode::RUSR | Mode::WUSR)?;
        let cloned = self.reflinks.load(Ordering::Relaxed) && fs::ioctl_ficlone(&copy, &old).is_ok();
        if !cloned {
            self.reflinks.store(false, Ordering::Relaxed);
            let (mut old, mut copy) = (std::fs::File::from(old), std::fs::File::from(copy));
            std::io::copy(&mut std::io::Read::take(&mut old, length), &mut copy)?;
        }
        self.copied.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Whether so many bytes more may be copied; then they are counted.
    fn takes(&self, length: u64) -> bool {
        let less = |left: u64| left.checked_sub(length);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

fn make(dir: &OwnedFd, name: &OsStr) -> Result<()> {
    match fs::mkdirat(dir, name, Mode::RWXU) {
        Err(Errno::EXIST) => Ok(()),
        made => made.with_context(|| format!("making {}", name.display())),
    }
}

/// What earlier restores keep beside live data.
fn is_beside(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    bytes == b"." || bytes == b".." || bytes.starts_with(ANNEX_PREFIX.as_bytes())
}
