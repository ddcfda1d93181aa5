//! Data that failed: where a person finds it. `failed/INSTANCE/<UTC time>_<version>/` below the state directory holds
//! links, at the paths where the data lived, to where it is kept.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::kept::Kept;
use crate::job::{Context, remove_tree};
use crate::state::durable;
use crate::state::undo::{Step, Undo};

/// What a recovery says of the data that it replaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// `<UTC time>_<version>`.
    pub name: String,
    /// An earlier recovery brought it, and it failed at once: it lies in a repository too.
    pub again: bool,
}

/// `<UTC time>_<version>`, fit for a file's name.
pub fn name_of(at: Timestamp, version: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() || "+-.:~".contains(c) { c } else { '-' };
    let version: String = version.chars().take(100).map(fit).collect();
    format!("{}_{version}", at.strftime("%Y%m%dT%H%M%SZ"))
}

/// The same for data that fails now, told apart from what failed in the same second.
pub fn free_name(context: &Context, instance: &str, version: &str) -> String {
    let (first, all) = (name_of(Timestamp::now(), version), context.dirs.state.join("failed").join(instance));
    let taken = |name: &String| all.join(name).symlink_metadata().is_ok();
    let more = (2..1_000).map(|n| format!("{first}.{n}"));
    std::iter::once(first.clone()).chain(more).find(|name| !taken(name)).unwrap_or(first.clone())
}

/// Where the links are.
pub(super) fn dir(context: &Context, kept: &Kept) -> Option<PathBuf> {
    let failed = kept.failed.as_ref()?;
    Some(context.dirs.state.join("failed").join(&kept.instance).join(&failed.name))
}

/// Makes the links; their removal stands in the undo file first.
pub(super) async fn link(context: &Context, undo: &Undo, kept: &Kept) -> Result<()> {
    let Some(dir) = dir(context, kept) else { return Ok(()) };
    undo.push(Step::RemoveDir { path: dir.clone() }).await?;
    let (swaps, held) = (kept.swaps.clone(), kept.held.clone());
    let made = tokio::task::spawn_blocking(move || {
        durable::create_dir(&dir, 0o700)?;
        for swapped in swaps.iter().filter(|swapped| swapped.old.is_some()) {
            one(&dir, &swapped.live.0, &swapped.aside.0)?;
        }
        for was in &held {
            one(&dir, &Path::new("volumes").join(&was.held.name), &was.data.0)?;
        }
        anyhow::Ok(())
    });
    made.await?.context("listing the data that failed")
}

fn one(dir: &Path, live: &Path, aside: &Path) -> Result<()> {
    let below: PathBuf = live.components().filter(|c| matches!(c, Component::Normal(_))).collect();
    let link = dir.join(below);
    let parent = link.parent().unwrap_or(dir);
    durable::create_dir(parent, 0o700)?;
    std::os::unix::fs::symlink(aside, &link).with_context(|| format!("linking {}", link.display()))?;
    Ok(durable::sync_dir(parent)?)
}

/// Removes the links, not the data.
pub(super) async fn unlink(context: &Context, kept: &Kept) -> Result<()> {
    match dir(context, kept) {
        Some(dir) => remove_tree(&dir).await,
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_utc_and_holds_no_path() {
        let at = "2026-11-21T15:00:01+02:00".parse().unwrap();
        assert_eq!(name_of(at, "1:4.2-rc_1"), "20261121T130001Z_1:4.2-rc-1");
        assert_eq!(name_of(at, "../x y"), "20261121T130001Z_..-x-y");
        assert_eq!(name_of(at, ""), "20261121T130001Z_");
    }
}
