//! `holdfast snapshots`: lists the snapshots of an instance.

use clap::Args;

use super::failure::{Done, Exit};
use super::format::{Here, short, size};
use super::output::{Grid, Text, Tone};
use super::wire::{Row, json_rows};
use super::{Context, alone};

/// `holdfast snapshots`
#[derive(Debug, Args)]
pub(super) struct SnapshotsArgs {
    /// The instance's name
    instance: String,
    /// Ask the repositories from here, while no daemon runs
    #[arg(long)]
    no_daemon: bool,
}

pub(super) async fn snapshots(context: &Context, args: SnapshotsArgs) -> Done {
    let rows = if args.no_daemon {
        alone::snapshots(context, &args.instance).await?
    } else {
        let daemon = context.daemon().await?;
        let rows = daemon.manager.list_snapshots(&args.instance).await.map_err(|e| daemon.failure(e))?;
        rows.into_iter().map(Row::from).collect()
    };
    if context.out.json {
        context.out.value(&json_rows(&rows));
    } else if rows.is_empty() {
        context.out.note(format!("{} has no snapshot yet; `holdfast run BACKUP` makes one", args.instance));
    } else {
        context.out.grid(&table(&rows, &context.here));
    }
    Ok(Exit::Done)
}

/// The name is shown where it says more than the time: with a version.
fn table(rows: &[Row], here: &Here) -> Grid {
    let named = rows.iter().any(|row| !row.text("version").is_empty());
    let mut heads = vec!["SNAPSHOT"];
    heads.extend(named.then_some("NAME"));
    heads.extend(["TIME", "BACKUP", "REPOSITORY", "HOST", "FILES", "SIZE", "STANDING"]);
    let mut grid = Grid::new(&heads);
    for row in rows {
        let standing = row.text("standing");
        let tone = if standing.starts_with("latest") { Tone::Good } else { Tone::Plain };
        let mut cells: Vec<Text> = vec![short(row.text("id")).into()];
        cells.extend(named.then(|| Text::from(row.text("name"))));
        cells.extend([
            here.moment(row.time("time")).into(),
            row.text("backup").into(),
            row.text("repository").into(),
            row.text("host").into(),
            row.number("files").to_string().into(),
            size(row.number("size")).into(),
            Text(standing.to_owned(), tone),
        ]);
        grid.cells(cells);
    }
    grid
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;
    use serde_json::json;

    #[test]
    fn a_snapshot_is_one_line_with_its_short_id_and_age() {
        let row = json!({
            "id": "0123456789abcdef", "time": 1_700_000_000_000_000_u64, "backup": "nightly", "repository": "local",
            "host": "srv1", "files": 101, "size": 2048, "standing": "latest",
        });
        let here = Here { now: "2023-11-15T22:13:20Z".parse().unwrap(), zone: TimeZone::UTC };
        let text = table(&[Row::from(row.as_object().unwrap().clone())], &here).draw(false, None);
        let line = "01234567  2023-11-14 22:13 (24 h ago)  nightly  local       srv1  101    2.0 KiB  latest";
        assert_eq!(text.lines().nth(1), Some(line));
        let mut row = row;
        row["version"] = "1.0".into();
        row["name"] = "20231114T221320Z_1.0".into();
        let text = table(&[Row::from(row.as_object().unwrap().clone())], &here).draw(false, None);
        assert!(
            text.lines().nth(1).unwrap().starts_with("01234567  20231114T221320Z_1.0  2023-11-14"),
            "{text}"
        );
    }
}
