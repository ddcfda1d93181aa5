//! One object of a source whose dump is what a program prints: into a file, or poured into feeds while it comes.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Taken;
use super::judge::Judge;
use super::record::{self, Record};
use super::run::{self, Call, judge};
use super::site::Site;
use crate::definition::Remote;
use crate::process::{self, Ended, Feed, Listener, Sign, Source};

/// What of a source becomes one file each.
#[derive(Debug, Default)]
pub struct Objects {
    /// In the order in which they are dumped.
    pub list: Vec<Object>,
    /// What was noticed and is no failure.
    pub warnings: Vec<String>,
}

/// One of them.
#[derive(Debug)]
pub struct Object {
    /// What it is, for messages: `the roles`, `database "shop"`.
    pub what: String,
    /// Whether the set is good without it.
    pub optional: bool,
    /// What a manifest will say of it; size and SHA-256 are not known yet.
    pub record: Record,
    /// Prints it.
    pub(super) call: Call,
    pub(super) proof: Proof,
}

/// How it is found out whether all of it came. That its program exits with 0 is not enough: wrappers hide failures, and
/// containers cut streams off.
#[derive(Debug)]
pub(super) struct Proof {
    pub(super) looks: Looks,
    /// Reads all of it.
    pub(super) reader: Option<Call>,
}

/// What a whole dump looks like. An empty one is none.
#[derive(Debug, Clone, Copy)]
pub(super) enum Looks {
    /// Nothing is known of it.
    Any,
    /// It begins with these bytes.
    Begins(&'static [u8]),
    /// It begins with one of these, and has its end marker near its end.
    Ends { begins: &'static [&'static str], end: &'static str },
}

impl From<Looks> for Proof {
    fn from(looks: Looks) -> Self {
        Self { looks, reader: None }
    }
}

impl Object {
    async fn stage(self, site: &Site, dir: &Path) -> Result<Record> {
        let path = dir.join(self.record.name());
        run::into_file(self.call, &path, &site.cancel).await?;
        match self.proof.looks {
            Looks::Any => {}
            Looks::Ends { begins, end } => record::check_ends(&path, begins, end).await?,
            Looks::Begins(magic) => record::check_magic(&path, magic).await?,
        }
        if let Some(reader) = self.proof.reader {
            read_through(reader, &path, &site.cancel).await?;
        }
        let (size, sha256) = record::measure(&path).await?;
        Ok(Record { size, sha256, ..self.record })
    }

