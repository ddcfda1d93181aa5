//! Instances that are not defined here: what a repository says of them is enough to define them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::redefine::{Databases, Redefined, redefine};
use super::restore::{refused, rights};
use super::write::refused as not_written;
use super::{Control, Database, Error, ErrorKind, Keys, RestoreOptions, Result, checked};
use crate::config::edit::{Design, design_instance};
use crate::definition::{Instance, Moves, Name};
use crate::job;
use crate::job::restore::{self, Founding, Request, Wanted};
use crate::restic::Terms;
use crate::target::Manifest;

/// `REPOSITORY:MODULE/UUID` or `REPOSITORY:MODULE/NAME@UUID`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Elsewhere {
    repository: String,
    module: String,
    name: Option<String>,
    uuid: Uuid,
}

impl Elsewhere {
    /// None: it is the name of an instance.
    pub(super) fn parse(subject: &str) -> Result<Option<Self>> {
        let Some((repository, place)) = subject.split_once(':') else { return Ok(None) };
        let bad = || {
            let shown: String = subject.chars().take(120).flat_map(char::escape_default).collect();
            let text = format!(
                "\"{shown}\" is no instance: name one that is defined, or REPOSITORY:MODULE/UUID as \
                 `holdfast repository contents` lists it"
            );
            Error::new(ErrorKind::InvalidArgument, text)
        };
        let (module, who) = place.split_once('/').ok_or_else(bad)?;
        let (name, uuid) = match who.split_once('@') {
            Some((name, uuid)) => (Some(checked(name)?.to_string()), uuid),
            None => (None, who),
        };
        let uuid = Uuid::try_parse(uuid).map_err(|_| bad())?;
        // As `contents` lists it: an instance without a module has none.
        let module = if module.is_empty() { job::NO_MODULE } else { module };
        let (repository, module) = (checked(repository)?.to_string(), checked(module)?.to_string());
        Ok(Some(Self { repository, module, name, uuid }))
    }
}

impl Control {
    /// The instance of this identity, if it is defined here.
    async fn defined_as(&self, uuid: Uuid) -> Option<Arc<Instance>> {
        for instance in self.definitions().instances.values() {
            if self.identity_of(instance).await.is_ok_and(|own| own == uuid) {
                return Some(Arc::clone(instance));
            }
        }
        None
    }

