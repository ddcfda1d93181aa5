//! `prune`: removes data that no snapshot uses.

use super::call::Call;
use super::{Access, Error, Restic, Terms};
use crate::process::Sign;

impl Restic {
    /// Removes unused data until at most `max_unused` of it is left: `10%`, `5G`, `unlimited`.
    ///
    /// # Errors
    /// [`Error::RefusedDelete`] from append-only storage, or as any call.
    pub async fn prune(&self, access: &Access, max_unused: &str, terms: &Terms) -> Result<(), Error> {
        let call = Call::new(["prune", "--max-unused", max_unused]);
        let done = self.call(access, terms, &call, &mut |_| Sign::Life).await?;
        if done.notes.refused_delete { Err(Error::RefusedDelete) } else { Ok(()) }
    }
}
