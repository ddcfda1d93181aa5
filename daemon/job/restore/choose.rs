//! Which set is meant: the latest, the last before a time, or the one whose snapshot begins with a prefix.

use std::sync::Arc;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::streams;
use crate::definition::{Definitions, Instance, Name, Repository};
use crate::job::Context;
use crate::job::repository::{self, Location, Opened};
use crate::queue::Caller;
use crate::restic::{Access, Restic, Terms};
use crate::state::{SetFilter, SetRecord};
use crate::target::{MANIFEST, Manifest};

/// The largest manifest that is read.
const MANIFEST_LIMIT: usize = 64 << 20;

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// Only from this repository.
    pub repository: Option<Name>,
    /// A prefix of a snapshot's id, or a set's id; empty: the latest.
    pub snapshot: String,
    /// Made at or before this time.
    pub before: Option<Timestamp>,
    /// Also sets of this identity that another host made.
    pub foreign: bool,
}

/// Why no set was chosen.
#[derive(Debug, thiserror::Error)]
pub enum NoSet {
    /// None matches.
    #[error("{0}")]
    NotFound(String),
    /// Several do.
    #[error("{0}")]
    Ambiguous(String),
    /// A repository could not be read.
    #[error("{0:#}")]
    Unavailable(anyhow::Error),
}

/// A failure that any other set would meet as well.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotTheSet(pub String);

/// Finds the set, looking into the repositories of the instance's backups one after another.
///
/// # Errors
/// See [`NoSet`]; nothing was started then.
pub async fn choose(
    context: &Context,
    definitions: &Definitions,
    instance: &Arc<Instance>,
    uuid: Uuid,
    wanted: &Wanted,
) -> Result<(Opened, SetRecord), NoSet> {
    let restic = Restic::probe(&definitions.daemon.restic).await.map_err(|e| NoSet::Unavailable(e.into()))?;
    let repositories = candidates(definitions, instance, wanted);
    let mut unavailable = None;
    for repository in &repositories {
        let location = Location::of(repository, instance, uuid);
        match look(context, &restic, definitions, repository, location, uuid, wanted).await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(NoSet::Unavailable(failure)) => unavailable = Some(failure),
            Err(other) => return Err(other),
        }
    }
    match unavailable {
        Some(failure) => Err(NoSet::Unavailable(failure)),
        None => of_another(context, &restic, instance, wanted, &repositories).await,
    }
}

/// The snapshot of another instance, where that was asked for; otherwise why there is none.
async fn of_another(
    context: &Context,
    restic: &Restic,
    instance: &Instance,
    wanted: &Wanted,
    repositories: &[Arc<Repository>],
) -> Result<(Opened, SetRecord), NoSet> {
    for repository in repositories.iter().filter(|_| !wanted.snapshot.is_empty()) {
        let filter = SetFilter { repository: Some(repository.name.to_string()), ..SetFilter::default() };
        let sets = context.database.sets(filter).await.map_err(NoSet::Unavailable)?;
        let Some(set) = pick(sets, &Wanted { foreign: true, ..wanted.clone() }, "")? else { continue };
        if !wanted.foreign {
            return Err(NoSet::NotFound(format!(
                "snapshot {} is of the instance {} of host {}; restore it into {} with force_foreign",
                set.snapshot, set.instance, set.host, instance.name
            )));
        }
        let (terms, location) =
            (Terms::new(&CancellationToken::new()), Location { path: set.location.clone() });
        let opened = repository::open_existing(context, restic, repository, location, &terms).await;
        return Ok((opened.map_err(NoSet::Unavailable)?, set));
    }
    Err(NoSet::NotFound(nothing(instance, wanted, repositories)))
}

/// Finds a set of an identity that is not defined here.
///
/// # Errors
/// See [`NoSet`].
pub async fn choose_at(
    context: &Context,
    definitions: &Definitions,
    repository: &Arc<Repository>,
    (module, uuid): (&str, Uuid),
    wanted: &Wanted,
) -> Result<(Opened, SetRecord), NoSet> {
    let restic = Restic::probe(&definitions.daemon.restic).await.map_err(|e| NoSet::Unavailable(e.into()))?;
    let wanted = Wanted { foreign: true, ..wanted.clone() };
    let location = Location::named(repository, module, &uuid.to_string());
    let found = look(context, &restic, definitions, repository, location, uuid, &wanted).await?;
    found.ok_or_else(|| {
        NoSet::NotFound(format!(
            "repository {name} holds no such set of {module}/{uuid}; `holdfast repository contents {name}` lists what it \
             holds",
            name = repository.name
        ))
    })
}

