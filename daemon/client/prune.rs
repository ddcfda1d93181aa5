//! `holdfast prune`: removes unused data from a repository.

use clap::Args;

use super::Context;
use super::failure::Done;
use super::follow::conclude;

/// `holdfast prune`
#[derive(Debug, Args)]
pub(super) struct PruneArgs {
    /// The repository's name
    repository: String,
    /// Print the job's id and do not wait for its end
    #[arg(long)]
    no_wait: bool,
}

pub(super) async fn prune(context: &Context, args: PruneArgs) -> Done {
    let daemon = context.daemon().await?;
    let call = daemon.manager.prune(&args.repository);
    conclude(context, &daemon, call, !args.no_wait).await
}
