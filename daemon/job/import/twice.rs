//! The same thing imported twice makes one set. A directory of MicroShift is known by the time and the version of its
//! name, an archive by its SHA-256 and by what was to be made of it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use sha2::{Digest, Sha256};
use tracing::warn;

use super::compose::Composed;
use super::{IMPORTED, Work};
use crate::job::repository::{self, Opened};
use crate::state::{SetFilter, SetRecord};

/// The set that this became before, if the repository still has it.
pub(super) async fn there(work: &Work, opened: &Opened, composed: &Composed) -> Result<Option<SetRecord>> {
    if known(work, composed).await?.is_none() {
        return Ok(None);
    }
    // Somebody may have forgotten it behind our back: the repository is asked.
    let terms = work.live.terms(work.request.instance.stall_timeout);
    repository::sync(&work.context, &work.restic, opened, &terms).await?;
    known(work, composed).await
}

async fn known(work: &Work, composed: &Composed) -> Result<Option<SetRecord>> {
    let filter = SetFilter {
        repository: Some(work.request.repository.name.to_string()),
        uuid: Some(work.request.uuid.to_string()),
        backup: Some(IMPORTED.to_owned()),
        ..SetFilter::default()
    };
    let mut sets = work.context.database.sets(filter).await?.into_iter();
    Ok(match &composed.sha256 {
        None => sets.find(|set| set.time == composed.time && set.version == composed.version),
        Some(sha256) => {
            let imported = imported(work).await?.remove(&identity(work, composed, sha256));
            sets.find(|set| Some(&set.set) == imported.as_ref())
        }
    })
}

/// Written before the set is stored: killed in between, the list names a set that is not there, and that is asked too.
pub(super) async fn note(work: &Work, composed: &Composed) -> Result<()> {
    let Some(sha256) = &composed.sha256 else { return Ok(()) };
    let mut imported = imported(work).await?;
    imported.insert(identity(work, composed, sha256), work.live.id().to_owned());
    let text = serde_json::to_string(&imported)?;
    work.context.database.set_meta(&key(work), &text).await.context("remembering the archive")
}

fn key(work: &Work) -> String {
    format!("imported/{}/{}", work.request.uuid, work.request.repository.name)
}

/// Identities and the sets that they became.
async fn imported(work: &Work) -> Result<BTreeMap<String, String>> {
    let text = work.context.database.meta(&key(work)).await?.unwrap_or_else(|| "{}".to_owned());
    Ok(serde_json::from_str(&text).unwrap_or_else(|failure| {
        warn!("what is remembered as {} makes no sense and is begun anew: {failure}", key(work));
        BTreeMap::new()
    }))
}

/// The archive, and all that decides what it becomes: mapped elsewhere, or for an instance that can load more of its dumps
/// by now, it is another set.
fn identity(work: &Work, composed: &Composed, sha256: &str) -> String {
    let instance = &work.request.instance;
    let becomes =
        (&instance.include, &instance.volumes, &instance.dumps, &work.request.wishes, composed.told);
    let all = format!("{sha256} {becomes:?}");
    Sha256::digest(all).iter().map(|byte| format!("{byte:02x}")).collect()
}
