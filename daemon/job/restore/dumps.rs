//! Typed dumps in a restore: checked with the rest, loaded beside what lives, swapped after the files, put back first.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::apply::{self, Applied, Spot};
use super::survey::Survey;
use super::{Request, Work, databases, kept, there};
use crate::definition::{Dump, Instance, Source};
use crate::dump::{self, Change, Laid, Record, Site};
use crate::job::Context;
use crate::restic;
use crate::state::undo::{Act, Step, Undo};
use crate::target::{Manifest, Place};

mod back;
pub(super) mod plan;

pub(in crate::job) use back::{clearing, execute, founded};
pub(super) use back::{discard, exchange, place_of, put_back};

/// A change in a server, with the dump whose server it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    /// The dump's name in the instance.
    pub dump: String,
    /// The change.
    pub change: Change,
}

/// A source with those of its files that are wanted.
pub(super) struct Wanted {
    pub(super) dump: Dump,
    site: Site,
    pub(super) records: Vec<Record>,
    /// What is to be swapped in: directories, and on another machine files too.
    pub(super) laid: Vec<Laid>,
    /// The directory on another machine that it was made in.
    pub(super) made_there: Option<PathBuf>,
}

/// All that the manifest says of dumps.
pub(super) fn records(manifest: &Manifest) -> Result<Vec<Record>> {
    let read = |value: &Value| serde_json::from_value(value.clone()).context("the manifest's list of dumps");
    manifest.dumps.iter().map(read).collect()
}

/// The files of SQLite among them, as paths of the tree.
pub(super) fn database_files(manifest: &Manifest) -> Result<Vec<PathBuf>> {
    let sqlite = records(manifest)?.into_iter().filter(|record| record.source == "sqlite");
    Ok(sqlite.filter_map(|record| record.database.map(PathBuf::from)).collect())
}

/// Those of them that were asked for.
pub(super) fn selected(request: &Request, manifest: &Manifest) -> Result<Vec<Record>> {
    let mut records = records(manifest)?;
    if !request.include.is_empty() {
        let asked =
            |record: &Record| request.include.iter().any(|path| Path::new(&record.file).starts_with(path));
        records.retain(asked);
    }
    databases::rename(&mut records, &request.databases);
    Ok(records)
}

/// Whether a path of the tree belongs to the dumps.
pub(super) fn is_dump(path: &Path) -> bool {
    path.starts_with("dumps")
}

/// Compares what was fetched with the manifest.
pub(super) async fn check(work: &Work, staging: &Path, manifest: &Manifest) -> Result<()> {
    dump::check(staging, &selected(&work.request, manifest)?).await
}

/// The definition of a saved dump.
fn defined<'i>(instance: &'i Instance, name: &str, source: &str) -> Result<&'i Dump> {
    let found = instance.dumps.iter().find(|dump| *dump.name == *name);
    match found {
        Some(dump) if dump.source.word() == source => Ok(dump),
        Some(dump) => bail!(
            "the saved dump {name} is of {source}, and the instance defines {name} as {}: give it another name",
            dump.source.word()
        ),
        None => bail!(
            "the instance defines no dump {name} any more: define it (source = {source:?}), or restore with --include \
             what else is wanted, or into a directory with --target"
        ),
    }
}

/// Opens all sources that are wanted and reads their files to the end. Nothing live is touched.
pub(super) async fn open(
    work: &Work,
    place: &Place,
    staging: &Path,
    manifest: &Manifest,
) -> Result<Vec<Wanted>> {
    let mut all: Vec<Wanted> = Vec::new();
    for record in selected(&work.request, manifest)? {
        if work.request.founding.is_some() && defined(&place.instance, &record.dump, &record.source).is_err()
        {
            continue;
        }
        if let Some(known) = all.iter_mut().find(|wanted| wanted.site.name() == record.dump) {
            known.records.push(record);
            continue;
        }
        let dump = defined(&place.instance, &record.dump, &record.source)?.clone();
        if there::refused(&work.request, &dump).is_some() {
            continue;
        }
        let runtime = &work.context.dirs.runtime;
        let site = Site::open(place, &dump, runtime, work.live.cancelled()).await;
        let site = site.with_context(|| format!("dump {}", dump.name))?;
        all.push(Wanted { dump, site, records: vec![record], laid: Vec::new(), made_there: None });
    }
    for wanted in &mut all {
        take_apart(&work.request, staging, wanted)
            .await
            .with_context(|| format!("dump {}", wanted.dump.name))?;
    }
    for wanted in &all {
        let reading = || format!("reading dump {} to its end", wanted.dump.name);
        wanted.site.verify(staging, &wanted.records).await.with_context(reading)?;
        let asking = || format!("dump {}", wanted.dump.name);
        wanted.site.answers().await.with_context(asking)?;
        let problems = databases::in_the_way(&wanted.site, &work.request, &wanted.records).await;
        let problems = problems.with_context(asking)?;
        ensure!(problems.is_empty(), "{}", problems.join("; "));
        taken_files(&work.request, place, wanted)?;
    }
    Ok(all)
}

