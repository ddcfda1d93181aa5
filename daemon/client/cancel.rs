//! `holdfast cancel`: cancels a running job.

use clap::Args;

use super::Context;
use super::daemon::JobProxy;
use super::failure::{Done, Exit};
use super::wire::object_path;

/// `holdfast cancel`
#[derive(Debug, Args)]
pub(super) struct CancelArgs {
    /// The job's id, as `holdfast status` shows it
    job: String,
}

pub(super) async fn cancel(context: &Context, args: CancelArgs) -> Done {
    let daemon = context.daemon().await?;
    let job = JobProxy::new(&daemon.connection, object_path("job", &args.job)).await;
    let job = job.map_err(|error| daemon.failure(error))?;
    job.cancel().await.map_err(|error| daemon.failure_of(error, "job", &args.job))?;
    if context.out.json {
        context.out.value(&daemon.named("job", "Job", &args.job).await?.json());
    } else {
        context.out.line(format!("cancelling the job {}", args.job));
    }
    Ok(Exit::Done)
}
