//! `holdfast status`: what is defined, what runs, what comes next, what is not well.

use serde_json::{Value, json};

use super::Context;
use super::backup;
use super::daemon::Objects;
use super::failure::{Done, Exit};
use super::format::Here;
use super::output::{Grid, Out, Text, Tone};
use super::progress::headline;
use super::wire::{Row, json_rows};

pub(super) async fn status(context: &Context) -> Done {
    let daemon = context.daemon().await?;
    let manager = daemon.overview().await?;
    let objects = daemon.objects().await?;
    let findings = manager.texts("Findings");
    let problems: Vec<String> =
        findings.iter().map(ToString::to_string).chain(problems(&objects, &context.here)).collect();
    if context.out.json {
        context.out.value(&as_json(&manager, &objects, &problems));
    } else {
        show(&context.out, &manager, &objects, &problems, &context.here);
    }
    Ok(Exit::Done)
}

fn as_json(manager: &Row, objects: &Objects, problems: &[String]) -> Value {
    let mut value = manager.json();
    value["backups"] = json_rows(&objects.backups);
    value["repositories"] = json_rows(&objects.repositories);
    value["instances"] = json_rows(&objects.instances);
    value["jobs"] = json_rows(&objects.jobs);
    value["problems"] = json!(problems);
    value
}

fn show(out: &Out, manager: &Row, objects: &Objects, problems: &[String], here: &Here) {
    out.line(out.paint(Tone::Strong, &first_line(manager, objects)));
    if let Some(text) = paused(manager, here) {
        out.line(out.paint(Tone::Note, &text));
    }
    section(out, &running(objects));
    section(out, &backup::table(&objects.backups, here).into());
    section(out, &problems_block(problems));
    section(out, &hints(objects));
}

