//! `holdfast import`: archives become snapshots. They are opened here, so the daemon reads nothing in our name.

use std::fs::File;
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::tz::TimeZone;

use super::Context;
use super::daemon::{Daemon, Options};
use super::failure::{Done, Exit, Failure};
use super::follow::conclude;
use crate::job::import::names;

/// `holdfast import`
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// Archives (.tar, .tar.gz, .tar.zst); directories of MicroShift's auto-recovery; - is an archive on standard input
    #[arg(required = true, value_name = "ARCHIVE")]
    archives: Vec<PathBuf>,
    /// The instance that it becomes a snapshot of
    #[arg(long)]
    instance: String,
    /// A part of the archive (. is all of it) and its place: state/…, volumes/NAME/… or an absolute path
    #[arg(long, value_name = "FROM=TO")]
    map: Vec<String>,
    /// Leave this part of the archive out; may be given several times
    #[arg(long, value_name = "PATH")]
    exclude: Vec<String>,
    /// Into this repository; default: the first of the instance's backups
    #[arg(long)]
    repository: Option<String>,
    /// When the data was saved, where the archive does not say it
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
    /// Of what version the data is, where the archive does not say it
    #[arg(long, value_name = "VERSION", id = "of_version")]
    version: Option<String>,
    /// Print the jobs' ids and do not wait for their ends
    #[arg(long)]
    no_wait: bool,
}

/// Something to be imported.
struct Item {
    path: PathBuf,
    name: String,
    standing: Option<&'static str>,
}

pub(super) async fn import(context: &Context, args: ImportArgs) -> Done {
    let items = items(context, &args)?;
    let daemon = context.daemon().await?;
    let many = items.len() > 1;
    let mut worst = Ok(Exit::Done);
    for item in items {
        if many {
            context.out.note(format!("{}:", item.path.display()));
        }
        let done = one(context, &daemon, &args, item).await;
        worst = match (worst, done) {
            (Err(first), Err(other)) => {
                context.out.failure(&other);
                Err(first)
            }
            (Err(failure), Ok(_)) | (Ok(_), Err(failure)) => Err(failure),
            (Ok(Exit::Done), Ok(exit)) => Ok(exit),
            (Ok(exit), Ok(_)) => Ok(exit),
        };
        if matches!(&worst, Err(failure) if failure.exit == Exit::Cancelled) {
            break;
        }
    }
    worst
}

async fn one(context: &Context, daemon: &Daemon, args: &ImportArgs, item: Item) -> Done {
    let data = open(&item.path)?;
    let mut options = Options::new();
    for (key, list) in [("map", &args.map), ("exclude", &args.exclude)] {
        if !list.is_empty() {
            options.insert(key, list.clone().into());
        }
    }
    let texts = [("repository", args.repository.clone()), ("version", args.version.clone())];
    for (key, text) in texts.into_iter().chain([("standing", item.standing.map(str::to_owned))]) {
        if let Some(text) = text {
            options.insert(key, text.into());
        }
    }
    if let Some(time) = &args.time {
        let time = context.here.parse(time).map_err(Failure::usage)?.as_microsecond();
        let time = u64::try_from(time).map_err(|_| Failure::usage("--time is before 1970"))?;
        options.insert("time", time.into());
    }
    let call = daemon.manager.import(&args.instance, &item.name, zbus::Fd::from(data), options);
    conclude(context, daemon, call, !args.no_wait).await
}

fn open(path: &Path) -> Result<std::os::fd::OwnedFd, Failure> {
    let failed = |error| Failure::failed(format!("opening {}: {error}", path.display()));
    if path == Path::new("-") {
        return rustix::io::dup(std::io::stdin()).map_err(|error| failed(error.into()));
    }
    File::open(path).map(Into::into).map_err(failed)
}

/// What was named, directories as what lies in them.
fn items(context: &Context, args: &ImportArgs) -> Result<Vec<Item>, Failure> {
    let mut items = Vec::new();
    for path in &args.archives {
        match path.is_dir() {
            true => items.extend(microshift(context, path)?),
            false => {
                let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
                items.push(Item { path: path.clone(), name, standing: None });
            }
        }
    }
    Ok(items)
}

/// A directory of MicroShift's auto-recovery, or one backup of it. Oldest first; foreign names are told and left alone.
fn microshift(context: &Context, dir: &Path) -> Result<Vec<Item>, Failure> {
    let real = dir.canonicalize().map_err(|error| Failure::failed(format!("{}: {error}", dir.display())))?;
    let is_one = real.file_name().is_some_and(|name| is_backup(&name.to_string_lossy()));
    if is_one {
        return Ok(vec![Item { name: name_of(&real), path: real, standing: None }]);
    }
    let last = last_restored(&real)?;
    let mut items = Vec::new();
    for (below, standing) in [("", None), ("restored", Some("restored")), ("failed", Some("failed"))] {
        let within = if below.is_empty() { real.clone() } else { real.join(below) };
        if below.is_empty() || within.is_dir() {
            items.extend(backups(context, &within, standing, below.is_empty())?);
        }
    }
    for item in items.iter_mut().filter(|item| item.standing.is_none() && Some(&item.name) == last.as_ref()) {
        item.standing = Some("restored");
    }
    items.sort_by(|a, b| a.name.cmp(&b.name));
    if items.is_empty() {
        let text =
            format!("{} holds no backup of MicroShift (directories named TIME_VERSION)", dir.display());
        return Err(Failure::failed(text)
            .hint("of any other directory make an archive: tar -C DIR -c . | holdfast import - …"));
    }
    Ok(items)
}

fn backups(
    context: &Context,
    dir: &Path,
    standing: Option<&'static str>,
    top: bool,
) -> Result<Vec<Item>, Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("reading {}: {error}", dir.display()));
    let mut items = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let is_dir = entry.file_type().map_err(failed)?.is_dir();
        if is_dir && is_backup(&name) {
            items.push(Item { path, name, standing });
        } else if !(top && ["restored", "failed", "state.json"].contains(&&*name)) {
            context.out.note(format!("{} is no backup of MicroShift: left alone", path.display()));
        }
    }
    Ok(items)
}

/// The backup that `state.json` says was restored last: it stays where it is until the next one is.
fn last_restored(dir: &Path) -> Result<Option<String>, Failure> {
    let path = dir.join("state.json");
    let text = match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| Failure::failed(format!("reading {}: {error}", path.display())))?,
    };
    let state: serde_json::Value = serde_json::from_slice(&text).map_err(|error| {
        let text = format!("{} makes no sense: {error}", path.display());
        Failure::failed(text).hint(
            "it says which backup was restored last; repair it, or move it away if that does not matter",
        )
    })?;
    Ok(state["LastBackup"].as_str().map(str::to_owned))
}

fn is_backup(name: &str) -> bool {
    // A copy that was not finished ends in `.tmp.` and some digits.
    names::microshift(name, &TimeZone::UTC).is_some() && !name.contains(".tmp.")
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
