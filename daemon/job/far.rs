//! Data of another machine changes places there, by a script that may be cut off anywhere and run again.
//!
//! Beside what lives lies a directory of ours with `new` and `old`. A swap moves what lives out of the way and what waits
//! into its place: between the two nothing lives there, for as long as one rename takes, and the undo step says so.

mod script;
mod tries;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use script::SCRIPT;
pub(in crate::job) use tries::{Tries, one_or_all};

use crate::definition::Remote;
use crate::process::{self, Limits, Program};
use crate::restic;
use crate::target::{SshError, TreePath, judge, over_ssh};

/// How long one call may take: it may remove a large tree.
const LIMIT: Duration = Duration::from_secs(3_600);
/// The most that a call may say.
const ANSWER: usize = 8 << 20;

/// One thing that changes places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FarItem {
    /// Where it lives there.
    pub live: TreePath,
    /// Our directory beside it.
    pub annex: TreePath,
    /// Whether something lived there.
    pub was: bool,
    /// Whether something comes there.
    pub comes: bool,
}

/// Whose a directory there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// Numbers of owner and group, as `chown` takes them.
    pub owner: String,
    /// Permission bits, octal.
    pub mode: String,
}

/// The directory of a volume there, whose children change places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FarRoot {
    /// Where it lies.
    pub dir: TreePath,
    /// Our directory in it.
    pub annex: TreePath,
    /// Whose it was.
    pub was: Marks,
    /// Whose it is to be.
    pub comes: Marks,
}

/// What changes places on another machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Far {
    /// The machine.
    pub remote: Remote,
    /// What.
    pub items: Vec<FarItem>,
    /// Volumes that come as a whole.
    #[serde(default)]
    pub roots: Vec<FarRoot>,
    /// What comes waits in `old`, for it is put back; otherwise in `new`.
    pub back: bool,
}

impl Far {
    /// Our directories there.
    pub(super) fn annexes(&self) -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> = self.items.iter().map(|item| item.annex.0.clone()).collect();
        all.extend(self.roots.iter().map(|root| root.annex.0.clone()));
        all.sort();
        all.dedup();
        all
    }

    /// The other way round, once it is done.
    pub(super) fn reversed(&self) -> Self {
        let turn = |item: &FarItem| FarItem { was: item.comes, comes: item.was, ..item.clone() };
        let turned =
            |root: &FarRoot| FarRoot { was: root.comes.clone(), comes: root.was.clone(), ..root.clone() };
        Self {
            remote: self.remote.clone(),
            items: self.items.iter().map(turn).collect(),
            roots: self.roots.iter().map(turned).collect(),
            back: !self.back,
        }
    }

    /// For people.
    pub(super) fn shown(&self) -> String {
        let dirs = self.annexes();
        let dirs: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        format!("{} on {}", dirs.join(", "), self.remote.login())
    }

    /// `marks` says which of a directory's are to be set.
    fn words(&self, marks: impl Fn(&FarRoot) -> &Marks) -> Vec<OsString> {
        let (waits, rests) = if self.back { ("old", "new") } else { ("new", "old") };
        let digit = |set: bool| OsString::from(if set { "1" } else { "0" });
        let one = |item: &FarItem| {
            let name = item.live.0.file_name().unwrap_or(OsStr::new("")).to_owned();
            let (live, annex) = (item.live.0.clone().into(), item.annex.0.clone().into());
            [live, annex, name, waits.into(), rests.into(), digit(item.was), digit(item.comes)]
        };
        let root = |root: &FarRoot| {
            let Marks { owner, mode } = marks(root).clone();
            let (annex, dir) = (root.annex.0.clone().into(), root.dir.0.clone().into());
            ["marks".into(), annex, dir, owner.into(), mode.into(), OsString::new(), OsString::new()]
        };
        self.items.iter().flat_map(one).chain(self.roots.iter().flat_map(root)).collect()
    }

    /// Lets what waits live, and what lived wait.
    ///
    /// # Errors
    /// The connection's, or the machine's words: then [`Far::put_back`] is due, for nobody knows how far it came.
    pub(super) async fn swap(&self, cancel: &CancellationToken) -> Result<()> {
        let swapped = call(&self.remote, "swap", self.words(|root| &root.comes), cancel).await;
        swapped.map(drop).with_context(|| format!("changing places on {}", self.remote.login()))
    }

    /// Undoes a swap wherever it stands. Safe to repeat.
    ///
    /// # Errors
    /// The connection's, or the machine's words.
    pub(super) async fn put_back(&self) -> Result<()> {
        let back = call(&self.remote, "back", self.words(|root| &root.was), &CancellationToken::new()).await;
        back.map(drop).with_context(|| format!("putting the old data back on {}", self.remote.login()))
    }

    /// As [`Far::put_back`], until the machine answers: loudly, and with pauses that grow.
    ///
    /// # Errors
    /// The machine answers, and cannot do it.
    pub(super) async fn put_back_at_last(
        &self,
        instance: &str,
        waits: impl Fn(Option<String>) + Sync,
    ) -> Result<()> {
        let mut tries = Tries::new();
        while let Err(failure) = self.put_back().await {
            tries.again(instance, &waits, failure).await?;
        }
        Ok(())
    }
}

