//! `holdfast backup`: lists, shows and defines backups.

use clap::{Args, Subcommand};
use serde_json::json;

use super::Context;
use super::daemon::{BackupProxy, Daemon};
use super::failure::{Done, Exit, Failure};
use super::format::{Here, names};
use super::keys::{self, Keys};
use super::output::{Grid, Text, Tone};
use super::wire::{Row, json_rows, object_path};

/// `holdfast backup`
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List the backups
    List,
    /// Show one backup
    Show(Named),
    /// Define a new backup
    Add(DefineArgs),
    /// Change keys of a backup; those not named stay
    Alter(DefineArgs),
    /// Remove a backup's definition; its snapshots are kept
    Remove(Named),
    /// Let a backup run
    Enable(Named),
    /// Let a backup run no more
    Disable(Named),
}

/// A backup by name.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// The backup's name
    name: String,
}

/// Keys of a backup.
#[derive(Debug, Args)]
pub(super) struct DefineArgs {
    /// The backup's name
    name: String,
    /// A repository that it goes to; may be given several times
    #[arg(long = "repository", value_name = "REPOSITORY")]
    repositories: Vec<String>,
    /// An instance, "*" or module:NAME; may be given several times
    #[arg(long = "instance", value_name = "INSTANCE")]
    instances: Vec<String>,
    /// When it runs: daily, "Mon..Fri 02:30", "every 6h", "*/15 * * * *"
    #[arg(long)]
    schedule: Option<String>,
    /// What is kept: 7, or daily=7,weekly=4,within=30d
    #[arg(long)]
    retention: Option<String>,
    /// Any other key, as in TOML: catch_up=true, random_delay=30m, retry.attempts=2
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

pub(super) async fn backup(context: &Context, verb: Verb) -> Done {
    match verb {
        Verb::List => list(context).await,
        Verb::Show(args) => show(context, &args.name).await,
        Verb::Add(args) => add(context, args).await,
        Verb::Alter(args) => alter(context, args).await,
        Verb::Remove(args) => remove(context, &args.name).await,
        Verb::Enable(args) => switch(context, &args.name, true).await,
        Verb::Disable(args) => switch(context, &args.name, false).await,
    }
}

async fn list(context: &Context) -> Done {
    let backups = context.daemon().await?.objects().await?.backups;
    if context.out.json {
        context.out.value(&json_rows(&backups));
    } else if backups.is_empty() {
        context
            .out
            .note("no backup is defined; `holdfast backup add` defines one, `holdfast status` shows how");
    } else {
        context.out.grid(&table(&backups, &context.here));
    }
    Ok(Exit::Done)
}

/// The table of backups that `status` shows too.
pub(super) fn table(backups: &[Row], here: &Here) -> Grid {
    let mut grid =
        Grid::new(&["BACKUP", "SCHEDULE", "NEXT RUN", "LAST RUN", "OUTCOME", "INSTANCES", "REPOSITORIES"]);
    for row in backups {
        grid.row([
            Text(row.text("Name").to_owned(), Tone::Strong),
            if row.text("Schedule").is_empty() { "on demand" } else { row.text("Schedule") }.into(),
            next_run(row, here),
            here.age(row.time("LastRun")).into(),
            Text::outcome(row.text("LastOutcome")),
            names(&row.texts("Instances"), 3).into(),
            names(&row.texts("Repositories"), 3).into(),
        ]);
    }
    grid
}

fn next_run(row: &Row, here: &Here) -> Text {
    if !row.flag("Enabled") {
        return Text("disabled".to_owned(), Tone::Note);
    }
    match row.time("NextRun") {
        None if row.text("Schedule").is_empty() => Text("-".to_owned(), Tone::Dim),
        time => here.moment(time).into(),
    }
}

async fn show(context: &Context, name: &str) -> Done {
    let row = context.daemon().await?.named("backup", "Backup", name).await?;
    if context.out.json {
        context.out.value(&row.json());
        return Ok(Exit::Done);
    }
    let here = &context.here;
    let line = |label: &str, text: &str| context.out.line(format!("{label:<14}{text}"));
    line("backup", row.text("Name"));
    line("enabled", if row.flag("Enabled") { "yes" } else { "no" });
    line("schedule", if row.text("Schedule").is_empty() { "on demand" } else { row.text("Schedule") });
    line("instances", &row.texts("Instances").join(", "));
    line("repositories", &row.texts("Repositories").join(", "));
    line("next run", &here.moment(row.time("NextRun")));
    line("last run", &here.moment(row.time("LastRun")));
    line("last success", &here.moment(row.time("LastSuccess")));
    line("last outcome", &Text::outcome(row.text("LastOutcome")).0);
    if !row.text("Waiting").is_empty() {
        line("waiting", row.text("Waiting"));
    }
    Ok(Exit::Done)
}

async fn add(context: &Context, args: DefineArgs) -> Done {
    let (name, keys) = (args.name.clone(), keys(args)?);
    if !keys.contains_key("repositories") || !keys.contains_key("instances") {
        let message = "a backup needs to know what goes where: --repository and --instance";
        return Err(Failure::usage(message)
            .hint("holdfast backup add nightly --repository local --instance '*' --schedule daily"));
    }
    let daemon = context.daemon().await?;
    daemon.manager.add_backup(&name, keys::options(&keys)?).await.map_err(|e| daemon.failure(e))?;
    report(context, &daemon, &name, "is defined").await
}

async fn alter(context: &Context, args: DefineArgs) -> Done {
    let (name, keys) = (args.name.clone(), keys(args)?);
    if keys.is_empty() {
        return Err(
            Failure::usage("no key to change was given").hint("`holdfast backup alter --help` lists them")
        );
    }
    let daemon = context.daemon().await?;
    daemon.manager.alter_backup(&name, keys::options(&keys)?).await.map_err(|e| daemon.failure(e))?;
    report(context, &daemon, &name, "was changed").await
}

fn keys(args: DefineArgs) -> Result<Keys, Failure> {
    let mut keys = Keys::new();
    if !args.repositories.is_empty() {
        keys.insert("repositories".into(), args.repositories.into());
    }
    if !args.instances.is_empty() {
        keys.insert("instances".into(), args.instances.into());
    }
    if let Some(schedule) = args.schedule {
        keys.insert("schedule".into(), schedule.into());
    }
    if let Some(retention) = args.retention {
        keys.insert("retention".into(), keys::retention(&retention)?);
    }
    args.set.iter().try_for_each(|pair| keys::set(&mut keys, pair))?;
    Ok(keys)
}

async fn remove(context: &Context, name: &str) -> Done {
    let daemon = context.daemon().await?;
    daemon.manager.remove_backup(name).await.map_err(|e| daemon.failure(e))?;
    if context.out.json {
        context.out.value(&json!({ "Name": name }));
    } else {
        context.out.line(format!("{name} is no longer defined; its snapshots are kept"));
    }
    Ok(Exit::Done)
}

async fn switch(context: &Context, name: &str, on: bool) -> Done {
    let daemon = context.daemon().await?;
    let proxy = BackupProxy::new(&daemon.connection, object_path("backup", name)).await;
    let proxy = proxy.map_err(|error| daemon.failure(error))?;
    let done = if on { proxy.enable().await } else { proxy.disable().await };
    done.map_err(|error| daemon.failure_of(error, "backup", name))?;
    report(context, &daemon, name, if on { "is enabled" } else { "is disabled" }).await
}

/// Says what was done, and when the backup runs next.
async fn report(context: &Context, daemon: &Daemon, name: &str, what: &str) -> Done {
    let row = daemon.named("backup", "Backup", name).await?;
    if context.out.json {
        context.out.value(&row.json());
        return Ok(Exit::Done);
    }
    let next = match row.time("NextRun") {
        Some(time) => format!("next run {}", context.here.moment(Some(time))),
        None if row.text("Schedule").is_empty() => format!("it has no schedule: `holdfast run {name}`"),
        None => "no next run".to_owned(),
    };
    context.out.line(format!("{name} {what}; {next}"));
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;

    fn args() -> DefineArgs {
        DefineArgs {
            name: "n".into(),
            repositories: vec![],
            instances: vec![],
            schedule: None,
            retention: None,
            set: vec![],
        }
    }

    #[test]
    fn flags_become_the_keys_of_the_definition() {
        let args = DefineArgs {
            repositories: vec!["local".into()],
            instances: vec!["*".into()],
            schedule: Some("daily".into()),
            retention: Some("3".into()),
            set: vec!["catch_up=false".into()],
            ..args()
        };
        assert_eq!(
            serde_json::Value::Object(keys(args).unwrap()),
            json!({
                "repositories": ["local"], "instances": ["*"], "schedule": "daily", "retention": 3, "catch_up": false,
            })
        );
        assert!(keys(self::args()).unwrap().is_empty());
    }

    #[test]
    fn the_table_tells_disabled_on_demand_and_scheduled_backups_apart() {
        let row = |name: &str, schedule: &str, enabled: bool, next: u64| {
            let value = json!({
                "Name": name, "Schedule": schedule, "Enabled": enabled, "NextRun": next, "LastRun": 0,
                "LastOutcome": "", "Instances": ["a", "b", "c", "d"], "Repositories": ["local"],
            });
            Row::from(value.as_object().unwrap().clone())
        };
        let here = Here { now: "2023-11-14T22:13:20Z".parse().unwrap(), zone: TimeZone::UTC };
        let rows = [
            row("a", "daily", true, 1_700_010_800_000_000),
            row("b", "", true, 0),
            row("c", "daily", false, 0),
        ];
        let text = table(&rows, &here).draw(false, None);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("a       daily      2023-11-15 01:13 (in 3 h)  never"), "{text}");
        assert!(lines[1].contains("a, b, c and 1 more"), "{text}");
        assert!(lines[2].starts_with("b       on demand  -"), "{text}");
        assert!(lines[3].contains("disabled"), "{text}");
    }
}