    pub(super) async fn request_elsewhere(
        &self,
        subject: Elsewhere,
        wanted: Wanted,
        (options, include): (RestoreOptions, Vec<PathBuf>),
    ) -> Result<Request> {
        let repository = self.known_repository(&subject.repository)?;
        if wanted.repository.as_ref().is_some_and(|other| *other != repository.name) {
            let text = "the subject and the option repository name two repositories; leave out the option";
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        let (context, definitions) = (&self.0.context, self.definitions());
        let place = (subject.module.as_str(), subject.uuid);
        let chosen = restore::choose_at(context, &definitions, &repository, place, &wanted).await;
        let (opened, set) = chosen.map_err(refused)?;
        let name = Name::parse(&set.instance).map_err(|why| Error::new(ErrorKind::Failed, why))?;
        if subject.name.as_deref().is_some_and(|given| given != name.as_str()) {
            let text =
                format!("{} is the instance {name}, not {}", subject.uuid, subject.name.unwrap_or_default());
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        let mut request = Request {
            instance: Arc::new(Instance::bare(name.clone())),
            definitions,
            set,
            opened,
            databases: Vec::new(),
            edited: options.dumps.clone(),
            include,
            rights: rights(&options),
            target: options.target,
            force_version: options.force_version,
            stop: !options.no_stop,
            start: !options.no_start,
            founding: None,
            new_user: None,
            failed: None,
        };
        if request.target.is_some() {
            return Ok(request);
        }
        if let Some(here) = self.defined_as(subject.uuid).await {
            request.instance = here;
            return match &options.new_name {
                Some(new) => self.second(request, new, &options.map, options.databases).await,
                None if options.databases.is_empty() => Ok(request),
                None => {
                    self.narrow(&mut request, options.databases).await?;
                    Ok(request)
                }
            };
        }
        let manifest = self.manifest(&request).await?;
        let RestoreOptions { new_name, map, databases, .. } = options;
        self.adopt(request, manifest, (new_name, map, databases), subject.uuid).await
    }

    /// What the set says of itself.
    pub(super) async fn manifest(&self, request: &Request) -> Result<Manifest> {
        let terms = Terms::new(&CancellationToken::new());
        let (context, snapshot) = (&self.0.context, &request.set.snapshot);
        let manifest =
            restore::manifest(context, &request.definitions, &request.opened, snapshot, &terms).await;
        manifest.map_err(|failure| Error::new(ErrorKind::RepositoryUnavailable, job::described(&failure)))
    }

    /// Defines what a set says, under its own name and identity, or as another instance.
    async fn adopt(
        &self,
        request: Request,
        manifest: Manifest,
        (new_name, map, given): (Option<String>, Vec<(PathBuf, PathBuf)>, Vec<Database>),
        uuid: Uuid,
    ) -> Result<Request> {
        let saved = restore::saved_databases(&manifest)?;
        let Some(written) = manifest.definition else {
            let text = format!(
                "the set does not say how {} was defined (an older release made it): define it in conf.d/ first, or \
                 restore it into a directory with target",
                manifest.instance
            );
            return Err(Error::new(ErrorKind::InvalidDefinition, text));
        };
        let old = manifest.instance.as_str();
        let second = new_name.as_deref().is_some_and(|new| new != old);
        let name = new_name.as_deref().unwrap_or(old).to_owned();
        let renamed = second.then(|| (old.to_owned(), name.clone()));
        let databases = Databases { saved: &saved, given: &given, password_files: BTreeMap::new() };
        let moves = Moves { given: map, renamed };
        let redefined = redefine(&written, &moves, second, old, &databases).map_err(unclear)?;
        let uuid = if second { Uuid::new_v4() } else { uuid };
        let clash = |error: Error| match error.kind {
            ErrorKind::AlreadyExists => Error::new(
                error.kind,
                format!("{}, and it is another one; restore under another name with as", error.message),
            ),
            _ => error,
        };
        self.found(request, &name, redefined, (second, uuid, None)).await.map_err(clash)
    }

    /// A second instance beside one that is defined here.
    pub(super) async fn second(
        &self,
        request: Request,
        name: &str,
        map: &[(PathBuf, PathBuf)],
        given: Vec<Database>,
    ) -> Result<Request> {
        let saved = restore::saved_databases(&self.manifest(&request).await?)?;
        let first = Arc::clone(&request.instance);
        if let Some(other) = self.other_project(&first, name).await? {
            if map.is_empty() {
                return Ok(Request { instance: other, ..request });
            }
            let text =
                format!("the labels of the compose project {name} say where its volumes lie; leave out map");
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        let renamed = Some((first.name.to_string(), checked(name)?.to_string()));
        let moves = Moves { given: map.to_vec(), renamed };
        let files = first.dumps.iter().filter_map(|dump| {
            let file = dump.source.server()?.password_file.clone()?;
            Some((dump.name.to_string(), file))
        });
        let databases = Databases { saved: &saved, given: &given, password_files: files.collect() };
        let mut redefined =
            redefine(&first.written, &moves, true, &first.name, &databases).map_err(unclear)?;
        with_key_of(&first, &mut redefined.keys);
        let model = first.install_dir.clone();
        self.found(request, name, redefined, (true, Uuid::new_v4(), model)).await
    }

    async fn found(
        &self,
        request: Request,
        name: &str,
        redefined: Redefined,
        (second, uuid, model): (bool, Uuid, Option<PathBuf>),
    ) -> Result<Request> {
        let Redefined { keys, moves, databases, notes } = redefined;
        let set = &request.set;
        let comment = format!(
            "Restored from {}, snapshot {} of the instance {} of host {}.",
            set.repository, set.snapshot, set.instance, set.host
        );
        let design = self.design(name, keys, comment).await?;
        let Design { instance, file, text } = design;
        lets_us_in(&instance)?;
        let founding = Founding { file, text, uuid, moves, second, model, notes };
        Ok(Request { instance, databases, founding: Some(founding), ..request })
    }

    async fn design(&self, name: &str, keys: Keys, comment: String) -> Result<Design> {
        let (dirs, environment) = (self.0.config_dirs.clone(), self.0.environment.clone());
        let name = checked(name)?;
        let design =
            move || design_instance(&dirs, &environment, &name, keys.into_iter().collect(), &comment);
        let designed = tokio::task::spawn_blocking(design).await.map_err(anyhow::Error::new)?;
        designed.map_err(not_written)
    }
}

/// A second instance on another machine is reached with the key of the first: it has none of its own yet.
fn with_key_of(first: &Instance, keys: &mut Keys) {
    let own = keys.contains_key("ssh");
    let dumped = |key: &Keys| {
        key.get("dump")
            .and_then(|all| all.as_array())
            .is_some_and(|all| all.iter().any(|one| one.get("ssh").is_some()))
    };
    let remote = first.remote.as_ref().or_else(|| first.dumps.iter().find_map(|dump| dump.remote.as_ref()));
    if let Some(key) = remote.and_then(|remote| remote.key.to_str()).filter(|_| own || dumped(keys)) {
        keys.insert("ssh_key".into(), key.into());
    }
}

/// An instance that another daemon saved may be on a machine that does not know us.
fn lets_us_in(instance: &Instance) -> Result<()> {
    let Some(remote) = instance.remote.as_ref().filter(|remote| !remote.key.exists()) else { return Ok(()) };
    let text = format!(
        "{} is on {}, and there is no key {} for it: bring that key here, or define the instance in conf.d/ (a restore into \
         a directory with target shows how, in its manifest.json) and run `holdfast setup {}`, then restore it",
        instance.name,
        remote.login(),
        remote.key.display(),
        instance.name
    );
    Err(Error::new(ErrorKind::InvalidDefinition, text))
}

fn unclear(problems: Vec<String>) -> Error {
    let text = format!("the new instance cannot be defined: {}", problems.join("; "));
    Error::new(ErrorKind::InvalidArgument, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_names_an_instance_or_says_where_one_lies() {
        let uuid = "f3b25a4c-2f3d-4b3e-9a55-000000000001";
        assert_eq!(Elsewhere::parse("wiki1").unwrap(), None);
        let parsed = Elsewhere::parse(&format!("b2:dokuwiki/{uuid}")).unwrap().unwrap();
        assert_eq!(
            (parsed.repository.as_str(), parsed.module.as_str(), parsed.name),
            ("b2", "dokuwiki", None)
        );
        let parsed = Elsewhere::parse(&format!("b2:dokuwiki/wiki1@{uuid}")).unwrap().unwrap();
        assert_eq!(parsed.name.as_deref(), Some("wiki1"));
        for bad in [
            "b2:",
            "b2:x",
            "b2:x/y",
            "b2:x/../y",
            ":x/y",
            &format!("../b:x/{uuid}"),
            &format!("b:x/-@{uuid}"),
        ] {
            assert_eq!(Elsewhere::parse(bad).unwrap_err().kind, ErrorKind::InvalidArgument, "{bad}");
        }
    }
}
