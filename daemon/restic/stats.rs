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
    /// Files and directories that a restore writes.
    #[serde(rename = "total_file_count")]
    pub entries: u64,
}

impl Restic {
    /// What restoring a snapshot would write. Takes no lock.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], or as any call.
    pub async fn stats(&self, access: &Access, snapshot: &str, terms: &Terms) -> Result<Stats, Error> {
        check_id(snapshot)?;
        let call = Call::unlocked(["stats", "--json", "--mode", "restore-size", snapshot]);
        let (bytes, done) = self.bytes(access, terms, &call, 1 << 20).await?;
        // An unknown id is ignored with exit code 0: 0.14 prints zeros then, later ones nothing.
        match (done.notes.ignored.into_iter().next(), serde_json::from_slice(&bytes)) {
            (Some(ignored), _) => Err(Error::NoSnapshot(ignored)),
            (None, Ok(stats)) => Ok(stats),
            (None, Err(_)) => Err(Error::NoSummary),
        }
    }
}