    /// Runs its program and pours what that prints into the feeds, one piece after the other into each of them, so that
    /// no more than a piece is held. A feed that refuses is dropped; the others go on. What is still there afterwards
    /// holds all of it and is not ended: that is for the caller to do, or not.
    ///
    /// restic could run the program itself (`--stdin-from-command`, from 0.17 on). It would believe the exit code alone,
    /// it would run in restic's sandbox as restic's user, and several repositories would mean several dumps.
    ///
    /// # Errors
    /// Anything that leaves a doubt whether it came whole; or no feed is left.
    pub async fn pour(self, site: &Site, feeds: &mut [Option<Feed>]) -> Result<Record> {
        let Call { name, program, far, .. } = self.call;
        let cancel = site.cancel.child_token();
        // Whatever ends us ends the reader.
        let _guard = cancel.clone().drop_guard();
        let reading = self.proof.reader.map(|reader| Reading::begin(reader, &cancel)).transpose()?;
        let mut pour = Pour { judge: Judge::default(), feeds, reading, cancel: &cancel };
        let ended = process::run_heard(program, &cancel, &mut pour).await?;
        let Pour { judge: seen, feeds, reading, .. } = pour;
        // The last piece may have been given up halfway, of a program that had ended well already.
        ensure!(!cancel.is_cancelled(), "{name} was cancelled");
        ensure!(feeds.iter().any(Option::is_some), "no repository takes it any more");
        // A program that was stopped because its reader refused is not to blame.
        if reading.as_ref().is_none_or(|reading| reading.feed.is_some()) {
            run::arrived(far.as_ref(), &ended)?;
            judge(&name, &ended)?;
        }
        seen.check(self.proof.looks).with_context(|| self.record.file.clone())?;
        if let Some(reading) = reading {
            reading.end().await.with_context(|| format!("reading {} to its end", self.record.file))?;
        }
        let (size, sha256) = seen.measured();
        Ok(Record { size, sha256, ..self.record })
    }
}

/// Dumps all of them into a directory.
pub(super) async fn stage(site: &Site, objects: Objects, dir: &Path) -> Result<Taken> {
    let mut taken = Taken { records: Vec::new(), warnings: objects.warnings };
    for object in objects.list {
        let (what, optional, path) = (object.what.clone(), object.optional, dir.join(object.record.name()));
        match object.stage(site, dir).await {
            Ok(record) => taken.records.push(record),
            Err(failure) if optional => {
                run::remove_half(&path).await?;
                taken.warnings.push(missing(&what, &failure));
            }
            Err(failure) => return Err(failure.context(format!("dumping {what}"))),
        }
    }
    Ok(taken)
}

/// What is said of an object that could not be had and need not.
pub fn missing(what: &str, failure: &anyhow::Error) -> String {
    format!("{what} are not in the dump: {failure:#}")
}

/// Lets a program read a file to its end.
pub(super) async fn read_through(reader: Call, path: &Path, cancel: &CancellationToken) -> Result<()> {
    let shown = path.display();
    run::from_file(reader, path, cancel).await.with_context(|| format!("reading {shown} to its end"))
}

/// What is done with each piece.
struct Pour<'a> {
    judge: Judge,
    feeds: &'a mut [Option<Feed>],
    reading: Option<Reading>,
    cancel: &'a CancellationToken,
}

impl Listener for Pour<'_> {
    const BULK: bool = true;

    async fn hear(&mut self, source: Source, piece: &[u8]) -> Sign {
        if source == Source::Stderr {
            return Sign::Life;
        }
        let cancel = self.cancel;
        tokio::select! {
            sign = self.take(piece) => sign,
            // A feed may hang.
            () = cancel.cancelled() => Sign::Stop,
        }
    }
}

impl Pour<'_> {
    async fn take(&mut self, piece: &[u8]) -> Sign {
        self.judge.feed(piece);
        for feed in self.feeds.iter_mut() {
            give(feed, piece).await;
        }
        let mut whole = true;
        if let Some(reading) = &mut self.reading {
            give(&mut reading.feed, piece).await;
            whole = reading.feed.is_some();
        }
        let taken = self.feeds.iter().any(Option::is_some);
        if taken && whole { Sign::Life } else { Sign::Stop }
    }
}

/// One that refuses is done with.
async fn give(feed: &mut Option<Feed>, piece: &[u8]) {
    if let Some(open) = feed
        && open.write(piece).await.is_err()
    {
        *feed = None;
    }
}

/// A program that reads along.
struct Reading {
    name: String,
    remote: Option<Remote>,
    feed: Option<Feed>,
    task: JoinHandle<Result<Ended, process::Error>>,
}

impl Reading {
    fn begin(reader: Call, cancel: &CancellationToken) -> Result<Self> {
        let Call { name, mut program, far: remote, .. } = reader.that_reads();
        let (feed, stdin) = Feed::new()?;
        program.stdin = stdin;
        let cancel = cancel.clone();
        let task = tokio::spawn(async move { process::run(program, &cancel, |_, _| Sign::Life).await });
        Ok(Self { name, remote, feed: Some(feed), task })
    }

    async fn end(self) -> Result<()> {
        // One that is gone has said why.
        let ended = self.feed.as_ref().map(Feed::end);
        let read = self.task.await??;
        run::arrived(self.remote.as_ref(), &read)?;
        judge(&self.name, &read)?;
        match ended {
            Some(Ok(())) => Ok(()),
            _ => bail!("{} stopped reading", self.name),
        }
    }
}
