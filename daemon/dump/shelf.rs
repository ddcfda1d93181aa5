//! A volume of ours in a podman without root, for what the programs beside a server read and make: its user may not enter our
//! directories. Streams go there and come back through `podman unshare`, so that all there is done as that user, in its
//! namespace: nothing that lives there leads root anywhere. What comes back is judged like any archive of a stranger.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio_util::sync::CancellationToken;

use super::lies;
use super::run::{self, Call};
use super::site::{Site, words};
use crate::archive;
use crate::process::{self, Ended, Sign, Stdout};
use crate::target::tar_bytes;

/// What stays free on the disk that something is brought to, in bytes.
const RESERVE: u64 = 256 << 20;

/// The volume.
pub(super) struct Shelf<'s> {
    site: &'s Site,
    /// Where it lies, as its user says: only that user goes there.
    dir: PathBuf,
}

impl<'s> Shelf<'s> {
    /// Makes it. What a dead job left must be gone.
    pub(super) async fn make(site: &'s Site) -> Result<Self> {
        run::ask(site.engine(["volume", "create", &site.own_name()]), &site.cancel)
            .await
            .context("making a volume of our own to work in")?;
        Self::find(site).await
    }

    /// One that was made.
    pub(super) async fn find(site: &'s Site) -> Result<Self> {
        let argv = ["volume", "inspect", "--format", "{{.Mountpoint}}", &site.own_name()];
        let said = run::ask(site.engine(argv), &site.cancel).await;
        let said = said.context("looking for our own volume")?;
        let dir = PathBuf::from(said.trim_end_matches('\n'));
        ensure!(dir.is_absolute(), "podman says {said:?} of where a volume lies");
        Ok(Self { site, dir })
    }

    /// Removes it, if it is there.
    pub(super) async fn clear(site: &Site) -> Result<()> {
        // Goes on although the job is cancelled.
        let never = CancellationToken::new();
        let filter = format!("name=^{}$", site.own_name());
        let argv = ["volume", "ls", "--quiet", "--filter", &filter];
        let there = run::ask(site.engine(argv), &never).await;
        if there.context("looking for our own volume")?.trim().is_empty() {
            return Ok(());
        }
        let gone = run::ask(site.engine(["volume", "rm", "--force", &site.own_name()]), &never).await;
        gone.map(drop).context("removing our own volume")
    }

    /// Brings a directory there.
    pub(super) async fn put(&self, from: &Path, name: &str) -> Result<()> {
        let (bringing, to) = (|| format!("bringing {} there", from.display()), self.dir.join(name));
        let mut argv = words(["mkdir", "-m", "0700", "--"]);
        argv.push(to.clone().into());
        run::ask(self.there(argv), &self.site.cancel).await.with_context(bringing)?;
        let mut pack = words(["tar", "--create", "--file=-", "--totals", "--sparse", "--format=posix"]);
        pack.extend([directory(from), ".".into()]);
        let mut unpack = words(["tar", "--extract", "--file=-", "--totals", "--no-same-owner"]);
        unpack.push(directory(&to));
        let (packed, came) =
            self.through(self.site.ours(pack), self.there(unpack)).await.with_context(bringing)?;
        let (sent, came) = (tar_bytes(&packed), tar_bytes(&came));
        ensure!(sent.is_some() && sent == came, "{}: {sent:?} bytes were sent and {came:?} came", bringing());
        Ok(())
    }

    /// Brings a directory back, in place of the one that was brought there.
    pub(super) async fn fetch(&self, name: &str, into: &Path) -> Result<()> {
        let bringing = || format!("bringing {} back", into.display());
        let mut came = into.to_owned().into_os_string();
        came.push(".came");
        let came = PathBuf::from(came);
        run::private_dir(&came).await?;
        let mut argv =
            words(["tar", "--create", "--file=-", "--sparse", "--format=posix", "--numeric-owner"]);
        argv.extend([directory(&self.dir.join(name)), ".".into()]);
        let unpacked = self.unpacked(self.there(argv), &came).await;
        let into = into.to_owned();
        tokio::task::spawn_blocking(move || match unpacked {
            Ok(()) => Ok(std::fs::remove_dir_all(&into).and_then(|()| std::fs::rename(&came, &into))?),
            Err(failure) => std::fs::remove_dir_all(&came).map_err(Into::into).and(Err(failure)),
        })
        .await?
        .with_context(bringing)
    }

    async fn unpacked(&self, from: Call, came: &Path) -> Result<()> {
        let Call { name, mut program, .. } = from;
        let (reads, writes) = pipe_with(PipeFlags::CLOEXEC)?;
        program.stdout = Stdout::File(writes);
        // Where unpacking fails nobody reads any more, and the other one ends by itself.
        let cancel = &self.site.cancel;
        let ended = process::run(program, cancel, |_, _| Sign::Life);
        let (unpacked, ended) = tokio::join!(self.unpack(reads, came, cancel), ended);
        match (unpacked, run::judge(&name, &ended?)) {
            (Err(failure), Err(second)) => bail!("{failure:#}; {second:#}"),
            (unpacked, judged) => judged.and(unpacked)?,
        }
        let came = came.to_owned();
        tokio::task::spawn_blocking(move || lies::plain(&came)).await?
    }

    async fn unpack(&self, from: OwnedFd, into: &Path, stop: &CancellationToken) -> Result<()> {
        let stall = self.site.long().stall.unwrap_or(super::site::QUESTION);
        let (terms, into) =
            (archive::Terms { cancel: stop.clone(), stall, reserve: RESERVE }, into.to_owned());
        let unpacked = tokio::task::spawn_blocking(move || archive::unpack(from, &into, &terms, |_| ()));
        let left_out = unpacked.await?.context("what came of it is no whole tar")?.left_out;
        ensure!(left_out.is_empty(), "it holds what no dump has: {}", left_out.join("; "));
        Ok(())
    }

    /// A program of this machine, as the user and in its namespace.
    fn there(&self, argv: Vec<OsString>) -> Call {
        let mut call = self.site.engine(std::iter::once("unshare".into()).chain(argv));
        call.program.limits = self.site.long();
        call
    }

    /// Lets one program read what another one prints.
    async fn through(&self, from: Call, to: Call) -> Result<(Ended, Ended)> {
        let (sent, taken) = process::pair(from.program, to.program, &self.site.cancel).await?;
        let (sent, taken) = (sent?, taken?);
        // Whoever did not read is to blame, not who could not write then.
        if taken.stopped.is_none() {
            run::judge(&to.name, &taken)?;
        }
        run::judge(&from.name, &sent)?;
        run::judge(&to.name, &taken)?;
        Ok((sent, taken))
    }
}

fn directory(dir: &Path) -> OsString {
    let mut option = OsString::from("--directory=");
    option.push(dir);
    option
}
