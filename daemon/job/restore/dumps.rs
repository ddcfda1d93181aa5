//! Typed dumps in a restore: checked with the rest, loaded beside what lives, swapped after the files, put back first.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::apply::{self, Applied, Spot};
use super::kept::Kept;
use super::survey::Survey;
use super::{Request, Work, databases, kept};
use crate::definition::{Dump, Instance, Source};
use crate::dump::{self, Change, Laid, Record, Site};
use crate::job::Context;
use crate::restic;
use crate::state::undo::{Act, Step, Undo};
use crate::target::{Manifest, Place};

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
    dump: Dump,
    site: Site,
    records: Vec<Record>,
    /// Directories that are to be swapped in.
    laid: Vec<Laid>,
}

/// All that the manifest says of dumps.
pub(super) fn records(manifest: &Manifest) -> Result<Vec<Record>> {
    let read = |value: &Value| serde_json::from_value(value.clone()).context("the manifest's list of dumps");
    manifest.dumps.iter().map(read).collect()
}

/// Those of them that were asked for.
fn selected(request: &Request, manifest: &Manifest) -> Result<Vec<Record>> {
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
    if work.request.founding.is_some() {
        return Ok(all);
    }
    for record in selected(&work.request, manifest)? {
        if let Some(known) = all.iter_mut().find(|wanted| wanted.site.name() == record.dump) {
            known.records.push(record);
            continue;
        }
        let dump = defined(&place.instance, &record.dump, &record.source)?.clone();
        let runtime = &work.context.dirs.runtime;
        let site = Site::open(place, &dump, runtime, work.live.cancelled()).await;
        let site = site.with_context(|| format!("dump {}", dump.name))?;
        all.push(Wanted { dump, site, records: vec![record], laid: Vec::new() });
    }
    for wanted in &all {
        let reading = || format!("reading dump {} to its end", wanted.dump.name);
        wanted.site.verify(staging, &wanted.records).await.with_context(reading)?;
        let asking = || format!("dump {}", wanted.dump.name);
        wanted.site.answers().await.with_context(asking)?;
        databases::check_new(&wanted.site, &work.request.databases, &wanted.records)
            .await
            .with_context(asking)?;
    }
    Ok(all)
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
            work.undo.push(step(&work.request.instance, &wanted.dump, &change, Act::Undo)?).await?;
            beside.push(Changed { dump: wanted.dump.name.to_string(), change });
        }
        wanted.laid = site.load_beside(staging, &wanted.records, job).await.with_context(loading)?;
    }
    Ok(())
}

