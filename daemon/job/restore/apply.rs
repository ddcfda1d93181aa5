//! Restore steps and the swap. Each swap is written down before it happens.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::json;
use tracing::warn;

use super::dumps::{self, Changed, Wanted};
use super::kept::{RootWas, Swapped};
use super::swap::{self, Site};
use super::{Request, Work, carry, far, fetch, held, survey};
use crate::job::far::Far;
use crate::job::held::Was;
use crate::job::{hook, remove_tree};
use crate::state::Phase;
use crate::state::undo::Step;
use crate::target::{Environment, Excludes, Manifest, Place, Root, RootKind, TreePath};

/// Files and volumes are restored at this step (NS8).
const FILES_STEP: u32 = 10;
/// Handed to the steps; written only where none exists (NS8).
pub(super) const ENVIRONMENT: &str = "state/environment";

/// What was changed so far, in order.
#[derive(Default)]
pub(super) struct Applied {
    pub(super) swaps: Vec<Swapped>,
    pub(super) annexes: Vec<PathBuf>,
    pub(super) dumps: Vec<Changed>,
    /// Roots as they were.
    pub(super) roots: Vec<RootWas>,
    /// What volumes held that are filled through their engine, and whether that has begun.
    pub(super) held: Vec<(Was, bool)>,
    /// What changes places on other machines, in order, and whether that has begun.
    pub(super) far: Vec<(Far, bool)>,
}

/// Where a path of the tree lives: below which root, and where there.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    root: PathBuf,
    relative: PathBuf,
}

impl Spot {
    pub(super) fn of(request: &Request, place: &Place, item: &Path) -> anyhow::Result<Self> {
        if let (Ok(below), Some(founding)) = (item.strip_prefix("files"), &request.founding) {
            return Ok(Self { root: PathBuf::from("/"), relative: founding.moves.below_root(below) });
        }
        // Of this machine, where the instance is on another one.
        if let Ok(below) = item.strip_prefix("local") {
            let relative = match &request.founding {
                Some(founding) => founding.moves.below_root(below),
                None => below.to_owned(),
            };
            return Ok(Self { root: PathBuf::from("/"), relative });
        }
        let depth = if item.starts_with("volumes") { 2 } else { 1 };
        let root: PathBuf = item.components().take(depth).collect();
        let relative: PathBuf = item.components().skip(depth).collect();
        let root = if root == Path::new("files") { PathBuf::from("/") } else { place.live_path(&root)? };
        Ok(Self { root, relative })
    }

    /// The root that it lies below.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where it lies there.
    pub(super) fn relative(&self) -> &Path {
        &self.relative
    }

    /// Where it lives.
    pub(super) fn path(&self) -> PathBuf {
        self.root.join(&self.relative)
    }
}

/// Runs the steps in order, files and volumes at step 10. Returns warnings.
pub(super) async fn run(
    work: &Work,
    place: &Place,
    staging: &Path,
    manifest: &Manifest,
    wanted: &[Wanted],
    applied: &mut Applied,
) -> anyhow::Result<Vec<String>> {
    let steps = place.steps(work.live.cancelled()).await?;
    let request = step_request(work, staging)?;
    for step in steps.steps.iter().filter(|step| step.number < FILES_STEP) {
        one_step(work, place, step, &request).await?;
    }
    held::take(work, place, applied).await?;
    remember_roots(work, place, manifest, applied).await?;
    let mut warnings = files(work, place, staging, manifest, wanted, applied).await?;
    warnings.extend(dumps::swap(work, place, wanted, staging, manifest, applied).await?);
    warnings.extend(held::fill(work, applied).await?);
    for step in steps.steps.iter().filter(|step| step.number >= FILES_STEP) {
        one_step(work, place, step, &request).await?;
    }
    Ok(steps.warnings.into_iter().chain(warnings).collect())
}

