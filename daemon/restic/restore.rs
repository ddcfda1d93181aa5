//! `restore`: into a directory.

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
    /// Restores a snapshot, or parts of it, into a directory. Progress comes from restic 0.17 on.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], or as any call. Includes that match nothing are no error: restic exits with 0 all the same,
    /// so look whether they are there.
    pub async fn restore(
        &self,
        access: &Access,
        request: &RestoreRequest,
        terms: &Terms,
        mut progress: impl FnMut(Progress) + Send,
    ) -> Result<(), Error> {
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
        self.call_lines(access, terms, &request.call(self.has_sparse()), &mut hear).await.map(drop)
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
