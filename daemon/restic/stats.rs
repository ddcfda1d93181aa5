//! `stats`: how much a restore would write.

use serde::Deserialize;

use super::call::Call;
use super::forget::check_id;
use super::{Access, Error, Restic, Terms};

/// The size of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Stats {
    /// Bytes that a restore writes.
    #[serde(rename = "total_size")]
    pub bytes: u64,
    /// Files that a restore writes.
    #[serde(rename = "total_file_count")]
    pub files: u64,
}

impl Restic {
    /// What restoring a snapshot would write. Takes no lock.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], or as any call.
    pub async fn stats(&self, access: &Access, snapshot: &str, terms: &Terms) -> Result<Stats, Error> {
        check_id(snapshot)?;
        let call = Call::unlocked(["stats", "--json", "--mode", "restore-size", snapshot]);
        let text = self.text(access, terms, &call).await?;
        serde_json::from_str(&text).map_err(|_| Error::NoSummary)
    }
}
