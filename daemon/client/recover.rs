//! `holdfast recover`: a failed instance comes back.

use clap::Args;

use super::daemon::Options;
use super::failure::Done;
use super::follow::conclude;
use super::{Context, alone};
use crate::control::RecoverOptions;

/// `holdfast recover`
#[derive(Debug, Args)]
pub(super) struct RecoverArgs {
    /// The instance's name
    instance: String,
    /// Do not keep the data that failed
    #[arg(long)]
    dont_save_failed: bool,
    /// Only restore: stop and start nothing
    #[arg(long)]
    no_start: bool,
    /// Earlier recoveries do not count against `recovery.attempts` any more
    #[arg(long)]
    acknowledge: bool,
    /// Do it from here, while no daemon runs: on a rescue system
    #[arg(long, conflicts_with = "no_wait")]
    no_daemon: bool,
    /// Print the job's id and do not wait for its end
    #[arg(long)]
    no_wait: bool,
}

pub(super) async fn recover(context: &Context, args: RecoverArgs) -> Done {
    if args.no_daemon {
        return without_daemon(context, &args).await;
    }
    let daemon = context.daemon().await?;
    let mut options = Options::new();
    for (key, given, value) in [
        ("save_failed", args.dont_save_failed, false),
        ("start", args.no_start, false),
        ("acknowledge", args.acknowledge, true),
    ] {
        if given {
            options.insert(key, value.into());
        }
    }
    let call = daemon.manager.recover(&args.instance, options);
    conclude(context, &daemon, call, !args.no_wait).await
}

async fn without_daemon(context: &Context, args: &RecoverArgs) -> Done {
    let alone = alone::start(context).await?;
    let options = RecoverOptions {
        save_failed: args.dont_save_failed.then_some(false),
        no_start: args.no_start,
        acknowledge: args.acknowledge,
    };
    let done = match alone.control.recover(&args.instance, options, "command").await {
        Ok(job) => alone::follow(context, &alone, job).await,
        Err(refused) => Err(alone::refused(refused)),
    };
    alone.end().await;
    done
}
