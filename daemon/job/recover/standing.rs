//! How the sets of an instance stand, for lists.

use std::time::Duration;

use anyhow::Result;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use super::past;
use super::select::{Measure, Standing};
use crate::definition::{Instance, Recovery};
use crate::job::{Context, version};
use crate::state::SetRecord;
use crate::target::{Place, Purpose};

/// How long the version may take where it is only to be shown.
const SHOWN: Duration = Duration::from_secs(10);

/// The version of an instance as it is now; empty where the definition does not say how to find it.
///
/// # Errors
/// The program's that is asked.
pub async fn present_version(
    context: &Context,
    instance: &Instance,
    cancel: &CancellationToken,
) -> Result<String> {
    let instance = std::sync::Arc::new(instance.clone());
    let place = Place::resolve(&instance, Purpose::Restore, &context.dirs.tools(), &[], cancel).await?;
    version::ask(&place, cancel).await
}

/// A word for each set: how it stands towards a recovery now.
///
/// # Errors
/// The database's. A version that is not known is told in the words.
pub async fn words(
    context: &Context,
    instance: &Instance,
    recovery: &Recovery,
    (uuid, host): (Uuid, &str),
    sets: &[SetRecord],
) -> Result<Vec<&'static str>> {
    let past = past::read(context, uuid).await?;
    let cancel = CancellationToken::new();
    let _ended = cancel.clone().drop_guard();
    let asked = tokio::time::timeout(SHOWN, present_version(context, instance, &cancel)).await;
    let asked = asked.map_err(anyhow::Error::new).and_then(|answer| answer);
    let version =
        asked.inspect_err(|failure| warn!("the version of {} is not known: {failure:#}", instance.name));
    let word = |set: &SetRecord| {
        let known = version.as_ref().unwrap_or(&set.version);
        let measure = Measure { terms: recovery, version: known, host, past: &past };
        match measure.standing(set) {
            Standing::Fit if version.is_err() => "version not known",
            standing => standing.word(),
        }
    };
    Ok(sets.iter().map(word).collect())
}
