//! `holdfast history`: the jobs of the past.

use clap::Args;

use super::Context;
use super::daemon::Options;
use super::failure::{Done, Exit, Failure};
use super::format::{Here, elapsed};
use super::output::{Grid, Text, Tone};
use super::progress::{reason, took};
use super::wire::{Row, json_rows};

/// `holdfast history`
#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// Only runs of this backup
    #[arg(long)]
    backup: Option<String>,
    /// Only jobs about this instance
    #[arg(long)]
    instance: Option<String>,
    /// Only jobs of this kind: backup, restore, forget, prune, check
    #[arg(long)]
    kind: Option<String>,
    /// Only jobs that ended so: succeeded, warning, failed, cancelled, skipped, interrupted
    #[arg(long)]
    outcome: Option<String>,
    /// Only jobs since then: 3d, 2026-11-20, "2026-11-20 12:00"
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// At most so many jobs
    #[arg(short = 'n', long = "limit", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

pub(super) async fn history(context: &Context, args: HistoryArgs) -> Done {
    let filter = filter(args, &context.here)?;
    let daemon = context.daemon().await?;
    let rows = daemon.manager.list_jobs(filter).await.map_err(|error| daemon.failure(error))?;
    let rows: Vec<Row> = rows.into_iter().map(Row::from).collect();
    if context.out.json {
        context.out.value(&json_rows(&rows));
    } else if rows.is_empty() {
        context.out.note("no such job is remembered");
    } else {
        context.out.grid(&table(&rows, &context.here));
    }
    Ok(Exit::Done)
}

fn filter(args: HistoryArgs, here: &Here) -> Result<Options<'static>, Failure> {
    let mut filter = Options::new();
    filter.insert("limit", args.limit.into());
    if args.backup.is_some() && args.kind.as_deref().is_some_and(|kind| kind != "backup") {
        return Err(Failure::usage("--backup shows jobs of the kind backup; leave --kind away"));
    }
    let kind = if args.backup.is_some() { Some("backup".to_owned()) } else { args.kind };
    let texts =
        [("subject", args.backup), ("instance", args.instance), ("kind", kind), ("outcome", args.outcome)];
    for (key, value) in texts {
        if let Some(value) = value {
            filter.insert(key, value.into());
        }
    }
    if let Some(since) = args.since {
        let since = here.parse(&since).map_err(Failure::usage)?;
        filter.insert("since", u64::try_from(since.as_microsecond()).unwrap_or(0).into());
    }
    Ok(filter)
}

fn table(rows: &[Row], here: &Here) -> Grid {
    let mut grid = Grid::new(&["JOB", "WHEN", "KIND", "SUBJECT", "OUTCOME", "TOOK", "ERROR"]);
    for row in rows {
        let outcome = match row.text("Outcome") {
            "" => Text("running".to_owned(), Tone::Strong),
            word => Text::outcome(word),
        };
        grid.row([
            row.text("Id").into(),
            here.moment(row.time("Started").or_else(|| row.time("Finished"))).into(),
            row.text("Kind").into(),
            row.text("Subject").into(),
            outcome,
            took(row).map_or_else(|| "-".to_owned(), elapsed).into(),
            reason(row).lines().next().unwrap_or_default().into(),
        ]);
    }
    grid
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;
    use serde_json::json;

    fn here() -> Here {
        Here { now: "2023-11-15T22:13:20Z".parse().unwrap(), zone: TimeZone::UTC }
    }

    fn args() -> HistoryArgs {
        HistoryArgs { backup: None, instance: None, kind: None, outcome: None, since: None, limit: 20 }
    }

    #[test]
    fn a_backup_is_looked_for_by_kind_and_subject() {
        let filter = filter(HistoryArgs { backup: Some("nightly".into()), ..args() }, &here()).unwrap();
        assert_eq!(filter["kind"], "backup".into());
        assert_eq!(filter["subject"], "nightly".into());
        assert_eq!(filter["limit"], 20_u32.into());
    }

    #[test]
    fn a_time_that_is_none_is_a_usage_error() {
        let error = filter(HistoryArgs { since: Some("soon".into()), ..args() }, &here()).unwrap_err();
        assert_eq!(error.exit, Exit::Usage);
    }

    #[test]
    fn only_the_first_line_of_an_error_is_in_the_table() {
        let row = json!({"Id": "j1", "Kind": "backup", "Subject": "n", "Outcome": "failed", "Error": "first\nsecond"});
        let text = table(&[Row::from(row.as_object().unwrap().clone())], &here()).draw(false, None);
        assert!(text.contains("first") && !text.contains("second"), "{text}");
    }
}
