//! Where files of a dump are worked on: on this machine, or in a throw-away container beside the server's, of the same
//! image, which sees our directories under names of its own, or where it may not, a volume with copies of them. So the
//! server's own programs do it, also while it is stopped.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio_util::sync::CancellationToken;

use super::run::{self, Call};
use super::shelf::Shelf;
use super::site::{QUESTION, Site};
use crate::process::Limits;

/// Where such a container sees what is ours.
const THERE: &str = "/holdfast";

/// A place to work at.
pub(super) struct Bench<'s> {
    site: &'s Site,
    /// What the programs see, as we name it and as they do; nothing: they are on this machine.
    binds: Vec<(PathBuf, PathBuf)>,
}

impl<'s> Bench<'s> {
    /// A bench with these directories and files on it.
    pub(super) fn new<'p>(site: &'s Site, things: impl IntoIterator<Item = &'p Path>) -> Self {
        let things = things.into_iter().filter(|_| site.contained.is_some()).enumerate();
        let binds = things.map(|(number, here)| {
            // What lies in our volume, and what is mounted beside it.
            let there = if Self::apart(site, here) {
                format!("{THERE}/{number}")
            } else {
                format!("{THERE}-{number}")
            };
            (here.to_owned(), there.into())
        });
        Self { site, binds: binds.collect() }
    }

    /// Whether the container may not see it where it lies, so that it goes into a volume.
    fn apart(site: &Site, here: &Path) -> bool {
        site.foreign() && !here.starts_with(site.scratch())
    }

    /// Brings there what the programs are to see, where they do not see ours. What a dead job left must be gone.
    pub(super) async fn send(&self) -> Result<()> {
        if !self.site.foreign() {
            return Ok(());
        }
        let shelf = Shelf::make(self.site).await?;
        for (here, there) in self.binds.iter().filter(|(here, _)| Self::apart(self.site, here)) {
            shelf.put(here, &name(there)).await?;
        }
        Ok(())
    }

    /// Brings back a directory that programs worked in, where that was not ours.
    pub(super) async fn fetch(&self, dir: &Path) -> Result<()> {
        match self.binds.iter().find(|(here, _)| here == dir && Self::apart(self.site, here)) {
            Some((_, there)) => Shelf::find(self.site).await?.fetch(&name(there), dir).await,
            None => Ok(()),
        }
    }

    /// A program in the container beside the server's.
    fn beside(&self, argv: Vec<OsString>, env: &[(&str, OsString)], named: bool, online: bool) -> Call {
        let (copied, bound): (Vec<_>, Vec<_>) =
            self.binds.iter().cloned().partition(|(here, _)| Self::apart(self.site, here));
        let volume = (!copied.is_empty()).then_some(THERE);
        self.site.beside(argv, env, (&bound, volume), named, online)
    }

    /// A path of ours as the programs see it.
    pub(super) fn seen(&self, path: &Path) -> PathBuf {
        let seen = self.binds.iter().find_map(|(here, there)| {
            let rest = path.strip_prefix(here).ok()?;
            Some(if rest.as_os_str().is_empty() { there.clone() } else { there.join(rest) })
        });
        seen.unwrap_or_else(|| path.to_owned())
    }

    /// A program that may take long, and needs no server.
    pub(super) fn call(&self, argv: Vec<OsString>, env: &[(&str, OsString)]) -> Call {
        self.beside(argv, env, true, false)
    }

    /// One that speaks to the server, and may take long.
    pub(super) fn online(&self, argv: Vec<OsString>, env: &[(&str, OsString)]) -> Call {
        self.beside(argv, env, true, true)
    }

    /// One that is asked something: others of its kind may be asked meanwhile.
    pub(super) fn question(&self, argv: Vec<OsString>, env: &[(&str, OsString)], online: bool) -> Call {
        let mut call = self.beside(argv, env, false, online);
        call.program.limits = Limits::within(QUESTION);
        call
    }

    /// Ends what an earlier job left, or what was given up: whoever ends the engine's program does not end its container.
    pub(super) async fn clear(&self) -> Result<()> {
        // Goes on although the job is cancelled.
        let never = CancellationToken::new();
        let Some((there, remove)) = self.site.own_container() else { return Ok(()) };
        let clearing = "removing our own container, which an earlier job left";
        if !run::ask(there, &never).await.context(clearing)?.trim().is_empty() {
            run::ask(remove, &never).await.context(clearing)?;
        }
        if self.site.foreign() { Shelf::clear(self.site).await } else { Ok(()) }
    }
}

/// The name of what lies in our volume.
fn name(there: &Path) -> String {
    there.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