/// What a set says of itself.
///
/// # Errors
/// The repository cannot be read, or the snapshot holds no manifest that makes sense.
pub async fn manifest(
    context: &Context,
    definitions: &Definitions,
    opened: &Opened,
    snapshot: &str,
    terms: &Terms,
) -> anyhow::Result<Manifest> {
    let caller = Caller { label: "reading a manifest".into(), cancel: terms.cancel.clone() };
    let _share = context.queue.share(&opened.key, &opened.repository.name, &caller, |_| ()).await?;
    let _permit = context.queue.permit(&caller, |_| ()).await?;
    let restic = Restic::probe(&definitions.daemon.restic).await?;
    read_manifest(&restic, &opened.access, snapshot, terms).await
}

/// As [`manifest`], by somebody who holds what is to be held for it. Of dumps that were streamed it names those in this
/// repository.
///
/// # Errors
/// As [`manifest`]; a stream is not there any more.
pub async fn read_manifest(
    restic: &Restic,
    access: &Access,
    snapshot: &str,
    terms: &Terms,
) -> anyhow::Result<Manifest> {
    let text = manifest_text(restic, access, snapshot, terms).await?;
    settled(restic, access, &text, terms).await
}

/// The manifest's file.
pub(super) async fn manifest_text(
    restic: &Restic,
    access: &Access,
    snapshot: &str,
    terms: &Terms,
) -> anyhow::Result<Vec<u8>> {
    let text = restic.dump(access, snapshot, MANIFEST, MANIFEST_LIMIT, terms).await;
    text.context("reading the manifest of the snapshot")
}

/// What a manifest's file says; see [`read_manifest`].
pub(super) async fn settled(
    restic: &Restic,
    access: &Access,
    text: &[u8],
    terms: &Terms,
) -> anyhow::Result<Manifest> {
    let mut manifest = Manifest::from_json(text)?;
    streams::settle(restic, access, &mut manifest, terms).await?;
    Ok(manifest)
}

fn nothing(instance: &Instance, wanted: &Wanted, repositories: &[Arc<Repository>]) -> String {
    let places: Vec<_> = repositories.iter().map(|r| r.name.as_str()).collect();
    let what = match (wanted.snapshot.is_empty(), wanted.before) {
        (false, _) => format!("snapshot {:?}", wanted.snapshot),
        (true, Some(time)) => format!("a set made before {time}"),
        (true, None) => "a set".to_owned(),
    };
    format!(
        "there is no {what} of {} in {}; `holdfast snapshots {}` lists what there is",
        instance.name,
        if places.is_empty() { "any repository".into() } else { places.join(", ") },
        instance.name
    )
    .replace("no a set", "no set")
}

/// The repositories that may hold sets of it: the wanted one, else those of the backups that cover it, else all.
fn candidates(definitions: &Definitions, instance: &Instance, wanted: &Wanted) -> Vec<Arc<Repository>> {
    if let Some(name) = &wanted.repository {
        return definitions.repositories.get(name).cloned().into_iter().collect();
    }
    let covering = definitions.backups.values().filter(|b| b.instances.iter().any(|s| s.matches(instance)));
    let mut found: Vec<Arc<Repository>> = Vec::new();
    for name in covering.flat_map(|backup| &backup.repositories) {
        if let Some(repository) =
            definitions.repositories.get(name).filter(|r| !found.iter().any(|f| f.name == r.name))
        {
            found.push(Arc::clone(repository));
        }
    }
    let rest = definitions.repositories.values().filter(|r| !found.iter().any(|f| f.name == r.name)).cloned();
    let rest: Vec<_> = rest.collect();
    found.extend(rest);
    found
}

