//! What a restore in place will swap, and why it must not. Looks, touches nothing.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::StatVfsMountFlags;

use super::apply::{ENVIRONMENT, Spot};
use super::far::Coming;
use super::swap::{ANNEX_PREFIX, parent_of};
use super::{NotTheSet, Request, Work, dumps, far, mounts};
use crate::job::{Context, Dirs};
use crate::restic::local_path;
use crate::target::{Excludes, Manifest, Place, Root, RootKind};

/// What will be swapped.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Paths of the tree that come, and where they live.
    pub(super) items: Vec<(PathBuf, Spot)>,
    /// Included when the backup was made, and not in it.
    pub(super) missing: Vec<PathBuf>,
    /// Live things that were not there when the backup was made, in directories that were included as a whole.
    pub(super) removed: Vec<(PathBuf, Spot)>,
    /// What comes to another machine.
    pub(super) far: Vec<Coming>,
    /// Volumes that come there as a whole.
    pub(super) far_roots: Vec<PathBuf>,
}

/// Looks at what was fetched, and refuses what cannot be done wholly.
pub(super) fn survey(work: &Work, place: &Place, manifest: &Manifest, staging: &Path) -> Result<Survey> {
    let there = |path: &Path| std::fs::symlink_metadata(staging.join(path)).is_ok();
    let children = |root: &Path| names_in(&staging.join(root), root);
    let survey = look(&work.request, place, manifest, there, children)?;
    let problems = problems(&work.context, &work.request, &survey);
    ensure!(problems.is_empty(), NotTheSet(problems.join("; ")));
    check_room(&survey, staging)?;
    Ok(survey)
}

/// What would be swapped; `there` and `children` tell what the snapshot holds.
pub(super) fn look(
    request: &Request,
    place: &Place,
    manifest: &Manifest,
    there: impl Fn(&Path) -> bool,
    children: impl Fn(&Path) -> Result<Vec<PathBuf>>,
) -> Result<Survey> {
    let mut survey = Survey::default();
    let asked: Vec<PathBuf> = match request.include.is_empty() {
        true => manifest.includes.iter().map(|path| path.0.clone()).collect(),
        false => request
            .include
            .iter()
            .map(|path| path.components().collect())
            .filter(|path: &PathBuf| !dumps::is_dump(path))
            .collect(),
    };
    let mut items = Vec::new();
    for item in asked {
        match manifest.roots.iter().any(|root| root.path.0 == item) {
            true => items.extend(children(&item)?),
            false => items.push(item),
        }
    }
    items.sort();
    items.dedup();
    if request.include.is_empty() {
        survey.removed = removed(request, place, manifest, &items)?;
        let volumes = manifest.roots.iter().filter(|root| root.whole && root.kind == RootKind::Volume);
        let far = volumes.map(|root| root.path.0.clone()).filter(|root| far::is_far(request, root));
        survey.far_roots = far.collect();
    }
    for item in items {
        if far::is_far(request, &item) {
            match there(&item) {
                true => survey.far.push(Coming::of(request, place, item)?),
                false => survey.missing.push(item),
            }
            continue;
        }
        let spot = Spot::of(request, place, &item)?;
        if !there(&item) {
            survey.missing.push(item);
        } else if item != Path::new(ENVIRONMENT) || spot.path().symlink_metadata().is_err() {
            survey.items.push((item, spot));
        }
    }
    Ok(survey)
}

/// Where a whole directory was included, what appeared in it since goes too; what the backup excluded stays.
fn removed(
    request: &Request,
    place: &Place,
    manifest: &Manifest,
    items: &[PathBuf],
) -> Result<Vec<(PathBuf, Spot)>> {
    let excludes = excludes(manifest)?;
    let mut found = Vec::new();
    let near = |root: &&Root| root.kind != RootKind::Files && !far::is_far(request, &root.path.0);
    for root in manifest.roots.iter().filter(|root| root.whole && near(root)) {
        for child in names_in(&place.live_path(&root.path.0)?, &root.path.0)? {
            let ours = child.file_name().is_some_and(|n| n.as_bytes().starts_with(ANNEX_PREFIX.as_bytes()));
            let excluded = excludes.leave_out(child.as_os_str().as_bytes());
            if !(items.contains(&child) || ours || excluded || child == Path::new(ENVIRONMENT)) {
                let spot = Spot::of(request, place, &child)?;
                found.push((child, spot));
            }
        }
    }
    Ok(found)
}

/// What the backup left out.
pub(super) fn excludes(manifest: &Manifest) -> Result<Excludes> {
    let mut excludes = Excludes::default();
    for pattern in &manifest.excludes {
        excludes.add(pattern.as_bytes(), false)?;
    }
    Ok(excludes)
}

