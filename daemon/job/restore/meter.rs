//! How far a fetch is: the sum of its parts, as restic tells it, or as what lies there where it does not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Request;
use crate::job::Live;
use crate::restic::Progress;

/// The least pause between two looks at what lies there.
const PAUSE: Duration = Duration::from_millis(500);
/// A look takes at most this part of the time.
const SHARE: u32 = 20;

/// Tells the job how far its fetch is.
pub(super) struct Meter {
    live: Arc<Live>,
    instance: String,
    repository: String,
    /// The size of all; 0: not known from the start.
    known: u64,
    parts: Mutex<BTreeMap<usize, Progress>>,
}

impl Meter {
    /// From the start the size of a whole set is known, so that a bar has its length.
    pub(super) fn new(live: &Arc<Live>, request: &Request) -> Self {
        let meter = Self {
            live: Arc::clone(live),
            instance: request.instance.name.to_string(),
            repository: request.set.repository.clone(),
            known: if request.include.is_empty() { request.set.size } else { 0 },
            parts: Mutex::default(),
        };
        meter.hear(0, Progress::default());
        meter
    }

    /// Takes in what one part says.
    pub(super) fn hear(&self, part: usize, progress: Progress) {
        let mut sum = Progress::default();
        {
            let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
            parts.insert(part, progress);
            for part in parts.values() {
                sum.bytes_done += part.bytes_done;
                sum.bytes_total += part.bytes_total;
                sum.files_done += part.files_done;
            }
        }
        sum.bytes_total = sum.bytes_total.max(self.known);
        self.live.advance(&self.instance, &self.repository, &sum);
    }

    /// All is there.
    pub(super) fn end(&self) {
        let (done, files) = {
            let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
            (parts.values().map(|p| p.bytes_total).sum::<u64>(), parts.values().map(|p| p.files_done).sum())
        };
        let all = done.max(self.known);
        let sum = Progress { bytes_done: all, bytes_total: all, files_done: files, ..Progress::default() };
        self.live.advance(&self.instance, &self.repository, &sum);
    }

    /// For a restic that says nothing: looks again and again at what it has written, for ever.
    pub(super) async fn watch(&self, staging: &Path) -> Result<()> {
        loop {
            let begin = Instant::now();
            self.look(staging).await?;
            tokio::time::sleep(PAUSE.max(begin.elapsed() * SHARE)).await;
        }
    }

    /// Looks at what is written.
    pub(super) async fn look(&self, staging: &Path) -> Result<()> {
        let dir = staging.to_owned();
        let (files, bytes) = tokio::task::spawn_blocking(move || lying(dir)).await?;
        let written = bytes.min(if self.known > 0 { self.known } else { u64::MAX });
        let progress = Progress { bytes_done: written, files_done: files, ..Progress::default() };
        self.hear(0, progress);
        Ok(())
    }
}

/// Files in a directory and their bytes; what comes and goes meanwhile does not matter.
fn lying(dir: PathBuf) -> (u64, u64) {
    let (mut files, mut bytes) = (0, 0);
    let mut todo = vec![dir];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => todo.push(entry.path()),
                Ok(meta) => (files, bytes) = (files + 1, bytes + meta.len()),
                Err(_) => {}
            }
        }
    }
    (files, bytes)
}
