//! Notices that zone data, or the machine's zone, changed while the daemon runs.
//!
//! Schedules hold the zone data that they were read with. After [`ZoneWatch::changed`] the service reads its definitions
//! anew, as for a reload; the planner then sees which zones differ.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::descriptor::watch;

/// An upgrade of the zone data touches hundreds of files; it is over when it was quiet for this long.
const QUIET: Duration = Duration::from_secs(5);

/// Watches `/etc/localtime` and the zone data.
pub struct ZoneWatch {
    events: AsyncFd<OwnedFd>,
    link_directory: i32,
    link_names: [&'static str; 2],
}

impl ZoneWatch {
    /// Watches the machine's own places.
    ///
    /// # Errors
    /// When the kernel gives no watch, as with `fs.inotify.max_user_watches` used up.
    pub fn new() -> Result<Self> {
        Self::of(Path::new("/etc"), Path::new("/usr/share/zoneinfo"))
    }

    /// Watches the link `localtime` in one directory, and all in another and in its directories.
    ///
    /// # Errors
    /// As [`ZoneWatch::new`].
    pub fn of(link_directory: &Path, zone_data: &Path) -> Result<Self> {
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).context("making a watch")?;
        let add = |directory: &Path| {
            let changes =
                WatchFlags::CREATE | WatchFlags::CLOSE_WRITE | WatchFlags::MOVE | WatchFlags::DELETE;
            inotify::add_watch(&events, directory, changes | WatchFlags::ONLYDIR)
                .with_context(|| format!("watching {}", directory.display()))
        };
        let link = add(link_directory)?;
        for directory in directories(zone_data) {
            add(&directory)?;
        }
        let events = watch(events).context("watching zone data")?;
        Ok(Self { events, link_directory: link, link_names: ["localtime", "timezone"] })
    }

    /// Returns when something changed and then was quiet. Cached zone data is dropped, so that what is looked up from
    /// now on is new. When this is dropped while it waits for quiet, the change is forgotten.
    ///
    /// # Errors
    /// When the kernel's list of changes cannot be read.
    pub async fn changed(&mut self) -> Result<()> {
        while !self.next().await? {}
        while let Ok(more) = tokio::time::timeout(QUIET, self.next()).await {
            more?;
        }
        jiff::tz::db().reset();
        jiff::tz::reset_system_time_zone_cache();
        Ok(())
    }

    /// Waits for changes; whether one of them concerns zones.
    async fn next(&mut self) -> Result<bool> {
        let mut ready = self.events.readable().await.context("waiting for a change of zone data")?;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(self.events.get_ref(), &mut buffer);
        let mut relevant = false;
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().and_then(|name| name.to_str().ok()).unwrap_or_default();
                    relevant |= event.wd() != self.link_directory || self.link_names.contains(&name);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    ready.clear_ready();
                    return Ok(relevant);
                }
                Err(error) => return Err(error).context("reading changes of zone data"),
            }
        }
    }
}

/// A directory and those in it; none where it cannot be read.
fn directories(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let below = entries.map(|entry| entry.path()).filter(|path| path.is_dir() && !path.is_symlink());
    let root = root.is_dir().then(|| root.to_owned());
    root.into_iter().chain(below).collect()
}
