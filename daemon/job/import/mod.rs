//! The import job: an archive that somebody opened for us becomes a committed set, with the time that it was made.
//!
//! Unpacked and arranged in the staging directory, judged, and only then given to restic: one snapshot, which commits.
//! Killed before, nothing is there but staging, which the next start removes.

mod arrange;
mod compose;
mod directory;
mod layout;
pub mod names;
mod twice;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::live::append;
use super::repository::{self, Location, Opened};
use super::{Context, Live, recover, remove_tree};
use crate::archive::{self, Unpacked};
use crate::definition::{Definitions, Instance, Repository};
use crate::restic::{self, BackupRequest, BackupSummary, Progress, Restic};
use crate::state::undo::{Step, Undo};
use crate::state::{Outcome, Phase, SetRecord, UnitRecord};
use crate::target::{Cover, Place, Purpose, Staging};
use compose::Composed;

/// Stands for the backup in sets that none made. No backup can have that name, so no retention counts them.
pub const IMPORTED: &str = "(import)";

/// What stays free on the disk of the staging directory.
const RESERVE: u64 = 256 << 20;
/// How often progress is told.
const TELL: Duration = Duration::from_millis(500);

/// What one import job does; frozen when it is asked for.
pub struct Request {
    /// The definitions as they were.
    pub definitions: Arc<Definitions>,
    /// Whose set it becomes.
    pub instance: Arc<Instance>,
    /// Its identity.
    pub uuid: Uuid,
    /// Where the set is stored.
    pub repository: Arc<Repository>,
    /// The archive, or a directory: opened by the caller, so that nothing is read in another one's name.
    pub data: OwnedFd,
    /// What it is called.
    pub name: String,
    /// What the caller wants otherwise.
    pub wishes: Wishes,
}

/// What is told besides the archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Parts of the archive and the paths of the tree where they belong.
    pub map: Vec<(Part, PathBuf)>,
    /// Parts of the archive that are left out.
    pub exclude: Vec<Part>,
    /// When the data was saved, where the archive does not say it rightly.
    pub time: Option<Timestamp>,
    /// Of what version it is.
    pub version: Option<String>,
    /// How it stands towards recoveries.
    pub standing: Option<Standing>,
}

/// A path in an archive: relative, without `.` and `..`; empty: all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part(pub PathBuf);

/// How a set stands towards recoveries from the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A recovery used it before.
    Restored,
    /// It is data of an application that had failed.
    Failed,
}

/// Runs the job to its end; how it ended stands in `live`.
pub async fn run(context: Context, live: Arc<Live>, request: Request) {
    let (instance, repository) = (request.instance.name.to_string(), request.repository.name.to_string());
    let unit =
        UnitRecord { instance: instance.clone(), repository: repository.clone(), ..UnitRecord::default() };
    live.update_stored(|record| {
        record.started = Some(Timestamp::now());
        record.units = vec![unit];
    })
    .await;
    let (outcome, text) = match work(context, Arc::clone(&live), request).await {
        Ok(Came::There(set)) => {
            (Outcome::Skipped, format!("it is there already, as snapshot {}", set.snapshot))
        }
        Ok(Came::Stored(notes)) if notes.is_empty() => (Outcome::Succeeded, String::new()),
        Ok(Came::Stored(notes)) => (Outcome::Warning, notes.join("\n")),
        Err(failure) => live.verdict(&failure.context("nothing was imported")),
    };
    match outcome {
        Outcome::Succeeded => info!(holdfast_instance = %instance, holdfast_outcome = %outcome, "imported"),
        Outcome::Skipped => info!(holdfast_instance = %instance, holdfast_outcome = %outcome, "{text}"),
        Outcome::Warning => {
            warn!(holdfast_instance = %instance, holdfast_outcome = %outcome, "imported: {text}")
        }
        _ => error!(holdfast_instance = %instance, holdfast_outcome = %outcome, "{text}"),
    }
    live.unit(&instance, &repository, |unit| {
        unit.outcome = Some(outcome);
        append(&mut unit.error, &text);
    });
}

/// What all steps share.
struct Work {
    context: Context,
    live: Arc<Live>,
    request: Request,
    restic: Restic,
    undo: Undo,
    place: Place,
}

impl Work {
    fn phase(&self, phase: Phase) {
        self.live.unit(&self.request.instance.name, &self.request.repository.name, |unit| unit.phase = phase);
    }

