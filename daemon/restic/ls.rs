//! `ls`: what is in a snapshot, entry by entry.

use jiff::Timestamp;
use serde::Deserialize;

use super::call::Call;
use super::forget::check_id;
use super::{Access, Error, Restic, Terms};
use crate::process::Sign;

/// An entry of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Entry {
    /// Its path in the snapshot, from `/`.
    pub path: String,
    /// `file`, `dir`, `symlink`, `fifo`, `socket`, `dev`, `chardev`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Bytes, of a file.
    #[serde(default)]
    pub size: u64,
    /// Permission bits, with set-user-id and the like as in Go's `FileMode`.
    #[serde(default)]
    pub mode: u32,
    /// Owner.
    #[serde(default)]
    pub uid: u32,
    /// Group.
    #[serde(default)]
    pub gid: u32,
    /// When it was changed.
    #[serde(default)]
    pub mtime: Option<Timestamp>,
}

impl Restic {
    /// Calls back for every entry of a snapshot, parents first. Takes no lock.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], or as any call.
    pub async fn ls(
        &self,
        access: &Access,
        snapshot: &str,
        terms: &Terms,
        mut entry: impl FnMut(Entry) + Send,
    ) -> Result<(), Error> {
        check_id(snapshot)?;
        let call = Call::unlocked(["ls", "--json", snapshot]);
        let mut hear = |line: &[u8]| {
            if let Ok(found) = serde_json::from_slice(line) {
                entry(found);
            }
            Sign::Life
        };
        let done = self.call_lines(access, terms, &call, &mut hear).await?;
        // 0.14 ignores an unknown id with exit code 0.
        done.notes.ignored.into_iter().next().map_or(Ok(()), |ignored| Err(Error::NoSnapshot(ignored)))
    }
}
