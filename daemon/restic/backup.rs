//! `backup`: one process, its progress, its summary.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Deserialize;

use super::call::{Call, Done};
use super::{Access, Error, Restic, Terms};
use crate::process::Sign;

/// What to save.
#[derive(Debug, Clone, Default)]
pub struct BackupRequest {
    /// Where restic runs; relative names in the lists start here and are stored as they are named.
    pub dir: PathBuf,
    /// Files with NUL-separated names to be saved, taken literally.
    pub files_from_raw: Vec<PathBuf>,
    /// A file of exclude patterns. restic expands `$NAME` in it; `$$` is a dollar sign.
    pub exclude_file: Option<PathBuf>,
    /// Tags; no commas.
    pub tags: Vec<String>,
    /// The host name in the snapshot.
    pub host: String,
    /// The snapshot to compare with; none: restic looks for one with the same host and paths.
    pub parent: Option<String>,
    /// The snapshot's time; none: now.
    pub time: Option<Timestamp>,
}

/// How far a backup or restore is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Progress {
    /// Bytes read or restored.
    #[serde(default)]
    pub bytes_done: u64,
    /// Bytes known so far; grows while restic still looks around.
    #[serde(default, rename = "total_bytes")]
    pub bytes_total: u64,
    /// Files done.
    #[serde(default)]
    pub files_done: u64,
    /// Files known so far.
    #[serde(default, rename = "total_files")]
    pub files_total: u64,
    /// What is being read now.
    #[serde(default, rename = "current_files")]
    pub current: Vec<String>,
}

/// What a backup did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct BackupSummary {
    /// The snapshot: its whole id, or its first 8 digits from old restic (0.14) in a repository that is not local.
    #[serde(default)]
    pub snapshot_id: String,
    /// Files that the parent did not have.
    pub files_new: u64,
    /// Files that differ from the parent's.
    pub files_changed: u64,
    /// Files as in the parent.
    pub files_unmodified: u64,
    /// Bytes added to the repository, before compression.
    pub data_added: u64,
    /// Files read.
    pub total_files_processed: u64,
    /// Bytes read.
    pub total_bytes_processed: u64,
    /// Whether something could not be read (exit code 3): see `unreadable` and `missing`.
    #[serde(skip)]
    pub partial: bool,
    /// What could not be read, at most 20 names.
    #[serde(skip)]
    pub unreadable: Vec<String>,
    /// What was named and is not there, at most 20 names; before 0.19 that is not `partial`.
    #[serde(skip)]
    pub missing: Vec<String>,
}

#[derive(Deserialize)]
#[serde(tag = "message_type", rename_all = "snake_case")]
enum Message {
    Status(Progress),
    Summary(BackupSummary),
    #[serde(other)]
    Other,
}

impl Restic {
    /// Makes a snapshot. A parent that is gone is no failure: then restic looks for one itself.
    ///
    /// # Errors
    /// [`Error::NoSummary`] when restic claims success without a result, [`Error::NothingToBackUp`], or as any call.
    pub async fn backup(
        &self,
        access: &Access,
        request: &BackupRequest,
        terms: &Terms,
        mut progress: impl FnMut(Progress) + Send,
    ) -> Result<BackupSummary, Error> {
        let result = self.backup_once(access, request, terms, &mut progress).await;
        match (result, &request.parent) {
            (Err(Error::NoSnapshot(_)), Some(parent)) => {
                tracing::info!(%parent, "the parent snapshot is gone, restic looks for another one");
                let request = BackupRequest { parent: None, ..request.clone() };
                self.backup_once(access, &request, terms, &mut progress).await
            }
            (result, _) => result,
        }
    }

    async fn backup_once(
        &self,
        access: &Access,
        request: &BackupRequest,
        terms: &Terms,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<BackupSummary, Error> {
        let mut said = Said::default();
        let mut hear = |line: &[u8]| said.hear(line, progress);
        let done = self.call_lines(access, terms, &request.call()?, &mut hear).await?;
        said.result(access, done)
    }
}

/// What a backup has said so far.
#[derive(Default)]
pub(super) struct Said {
    summary: Option<BackupSummary>,
    before: (u64, u64),
}

impl Said {
    /// Takes a line; more bytes and files than before are a sign of life.
    pub(super) fn hear(&mut self, line: &[u8], progress: &mut (dyn FnMut(Progress) + Send)) -> Sign {
        match serde_json::from_slice(line) {
            Ok(Message::Status(status)) => {
                let now = (status.bytes_done, status.files_done + status.files_total);
                let sign = if now == self.before { Sign::Nothing } else { Sign::Life };
                self.before = now;
                progress(status);
                sign
            }
            Ok(Message::Summary(said)) => {
                self.summary = Some(said);
                Sign::Life
            }
            Ok(Message::Other) | Err(_) => Sign::Nothing,
        }
    }

    /// What it came to.
    pub(super) fn result(self, access: &Access, done: Done) -> Result<BackupSummary, Error> {
        let summary = self.summary.filter(|s| !s.snapshot_id.is_empty()).ok_or(Error::NoSummary)?;
        Ok(complete(access, summary, done))
    }
}

/// Adds what the exit code and standard error say, and the rest of a short id where we can see it.
fn complete(access: &Access, mut summary: BackupSummary, done: Done) -> BackupSummary {
    summary.partial = done.code == 3;
    summary.unreadable = done.notes.unreadable;
    summary.missing = done.notes.missing;
    if summary.snapshot_id.len() < 64
        && let Some(whole) = access.local_path.as_ref().and_then(|p| whole_id(p, &summary.snapshot_id))
    {
        summary.snapshot_id = whole;
    }
    summary
}

fn whole_id(repository: &std::path::Path, short: &str) -> Option<String> {
    let names = std::fs::read_dir(repository.join("snapshots")).ok()?;
    let mut found =
        names.filter_map(|e| e.ok()?.file_name().into_string().ok()).filter(|n| n.starts_with(short));
    found.next().filter(|_| found.next().is_none())
}

/// restic takes a comma for the end of a tag.
pub(super) fn check_tags(tags: &[String]) -> Result<(), Error> {
    match tags.iter().find(|t| t.contains(',') || t.is_empty()) {
        Some(tag) => Err(Error::Unusable(format!("tag {tag:?}: a tag is not empty and has no comma"))),
        None => Ok(()),
    }
}

impl BackupRequest {
    fn call(&self) -> Result<Call, Error> {
        check_tags(&self.tags)?;
        let mut call = Call::new(["backup", "--json", "--host"]);
        call.args.push(self.host.clone().into());
        for list in &self.files_from_raw {
            call.args.extend(["--files-from-raw".into(), list.into()]);
        }
        if let Some(file) = &self.exclude_file {
            call.args.extend(["--exclude-file".into(), file.into()]);
        }
        for tag in &self.tags {
            call.args.extend(["--tag".into(), tag.into()]);
        }
        if let Some(parent) = &self.parent {
            call.args.extend(["--parent".into(), parent.into()]);
        }
        if let Some(time) = self.time {
            call.args.extend(["--time".into(), time.strftime("%Y-%m-%d %H:%M:%S").to_string().into()]);
        }
        call.dir = Some(self.dir.clone());
        call.also_good = &[3];
        Ok(call)
    }
}