/// Texts of several databases become one for each.
async fn take_apart(request: &Request, staging: &Path, wanted: &mut Wanted) -> Result<()> {
    // What a new instance is told are names; all that comes with it is wanted.
    let mut asked: Vec<String> = request.databases.iter().map(|database| database.saved.clone()).collect();
    if request.founding.is_some() {
        let there: Vec<String> = wanted.records.iter().flat_map(Record::names).collect();
        asked.retain(|name| there.contains(name));
    }
    let pairs = request.databases.iter().filter(|database| database.renamed());
    let lives: Vec<_> = pairs.map(|one| (one.saved.clone(), one.lives.clone())).collect();
    let whole: Vec<String> = wanted
        .records
        .iter()
        .filter(|record| record.database.is_none())
        .map(|record| record.file.clone())
        .collect();
    let records = std::mem::take(&mut wanted.records);
    let (of_several, mut records): (Vec<_>, Vec<_>) =
        records.into_iter().partition(|record| whole.contains(&record.file));
    let mut apart = wanted.site.prepare(staging, of_several, &asked, &lives).await?;
    databases::rename(&mut apart, &request.databases);
    records = wanted.site.prepare(staging, records, &asked, &lives).await?;
    wanted.records = apart.into_iter().chain(records).collect();
    Ok(())
}

/// A second instance takes over no file that is there.
fn taken_files(request: &Request, place: &Place, wanted: &Wanted) -> Result<()> {
    let second = request.founding.as_ref().is_some_and(|founding| founding.second);
    let sqlite = matches!(wanted.dump.source, Source::Sqlite(_));
    for path in wanted.records.iter().filter_map(|record| record.database.as_deref()) {
        if second && sqlite {
            let live = Spot::of(request, place, Path::new(path))?.path();
            let there = live.symlink_metadata().is_ok();
            ensure!(!there, "{} is there already, and a new instance takes nothing over", live.display());
        }
    }
    Ok(())
}

/// Loads beside what lives; what is made is written down first.
pub(super) async fn load_beside(
    work: &Work,
    all: &mut [Wanted],
    staging: &Path,
    beside: &mut Vec<Changed>,
) -> Result<()> {
    for wanted in all.iter_mut() {
        let name = wanted.dump.name.to_string();
        let loading = || format!("dump {name}");
        running(work)?;
        let (site, job) = (&wanted.site, work.live.id());
        for change in site.plan_beside(staging, &wanted.records, job).await.with_context(loading)? {
            work.undo.push(step(&work.request, &wanted.dump, &change, Act::Undo)?).await?;
            beside.push(Changed { dump: wanted.dump.name.to_string(), change });
        }
        if let Some(dir) = site.made_there(job) {
            there::written(work, &wanted.dump, &dir).await?;
            wanted.made_there = Some(dir);
        }
        wanted.laid = site.load_beside(staging, &wanted.records, job).await.with_context(loading)?;
        there::fits(work, wanted).await.with_context(loading)?;
    }
    Ok(())
}

/// What a dump brings is not also swapped as plain files: those may be torn.
pub(super) fn claim(all: &[Wanted], request: &Request, survey: &mut Survey) {
    let (far, near): (Vec<&Wanted>, Vec<&Wanted>) = all.iter().partition(|w| w.dump.remote.is_some());
    for laid in far.into_iter().filter(|w| there::same(&w.dump, request)).flat_map(|w| &w.laid) {
        let beside: Vec<PathBuf> = dump::companions(&laid.live).map(|path| in_tree(&path)).collect();
        let live = in_tree(&laid.live);
        survey.far.retain(|one| !one.item.starts_with(&live) && !beside.contains(&one.item));
    }
    let sqlite = near.iter().filter(|wanted| matches!(wanted.dump.source, Source::Sqlite(_)));
    for path in sqlite.flat_map(|wanted| &wanted.records).filter_map(|record| record.database.as_deref()) {
        let path = Path::new(path);
        let beside: Vec<PathBuf> = dump::companions(path).collect();
        let taken = |item: &Path| item == path || beside.iter().any(|other| other == item);
        survey.items.retain(|(item, _)| !taken(item));
        survey.removed.retain(|(item, _)| !taken(item));
    }
    for laid in near.iter().flat_map(|wanted| &wanted.laid) {
        // A volume's files have other names in the tree.
        let taken = |item: &Path, spot: &Spot| {
            item.starts_with(in_tree(&laid.live)) || spot.path().starts_with(&laid.live)
        };
        survey.items.retain(|(item, spot)| !taken(item, spot));
        survey.removed.retain(|(item, spot)| !taken(item, spot));
    }
}

/// An absolute path as the tree names it.
fn in_tree(path: &Path) -> PathBuf {
    Path::new("files").join(path.strip_prefix("/").unwrap_or(path))
}

