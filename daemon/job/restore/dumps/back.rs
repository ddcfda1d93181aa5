//! Changes in servers taken back, exchanged with what is kept, or finished.

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Changed, safety};
use crate::definition::{Dump, Instance};
use crate::dump::{Change, Site};
use crate::job::Context;
use crate::job::restore::kept::Kept;
use crate::state::undo::{Act, Step, Undo};
use crate::target::Place;

/// A server of an instance that is not defined yet: all that undoing needs, for a kill leaves no definition of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Founded {
    user: Option<String>,
    dump: Dump,
}

impl Founded {
    pub(super) fn json(instance: &Instance, dump: &Dump) -> Result<Value> {
        Ok(serde_json::to_value(Self { user: instance.user.clone(), dump: dump.clone() })?)
    }
}

/// An instance that has just that server.
pub(in crate::job) fn founded(name: crate::definition::Name, step: &Value) -> Result<Instance> {
    let Founded { user, dump } =
        serde_json::from_value(step.clone()).context("a server as another version writes it")?;
    Ok(Instance { user, dumps: vec![dump], ..Instance::bare(name) })
}

/// A step that clears what a dump makes on a server while it works.
pub(in crate::job) fn clearing(instance: &Instance, dump: &str, leftovers: &Change) -> Result<Step> {
    let (instance, dump) = (instance.name.to_string(), dump.to_owned());
    let change = serde_json::to_value(leftovers)?;
    Ok(Step::Dump { instance, dump, act: Act::Undo, change, founding: None })
}

/// Undoes changes in servers, the last one first.
pub(in crate::job::restore) async fn put_back(
    context: &Context,
    place: &Place,
    changed: &[Changed],
) -> Result<()> {
    for Changed { dump, change } in changed.iter().rev() {
        let site = reach(context, place, dump).await?;
        site.undo(change).await.with_context(|| format!("putting back what dump {dump} replaced"))?;
    }
    Ok(())
}

/// A dump's server, for what must be put back whatever becomes of the job.
async fn reach(context: &Context, place: &Place, name: &str) -> Result<Site> {
    let Some(dump) = place.instance.dumps.iter().find(|dump| *dump.name == *name) else {
        bail!("the instance {} defines no dump {name} any more; define it again", place.instance.name);
    };
    let never = CancellationToken::new();
    Site::open(place, dump, &context.dirs.runtime, &never).await.with_context(|| format!("dump {name}"))
}

/// Removes what servers kept of before a restore.
pub(in crate::job::restore) async fn discard(
    context: &Context,
    place: &Place,
    kept: &[Changed],
) -> Result<()> {
    for Changed { dump, change } in kept {
        let site = reach(context, place, dump).await?;
        site.discard(change).await.with_context(|| format!("removing what dump {dump} kept"))?;
    }
    Ok(())
}

/// Exchanges what lives and what is kept in servers. What was done stands in `done`.
pub(in crate::job::restore) async fn exchange(
    context: &Context,
    place: &Place,
    undo: &Undo,
    job: &str,
    kept: &Kept,
    done: &mut Vec<Changed>,
) -> Result<()> {
    for Changed { dump, change } in kept.dumps.iter().rev() {
        let site = reach(context, place, dump).await?;
        if let Some(leftovers) = site.plan_dump() {
            undo.push(clearing(&place.instance, dump, &leftovers)?).await?;
        }
        let safety = safety(context, undo, job).await?;
        let mirror = site.mirror(change, &safety).await.with_context(|| format!("dump {dump}"))?;
        let (instance, change_back) = (place.instance.name.to_string(), serde_json::to_value(&mirror)?);
        let act = Act::Undo;
        undo.push(Step::Dump { instance, dump: dump.clone(), act, change: change_back, founding: None })
            .await?;
        done.push(Changed { dump: dump.clone(), change: mirror });
        info!("dump {dump}: what was before the restore is put back");
        site.undo(change).await.with_context(|| format!("putting back what dump {dump} replaced"))?;
    }
    Ok(())
}

/// Executes a step that a dead job left.
///
/// # Errors
/// The instance or the dump is no longer defined, the server does not answer: the step is kept then.
pub(in crate::job) async fn execute(
    context: &Context,
    instance: &std::sync::Arc<Instance>,
    dump: &str,
    act: Act,
    change: &Value,
) -> Result<()> {
    let change: Change = serde_json::from_value(change.clone()).context("a change of another version")?;
    let place = place_of(context, instance).await?;
    warn!(holdfast_instance = %instance.name, "dump {dump}: putting back what a restore changed");
    let site = reach(context, &place, dump).await?;
    match act {
        Act::Undo => site.undo(&change).await,
        Act::Discard => site.discard(&change).await,
    }
}

/// An instance's place, for its servers.
pub(in crate::job::restore) async fn place_of(
    context: &Context,
    instance: &std::sync::Arc<Instance>,
) -> Result<Place> {
    let never = CancellationToken::new();
    let volumes = crate::job::backup::dumps::volumes(instance);
    Place::resolve(instance, crate::target::Purpose::Restore, &context.dirs.tools(), &volumes, &never).await
}
