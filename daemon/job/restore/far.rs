//! What of a restore lives on another machine: brought beside what lives there, then exchanged by one call.

mod carry;
mod founding;
mod volumes;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tracing::{info, warn};

use super::survey::{self, Survey};
use super::{Request, Work};
use crate::definition::Remote;
use crate::job::far::{self, Far, FarItem};
use crate::job::rsync::{self, Toward};
use crate::state::Phase;
use crate::state::undo::Step;
use crate::target::{Manifest, Place, TreePath, rsync_path};

pub(super) use carry::carry;
pub(super) use founding::{leave, make_parents, problems};
use founding::{remove, taken};
pub(super) use volumes::sweep;

/// Whether a path of the tree lives on the instance's other machine.
pub(super) fn is_far(request: &Request, item: &Path) -> bool {
    request.instance.remote.is_some() && (item.starts_with("files") || item.starts_with("volumes"))
}

/// Something of the tree that comes to another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Coming {
    /// Its path in the tree.
    pub(super) item: PathBuf,
    /// Where it lives there.
    live: PathBuf,
    /// Where the same may live already, so that it need not go over the wire.
    like: PathBuf,
}

impl Coming {
    pub(super) fn of(request: &Request, place: &Place, item: PathBuf) -> Result<Self> {
        let there =
            || place.there(&item).with_context(|| format!("nobody knows where {} lies", item.display()));
        if item.starts_with("volumes") {
            let live = there()?;
            return Ok(Self { like: live.clone(), item, live });
        }
        let live = lives_at(request, &item)?;
        let second = request.founding.as_ref().is_some_and(|founding| founding.second);
        let like = if second { there()? } else { live.clone() };
        Ok(Self { item, live, like })
    }

    /// Whether it has another name there.
    fn renamed(&self) -> bool {
        self.item.file_name() != self.live.file_name()
    }
}

/// Where a file of the other machine is to live there.
fn lives_at(request: &Request, item: &Path) -> Result<PathBuf> {
    let saved = far::live_of(item).context("no path of the other machine")?;
    Ok(request.founding.as_ref().map_or_else(|| saved.clone(), |founding| founding.moves.or_same(&saved)))
}

fn texts(dirs: &[PathBuf]) -> Result<Vec<String>> {
    let names: Option<Vec<String>> = dirs.iter().map(|dir| dir.to_str().map(str::to_owned)).collect();
    names.context("a directory of the other machine has a name that is no UTF-8")
}

/// Brings new data beside what lives. Nothing live is touched.
pub(super) async fn bring(
    work: &Work,
    place: &Place,
    manifest: &Manifest,
    survey: &Survey,
    staging: &Path,
) -> Result<Option<Far>> {
    let some = !(survey.far.is_empty() && survey.far_roots.is_empty());
    let Some(remote) = work.request.instance.remote.as_ref().filter(|_| some) else { return Ok(None) };
    let roots = volumes::roots(work, place, manifest, (remote, &survey.far_roots)).await?;
    let far = Far { roots, ..laid_out(work, remote, &survey.far).await? };
    let dirs = far.annexes();
    work.undo.push(Step::FarRemove { remote: remote.clone(), dirs: texts(&dirs)? }).await?;
    let brought = async {
        far::make(remote, &dirs, work.live.cancelled()).await?;
        push_all(work, remote, staging, &survey.far).await
    };
    if let Err(failure) = brought.await {
        remove(work, &far).await;
        return Err(failure);
    }
    Ok(Some(far))
}

/// What will change places, as it is now.
async fn laid_out(work: &Work, remote: &Remote, coming: &[Coming]) -> Result<Far> {
    let lives: Vec<PathBuf> = coming.iter().map(|one| one.live.clone()).collect();
    let parents: Vec<PathBuf> = lives.iter().filter_map(|live| live.parent().map(Path::to_owned)).collect();
    let all: Vec<PathBuf> = lives.iter().chain(&parents).cloned().collect();
    let there = far::look(remote, &all, work.live.cancelled()).await?;
    let (was, above) = there.split_at(lives.len());
    if let Some((parent, _)) = parents.iter().zip(above).find(|(_, there)| !**there) {
        bail!("there is no directory {} on {}; make it as it was", parent.display(), remote.login());
    }
    let second = work.request.founding.as_ref().is_some_and(|founding| founding.second);
    if let Some((live, _)) = lives.iter().zip(was).find(|(_, was)| second && **was) {
        bail!(taken(remote, live));
    }
    let items = lives.iter().zip(&parents).zip(was).map(|((live, parent), was)| FarItem {
        live: TreePath(live.clone()),
        annex: TreePath(parent.join(annex(work))),
        was: *was,
        comes: true,
    });
    Ok(Far { remote: remote.clone(), items: items.collect(), roots: Vec::new(), back: false })
}

fn annex(work: &Work) -> String {
    super::swap::annex_name(work.live.id())
}

/// What one call of rsync brings: from where, to where, and where the same may lie already.
#[derive(Debug, PartialEq, Eq)]
struct Batch {
    sources: Vec<OsString>,
    to: OsString,
    like: PathBuf,
}

