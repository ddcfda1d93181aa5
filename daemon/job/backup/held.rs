//! Volumes that only their engine reaches are brought into the staging directory, and read from there as any other.

use anyhow::{Context as _, Result};

use super::Shared;
use super::instance::Ready;
use crate::job::held::{self, Terms};
use crate::target::{Place, Staging};

/// The place with these volumes brought beside the tree, and what was noticed.
pub(super) async fn bring(shared: &Shared, ready: &Ready, staging: &Staging) -> Result<(Place, Vec<String>)> {
    let (mut place, mut notes) = (ready.place.clone(), Vec::new());
    let terms = Terms { stall: ready.instance.stall_timeout, cancel: shared.live.cancelled().clone() };
    for (name, held) in std::mem::take(&mut place.held) {
        let dir = staging.beside("volumes").join(&name);
        held::new_dir(&dir).await?;
        notes.extend(held::pull(&held, &dir, &terms).await.context("no snapshot was taken")?);
        place.volumes.insert(name.clone(), dir);
        place.brought.insert(name);
    }
    Ok((place, notes))
}