/// Written before the swaps, so undone after them: those change the roots' times.
async fn remember_roots(
    work: &Work,
    place: &Place,
    manifest: &Manifest,
    applied: &mut Applied,
) -> anyhow::Result<()> {
    for root in manifest.roots.iter().filter(|root| root.kind != RootKind::Files) {
        // A volume that is not restored, and that only its engine reaches, has none.
        let Ok(dir) = place.live_path(&root.path.0) else { continue };
        let (path, kind, at) = (root.path.clone(), root.kind, dir.clone());
        let is = tokio::task::spawn_blocking(move || Root::of(&path, kind, &at)).await?;
        let Some(is) = is.with_context(|| root.path.0.display().to_string())? else { continue };
        work.undo.push(Step::PutOn { dir: dir.clone(), root: serde_json::to_value(&is)? }).await?;
        applied.roots.push(RootWas { dir: TreePath(dir), was: is });
    }
    Ok(())
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

/// Everything that can fail is done beside the live data first; then one swap follows the other.
async fn files(
    work: &Work,
    place: &Place,
    staging: &Path,
    manifest: &Manifest,
    wanted: &[Wanted],
    applied: &mut Applied,
) -> anyhow::Result<Vec<String>> {
    let mut warnings = Vec::new();
    let mut survey = survey::survey(work, place, manifest, staging)?;
    dumps::claim(wanted, &work.request, &mut survey);
    warnings.extend(
        survey
            .missing
            .iter()
            .map(|item| format!("{} is not in the snapshot and was left as it is", item.display())),
    );
    let excludes = survey::excludes(manifest)?;
    work.phase(Phase::Safety);
    bring(work, &survey.items, staging, applied).await?;
    for (item, live) in &survey.items {
        ensure!(!work.live.cancelled().is_cancelled(), crate::restic::Error::Cancelled);
        let prepared = carry_over(work, item, live, &excludes, applied).await;
        warnings.extend(prepared.with_context(|| item.display().to_string())?);
    }
    settle(work, &survey.items, applied).await?;
    for (far, begun) in &mut applied.far {
        far::sweep(work, place, manifest, &survey, far).await?;
        far::carry(work, far, &survey.far, staging, manifest).await?;
        *begun = true;
        far::swap(work, far).await?;
    }
    work.phase(Phase::Apply);
    for (item, live) in &survey.items {
        ensure!(!work.live.cancelled().is_cancelled(), crate::restic::Error::Cancelled);
        swap_in(work, live, applied).await.with_context(|| item.display().to_string())?;
    }
    for (item, live) in &survey.removed {
        let site = site(work, live, applied).await?;
        written(work, &site, None, applied).await?;
        warn!("{} was not there when the backup was made and is removed", item.display());
        tokio::task::spawn_blocking(move || site.set_aside()).await??;
    }
    if work.request.include.is_empty() {
        warnings.extend(put_roots_on(work, place, manifest, |_| true));
    }
    Ok(warnings)
}

/// What restic does not keep of the directories behind its links: owner, mode, times. Only with a restore of all.
pub(super) fn put_roots_on(
    work: &Work,
    place: &Place,
    manifest: &Manifest,
    which: impl Fn(&Root) -> bool,
) -> Vec<String> {
    if !work.request.include.is_empty() {
        return Vec::new();
    }
    let near = |root: &Root| root.kind != RootKind::Files && !far::is_far(&work.request, &root.path.0);
    let whole = manifest.roots.iter().filter(|root| root.whole && near(root) && which(root));
    let failed = whole.filter_map(|root| {
        let put = place.live_path(&root.path.0).and_then(|dir| root.put_on(&dir));
        put.err().map(|failure| format!("{}: {failure:#}", root.path.0.display()))
    });
    failed.collect()
}

/// Brings new data beside the live data: by rename, or from another file system. What comes into one directory is copied
/// at once: hard links among it stay hard links.
async fn bring(
    work: &Work,
    items: &[(PathBuf, Spot)],
    staging: &Path,
    applied: &mut Applied,
) -> anyhow::Result<()> {
    let mut across: BTreeMap<PathBuf, (Site, Vec<PathBuf>)> = BTreeMap::new();
    for (item, live) in items {
        ensure!(!work.live.cancelled().is_cancelled(), crate::restic::Error::Cancelled);
        let (staged, site) = (staging.join(item), site(work, live, applied).await?);
        if site.bring(&staged).with_context(|| item.display().to_string())? {
            continue;
        }
        let name = live.relative.file_name().map(OsString::from).unwrap_or_default();
        if staged.file_name() == Some(&name) {
            let annex = site.aside.parent().map(Path::to_owned).unwrap_or_default();
            across.entry(annex).or_insert_with(|| (site, Vec::new())).1.push(staged);
        } else {
            fetch::copy(work, &staged, &site.aside_dir(), &name).await?;
        }
    }
    for (site, staged) in across.into_values() {
        fetch::copy_all(work, &staged, &site.aside_dir()).await?;
    }
    Ok(())
}

/// Brings into the new data what the backup left out.
async fn carry_over(
    work: &Work,
    item: &Path,
    live: &Spot,
    excludes: &Excludes,
    applied: &mut Applied,
) -> anyhow::Result<Vec<String>> {
    let site = site(work, live, applied).await?;
    let Some(old) = site.live_dir()? else { return Ok(Vec::new()) };
    let (found, item, excludes) = (old.try_clone()?, item.to_owned(), excludes.clone());
    let carries = tokio::task::spawn_blocking(move || carry::left_out(&found, &item, &excludes)).await??;
    let Some(new) = site.new_dir()? else {
        let lost = (!carries.is_empty()).then(|| {
            format!("{} is no directory in the backup; files in it that were not backed up are only with the old data", site.live.display())
        });
        return Ok(lost.into_iter().collect());
    };
    let mut warnings = Vec::new();
    for carry in &carries {
        warnings.extend(carry::over(work, &old, &new, carry).await?);
    }
    Ok(warnings)
}

/// New data must be on the disk before it takes the place of old data: once on each file system.
async fn settle(work: &Work, items: &[(PathBuf, Spot)], applied: &mut Applied) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let mut devices = std::collections::BTreeSet::new();
    for (_, live) in items {
        let (_, parent) = swap::parent_of(&live.root, &live.relative)?;
        if devices.insert(std::fs::metadata(&parent)?.dev()) {
            let site = site(work, live, applied).await?;
            tokio::task::spawn_blocking(move || site.settle()).await??;
        }
    }
    Ok(())
}

