//! Where an instance is that is restored.

use std::path::Path;

use anyhow::Context as _;
use tracing::info;

use super::{Work, held};
use crate::target::{Manifest, Place, Purpose, RootKind};

/// The instance as it is now; it may be missing in parts, that is why it is restored.
pub(super) async fn of(work: &Work, manifest: &Manifest) -> anyhow::Result<Place> {
    let (instance, tools, cancel) =
        (&work.request.instance, work.context.dirs.tools(), work.live.cancelled());
    let mut volumes: Vec<String> = manifest.roots.iter().filter_map(|root| root.volume()).collect();
    volumes.extend(
        crate::job::backup::dumps::volumes(instance)
            .into_iter()
            .filter(|name| !volumes.contains(name))
            .collect::<Vec<_>>(),
    );
    let mut place = Place::resolve(instance, Purpose::Restore, &tools, &volumes, cancel).await?;
    held::refuse(work, &place)?;
    let is_there = |place: &Place, name: &String| {
        let known = place.volumes.contains_key(name) || place.there.contains_key(name);
        known || place.held.contains_key(name)
    };
    for name in volumes.iter().filter(|name| !is_there(&place, name)).collect::<Vec<_>>() {
        info!(holdfast_instance = %instance.name, "creating volume {name}");
        let root = manifest.roots.iter().find(|root| root.volume().as_ref() == Some(name));
        let make = root.map(|root| root.make.clone()).unwrap_or_default();
        place.create_volume(name, &make, cancel).await?;
    }
    held::stand_in(work, &mut place).await?;
    if let Some(state) = place.state_dir.clone().filter(|dir| !dir.exists()) {
        make_state(&state, manifest).await?;
    }
    Ok(place)
}

/// The state directory as it was, where it is gone altogether.
async fn make_state(state: &Path, manifest: &Manifest) -> anyhow::Result<()> {
    let root = manifest.roots.iter().find(|root| root.kind == RootKind::State).cloned();
    let state = state.to_owned();
    tokio::task::spawn_blocking(move || {
        std::fs::create_dir(&state).with_context(|| format!("making {}", state.display()))?;
        root.map_or(Ok(()), |root| root.put_on(&state))
    })
    .await?
}