/// Lets the new data live, source after source.
pub(super) async fn swap(
    work: &Work,
    place: &Place,
    all: &[Wanted],
    staging: &Path,
    manifest: &Manifest,
    applied: &mut Applied,
) -> Result<Vec<String>> {
    let mut warnings = unloaded(&work.request, manifest)?;
    for wanted in all {
        running(work)?;
        let swapping = || format!("dump {}", wanted.dump.name);
        match &wanted.dump.source {
            _ if wanted.made_there.is_some() && !wanted.laid.is_empty() => {
                there::swap(work, wanted, applied).await.with_context(swapping)?;
            }
            Source::Sqlite(_) => files(work, place, wanted, staging, applied).await.with_context(swapping)?,
            _ if !wanted.laid.is_empty() => {
                directories(work, place, wanted, applied).await.with_context(swapping)?;
            }
            Source::Command(command) if command.restore.is_none() => warnings.push(format!(
                "dump {} was not loaded: its definition names no `restore` program",
                wanted.dump.name
            )),
            _ => server(work, wanted, staging, applied).await.with_context(swapping)?,
        }
    }
    Ok(warnings)
}

/// What the definition of a new instance has no server for.
fn unloaded(request: &Request, manifest: &Manifest) -> Result<Vec<String>> {
    let records = if request.founding.is_some() { records(manifest)? } else { Vec::new() };
    let why = |record: &Record| match defined(&request.instance, &record.dump, &record.source) {
        Ok(dump) => there::refused(request, dump),
        Err(_) => Some(format!(
            "dump {} was not loaded: {} defines none; --target brings its files",
            record.dump, request.instance.name
        )),
    };
    let mut told: Vec<String> = records.iter().filter_map(why).collect();
    told.dedup();
    Ok(told)
}

fn running(work: &Work) -> Result<()> {
    ensure!(!work.live.cancelled().is_cancelled(), restic::Error::Cancelled);
    Ok(())
}

async fn server(work: &Work, wanted: &Wanted, staging: &Path, applied: &mut Applied) -> Result<()> {
    let safety = safety(&work.context, &work.undo, work.live.id()).await?;
    let Some(change) = wanted.site.plan_apply(staging, &wanted.records, work.live.id(), &safety).await?
    else {
        return Ok(());
    };
    databases::check_made(&work.request, &change)?;
    work.undo.push(step(&work.request, &wanted.dump, &change, Act::Undo)?).await?;
    applied.dumps.push(Changed { dump: wanted.dump.name.to_string(), change: change.clone() });
    wanted.site.apply(&change, staging, &wanted.records).await
}

/// Where a job keeps what it dumped before it replaced it; that it must go stands in the undo file first.
pub(super) async fn safety(context: &Context, undo: &Undo, job: &str) -> Result<PathBuf> {
    let kept = kept::dir(context).join(job);
    undo.push(Step::RemoveDir { path: kept.clone() }).await?;
    Ok(kept.join("safety"))
}

/// Directories change places while their server is stopped: nothing is touched unless all of them are at rest.
async fn directories(work: &Work, place: &Place, wanted: &Wanted, applied: &mut Applied) -> Result<()> {
    dump::at_rest(wanted.laid.iter().flat_map(|laid| laid.rests.clone()).collect()).await?;
    for laid in &wanted.laid {
        for (live, made) in laid.moves()? {
            let spot = Spot::of(&work.request, place, &in_tree(&live))?;
            apply::replace(work, &spot, &made, applied).await?;
        }
    }
    Ok(())
}

async fn files(
    work: &Work,
    place: &Place,
    wanted: &Wanted,
    staging: &Path,
    applied: &mut Applied,
) -> Result<()> {
    for record in &wanted.records {
        let path = record.database.as_deref().context("the manifest does not say which file it was")?;
        let spot = Spot::of(&work.request, place, Path::new(path))?;
        for beside in dump::companions(Path::new(path)) {
            apply::set_aside(work, &Spot::of(&work.request, place, &beside)?, applied).await?;
        }
        dump::lay_sqlite(record, &record.path(staging), &spot.path())?;
        apply::replace(work, &spot, &record.path(staging), applied).await?;
    }
    Ok(())
}

/// A step for the undo file.
pub(super) fn step(request: &Request, dump: &Dump, change: &Change, act: Act) -> Result<Step> {
    let (instance, name) = (request.instance.name.to_string(), dump.name.to_string());
    let founding =
        request.founding.as_ref().map(|_| back::Founded::json(&request.instance, dump)).transpose()?;
    Ok(Step::Dump { instance, dump: name, act, change: serde_json::to_value(change)?, founding })
}

/// A step that removes what a change kept.
pub(super) fn discarding(instance: &Instance, changed: &Changed) -> Result<Step> {
    let (instance, dump) = (instance.name.to_string(), changed.dump.clone());
    Ok(Step::Dump {
        instance,
        dump,
        act: Act::Discard,
        change: serde_json::to_value(&changed.change)?,
        founding: None,
    })
}

impl Changed {
    /// Where the old data is.
    pub(super) fn shown(&self) -> String {
        match &self.change {
            Change::Swapped { pairs } => {
                let names: Vec<&str> =
                    pairs.iter().filter(|pair| pair.old.is_some()).map(|pair| &*pair.old_name).collect();
                format!("{} ({})", names.join(", "), self.dump)
            }
            _ => format!("a dump of {}", self.dump),
        }
    }
}
