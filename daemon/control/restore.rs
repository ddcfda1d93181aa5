//! Verbs that restore: of instances defined here, of those that only a repository knows, and back again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::elsewhere::Elsewhere;
use super::run::ticket;
use super::{Control, Database, Error, ErrorKind, RestoreOptions, Result, checked};
use crate::config;
use crate::job::mirrors;
use crate::job::restore::{self, NewUser, NoSet, Rights, Wanted};
use crate::state::Kind;
use crate::target::unspelled;

/// How often old data that is kept no longer is looked for, at least.
const EXPIRY: Duration = Duration::from_secs(3_600);

impl Control {
    /// Starts a restore; an empty `snapshot` means the latest set. The subject is an instance, or
    /// `REPOSITORY:MODULE/[NAME@]UUID` of one that is not defined here: its definition is written from the set.
    ///
    /// # Errors
    /// The instance is not defined, no set matches, its repository cannot be read, an option is malformed, or a
    /// restore of it has not ended. Nothing was started then.
    pub async fn restore(
        &self,
        subject: &str,
        snapshot: &str,
        options: RestoreOptions,
        cause: &str,
    ) -> Result<String> {
        self.not_at_work(options.new_name.as_deref().unwrap_or(subject))?;
        let create = options.create_user;
        let request = self.restore_request(subject, snapshot, options).await?;
        let request = self.with_user(request, create).await?;
        let name = request.instance.name.to_string();
        self.not_at_work(&name)?;
        let (context, control) = (self.0.context.clone(), self.clone());
        let founds = request.founding.is_some();
        let work = move |live| async move {
            restore::run(context, live, request).await;
            if founds {
                control.reload().await;
            }
        };
        let id = self.0.jobs.start(ticket(Kind::Restore, &name, cause), work).await?;
        self.expire_kept_after(&id);
        Ok(id)
    }

    pub(super) fn not_at_work(&self, name: &str) -> Result<()> {
        for kind in [Kind::Restore, Kind::Rollback, Kind::Recover] {
            if let Some(id) = self.0.jobs.is_active(kind, name) {
                let text = format!("a {kind} of {name} is at work as job {id}");
                return Err(Error::new(ErrorKind::Busy, text));
            }
        }
        Ok(())
    }

    async fn restore_request(
        &self,
        subject: &str,
        snapshot: &str,
        options: RestoreOptions,
    ) -> Result<restore::Request> {
        let include = check_options(snapshot, &options)?;
        let repository = options.repository.as_deref().map(|name| self.known_repository(name)).transpose()?;
        let wanted = Wanted {
            repository: repository.map(|r| r.name.clone()),
            snapshot: snapshot.to_owned(),
            before: options.before,
            foreign: options.force_foreign,
        };
        if let Some(elsewhere) = Elsewhere::parse(subject)? {
            return self.request_elsewhere(elsewhere, wanted, (options, include)).await;
        }
        let instance = self.instance_or_stack(subject).await?;
        let definitions = self.definitions();
        let uuid = self.identity_of(&instance).await?;
        let chosen = restore::choose(&self.0.context, &definitions, &instance, uuid, &wanted).await;
        let (opened, set) = chosen.map_err(refused)?;
        let mut request = restore::Request {
            definitions,
            instance,
            set,
            opened,
            include,
            databases: Vec::new(),
            edited: options.dumps.clone(),
            target: options.target.clone(),
            force_version: options.force_version,
            stop: !options.no_stop,
            start: !options.no_start,
            founding: None,
            new_user: None,
            failed: None,
            rights: rights(&options),
        };
        match &options.new_name {
            Some(name) => self.second(request, name, &options.map, options.databases).await,
            None if options.databases.is_empty() => Ok(request),
            None => {
                self.narrow(&mut request, options.databases).await?;
                Ok(request)
            }
        }
    }

    /// Says which user is to be made, where that was asked for and the machine lacks it.
    async fn with_user(&self, mut request: restore::Request, create: bool) -> Result<restore::Request> {
        let user = request.instance.user.clone();
        let lacks = user.as_deref().is_some_and(|user| crate::target::user_number(user).is_none());
        if !create || !lacks || request.target.is_some() {
            return Ok(request);
        }
        if !rustix::process::geteuid().is_root() {
            let text = format!(
                "there is no user {}, and only a daemon that is root can create one",
                user.unwrap_or_default()
            );
            return Err(Error::new(ErrorKind::Failed, text));
        }
        let manifest = self.manifest(&request).await?;
        request.new_user = NewUser::missing(user.as_deref(), &manifest);
        Ok(request)
    }

    /// Restores only these databases: which dumps that takes stands in the set's manifest.
    pub(super) async fn narrow(
        &self,
        request: &mut restore::Request,
        databases: Vec<Database>,
    ) -> Result<()> {
        let manifest = self.manifest(request).await?;
        let paths = restore::database_paths(&manifest, &request.instance, &databases);
        request.include =
            paths.map_err(|failure| Error::new(ErrorKind::InvalidArgument, format!("{failure:#}")))?;
        request.databases = databases;
        Ok(())
    }

    /// What a restore would do, as JSON; nothing is touched.
    ///
    /// # Errors
    /// As [`Control::restore`], as far as it is not told in the plan.
    pub async fn plan_restore(&self, name: &str, snapshot: &str, options: RestoreOptions) -> Result<String> {
        let create = options.create_user;
        let request = self.restore_request(name, snapshot, options).await?;
        let request = self.with_user(request, create).await?;
        let plan = restore::plan(self.0.context.clone(), Arc::new(request)).await?;
        Ok(plan.to_string())
    }

