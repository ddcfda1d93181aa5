//! One call of restic: arguments in, messages heard, an error that can be acted on out.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::classify::{brief, classify, storage};
use super::lock::Patience;
use super::notes::Notes;
use super::{Access, Error, Restic, Terms};
use crate::process::{self, Ended, How, Lines, Program, Sign, Source, Stdin, Why};

/// How long the second question may take.
const SECOND_QUESTION: Duration = Duration::from_secs(60);

/// Less than this, in bytes, is a full disk for restic: it writes packs of 16 MiB, two at once.
const TWO_PACKS: u64 = 32 << 20;

/// What listens to standard output, piece by piece.
pub(super) type Hear<'a> = &'a mut (dyn FnMut(&[u8]) -> Sign + Send);

/// What to call.
#[derive(Debug, Clone, Default)]
pub(super) struct Call {
    /// The subcommand and its arguments.
    pub(super) args: Vec<OsString>,
    /// Where it runs.
    pub(super) dir: Option<PathBuf>,
    /// Exit codes besides 0 that come with a result.
    pub(super) also_good: &'static [i32],
    /// Whether the cache is left alone.
    pub(super) no_cache: bool,
}

/// A call that gave a result.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) code: i32,
    pub(super) notes: Notes,
}

impl Call {
    pub(super) fn new<I>(args: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        Self { args: args.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// A call that reads without a lock: it never waits, and may fail when a prune removes what it reads.
    pub(super) fn unlocked<I>(args: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        let mut call = Self::new(args);
        call.args.push("--no-lock".into());
        call
    }
}

impl Restic {
    /// Makes a call, heals our own dead locks, waits for others as the terms say. When the cache's disk is full, the
    /// call is made again without the cache.
    pub(super) async fn call(
        &self,
        access: &Access,
        terms: &Terms,
        call: &Call,
        hear: Hear<'_>,
    ) -> Result<Done, Error> {
        let mut patience = Patience::new(terms.wait_for_lock);
        let mut call = std::borrow::Cow::Borrowed(call);
        loop {
            match self.attempt(access, terms, &call, hear).await {
                Err(Error::NoSpace(detail)) if !call.no_cache && names(&detail, &access.cache_dir) => {
                    tracing::warn!(%detail, "the cache's disk is full, restic goes on without the cache");
                    call.to_mut().no_cache = true;
                }
                Err(Error::Locked { holder }) => patience.consider(self, access, terms, holder).await?,
                other => return other,
            }
        }
    }

    /// Makes a call and hears its output line by line.
    pub(super) async fn call_lines(
        &self,
        access: &Access,
        terms: &Terms,
        call: &Call,
        hear: &mut (dyn FnMut(&[u8]) -> Sign + Send),
    ) -> Result<Done, Error> {
        let mut lines = Lines::default();
        let mut pieces = |piece: &[u8]| {
            let mut sign = Sign::Nothing;
            lines.feed(piece, |line| sign = sign.or(hear(line)));
            sign
        };
        let done = self.call(access, terms, call, &mut pieces).await?;
        lines.end(|line| _ = hear(line));
        Ok(done)
    }

    /// Makes a call and takes its output, at most `limit` bytes.
    pub(super) async fn bytes(
        &self,
        access: &Access,
        terms: &Terms,
        call: &Call,
        limit: usize,
    ) -> Result<(Vec<u8>, Done), Error> {
        let (mut bytes, mut too_much) = (Vec::new(), false);
        let result = self
            .call(access, terms, call, &mut |piece| {
                too_much |= bytes.len() + piece.len() > limit;
                if too_much {
                    return Sign::Stop;
                }
                bytes.extend_from_slice(piece);
                Sign::Life
            })
            .await;
        if too_much {
            return Err(process::Error::TooMuchOutput { program: self.path().into(), limit }.into());
        }
        Ok((bytes, result?))
    }

    /// Makes a call with a short answer.
    pub(super) async fn text(&self, access: &Access, terms: &Terms, call: &Call) -> Result<String, Error> {
        let (bytes, _) = self.bytes(access, terms, call, 64 << 20).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The program for a call; shared with `raw`.
    pub(super) fn program(&self, access: &Access, terms: &Terms, call: &Call) -> Program {
        let no_cache = call.no_cache.then(|| "--no-cache".into());
        let argv = std::iter::once(self.path().into()).chain(no_cache).chain(call.args.iter().cloned());
        Program {
            dir: call.dir.clone(),
            env: access.environment(),
            limits: terms.limits(),
            nice: terms.nice,
            ..Program::new::<Vec<OsString>>(argv.collect())
        }
    }

    pub(super) async fn attempt(
        &self,
        access: &Access,
        terms: &Terms,
        call: &Call,
        hear: Hear<'_>,
    ) -> Result<Done, Error> {
        let program = self.program(access, terms, call);
        self.run(access, terms, call, program, hear).await
    }

    /// Makes a call that reads `input`, once.
    pub(super) async fn attempt_with(
        &self,
        access: &Access,
        terms: &Terms,
        call: &Call,
        input: Stdin,
        hear: Hear<'_>,
    ) -> Result<Done, Error> {
        let program = Program { stdin: input, ..self.program(access, terms, call) };
        self.run(access, terms, call, program, hear).await
    }

    pub(super) async fn run(
        &self,
        access: &Access,
        terms: &Terms,
        call: &Call,
        program: Program,
        hear: Hear<'_>,
    ) -> Result<Done, Error> {
        let (mut notes, mut lines) = (Notes::default(), Lines::default());
        let ended = process::run_raw(program, &terms.cancel, |source, piece| match source {
            Source::Stdout => hear(piece),
            Source::Stderr => {
                let mut sign = Sign::Nothing;
                lines.feed(piece, |line| sign = sign.or(notes.hear(line)));
                sign
            }
        })
        .await?;
        lines.end(|line| _ = notes.hear(line));
        match ended.how {
            How::Exited(code) if code == 0 || call.also_good.contains(&code) => Ok(Done { code, notes }),
            _ => Err(self.explain(access, terms, call, &ended, &notes).await),
        }
    }

    /// What a failed call means.
    async fn explain(
        &self,
        access: &Access,
        terms: &Terms,
        call: &Call,
        ended: &Ended,
        notes: &Notes,
    ) -> Error {
        if notes.refused_delete {
            return Error::RefusedDelete;
        }
        if let Some(why) = ended.stopped {
            return stopped(access, terms, why, ended, notes).await;
        }
        let code = match ended.how {
            How::Signalled(signal) => return Error::Killed { signal },
            How::Exited(code) => code,
        };
        // What it means is read from what restic said; a secret that is one of restic's words must not hide that.
        let text = access.mask(&notes.text()).await;
        if let Some(error) = classify(code, &notes.text()) {
            return look(access, error.with_detail(brief(&text)));
        }
        let unknown = Error::Unknown { code, stderr: text };
        if code != 1 || self.typed_exit_codes() || is_config_question(call) {
            return unknown;
        }
        match Box::pin(self.config_id(access, &terms.question(SECOND_QUESTION))).await {
            Err(Error::Unknown { .. }) | Ok(_) => unknown,
            Err(cause) => cause,
        }
    }
}

fn names(text: &str, dir: &Path) -> bool {
    text.contains(&*dir.to_string_lossy())
}

fn is_config_question(call: &Call) -> bool {
    call.args.first().is_some_and(|a| a == "cat")
}

/// Why we stopped it; what it complained about while it was retrying says more than the time that went by.
async fn stopped(access: &Access, terms: &Terms, why: Why, ended: &Ended, notes: &Notes) -> Error {
    let retry = match (&notes.retry, why) {
        (Some(retry), Why::TimedOut | Why::Stalled | Why::Enough) => {
            let detail = brief(&access.mask(retry).await);
            storage(retry).map(|error| error.with_detail(detail))
        }
        _ => None,
    };
    match (retry, why) {
        (Some(error), _) => error,
        (None, Why::Cancelled) => Error::Cancelled,
        (None, Why::TimedOut) => Error::TimedOut(terms.timeout.unwrap_or(ended.duration)),
        (None, Why::Stalled) => full(access).unwrap_or(Error::Stalled(terms.stall.unwrap_or(ended.duration))),
        (None, Why::Enough) => Error::Unknown { code: -1, stderr: brief(&access.mask(&notes.text()).await) },
    }
}

/// Looks for ourselves whether a local repository's disk is full: restic 0.14 may hang then without a word.
fn full(access: &Access) -> Option<Error> {
    let path = access.local_path.as_ref()?;
    let disk = rustix::fs::statvfs(path).ok()?;
    let left = disk.f_bavail.saturating_mul(disk.f_frsize);
    (left < TWO_PACKS)
        .then(|| Error::NoSpace(format!("{} has {left} bytes left, and restic stands still", path.display())))
}

/// Looks for ourselves where the repository is a local directory: a lost file is not a missing repository.
fn look(access: &Access, error: Error) -> Error {
    let Some(path) = &access.local_path else { return error };
    match error {
        Error::NoRepository if has_entries(&path.join("keys")) || has_entries(&path.join("snapshots")) => {
            Error::Damaged(format!(
                "{} is missing, but keys or snapshots are there",
                path.join("config").display()
            ))
        }
        Error::WrongPassword if path.join("config").is_file() && !has_entries(&path.join("keys")) => {
            Error::Damaged(format!("{} holds no key", path.join("keys").display()))
        }
        other => other,
    }
}

fn has_entries(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}
