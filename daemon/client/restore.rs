//! `holdfast restore`: puts a snapshot back, in place or into a directory.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use clap::Args;
use zbus::wire::{Fd, Variant};

use super::daemon::{Daemon, Options};
use super::failure::{Done, Exit, Failure};
use super::follow::{cancel_all, conclude, started};
use super::format::{short, size};
use super::wire::Row;
use super::{Context, alone, ask, given};
use crate::control::{Database, Edited, RestoreOptions, carried};
use crate::definition::Owners;

/// `holdfast restore`
#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The instances' names; or REPOSITORY:MODULE/UUID of one that is not defined here, see `repository contents`
    #[arg(required = true)]
    instances: Vec<String>,
    #[command(flatten)]
    what: What,
    /// Only say what would be done, and touch nothing
    #[arg(long, conflicts_with_all = ["yes", "no_wait"])]
    plan: bool,
    /// Do not ask before live data is replaced
    #[arg(long)]
    yes: bool,
    /// Do it from here, while no daemon runs: on a rescue system
    #[arg(long, conflicts_with = "no_wait")]
    no_daemon: bool,
    /// Print the job's id and do not wait for its end
    #[arg(long)]
    no_wait: bool,
}

/// What is restored, and where to.
#[derive(Debug, Args)]
pub(super) struct What {
    /// The snapshot's id; default: the latest
    #[arg(long, value_name = "ID")]
    pub(super) snapshot: Option<String>,
    /// Only from this repository
    #[arg(long)]
    repository: Option<String>,
    /// The newest snapshot at or before this time: 3d, 2026-11-20, "2026-11-20 12:00"
    #[arg(long, value_name = "TIME", conflicts_with = "snapshot")]
    before: Option<String>,
    /// Only this path of the snapshot (state/…, volumes/NAME/…, files/…); may be given several times; a backslash
    /// in a name is written twice, as are `\n` and `\xHH` what they are elsewhere
    #[arg(long, value_name = "PATH")]
    include: Vec<OsString>,
    /// Only this database; NEW=OLD: the saved one OLD as a new one NEW beside it; with --as: under which name the saved
    /// one OLD lives; may be given several times
    #[arg(long, value_name = "NAME|NEW=OLD", conflicts_with_all = ["include", "target"])]
    database: Vec<String>,
    /// This file instead of the saved dump NAME (or DUMP/DATABASE where it has several files); only root may; may be given
    /// several times
    #[arg(long, value_name = "NAME=FILE", conflicts_with = "target")]
    dump: Vec<OsString>,
    /// Into this directory, instead of over the live data
    #[arg(long, value_name = "DIR")]
    target: Option<PathBuf>,
    /// Do not stop services while data is replaced
    #[arg(long)]
    no_stop: bool,
    /// Leave the services stopped that were stopped for it
    #[arg(long)]
    no_start: bool,
    /// As a new instance of this name, with paths of its own; its definition is written too
    #[arg(long = "as", value_name = "NAME", conflicts_with_all = ["target", "include"])]
    new_name: Option<String>,
    /// What lay at FROM lies at TO for the instance that is defined; may be given several times
    #[arg(long, value_name = "FROM=TO", conflicts_with = "target")]
    map: Vec<String>,
    /// Also a snapshot that another host or instance made
    #[arg(long)]
    force_foreign: bool,
    /// Also a snapshot whose version does not fit the present one
    #[arg(long)]
    force_version: bool,
    /// Create the instance's user where this machine lacks it, with its saved number where that is free
    #[arg(long, conflicts_with = "target")]
    create_user: bool,
    /// Whose the files are: name (whoever has the saved names here) or number; default: as defined
    #[arg(long, value_name = "WORD", value_parser = ["name", "number"])]
    owners: Option<String>,
    /// With the set-user-id and set-group-id bits of files
    #[arg(long)]
    setuid: bool,
    /// With device files
    #[arg(long)]
    devices: bool,
}

