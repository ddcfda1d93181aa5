//! `holdfast plan`: what a restore would do.

use clap::Args;
use serde_json::Value;

use super::Context;
use super::failure::{Done, Exit, Failure};
use super::format::{count, short, size};
use super::restore::{What, options};

/// `holdfast plan`
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// The instances' names; or REPOSITORY:MODULE/UUID of one that is not defined here, see `repository contents`
    #[arg(required = true)]
    instances: Vec<String>,
    #[command(flatten)]
    what: What,
}

pub(super) async fn plan(context: &Context, args: PlanArgs) -> Done {
    plans(context, &args.instances, &args.what).await
}

/// Asks for the plan of each; 1 when one would be refused.
pub(super) async fn plans(context: &Context, instances: &[String], what: &What) -> Done {
    let daemon = context.daemon().await?;
    let mut exit = Exit::Done;
    for instance in instances {
        let snapshot = what.snapshot.as_deref().unwrap_or_default();
        let plan = daemon.manager.plan(instance, snapshot, options(what, context)?).await;
        let text = plan.map_err(|error| daemon.failure(error))?;
        if show(context, &text)? == Exit::Failed {
            exit = Exit::Failed;
        }
    }
    Ok(exit)
}

/// Prints a plan; 1 when it would be refused.
pub(super) fn show(context: &Context, text: &str) -> Done {
    let plan: Value = serde_json::from_str(text)
        .map_err(|error| Failure::failed(format!("the daemon's plan makes no sense: {error}")))?;
    if context.out.json {
        context.out.value(&plan);
    } else {
        lines(&plan).iter().for_each(|line| context.out.line(line));
    }
    Ok(if rows(&plan, "problems").is_empty() { Exit::Done } else { Exit::Failed })
}

fn rows<'a>(plan: &'a Value, key: &str) -> &'a [Value] {
    plan[key].as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// How many paths of a list are shown.
const SHOWN: usize = 20;

fn lines(plan: &Value) -> Vec<String> {
    let snapshot = short(text(&plan["snapshot"]));
    let mut lines = vec![format!(
        "{} from snapshot {snapshot} in {}",
        text(&plan["instance"]),
        text(&plan["repository"])
    )];
    if !text(&plan["target"]).is_empty() {
        lines.push(format!("  into {}; the live data stays as it is", text(&plan["target"])));
    }
    if !text(&plan["define"]).is_empty() {
        lines.push(format!("  define it in {}", text(&plan["define"])));
    }
    if let Some(name) = plan["create_user"]["name"].as_str() {
        let uid = plan["create_user"]["uid"].as_u64().map(|uid| format!(" with its saved number {uid}"));
        lines.push(format!("  create the user {name}{}", uid.unwrap_or_default()));
    }
    for (verb, key) in [("create", "create"), ("replace", "replace")] {
        for row in rows(plan, key) {
            let bytes = size(row["bytes"].as_u64().unwrap_or(0));
            let files = count(row["files"].as_u64().unwrap_or(0), "file");
            lines.push(format!("  {verb} {} ({files}, {bytes})", text(&row["live"])));
        }
    }
    for row in rows(plan, "dumps") {
        let bytes = size(row["bytes"].as_u64().unwrap_or(0));
        let given = if row["given"] == true { "the file that was given, " } else { "" };
        lines.push(format!("  {} ({given}{bytes}): {}", text(&row["file"]), text(&row["how"])));
    }
    for (verb, key, all) in [
        ("delete", "delete", "delete_count"),
        ("carry over", "carry_over", "carry_over_count"),
        ("create volume", "create_volumes", ""),
        ("empty, and fill by copying (not by a swap)", "fill_volumes", ""),
        ("run step", "steps", ""),
        ("stop", "stop", ""),
    ] {
        let rows = rows(plan, key);
        lines.extend(rows.iter().take(SHOWN).map(|row| format!("  {verb} {}", text(row))));
        let all = plan[all].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(rows.len());
        if all > SHOWN.min(rows.len()) {
            lines.push(format!("  {verb} {} more", all - SHOWN.min(rows.len())));
        }
    }
    lines.extend(rows(plan, "warnings").iter().map(|row| format!("  note: {}", text(row))));
    lines.extend(rows(plan, "problems").iter().map(|row| format!("  refused: {}", text(row))));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_plan_says_each_thing_once_and_counts_what_it_does_not_list() {
        let names: Vec<String> = (0..30).map(|n| format!("state/x{n}")).collect();
        let plan = json!({
            "instance": "wiki1", "repository": "local", "snapshot": "0123456789", "target": "",
            "replace": [{"path": "state/a", "live": "/w/state/a", "files": 2, "bytes": 2048}],
            "dumps": [{"file": "dumps/db/shop.dump", "bytes": 1024, "how": "loaded"}],
            "delete": names, "delete_count": 2000, "problems": ["no room"],
        });
        let lines = lines(&plan);
        assert_eq!(lines[0], "wiki1 from snapshot 01234567 in local");
        assert_eq!(lines[1], "  replace /w/state/a (2 files, 2.0 KiB)");
        assert_eq!(lines[2], "  dumps/db/shop.dump (1.0 KiB): loaded");
        assert_eq!(lines[23], "  delete 1980 more");
        assert_eq!(lines.last().unwrap(), "  refused: no room");
    }
}
