//! Brings a set beside the live data and makes sure that it is whole. Nothing live is touched here.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use rustix::fs::Mode;

use super::settling::Settling;
use super::{NotTheSet, Work, choose, dumps, edited, parts, rights, room, seed, streams};
use crate::job::{manifests, remove_tree};
use crate::process::{self, Limits, Program, Sign};
use crate::restic::Terms;
use crate::state::undo::Step;
use crate::state::{Phase, durable};
use crate::target::{MANIFEST, Manifest, spelled};

/// So many names are given to one `cp`, within what a kernel takes.
const AT_ONCE: usize = 500;
/// Room that is wanted beyond the set's own size.
const MARGIN_PERCENT: u64 = 10;

/// Reads the manifest, then fetches into `staging`, a new 0700 directory. Also returns warnings.
pub(super) async fn staged(work: &Work, staging: &Path) -> anyhow::Result<(Manifest, Vec<String>)> {
    work.phase(Phase::Fetch);
    let dir = staging.to_owned();
    tokio::task::spawn_blocking(move || new_dir(&dir)).await??;
    check_room(work, staging)?;
    let (request, live) = (&work.request, &work.live);
    let wait = |reason| live.waits(&request.instance.name, reason);
    let (key, name) = (&request.opened.key, &request.opened.repository.name);
    let share = work.context.queue.share(key, name, &live.caller(), wait).await?;
    let (mut manifest, text) = read_manifest(work).await?;
    check_manifest(work, &manifest)?;
    room::check(work, &manifest, staging).await?;
    let over = seed::lay(work, staging, &manifest).await;
    parts::fetch(work, staging, &manifest, over).await?;
    check_same(work, staging, &text).await?;
    streams::fetch(work, staging, &manifest).await?;
    drop(share);
    check_included(work, staging)?;
    dumps::check(work, staging, &manifest).await?;
    edited::lay(work, staging, &mut manifest).await?;
    let warnings = rights::settle(work, staging, &mut manifest).await?;
    Ok((manifest, warnings))
}

/// What was fetched beside a target.
pub(super) struct Beside {
    pub(super) staged: PathBuf,
    pub(super) settling: Settling,
    pub(super) warnings: Vec<String>,
}

/// Fetches into a new directory beside `target`.
pub(super) async fn beside(work: &Work, target: &Path) -> anyhow::Result<Beside> {
    check_target(target)?;
    let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
        bail!("the target has no name")
    };
    let staged = parent.join(format!(".{}.holdfast-{}", name.to_string_lossy(), work.live.id()));
    work.undo.push(Step::RemoveDir { path: staged.clone() }).await?;
    let settling = Settling::begin(parent).await?;
    match self::staged(work, &staged).await {
        Ok((_, warnings)) => Ok(Beside { staged, settling, warnings }),
        Err(failure) => {
            let _ = remove_tree(&staged).await;
            Err(failure.context(format!("{} was not touched", target.display())))
        }
    }
}

/// A target is absolute, and absent or an empty directory: nothing of what is there may be mixed with what comes. No
/// other user's link leads to it.
pub(super) fn check_target(target: &Path) -> anyhow::Result<()> {
    ensure!(target.is_absolute(), "the target {} is not an absolute path", target.display());
    for above in target.ancestors().skip(1) {
        check_link(target, above)?;
    }
    match std::fs::symlink_metadata(target) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e).with_context(|| format!("looking at the target {}", target.display())),
        Ok(meta) if meta.is_symlink() => {
            bail!("the target {} is a symbolic link; name the real place", target.display())
        }
        Ok(meta) if !meta.is_dir() => bail!("the target {} is not a directory", target.display()),
        Ok(_) if std::fs::read_dir(target)?.next().is_none() => Ok(()),
        Ok(_) => bail!("the target {} is not empty; name a new directory", target.display()),
    }
}

/// A link on the way to a target is the administrator's or ours: whoever else made it chooses where the data goes.
fn check_link(target: &Path, above: &Path) -> anyhow::Result<()> {
    let Ok(meta) = std::fs::symlink_metadata(above) else { return Ok(()) };
    let trusted = meta.uid() == 0 || meta.uid() == rustix::process::geteuid().as_raw();
    ensure!(
        !meta.is_symlink() || trusted,
        "the target {} lies below {}, a symbolic link that belongs to uid {}; name the real place",
        target.display(),
        above.display(),
        meta.uid()
    );
    Ok(())
}

/// The fetched tree becomes the target in one step, once all of it is on the disk.
pub(super) async fn move_to(
    work: &Work,
    staged: &Path,
    settling: Settling,
    target: &Path,
) -> anyhow::Result<()> {
    settling.end().await?;
    ensure!(!work.live.cancelled().is_cancelled(), crate::restic::Error::Cancelled);
    let (staged, target) = (staged.to_owned(), target.to_owned());
    tokio::task::spawn_blocking(move || {
        let empty = std::fs::metadata(&target).ok();
        std::fs::rename(&staged, &target)
            .with_context(|| format!("moving the fetched data to {}", target.display()))?;
        let Some(Err(failure)) = target.parent().map(durable::sync_dir) else { return Ok(()) };
        // Its name may be lost with the power: then it is not said to be there.
        std::fs::rename(&target, &staged)?;
        if let Some(was) = empty {
            std::fs::create_dir(&target)?;
            std::fs::set_permissions(&target, was.permissions())?;
        }
        Err(failure).with_context(|| format!("writing the name of {} to the disk", target.display()))
    })
    .await?
}