/// Restores them all; one that fails does not keep the others back.
pub(super) async fn restore(context: &Context, args: RestoreArgs) -> Done {
    options(&args.what, context)?;
    let several = args.instances.len() > 1;
    let what = &args.what;
    if several && (what.snapshot.is_some() || what.target.is_some() || what.new_name.is_some()) {
        let refusal = Failure::usage("--snapshot, --target and --as are of one instance");
        return Err(refusal.hint("restore one instance at a time, or say --before TIME"));
    }
    if args.no_daemon {
        return without_daemon(context, &args, asks(&args)).await;
    }
    if args.plan {
        return super::plan::plans(context, &args.instances, &args.what).await;
    }
    let asks = asks(&args);
    if asks && !ask::possible() {
        let names = args.instances.join(", ");
        let refusal =
            Failure::usage(format!("this would replace live data of {names}, and nobody can be asked"));
        return Err(refusal.hint("say --yes to do it, or --target DIR to restore beside the live data"));
    }
    let daemon = context.daemon().await?;
    for name in args.instances.iter().filter(|_| asks) {
        if !confirmed(context, &daemon, name, &args.what).await? {
            return Err(Failure::new(Exit::Cancelled, "nothing was done"));
        }
    }
    if let Some(name) = args.what.new_name.as_deref().filter(|_| !args.yes) {
        takes_over(context, &daemon, name, &args.what).await?;
    }
    if let [one] = &args.instances[..] {
        return restore_one(context, &daemon, one, &args).await;
    }
    restore_all(context, &daemon, &args).await
}

/// A compose project may be restored as another one that is there: then that one's data is replaced.
async fn takes_over(context: &Context, daemon: &Daemon, name: &str, what: &What) -> Result<(), Failure> {
    let found = daemon.objects().await?;
    if !found.instances.iter().any(|row| row.text("Name") == name) {
        return Ok(());
    }
    if !ask::possible() {
        let refusal =
            Failure::usage(format!("{name} is there, and nobody can be asked whether its data may go"));
        return Err(refusal.hint("say --yes to do it; the data from before is kept for `holdfast rollback`"));
    }
    match confirmed(context, daemon, name, what).await? {
        true => Ok(()),
        false => Err(Failure::new(Exit::Cancelled, "nothing was done")),
    }
}

/// Whether live data is replaced and nobody said yes.
fn asks(args: &RestoreArgs) -> bool {
    args.what.target.is_none() && args.what.new_name.is_none() && !args.yes
}

/// One after another, by this process.
async fn without_daemon(context: &Context, args: &RestoreArgs, asks: bool) -> Done {
    if asks && !args.plan {
        let names = args.instances.join(", ");
        return Err(Failure::usage(format!("this would replace live data of {names}"))
            .hint("say --yes to do it, --plan to see it, or --target DIR to restore beside the live data"));
    }
    let alone = alone::start(context).await?;
    let snapshot = args.what.snapshot.as_deref().unwrap_or_default();
    let (mut failed, mut worst) = (Vec::new(), Exit::Done);
    for instance in &args.instances {
        let given = given(&args.what, context)?;
        let done = if args.plan {
            let plan = alone.control.plan_restore(instance, snapshot, given).await;
            plan.map_err(alone::refused).and_then(|plan| super::plan::show(context, &plan))
        } else {
            alone::restore(context, &alone, instance, snapshot, given).await
        };
        match done {
            Ok(Exit::Cancelled) => return Ok(Exit::Cancelled),
            Ok(exit) if exit != Exit::Done => worst = exit,
            Ok(_) => {}
            Err(failure) => {
                context.out.failure(&failure);
                failed.push(instance.as_str());
            }
        }
    }
    alone.end().await;
    match failed.is_empty() {
        true => Ok(worst),
        false => Err(Failure::failed(format!("not restored: {}", failed.join(", ")))),
    }
}

