//! What may be asked of the daemon: one function per verb. The bus and the signals call it; it knows neither.

mod error;
mod view;

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::broadcast;

use crate::definition::Definitions;

pub use error::{Error, ErrorKind};
pub use view::{
    BackupView, ContentView, Event, InstanceView, JobQuery, JobView, Keys, RepositoryView, RestoreOptions,
    SetView,
};

type Result<T> = std::result::Result<T, Error>;

/// A handle to everything that may be asked. Cheap to clone.
#[derive(Clone)]
pub struct Control(Arc<Inner>);

struct Inner {}

#[expect(clippy::unused_async, unused_variables, missing_docs, reason = "signatures first")]
impl Control {
    pub fn definitions(&self) -> Arc<Definitions> {
        unreachable!()
    }
    /// What changes, from now on. A receiver that lags must read everything anew.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        unreachable!()
    }
    pub async fn restic_version(&self) -> String {
        String::new()
    }
    /// Starts a backup; `instances` narrows it. Returns the job's id at once.
    pub async fn run_backup(
        &self,
        backup: &str,
        instances: Option<Vec<String>>,
        cause: &str,
    ) -> Result<String> {
        unreachable!()
    }
    pub async fn restore(
        &self,
        instance: &str,
        snapshot: &str,
        options: RestoreOptions,
        cause: &str,
    ) -> Result<String> {
        unreachable!()
    }
    pub async fn prune(&self, repository: &str, cause: &str) -> Result<String> {
        unreachable!()
    }
    /// `read_data` as in the definition: `1/12`, `10%`, `all`; none: as defined.
    pub async fn check(&self, repository: &str, read_data: Option<String>, cause: &str) -> Result<String> {
        unreachable!()
    }
    /// Opens the repository; an answer or an error of kind `RepositoryUnavailable`.
    pub async fn test_repository(&self, repository: &str) -> Result<()> {
        unreachable!()
    }
    /// Removes stale locks of ours.
    pub async fn unlock(&self, repository: &str) -> Result<()> {
        unreachable!()
    }
    pub async fn list_snapshots(&self, instance: &str) -> Result<Vec<SetView>> {
        unreachable!()
    }
    pub async fn list_contents(&self, repository: &str) -> Result<Vec<ContentView>> {
        unreachable!()
    }
    pub async fn list_jobs(&self, query: JobQuery) -> Result<Vec<JobView>> {
        unreachable!()
    }
    /// Live jobs and those finished within the last ten minutes.
    pub fn jobs(&self) -> Vec<JobView> {
        unreachable!()
    }
    pub fn job(&self, id: &str) -> Option<JobView> {
        unreachable!()
    }
    pub fn active_jobs(&self) -> u32 {
        0
    }
    pub fn cancel(&self, id: &str) -> Result<()> {
        unreachable!()
    }
    pub async fn backup(&self, name: &str) -> Result<BackupView> {
        unreachable!()
    }
    pub async fn repository(&self, name: &str) -> Result<RepositoryView> {
        unreachable!()
    }
    pub async fn instance(&self, name: &str) -> Result<InstanceView> {
        unreachable!()
    }
    pub async fn add_repository(&self, name: &str, keys: Keys) -> Result<()> {
        unreachable!()
    }
    pub async fn add_backup(&self, name: &str, keys: Keys) -> Result<()> {
        unreachable!()
    }
    pub async fn alter_backup(&self, name: &str, keys: Keys) -> Result<()> {
        unreachable!()
    }
    pub async fn remove_backup(&self, name: &str) -> Result<()> {
        unreachable!()
    }
    pub async fn remove_repository(&self, name: &str) -> Result<()> {
        unreachable!()
    }
    pub async fn set_enabled(&self, backup: &str, enabled: bool) -> Result<()> {
        unreachable!()
    }
    /// Reads the definitions anew and returns the diagnostics, rendered.
    pub async fn reload(&self) -> Vec<String> {
        Vec::new()
    }
    /// No slot is run until then; 0 seconds: until resumed.
    pub async fn pause(&self, seconds: u64) -> Result<()> {
        unreachable!()
    }
    pub async fn resume(&self) -> Result<()> {
        unreachable!()
    }
    /// Until when it is paused; none: not paused.
    pub fn paused(&self) -> Option<Timestamp> {
        None
    }
}
