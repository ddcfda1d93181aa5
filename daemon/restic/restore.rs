//! `restore`: into a directory, counted.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

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
    pub includes: Vec<String>,
    /// Whether to read everything back and compare.
    pub verify: bool,
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
    pub missing: Vec<String>,
}

#[derive(Deserialize)]
#[serde(tag = "message_type", rename_all = "snake_case")]
enum Message {
    Status(Progress),
    #[serde(other)]
    Other,
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
        for include in &self.includes {
            call.args.extend(["--include".into(), literal(include).into()]);
        }
        call
    }
}

/// A path as a pattern that matches only itself and what is below it.
fn literal(path: &str) -> String {
    let mut pattern = String::from("/");
    for c in path.trim_matches('/').chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

fn count(target: &Path, includes: &[String]) -> std::io::Result<RestoreSummary> {
    let mut sum = RestoreSummary::default();
    let mut todo = vec![target.to_path_buf()];
    while let Some(dir) = todo.pop() {
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            // Nothing matched: restic did not even make the target.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && dir == target => break,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let meta = entry.metadata()?;
            if meta.is_dir() {
                sum.directories += 1;
                todo.push(entry.path());
            } else {
                sum.files += 1;
                sum.bytes += if meta.is_file() { meta.len() } else { 0 };
            }
        }
    }
    let there = |include: &&String| target.join(include.trim_matches('/')).symlink_metadata().is_ok();
    sum.missing = includes.iter().filter(|i| !there(i)).cloned().collect();
    Ok(sum)
}