    fn running(&self) -> Result<()> {
        ensure!(!self.live.cancelled().is_cancelled(), restic::Error::Cancelled);
        Ok(())
    }
}

/// What came of it.
enum Came {
    /// A set, and what of it needs a look.
    Stored(Vec<String>),
    /// It was there before.
    There(Box<SetRecord>),
}

async fn work(context: Context, live: Arc<Live>, request: Request) -> Result<Came> {
    let restic = Restic::probe(&request.definitions.daemon.restic).await?;
    let undo = Undo::begin(&context.dirs.undo(), live.id())?;
    let (queue, name) = (context.queue.clone(), request.instance.name.clone());
    let wait = |reason| live.waits(&name, reason);
    let _instance = queue.instance(&name, &live.caller(), wait).await?;
    let tools = context.dirs.tools();
    let place = Place::resolve(&request.instance, Purpose::Restore, &tools, &[], live.cancelled()).await?;
    let dir = request.definitions.daemon.staging_dir.clone();
    let (staged, of) = (dir.join(&*name), name.clone());
    // Killed between this and the undo step, the next start finds it by its marker; what is not ours is not removed.
    let staging = tokio::task::spawn_blocking(move || Staging::prepare(&dir, &of)).await??;
    undo.push(Step::RemoveDir { path: staged.clone() }).await?;
    let work = Work { context, live: Arc::clone(&live), request, restic, undo, place };
    let result = import(&work, &staging).await;
    work.phase(Phase::Cleanup);
    let cleaned = remove_tree(&staged).await;
    // What could not be removed stays written down: the next start tries again.
    let closed = match &cleaned {
        Ok(()) => work.undo.finish().await,
        Err(_) => Ok(()),
    };
    let mut notes = match result? {
        Came::Stored(notes) => notes,
        there => return closed.map(|()| there),
    };
    let told = |what: &str, failure| format!("{what}: {failure:#}");
    notes.extend(cleaned.err().map(|failure| told("the staging directory could not be removed", failure)));
    notes.extend(closed.err().map(|failure| told("the undo steps could not be closed", failure)));
    Ok(Came::Stored(notes))
}

async fn import(work: &Work, staging: &Staging) -> Result<Came> {
    work.phase(Phase::Fetch);
    let data = work.request.data.try_clone()?;
    let is_dir = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&data)?.st_mode).is_dir();
    let composed = match is_dir {
        true => directory::compose(work, staging, data).await?,
        false => {
            let unpacked = unpack(work, staging, data).await?;
            compose::compose(work, staging, unpacked).await?
        }
    };
    work.running()?;
    work.phase(Phase::Snapshot);
    let terms = work.live.terms(work.request.instance.stall_timeout);
    let location = Location::of(&work.request.repository, &work.request.instance, work.request.uuid);
    let opened =
        repository::open(&work.context, &work.restic, &work.request.repository, location, &terms).await?;
    if let Some(set) = twice::there(work, &opened, &composed).await? {
        stand(work, &set.set).await?;
        return Ok(Came::There(Box::new(set)));
    }
    stand(work, work.live.id()).await?;
    twice::note(work, &composed).await?;
    let summary = store(work, staging, &composed, &opened).await?;
    remember(work, &summary, &composed).await;
    let mut notes = composed.notes;
    if summary.partial {
        let some: Vec<_> = summary.unreadable.iter().take(5).map(String::as_str).collect();
        notes.push(format!("some files could not be read: {}", some.join(", ")));
    }
    Ok(Came::Stored(notes))
}

/// Unpacks into `raw` beside the tree.
async fn unpack(work: &Work, staging: &Staging, data: OwnedFd) -> Result<Unpacked> {
    let _permit = {
        let wait = |reason| work.live.waits(&work.request.instance.name, reason);
        work.context.queue.permit(&work.live.caller(), wait).await?
    };
    let raw = staging.beside("raw");
    let terms = archive::Terms {
        cancel: work.live.cancelled().clone(),
        stall: work.request.instance.stall_timeout,
        reserve: RESERVE,
    };
    let (live, instance) = (Arc::clone(&work.live), work.request.instance.name.to_string());
    let repository = work.request.repository.name.to_string();
    let mut told = Instant::now();
    let unpacking = tokio::task::spawn_blocking(move || {
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o755).create(&raw)?;
        archive::unpack(data, &raw, &terms, |unpacked| {
            if told.elapsed() >= TELL {
                told = Instant::now();
                let (bytes_done, files_done) = (unpacked.bytes, unpacked.files);
                live.advance(
                    &instance,
                    &repository,
                    &Progress { bytes_done, files_done, ..Progress::default() },
                );
            }
        })
    });
    let unpacked = unpacking.await?;
    work.running()?;
    let unpacked =
        unpacked.with_context(|| format!("unpacking {}", names::shown(Path::new(&work.request.name))))?;
    info!("unpacked {} files, {} bytes", unpacked.files, unpacked.bytes);
    Ok(unpacked)
}

