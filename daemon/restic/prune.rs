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
        let done = self.call_lines(access, terms, &call, &mut progress_lines()).await?;
        if done.notes.refused_delete { Err(Error::RefusedDelete) } else { Ok(()) }
    }
}

/// Tells progress from its repetition: lines like `[1:32] 50.00%  1 / 2 packs` come twice a second, moved or not.
pub(super) fn progress_lines() -> impl FnMut(&[u8]) -> Sign + Send {
    let mut before = Vec::new();
    move |line| {
        let said = line.splitn(2, |&b| b == b']').last().unwrap_or(line);
        if said == before {
            return Sign::Nothing;
        }
        before = said.to_vec();
        Sign::Life
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_line_is_no_progress() {
        let mut hear = progress_lines();
        let signs =
            ["[0:01] 50%  1 / 2 packs", "[0:02] 50%  1 / 2 packs", "[0:03] 100%  2 / 2 packs", "done"]
                .map(|line| hear(line.as_bytes()));
        assert_eq!(signs, [Sign::Life, Sign::Nothing, Sign::Life, Sign::Life]);
    }
}
