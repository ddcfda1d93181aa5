//! `holdfast pin` and `holdfast unpin`: sets that retention leaves alone.

use clap::Args;

use super::Context;
use super::failure::{Done, Exit};

/// `holdfast pin`, `holdfast unpin`
#[derive(Debug, Args)]
pub(super) struct PinArgs {
    /// The instance's name
    instance: String,
    /// The snapshot: its id or the beginning of it
    snapshot: String,
}

pub(super) async fn pin(context: &Context, args: PinArgs) -> Done {
    let daemon = context.daemon().await?;
    let done = daemon.manager.pin(&args.instance, &args.snapshot).await;
    done.map_err(|e| daemon.failure(e))?;
    context.out.note(format!("no retention forgets {} of {} any more", args.snapshot, args.instance));
    Ok(Exit::Done)
}

pub(super) async fn unpin(context: &Context, args: PinArgs) -> Done {
    let daemon = context.daemon().await?;
    let done = daemon.manager.unpin(&args.instance, &args.snapshot).await;
    done.map_err(|e| daemon.failure(e))?;
    context.out.note(format!("retention decides over {} of {} again", args.snapshot, args.instance));
    Ok(Exit::Done)
}