/// Whether it failed only because the machine did not answer.
pub(super) fn passes(failure: &anyhow::Error) -> bool {
    failure.downcast_ref::<SshError>().is_some_and(SshError::retryable)
}

/// Which of these are there, whatever they are.
pub(super) async fn look(
    remote: &Remote,
    paths: &[PathBuf],
    cancel: &CancellationToken,
) -> Result<Vec<bool>> {
    let said = call(remote, "look", words(paths), cancel).await;
    let said = said.with_context(|| format!("looking at {}", remote.login()))?;
    let said = String::from_utf8_lossy(&said);
    let all: Vec<bool> = said.lines().map(|line| line == "1").collect();
    ensure!(all.len() == paths.len(), "{} said {said:?} of {} paths", remote.login(), paths.len());
    Ok(all)
}

/// The names in a directory there, but for ours.
pub(super) async fn list(remote: &Remote, dir: &Path, cancel: &CancellationToken) -> Result<Vec<OsString>> {
    let said = call(remote, "list", vec![dir.into()], cancel).await;
    let said = said.with_context(|| format!("looking into {} on {}", dir.display(), remote.login()))?;
    let names = said.split(|byte| *byte == 0).filter(|name| !name.is_empty() && !name.starts_with(OWN));
    Ok(names.map(|name| OsString::from_vec(name.to_vec())).collect())
}

/// Whose a directory there is.
pub(super) async fn marks(remote: &Remote, dir: &Path, cancel: &CancellationToken) -> Result<Marks> {
    let said = call(remote, "marks", vec![dir.into()], cancel).await;
    let said = said.with_context(|| format!("looking at {} on {}", dir.display(), remote.login()))?;
    let said = String::from_utf8_lossy(&said);
    let (owner, mode) = said.trim().split_once(' ').with_context(|| format!("stat says {said:?}"))?;
    Ok(Marks { owner: owner.to_owned(), mode: mode.to_owned() })
}

/// Makes our directories, 0700, with room for what comes and what was.
pub(super) async fn make(remote: &Remote, dirs: &[PathBuf], cancel: &CancellationToken) -> Result<()> {
    let made = call(remote, "make", words(dirs), cancel).await;
    made.map(drop).with_context(|| format!("making a directory on {}", remote.login()))
}

/// Makes directories that are missing, 0755, the upper ones first.
pub(super) async fn make_above(remote: &Remote, dirs: &[PathBuf], cancel: &CancellationToken) -> Result<()> {
    let made = call(remote, "above", words(dirs), cancel).await;
    made.map(drop).with_context(|| format!("making directories on {}", remote.login()))
}

/// Takes back what [`make_above`] made, unless something lies in it by now.
///
/// # Errors
/// The connection's, or the machine's words.
pub(super) async fn leave(remote: &Remote, dirs: &[PathBuf]) -> Result<()> {
    let lower_first: Vec<PathBuf> = dirs.iter().rev().cloned().collect();
    let left = call(remote, "leave", words(&lower_first), &CancellationToken::new()).await;
    left.map(drop).with_context(|| format!("removing {dirs:?} on {}", remote.login()))
}

