//! `holdfast check`: checks a repository for damage.

use clap::Args;

use super::Context;
use super::daemon::Options;
use super::failure::Done;
use super::follow::conclude;

/// `holdfast check`
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The repository's name
    repository: String,
    /// How much data to read back: 1/12, 10% or all; default: as defined
    #[arg(long, value_name = "PART")]
    read_data: Option<String>,
    /// Print the job's id and do not wait for its end
    #[arg(long)]
    no_wait: bool,
}

pub(super) async fn check(context: &Context, args: CheckArgs) -> Done {
    let daemon = context.daemon().await?;
    let mut options = Options::new();
    if let Some(part) = args.read_data {
        options.insert("read_data", part.into());
    }
    let call = daemon.manager.check(&args.repository, options);
    conclude(context, &daemon, call, !args.no_wait).await
}
