//! `restore`: into a directory, counted.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::call::Call;
use super::forget::check_id;
use super::{Access, Error, Progress, Restic, Terms};
use crate::process::Sign;

/// What to restore.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// The snapshot's id.
    pub snapshot: String,
    /// Where to: a new, private directory. restic before 0.17 follows links that lie in it.
    pub target: PathBuf,
    /// Paths in the snapshot, taken literally, each with all below it; none: everything.
    pub includes: Vec<PathBuf>,
    /// Whether to read everything back and compare.
    pub verify: bool,
    /// Whether the target holds older data: what has the saved content already is not written again, and what the
    /// snapshot does not hold is removed. Needs [`Restic::restores_in_place`].
    pub over: bool,
}

/// What a restore left in the target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreSummary {
    /// Files, links and the like in the target, directories left out.
    pub files: u64,
    /// Directories in the target.
    pub directories: u64,
    /// Bytes in its regular files.
    pub bytes: u64,
    /// Includes that are not there: restic exits with 0 all the same.
    pub missing: Vec<PathBuf>,
}

#[derive(Deserialize)]
#[serde(tag = "message_type", rename_all = "snake_case")]
enum Message {
    #[serde(alias = "summary")]
    Status(Status),
    #[serde(other)]
    Other,
}

/// What restic says on its way; what it found unchanged is not in its totals.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    total_files: u64,
    files_restored: u64,
    files_skipped: u64,
    total_bytes: u64,
    bytes_restored: u64,
    bytes_skipped: u64,
}

impl From<Status> for Progress {
    fn from(status: Status) -> Self {
        Self {
            bytes_done: status.bytes_restored + status.bytes_skipped,
            bytes_total: status.total_bytes + status.bytes_skipped,
            files_done: status.files_restored + status.files_skipped,
            files_total: status.total_files + status.files_skipped,
            current: Vec::new(),
        }
    }
}

impl Restic {
    /// Restores a snapshot, or parts of it, into a directory, and counts what is there then.
    /// Progress comes from restic 0.17 on.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], or as any call. Includes that match nothing are no error: see
    /// [`RestoreSummary::missing`].
    pub async fn restore(
        &self,
        access: &Access,
        request: &RestoreRequest,
        terms: &Terms,
        mut progress: impl FnMut(Progress) + Send,
    ) -> Result<RestoreSummary, Error> {
        check_id(&request.snapshot)?;
        let mut before = Progress::default();
        let mut hear = |line: &[u8]| match serde_json::from_slice(line) {
            Ok(Message::Status(status)) => {
                let status = Progress::from(status);
                let sign = if status == before { Sign::Nothing } else { Sign::Life };
                before = status.clone();
                progress(status);
                sign
            }
            Ok(Message::Other) | Err(_) => Sign::Nothing,
        };
        self.call_lines(access, terms, &request.call(self.has_sparse()), &mut hear).await?;
        let (target, includes) = (request.target.clone(), request.includes.clone());
        let counted = tokio::task::spawn_blocking(move || count(&target, &includes)).await;
        counted.map_err(std::io::Error::other).flatten().map_err(|source| Error::File {
            what: format!("counting what was restored to {}", request.target.display()),
            source,
        })
    }
}

impl RestoreRequest {
    /// Holes of files come back as holes where restic can do that.
    fn call(&self, sparse: bool) -> Call {
        let mut call = Call::new(["restore", "--json", "--target"]);
        call.args.extend([self.target.clone().into(), OsString::from(&self.snapshot)]);
        call.args.extend(sparse.then(|| "--sparse".into()));
        call.args.extend(self.verify.then(|| "--verify".into()));
        if self.over {
            call.args.extend(["--overwrite", "always", "--delete"].map(OsString::from));
        }
        for include in &self.includes {
            call.args.extend(["--include".into(), literal(include)]);
        }
        call
    }
}

/// A path as a pattern that matches only itself and what is below it.
fn literal(path: &Path) -> OsString {
    let mut pattern = Vec::new();
    for part in path.components().filter(|part| matches!(part, Component::Normal(_))) {
        pattern.push(b'/');
        for byte in part.as_os_str().as_bytes() {
            if b"*?[]\\".contains(byte) {
                pattern.push(b'\\');
            }
            pattern.push(*byte);
        }
    }
    OsString::from_vec(pattern)
}

/// Counts what was asked for; each part of a restore that is fetched beside others counts its own.
fn count(target: &Path, includes: &[PathBuf]) -> std::io::Result<RestoreSummary> {
    let mut sum = RestoreSummary::default();
    let place = |include: &PathBuf| target.join(include.strip_prefix("/").unwrap_or(include));
    let mut todo = match includes {
        [] => vec![target.to_path_buf()],
        some => some.iter().map(place).collect(),
    };
    while let Some(path) = todo.pop() {
        let meta = match path.symlink_metadata() {
            Ok(meta) => meta,
            // Nothing matched: restic did not even make the target.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if !meta.is_dir() {
            sum.files += 1;
            sum.bytes += if meta.is_file() { meta.len() } else { 0 };
            continue;
        }
        sum.directories += u64::from(path != target);
        for entry in std::fs::read_dir(&path)? {
            todo.push(entry?.path());
        }
    }
    sum.missing = includes.iter().filter(|i| place(i).symlink_metadata().is_err()).cloned().collect();
    Ok(sum)
}
