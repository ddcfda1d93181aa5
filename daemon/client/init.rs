//! `holdfast init`: from nothing to the first backup, asked on a terminal or told by flags.
//!
//! What is defined already is never changed. Definitions are made in the order in which they need each other; when one is
//! refused, those that this run made are taken back. Killed in between, the next run takes up what is there.

use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::daemon::{Daemon, Objects, Options};
use super::failure::{Done, Exit, Failure};
use super::follow::conclude;
use super::keys::{self, Keys};
use super::wire::Row;
use super::{Context, ask, repository, schedule};
use crate::calendar::Schedule;

/// The names that the first definitions get.
const INSTANCE: &str = "files";
const REPOSITORY: &str = "main";
const BACKUP: &str = "files";

/// What root is offered to back up, as far as it is there.
const OFFERED: [&str; 4] = ["/etc", "/home", "/root", "/srv"];

/// `holdfast init`
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// What to back up: a directory or a file; may be given several times
    #[arg(long, value_name = "PATH")]
    include: Vec<PathBuf>,
    /// What of it to leave out, such as "*.iso"; may be given several times
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Where to: /path (another disk), sftp:, rest:, s3:, b2:, azure:, gs:, swift:, rclone:
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// Read the repository's password from this file, or from standard input (-); default: one is generated
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Read the storage's credentials from this file of NAME=value lines
    #[arg(long, value_name = "FILE")]
    environment_file: Option<PathBuf>,
    /// When: daily, "Mon..Fri 02:30", "every 6h"; default: daily
    #[arg(long)]
    schedule: Option<String>,
    /// What is kept: 7, or daily=7,weekly=4,within=30d
    #[arg(long, default_value = "daily=7,weekly=4,monthly=12")]
    retention: String,
    /// Only define, and leave the first backup to the schedule
    #[arg(long)]
    no_run: bool,
}

/// What will be defined; none: it is there.
struct Wanted {
    instance: Option<Keys>,
    repository: Option<Keys>,
    backup: Keys,
    /// Whether the daemon makes the repository's password.
    generated: bool,
}

pub(super) async fn init(context: &Context, args: InitArgs) -> Done {
    let daemon = context.daemon().await?;
    able(&daemon.overview().await?)?;
    let found = daemon.objects().await?;
    untouched(&found)?;
    let wanted = wanted(context, &args, &found).await?;
    define(&daemon, &wanted).await?;
    context
        .out
        .note(format!("Defined: the repository {REPOSITORY}, the instance {INSTANCE}, the backup {BACKUP}."));
    if args.no_run {
        epilogue(context, &wanted);
        return Ok(Exit::Done);
    }
    context.out.note("The first backup:");
    let call = daemon.manager.run_backup(BACKUP, Options::new());
    let done = conclude(context, &daemon, call, true).await;
    match &done {
        Ok(Exit::Done | Exit::Warning) => epilogue(context, &wanted),
        _ => context.out.note(format!("The definitions stay; when it is mended: `holdfast run {BACKUP}`.")),
    }
    done
}

/// Whether there is a restic to work with.
fn able(manager: &Row) -> Result<(), Failure> {
    let restic = manager.text("ResticVersion");
    if restic.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(());
    }
    let why = restic.trim_start_matches("none: ");
    Err(Failure::failed(format!("there is no restic to make backups with: {why}"))
        .hint("install it (`apt install restic`), or name it: `restic` in [daemon] of holdfast.toml"))
}

/// Refuses where somebody has defined backups.
fn untouched(found: &Objects) -> Result<(), Failure> {
    let names: Vec<&str> = found.backups.iter().map(|row| row.text("Name")).collect();
    let Some(first) = names.first() else { return Ok(()) };
    let message = format!("backups are defined already: {}; nothing was changed", names.join(", "));
    Err(Failure::failed(message)
        .hint(format!("`holdfast run {first}` makes one now, `holdfast backup add` defines another")))
}

async fn wanted(context: &Context, args: &InitArgs, found: &Objects) -> Result<Wanted, Failure> {
    let asks = Asks::of(args, found)?;
    if (asks.include || asks.to) && !ask::possible() {
        let missing = if asks.include { "--include PATH" } else { "--to URL" };
        return Err(Failure::usage(format!("nobody can be asked, and {missing} was not given")).hint(
            "such as: holdfast init --include /etc --include /home --to /mnt/backup --schedule daily",
        ));
    }
    let include = if asks.include { what(context).await? } else { paths(&args.include)? };
    let to = match &args.to {
        _ if asks.to => target(context).await?,
        Some(to) => place(to)?,
        None => String::new(),
    };
    let schedule = match &args.schedule {
        Some(text) => good_schedule(text)?,
        None if asks.include || asks.to => when(context).await?,
        None => "daily".to_owned(),
    };
    let instance = (!asks.has_instance).then(|| instance(context, include, &args.exclude, &to));
    let repository = if asks.has_repository { None } else { Some(repository(args, &to)?) };
    let mut backup = Keys::new();
    backup.insert("repositories".into(), json!([REPOSITORY]));
    backup.insert("instances".into(), json!([INSTANCE]));
    backup.insert("schedule".into(), schedule.into());
    backup.insert("retention".into(), keys::retention(&args.retention)?);
    let generated = repository.is_some() && args.password_file.is_none();
    Ok(Wanted { instance, repository, backup, generated })
}