/// Before the set is there: no recovery may take it for fit in between.
async fn stand(work: &Work, set: &str) -> Result<()> {
    let (context, uuid) = (&work.context, work.request.uuid);
    match work.request.wishes.standing {
        Some(Standing::Restored) => recover::restored(context, uuid, set).await,
        Some(Standing::Failed) => recover::sick(context, uuid, set).await,
        None => Ok(()),
    }
}

async fn store(
    work: &Work,
    staging: &Staging,
    composed: &Composed,
    opened: &Opened,
) -> Result<BackupSummary> {
    let (request, live) = (&work.request, &work.live);
    let terms = live.terms(request.instance.stall_timeout);
    let wait = |reason| live.waits(&request.instance.name, reason);
    let queue = &work.context.queue;
    let _shared = queue.share(&opened.key, &request.repository.name, &live.caller(), wait).await?;
    let _permit = queue.permit(&live.caller(), wait).await?;
    repository::write_lock_down(&work.undo, opened).await?;
    let (list, text) = (staging.beside("targets"), composed.tree.files_from_raw());
    tokio::fs::write(&list, text).await.context("writing the list of targets")?;
    let backup = BackupRequest {
        dir: composed.tree.dir.clone(),
        files_from_raw: vec![list],
        exclude_file: None,
        tags: tags(work, composed),
        host: request.definitions.daemon.host.clone(),
        parent: parent(work, opened).await?,
        time: Some(composed.time),
    };
    let progress = |p: Progress| live.advance(&request.instance.name, &request.repository.name, &p);
    let made = work.restic.backup(&opened.access, &backup, &terms, progress).await;
    repository::healed(&work.restic, opened, made).await.context("restic backup")
}

async fn parent(work: &Work, opened: &Opened) -> Result<Option<String>> {
    let request = &work.request;
    let uuid = request.uuid.to_string();
    work.context.database.parent(&request.repository.name, &opened.location, &uuid).await
}

fn tags(work: &Work, composed: &Composed) -> Vec<String> {
    let request = &work.request;
    let mut tags = vec![
        "holdfast".to_owned(),
        format!("instance={}", request.instance.name),
        format!("uuid={}", request.uuid),
        format!("backup={IMPORTED}"),
        format!("set={}", work.live.id()),
        "kind=tree".to_owned(),
    ];
    tags.extend(request.instance.module.as_ref().map(|module| format!("module={module}")));
    // A tag has no comma.
    let version = Some(&composed.version).filter(|version| !version.is_empty() && !version.contains(','));
    tags.extend(version.map(|version| format!("version={version}")));
    tags
}

async fn remember(work: &Work, summary: &BackupSummary, composed: &Composed) {
    let request = &work.request;
    let outcome =
        if composed.notes.is_empty() && !summary.partial { Outcome::Succeeded } else { Outcome::Warning };
    work.live.unit(&request.instance.name, &request.repository.name, |unit| {
        unit.snapshot.clone_from(&summary.snapshot_id);
        unit.bytes = summary.total_bytes_processed;
        unit.bytes_added = summary.data_added;
        unit.files = summary.total_files_processed;
    });
    let set = SetRecord {
        repository: request.repository.name.to_string(),
        location: Location::of(&request.repository, &request.instance, request.uuid).path,
        set: work.live.id().to_owned(),
        snapshot: summary.snapshot_id.clone(),
        instance: request.instance.name.to_string(),
        uuid: request.uuid.to_string(),
        backup: IMPORTED.to_owned(),
        host: request.definitions.daemon.host.clone(),
        time: composed.time,
        size: summary.total_bytes_processed,
        files: summary.total_files_processed,
        version: composed.version.clone(),
        outcome: Some(outcome),
    };
    if let Err(failure) = work.context.database.save_set(&set).await {
        error!("the set is stored, but could not be remembered; it is found again later: {failure:#}");
    }
}

/// Compares an instance's includes with paths; blocking.
fn cover(work: &Work) -> Result<Cover> {
    Cover::of(&work.place)
}