/// Why it must not be done, each with what to do.
pub(super) fn problems(context: &Context, request: &Request, survey: &Survey) -> Vec<String> {
    let places: Vec<PathBuf> =
        survey.items.iter().chain(&survey.removed).map(|(_, spot)| real(&spot.path())).collect();
    let points = mounts::mount_points();
    let own = own_places(&context.dirs, request);
    let mut problems = Vec::new();
    if let Err(failure) = &points {
        problems.push(format!("{failure:#}"));
    }
    for (_, spot) in survey.items.iter().chain(&survey.removed) {
        problems.extend(unreachable(request, spot));
    }
    for place in &places {
        problems.extend(points.as_ref().ok().and_then(|points| mounts::in_the_way(place, points)));
        if let Some(own) = own.iter().find(|own| own.starts_with(place)) {
            problems.push(format!(
                "{} holds {}, which holdfastd itself works with; include what lies beside it, or restore into a directory \
                 with target",
                place.display(),
                own.display()
            ));
        }
        if let Some(other) = places.iter().find(|other| *other != place && other.starts_with(place)) {
            problems.push(format!(
                "{} lies inside {}, and both would be swapped; restore one after the other with include",
                other.display(),
                place.display()
            ));
        }
    }
    problems
}

/// Why the directory that something lives in cannot be written.
fn unreachable(request: &Request, spot: &Spot) -> Option<String> {
    let path = spot.path();
    if request.founding.as_ref().is_some_and(|founding| founding.second) && path.symlink_metadata().is_ok() {
        return Some(format!(
            "{} is there already, and a new instance takes nothing over; say where else with map, or remove it",
            path.display()
        ));
    }
    let dir = path.parent().unwrap_or(Path::new("/"));
    let (fd, _) = match spot.parent() {
        Ok(parent) => parent,
        // The job makes what is missing.
        Err(_) if request.founding.is_some() && !dir.exists() => return None,
        Err(failure) => {
            let hint = "make it as it was, or restore into a directory with target";
            return Some(format!("{} cannot be put back: {failure:#}; {hint}", path.display()));
        }
    };
    let flags = rustix::fs::fstatvfs(&fd).map(|stat| stat.f_flag);
    flags.is_ok_and(|flags| flags.contains(StatVfsMountFlags::RDONLY)).then(|| {
        format!("{} is on a file system that is mounted read-only; remount it, or restore into a directory with target", dir.display())
    })
}

/// The place without links on the way to it.
fn real(path: &Path) -> PathBuf {
    match (path.parent().and_then(|parent| parent.canonicalize().ok()), path.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    }
}

/// What must not be swapped under our own feet.
fn own_places(dirs: &Dirs, request: &Request) -> Vec<PathBuf> {
    let Dirs { config: _, library: _, state, cache, runtime } = dirs;
    let definitions = &request.definitions;
    let local = definitions.repositories.values().filter_map(|repository| local_path(&repository.url));
    let dirs = [state, cache, runtime, &definitions.daemon.staging_dir];
    let all = dirs.into_iter().cloned().chain(local);
    all.map(|path| path.canonicalize().unwrap_or(path)).collect()
}

/// Data that was staged on another file system is copied; what was left out is copied as well.
fn check_room(survey: &Survey, staging: &Path) -> Result<()> {
    let staged_on = std::fs::metadata(staging)?.dev();
    let mut needed: BTreeMap<u64, (PathBuf, u64)> = BTreeMap::new();
    for (item, spot) in &survey.items {
        let (_, parent) = spot.parent()?;
        let device = std::fs::metadata(&parent)?.dev();
        if device != staged_on {
            needed.entry(device).or_insert((parent, 0)).1 += size_of(&staging.join(item))?;
        }
    }
    for (place, bytes) in needed.values() {
        let stat = rustix::fs::statvfs(place).with_context(|| place.display().to_string())?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let text = || {
            let place = place.display();
            format!(
                "{bytes} bytes are needed beside {place} and {free} are free; make room, or restore into a directory with target"
            )
        };
        ensure!(*bytes <= free, NotTheSet(text()));
    }
    Ok(())
}

/// The space that a thing takes, with all below it; links are not followed.
pub(super) fn size_of(path: &Path) -> Result<u64> {
    let mut sum = 0;
    let mut todo = vec![path.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = match std::fs::symlink_metadata(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            meta => meta.with_context(|| format!("measuring {}", path.display()))?,
        };
        sum += meta.blocks() * 512;
        if meta.is_dir() {
            let entries =
                std::fs::read_dir(&path).with_context(|| format!("measuring {}", path.display()))?;
            for entry in entries {
                todo.push(entry?.path());
            }
        }
    }
    Ok(sum)
}

/// The children of a directory, as paths of the tree below `root`; none where it does not exist.
pub(super) fn names_in(dir: &Path, root: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Err(failure) if failure.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("reading {}", dir.display()))?,
    };
    entries.map(|entry| Ok(root.join(entry?.file_name()))).collect()
}

impl Spot {
    /// The directory that it lives in, open, and where that really is.
    fn parent(&self) -> Result<(std::os::fd::OwnedFd, PathBuf)> {
        parent_of(self.root(), self.relative())
    }
}
