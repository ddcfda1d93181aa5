//! Restore steps and the swap. Each swap is written down before it happens.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::json;
use tracing::{info, warn};

use super::swap::{self, Site};
use super::{Work, fetch};
use crate::job::{hook, remove_tree};
use crate::state::Phase;
use crate::state::undo::{Step, Undo};
use crate::target::{Environment, Excludes, Manifest, Place, RootKind};

/// Files and volumes are restored at this step (NS8).
const FILES_STEP: u32 = 10;
/// Handed to the steps; written only where none exists (NS8).
const ENVIRONMENT: &str = "state/environment";

/// What was changed so far, in order.
#[derive(Default)]
pub(super) struct Applied {
    swaps: Vec<Swapped>,
    annexes: Vec<PathBuf>,
}

struct Swapped {
    live: PathBuf,
    aside: PathBuf,
    inode: Option<u64>,
}

/// Where a path of the tree lives: below which root, and where there.
struct Spot {
    root: PathBuf,
    relative: PathBuf,
}

impl Spot {
    fn of(place: &Place, item: &Path) -> anyhow::Result<Self> {
        let depth = if item.starts_with("volumes") { 2 } else { 1 };
        let root: PathBuf = item.components().take(depth).collect();
        let relative: PathBuf = item.components().skip(depth).collect();
        let root = if root == Path::new("files") { PathBuf::from("/") } else { place.live_path(&root)? };
        Ok(Self { root, relative })
    }
}

/// Runs the steps in order, files and volumes at step 10. Returns warnings.
pub(super) async fn run(
    work: &Work,
    place: &Place,
    staging: &Path,
    manifest: &Manifest,
    applied: &mut Applied,
) -> anyhow::Result<Vec<String>> {
    let steps = place.restore_steps()?;
    let request = step_request(work, staging)?;
    for step in steps.steps.iter().filter(|step| step.number < FILES_STEP) {
        one_step(work, place, step, &request).await?;
    }
    let warnings = files(work, place, staging, manifest, applied).await?;
    for step in steps.steps.iter().filter(|step| step.number >= FILES_STEP) {
        one_step(work, place, step, &request).await?;
    }
    Ok(steps.warnings.into_iter().chain(warnings).collect())
}

async fn one_step(
    work: &Work,
    place: &Place,
    step: &crate::target::Step,
    request: &[u8],
) -> anyhow::Result<()> {
    let program = place.step_program(step, request.to_vec())?;
    hook::run(program, &step.name, Phase::Apply, work.live.cancelled())
        .await
        .with_context(|| format!("restore step {}", step.name))
}

/// What a step reads: as in NS8 the repository, the snapshot, and the environment that was saved.
fn step_request(work: &Work, staging: &Path) -> anyhow::Result<Vec<u8>> {
    let text = match std::fs::symlink_metadata(staging.join(ENVIRONMENT)) {
        Ok(meta) if meta.is_file() => std::fs::read(staging.join(ENVIRONMENT))?,
        _ => Vec::new(),
    };
    let saved = Environment::parse(&text).context("the saved state/environment")?;
    let text = |value: &std::ffi::OsStr| value.to_string_lossy().into_owned();
    let saved: std::collections::BTreeMap<_, _> =
        saved.variables.iter().map(|(k, v)| (k.as_str(), text(v))).collect();
    let set = &work.request.set;
    let request = json!({
        "instance": work.request.instance.name.as_str(),
        "repository": set.repository,
        "path": set.location,
        "snapshot": set.snapshot,
        "environment": saved,
        "replace": true,
    });
    Ok(serde_json::to_vec(&request)?)
}

async fn files(
    work: &Work,
    place: &Place,
    staging: &Path,
    manifest: &Manifest,
    applied: &mut Applied,
) -> anyhow::Result<Vec<String>> {
    let mut warnings = Vec::new();
    let items = items(work, manifest, staging)?;
    for item in &items {
        ensure!(!work.live.cancelled().is_cancelled(), crate::restic::Error::Cancelled);
        let staged = staging.join(item);
        if std::fs::symlink_metadata(&staged).is_err() {
            warnings.push(format!("{} is not in the snapshot and was left as it is", item.display()));
            continue;
        }
        let live = Spot::of(place, item)?;
        if item == Path::new(ENVIRONMENT) && live.root.join(&live.relative).exists() {
            info!("{ENVIRONMENT} exists and is left as it is");
            continue;
        }
        bring_in(work, &live, &staged, applied).await.with_context(|| item.display().to_string())?;
    }
    if work.request.include.is_empty() {
        set_new_children_aside(work, place, manifest, &items, applied).await?;
    }
    warnings.extend(put_roots_on(work, place, manifest));
    Ok(warnings)
}

/// What is swapped: each included directory or file; of a root, which cannot be swapped itself, each child.
fn items(work: &Work, manifest: &Manifest, staging: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let asked: Vec<PathBuf> = match work.request.include.is_empty() {
        true => manifest.includes.iter().map(|path| path.0.clone()).collect(),
        false => work.request.include.iter().map(PathBuf::from).collect(),
    };
    let mut items = Vec::new();
    for item in asked {
        match manifest.roots.iter().any(|root| root.path.0 == item) {
            true => items.extend(names_in(&staging.join(&item), &item)?),
            false => items.push(item),
        }
    }
    Ok(items)
}

