//! The Prometheus text file, written by rename whenever something that it tells has changed.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use tracing::warn;

use crate::control::{BackupView, Control, Event};
use crate::state::{Kind, Outcome, durable};

/// Changes that come close together are written once.
const SETTLE: Duration = Duration::from_secs(2);

/// Keeps the file up to date until aborted. Without `metrics_file` nothing is written.
pub(super) async fn keep(control: Control) {
    let mut events = control.subscribe();
    loop {
        if let Some(path) = control.definitions().daemon.metrics_file.clone() {
            write(&control, path).await;
        }
        while let Ok(event) = events.recv().await {
            if matches!(event, Event::JobRemoved(..) | Event::DefinitionsChanged | Event::BackupChanged(_)) {
                break;
            }
        }
        tokio::time::sleep(SETTLE).await;
    }
}

async fn write(control: &Control, path: PathBuf) {
    let text = match text(control).await {
        Ok(text) => text,
        Err(failure) => return warn!("metrics could not be gathered: {failure:#}"),
    };
    let shown = path.display().to_string();
    let written = tokio::task::spawn_blocking(move || durable::write(&path, 0o644, text.as_bytes())).await;
    if let Ok(Err(failure)) = written {
        warn!("metrics could not be written to {shown}: {failure:#}");
    }
}

async fn text(control: &Control) -> anyhow::Result<String> {
    let mut out = Text::default();
    for name in control.definitions().backups.keys() {
        backup(&mut out, control, name).await?;
    }
    for name in control.definitions().repositories.keys() {
        repository(&mut out, control, name).await?;
    }
    for (kind, outcome, n) in control.jobs_total().await? {
        let labels = [("kind", kind.word()), ("outcome", outcome.word())];
        out.sample("holdfast_jobs_total", "counter", "Jobs that ended.", &labels, n);
    }
    let wakeups = control.wakeups();
    out.sample(
        "holdfast_wakeups_total",
        "counter",
        "How often the schedule woke since the daemon's start.",
        &[],
        wakeups.total,
    );
    out.sample(
        "holdfast_wakeups_per_hour",
        "gauge",
        "How often the schedule woke in an hour, on average since the daemon's start.",
        &[],
        wakeups.per_hour,
    );
    Ok(out.finish())
}

async fn backup(out: &mut Text, control: &Control, name: &str) -> anyhow::Result<()> {
    let view: BackupView = control.backup(name).await?;
    let labels = [("backup", name)];
    let mut gauge = |metric: &str, help: &str, value: i64| {
        out.sample(&format!("holdfast_backup_{metric}"), "gauge", help, &labels, value);
    };
    let seconds = |time: Option<Timestamp>| time.map_or(0, Timestamp::as_second);
    gauge(
        "last_success_timestamp_seconds",
        "End of the last job that made all sets; 0: never.",
        seconds(view.last_success),
    );
    gauge("next_run_timestamp_seconds", "When it will run by itself; 0: never.", seconds(view.next_run));
    if let Some(outcome) = view.last_outcome {
        gauge(
            "last_outcome",
            "0 skipped, 1 succeeded, 2 warning, 3 cancelled, 4 interrupted, 5 failed.",
            rank(outcome),
        );
    }
    if let Some(job) = control.last_job(Kind::Backup, name).await? {
        let took = job.started.zip(job.finished).map_or(0, |(from, to)| to.duration_since(from).as_secs());
        gauge("duration_seconds", "How long the last job took.", took);
        let added: u64 = job.units.iter().map(|unit| unit.bytes_added).sum();
        gauge("bytes_added", "Bytes that the last job added.", i64::try_from(added).unwrap_or(i64::MAX));
    }
    Ok(())
}

fn rank(outcome: Outcome) -> i64 {
    Outcome::ALL.iter().position(|o| *o == outcome).and_then(|n| i64::try_from(n).ok()).unwrap_or(-1)
}

async fn repository(out: &mut Text, control: &Control, name: &str) -> anyhow::Result<()> {
    let view = control.repository(name).await?;
    let labels = [("repository", name)];
    let seconds = |time: Option<Timestamp>| time.map_or(0, Timestamp::as_second);
    let mut gauge = |metric: &str, help: &str, value: i64| {
        out.sample(&format!("holdfast_repository_{metric}"), "gauge", help, &labels, value);
    };
    gauge("last_check_timestamp_seconds", "End of the last good check; 0: never.", seconds(view.last_check));
    gauge("last_prune_timestamp_seconds", "End of the last good prune; 0: never.", seconds(view.last_prune));
    gauge("damaged", "1: the last check found damage.", i64::from(view.damaged));
    Ok(())
}

/// Samples grouped by metric, as the text format wants them.
#[derive(Default)]
struct Text {
    groups: std::collections::BTreeMap<String, (String, String)>,
}

impl Text {
    fn sample(
        &mut self,
        metric: &str,
        kind: &str,
        help: &str,
        labels: &[(&str, &str)],
        value: impl std::fmt::Display,
    ) {
        let head = format!("# HELP {metric} {help}\n# TYPE {metric} {kind}\n");
        let (_, lines) = self.groups.entry(metric.to_owned()).or_insert_with(|| (head, String::new()));
        let labels: Vec<_> = labels.iter().map(|(k, v)| format!("{k}=\"{}\"", escaped(v))).collect();
        let _ = writeln!(lines, "{metric}{{{}}} {value}", labels.join(","));
    }

    fn finish(self) -> String {
        self.groups.into_values().map(|(head, lines)| head + &lines).collect()
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