/// Brings one file to where it lives; the old one lies aside afterwards.
pub(super) async fn replace(
    work: &Work,
    live: &Spot,
    staged: &Path,
    applied: &mut Applied,
) -> anyhow::Result<()> {
    let site = site(work, live, applied).await?;
    if !site.bring(staged)? {
        let name = live.relative.file_name().map(OsString::from).unwrap_or_default();
        fetch::copy(work, staged, &site.aside_dir(), &name).await?;
    }
    tokio::task::spawn_blocking(move || site.settle()).await??;
    swap_in(work, live, applied).await
}

/// Sets one file aside, if it is there.
pub(super) async fn set_aside(work: &Work, live: &Spot, applied: &mut Applied) -> anyhow::Result<()> {
    if live.path().symlink_metadata().is_err() {
        return Ok(());
    }
    let site = site(work, live, applied).await?;
    written(work, &site, None, applied).await?;
    tokio::task::spawn_blocking(move || site.set_aside()).await?
}

async fn swap_in(work: &Work, live: &Spot, applied: &mut Applied) -> anyhow::Result<()> {
    let site = site(work, live, applied).await?;
    let new = site.new_inode()?;
    ensure!(new.is_some(), "the new data for {} is gone: was its directory moved?", site.live.display());
    written(work, &site, new, applied).await?;
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

async fn written(work: &Work, site: &Site, new: Option<u64>, applied: &mut Applied) -> anyhow::Result<()> {
    let step = Step::SwapBack {
        instance: work.request.instance.name.to_string(),
        live: site.live.clone(),
        aside: site.aside.clone(),
        inode: site.inode,
    };
    work.undo.push(step).await?;
    let (live, aside) = (TreePath(site.live.clone()), TreePath(site.aside.clone()));
    applied.swaps.push(Swapped { live, aside, old: site.inode, new });
    Ok(())
}

/// Undoes the swaps, the last one first.
pub(super) async fn put_back(applied: &Applied) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    for swapped in applied.swaps.iter().rev() {
        let (live, aside, inode) = (swapped.live.0.clone(), swapped.aside.0.clone(), swapped.old);
        let result = tokio::task::spawn_blocking(move || swap::put_back(&live, &aside, inode)).await?;
        if let Err(failure) = result {
            failures.push(format!("{}: {failure:#}", swapped.live.0.display()));
        }
    }
    if failures.is_empty() {
        for annex in &applied.annexes {
            remove_tree(annex).await?;
        }
        for root in &applied.roots {
            root.was.put_on(&root.dir.0)?;
        }
        for (was, _) in applied.held.iter().filter(|(_, begun)| *begun) {
            let result = was.put_back().await;
            failures.extend(result.err().map(|failure| format!("{}: {failure:#}", was.held.shown())));
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("; "));
    Ok(())
}
