//! Watches a job until it ends.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use zbus::OwnedObjectPath;
use zbus::fdo::{PropertiesChanged, PropertiesChangedStream};
use zbus::proxy::OwnerChangedStream;

use super::Context;
use super::daemon::{Daemon, JobProxy, JobRemovedStream, Options, is_unknown_object};
use super::failure::{Done, Exit, Failure};
use super::progress::{self, Progress};
use super::wire::{Row, SERVICE, to_json};
use crate::process::next;

/// How long no signal may come before the daemon is asked how the job stands.
const QUIET: Duration = Duration::from_secs(20);

/// Makes the call that starts a job, follows the job to its end and says what came of it; `wait` false: only names it.
///
/// Ctrl-C is heard from before the call on: a job that was started is never left unknowingly.
pub(super) async fn conclude(
    context: &Context,
    daemon: &Daemon,
    call: impl Future<Output = zbus::Result<OwnedObjectPath>>,
    wait: bool,
) -> Done {
    let mut interrupt = listen()?;
    let job = answered(daemon, call, &mut interrupt).await?;
    if !wait {
        return named(context, daemon, &job).await;
    }
    let row = follow(context, daemon, &job, &mut interrupt).await?;
    let exit = Exit::of_outcome(row.text("Outcome"));
    if context.out.json {
        context.out.value(&row.json());
    } else {
        progress::summary(&row).iter().for_each(|line| context.out.line(line));
    }
    match exit {
        Exit::Failed => Err(progress::explained(&row)),
        exit => Ok(exit),
    }
}

/// Makes the call that starts a job, which is followed later.
pub(super) async fn started(
    daemon: &Daemon,
    call: impl Future<Output = zbus::Result<OwnedObjectPath>>,
) -> Result<OwnedObjectPath, Failure> {
    answered(daemon, call, &mut listen()?).await
}

async fn answered(
    daemon: &Daemon,
    call: impl Future<Output = zbus::Result<OwnedObjectPath>>,
    interrupt: &mut Signal,
) -> Result<OwnedObjectPath, Failure> {
    tokio::select! {
        job = call => job.map_err(|error| daemon.failure(error)),
        _ = interrupt.recv() => Err(unanswered()),
    }
}

fn listen() -> Result<Signal, Failure> {
    signal(SignalKind::interrupt()).map_err(|error| Failure::failed(format!("listening for Ctrl-C: {error}")))
}

/// Cancels jobs that were started together with one that somebody cancelled; those that have ended stay as they are.
pub(super) async fn cancel_all(daemon: &Daemon, jobs: impl Iterator<Item = &OwnedObjectPath>) {
    for path in jobs {
        if let Ok(job) = JobProxy::new(&daemon.connection, path.clone()).await {
            let _ = job.cancel().await;
        }
    }
}

fn unanswered() -> Failure {
    let message = "interrupted before the daemon answered: it may have begun the job";
    Failure::new(Exit::Cancelled, message).hint("`holdfast status` shows whether it runs")
}

async fn named(context: &Context, daemon: &Daemon, job: &OwnedObjectPath) -> Done {
    let row = daemon.properties(job.as_str(), "Job").await.map_err(|error| daemon.failure(error))?;
    if context.out.json {
        context.out.value(&row.json());
    } else {
        context.out.line(row.text("Id"));
    }
    Ok(Exit::Done)
}

/// What the watch saw.
enum News {
    Changed,
    Ended,
    DaemonGone,
}

/// The signals that belong to one job. Subscribed before the first look, so that nothing falls between.
struct Watch<'a> {
    daemon: &'a Daemon,
    path: &'a OwnedObjectPath,
    row: Row,
    changes: PropertiesChangedStream,
    removed: JobRemovedStream,
    owner: OwnerChangedStream<'static>,
}

async fn follow(
    context: &Context,
    daemon: &Daemon,
    path: &OwnedObjectPath,
    interrupt: &mut Signal,
) -> Result<Row, Failure> {
    let mut watch = Watch::start(daemon, path).await.map_err(|error| daemon.failure(error))?;
    let mut progress = Progress::new(&context.out);
    let mut asked_to_cancel = false;
    while watch.row.text("Outcome").is_empty() {
        progress.show(&watch.row);
        let news = tokio::select! {
            news = watch.news() => news.map_err(|error| daemon.failure(error))?,
            _ = interrupt.recv() => {
                interrupted(context, daemon, path, &watch.row, asked_to_cancel).await?;
                asked_to_cancel = true;
                continue;
            }
        };
        match news {
            News::Changed => {}
            News::Ended => break,
            News::DaemonGone => return Err(daemon.gone(watch.row.text("Id"))),
        }
    }
    progress.end(&watch.row);
    Ok(watch.row)
}

