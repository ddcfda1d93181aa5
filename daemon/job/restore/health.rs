//! Whether an application works after a restore.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::job::hook;
use crate::process::Limits;
use crate::restic;
use crate::state::Phase;
use crate::target::Place;

/// The pause between two questions.
const PAUSE: Duration = Duration::from_secs(1);

/// Asks until all is well or the time is over; nothing where the definition has no question.
///
/// # Errors
/// What the last answer was.
pub(in crate::job) async fn ask(place: &Place, cancel: &CancellationToken) -> Result<()> {
    let Some(health) = &place.instance.restore.health else { return Ok(()) };
    let end = Instant::now() + health.timeout;
    loop {
        let mut program = place.command("restore.health", &health.command)?;
        let left = end.saturating_duration_since(Instant::now());
        program.limits = Limits { grace: Duration::from_secs(1), ..Limits::within(left) };
        let Err(failure) = hook::run(program, "health", Phase::Health, cancel).await else { return Ok(()) };
        anyhow::ensure!(!cancel.is_cancelled(), restic::Error::Cancelled);
        if Instant::now() + PAUSE >= end {
            let limit = health.timeout;
            return Err(failure)
                .with_context(|| format!("the health check did not succeed within {limit:?}"));
        }
        info!("not healthy yet: {failure:#}");
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = cancel.cancelled() => anyhow::bail!(restic::Error::Cancelled),
        }
    }
}
