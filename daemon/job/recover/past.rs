//! What is remembered of recoveries, in the database.

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;
use tracing::error;
use uuid::Uuid;

use super::select::{Attempt, Past};
use crate::job::Context;

fn attempts(uuid: Uuid) -> String {
    format!("recovery-attempts/{uuid}")
}

/// Apart, because backups write it.
fn sick_sets(uuid: Uuid) -> String {
    format!("recovery-sick/{uuid}")
}

/// What is remembered of an instance; nothing where that makes no sense any more.
///
/// # Errors
/// The database's.
pub async fn read(context: &Context, uuid: Uuid) -> Result<Past> {
    Ok(Past { attempts: list(context, &attempts(uuid)).await?, sick: list(context, &sick_sets(uuid)).await? })
}

async fn list<T: DeserializeOwned>(context: &Context, key: &str) -> Result<Vec<T>> {
    let Some(text) = context.database.meta(key).await? else { return Ok(Vec::new()) };
    Ok(serde_json::from_str(&text).unwrap_or_else(|failure| {
        error!("what is remembered as {key} makes no sense and is begun anew: {failure}");
        Vec::new()
    }))
}

/// Keeps the attempts; on disk when this returns.
///
/// # Errors
/// The database's; then the old one stands.
pub(super) async fn write(context: &Context, uuid: Uuid, mut past: Past) -> Result<()> {
    past.trim();
    let text = serde_json::to_string(&past.attempts)?;
    context.database.set_meta(&attempts(uuid), &text).await.context("remembering a recovery")
}

/// Remembers of a set that is about to be imported that a recovery used it before, elsewhere.
///
/// # Errors
/// The database's.
pub(in crate::job) async fn restored(context: &Context, uuid: Uuid, set: &str) -> Result<()> {
    let mut past = read(context, uuid).await?;
    if past.attempts.iter().any(|attempt| attempt.snapshot == set) {
        return Ok(());
    }
    let (at, snapshot) = (jiff::Timestamp::now(), set.to_owned());
    past.attempts.push(Attempt { at, snapshot, over: true, acknowledged: true, well: true, no_start: false });
    write(context, uuid, past).await
}

/// Remembers that a set is made while the unit has failed.
///
/// # Errors
/// The database's.
pub(in crate::job) async fn sick(context: &Context, uuid: Uuid, set: &str) -> Result<()> {
    let mut past = read(context, uuid).await?;
    if past.sick.iter().any(|sick| sick == set) {
        return Ok(());
    }
    past.sick.push(set.to_owned());
    past.trim();
    let text = serde_json::to_string(&past.sick)?;
    context
        .database
        .set_meta(&sick_sets(uuid), &text)
        .await
        .context("remembering a set of a sick application")
}