/// What there is, and what therefore must be asked.
struct Asks {
    has_instance: bool,
    has_repository: bool,
    include: bool,
    to: bool,
}

impl Asks {
    fn of(args: &InitArgs, found: &Objects) -> Result<Self, Failure> {
        let has_instance = found.instances.iter().any(|row| row.text("Name") == INSTANCE);
        let there = found.repositories.iter().find(|row| row.text("Name") == REPOSITORY);
        let given = !args.include.is_empty() || !args.exclude.is_empty();
        if has_instance && given {
            return Err(defined("instance", INSTANCE, "--include and --exclude"));
        }
        if let (Some(row), Some(to)) = (there, &args.to)
            && place(to)? != row.text("Url")
        {
            return Err(defined("repository", REPOSITORY, "--to"));
        }
        let include = !has_instance && args.include.is_empty();
        let to = there.is_none() && args.to.is_none();
        Ok(Self { has_instance, has_repository: there.is_some(), include, to })
    }
}

fn defined(kind: &str, name: &str, flags: &str) -> Failure {
    Failure::failed(format!("the {kind} `{name}` is defined already, and is not changed")).hint(format!(
        "leave {flags} out to take it as it is, or change it in its file and `holdfast reload`"
    ))
}

async fn what(context: &Context) -> Result<Vec<String>, Failure> {
    let offered = offered();
    let offer = if offered.is_empty() { String::new() } else { format!(" [{}]", offered.join(" ")) };
    context.out.note("What is to be backed up? Directories or files, one a line; an empty line ends.");
    let mut chosen = Vec::new();
    loop {
        let prompt = if chosen.is_empty() { format!("  path{offer}:") } else { "  path:".to_owned() };
        let line = ask::line(context, &prompt).await?;
        match line.as_str() {
            "" if !chosen.is_empty() => return Ok(chosen),
            "" if !offered.is_empty() => return Ok(offered),
            "" => {}
            line => match there(Path::new(line)) {
                Ok(path) => chosen.push(path),
                Err(failure) => context.out.failure(&failure),
            },
        }
    }
}

/// What is worth a backup on most machines; of an ordinary user, the home.
fn offered() -> Vec<String> {
    if rustix::process::geteuid().is_root() {
        let filled = |path: &&str| std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
        return OFFERED.iter().filter(|path| filled(path)).map(|&path| path.to_owned()).collect();
    }
    std::env::var("HOME").into_iter().filter(|home| home.starts_with('/')).collect()
}

async fn target(context: &Context) -> Result<String, Failure> {
    context.out.note(
        "Where to? A directory, best on another disk, or sftp:user@host:/path, rest:https://…, s3:…, b2:…, azure:…, gs:…, \
         swift:…, rclone:…",
    );
    loop {
        let line = ask::or(context, "  to", "/var/backups/holdfast").await?;
        match place(&line) {
            Ok(place) => return Ok(place),
            Err(failure) => context.out.failure(&failure),
        }
    }
}

async fn when(context: &Context) -> Result<String, Failure> {
    context.out.note("When? hourly, daily, weekly, 02:30, Mon..Fri 02:30, every 6h, …");
    loop {
        match good_schedule(&ask::or(context, "  schedule", "daily").await?) {
            Ok(schedule) => return Ok(schedule),
            Err(failure) => context.out.failure(&failure),
        }
    }
}

fn good_schedule(text: &str) -> Result<String, Failure> {
    match Schedule::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(schedule::refused(text, &error)),
    }
}

fn paths(given: &[PathBuf]) -> Result<Vec<String>, Failure> {
    given.iter().map(|path| there(path)).collect()
}

/// A path that exists, absolute: the daemon has another working directory than we.
fn there(path: &Path) -> Result<String, Failure> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let path = match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_owned(),
    };
    let text = absolute(&path)?;
    let missing = matches!(path.symlink_metadata(), Err(e) if e.kind() == std::io::ErrorKind::NotFound);
    if missing && !text.contains(['*', '?', '[']) {
        return Err(Failure::failed(format!("there is no {text}")));
    }
    Ok(text)
}