    /// Puts back what the last restore of an instance replaced.
    ///
    /// # Errors
    /// The instance is not defined, nothing is kept of it, or a restore or rollback of it has not ended.
    pub async fn rollback(&self, name: &str, cause: &str) -> Result<String> {
        let instance = self.known_instance(name)?;
        self.not_at_work(name)?;
        if restore::kept::list(&self.0.context, Some(name)).await?.is_empty() {
            let text = format!(
                "nothing is kept of {name} that could be put back: it was not restored in place within its \
                 restore.keep_previous"
            );
            return Err(Error::new(ErrorKind::NoSuchSnapshot, text));
        }
        let context = self.0.context.clone();
        let work = |live| restore::rollback::run(context, live, instance);
        Ok(self.0.jobs.start(ticket(Kind::Rollback, name, cause), work).await?)
    }

    /// Removes old data that is kept no longer, when the job that may have added some has ended.
    pub(super) fn expire_kept_after(&self, id: &str) {
        let (control, id) = (self.clone(), id.to_owned());
        let mut events = self.0.jobs.subscribe();
        tokio::spawn(async move {
            use crate::job::Event::Removed;
            while control.0.jobs.active().iter().any(|live| live.id() == id) {
                match events.recv().await {
                    Ok(Removed(ended, _)) if ended == id => break,
                    Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                    Err(_) => return,
                }
            }
            let definitions = control.definitions();
            restore::kept::expire(&control.0.context, &definitions, Timestamp::now()).await;
        });
    }

    /// Removes old data whose time is over, for as long as the daemon lives.
    pub(super) async fn watch_kept(self) {
        loop {
            let context = &self.0.context;
            let definitions = self.definitions();
            restore::kept::expire(context, &definitions, Timestamp::now()).await;
            self.remove_unnamed_mirrors().await;
            let due = restore::kept::next_due(context).await;
            let left = due.map(|due| due.duration_since(Timestamp::now()).unsigned_abs());
            // At most an hour: clocks are set, and restores add to what is kept.
            tokio::time::sleep(left.unwrap_or(EXPIRY).clamp(Duration::from_secs(1), EXPIRY)).await;
        }
    }

    /// Not while anything that is defined cannot be used: it may name one.
    pub(super) async fn remove_unnamed_mirrors(&self) {
        let loaded = self.loaded();
        let bad = loaded.diagnostics.iter().any(config::Diagnostic::is_error);
        if !bad && loaded.unusable.is_empty() {
            mirrors::remove_unnamed(&self.0.context, &self.definitions()).await;
        }
    }
}

pub(super) fn refused(none: NoSet) -> Error {
    let kind = match none {
        NoSet::NotFound(_) => ErrorKind::NoSuchSnapshot,
        NoSet::Ambiguous(_) => ErrorKind::InvalidArgument,
        NoSet::Unavailable(_) => ErrorKind::RepositoryUnavailable,
    };
    Error::new(kind, none.to_string())
}

pub(super) fn rights(options: &RestoreOptions) -> Rights {
    Rights { owners: options.owners, setuid: options.setuid, devices: options.devices }
}

/// Callers name snapshots and paths of the tree; nothing that restic could take for a flag or another place. Returns the
/// paths.
fn check_options(snapshot: &str, options: &RestoreOptions) -> Result<Vec<PathBuf>> {
    let bad = |text: String| Err(Error::new(ErrorKind::InvalidArgument, text));
    let id = snapshot.bytes().all(|b| b.is_ascii_hexdigit()) || snapshot.starts_with('j');
    if !id || snapshot.len() > 64 || (snapshot.starts_with('j') && checked(snapshot).is_err()) {
        return bail_snapshot(snapshot);
    }
    let mut includes = Vec::new();
    for include in &options.include {
        let path = match unspelled(include) {
            Ok(path) => path,
            Err(why) => return bad(format!("include {include:?}: {why}")),
        };
        let plain = path.components().all(|c| matches!(c, std::path::Component::Normal(_)));
        let rooted = ["state", "volumes", "files", "dumps"].iter().any(|root| path.starts_with(root));
        if !plain || !rooted || path.as_os_str().as_encoded_bytes().contains(&0) {
            return bad(format!(
                "include {include:?}: name a path of the tree, as in state/…, volumes/NAME/…, files/… or dumps/NAME"
            ));
        }
        includes.push(path);
    }
    if !options.databases.is_empty() && (options.target.is_some() || !options.include.is_empty()) {
        return bad("database restores into its server; leave out target and include".to_owned());
    }
    if !options.dumps.is_empty() && options.target.is_some() {
        return bad("a dump is given to be loaded; leave out target".to_owned());
    }
    if options.target.is_some() && (options.new_name.is_some() || !options.map.is_empty()) {
        return bad("target is a directory beside all instances; leave out as and map".to_owned());
    }
    if options.new_name.is_some() && !options.include.is_empty() {
        return bad("a new instance needs all of a set; leave out include".to_owned());
    }
    if let Some(target) = options.target.as_ref().filter(|t| !t.is_absolute() || t.parent().is_none()) {
        return bad(format!("target {}: name an absolute path of a directory to be made", target.display()));
    }
    Ok(includes)
}

fn bail_snapshot<T>(snapshot: &str) -> Result<T> {
    let shown: String = snapshot.chars().take(80).flat_map(char::escape_default).collect();
    let text =
        format!("\"{shown}\" is no snapshot id: they have hexadecimal digits; see `holdfast snapshots`");
    Err(Error::new(ErrorKind::InvalidArgument, text))
}
