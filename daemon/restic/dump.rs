//! `dump`: one file of a snapshot.

use super::call::Call;
use super::forget::check_id;
use super::{Access, Error, Restic, Terms};

impl Restic {
    /// The content of one file in a snapshot, at most `limit` bytes. Takes no lock.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`] when the snapshot or the path is not there, or as any call.
    pub async fn dump(
        &self,
        access: &Access,
        snapshot: &str,
        path: &str,
        limit: usize,
        terms: &Terms,
    ) -> Result<Vec<u8>, Error> {
        check_id(snapshot)?;
        let path = format!("/{}", path.trim_start_matches('/'));
        let call = Call::unlocked(["dump", snapshot, &path]);
        self.bytes(access, terms, &call, limit).await.map(|(bytes, _)| bytes)
    }
}