fn absolute(path: &Path) -> Result<String, Failure> {
    let wrong = |why: String| Failure::usage(format!("the path {}: {why}", path.display()));
    let whole = std::path::absolute(path).map_err(|error| wrong(error.to_string()))?;
    let whole: PathBuf = whole.components().collect();
    if whole.components().any(|part| part == Component::ParentDir) {
        return Err(wrong("write it without `..`".into()));
    }
    whole
        .into_os_string()
        .into_string()
        .map_err(|_| wrong("it is not UTF-8, and D-Bus carries nothing else".into()))
}

/// Where a repository is: a URL as it is, a path made absolute.
fn place(to: &str) -> Result<String, Failure> {
    let scheme = to
        .split_once(':')
        .is_some_and(|(scheme, _)| !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric()));
    if scheme { Ok(to.to_owned()) } else { absolute(Path::new(to)) }
}

/// The keys of the instance; a repository that lies in what is backed up is left out of it, as is what the daemon keeps.
fn instance(context: &Context, include: Vec<String>, exclude: &[String], to: &str) -> Keys {
    let mut exclude = exclude.to_vec();
    for own in [Path::new(to), &context.state, &context.cache] {
        if own.is_absolute() && include.iter().any(|path| own.starts_with(path)) {
            exclude.push(format!("files{}", own.display()));
            context.out.note(format!("{} lies in what is backed up, and is left out of it.", own.display()));
        }
    }
    if to.starts_with('/') && include.iter().any(|path| same_disk(Path::new(path), Path::new(to))) {
        context.out.note(format!(
            "{to} is on the same disk as what is backed up: it helps against mistakes, not against a broken disk."
        ));
    }
    let mut keys = Keys::new();
    keys.insert("include".into(), json!(include));
    if !exclude.is_empty() {
        keys.insert("exclude".into(), json!(exclude));
    }
    keys
}

fn same_disk(data: &Path, to: &Path) -> bool {
    let device =
        |path: &Path| path.ancestors().find_map(|path| path.metadata().ok()).map(|found| found.dev());
    device(data).is_some_and(|disk| Some(disk) == device(to))
}

fn repository(args: &InitArgs, to: &str) -> Result<Keys, Failure> {
    let mut keys = Keys::new();
    keys.insert("url".into(), to.into());
    if let Some(file) = &args.password_file {
        keys.insert("password".into(), repository::password(file)?.into());
    }
    if let Some(file) = &args.environment_file {
        let environment = repository::environment(&repository::read(file)?, file)?;
        keys.insert("environment".into(), json!(environment));
    }
    Ok(keys)
}

/// Makes the definitions; takes back what this run made when one is refused.
async fn define(daemon: &Daemon, wanted: &Wanted) -> Result<(), Failure> {
    if let Some(keys) = &wanted.repository {
        let made = daemon.manager.add_repository(REPOSITORY, keys::options(keys)?).await;
        made.map_err(|error| daemon.failure(error))?;
    }
    let Err(failure) = define_the_rest(daemon, wanted).await else { return Ok(()) };
    // In reverse; a definition that was not made cannot be taken back, and that is no error.
    if wanted.instance.is_some() {
        let _ = daemon.manager.remove_instance(INSTANCE).await;
    }
    if wanted.repository.is_some() {
        let _ = daemon.manager.remove_repository(REPOSITORY).await;
    }
    Err(failure)
}

async fn define_the_rest(daemon: &Daemon, wanted: &Wanted) -> Result<(), Failure> {
    if let Some(keys) = &wanted.instance {
        let made = daemon.manager.add_instance(INSTANCE, keys::options(keys)?).await;
        made.map_err(|error| daemon.failure(error))?;
    }
    let made = daemon.manager.add_backup(BACKUP, keys::options(&wanted.backup)?).await;
    made.map_err(|error| daemon.failure(error))
}

/// What to know from now on; above all, where the key is.
fn epilogue(context: &Context, wanted: &Wanted) {
    let sudo = if context.bus == "system" { "sudo " } else { "" };
    if wanted.generated {
        context.out.note(format!(
            "The password of the repository was generated and lies on this machine only; without it nobody reads a \
             snapshot.\nPrint it, and keep it elsewhere (a password manager, paper), now:\n  {sudo}holdfast repository key \
             {REPOSITORY}"
        ));
    }
    context.out.note(format!(
        "What is, and comes next:  holdfast status\nA look at what was saved:  {sudo}holdfast restore {INSTANCE} --target \
         /tmp/look"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_stay_and_paths_become_absolute() {
        for url in ["sftp:user@host:/srv", "rest:https://host:8000/", "s3:s3.example.com/bucket", "b2:bucket"]
        {
            assert_eq!(place(url).unwrap(), url);
        }
        assert_eq!(place("/mnt//backup/").unwrap(), "/mnt/backup");
        assert!(place("backup").unwrap().ends_with("/backup"));
        assert_eq!(place("../x").unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let failure = there(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(failure.message.contains("/nowhere/at/all"));
        assert_eq!(there(Path::new("/nowhere/*.conf")).unwrap(), "/nowhere/*.conf");
    }
}
