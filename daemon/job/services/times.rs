//! How long services were stopped, and what for.

use std::time::Duration;

use tracing::info;

use super::Quiet;
use super::entry::Entry;

impl Quiet {
    /// Says where the time went that services are stopped for, where some are.
    pub(in crate::job) async fn tell_times(&self, stopping: Duration, dumping: Duration, storing: Duration) {
        if self.held.lock().await.entries.is_empty() {
            return;
        }
        let [stopping, dumping, storing] = [stopping, dumping, storing].map(|time| time.as_secs_f64());
        info!(
            holdfast_instance = %self.instance.name,
            "services were stopped in {stopping:.1} s, then dumps took {dumping:.1} s and the snapshot {storing:.1} s"
        );
    }

    /// From the first stop until all was started, as its manager says; when it is ready is its own affair.
    pub(super) fn note_downtime(&self, entry: &mut Entry) {
        let Some(since) = entry.since.take() else { return };
        let (down, name) = (since.elapsed(), &self.instance.name);
        info!(holdfast_instance = %name, "{} was down for {:.1} s", entry.service.name, down.as_secs_f64());
        let micros = u64::try_from(down.as_micros()).unwrap_or(u64::MAX);
        self.live.update(|record| {
            for unit in record.units.iter_mut().filter(|unit| unit.instance == **name) {
                unit.downtime = unit.downtime.max(micros);
            }
        });
    }
}