/// What a dump brings is not also swapped as plain files: those may be torn.
pub(super) fn claim(all: &[Wanted], survey: &mut Survey) {
    let sqlite = all.iter().filter(|wanted| matches!(wanted.dump.source, Source::Sqlite(_)));
    for path in sqlite.flat_map(|wanted| &wanted.records).filter_map(|record| record.database.as_deref()) {
        let path = Path::new(path);
        let beside: Vec<PathBuf> = dump::companions(path).collect();
        let taken = |item: &Path| item == path || beside.iter().any(|other| other == item);
        survey.items.retain(|(item, _)| !taken(item));
        survey.removed.retain(|(item, _)| !taken(item));
    }
    for laid in all.iter().flat_map(|wanted| &wanted.laid) {
        let taken = |item: &Path| item.starts_with(in_tree(&laid.live));
        survey.items.retain(|(item, _)| !taken(item));
        survey.removed.retain(|(item, _)| !taken(item));
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
            Source::Sqlite(_) => files(work, place, wanted, staging, applied).await.with_context(swapping)?,
            Source::Openldap(_) | Source::Etcd(_) => {
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

/// An instance whose definition comes with its data has no servers defined yet.
fn unloaded(request: &Request, manifest: &Manifest) -> Result<Vec<String>> {
    let records = if request.founding.is_some() { records(manifest)? } else { Vec::new() };
    let mut names: Vec<&str> = records.iter().map(|record| record.dump.as_str()).collect();
    names.dedup();
    let told = names.iter().map(|name| {
        format!("dump {name} was not loaded: define it as a dump of the instance, then restore with --include dumps/{name}")
    });
    Ok(told.collect())
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
    work.undo.push(step(&work.request.instance, &wanted.dump, &change, Act::Undo)?).await?;
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
    at_rest(wanted.laid.iter().flat_map(|laid| laid.rests.clone()).collect()).await?;
    for laid in &wanted.laid {
        let spot = Spot::of(&work.request, place, &in_tree(&laid.live))?;
        apply::replace(work, &spot, &laid.made, applied).await?;
    }
    Ok(())
}

/// Makes sure that no server has the data in these directories open.
pub(super) async fn at_rest(dirs: Vec<PathBuf>) -> Result<()> {
    tokio::task::spawn_blocking(move || dirs.iter().try_for_each(|dir| dump::at_rest(dir))).await?
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
pub(in crate::job) fn step(instance: &Instance, dump: &Dump, change: &Change, act: Act) -> Result<Step> {
    let (instance, dump) = (instance.name.to_string(), dump.name.to_string());
    Ok(Step::Dump { instance, dump, act, change: serde_json::to_value(change)? })
}

/// A step that removes what a change kept.
pub(super) fn discarding(instance: &Instance, changed: &Changed) -> Result<Step> {
    let (instance, dump) = (instance.name.to_string(), changed.dump.clone());
    Ok(Step::Dump { instance, dump, act: Act::Discard, change: serde_json::to_value(&changed.change)? })
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

/// Undoes changes in servers, the last one first.
pub(super) async fn put_back(context: &Context, place: &Place, changed: &[Changed]) -> Result<()> {
    for Changed { dump, change } in changed.iter().rev() {
        let site = reach(context, place, dump).await?;
        site.undo(change).await.with_context(|| format!("putting back what dump {dump} replaced"))?;
    }
    Ok(())
}

/// A dump's server, for what must be put back whatever becomes of the job.
pub(in crate::job) async fn reach(context: &Context, place: &Place, name: &str) -> Result<Site> {
    let Some(dump) = place.instance.dumps.iter().find(|dump| *dump.name == *name) else {
        bail!("the instance {} defines no dump {name} any more; define it again", place.instance.name);
    };
    let never = CancellationToken::new();
    Site::open(place, dump, &context.dirs.runtime, &never).await.with_context(|| format!("dump {name}"))
}

/// Removes what servers kept of before a restore.
pub(super) async fn discard(context: &Context, place: &Place, kept: &[Changed]) -> Result<()> {
    for Changed { dump, change } in kept {
        let site = reach(context, place, dump).await?;
        site.discard(change).await.with_context(|| format!("removing what dump {dump} kept"))?;
    }
    Ok(())
}

/// Exchanges what lives and what is kept in servers. What was done stands in `done`.
pub(super) async fn exchange(
    context: &Context,
    place: &Place,
    undo: &Undo,
    job: &str,
    kept: &Kept,
    done: &mut Vec<Changed>,
) -> Result<()> {
    for Changed { dump, change } in kept.dumps.iter().rev() {
        let site = reach(context, place, dump).await?;
        if let Some(change) = site.plan_dump() {
            let (instance, change) = (place.instance.name.to_string(), serde_json::to_value(&change)?);
            undo.push(Step::Dump { instance, dump: dump.clone(), act: Act::Undo, change }).await?;
        }
        let safety = safety(context, undo, job).await?;
        let mirror = site.mirror(change, &safety).await.with_context(|| format!("dump {dump}"))?;
        let (instance, change_back) = (place.instance.name.to_string(), serde_json::to_value(&mirror)?);
        undo.push(Step::Dump { instance, dump: dump.clone(), act: Act::Undo, change: change_back }).await?;
        done.push(Changed { dump: dump.clone(), change: mirror });
        info!("dump {dump}: what was before the restore is put back");
        site.undo(change).await.with_context(|| format!("putting back what dump {dump} replaced"))?;
    }
    Ok(())
}

/// What a plan says: each file with what will be done, and why it cannot be done.
pub(super) fn plan(
    request: &Request,
    place: &Place,
    manifest: &Manifest,
) -> Result<(Vec<Value>, Vec<String>)> {
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    for record in selected(request, manifest)? {
        let found = defined(&place.instance, &record.dump, &record.source);
        let how = found.as_ref().map_or("", |dump| dump::method(&dump.source, &record));
        rows.push(json!({
            "dump": record.dump, "source": record.source, "database": record.database, "file": record.file,
            "bytes": record.size, "version": record.version, "how": how,
        }));
        if let Err(failure) = found
            && request.founding.is_none()
        {
            let text = format!("{failure:#}");
            if !problems.contains(&text) {
                problems.push(text);
            }
        }
    }
    Ok((rows, problems))
}

/// Executes a step that a dead job left.
///
/// # Errors
/// The instance or the dump is no longer defined, the server does not answer: the step is kept then.
pub(in crate::job) async fn execute(
    context: &Context,
    instance: &std::sync::Arc<Instance>,
    dump: &str,
    act: Act,
    change: &Value,
) -> Result<()> {
    let change: Change = serde_json::from_value(change.clone()).context("a change of another version")?;
    let place = place_of(context, instance).await?;
    warn!(holdfast_instance = %instance.name, "dump {dump}: putting back what a restore changed");
    let site = reach(context, &place, dump).await?;
    match act {
        Act::Undo => site.undo(&change).await,
        Act::Discard => site.discard(&change).await,
    }
}

/// An instance's place, for its servers.
pub(super) async fn place_of(context: &Context, instance: &std::sync::Arc<Instance>) -> Result<Place> {
    let never = CancellationToken::new();
    let volumes = crate::job::backup::dumps::volumes(instance);
    Place::resolve(instance, crate::target::Purpose::Restore, &context.dirs.tools(), &volumes, &never).await
}
