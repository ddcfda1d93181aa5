//! How the sets of an instance stand, and the verbs that pin them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Control, Error, ErrorKind, Result, SetView};
use crate::definition::Instance;
use crate::job::{recover, restore};
use crate::state::{SetRecord, pins};

impl Control {
    /// Sets with how they stand: `latest` of its repository, `pinned`, and towards a recovery.
    pub(super) async fn with_standing(
        &self,
        instance: &Arc<Instance>,
        sets: Vec<SetRecord>,
    ) -> Result<Vec<SetView>> {
        let pinned = self.pinned().await?;
        let words = match &instance.recovery {
            None => vec![""; sets.len()],
            Some(recovery) => {
                let (uuid, host) =
                    (self.identity_of(instance).await?, self.definitions().daemon.host.clone());
                recover::words(&self.0.context, instance, recovery, (uuid, &host), &sets).await?
            }
        };
        let mut seen = BTreeSet::new();
        let view = |(record, word): (SetRecord, &str)| {
            let latest = if seen.insert(record.repository.clone()) { "latest" } else { "" };
            let pin = if pinned.contains(&record.snapshot) { "pinned" } else { "" };
            let all: Vec<&str> = [latest, pin, word].into_iter().filter(|word| !word.is_empty()).collect();
            let name = restore::name_of(record.time, &record.version);
            SetView { standing: all.join(", "), name, record }
        };
        Ok(sets.into_iter().zip(words).map(view).collect())
    }

    async fn pinned(&self) -> Result<BTreeSet<String>> {
        let state = self.0.context.dirs.state.clone();
        let pinned = tokio::task::spawn_blocking(move || pins::pinned(&state)).await;
        Ok(pinned.map_err(anyhow::Error::new)??)
    }

    /// Pins a set, so that no retention forgets it, or takes that back. `snapshot` is the beginning of an id, or a set's.
    ///
    /// # Errors
    /// The instance is not defined, it has no such set, or several begin so.
    pub async fn pin(&self, name: &str, snapshot: &str, pin: bool) -> Result<()> {
        let sets = self.sets_of(name).await?;
        let matching: Vec<SetRecord> = sets
            .into_iter()
            .filter(|set| !snapshot.is_empty() && (set.snapshot.starts_with(snapshot) || set.set == snapshot))
            .collect();
        let Some(first) = matching.first() else {
            let text = format!("{name} has no snapshot {snapshot:?}; see `holdfast snapshots {name}`");
            return Err(Error::new(ErrorKind::NoSuchSnapshot, text));
        };
        if matching.iter().any(|set| set.set != first.set) {
            let text = format!("several snapshots of {name} begin with {snapshot}; write more of its id");
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        let (state, name) = (self.0.context.dirs.state.clone(), name.to_owned());
        let write = move || {
            matching.iter().try_for_each(|set| match pin {
                true => {
                    pins::pin(&state, &set.snapshot, &format!("{name} {} {}\n", set.time, set.repository))
                }
                false => pins::unpin(&state, &set.snapshot),
            })
        };
        Ok(tokio::task::spawn_blocking(write).await.map_err(anyhow::Error::new)??)
    }
}
