//! A repository made ready for calls: where it is, its secrets, its identity; created only when it never existed.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};
use uuid::Uuid;

use super::{Context, secrets, sets};
use crate::definition::{Instance, Layout, Name, Repository};
use crate::queue::Caller;
use crate::restic::{self, Access, Restic, Terms};
use crate::state::undo::{Step, Undo};

/// How long removing our own lock may take.
const UNLOCK: std::time::Duration = std::time::Duration::from_secs(60);

/// Stands for the module of an instance that has none, in the place where its snapshots lie.
pub const NO_MODULE: &str = "instance";

/// Where in a repository an instance's snapshots lie.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// Below the repository's URL: `<module>/<uuid>`, or empty in a shared repository.
    pub path: String,
}

/// A restic repository that is known to exist, ready for calls.
#[derive(Clone)]
pub struct Opened {
    /// Its definition.
    pub repository: Arc<Repository>,
    /// Where below the definition's URL.
    pub location: String,
    /// restic's own identity of it: two names for one place share one lock.
    pub key: String,
    /// What restic needs to open it.
    pub access: Access,
}

/// What is remembered of a restic repository that was seen once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Known {
    url: String,
    id: String,
}

impl Location {
    /// Where this instance lies in this repository.
    pub fn of(repository: &Repository, instance: &Instance, uuid: Uuid) -> Self {
        let module = instance.module.as_ref().map_or(NO_MODULE, Name::as_str);
        Self::named(repository, module, &uuid.to_string())
    }

    /// Where an identity of a module lies in this repository.
    pub fn named(repository: &Repository, module: &str, uuid: &str) -> Self {
        match repository.layout {
            Layout::Shared => Self { path: String::new() },
            Layout::PerInstance => Self { path: format!("{module}/{uuid}") },
        }
    }

    /// The URL that restic is given.
    pub fn url(&self, repository: &Repository) -> String {
        if self.path.is_empty() {
            return repository.url.clone();
        }
        let base = repository.url.trim_end_matches('/');
        // `b2:bucket`, `s3:host/bucket` and the like take a path behind `:` or `/`; a bare `scheme:bucket` wants `:`.
        let bare = base.split_once(':').is_some_and(|(scheme, rest)| {
            matches!(scheme, "b2" | "azure" | "gs" | "swift" | "rclone") && !rest.contains(':')
        });
        let separator = match (bare, base.ends_with(':')) {
            (true, _) => ":/",
            (false, true) => "",
            (false, false) => "/",
        };
        format!("{base}{separator}{}", self.path)
    }
}

/// Opens a repository; creates it if it never existed. Costs no restic call once it is known.
///
/// # Errors
/// restic's, with the repository's name; and when a repository that existed is gone, which is never mended by
/// creating an empty one.
pub async fn open(
    context: &Context,
    restic: &Restic,
    repository: &Arc<Repository>,
    location: Location,
    terms: &Terms,
) -> anyhow::Result<Opened> {
    let access = access(context, repository, &location, terms).await?;
    let key = match known(context, repository, &location).await? {
        Some(known) => known.id,
        None => first_contact(context, restic, repository, &location, &access, terms)
            .await
            .with_context(|| format!("opening repository {}", repository.name))?,
    };
    opened(context, restic, repository, location, (access, key), terms).await
}

/// Opens a repository only if it was seen before or can be seen now; never creates it.
///
/// # Errors
/// As [`open`].
pub async fn open_existing(
    context: &Context,
    restic: &Restic,
    repository: &Arc<Repository>,
    location: Location,
    terms: &Terms,
) -> anyhow::Result<Opened> {
    let access = access(context, repository, &location, terms).await?;
    let key = match known(context, repository, &location).await? {
        Some(known) => known.id,
        None => {
            let id = restic.config_id(&access, terms).await?;
            remember(context, repository, &location, &id).await?;
            id
        }
    };
    opened(context, restic, repository, location, (access, key), terms).await
}

/// The repository with its list of sets known.
async fn opened(
    context: &Context,
    restic: &Restic,
    repository: &Arc<Repository>,
    location: Location,
    (access, key): (Access, String),
    terms: &Terms,
) -> anyhow::Result<Opened> {
    let opened = Opened { repository: Arc::clone(repository), location: location.path, key, access };
    learn_sets(context, restic, &opened, terms).await?;
    Ok(opened)
}