/// What restic does not keep of the directories behind its links: owner, mode, times. Only with a restore of all.
pub(super) fn put_roots_on(work: &Work, place: &Place, manifest: &Manifest) -> Vec<String> {
    if !work.request.include.is_empty() {
        return Vec::new();
    }
    let whole = manifest.roots.iter().filter(|root| root.whole && root.kind != RootKind::Files);
    let failed = whole.filter_map(|root| {
        let put = place.live_path(&root.path.0).and_then(|dir| root.put_on(&dir));
        put.err().map(|failure| format!("{}: {failure:#}", root.path.0.display()))
    });
    failed.collect()
}

async fn bring_in(work: &Work, live: &Spot, staged: &Path, applied: &mut Applied) -> anyhow::Result<()> {
    let site = site(work, live, applied).await?;
    if !site.bring(staged)? {
        let name = live.relative.file_name().map(OsString::from).unwrap_or_default();
        fetch::copy(work, staged, &site.aside_dir(), &name).await?;
    }
    written(work, &site, applied).await?;
    tokio::task::spawn_blocking(move || site.swap()).await?
}

/// Opens the place of a swap; that our directory there must go is written first.
async fn site(work: &Work, live: &Spot, applied: &mut Applied) -> anyhow::Result<Site> {
    let (root, relative) = (live.root.clone(), live.relative.clone());
    let job = work.live.id().to_owned();
    let (_, parent) = swap::parent_of(&root, &relative)?;
    let annex = parent.join(swap::annex_name(&job));
    if !applied.annexes.contains(&annex) {
        work.undo.push(Step::RemoveDir { path: annex.clone() }).await?;
        applied.annexes.push(annex);
    }
    tokio::task::spawn_blocking(move || Site::open(&root, &relative, &job)).await?
}

async fn written(work: &Work, site: &Site, applied: &mut Applied) -> anyhow::Result<()> {
    let swapped = Swapped { live: site.live.clone(), aside: site.aside.clone(), inode: site.inode };
    let step = Step::SwapBack {
        instance: work.request.instance.name.to_string(),
        live: swapped.live.clone(),
        aside: swapped.aside.clone(),
        inode: swapped.inode,
    };
    work.undo.push(step).await?;
    applied.swaps.push(swapped);
    Ok(())
}

/// Where a whole directory was included, what appeared in it since is set aside too; what the backup excluded stays.
async fn set_new_children_aside(
    work: &Work,
    place: &Place,
    manifest: &Manifest,
    items: &[PathBuf],
    applied: &mut Applied,
) -> anyhow::Result<()> {
    let mut excludes = Excludes::default();
    for pattern in &manifest.excludes {
        excludes.add(pattern.as_bytes(), false)?;
    }
    for root in manifest.roots.iter().filter(|root| root.whole && root.kind != RootKind::Files) {
        for child in names_in(&place.live_path(&root.path.0)?, &root.path.0)? {
            let known = items.contains(&child);
            let ours = child.file_name().is_some_and(|name| name.as_bytes().starts_with(b".holdfast-"));
            let excluded = excludes.leave_out(child.as_os_str().as_bytes());
            if known || ours || excluded || child == Path::new(ENVIRONMENT) {
                continue;
            }
            let site = site(work, &Spot::of(place, &child)?, applied).await?;
            written(work, &site, applied).await?;
            warn!("{} was not there when the backup was made and is removed", child.display());
            tokio::task::spawn_blocking(move || site.set_aside()).await??;
        }
    }
    Ok(())
}

/// The children of a directory, as paths of the tree below `root`; none where it does not exist.
fn names_in(dir: &Path, root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Err(failure) if failure.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("reading {}", dir.display()))?,
    };
    entries.map(|entry| Ok(root.join(entry?.file_name()))).collect()
}

/// The restore stands: from now on only our own directories are to be removed, also after a crash.
pub(super) async fn keep(work: &Work, applied: &Applied, staging: &Path) -> anyhow::Result<()> {
    let tidy = Undo::begin(&work.context.dirs.undo(), &format!("{}-tidy", work.live.id()))?;
    tidy.push(Step::RemoveDir { path: staging.to_owned() }).await?;
    for annex in &applied.annexes {
        tidy.push(Step::RemoveDir { path: annex.clone() }).await?;
    }
    // This is the moment: before it a crash brings the old data back, after it the new data stays.
    work.undo.finish().await?;
    for annex in &applied.annexes {
        if let Err(failure) = remove_tree(annex).await {
            warn!("the old data could not be removed from {}: {failure:#}", annex.display());
        }
    }
    if let Err(failure) = remove_tree(staging).await {
        warn!("the fetched data could not be removed from {}: {failure:#}", staging.display());
    }
    tidy.finish().await
}

/// Undoes the swaps, the last one first.
pub(super) async fn put_back(applied: &Applied) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    for swapped in applied.swaps.iter().rev() {
        let (live, aside, inode) = (swapped.live.clone(), swapped.aside.clone(), swapped.inode);
        let result = tokio::task::spawn_blocking(move || swap::put_back(&live, &aside, inode)).await?;
        if let Err(failure) = result {
            failures.push(format!("{}: {failure:#}", swapped.live.display()));
        }
    }
    if failures.is_empty() {
        for annex in &applied.annexes {
            remove_tree(annex).await?;
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("; "));
    Ok(())
}