fn new_dir(dir: &Path) -> anyhow::Result<()> {
    if let Some(parent) = dir.parent() {
        ensure!(
            parent.exists() || durable::create_dir(parent, 0o700).is_ok(),
            "{} cannot be made",
            parent.display()
        );
    }
    rustix::fs::mkdir(dir, Mode::RWXU).with_context(|| format!("making {}", dir.display()))
}

/// The room that a set needs.
pub(super) fn needed(request: &super::Request) -> u64 {
    request.set.size / 100 * (100 + MARGIN_PERCENT)
}

fn check_room(work: &Work, staging: &Path) -> anyhow::Result<()> {
    let stat = rustix::fs::statvfs(staging)?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let needed = needed(&work.request);
    let text = || {
        let place = staging.display();
        format!(
            "{needed} bytes are needed in {place} and {free} are free; set daemon.staging_dir to a larger disk"
        )
    };
    ensure!(free >= needed || !work.request.include.is_empty(), NotTheSet(text()));
    Ok(())
}

/// The manifest is the last file of a set: where it is missing, this is no committed set. Also its text.
async fn read_manifest(work: &Work) -> anyhow::Result<(Manifest, Vec<u8>)> {
    let (request, live) = (&work.request, &work.live);
    let wait = |reason| live.waits(&request.instance.name, reason);
    let _permit = work.context.queue.permit(&live.caller(), wait).await?;
    let terms = live.terms(request.instance.stall_timeout);
    let (access, snapshot) = (&request.opened.access, &request.set.snapshot);
    let read = async {
        let text = manifest_text(work, &terms).await?;
        Ok::<_, anyhow::Error>((choose::settled(&work.restic, access, &text, &terms).await?, text))
    };
    read.await.with_context(|| format!("snapshot {snapshot} holds no manifest that can be read"))
}

async fn manifest_text(work: &Work, terms: &Terms) -> anyhow::Result<Vec<u8>> {
    let (access, snapshot) = (&work.request.opened.access, &work.request.set.snapshot);
    // After a loss of power it may be empty, or half.
    if let Some(text) = manifests::remembered(&work.context, snapshot).await
        && Manifest::from_json(&text).is_ok()
    {
        return Ok(text);
    }
    let text = choose::manifest_text(&work.restic, access, snapshot, terms).await?;
    manifests::remember(&work.context, snapshot, text.clone()).await;
    Ok(text)
}

/// What was remembered of the set must be what came.
async fn check_same(work: &Work, staging: &Path, text: &[u8]) -> anyhow::Result<()> {
    let came = tokio::fs::read(staging.join(MANIFEST)).await.context("reading the fetched manifest")?;
    if came != text {
        manifests::forget(&work.context, &work.request.set.snapshot).await;
        bail!(NotTheSet(format!(
            "what was remembered of snapshot {} is not what the repository holds; it is forgotten now, restore again",
            work.request.set.snapshot
        )));
    }
    Ok(())
}

fn check_manifest(work: &Work, manifest: &Manifest) -> anyhow::Result<()> {
    let set = &work.request.set;
    ensure!(
        manifest.uuid == set.uuid && manifest.set == set.set,
        "the manifest in snapshot {} speaks of another set ({} of {}); nothing was touched",
        set.snapshot,
        manifest.set,
        manifest.instance
    );
    Ok(())
}

/// restic exits 0 when a pattern matches nothing: look whether what was asked for came.
fn check_included(work: &Work, staging: &Path) -> anyhow::Result<()> {
    for include in &work.request.include {
        let there = std::fs::symlink_metadata(staging.join(include)).is_ok();
        let (snapshot, include) = (&work.request.set.snapshot, spelled(include));
        ensure!(there, "snapshot {snapshot} holds no {include}; nothing was touched");
    }
    Ok(())
}

/// Copies with everything that a file has, under another name; for data that comes from another file system.
pub(super) async fn copy(
    work: &Work,
    from: &Path,
    into: &Path,
    name: &std::ffi::OsStr,
) -> anyhow::Result<()> {
    let mut to = OsString::from("./");
    to.push(name);
    let argv = ["--no-target-directory", "--"].map(OsString::from);
    let argv = argv.into_iter().chain([from.as_os_str().to_owned(), to]).collect();
    run_copy(work, into, argv).await.with_context(|| from.display().to_string())
}

/// The same with several, under their own names. Hard links among them stay, but for those of more than so many at once.
pub(super) async fn copy_all(work: &Work, from: &[PathBuf], into: &Path) -> anyhow::Result<()> {
    for some in from.chunks(AT_ONCE) {
        let argv = ["--target-directory=.", "--"].map(OsString::from);
        let argv = argv.into_iter().chain(some.iter().map(|path| path.as_os_str().to_owned())).collect();
        run_copy(work, into, argv).await?;
    }
    Ok(())
}

async fn run_copy(work: &Work, into: &Path, arguments: Vec<OsString>) -> anyhow::Result<()> {
    let argv = ["cp", "--archive", "--reflink=auto"].map(OsString::from).into_iter().chain(arguments);
    let limits =
        Limits { stall: Some(work.request.instance.stall_timeout), work_counts: true, ..Limits::NONE };
    let program = Program { dir: Some(into.to_owned()), limits, ..Program::new(argv) };
    let ended = process::run(program, work.live.cancelled(), |_, _| Sign::Life).await?;
    ensure!(ended.ok(), "copying beside the live data: {}", ended.stderr_tail);
    Ok(())
}
