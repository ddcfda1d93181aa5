//! Backups that run when the daemon starts, because an instance's version is another one than when it was last saved.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Control;
use crate::definition::{Backup, Instance};
use crate::job::recover;
use crate::state::SetFilter;

impl Control {
    /// Runs each backup with `before = "new-version"` for those of its instances whose version is new.
    pub(super) async fn save_new_versions(self) {
        let definitions = self.definitions();
        for backup in
            definitions.backups.values().filter(|backup| backup.enabled && backup.before_new_version)
        {
            let mut changed = Vec::new();
            for instance in definitions.instances_of(backup) {
                match self.has_new_version(backup, &instance).await {
                    Ok(true) => changed.push(instance.name.to_string()),
                    Ok(false) => {}
                    Err(failure) => warn!(
                        holdfast_backup = %backup.name, holdfast_instance = %instance.name,
                        "whether {} is of a new version is not known: {failure:#}", instance.name
                    ),
                }
            }
            if !changed.is_empty() {
                self.save_changed(backup, changed).await;
            }
        }
    }

    async fn save_changed(&self, backup: &Backup, changed: Vec<String>) {
        if let Some(until) = self.paused() {
            return info!(holdfast_backup = %backup.name, "{changed:?} are of a new version; paused until {until}");
        }
        info!(holdfast_backup = %backup.name, "of a new version, so they are saved now: {changed:?}");
        if let Err(refused) = self.run_backup(&backup.name, Some(changed), "new-version").await {
            warn!(holdfast_backup = %backup.name, "{}", refused.message);
        }
    }

    /// One that was never saved is of no new version.
    async fn has_new_version(&self, backup: &Backup, instance: &Arc<Instance>) -> anyhow::Result<bool> {
        if instance.version.is_none() {
            return Ok(false);
        }
        let uuid = self.identity_of(instance).await.map_err(|e| anyhow::anyhow!(e.message))?;
        let filter = SetFilter {
            uuid: Some(uuid.to_string()),
            backup: Some(backup.name.to_string()),
            ..SetFilter::default()
        };
        let host = self.definitions().daemon.host.clone();
        let sets = self.0.context.database.sets(filter).await?;
        let Some(last) = sets.into_iter().find(|set| set.host == host) else { return Ok(false) };
        let never = CancellationToken::new();
        Ok(recover::present_version(&self.0.context, instance, &never).await? != last.version)
    }
}
