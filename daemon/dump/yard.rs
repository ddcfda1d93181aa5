//! Where files of a dump are worked on over ssh: a directory of ours on the server's machine, whose own programs make there
//! what is to change places. It holds nothing that lives, so it may go at any time.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::far;
use super::laid::Owner;
use super::record;
use super::run::{self, Call};
use super::site::{Site, words};
use crate::definition::Remote;
use crate::process::Program;

/// A file system that has room and lasts; `/tmp` may be memory.
pub const ABOVE: &str = "/var/tmp";
/// Writes what it reads into a file, and says how much came.
const PUT: &str = "umask 077; cat >\"$1\" && wc -c <\"$1\"";

impl Site {
    /// The directory on another machine that [`Site::load_beside`] makes things in, so that it can be written down first;
    /// none: it makes nothing there.
    pub fn made_there(&self, job: &str) -> Option<PathBuf> {
        let name = format!(".holdfast-{job}_{}_made", self.name());
        (self.dump.remote.is_some() && self.dump.source.is_files()).then(|| Path::new(ABOVE).join(name))
    }
}

/// A place to work at on another machine.
pub(super) struct Yard<'s> {
    site: &'s Site,
    remote: &'s Remote,
    dir: PathBuf,
}

impl<'s> Yard<'s> {
    /// Makes it, where the source is on another machine. Nobody but whom we log in as enters it.
    pub(super) async fn open(site: &'s Site, job: &str) -> Result<Option<Self>> {
        let (Some(remote), Some(dir)) = (&site.dump.remote, site.made_there(job)) else { return Ok(None) };
        let yard = Self { site, remote, dir };
        yard.make(&yard.dir).await?;
        Ok(Some(yard))
    }

    /// A path in it.
    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A program there, as whom we log in as.
    pub(super) fn call(&self, argv: Vec<OsString>, env: &[(&str, OsString)]) -> Call {
        let name = argv.first().cloned().unwrap_or_default().to_string_lossy().into_owned();
        let far::Far { tied, reads } = far::program(self.remote, None, (None, argv), env);
        let [program, reads] = [tied, reads].map(|program| Program { limits: self.site.long(), ..program });
        Call { name, program, far: Some(self.remote.clone()), reads: Some(Box::new(reads)) }
    }

    /// Runs a program there; what it prints.
    pub(super) async fn ask(&self, argv: Vec<OsString>, env: &[(&str, OsString)]) -> Result<String> {
        run::ask(self.call(argv, env), &self.site.cancel).await
    }

    /// Makes a directory there, 0700.
    pub(super) async fn make(&self, dir: &Path) -> Result<()> {
        let mut argv = words(["mkdir", "-m", "0700", "--"]);
        argv.push(dir.into());
        let made = self.ask(argv, &[]).await;
        made.map(drop).with_context(|| format!("making {} on {}", dir.display(), self.remote.login()))
    }

    /// Brings a file there, whole.
    pub(super) async fn put(&self, file: &Path, name: &str) -> Result<PathBuf> {
        let (from, to) = (file.to_owned(), self.at(name));
        let file = tokio::task::spawn_blocking(move || record::open(&from)).await??;
        let size = file.metadata()?.len();
        let call = self.writing(&to).reading(file)?;
        self.came(call, &to, size).await?;
        Ok(to)
    }

    /// Writes a text there.
    pub(super) async fn write(&self, text: &str, to: &Path) -> Result<()> {
        self.came(self.writing(to).told(text), to, text.len() as u64).await
    }

    fn writing(&self, to: &Path) -> Call {
        let mut argv = words(["sh", "-c", PUT, "sh"]);
        argv.push(to.into());
        self.call(argv, &[])
    }

    async fn came(&self, call: Call, to: &Path, size: u64) -> Result<()> {
        let writing = || format!("writing {} on {}", to.display(), self.remote.login());
        let said = run::ask(call, &self.site.cancel).await.with_context(writing)?;
        let came: Option<u64> = said.trim().parse().ok();
        ensure!(came == Some(size), "{}: {:?} bytes of {size} came", writing(), said.trim());
        Ok(())
    }

    /// Gives what was made there the owner and the mode of what lives, else those that were saved. Where root is had by
    /// sudo, the owner is left for when it waits beside what lives, and is answered: in a directory that somebody else may
    /// exchange for a link, root gives nothing away.
    pub(super) async fn give(&self, made: &Path, live: &Path, saved: &Owner) -> Result<Option<String>> {
        let owner = far::owner(self.site, live).await.unwrap_or_else(|_| saved.clone());
        let (mode, whose) = owner.words();
        let mut argv = words(["chmod", &mode, "--"]);
        argv.push(made.into());
        self.ask(argv, &[]).await?;
        if self.remote.sudo {
            return Ok(Some(whose));
        }
        let mut argv = words(["chown", "-hR", &whose, "--"]);
        argv.push(made.into());
        let given = self.ask(argv, &[]).await;
        given.map(|_| None).with_context(|| {
            format!(
                "giving what was made for {} to its owner {whose} on {}: log in there as that user or as root, or set \
                 `sudo`",
                live.display(),
                self.remote.login()
            )
        })
    }
}