/// What was given, as the procedures take it.
fn given(args: &What, context: &Context) -> Result<RestoreOptions, Failure> {
    let before = args.before.as_deref().map(|text| context.here.parse(text).map_err(Failure::usage));
    let pair = |pair: &String| {
        let (from, to) = pair.split_once('=').unwrap_or_default();
        let good = from.starts_with('/') && to.starts_with('/');
        let bad = || Failure::usage(format!("--map {pair:?} is not FROM=TO with two absolute paths"));
        good.then(|| (from.into(), to.into())).ok_or_else(bad)
    };
    Ok(RestoreOptions {
        repository: args.repository.clone(),
        before: before.transpose()?,
        include: includes(args),
        databases: {
            let parsed = args.database.iter().map(|text| Database::parse(text));
            parsed.collect::<Result<_, _>>().map_err(Failure::usage)?
        },
        dumps: given::files(&args.dump)?
            .into_iter()
            .map(|(name, file)| Edited::new(name, file))
            .collect::<Result<_, _>>()
            .map_err(|failure| Failure::usage(format!("{failure:#}")))?,
        target: args.target.as_ref().map(absolute).transpose()?.map(PathBuf::from),
        new_name: args.new_name.clone(),
        map: args.map.iter().map(pair).collect::<Result<_, _>>()?,
        force_foreign: args.force_foreign,
        force_version: args.force_version,
        create_user: args.create_user,
        no_stop: args.no_stop,
        no_start: args.no_start,
        owners: args.owners.as_deref().and_then(Owners::of_word),
        setuid: args.setuid.then_some(true),
        devices: args.devices.then_some(true),
    })
}

async fn restore_one(context: &Context, daemon: &Daemon, instance: &str, args: &RestoreArgs) -> Done {
    let snapshot = args.what.snapshot.as_deref().unwrap_or_default();
    let call = daemon.manager.restore(instance, snapshot, options(&args.what, context)?);
    conclude(context, daemon, call, !args.no_wait).await
}

/// All are started, then followed one after another: they come at once, as far as the daemon's cap allows. 1 if any
/// failed, else 3 if any warned. Cancelled by hand ends them all.
async fn restore_all(context: &Context, daemon: &Daemon, args: &RestoreArgs) -> Done {
    let (mut failed, mut worst, mut jobs) = (Vec::new(), Exit::Done, VecDeque::new());
    for instance in &args.instances {
        let call = daemon.manager.restore(instance, "", options(&args.what, context)?);
        match started(daemon, call).await {
            Ok(job) => jobs.push_back((instance, job)),
            Err(failure) if failure.exit == Exit::Cancelled => {
                cancel_all(daemon, jobs.iter().map(|(_, job)| job)).await;
                return Err(failure);
            }
            Err(failure) => {
                context.out.failure(&failure);
                failed.push(instance.as_str());
            }
        }
    }
    while let Some((instance, job)) = jobs.pop_front() {
        let done = conclude(context, daemon, std::future::ready(Ok(job)), !args.no_wait).await;
        if matches!(done, Ok(Exit::Cancelled) | Err(Failure { exit: Exit::Cancelled, .. })) {
            cancel_all(daemon, jobs.iter().map(|(_, job)| job)).await;
            return done;
        }
        match done {
            Ok(Exit::Done) => {}
            Ok(exit) => worst = exit,
            Err(failure) => {
                context.out.failure(&failure);
                failed.push(instance.as_str());
            }
        }
    }
    if failed.is_empty() {
        return Ok(worst);
    }
    let (all, names) = (args.instances.len(), failed.join(", "));
    Err(Failure::failed(format!("{} of {all} instances were not restored: {names}", failed.len())))
}

