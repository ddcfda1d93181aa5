//! What a restore changed, put back when it fails.

use super::dumps::Changed;
use super::{Work, apply, dumps, far};
use crate::job::far::Tries;
use crate::target::Place;
use anyhow::Context as _;

/// Databases, which must run for it, and trees, each whatever becomes of the other.
pub(super) async fn put_back(work: &Work, place: &Place, applied: &apply::Applied) -> anyhow::Result<()> {
    if !applied.dumps.is_empty() {
        work.quiet.start_for_dump().await.context("the databases are to be put back")?;
    }
    let databases = servers(work, place, &applied.dumps).await;
    let far = far::put_back_all(work, &applied.far).await;
    databases.and(far).and(apply::put_back(applied).await)
}

/// Servers of another machine when that answers.
async fn servers(work: &Work, place: &Place, changed: &[Changed]) -> anyhow::Result<()> {
    let (name, mut tries) = (&work.request.instance.name, Tries::new());
    while let Err(failure) = dumps::put_back(&work.context, place, changed).await {
        tries.again(name, &|reason| work.live.waits(name, reason), failure).await?;
    }
    Ok(())
}
