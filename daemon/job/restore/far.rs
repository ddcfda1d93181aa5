//! What of a restore lives on another machine: brought beside what lives there, then exchanged by one call.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tracing::{info, warn};

use super::survey::Survey;
use super::{Request, Work};
use crate::definition::Remote;
use crate::job::far::{self, Far, FarItem};
use crate::job::rsync::{self, Toward};
use crate::process::{self, Limits, Program, Sign};
use crate::state::Phase;
use crate::state::undo::Step;
use crate::target::{Manifest, TreePath, judge, over_ssh, rsync_path, sudo};

/// Whether a path of the tree lives on the instance's other machine.
pub(super) fn is_far(request: &Request, item: &Path) -> bool {
    request.instance.remote.is_some() && item.starts_with("files")
}

/// Why a restore of an instance on another machine cannot be done as it was asked for.
pub(super) fn refused(request: &Request) -> Option<String> {
    let far = request.instance.remote.is_some() && request.founding.is_some();
    far.then(|| {
        "an instance on another machine cannot be restored under another name yet: define it, with its `ssh`, then restore \
         it; or restore into a directory with target"
            .to_owned()
    })
}

/// Excludes other than what keeps our own directories out.
fn excludes(manifest: &Manifest) -> Vec<&str> {
    let own = |pattern: &&str| !pattern.starts_with(".holdfast-j");
    manifest.excludes.iter().map(String::as_str).filter(own).collect()
}

/// Brings new data beside what lives. Nothing live is touched.
pub(super) async fn bring(work: &Work, survey: &Survey, staging: &Path) -> Result<Option<Far>> {
    let Some(remote) = work.request.instance.remote.as_ref().filter(|_| !survey.far.is_empty()) else {
        return Ok(None);
    };
    let far = laid_out(work, remote, &survey.far).await?;
    let dirs = far.annexes();
    let names: Option<Vec<String>> = dirs.iter().map(|dir| dir.to_str().map(str::to_owned)).collect();
    let names = names.context("a directory of the other machine has a name that is no UTF-8")?;
    work.undo.push(Step::FarRemove { remote: remote.clone(), dirs: names }).await?;
    far::make(remote, &dirs, work.live.cancelled()).await?;
    for (parent, items) in by_parent(&survey.far) {
        push(work, remote, staging, &parent, &items).await?;
    }
    Ok(Some(far))
}

/// What will change places, as it is now.
async fn laid_out(work: &Work, remote: &Remote, items: &[PathBuf]) -> Result<Far> {
    let lives: Vec<PathBuf> = items.iter().filter_map(|item| far::live_of(item)).collect();
    let parents: Vec<PathBuf> = lives.iter().filter_map(|live| live.parent().map(Path::to_owned)).collect();
    let all: Vec<PathBuf> = lives.iter().chain(&parents).cloned().collect();
    let there = far::look(remote, &all, work.live.cancelled()).await?;
    let (was, above) = there.split_at(lives.len());
    if let Some((parent, _)) = parents.iter().zip(above).find(|(_, there)| !**there) {
        bail!("there is no directory {} on {}; make it as it was", parent.display(), remote.login());
    }
    let items = lives.iter().zip(&parents).zip(was).map(|((live, parent), was)| FarItem {
        live: TreePath(live.clone()),
        annex: TreePath(parent.join(annex(work))),
        was: *was,
        comes: true,
    });
    Ok(Far { remote: remote.clone(), items: items.collect(), back: false })
}

fn annex(work: &Work) -> String {
    super::swap::annex_name(work.live.id())
}

fn by_parent(items: &[PathBuf]) -> BTreeMap<PathBuf, Vec<PathBuf>> {
    let mut all = BTreeMap::<PathBuf, Vec<PathBuf>>::new();
    for item in items {
        all.entry(item.parent().unwrap_or(Path::new("")).to_owned()).or_default().push(item.clone());
    }
    all
}

/// Files that live there unchanged are copied there, by their content; the others go over the wire.
async fn push(work: &Work, remote: &Remote, staging: &Path, parent: &Path, items: &[PathBuf]) -> Result<()> {
    let live = far::live_of(parent).context("no path of the other machine")?;
    let mut to = live.join(annex(work)).join("new").into_os_string();
    to.push("/");
    let mut argv = rsync::push_options(remote.sudo, &live);
    argv.push("--".into());
    argv.extend(items.iter().map(|item| staging.join(item).into_os_string()));
    argv.push(rsync_path(remote, &to));
    let (stall, cancel) = (work.request.instance.stall_timeout, work.live.cancelled());
    let done = rsync::transfer(remote, (Toward::There, staging), argv, stall, cancel).await;
    let done = done.map_err(|failure| far::sudo_lacks(failure, "rsync --server"));
    let done = done.with_context(|| format!("bringing data to {}", remote.login()))?;
    ensure!(done.left_out.is_empty(), "bringing data to {}: {}", remote.login(), done.left_out.join("; "));
    info!("brought to {}:{}: {}", remote.login(), live.display(), done.stats.join(", "));
    done.warnings.iter().for_each(|text| warn!("{text}"));
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
    far::remove_or_tell(&far.remote, &far.annexes()).await;
    Ok(())
}