pub(super) fn options(args: &What, context: &Context) -> Result<Options<'static>, Failure> {
    let mut options = Options::new();
    if let Some(repository) = &args.repository {
        options.insert("repository", repository.clone().into());
    }
    if let Some(before) = &args.before {
        let before = context.here.parse(before).map_err(Failure::usage)?;
        options.insert("before", u64::try_from(before.as_microsecond()).unwrap_or(0).into());
    }
    if !args.include.is_empty() {
        options.insert("include", includes(args).into());
    }
    if !args.database.is_empty() {
        options.insert("database", args.database.clone().into());
    }
    if !args.dump.is_empty() {
        let files =
            given::files(&args.dump)?.into_iter().map(|(name, file)| (name, Fd::from(OwnedFd::from(file))));
        let files: std::collections::HashMap<String, Fd<'static>> = files.collect();
        options.insert("dump", Variant::Dict(files.into()));
    }
    if let Some(target) = &args.target {
        options.insert("target", absolute(target)?.into());
    }
    for (key, refused) in [("stop", args.no_stop), ("start", args.no_start)] {
        if refused {
            options.insert(key, false.into());
        }
    }
    if let Some(name) = &args.new_name {
        options.insert("as", name.clone().into());
    }
    if !args.map.is_empty() {
        options.insert("map", args.map.clone().into());
    }
    if let Some(owners) = &args.owners {
        options.insert("owners", owners.clone().into());
    }
    let said = [
        ("force_foreign", args.force_foreign),
        ("force_version", args.force_version),
        ("create_user", args.create_user),
        ("setuid", args.setuid),
        ("devices", args.devices),
    ];
    for (key, given) in said {
        if given {
            options.insert(key, true.into());
        }
    }
    Ok(options)
}

/// Paths of the tree, also such as D-Bus would not carry.
fn includes(args: &What) -> Vec<String> {
    args.include.iter().map(|path| carried(path)).collect()
}

/// The daemon has another working directory than we.
fn absolute(target: &PathBuf) -> Result<String, Failure> {
    let shown = target.display();
    let path = std::path::absolute(target).map_err(|e| Failure::usage(format!("the target {shown}: {e}")))?;
    path.into_os_string().into_string().map_err(|_| {
        Failure::usage(format!(
            "the target {shown} is not UTF-8, and D-Bus carries nothing else; use another directory"
        ))
    })
}

async fn confirmed(context: &Context, daemon: &Daemon, instance: &str, args: &What) -> Result<bool, Failure> {
    let mut rows: Vec<Row> = Vec::new();
    if !instance.contains(':') {
        let all = daemon.manager.list_snapshots(instance).await.map_err(|e| daemon.failure(e))?;
        rows = all.into_iter().map(Row::from).collect();
    }
    let from = match chosen(&rows, args.snapshot.as_deref()) {
        Some(row) if args.before.is_none() && args.repository.is_none() => described(row, context),
        _ => "the chosen snapshot".to_owned(),
    };
    let what = if args.include.is_empty() { "all its data".to_owned() } else { includes(args).join(", ") };
    context.out.note(format!("{}: {what} will be replaced by {from}.", instance));
    let answer = ask::line(context, "Type yes to go on:").await?;
    Ok(answer.eq_ignore_ascii_case("yes"))
}

/// The row of the snapshot that will be restored, as far as it can be told from here.
fn chosen<'a>(rows: &'a [Row], id: Option<&str>) -> Option<&'a Row> {
    match id.filter(|id| !id.is_empty()) {
        Some(id) => rows.iter().find(|row| row.text("id").starts_with(id)),
        None => rows.iter().max_by_key(|row| row.number("time")),
    }
}

fn described(row: &Row, context: &Context) -> String {
    let (id, when) = (short(row.text("id")), context.here.moment(row.time("time")));
    format!("the snapshot {id} of {when}, {} files, {}", row.number("files"), size(row.number("size")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn without_an_id_the_newest_snapshot_is_meant() {
        let row =
            |id: &str, time: u64| Row::from(json!({"id": id, "time": time}).as_object().unwrap().clone());
        let rows = [row("aa11", 1), row("bb22", 9), row("cc33", 5)];
        assert_eq!(chosen(&rows, None).unwrap().text("id"), "bb22");
        assert_eq!(chosen(&rows, Some("cc")).unwrap().text("id"), "cc33");
        assert_eq!(chosen(&rows, Some("dd")), None);
    }
}
