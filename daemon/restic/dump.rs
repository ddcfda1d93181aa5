//! `dump`: one file of a snapshot.

use std::io;

use super::call::Call;
use super::forget::check_id;
use super::{Access, Error, Restic, Terms};
use crate::process::{Program, Sign, Stdout};

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
        let call = dump(snapshot, path)?;
        self.bytes(access, terms, &call, limit).await.map(|(bytes, _)| bytes)
    }

    /// Writes one file of a snapshot, however large, into an open one. Takes no lock. Never tried again: what was written
    /// cannot be taken back.
    ///
    /// # Errors
    /// As [`Restic::dump`]. What was written is worth nothing then.
    pub async fn dump_into(
        &self,
        access: &Access,
        snapshot: &str,
        path: &str,
        file: std::fs::File,
        terms: &Terms,
    ) -> Result<(), Error> {
        let mut call = dump(snapshot, path)?;
        // A cache that is full would mean another try.
        call.no_cache = true;
        let program = Program { stdout: Stdout::File(file.into()), ..self.program(access, terms, &call) };
        self.run(access, terms, &call, program, &mut |_| Sign::Life).await.map(drop)
    }

    /// Hands one file of a snapshot to `sink` while it comes. Takes no lock, and is never tried again.
    ///
    /// # Errors
    /// As [`Restic::dump`], and [`Error::File`] with what the sink refused.
    pub async fn dump_to(
        &self,
        access: &Access,
        snapshot: &str,
        path: &str,
        terms: &Terms,
        mut sink: impl FnMut(&[u8]) -> io::Result<()> + Send,
    ) -> Result<(), Error> {
        let mut call = dump(snapshot, path)?;
        call.no_cache = true;
        let mut refused = None;
        let mut hear = |piece: &[u8]| match sink(piece) {
            Ok(()) => Sign::Life,
            Err(failure) => {
                refused.get_or_insert(failure);
                Sign::Stop
            }
        };
        let done = self.attempt(access, terms, &call, &mut hear).await;
        match refused {
            Some(source) => Err(Error::File { what: "writing".into(), source }),
            None => done.map(drop),
        }
    }
}

fn dump(snapshot: &str, path: &str) -> Result<Call, Error> {
    check_id(snapshot)?;
    let path = format!("/{}", path.trim_start_matches('/'));
    Ok(Call::unlocked(["dump", snapshot, &path]))
}
