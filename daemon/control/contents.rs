//! What repositories hold, of this machine's instances and of others'.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{ContentView, Control, Error, ErrorKind, Result};
use crate::definition::Layout;
use crate::job::{self, catalog};
use crate::restic::Terms;
use crate::state::Kind;

/// Backups come in groups: the list is written this long after one.
const SETTLES: Duration = Duration::from_secs(60);
/// And looked at this often, for it is written daily.
const DAILY: Duration = Duration::from_secs(24 * 3_600);

impl Control {
    /// What a repository holds of which instances, of this and of other hosts.
    ///
    /// # Errors
    /// It is not defined, or cannot be read.
    pub async fn list_contents(&self, name: &str) -> Result<Vec<ContentView>> {
        let repository = self.known_repository(name)?;
        if repository.layout == Layout::PerInstance {
            for location in self.locations(&repository).await? {
                self.refresh(&repository, location, &Terms::new(&CancellationToken::new())).await?;
            }
        }
        let found = catalog::contents(&self.0.context, &self.definitions(), &repository).await;
        let found = found
            .map_err(|failure| Error::new(ErrorKind::RepositoryUnavailable, job::described(&failure)))?;
        let here = self.identities().await;
        let view = |content: catalog::Content| {
            let defined_here = here.contains(&content.uuid);
            let catalog::Content { module, name, uuid, host, last_set, size } = content;
            ContentView { module, name, uuid, host, last_set: Some(last_set), size, defined_here }
        };
        Ok(found.into_iter().map(view).collect())
    }

    async fn identities(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for instance in self.definitions().instances.values() {
            all.extend(self.identity_of(instance).await.ok().map(|uuid| uuid.to_string()));
        }
        all
    }

    /// Keeps the catalogues of all repositories up to date, for as long as the daemon lives. Wakes after backups and daily.
    pub(super) async fn watch_catalogs(self) {
        use crate::job::Event::Removed;
        let mut events = self.0.jobs.subscribe();
        let mut at = tokio::time::Instant::now() + SETTLES;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(at) => {
                    self.write_catalogs().await;
                    at = tokio::time::Instant::now() + DAILY;
                }
                event = events.recv() => match event {
                    Ok(Removed(id, _)) if self.0.jobs.get(&id).is_some_and(|l| l.record().kind == Kind::Backup) => {
                        at = tokio::time::Instant::now() + SETTLES;
                    }
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
                    _ => {}
                }
            }
        }
    }

    async fn write_catalogs(&self) {
        let definitions = self.definitions();
        for repository in definitions.repositories.values() {
            if let Err(failure) = catalog::write(&self.0.context, &definitions, repository).await {
                tracing::warn!(
                    holdfast_repository = %repository.name,
                    "the catalogue could not be written, it is tried again: {}", job::described(&failure)
                );
            }
        }
    }
}