/// The first Ctrl-C cancels the job, the second leaves it alone.
async fn interrupted(
    context: &Context,
    daemon: &Daemon,
    path: &OwnedObjectPath,
    row: &Row,
    again: bool,
) -> Result<(), Failure> {
    let id = row.text("Id");
    if again {
        let left = Failure::new(
            Exit::Cancelled,
            format!("no longer following the job {id}, which is being cancelled"),
        );
        return Err(left.hint(format!("`holdfast history` says what became of the job {id}")));
    }
    context.out.note(format!("cancelling the job {id}; Ctrl-C again leaves without waiting for its end"));
    let job = JobProxy::new(&daemon.connection, path.clone()).await;
    let job = job.map_err(|error| daemon.failure(error))?;
    match job.cancel().await {
        Err(error) if is_unknown_object(&error) => Ok(()),
        Err(error) => Err(daemon.failure(error).hint(format!("the job {id} goes on"))),
        Ok(()) => Ok(()),
    }
}

impl<'a> Watch<'a> {
    async fn start(daemon: &'a Daemon, path: &'a OwnedObjectPath) -> zbus::Result<Self> {
        let properties = daemon.properties_proxy(path.as_str()).await?;
        let changes = properties.receive_properties_changed().await?;
        let removed = daemon.manager.receive_job_removed().await?;
        let owner = daemon.manager.inner().receive_owner_changed().await?;
        let row = daemon.properties(path.as_str(), "Job").await?;
        Ok(Self { daemon, path, row, changes, removed, owner })
    }

    /// Waits for the next signal that says something about the job.
    async fn news(&mut self) -> zbus::Result<News> {
        loop {
            tokio::select! {
                change = next(&mut self.changes) => match change {
                    Some(change) => self.take(&change).await?,
                    None => return Ok(News::DaemonGone),
                },
                removed = next(&mut self.removed) => {
                    let Some(removed) = removed else { return Ok(News::DaemonGone) };
                    let args = removed.args()?;
                    if *args.job() == **self.path {
                        let outcome = args.outcome();
                        return self.ended(outcome).await;
                    }
                    continue;
                }
                owner = next(&mut self.owner) => match owner {
                    Some(Some(_)) => continue,
                    _ => return Ok(News::DaemonGone),
                },
                () = tokio::time::sleep(QUIET) => self.look().await?,
            }
            return Ok(News::Changed);
        }
    }

    /// Asks what no signal told: one may have been lost.
    async fn look(&mut self) -> zbus::Result<()> {
        match self.daemon.properties(self.path.as_str(), "Job").await {
            Err(error) if is_unknown_object(&error) => self.look_into_history().await,
            row => row.map(|row| self.row = row),
        }
    }

    /// A job whose object is gone has ended a while ago.
    async fn look_into_history(&mut self) -> zbus::Result<()> {
        let mut jobs = self.daemon.manager.list_jobs(Options::new()).await?.into_iter().map(Row::from);
        if let Some(row) = jobs.find(|job| job.text("Id") == self.row.text("Id")) {
            self.row = row;
        }
        Ok(())
    }

    async fn take(&mut self, change: &PropertiesChanged) -> zbus::Result<()> {
        let args = change.args()?;
        if args.interface_name().as_str() != format!("{SERVICE}.Job") {
            return Ok(());
        }
        if !args.invalidated_properties().is_empty() {
            self.row = self.daemon.properties(self.path.as_str(), "Job").await?;
            return Ok(());
        }
        for (key, value) in args.changed_properties() {
            self.row.set(key, to_json(value));
        }
        Ok(())
    }

    /// Reads the job a last time; should it be gone already, the signal's outcome stands.
    async fn ended(&mut self, outcome: &str) -> zbus::Result<News> {
        match self.daemon.properties(self.path.as_str(), "Job").await {
            Ok(row) => self.row = row,
            Err(error) if is_unknown_object(&error) => {}
            Err(error) => return Err(error),
        }
        self.row.set("Outcome", outcome);
        Ok(News::Ended)
    }
}
