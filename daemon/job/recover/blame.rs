//! Whose fault it was that a set could not be restored. One that is to blame is not tried again; one that is not stays a
//! candidate, and what passes by itself is waited for.

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::info;

use super::super::Live;
use super::restore::{NoSet, NotTheSet};
use crate::restic;
use crate::state::SetRecord;

/// The first pause before a repository is asked again; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What is to blame for a set that was not restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// The storage, which may answer again.
    Storage,
    /// What is the same for every set: a full disk, a wrong password, a service that cannot be stopped.
    Place,
    /// The set, as far as we know.
    Set,
}

/// What full disks are called, by whatever program met one.
const FULL: [&str; 2] = ["no space left on device", "disk quota exceeded"];

/// What is to blame.
pub(super) fn blame(failure: &anyhow::Error) -> Blame {
    use restic::Error as E;
    if let Some(NoSet::Unavailable(inner)) = failure.downcast_ref::<NoSet>() {
        return blame(inner);
    }
    let text = format!("{failure:#}").to_lowercase();
    if failure.is::<NotTheSet>() || FULL.iter().any(|word| text.contains(word)) {
        return Blame::Place;
    }
    match failure.downcast_ref::<E>() {
        Some(E::Unreachable(_) | E::Locked { .. } | E::TimedOut(_) | E::Stalled(_)) => Blame::Storage,
        Some(E::Killed { .. } | E::NoSummary) => Blame::Storage,
        Some(E::NoSpace(_) | E::Denied(_) | E::WrongPassword | E::NoPassword(_) | E::NoRepository) => {
            Blame::Place
        }
        Some(E::NotFound(_) | E::NotRestic { .. } | E::TooOld { .. }) => Blame::Place,
        _ => Blame::Set,
    }
}

/// A repository did not answer when this set was wanted from it.
#[derive(Debug, thiserror::Error)]
#[error("repository {repository} is away")]
pub(super) struct Away {
    repository: String,
    set: String,
}

impl Away {
    pub(super) fn of(set: &SetRecord) -> Self {
        Self { repository: set.repository.clone(), set: set.set.clone() }
    }
}

/// Repositories that were away, and how long that may go on.
pub(super) struct Patience {
    away: BTreeSet<String>,
    pause: Duration,
    limit: Duration,
    /// From the first failure on: a long fetch does not use it up.
    end: Option<tokio::time::Instant>,
    /// Why sets in repositories that are away are wanted no more.
    given_up: Option<String>,
}

impl Patience {
    pub(super) fn of(limit: Duration) -> Self {
        Self { away: BTreeSet::new(), pause: FIRST_PAUSE, limit, end: None, given_up: None }
    }

    /// Whether what is tried now is tried for the last time.
    pub(super) fn is_over(&self) -> bool {
        let now = tokio::time::Instant::now();
        self.limit.is_zero() || self.end.is_some_and(|end| now >= end)
    }

    /// The sets to choose from: a copy in a repository that answers goes before one in a repository that did not.
    pub(super) fn within_reach(&self, sets: &[SetRecord]) -> Vec<SetRecord> {
        let wanted = |set: &&SetRecord| {
            let given_up = self.given_up.is_some() || self.elsewhere(&set.set, sets);
            !(self.away.contains(&set.repository) && given_up)
        };
        sets.iter().filter(wanted).cloned().collect()
    }

    fn elsewhere(&self, set: &str, sets: &[SetRecord]) -> bool {
        sets.iter().any(|other| other.set == set && !self.away.contains(&other.repository))
    }

    /// After a failure: another copy may be tried at once; without one there is a pause; when that has lasted too long,
    /// older sets elsewhere are better than none. The error: nothing is left to be tried.
    pub(super) async fn again(
        &mut self,
        live: &Live,
        sets: &[SetRecord],
        failure: anyhow::Error,
    ) -> anyhow::Result<()> {
        if let Some(before) = self.given_up.take() {
            return Err(failure.context(before));
        }
        let Some(Away { repository, set }) = failure.downcast_ref::<Away>() else { return Err(failure) };
        if live.cancelled().is_cancelled() {
            return Err(failure);
        }
        // Not its last word.
        live.update(|job| job.units.iter_mut().for_each(|unit| unit.outcome = None));
        self.end.get_or_insert_with(|| tokio::time::Instant::now() + self.limit);
        self.away.insert(repository.clone());
        if self.elsewhere(set, sets) {
            info!("{failure:#}; its copy in another repository is used");
        } else if !self.is_over() {
            self.pause(live, repository, &failure).await;
            self.away.clear();
        } else if sets.iter().any(|set| !self.away.contains(&set.repository)) {
            self.given_up = Some(format!("{failure:#}"));
        } else {
            return Err(failure);
        }
        Ok(())
    }

    async fn pause(&mut self, live: &Live, repository: &str, failure: &anyhow::Error) {
        info!("{failure:#}; it is asked again in {:?}", self.pause);
        live.waits("recovery", Some(format!("repository {repository} does not answer; it is asked again")));
        tokio::select! {
            () = live.cancelled().cancelled() => {}
            () = tokio::time::sleep(self.pause) => {}
        }
        live.waits("recovery", None);
        self.pause = self.pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn what_any_set_would_meet_is_not_the_sets_fault() {
        let of = |error: restic::Error| {
            blame(&anyhow::Error::new(error).context("restic restore").context("more"))
        };
        assert_eq!(of(restic::Error::Unreachable("refused".into())), Blame::Storage);
        assert_eq!(of(restic::Error::WrongPassword), Blame::Place);
        assert_eq!(of(restic::Error::Damaged("pack".into())), Blame::Set);
        assert_eq!(of(restic::Error::Unknown { code: 1, stderr: "?".into() }), Blame::Set);
        let unavailable = NoSet::Unavailable(restic::Error::Unreachable("refused".into()).into());
        assert_eq!(blame(&anyhow::Error::new(unavailable).context("no fit set can be read")), Blame::Storage);
        let full = std::io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error());
        assert_eq!(blame(&Err::<(), _>(full).context("making a directory").unwrap_err()), Blame::Place);
        let typed: anyhow::Error = NotTheSet("no room".into()).into();
        assert_eq!(blame(&typed.context("the live data was not touched")), Blame::Place);
        assert_eq!(blame(&anyhow::anyhow!("restore step 50after")), Blame::Set);
    }
}
