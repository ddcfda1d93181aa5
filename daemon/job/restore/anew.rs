//! An instance that is not defined here yet: its places are made before its data comes, its definition and its identity
//! are written when all stands. All of it is undone on failure; each step is written down first.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use tracing::info;
use uuid::Uuid;

use super::apply::ENVIRONMENT;
use super::{Work, far, fetch};
use crate::definition::{Moves, VolumePlace, Volumes};
use crate::job::Context;
use crate::state::durable;
use crate::state::undo::Step;
use crate::target::{Manifest, account};

/// What is written once the data is there.
#[derive(Debug, Clone)]
pub struct Founding {
    /// The file of its definition; none of that name is there.
    pub file: PathBuf,
    /// The text of that file.
    pub text: String,
    /// Its identity.
    pub uuid: Uuid,
    /// Where the paths of the instance in the snapshot lie for this one.
    pub moves: Moves,
    /// A second instance beside the first: nothing that exists is replaced, and it is another one.
    pub second: bool,
    /// The `install_dir` of the first where that is here: programs of the module are copied from it.
    pub model: Option<PathBuf>,
    /// What was not taken over, and what is to be done.
    pub notes: Vec<String>,
}

/// What was made for it so far, for [`undo`].
#[derive(Debug, Default)]
pub(super) struct Made {
    dirs: Vec<PathBuf>,
    files: Vec<(PathBuf, String)>,
    pub(super) user: Option<super::users::MadeUser>,
}

/// The directories of a module that hold programs and lists, not data.
const PROGRAMS: [&str; 4] = ["bin", "etc", "actions", "imageroot"];

/// The file that says who an instance is.
fn identity_file(context: &Context, name: &str) -> PathBuf {
    context.dirs.state.join("instances").join(name)
}

/// Why it cannot be founded.
pub(super) fn refused(context: &Context, name: &str, founding: &Founding) -> Option<String> {
    let other = std::fs::read_to_string(identity_file(context, name))
        .is_ok_and(|text| text.trim() != founding.uuid.to_string());
    other.then(|| format!(
        "an instance {name} was here before, and its sets are still known by that name; choose another name, or remove {}",
        identity_file(context, name).display()
    ))
}

/// Makes what is missing of its directories.
pub(super) async fn make_places(work: &Work, made: &mut Made) -> Result<()> {
    let Some(founding) = &work.request.founding else { return Ok(()) };
    let instance = &work.request.instance;
    if let Some(dir) = &instance.install_dir {
        make(work, dir, made).await?;
        make(work, &dir.join("state"), made).await?;
        if let Some(model) =
            founding.model.as_ref().filter(|_| made.dirs.iter().any(|new| dir.starts_with(new)))
        {
            copy_programs(work, model, dir).await?;
        }
    }
    if let (Volumes::Table(table), None) = (&instance.volumes, &instance.remote) {
        for place in table.values() {
            if let VolumePlace::Directory(dir) = place {
                make(work, dir, made).await?;
            }
        }
    }
    Ok(())
}

/// Makes the directories that included paths lie in.
pub(super) async fn make_parents(work: &Work, manifest: &Manifest, made: &mut Made) -> Result<()> {
    let Some(founding) = &work.request.founding else { return Ok(()) };
    if let Some(why) = refused(&work.context, &work.request.instance.name, founding) {
        anyhow::bail!("{why}");
    }
    far::make_parents(work, manifest).await?;
    let near = if work.request.instance.remote.is_some() { "local" } else { "files" };
    let files = super::dumps::database_files(manifest)?;
    let includes = || manifest.includes.iter().map(|path| &path.0);
    let apart = files.iter().filter(|file| !includes().any(|include| file.starts_with(include)));
    for include in includes().chain(apart) {
        let Ok(below) = include.strip_prefix(near) else { continue };
        let live = founding.moves.or_same(&Path::new("/").join(below));
        if let Some(parent) = live.parent() {
            make(work, parent, made).await?;
        }
    }
    Ok(())
}