/// What comes into one directory comes at once: hard links among it stay hard links. What has another name there comes
/// alone.
fn batches(staging: &Path, annex: &str, coming: &[Coming]) -> Vec<Batch> {
    let above = |path: &Path| path.parent().unwrap_or(Path::new("/")).to_owned();
    let mut groups = BTreeMap::<(PathBuf, PathBuf), Vec<OsString>>::new();
    let mut all = Vec::new();
    for one in coming {
        let staged = staging.join(&one.item);
        let new = above(&one.live).join(annex).join("new");
        let is_dir = staged.symlink_metadata().is_ok_and(|meta| meta.is_dir());
        match one.renamed() {
            false => groups.entry((new, above(&one.like))).or_default().push(staged.into()),
            true if is_dir => {
                let to = slashed(new.join(one.live.file_name().unwrap_or_default()));
                all.push(Batch { sources: vec![slashed(staged)], to, like: one.like.clone() });
            }
            true => {
                let to = new.join(one.live.file_name().unwrap_or_default()).into();
                all.push(Batch { sources: vec![staged.into()], to, like: above(&one.like) });
            }
        }
    }
    all.extend(groups.into_iter().map(|((new, like), sources)| Batch { sources, to: slashed(new), like }));
    all
}

fn slashed(path: PathBuf) -> OsString {
    let mut text = path.into_os_string();
    text.push("/");
    text
}

/// Files that live there unchanged are copied there, by their content; the others go over the wire.
async fn push_all(work: &Work, remote: &Remote, staging: &Path, coming: &[Coming]) -> Result<()> {
    for Batch { sources, to, like } in batches(staging, &annex(work), coming) {
        let mut argv = rsync::push_options(remote.sudo, &like);
        argv.push("--".into());
        argv.extend(sources);
        argv.push(rsync_path(remote, &to));
        let (stall, cancel) = (work.request.instance.stall_timeout, work.live.cancelled());
        let done = rsync::transfer(remote, (Toward::There, staging), argv, stall, cancel).await;
        let done = done.map_err(|failure| far::sudo_lacks(failure, "rsync --server"));
        let done = done.with_context(|| format!("bringing data to {}", remote.login()))?;
        ensure!(
            done.left_out.is_empty(),
            "bringing data to {}: {}",
            remote.login(),
            done.left_out.join("; ")
        );
        info!("brought to {}:{}: {}", remote.login(), to.display(), done.stats.join(", "));
        done.warnings.iter().for_each(|text| warn!("{text}"));
    }
    Ok(())
}

/// The exchange, written down before it happens.
pub(super) async fn swap(work: &Work, far: &Far) -> Result<()> {
    let instance = work.request.instance.name.to_string();
    work.phase(Phase::Apply);
    work.undo.push(Step::FarBack { instance, far: serde_json::to_value(far)? }).await?;
    far.swap(work.live.cancelled()).await
}

/// All of it, the last one first: what came later may lie within what came before.
pub(super) async fn put_back_all(work: &Work, all: &[(Far, bool)]) -> Result<()> {
    for (far, begun) in all.iter().rev() {
        put_back(work, far, *begun).await?;
    }
    Ok(())
}

/// What lived is back and what came is gone, however long the machine does not answer.
async fn put_back(work: &Work, far: &Far, swapped: bool) -> Result<()> {
    let name = &work.request.instance.name;
    if swapped {
        far.put_back_at_last(name, |reason| work.live.waits(name, reason)).await?;
    }
    remove(work, far).await;
    Ok(())
}

/// Where a volume lies, for a plan, that is to be made.
pub(super) const TO_BE_MADE: &str = "/nonexistent";

/// Rows for a plan.
pub(super) fn rows(request: &Request, survey: &Survey, sizes: impl Fn(&Path) -> (u64, u64)) -> Vec<Value> {
    let Some(remote) = &request.instance.remote else { return Vec::new() };
    let row = |Coming { item, live, .. }: &Coming| {
        let (files, bytes) = sizes(item);
        let live = match live.starts_with(TO_BE_MADE) {
            true => format!("a new volume on {}", remote.login()),
            false => format!("{}:{}", remote.login(), super::plan::shown(live)),
        };
        json!({
            "path": super::plan::shown(item), "live": live,
            "files": files, "bytes": bytes,
        })
    };
    survey.far.iter().map(row).collect()
}

/// Executes a step that a dead job left.
pub(in crate::job) async fn execute(far: &Value) -> Result<()> {
    let far: Far = serde_json::from_value(far.clone()).context("an exchange of another version")?;
    warn!("putting back what a restore exchanged on {}", far.remote.login());
    far.put_back().await
}

/// Removes what is kept there, or says that it is left.
pub(super) async fn discarded(far: &Far) -> bool {
    let result = discard(far).await;
    if let Err(failure) = &result {
        warn!("the old data is still there and is removed when holdfastd starts: {failure:#}");
    }
    result.is_ok()
}

/// Removes what is kept there.
pub(super) async fn discard(far: &Far) -> Result<()> {
    far::remove(&far.remote, &far.annexes()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_another_name_there_comes_alone_and_all_else_with_its_directory() {
        let staging = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            std::fs::create_dir_all(staging.path().join("files/srv").join(name)).unwrap();
        }
        let one = |name: &str, live: &str| Coming {
            item: Path::new("files/srv").join(name),
            live: live.into(),
            like: Path::new("/srv").join(name),
        };
        let all = [one("a", "/new/a"), one("b", "/new/b"), one("c", "/new/c2"), one("x", "/new/y")];
        let all = batches(staging.path(), ".holdfast-j1", &all);
        let to: Vec<_> = all.iter().map(|one| (one.to.to_str().unwrap(), one.sources.len())).collect();
        let new = "/new/.holdfast-j1/new/";
        assert_eq!(to, [(&*format!("{new}c2/"), 1), (&*format!("{new}y"), 1), (new, 2)]);
        assert_eq!(all[0].like, Path::new("/srv/c"));
        assert!(all[0].sources[0].to_str().unwrap().ends_with("/c/"), "{all:?}");
    }
}
