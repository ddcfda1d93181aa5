//! `--no-daemon`: the daemon's own procedures in this process, on a system without a bus.

use serde_json::{Value, json};

use super::Context;
use super::failure::{Done, Exit, Failure};
use super::progress::{self, Progress};
use super::wire::Row;
use crate::control::{self, ErrorKind, JobView, RestoreOptions, SetView};
use crate::service::Alone;

/// The rooms in this process.
pub(super) async fn start(context: &Context) -> Result<Alone, Failure> {
    let (config, library) = (context.config.clone(), context.library.clone());
    let started = Alone::start(config, library, context.state.clone(), context.cache.clone()).await;
    started.map_err(|failure| {
        let refused = failure.downcast_ref::<std::io::Error>();
        let denied = refused.is_some_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied);
        let exit = if denied { Exit::NotAuthorized } else { Exit::Failed };
        Failure::new(exit, format!("{failure:#}")).hint("with a daemon that works, leave out --no-daemon")
    })
}

pub(super) fn refused(error: control::Error) -> Failure {
    let exit = if error.kind == ErrorKind::NotAuthorized { Exit::NotAuthorized } else { Exit::Failed };
    Failure::new(exit, error.message)
}

/// Restores one instance and follows the job to its end.
pub(super) async fn restore(
    context: &Context,
    alone: &Alone,
    instance: &str,
    snapshot: &str,
    options: RestoreOptions,
) -> Done {
    let started = alone.control.restore(instance, snapshot, options, "command").await;
    follow(context, alone, started.map_err(refused)?).await
}

/// Follows a job to its end. Ctrl-C cancels it.
pub(super) async fn follow(context: &Context, alone: &Alone, job: String) -> Done {
    let mut events = alone.control.subscribe();
    let mut progress = Progress::new(&context.out);
    let row = loop {
        let Some(view) = alone.control.job(&job) else {
            return Err(Failure::failed(format!("the job {job} is gone")));
        };
        let (over, row) = (view.record.outcome.is_some(), row(&view));
        if over {
            break row;
        }
        progress.show(&row);
        tokio::select! {
            _ = events.recv() => {}
            _ = tokio::signal::ctrl_c() => drop(alone.control.cancel(&job)),
        }
    };
    progress.end(&row);
    if context.out.json {
        context.out.value(&row.json());
    } else {
        progress::summary(&row).iter().for_each(|line| context.out.line(line));
    }
    match Exit::of_outcome(row.text("Outcome")) {
        Exit::Failed => Err(progress::explained(&row)),
        exit => Ok(exit),
    }
}

/// A job under the keys of the bus.
fn row(view: &JobView) -> Row {
    let record = &view.record;
    let time = |at: Option<jiff::Timestamp>| at.map_or(0, jiff::Timestamp::as_microsecond);
    let outcome = |outcome: Option<crate::state::Outcome>| outcome.map(|o| o.to_string()).unwrap_or_default();
    let units: Vec<Value> = record
        .units
        .iter()
        .map(|unit| {
            json!({
                "instance": unit.instance, "repository": unit.repository, "phase": unit.phase.to_string(),
                "outcome": outcome(unit.outcome), "snapshot": unit.snapshot, "error": unit.error,
                "bytes": unit.bytes, "files": unit.files, "downtime": unit.downtime,
            })
        })
        .collect();
    let state = match (record.outcome, record.started) {
        (Some(_), _) => "finished",
        (None, Some(_)) => "running",
        (None, None) => "queued",
    };
    let job = json!({
        "Id": record.id, "Kind": record.kind.to_string(), "Subject": record.subject, "State": state,
        "Phase": record.phase.to_string(), "Progress": view.progress, "BytesDone": record.bytes_done,
        "BytesTotal": record.bytes_total, "FilesDone": record.files_done, "Started": time(record.started),
        "Finished": time(record.finished), "Outcome": outcome(record.outcome), "Error": record.error,
        "Waiting": view.waiting, "Units": units,
    });
    Row::from(job.as_object().cloned().unwrap_or_default())
}

/// The sets of an instance, under the keys of the bus.
pub(super) async fn snapshots(context: &Context, instance: &str) -> Result<Vec<Row>, Failure> {
    let alone = start(context).await?;
    let sets = alone.control.list_snapshots(instance).await.map_err(refused)?;
    alone.end().await;
    Ok(sets.iter().map(set).collect())
}

fn set(view: &SetView) -> Row {
    let set = &view.record;
    let row = json!({
        "id": set.snapshot, "time": set.time.as_microsecond(), "set": set.set, "instance": set.instance,
        "uuid": set.uuid, "backup": set.backup, "repository": set.repository, "host": set.host, "kind": "tree",
        "size": set.size, "files": set.files, "version": set.version,
        "outcome": set.outcome.map(|o| o.to_string()).unwrap_or_default(), "name": view.name, "standing": view.standing,
    });
    Row::from(row.as_object().cloned().unwrap_or_default())
}