/// Makes a directory and those above it that are missing, with the instance's user as owner.
async fn make(work: &Work, dir: &Path, made: &mut Made) -> Result<()> {
    let missing: Vec<PathBuf> =
        dir.ancestors().take_while(|dir| dir.symlink_metadata().is_err()).map(Path::to_owned).collect();
    let Some(top) = missing.last().cloned() else { return Ok(()) };
    work.undo.push(Step::RemoveDir { path: top.clone() }).await?;
    made.dirs.push(top);
    let owner = account(work.request.instance.user.as_deref())?;
    tokio::task::spawn_blocking(move || {
        for dir in missing.iter().rev() {
            rustix::fs::mkdir(dir, Mode::RWXU).with_context(|| format!("making {}", dir.display()))?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::open(dir, flags, Mode::empty())?;
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755))?;
            if rustix::process::geteuid().is_root() {
                let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
                rustix::fs::fchown(&fd, Some(uid), Some(gid))?;
            }
        }
        missing.last().and_then(|top| top.parent()).map_or(Ok(()), |above| Ok(durable::sync_dir(above)?))
    })
    .await?
}

async fn copy_programs(work: &Work, model: &Path, dir: &Path) -> Result<()> {
    for name in PROGRAMS {
        let from = model.join(name);
        if from.is_dir() && dir.join(name).symlink_metadata().is_err() {
            fetch::copy(work, &from, dir, name.as_ref()).await?;
        }
    }
    Ok(())
}

/// A second instance is told who it is: the environment that was saved names the first.
pub(super) async fn rename_environment(work: &Work, staging: &Path) -> Result<()> {
    let Some(founding) = work.request.founding.as_ref().filter(|founding| founding.second) else {
        return Ok(());
    };
    let path = staging.join(ENVIRONMENT);
    if !std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file()) {
        return Ok(());
    }
    let (name, uuid) = (work.request.instance.name.clone(), founding.uuid);
    tokio::task::spawn_blocking(move || {
        let text = std::fs::read(&path)?;
        let lines = text.split_inclusive(|byte| *byte == b'\n').map(|line| {
            let says = |key: &[u8]| line.starts_with(key);
            match (says(b"MODULE_ID="), says(b"MODULE_UUID=")) {
                (true, _) => format!("MODULE_ID={name}\n").into_bytes(),
                (_, true) => format!("MODULE_UUID={uuid}\n").into_bytes(),
                _ => line.to_owned(),
            }
        });
        let text: Vec<u8> = lines.flatten().collect();
        // In place: owner, mode and attributes stay.
        std::fs::write(&path, text).with_context(|| format!("naming the new instance in {}", path.display()))
    })
    .await?
}

/// Writes definition and identity.
pub(super) async fn define(work: &Work, made: &mut Made) -> Result<()> {
    let Some(founding) = &work.request.founding else { return Ok(()) };
    let name = &work.request.instance.name;
    let identity = (identity_file(&work.context, name), format!("{}\n", founding.uuid));
    let known = std::fs::read_to_string(&identity.0).is_ok_and(|text| text.trim() == identity.1.trim());
    let definition = (founding.file.clone(), founding.text.clone());
    for (path, text) in [identity, definition].into_iter().skip(usize::from(known)) {
        work.undo.push(Step::RemoveFile { path: path.clone() }).await?;
        made.files.push((path.clone(), text.clone()));
        tokio::task::spawn_blocking(move || write(&path, &text)).await??;
    }
    info!(holdfast_instance = %name, "{name} is defined in {}", founding.file.display());
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    let mode = if path.extension().is_some() { 0o755 } else { 0o700 };
    path.parent().map_or(Ok(()), |dir| durable::create_dir(dir, mode))?;
    let written = durable::write_new(path, 0o600, text.as_bytes())?;
    ensure!(written, "{} appeared meanwhile", path.display());
    Ok(())
}

/// Takes back what was made, as the steps say that were written down: a failed restore of a new instance leaves nothing.
pub(super) async fn undo(mut made: Made) -> Result<()> {
    let user = made.user.take();
    tokio::task::spawn_blocking(move || {
        for (path, ours) in made.files.iter().rev() {
            if std::fs::read_to_string(path).is_ok_and(|there| there == *ours) {
                durable::remove(path)?;
            }
        }
        for dir in made.dirs.iter().rev() {
            match std::fs::remove_dir_all(dir) {
                Err(failure) if failure.kind() != std::io::ErrorKind::NotFound => {
                    return Err(failure).with_context(|| format!("removing {}", dir.display()));
                }
                _ => {}
            }
        }
        anyhow::Ok(())
    })
    .await??;
    match user {
        Some(user) => super::users::undo(&user).await,
        None => Ok(()),
    }
}
