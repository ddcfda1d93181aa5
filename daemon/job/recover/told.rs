//! What came of the last recovery of an instance, and the marker that asks for one: plain files in `recovery/` below the
//! state directory, for scripts that run before there is a bus.

use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use tracing::{error, info, warn};

use crate::definition::Name;
use crate::job::{Context, message};
use crate::state::durable;

fn file(context: &Context, name: &Name, kind: &str) -> PathBuf {
    context.dirs.state.join("recovery").join(format!("{name}.{kind}"))
}

/// Keeps what happened, in place of what was there.
pub(super) async fn write(context: &Context, name: &Name, outcome: &str, text: &str) {
    let path = file(context, name, "result");
    let text = format!("{} {name} {outcome}: {text}\n", Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ"));
    let written = tokio::task::spawn_blocking(move || {
        durable::create_dir(path.parent().unwrap_or(&path), 0o700)?;
        durable::write(&path, 0o600, text.as_bytes())
    });
    match written.await {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => warn!("what came of the recovery of {name} could not be kept: {failure:#}"),
        Err(death) => warn!("what came of the recovery of {name} could not be kept: {death}"),
    }
}

/// Keeps that a recovery which was asked for did not begin, and why.
pub async fn refused(context: &Context, name: &Name, why: &str) {
    error!(MESSAGE_ID = message::NOT_RECOVERED, holdfast_instance = %name, "{name} was not recovered: {why}");
    write(context, name, "failed", why).await;
}

/// When somebody laid the marker; none: nobody did.
pub fn asked_at(context: &Context, name: &Name) -> Option<SystemTime> {
    file(context, name, "asked").symlink_metadata().ok()?.modified().ok()
}

/// Takes the marker away of an application that runs without what it asks for.
///
/// # Errors
/// The disk's; then it asks again at the next start.
pub async fn not_needed(context: &Context, name: &Name) -> Result<()> {
    info!(holdfast_instance = %name, "{name} runs: the marker that asks for its recovery is taken away");
    answered(context, name).await?;
    write(context, name, "skipped", "it runs; nothing was touched").await;
    Ok(())
}

/// Takes the marker away.
///
/// # Errors
/// The disk's; then it asks again at the next start.
pub async fn answered(context: &Context, name: &Name) -> Result<()> {
    let path = file(context, name, "asked");
    let removed = tokio::task::spawn_blocking(move || durable::remove(&path));
    removed.await?.context("removing the marker that asks for a recovery")
}
