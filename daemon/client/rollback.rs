//! `holdfast rollback`: puts back what the last restore of an instance replaced.

use clap::Args;

use super::Context;
use super::failure::Done;
use super::follow::conclude;

/// `holdfast rollback`
#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    /// The instance's name
    instance: String,
    /// Print the job's id and do not wait for its end
    #[arg(long)]
    no_wait: bool,
}

pub(super) async fn rollback(context: &Context, args: RollbackArgs) -> Done {
    let daemon = context.daemon().await?;
    let call = daemon.manager.rollback(&args.instance);
    conclude(context, &daemon, call, !args.no_wait).await
}
