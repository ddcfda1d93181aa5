//! Volumes of another machine as a whole: the directory itself, and what appeared in it since the backup.

use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use tracing::warn;

use super::founding::taken;
use super::{annex, survey};
use crate::definition::Remote;
use crate::job::far::{self, Far, FarItem, FarRoot};
use crate::job::restore::Work;
use crate::job::restore::survey::Survey;
use crate::target::{Manifest, Place, TreePath};

/// Whose the directories are, and whose they are to be.
pub(super) async fn roots(
    work: &Work,
    place: &Place,
    manifest: &Manifest,
    (remote, roots): (&Remote, &[PathBuf]),
) -> Result<Vec<FarRoot>> {
    let second = work.request.founding.as_ref().is_some_and(|founding| founding.second);
    let mut all = Vec::new();
    for path in roots {
        let dir = place.there(path).with_context(|| format!("nobody knows where {} lies", path.display()))?;
        if second && !far::list(remote, &dir, work.live.cancelled()).await?.is_empty() {
            bail!(taken(remote, &dir));
        }
        let was = far::marks(remote, &dir, work.live.cancelled()).await?;
        let mut comes = was.clone();
        if let Some(root) = manifest.roots.iter().find(|root| root.path.0 == *path) {
            comes.mode = format!("{:o}", root.mode);
            // Without root's rights nobody knows here whose it was.
            if rustix::process::geteuid().is_root() {
                comes.owner = format!("{}:{}", root.uid, root.gid);
            }
            if !root.xattrs.is_empty() {
                warn!("attributes of the directory of {} itself are not put back there", path.display());
            }
        }
        let annex = TreePath(dir.join(annex(work)));
        all.push(FarRoot { dir: TreePath(dir), annex, was, comes });
    }
    Ok(all)
}

/// What appeared in a whole volume since the backup goes too; what the backup excluded stays. To be called while nothing
/// writes there.
pub(in crate::job::restore) async fn sweep(
    work: &Work,
    place: &Place,
    manifest: &Manifest,
    survey: &Survey,
    far: &mut Far,
) -> Result<()> {
    let excludes = survey::excludes(manifest)?;
    for root in &survey.far_roots {
        let dir = place.there(root).with_context(|| format!("nobody knows where {} lies", root.display()))?;
        for name in far::list(&far.remote, &dir, work.live.cancelled()).await? {
            let (child, live) = (root.join(&name), dir.join(&name));
            let comes = far.items.iter().any(|item| item.live.0 == live);
            if comes || excludes.leave_out(child.as_os_str().as_bytes()) {
                continue;
            }
            warn!("{} was not there when the backup was made and is removed", child.display());
            let annex = TreePath(dir.join(annex(work)));
            far.items.push(FarItem { live: TreePath(live), annex, was: true, comes: false });
        }
        // A name that sudo there is not to be told of is refused before anything changes places.
        let goes = far.items.iter().filter(|item| !item.comes).map(|item| item.live.0.clone());
        far::look(&far.remote, &goes.collect::<Vec<_>>(), work.live.cancelled()).await?;
    }
    Ok(())
}
