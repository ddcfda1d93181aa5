//! A directory that MicroShift's auto-recovery made becomes a tree of links to it, as a backup's: nothing is copied.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::arrange::{Arranged, roots};
use super::compose::{Composed, Said, commit, manifest, time};
use super::layout::{children, is_dir};
use super::{Standing, Work, cover, names};
use crate::target::{Staging, TreePath};

/// Where MicroShift keeps its data.
const DATA: &str = "files/var/lib/microshift";
/// What whole data of it holds.
const PARTS: [&str; 5] = ["certs", "etcd", "kubelet-plugins", "resources", "version"];

pub(super) async fn compose(work: &Work, staging: &Staging, data: OwnedFd) -> Result<Composed> {
    let zone = &work.request.definitions.daemon.timezone;
    let told = names::microshift(&work.request.name, zone).with_context(|| {
        format!(
            "the directory {:?} is no TIME_VERSION of MicroShift; of another one make an archive: tar -C DIR -c . | holdfast \
             import - …",
            work.request.name
        )
    })?;
    ensure!(work.request.wishes.exclude.is_empty(), "nothing can be left out of a directory");
    let to = place_of(work)?;
    let (tree, laid) = (staging.tree(), to.clone());
    let laying = tokio::task::spawn_blocking(move || {
        // The path of what the caller opened, whatever the caller calls it.
        let real = std::fs::read_link(format!("/proc/self/fd/{}", data.as_raw_fd()))?;
        let held = rustix::fs::fstat(&data)?;
        let is = rustix::fs::stat(&real).with_context(|| format!("looking at {}", real.display()))?;
        ensure!(
            (held.st_dev, held.st_ino) == (is.st_dev, is.st_ino),
            "{} is another directory now",
            real.display()
        );
        lay(&tree, &laid, &real)
    });
    let (targets, missing) = laying.await??;
    let mut notes = Vec::new();
    if !missing.is_empty() && work.request.wishes.standing != Some(Standing::Failed) {
        notes.push(format!("it is no whole data of MicroShift: there is no {}", missing.join(", ")));
    }
    let time = time(work, told.time, &mut notes)?;
    let version = work.request.wishes.version.clone().or(told.version).unwrap_or_default();
    let roots = roots(&staging.tree(), std::slice::from_ref(&to))?;
    let arranged = Arranged { includes: vec![TreePath(to)], roots, dumps: Vec::new() };
    let from = format!("{} (microshift)", work.request.name);
    let said = Said { time, version: version.clone(), from, records: Vec::new() };
    let manifest = manifest(work, &arranged, None, said)?;
    let tree = commit(staging.tree(), targets, manifest).await?;
    Ok(Composed { tree, time, version, notes, sha256: None, told: None })
}

/// Where the data belongs: as `map` says, where MicroShift has it, or the only include that there is.
fn place_of(work: &Work) -> Result<PathBuf> {
    let cover = cover(work)?;
    let literal: Vec<PathBuf> =
        cover.literal().into_iter().filter(|path| path.starts_with("files")).collect();
    let said = work.request.wishes.map.iter().find(|(from, _)| from.0.as_os_str().is_empty());
    let to = match (said, cover.holds(Path::new(DATA)), literal.as_slice()) {
        (Some((_, to)), _, _) => to.clone(),
        (None, Some(_), _) => DATA.into(),
        (None, None, [only]) => only.clone(),
        _ => DATA.into(),
    };
    ensure!(
        cover.holds(&to).is_some(),
        "no include of {} holds {}; say where the data belongs with --map .=DIRECTORY",
        work.request.instance.name,
        to.display()
    );
    Ok(to)
}

/// A link to the data in its place, its children as targets, and what is missing of it.
fn lay(tree: &Path, to: &Path, real: &Path) -> Result<(Vec<PathBuf>, Vec<&'static str>)> {
    let link = tree.join(to);
    let above = link.parent().context("a place without a directory around it")?;
    std::fs::create_dir_all(above).context("laying the tree")?;
    std::os::unix::fs::symlink(real, &link).context("laying the tree")?;
    let names = children(real)?;
    ensure!(!names.is_empty(), "it is empty");
    let there = |part: &str| real.join(part).symlink_metadata().is_ok();
    let missing = PARTS.into_iter().filter(|part| !there(part)).collect();
    debug_assert!(is_dir(real), "a directory was opened");
    Ok((names.into_iter().map(|name| to.join(name)).collect(), missing))
}
