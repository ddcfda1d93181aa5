//! Prune and check of a repository: every restic repository of it, each alone where restic needs that.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use tracing::{error, info};

use super::live::append;
use super::repository::{self, Location, Opened};
use super::{Context, Live, catalog};
use crate::definition::{Definitions, Repository};
use crate::restic::{self, Restic};
use crate::state::undo::Undo;
use crate::state::{Outcome, SetFilter, UnitRecord};

/// How long restic may work on a repository without a sign of life.
const STALL: Duration = Duration::from_secs(3600);

/// What is to be done with a repository.
#[derive(Debug, Clone)]
pub enum Task {
    /// Remove unused data; restic's `--max-unused`.
    Prune {
        /// A percentage, a size or `unlimited`.
        max_unused: String,
    },
    /// Check the structure and, if asked, read data back.
    Check {
        /// `n/t` rotates through all t parts; `all`; a percentage; none: structure only.
        read_data: Option<String>,
    },
}

/// Runs a task over one repository; how it ended stands in `live`.
pub async fn run(
    context: Context,
    live: Arc<Live>,
    definitions: Arc<Definitions>,
    repository: Arc<Repository>,
    task: Task,
) {
    begin(&live, &repository).await;
    let result = work(&context, &live, &definitions, &repository, &task).await;
    let (outcome, text) = match &result {
        Ok(()) => (Outcome::Succeeded, String::new()),
        Err(failure) => live.verdict(failure),
    };
    remember(&context, &repository, &task, Finding::of(&result)).await;
    if outcome != Outcome::Succeeded {
        error!(holdfast_repository = %repository.name, holdfast_outcome = %outcome, "{text}");
    }
    live.unit("", &repository.name, |unit| {
        unit.outcome = Some(outcome);
        append(&mut unit.error, &text);
    });
}

async fn begin(live: &Live, repository: &Repository) {
    live.update_stored(|record| {
        record.started = Some(Timestamp::now());
        record.units = vec![UnitRecord { repository: repository.name.to_string(), ..UnitRecord::default() }];
    })
    .await;
}

async fn work(
    context: &Context,
    live: &Arc<Live>,
    definitions: &Definitions,
    repository: &Arc<Repository>,
    task: &Task,
) -> anyhow::Result<()> {
    let restic = Restic::probe(&definitions.daemon.restic).await?;
    let locations = locations(context, definitions, repository).await?;
    anyhow::ensure!(
        !locations.is_empty(),
        "nothing was ever stored in repository {} from here",
        repository.name
    );
    let undo = Undo::begin(&context.dirs.undo(), live.id())?;
    let mut result = Ok(());
    let catalog = catalog::location(context, repository).await?;
    for location in locations.into_iter().chain(catalog.clone()) {
        let of_catalog = Some(&location) == catalog.as_ref();
        result = at(context, live, &restic, repository, location, &undo, task).await;
        if of_catalog && result.as_ref().is_err_and(repository::does_not_exist) {
            result = catalog::is_gone(context, repository).await;
        }
        if result.is_err() {
            break;
        }
    }
    undo.finish().await.context("closing the undo steps")?;
    result
}

async fn at(
    context: &Context,
    live: &Arc<Live>,
    restic: &Restic,
    repository: &Arc<Repository>,
    location: Location,
    undo: &Undo,
    task: &Task,
) -> anyhow::Result<()> {
    let opened = repository::open_existing(context, restic, repository, location, &live.terms(STALL)).await?;
    repository::write_lock_down(undo, &opened).await?;
    one(context, live, restic, &opened, task).await.with_context(|| repository.shown_url())
}

/// The restic repositories of this definition that hold something of ours, or where our instances would lie.
async fn locations(
    context: &Context,
    definitions: &Definitions,
    repository: &Repository,
) -> anyhow::Result<BTreeSet<Location>> {
    if repository.layout == crate::definition::Layout::Shared {
        return Ok(BTreeSet::from([Location { path: String::new() }]));
    }
    let _ = definitions;
    let filter = SetFilter { repository: Some(repository.name.to_string()), ..SetFilter::default() };
    let sets = context.database.sets(filter).await?;
    Ok(sets.into_iter().map(|set| Location { path: set.location }).collect())
}

async fn one(
    context: &Context,
    live: &Arc<Live>,
    restic: &Restic,
    opened: &Opened,
    task: &Task,
) -> anyhow::Result<()> {
    let name = &opened.repository.name;
    let wait = |reason| live.waits(name, reason);
    match task {
        Task::Prune { max_unused } => {
            let _alone = context.queue.alone(&opened.key, name, &live.caller(), wait).await?;
            let _permit = context.queue.permit(&live.caller(), wait).await?;
            let result = restic.prune(&opened.access, max_unused, &live.terms(STALL)).await;
            repository::healed(restic, opened, result).await.context("restic prune")
        }
        Task::Check { read_data } => {
            let subset = match read_data {
                Some(text) => Some(next_part(context, opened, text).await?),
                None => None,
            };
            let _alone = context.queue.alone(&opened.key, name, &live.caller(), wait).await?;
            let _permit = context.queue.permit(&live.caller(), wait).await?;
            let result = restic.check(&opened.access, subset.as_deref(), &live.terms(STALL)).await;
            repository::healed(restic, opened, result).await.context("restic check")?;
            info!(holdfast_repository = %name, "checked{}", subset.map(|s| format!(", data read: {s}")).unwrap_or_default());
            Ok(())
        }
    }
}

/// `1/12` means a twelfth at a time: this time's part, and the next one next time.
async fn next_part(context: &Context, opened: &Opened, read_data: &str) -> anyhow::Result<String> {
    if read_data == "all" {
        return Ok("100%".into());
    }
    let Some((_, total)) = read_data.split_once('/') else { return Ok(read_data.to_owned()) };
    let total: u64 = total.trim().parse().context("the parts of read_data")?;
    let key = format!("check-part/{}/{}", opened.repository.name, opened.location);
    let last: u64 = context.database.meta(&key).await?.and_then(|text| text.parse().ok()).unwrap_or(0);
    let part = last % total.max(1) + 1;
    context.database.set_meta(&key, &part.to_string()).await?;
    Ok(format!("{part}/{total}"))
}

/// What a task found out about a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finding {
    Whole,
    Damaged,
    /// It was not reached, not opened, or not read to the end: that says nothing about what it holds.
    Nothing,
}

impl Finding {
    fn of(result: &anyhow::Result<()>) -> Self {
        match result {
            Ok(()) => Self::Whole,
            Err(failure) => match failure.downcast_ref::<restic::Error>() {
                Some(restic::Error::Damaged(_)) => Self::Damaged,
                _ => Self::Nothing,
            },
        }
    }
}

async fn remember(context: &Context, repository: &Repository, task: &Task, finding: Finding) {
    let name = &repository.name;
    let now = Timestamp::now().as_microsecond().to_string();
    let done = finding == Finding::Whole;
    let facts: Vec<(String, String)> = match task {
        Task::Prune { .. } if done => {
            vec![(format!("last-prune/{name}"), now), (format!("forgotten/{name}"), "0".into())]
        }
        Task::Check { .. } if done => {
            vec![(format!("last-check/{name}"), now), (format!("damaged/{name}"), "0".into())]
        }
        Task::Check { .. } if finding == Finding::Damaged => vec![(format!("damaged/{name}"), "1".into())],
        _ => Vec::new(),
    };
    for (key, value) in facts {
        if let Err(failure) = context.database.set_meta(&key, &value).await {
            error!("could not remember {key}: {failure:#}");
        }
    }
}