/// Removes our directories; none there is well removed.
///
/// # Errors
/// The connection's, or the machine's words.
pub(super) async fn remove(remote: &Remote, dirs: &[PathBuf]) -> Result<()> {
    let own = |dir: &PathBuf| dir.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(OWN));
    ensure!(dirs.iter().all(own), "not a directory of ours: {dirs:?}");
    let removed = call(remote, "remove", words(dirs), &CancellationToken::new()).await;
    removed.map(drop).with_context(|| format!("removing {dirs:?} on {}", remote.login()))
}

/// Makes sure that data there can change places by a rename.
///
/// # Errors
/// The connection's, or what is in the way.
pub(super) async fn fits(remote: &Remote, paths: &[PathBuf], cancel: &CancellationToken) -> Result<()> {
    let fits = call(remote, "fits", words(paths), cancel).await;
    fits.map(drop).with_context(|| format!("looking at {}", remote.login()))
}

/// What was made there, where it is to wait, and whom it is to be given to there; nothing: it is that user's already.
pub(super) type Made = (PathBuf, PathBuf, Option<String>);

/// Moves what was made there to where it waits.
///
/// # Errors
/// The connection's, or the machine's words.
pub(super) async fn bring(remote: &Remote, moves: Vec<Made>, cancel: &CancellationToken) -> Result<()> {
    let three = |(from, to, owner): Made| [from.into(), to.into(), owner.unwrap_or_default().into()];
    let brought = call(remote, "bring", moves.into_iter().flat_map(three).collect(), cancel).await;
    brought.map(drop).with_context(|| format!("moving what was made on {}", remote.login()))
}

/// How the names of our directories there begin.
const OWN: &[u8] = b".holdfast-j";

fn words(paths: &[PathBuf]) -> Vec<OsString> {
    paths.iter().map(|path| path.clone().into()).collect()
}

async fn call(
    remote: &Remote,
    verb: &str,
    more: Vec<OsString>,
    cancel: &CancellationToken,
) -> Result<Vec<u8>> {
    let root = if remote.sudo { "sudo -n" } else { "" };
    let mut argv: Vec<OsString> = ["sh", "-c", SCRIPT, "sh", verb, root].map(OsString::from).to_vec();
    argv.extend(more);
    let mut program = Program::new(over_ssh(remote, argv));
    program.limits = Limits::within(LIMIT);
    let done = process::capture(program, cancel, ANSWER).await?;
    ensure!(!cancel.is_cancelled(), restic::Error::Cancelled);
    judge(remote, &done.ended).map_err(|failure| sudo_lacks(failure.into(), runs(verb)))?;
    if !done.ended.ok() {
        bail!("{} says: {}", remote.login(), done.ended.stderr_tail.trim());
    }
    Ok(done.stdout)
}

/// What a verb of [`SCRIPT`] runs as root.
fn runs(verb: &str) -> &'static str {
    match verb {
        "make" | "above" => "test, mkdir",
        "leave" => "test, rmdir",
        "remove" => "test, rm",
        "list" => "test, find",
        "fits" | "marks" => "test, stat",
        "swap" | "back" => "test, stat, readlink, find, mv",
        "bring" => "test, mv, chown",
        _ => "test",
    }
}

/// A restore needs lines of sudo that backups do not: says which, and how they come.
pub(super) fn sudo_lacks(failure: anyhow::Error, what: &str) -> anyhow::Error {
    if !matches!(failure.downcast_ref::<SshError>(), Some(SshError::Sudo { .. })) {
        return failure;
    }
    failure.context(format!(
        "sudo there has no line that lets a restore run `{what}`: `holdfast setup INSTANCE --restore` writes the file with all \
         of them, or prints it with --print-sudoers; it has none for names with blanks, and for parts of what is included"
    ))
}

/// Where a path of the tree lives there.
pub(super) fn live_of(item: &Path) -> Option<PathBuf> {
    item.strip_prefix("files").ok().map(|below| Path::new("/").join(below))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a shell is the judge of what it runs")]
fn shell() -> std::process::Command {
    std::process::Command::new("sh")
}

#[cfg(test)]
mod tests;