/// What restic needs to open it: files for URL and password, credentials, the cache.
pub async fn access(
    context: &Context,
    repository: &Arc<Repository>,
    location: &Location,
    terms: &Terms,
) -> anyhow::Result<Access> {
    let place = context.dirs.runtime.join("repositories").join(&*repository.name);
    let url = location.url(repository);
    let name = if location.path.is_empty() { "shared".to_owned() } else { location.path.replace('/', "_") };
    let seen_before = context.database.meta(&seen_key(&repository.name)).await?.is_some();
    let password_file = secrets::password_file(repository, &place, seen_before, &terms.cancel)
        .await
        .with_context(|| format!("the password of repository {}", repository.name))?;
    let environment = secrets::environment(repository).await?;
    let cache = context.dirs.cache.join("restic").join(&*repository.name);
    let place = place.join(name);
    let ready = move || Access::prepare(&place, &url, &password_file, environment, &cache);
    let access = tokio::task::spawn_blocking(ready).await?;
    let access = access.with_context(|| format!("making repository {} ready", repository.name))?;
    Ok(Access { unlock_foreign_after: repository.unlock_foreign_after, ..access })
}

fn known_key(repository: &str, location: &str) -> String {
    format!("repository-id/{repository}/{location}")
}

fn seen_key(repository: &str) -> String {
    format!("repository-seen/{repository}")
}

/// Forgets that something lies there, so that it may be made again.
pub(super) async fn forget_place(
    context: &Context,
    repository: &Repository,
    location: &str,
) -> anyhow::Result<()> {
    context.database.remove_meta(&known_key(&repository.name, location)).await
}

/// Forgets what is known of a repository, so that one of the same name may begin anew.
pub async fn forget_known(context: &Context, repository: &str) -> anyhow::Result<()> {
    context.database.remove_meta(&format!("repository-id/{repository}/")).await?;
    context.database.remove_meta(&seen_key(repository)).await
}

async fn known(
    context: &Context,
    repository: &Repository,
    location: &Location,
) -> anyhow::Result<Option<Known>> {
    let Some(text) = context.database.meta(&known_key(&repository.name, &location.path)).await? else {
        return Ok(None);
    };
    let known: Option<Known> = serde_json::from_str(&text).ok();
    Ok(known.filter(|known| known.url == fingerprint(&location.url(repository))))
}

/// The URL may hold a password: what is remembered is only good for comparing.
fn fingerprint(url: &str) -> String {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, url.as_bytes()).to_string()
}

async fn remember(
    context: &Context,
    repository: &Repository,
    location: &Location,
    id: &str,
) -> anyhow::Result<()> {
    let known = Known { url: fingerprint(&location.url(repository)), id: id.to_owned() };
    let key = known_key(&repository.name, &location.path);
    context.database.set_meta(&key, &serde_json::to_string(&known)?).await?;
    context.database.set_meta(&seen_key(&repository.name), "1").await
}

/// The first time that this place is used: it is looked at, and created only when restic says that it does not exist.
async fn first_contact(
    context: &Context,
    restic: &Restic,
    repository: &Repository,
    location: &Location,
    access: &Access,
    terms: &Terms,
) -> anyhow::Result<String> {
    let place = format!("new {}", fingerprint(&location.url(repository)));
    let caller = Caller { label: "creating the repository".into(), cancel: terms.cancel.clone() };
    let _alone = context.queue.alone(&place, &repository.name, &caller, |_| {}).await?;
    if let Some(known) = known(context, repository, location).await? {
        return Ok(known.id);
    }
    let id = match restic.config_id(access, terms).await {
        Ok(id) => id,
        Err(restic::Error::NoRepository) => {
            restic.init(access, terms).await.context("creating the repository")?;
            info!(holdfast_repository = %repository.name, "created at {}", repository.shown_url());
            context
                .database
                .replace_sets(&repository.name, &location.path, Timestamp::now(), Vec::new())
                .await?;
            restic.config_id(access, terms).await?
        }
        Err(other) => return Err(other.into()),
    };
    remember(context, repository, location, &id).await?;
    Ok(id)
}

