//! `forget`: removes named snapshots. What to remove is decided elsewhere.

use super::call::Call;
use super::{Access, Error, Restic, Terms};
use crate::process::Sign;

impl Restic {
    /// Removes snapshots by id; ids that are gone already are no failure. Without ids nothing is called.
    ///
    /// # Errors
    /// [`Error::RefusedDelete`] from append-only storage, at once; [`Error::Partial`] when some stayed; or as any call.
    pub async fn forget(&self, access: &Access, ids: &[&str], terms: &Terms) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        ids.iter().try_for_each(|id| check_id(id))?;
        let mut call = Call::new(["forget", "--json"]);
        call.args.extend(ids.iter().map(Into::into));
        call.also_good = &[3];
        let done = self.call(access, terms, &call, &mut |_| Sign::Life).await?;
        match (done.notes.refused_delete, done.code, done.notes.left) {
            (true, ..) => Err(Error::RefusedDelete),
            (false, 0, left) if left.is_empty() => Ok(()),
            (false, _, left) => Err(Error::Partial { left }),
        }
    }
}

/// A snapshot id: hex digits, at least 8 of them; never a flag, never a keyword.
pub(super) fn check_id(id: &str) -> Result<(), Error> {
    let good = (8..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_hexdigit());
    good.then_some(()).ok_or_else(|| Error::NoSnapshot(format!("{id:?} is no snapshot id")))
}
