//! What is run on another machine to stop and start units: `holdfast setup` writes rules for sudo that name it.

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use crate::definition::{Manager, Remote};
use crate::service_control::{Reach, systemctl_words};

/// What root runs there for a unit.
pub fn unit_calls(name: &str) -> [Vec<String>; 3] {
    ["stop", "start", "reset-failed"].map(|verb| systemctl_words(verb, name))
}

/// The units with all that is stopped along with them.
///
/// # Errors
/// The machine does not answer, or one of them cannot be used.
pub async fn units_there(remote: &Remote, units: &[String]) -> Result<Vec<String>> {
    let manager = Manager::Systemd { units: units.to_vec() };
    let reach = Reach::of(&manager, "", None, Some(remote)).await?;
    let seen = reach.look(&CancellationToken::new()).await?;
    Ok(seen.into_iter().map(|seen| seen.part.name).collect())
}
