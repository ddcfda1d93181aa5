//! `check`: is the repository whole?

use super::call::Call;
use super::classify::brief;
use super::prune::progress_lines;
use super::{Access, Error, Restic, Terms};

impl Restic {
    /// Checks the structure, and reads back a part of the data: `n/t`, a percentage or size, or `all`.
    /// With a cache of its own, so that a warm cache hides nothing.
    ///
    /// # Errors
    /// [`Error::Damaged`] when anything is wrong with it, or as any call.
    pub async fn check(&self, access: &Access, read_data: Option<&str>, terms: &Terms) -> Result<(), Error> {
        let mut call = Call::new(["check"]);
        match read_data {
            None => {}
            Some("all") => call.args.push("--read-data".into()),
            Some(part) => call.args.extend(["--read-data-subset".into(), part.into()]),
        }
        let result = self.call_lines(access, terms, &call, &mut progress_lines()).await;
        match result {
            Ok(_) => Ok(()),
            // Any failure that is not about reaching or opening it is a finding.
            Err(Error::Unknown { code: 1, stderr }) => Err(Error::Damaged(brief(&stderr))),
            Err(Error::NoSnapshot(detail)) => Err(Error::Damaged(detail)),
            Err(other) => Err(other),
        }
    }
}
