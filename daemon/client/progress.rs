//! How a job goes, and how it went: a bar on a terminal, a line per phase elsewhere, a summary at the end.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use jiff::{SignedDuration, Timestamp};

use super::failure::{Exit, Failure};
use super::format::{count, elapsed, short, size};
use super::output::Out;
use super::wire::Row;

const SPINNER: &str = "{spinner} {msg}";
const BAR: &str = "{spinner} {msg} [{bar:28}] {binary_bytes}/{binary_total_bytes}, {eta} left";

/// Shows a running job on standard error.
pub(super) struct Progress<'a> {
    out: &'a Out,
    bar: Option<ProgressBar>,
    shown: String,
}

impl<'a> Progress<'a> {
    pub(super) fn new(out: &'a Out) -> Self {
        let bar = std::io::stderr().is_terminal().then(ProgressBar::new_spinner);
        if let Some(bar) = &bar {
            bar.set_style(style(SPINNER));
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        Self { out, bar, shown: String::new() }
    }

    /// Shows where the job stands now.
    pub(super) fn show(&mut self, row: &Row) {
        let headline = headline(row);
        match &self.bar {
            Some(bar) => advance(bar, row, headline),
            None if headline != self.shown && !self.out.json => {
                self.out.note(&headline);
                self.shown = headline;
            }
            None => {}
        }
    }

    /// Takes the bar away.
    pub(super) fn end(self, row: &Row) {
        if let Some(bar) = &self.bar {
            bar.set_position(row.number("BytesDone"));
            bar.finish_and_clear();
        }
    }
}

fn advance(bar: &ProgressBar, row: &Row, headline: String) {
    let total = row.number("BytesTotal");
    if total > 0 {
        if bar.length() != Some(total) {
            bar.set_length(total);
            bar.set_style(style(BAR).progress_chars("=> "));
        }
        bar.set_position(row.number("BytesDone").min(total));
    }
    bar.set_message(headline);
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// `backup nightly: snapshot, 1 of 3 units done`, or what it waits for.
pub(super) fn headline(row: &Row) -> String {
    let mut text = format!("{} {}: {}", row.text("Kind"), row.text("Subject"), row.text("Phase"));
    let units = row.rows("Units");
    let done = units.iter().filter(|unit| !unit.text("outcome").is_empty()).count();
    if units.len() > 1 {
        text.push_str(&format!(", {done} of {} units done", units.len()));
    }
    if !row.text("Waiting").is_empty() {
        text.push_str(&format!(", waiting: {}", row.text("Waiting")));
    }
    text
}

/// What came of a job: one line for it, one for each unit.
pub(super) fn summary(row: &Row) -> Vec<String> {
    let mut first = format!("{} {}: {}", row.text("Kind"), row.text("Subject"), row.text("Outcome"));
    if let Some(took) = took(row) {
        first.push_str(&format!(" after {}", elapsed(took)));
    }
    let units = row.rows("Units");
    let sum = |key: &str| units.iter().map(|unit| unit.number(key)).sum::<u64>();
    if sum("files") > 0 {
        first.push_str(&format!(", {}, {}", count(sum("files"), "file"), size(sum("bytes"))));
    }
    let mut lines = vec![first];
    // What a failed job ends with is not said twice.
    let said =
        if Exit::of_outcome(row.text("Outcome")) == Exit::Failed { reason(row) } else { String::new() };
    lines.extend(units.iter().map(|unit| unit_line(unit, &said)));
    lines
}

/// How long a job ran; none: it never began, or is not over.
pub(super) fn took(row: &Row) -> Option<SignedDuration> {
    let (started, finished): (Timestamp, Timestamp) = (row.time("Started")?, row.time("Finished")?);
    Some(finished.duration_since(started))
}

fn unit_line(unit: &Row, said: &str) -> String {
    let mut text = format!("  {}: {}", unit_name(unit), unit.text("outcome"));
    if !unit.text("snapshot").is_empty() {
        text.push_str(&format!(", snapshot {}", short(unit.text("snapshot"))));
    }
    if unit.number("downtime") > 0 {
        let tenths = unit.number("downtime").div_ceil(100_000);
        text.push_str(&format!(", services were down for {}.{} s", tenths / 10, tenths % 10));
    }
    let error = Some(unit.text("error")).filter(|error| *error != said);
    for line in error.into_iter().flat_map(str::lines) {
        text.push_str(&format!("\n    {line}"));
    }
    text
}

/// `notes1 in local`, or the repository alone.
fn unit_name(unit: &Row) -> String {
    match unit.text("instance") {
        "" => unit.text("repository").to_owned(),
        instance => format!("{instance} in {}", unit.text("repository")),
    }
}

/// What went wrong: the job's own error, or that of the first unit that has one; empty where there is none.
pub(super) fn reason(row: &Row) -> String {
    if !row.text("Error").is_empty() {
        return row.text("Error").to_owned();
    }
    let units = row.rows("Units");
    units.iter().map(|unit| unit.text("error")).find(|error| !error.is_empty()).unwrap_or_default().to_owned()
}

/// Why a job failed, for the eyes.
pub(super) fn explained(row: &Row) -> Failure {
    let (id, outcome) = (row.text("Id"), row.text("Outcome"));
    let why = reason(row);
    let why = if why.is_empty() { "the daemon gave no reason".to_owned() } else { why };
    let verb = if outcome == "interrupted" { "was interrupted" } else { outcome };
    Failure::new(
        Exit::of_outcome(outcome),
        format!("{} {} {verb}: {why}", row.text("Kind"), row.text("Subject")),
    )
    .hint(format!("`holdfast logs {id}` shows every step of it"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn job(extra: Value) -> Row {
        let mut row = json!({
            "Id": "j1", "Kind": "backup", "Subject": "nightly", "Phase": "snapshot", "Outcome": "",
            "Waiting": "", "Started": 1_000_000, "Finished": 3_500_000, "BytesDone": 0,
            "Units": [{"instance": "notes1", "repository": "local", "outcome": "succeeded", "snapshot": "0123456789ab", "downtime": 1_150_000,
                "bytes": 2048, "files": 2}],
        });
        let more = extra.as_object().unwrap().clone();
        row.as_object_mut().unwrap().extend(more);
        Row::from(row.as_object().unwrap().clone())
    }

    #[test]
    fn a_phase_is_one_line_that_says_what_is_waited_for() {
        assert_eq!(headline(&job(json!({}))), "backup nightly: snapshot");
        assert_eq!(
            headline(&job(json!({"Phase": "queued", "Waiting": "repository local is being pruned"}))),
            "backup nightly: queued, waiting: repository local is being pruned"
        );
        let units = json!([{"outcome": "failed"}, {"outcome": ""}]);
        assert_eq!(headline(&job(json!({"Units": units}))), "backup nightly: snapshot, 1 of 2 units done");
    }

    #[test]
    fn the_summary_names_outcome_time_size_and_each_snapshot() {
        assert_eq!(
            summary(&job(json!({"Outcome": "succeeded"}))),
            [
                "backup nightly: succeeded after 2.5 s, 2 files, 2.0 KiB",
                "  notes1 in local: succeeded, snapshot 01234567, services were down for 1.2 s"
            ]
        );
    }

    #[test]
    fn a_failed_job_gives_its_reason_and_the_way_to_its_log() {
        let failure = explained(&job(json!({"Outcome": "failed", "Error": "notes1: dump failed"})));
        assert_eq!(failure.message, "backup nightly failed: notes1: dump failed");
        assert_eq!(failure.exit, Exit::Failed);
        assert!(failure.hint.unwrap().contains("holdfast logs j1"));
        let units = json!([{"error": ""}, {"error": "the disk is full"}]);
        let failure = explained(&job(json!({"Outcome": "failed", "Error": "", "Units": units})));
        assert_eq!(failure.message, "backup nightly failed: the disk is full");
        let lines =
            summary(&job(json!({"Outcome": "failed", "Units": [{"error": "the disk is full"}]}))).join("\n");
        assert!(!lines.contains("the disk is full"), "said twice: {lines}");
    }
}
