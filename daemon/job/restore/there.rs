//! Data of a server on another machine, which its own programs made there: it changes places while the server is stopped, by
//! the same exchange as trees there.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use tracing::warn;

use super::apply::Applied;
use super::dumps::Wanted;
use super::{Request, Work, swap};
use crate::definition::{Dump, Remote, Source};
use crate::dump;
use crate::job::far::{self, Far, FarItem};
use crate::state::Phase;
use crate::state::undo::{Step, Undo};
use crate::target::TreePath;

/// Why a dump of another machine cannot be loaded as it was asked for.
pub(super) fn refused(request: &Request, dump: &Dump) -> Option<String> {
    (request.founding.is_some() && dump.source.is_files() && dump.remote.is_some()).then(|| {
        format!(
            "dump {} ({}) of another machine was not loaded: its files cannot be restored for a new instance there yet; --target \
             brings them",
            dump.name,
            dump.source.word()
        )
    })
}

/// Whether a dump's machine is the one that the instance's trees are on.
pub(super) fn same(dump: &Dump, request: &Request) -> bool {
    let place = |remote: &Remote| (remote.host.clone(), remote.port);
    dump.remote.as_ref().map(place) == request.instance.remote.as_ref().map(place)
}

/// Writes down that what is made there must go.
pub(super) async fn written(work: &Work, dump: &Dump, dir: &Path) -> Result<()> {
    match &dump.remote {
        Some(remote) => work.undo.push(removing(remote, &[dir.to_owned()])?).await.map(drop),
        None => Ok(()),
    }
}

fn removing(remote: &Remote, dirs: &[PathBuf]) -> Result<Step> {
    let names: Option<Vec<String>> = dirs.iter().map(|dir| dir.to_str().map(str::to_owned)).collect();
    let dirs = names.context("a directory of the other machine has a name that is no UTF-8")?;
    Ok(Step::FarRemove { remote: remote.clone(), dirs })
}

/// Makes sure, while everything still runs, that what lives there can change places.
pub(super) async fn fits(work: &Work, wanted: &Wanted) -> Result<()> {
    let (Some(remote), Some(_)) = (&wanted.dump.remote, &wanted.made_there) else { return Ok(()) };
    let lives: Vec<PathBuf> = wanted.laid.iter().map(|laid| laid.live.clone()).collect();
    let parents: Vec<PathBuf> = lives.iter().filter_map(|live| live.parent().map(Path::to_owned)).collect();
    let there = far::look(remote, &parents, work.live.cancelled()).await?;
    if let Some((parent, _)) = parents.iter().zip(there).find(|(_, there)| !there) {
        bail!("there is no directory {} on {}; make it as it was", parent.display(), remote.login());
    }
    far::fits(remote, &lives, work.live.cancelled()).await
}

/// Lets what was made there live, all of a server in one exchange.
pub(super) async fn swap(work: &Work, wanted: &Wanted, applied: &mut Applied) -> Result<()> {
    let Some(remote) = &wanted.dump.remote else { return Ok(()) };
    let far = laid_out(work, remote, wanted).await?;
    let dirs = far.annexes();
    work.undo.push(removing(remote, &dirs)?).await?;
    applied.far.push((far.clone(), false));
    far::make(remote, &dirs, work.live.cancelled()).await?;
    let waits = |live: &Path| {
        let annex = live.parent().unwrap_or(Path::new("/")).join(annex(work, wanted));
        annex.join("new").join(live.file_name().unwrap_or_default())
    };
    let moves = wanted.laid.iter();
    let moves = moves.map(|laid| (laid.made.clone(), waits(&laid.live), laid.owner.clone())).collect();
    far::bring(remote, moves, work.live.cancelled()).await?;
    work.phase(Phase::Apply);
    let (instance, value) = (work.request.instance.name.to_string(), serde_json::to_value(&far)?);
    work.undo.push(Step::FarBack { instance, far: value }).await?;
    if let Some((_, begun)) = applied.far.last_mut() {
        *begun = true;
    }
    far.swap(work.live.cancelled()).await
}

fn annex(work: &Work, wanted: &Wanted) -> String {
    format!("{}_{}", swap::annex_name(work.live.id()), wanted.dump.name)
}

/// What will change places: what SQLite put beside a file only goes.
async fn laid_out(work: &Work, remote: &Remote, wanted: &Wanted) -> Result<Far> {
    let mut places: Vec<(PathBuf, bool)> = Vec::new();
    for laid in &wanted.laid {
        if matches!(wanted.dump.source, Source::Sqlite(_)) {
            places.extend(dump::companions(&laid.live).map(|path| (path, false)));
        }
        places.push((laid.live.clone(), true));
    }
    let paths: Vec<PathBuf> = places.iter().map(|(path, _)| path.clone()).collect();
    let was = far::look(remote, &paths, work.live.cancelled()).await?;
    let items = places.into_iter().zip(was).filter(|((_, comes), was)| *comes || *was);
    let items = items.map(|((live, comes), was)| FarItem {
        annex: TreePath(live.parent().unwrap_or(Path::new("/")).join(annex(work, wanted))),
        live: TreePath(live),
        was,
        comes,
    });
    Ok(Far { remote: remote.clone(), items: items.collect(), roots: Vec::new(), back: false })
}

/// Removes what was made there and lives by now, or never will.
pub(super) async fn clear(work: &Work, all: &[Wanted]) {
    for wanted in all {
        let (Some(remote), Some(dir)) = (&wanted.dump.remote, &wanted.made_there) else { continue };
        let Err(failure) = far::remove(remote, std::slice::from_ref(dir)).await else { continue };
        warn!("what was made there stays until holdfastd starts again: {failure:#}");
        let later = format!("{}-there-{}", work.live.id(), wanted.dump.name);
        let kept = async {
            let undo = Undo::begin(&work.context.dirs.undo(), &later)?;
            undo.push(removing(remote, std::slice::from_ref(dir))?).await.map(drop)
        };
        if let Err(second) = kept.await {
            warn!("that could not be written down either: {second:#}");
        }
    }
}
