//! `holdfast run`: runs a backup now.

use clap::Args;

use super::Context;
use super::daemon::Options;
use super::failure::Done;
use super::follow::conclude;

/// `holdfast run`
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The backup's name
    backup: String,
    /// Only this instance; may be given several times
    #[arg(long = "instance", value_name = "INSTANCE")]
    instances: Vec<String>,
    /// Print the job's id and do not wait for its end
    #[arg(long)]
    no_wait: bool,
}

pub(super) async fn run(context: &Context, args: RunArgs) -> Done {
    let daemon = context.daemon().await?;
    let mut options = Options::new();
    if !args.instances.is_empty() {
        options.insert("instances", args.instances.into());
    }
    let call = daemon.manager.run_backup(&args.backup, options);
    conclude(context, &daemon, call, !args.no_wait).await
}
