//! `holdfast unlock`: removes stale locks.

use clap::Args;
use serde_json::json;

use super::Context;
use super::daemon::RepositoryProxy;
use super::failure::{Done, Exit};
use super::wire::object_path;

/// `holdfast unlock`
#[derive(Debug, Args)]
pub(super) struct UnlockArgs {
    /// The repository's name
    repository: String,
}

pub(super) async fn unlock(context: &Context, args: UnlockArgs) -> Done {
    let daemon = context.daemon().await?;
    let name = &args.repository;
    let proxy = RepositoryProxy::new(&daemon.connection, object_path("repository", name)).await;
    let proxy = proxy.map_err(|error| daemon.failure(error))?;
    proxy.unlock().await.map_err(|error| daemon.failure_of(error, "repository", name))?;
    if context.out.json {
        context.out.value(&json!({ "Name": name }));
    } else {
        context.out.line(format!("{name}: no stale lock is left"));
    }
    Ok(Exit::Done)
}
