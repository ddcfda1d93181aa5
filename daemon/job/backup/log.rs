//! The job's own log in the set of an instance on another machine: what was done there, and when.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use jiff::Timestamp;

use crate::target::JOB_LOG;

/// Lines with their times.
#[derive(Debug, Default)]
pub(super) struct Log(Mutex<String>);

impl Log {
    /// Adds a line.
    pub(super) fn note(&self, text: &str) {
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(all, "{now} {}", text.replace('\n', " "));
    }

    /// Writes it into a tree, for the set.
    pub(super) fn lay(&self, tree: &Path) -> anyhow::Result<()> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let path = tree.join(JOB_LOG);
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        let text = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.with_context(|| format!("writing {}", path.display()))
    }
}