/// Files that the backup left out are copied over there, from what lives: to be called while nothing writes them.
pub(super) async fn carry(work: &Work, far: &Far, staging: &Path, manifest: &Manifest) -> Result<()> {
    let patterns = excludes(manifest);
    for item in far.items.iter().filter(|item| item.was && item.comes) {
        let path = Path::new("files").join(item.live.0.strip_prefix("/").unwrap_or(&item.live.0));
        let filters: Vec<String> = patterns.iter().filter_map(|pattern| inside(pattern, &path)).collect();
        if filters.is_empty() || !staging.join(&path).is_dir() {
            continue;
        }
        let new = item.annex.0.join("new").join(path.file_name().unwrap_or_default());
        copy_there(work, &far.remote, &filters, &item.live.0, &new).await?;
        // That gave directories what the live ones have; what was saved counts.
        let parent = path.parent().unwrap_or(Path::new("")).to_owned();
        push(work, &far.remote, staging, &parent, &[path]).await?;
    }
    Ok(())
}

/// A pattern over the tree as one of rsync's, below an item; none: it takes back in, or is not about what lies inside. One
/// that fits too much only keeps a file that could go.
fn inside(pattern: &str, item: &Path) -> Option<String> {
    if pattern.starts_with('!') {
        return None;
    }
    let Some(path) = pattern.strip_prefix('/') else { return Some(pattern.to_owned()) };
    let names: Vec<&str> = path.split('/').collect();
    let depth = item.components().count();
    match names.iter().take(depth).position(|name| *name == "**") {
        Some(at) => Some(names[at + 1..].join("/")).filter(|rest| !rest.is_empty()),
        None if names.first() != Some(&"files") || names.len() <= depth => None,
        None => Some(format!("/{}", names[depth..].join("/"))),
    }
}

async fn copy_there(work: &Work, remote: &Remote, filters: &[String], from: &Path, to: &Path) -> Result<()> {
    let mut argv = ["rsync", "-aHAX", "--numeric-ids", "--ignore-existing", "--prune-empty-dirs"]
        .map(OsString::from)
        .to_vec();
    for filter in filters {
        argv.push(format!("--include={filter}").into());
        argv.push(format!("--include={filter}/**").into());
    }
    argv.extend(["--include=*/", "--exclude=*", "--"].map(OsString::from));
    for dir in [from, to] {
        let mut dir = dir.as_os_str().to_owned();
        dir.push("/");
        argv.push(dir);
    }
    let mut program = Program::new(over_ssh(remote, sudo(remote, None, argv)));
    program.limits =
        Limits { stall: Some(work.request.instance.stall_timeout), work_counts: true, ..Limits::NONE };
    let ended = process::run(program, work.live.cancelled(), |_, _| Sign::Life).await?;
    let carrying = || format!("copying what the backup left out of {} on {}", from.display(), remote.login());
    let judged = judge(remote, &ended).map_err(|failure| far::sudo_lacks(failure.into(), "rsync -aHAX"));
    judged.with_context(carrying)?;
    ensure!(ended.ok(), "{}: {}", carrying(), ended.stderr_tail.trim());
    Ok(())
}

/// Rows for a plan.
pub(super) fn rows(request: &Request, survey: &Survey, sizes: impl Fn(&Path) -> (u64, u64)) -> Vec<Value> {
    let Some(remote) = &request.instance.remote else { return Vec::new() };
    let row = |item: &PathBuf| {
        let (files, bytes) = sizes(item);
        let live = far::live_of(item).unwrap_or_default();
        json!({
            "path": super::plan::shown(item), "live": format!("{}:{}", remote.login(), super::plan::shown(&live)),
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
    fn what_was_left_out_is_found_below_what_comes() {
        let of = |pattern: &str| inside(pattern, Path::new("files/srv/app"));
        assert_eq!(of("*.tmp").as_deref(), Some("*.tmp"));
        assert_eq!(of("/files/srv/app/cache/*").as_deref(), Some("/cache/*"));
        assert_eq!(of("/files/**/logs").as_deref(), Some("logs"));
        for none in ["/files/srv/app", "/files/srv", "!*.tmp", "/local/etc/x/y"] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