/// Brings our list of sets up to restic's when it was never read, or when a job died while it may have changed.
async fn learn_sets(
    context: &Context,
    restic: &Restic,
    opened: &Opened,
    terms: &Terms,
) -> anyhow::Result<()> {
    let synced = context.database.last_synced(&opened.repository.name, &opened.location).await?;
    if synced.is_some() {
        return Ok(());
    }
    sync(context, restic, opened, terms).await
}

/// Reads the repository's own list of snapshots and makes ours equal to it.
pub async fn sync(context: &Context, restic: &Restic, opened: &Opened, terms: &Terms) -> anyhow::Result<()> {
    let asked = Timestamp::now();
    let snapshots = restic.snapshots(&opened.access, &["holdfast"], terms).await?;
    for id in &snapshots.unreadable {
        error!(holdfast_repository = %opened.repository.name, "snapshot {id} cannot be read: check the repository");
    }
    if snapshots.list.iter().any(sets::is_stream) {
        sets::note_streams(context, &opened.repository.name, &opened.location).await?;
    }
    let sets = sets::committed(opened, &snapshots.list);
    context.database.replace_sets(&opened.repository.name, &opened.location, asked, sets).await
}

/// The error for a repository that was there before and is not now.
pub(super) fn gone(repository: &Repository) -> String {
    format!(
        "repository {} was seen here before and is not there now ({}): is its disk mounted, its server right? \
         Nothing was created. If it is lost for good, remove its definition and add it anew.",
        repository.name,
        repository.shown_url()
    )
}

/// Whether an error says that there is no repository: nothing was ever stored there.
pub fn does_not_exist(failure: &anyhow::Error) -> bool {
    matches!(failure.downcast_ref::<restic::Error>(), Some(restic::Error::NoRepository))
}

/// An error with what to do about it.
pub fn described(failure: &anyhow::Error) -> String {
    match failure.downcast_ref::<restic::Error>() {
        Some(known) => format!("{failure:#}: {}", known.advice()),
        None => format!("{failure:#}"),
    }
}

/// Written before restic runs: if we are killed with it, its lock goes at the next start and its sets are read anew.
pub(super) async fn write_lock_down(undo: &Undo, opened: &Opened) -> anyhow::Result<()> {
    let step =
        Step::Unlock { repository: opened.repository.name.to_string(), location: opened.location.clone() };
    undo.push(step).await.map(drop)
}

/// Passes a call's result on. restic ended by a signal may leave its lock (for some 200 ms after writing it nothing
/// removes it; measured), so that is looked for.
pub(super) async fn healed<T: Send>(
    restic: &Restic,
    opened: &Opened,
    result: Result<T, restic::Error>,
) -> Result<T, restic::Error> {
    use restic::Error::{Cancelled, Killed, Stalled, TimedOut};
    if matches!(result, Err(Cancelled | Killed { .. } | Stalled(_) | TimedOut(_))) {
        clear_own_lock(restic, opened).await;
    }
    result
}

/// Removes the lock that a restic of ours left when it was ended; others' locks stay.
async fn clear_own_lock(restic: &Restic, opened: &Opened) {
    let terms = Terms { timeout: Some(UNLOCK), ..Terms::new(&tokio_util::sync::CancellationToken::new()) };
    let name = &opened.repository.name;
    if let Err(failure) = restic.heal_own_locks(&opened.access, &terms, std::time::Duration::ZERO).await {
        warn!(holdfast_repository = %name, "our own lock could not be removed now ({failure}); the next use will");
    }
}

/// Opens a repository with its password; never creates it.
///
/// # Errors
/// restic's.
pub async fn test(
    context: &Context,
    restic: &Restic,
    repository: &Arc<Repository>,
    location: Location,
    terms: &Terms,
) -> anyhow::Result<()> {
    let access = access(context, repository, &location, terms).await?;
    restic.config_id(&access, terms).await?;
    Ok(())
}

/// Refuses a name that is not defined.
pub(super) fn defined<'a>(
    definitions: &'a crate::definition::Definitions,
    name: &Name,
) -> anyhow::Result<&'a Arc<Repository>> {
    match definitions.repositories.get(name) {
        Some(repository) => Ok(repository),
        None => bail!("repository {name} is not defined"),
    }
}

#[cfg(test)]
mod tests;