/// A block of the overview.
enum Block {
    Table(Grid),
    Lines(&'static str, Tone, Vec<String>),
}

impl From<Grid> for Block {
    fn from(grid: Grid) -> Self {
        Self::Table(grid)
    }
}

fn section(out: &Out, block: &Block) {
    match block {
        Block::Table(grid) if !grid.is_empty() => {
            out.line("");
            out.grid(grid);
        }
        Block::Lines(title, tone, lines) if !lines.is_empty() => {
            out.line("");
            out.line(out.paint(*tone, title));
            lines.iter().for_each(|line| out.line(format!("  {}", line.replace('\n', "\n  "))));
        }
        _ => {}
    }
}

/// `holdfastd 0.1.0, restic 0.14.0: 2 backups, 1 repository, 3 instances, 1 running`
fn first_line(manager: &Row, objects: &Objects) -> String {
    let number = |rows: &[Row], one: &str, many: &str| {
        format!("{} {}", rows.len(), if rows.len() == 1 { one } else { many })
    };
    let running = objects.jobs.iter().filter(|job| job.text("Outcome").is_empty()).count();
    let restic = match manager.text("ResticVersion") {
        "" => "no restic found".to_owned(),
        version => format!("restic {version}"),
    };
    format!(
        "holdfastd {}, {restic}: {}, {}, {}, {running} running",
        manager.text("Version"),
        number(&objects.backups, "backup", "backups"),
        number(&objects.repositories, "repository", "repositories"),
        number(&objects.instances, "instance", "instances"),
    )
}

/// What a pause means for the reader; none: not paused.
fn paused(manager: &Row, here: &Here) -> Option<String> {
    if !manager.flag("Paused") {
        return None;
    }
    let until = match manager.time("PausedUntil") {
        Some(time) => format!("until {}", here.moment(Some(time))),
        None => "until `holdfast resume`".to_owned(),
    };
    Some(format!("paused {until}: no schedule runs anything"))
}

fn running(objects: &Objects) -> Block {
    let mut grid = Grid::new(&["JOB", "DOING", "PROGRESS"]);
    for job in objects.jobs.iter().filter(|job| job.text("Outcome").is_empty()) {
        let percent = format!("{:.0} %", job.fraction("Progress") * 100.0);
        grid.row([Text(job.text("Id").to_owned(), Tone::Strong), headline(job).into(), percent.into()]);
    }
    grid.into()
}

/// What is not well, each with what to do.
fn problems(objects: &Objects, here: &Here) -> Vec<String> {
    let backups = objects.backups.iter().filter_map(|row| backup_problem(row, here));
    backups.chain(objects.repositories.iter().filter_map(repository_problem)).collect()
}

fn backup_problem(row: &Row, here: &Here) -> Option<String> {
    let name = row.text("Name");
    let outcome = row.text("LastOutcome");
    let success = here.age(row.time("LastSuccess"));
    match outcome {
        "failed" | "interrupted" | "cancelled" => Some(format!(
            "{name}: the last run {} ({}), last success: {success}; `holdfast history --backup {name}` shows why",
            if outcome == "failed" { "failed".to_owned() } else { format!("was {outcome}") },
            here.age(row.time("LastRun")),
        )),
        "warning" => {
            Some(format!("{name}: the last run left warnings; `holdfast history --backup {name}` shows them"))
        }
        _ if row.texts("Instances").is_empty() => {
            Some(format!("{name}: it covers no instance that is defined"))
        }
        _ if row.flag("Enabled") && !row.text("Schedule").is_empty() && row.time("NextRun").is_none() => {
            Some(format!("{name}: its schedule has no next run"))
        }
        _ => None,
    }
}

fn repository_problem(row: &Row) -> Option<String> {
    let name = row.text("Name");
    let text = format!("{name}: the last check found damage; `holdfast history --kind check` shows what");
    row.flag("Damaged").then_some(text)
}

fn problems_block(problems: &[String]) -> Block {
    let title = if problems.len() == 1 { "Needs a look" } else { "Need a look" };
    Block::Lines(title, Tone::Bad, problems.to_vec())
}

/// What to do next where something is not there yet.
fn hints(objects: &Objects) -> Block {
    let mut lines = Vec::new();
    if objects.backups.is_empty() {
        lines.push(
            "`holdfast init` asks what to back up, where to and when, and makes the first backup; or by hand:"
                .to_owned(),
        );
    }
    if objects.instances.is_empty() {
        lines.push(
            "say what to protect, in /etc/holdfast/conf.d/files.toml:\n  [instance.files]\n  include = [\"/srv/data\", \"/home\"]\nthen `holdfast reload`"
                .to_owned(),
        );
    }
    if objects.repositories.is_empty() {
        lines.push(
            "say where it goes: `holdfast repository add local --url /var/backups/holdfast`".to_owned(),
        );
    }
    if objects.backups.is_empty() {
        let repository = objects.repositories.first().map_or("local", |row| row.text("Name"));
        lines.push(format!(
            "say when: `holdfast backup add nightly --repository {repository} --instance '*' --schedule daily --retention 7`"
        ));
    } else if objects.backups.iter().all(|row| row.time("LastRun").is_none()) {
        lines.push(format!("make the first one: `holdfast run {}`", objects.backups[0].text("Name")));
    }
    Block::Lines("What to do next", Tone::Strong, lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;

    fn here() -> Here {
        Here { now: "2023-11-14T22:13:20Z".parse().unwrap(), zone: TimeZone::UTC }
    }

    fn row(value: Value) -> Row {
        Row::from(value.as_object().unwrap().clone())
    }

    fn backup_row(outcome: &str) -> Row {
        row(json!({
            "Name": "nightly", "Schedule": "daily", "Enabled": true, "NextRun": 1_700_010_800_000_000_u64,
            "LastRun": 1_699_992_800_000_000_u64, "LastSuccess": 0, "LastOutcome": outcome, "Instances": ["a"],
        }))
    }

    #[test]
    fn a_failed_backup_and_a_damaged_repository_are_named_with_the_way_on() {
        let objects = Objects {
            backups: vec![backup_row("failed"), backup_row("succeeded")],
            repositories: vec![row(json!({"Name": "b2", "Damaged": true}))],
            ..Objects::default()
        };
        let found = problems(&objects, &here());
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with("nightly: the last run failed (2 h ago), last success: never"),
            "{}",
            found[0]
        );
        assert!(found[0].contains("holdfast history --backup nightly"));
        assert!(found[1].starts_with("b2: the last check found damage"), "{}", found[1]);
    }

    #[test]
    fn an_empty_daemon_says_what_to_write() {
        let Block::Lines(_, _, lines) = hints(&Objects::default()) else { panic!("no lines") };
        assert_eq!(lines.len(), 4);
        assert!(lines[0].contains("`holdfast init`"), "{lines:?}");
        assert!(lines[1].contains("[instance.files]") && lines[3].contains("holdfast backup add"));
    }

    #[test]
    fn a_pause_has_an_end_or_says_how_to_end_it() {
        let until = row(json!({"Paused": true, "PausedUntil": 1_700_003_600_000_000_u64}));
        assert_eq!(
            paused(&until, &here()).unwrap(),
            "paused until 2023-11-14 23:13 (in 60 min): no schedule runs anything"
        );
        let endless = row(json!({"Paused": true, "PausedUntil": 0}));
        assert!(paused(&endless, &here()).unwrap().contains("holdfast resume"));
        assert_eq!(paused(&row(json!({"Paused": false})), &here()), None);
    }

    #[test]
    fn json_has_the_keys_of_the_bus() {
        let objects = Objects { backups: vec![backup_row("succeeded")], ..Objects::default() };
        let value = as_json(&row(json!({"Version": "0.1.0"})), &objects, &[]);
        assert_eq!(value["Version"], "0.1.0");
        assert_eq!(value["backups"][0]["NextRun"], 1_700_010_800_000_000_u64);
        assert_eq!(value["problems"], json!([]));
    }
}