async fn look(
    context: &Context,
    restic: &Restic,
    definitions: &Definitions,
    repository: &Arc<Repository>,
    location: Location,
    uuid: Uuid,
    wanted: &Wanted,
) -> Result<Option<(Opened, SetRecord)>, NoSet> {
    let terms = Terms::new(&CancellationToken::new());
    let opened = match repository::open_existing(context, restic, repository, location, &terms).await {
        Ok(opened) => opened,
        Err(failure) if repository::does_not_exist(&failure) => return Ok(None),
        Err(failure) => return Err(NoSet::Unavailable(failure)),
    };
    let host = &definitions.daemon.host;
    if let Some(set) = pick(sets(context, repository, uuid).await?, wanted, host)? {
        return Ok(Some((opened, set)));
    }
    // Not known here: another host or an older state may have made it. Ask the repository itself.
    repository::sync(context, restic, &opened, &terms).await.map_err(NoSet::Unavailable)?;
    Ok(pick(sets(context, repository, uuid).await?, wanted, host)?.map(|set| (opened, set)))
}

async fn sets(context: &Context, repository: &Repository, uuid: Uuid) -> Result<Vec<SetRecord>, NoSet> {
    let filter = SetFilter {
        repository: Some(repository.name.to_string()),
        uuid: Some(uuid.to_string()),
        ..SetFilter::default()
    };
    context.database.sets(filter).await.map_err(NoSet::Unavailable)
}

/// Sets come newest first.
fn pick(sets: Vec<SetRecord>, wanted: &Wanted, host: &str) -> Result<Option<SetRecord>, NoSet> {
    // Times are shown in microseconds: a time that was shown means the set that it was shown for.
    let in_time = |before: Timestamp, set: &SetRecord| set.time.as_microsecond() <= before.as_microsecond();
    let mut sets: Vec<_> =
        sets.into_iter().filter(|set| wanted.before.is_none_or(|before| in_time(before, set))).collect();
    if wanted.snapshot.is_empty() {
        return Ok(sets.into_iter().find(|s| wanted.foreign || s.host == host));
    }
    sets.retain(|s| s.snapshot.starts_with(&wanted.snapshot) || s.set == wanted.snapshot);
    match sets.len() {
        0 => Ok(None),
        1 => {
            let set = sets.remove(0);
            if set.host != host && !wanted.foreign {
                let text = format!(
                    "snapshot {} was made by host {}; restore it with force_foreign",
                    set.snapshot, set.host
                );
                return Err(NoSet::NotFound(text));
            }
            Ok(Some(set))
        }
        n => Err(NoSet::Ambiguous(format!(
            "{n} snapshots begin with {:?}; give more of the id",
            wanted.snapshot
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(snapshot: &str, host: &str) -> SetRecord {
        SetRecord {
            repository: "r".into(),
            location: String::new(),
            set: format!("j{snapshot}"),
            snapshot: snapshot.into(),
            instance: "a".into(),
            uuid: String::new(),
            backup: "b".into(),
            host: host.into(),
            time: Timestamp::UNIX_EPOCH,
            size: 0,
            files: 0,
            version: String::new(),
            outcome: None,
        }
    }

    #[test]
    fn a_prefix_must_mean_one_snapshot_of_this_host() {
        let pick = |snapshot: &str, foreign: bool| {
            let sets = vec![set("abcd1", "here"), set("abcd2", "here"), set("beef", "there")];
            let wanted = Wanted { snapshot: snapshot.into(), foreign, ..Wanted::default() };
            pick(sets, &wanted, "here").map(|set| set.map(|set| set.snapshot))
        };
        assert_eq!(pick("abcd2", false).unwrap().unwrap(), "abcd2");
        assert_eq!(pick("jabcd1", false).unwrap().unwrap(), "abcd1");
        assert_eq!(pick("ffff", false).unwrap(), None);
        assert!(
            matches!(pick("abcd", false), Err(NoSet::Ambiguous(text)) if text.contains("more of the id"))
        );
        assert!(matches!(pick("beef", false), Err(NoSet::NotFound(text)) if text.contains("force_foreign")));
        assert_eq!(pick("beef", true).unwrap().unwrap(), "beef");
    }
}
