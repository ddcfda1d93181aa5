//! Whether there is room for what comes beside what lives, asked before anything is fetched.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tracing::debug;

use super::{NotTheSet, Request, Work, carry, fetch, plan, survey};
use crate::target::{Manifest, Place, Purpose};

/// What one file system must hold besides what it holds.
#[derive(Debug, Clone, PartialEq)]
struct Need {
    place: PathBuf,
    bytes: u64,
}

/// Needs by device.
type Needs = BTreeMap<u64, Need>;

/// Refuses a restore in place for which there is no room: for the set, and for what is carried over.
pub(super) async fn check(work: &Work, manifest: &Manifest, staging: &Path) -> Result<()> {
    let request = &work.request;
    if request.target.is_some() || request.founding.is_some() {
        return Ok(());
    }
    let tools = work.context.dirs.tools();
    let volumes: Vec<String> = manifest.roots.iter().filter_map(|root| root.volume()).collect();
    let place =
        Place::resolve(&request.instance, Purpose::Restore, &tools, &volumes, work.live.cancelled()).await;
    // What is wrong with the place is told where it is needed.
    let Ok(place) = place else { return Ok(()) };
    let (whole, staging, manifest) = (whole(request), staging.to_owned(), manifest.clone());
    let include = request.include.clone();
    let needs = tokio::task::spawn_blocking(move || needs(&include, &place, &manifest, &staging, whole));
    let needs = match needs.await? {
        Ok(needs) => needs,
        Err(failure) => {
            debug!("the room beside live data is looked at later: {failure:#}");
            return Ok(());
        }
    };
    for need in needs.values() {
        let free = free(&need.place);
        if need.bytes > free {
            let text = format!(
                "{} bytes are needed in {} and {free} are free (files that the backup left out are copied as well); make \
                 room, set daemon.staging_dir to a larger disk, or restore into a directory with target",
                need.bytes,
                need.place.display()
            );
            bail!(NotTheSet(text));
        }
    }
    Ok(())
}

/// The same for a plan: a row for each file system.
pub(super) fn rows(request: &Request, place: &Place, manifest: &Manifest) -> Result<Value> {
    let staging = &request.definitions.daemon.staging_dir;
    let there = staging.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    let needs = needs(&request.include, place, manifest, there, whole(request))?;
    let row = |need: &Need| {
        let free = free(&need.place);
        json!({ "place": need.place.to_string_lossy(), "needed": need.bytes, "free": free, "fits": need.bytes <= free })
    };
    Ok(needs.values().map(row).collect())
}

/// The size of what is fetched, as far as it is known: of parts it is not.
fn whole(request: &Request) -> u64 {
    if request.include.is_empty() { fetch::needed(request) } else { 0 }
}

fn free(place: &Path) -> u64 {
    rustix::fs::statvfs(place).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn needs(
    include: &[PathBuf],
    place: &Place,
    manifest: &Manifest,
    staging: &Path,
    whole: u64,
) -> Result<Needs> {
    let mut needs = Needs::new();
    let staged_on = std::fs::metadata(staging)?.dev();
    needs.insert(staged_on, Need { place: staging.to_owned(), bytes: whole });
    let excludes = survey::excludes(manifest)?;
    let all: Vec<PathBuf> = manifest.includes.iter().map(|path| path.0.clone()).collect();
    for item in if include.is_empty() { &all } else { include } {
        // What is not there holds nothing that could be carried over.
        let Ok(live) = place.live_path(item) else { continue };
        let Ok(Some(dir)) = plan::open(&live) else { continue };
        let device = rustix::fs::fstat(&dir)?.st_dev;
        let mut bytes = 0;
        for left in carry::left_out(&dir, item, &excludes)? {
            for name in &left.names {
                bytes += survey::size_of(&live.join(&left.dir).join(name))?;
            }
        }
        needs.entry(device).or_insert_with(|| Need { place: live.clone(), bytes: 0 }).bytes += bytes;
    }
    Ok(needs)
}
