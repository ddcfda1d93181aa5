//! Verbs that change definitions: checked as a whole before a byte is written, then read anew.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use jiff::tz::TimeZone;
use tracing::{error, info};

use super::{Active, Control, Error, ErrorKind, Event, Keys, Result, checked};
use crate::config;
use crate::config::edit::{self, EditError};

impl Control {
    /// Reads the definitions anew, switches to what is good in one step and returns the diagnostics.
    pub async fn reload(&self) -> Vec<String> {
        let diagnostics = self.read_again().await;
        if self.definitions().discover_docker {
            self.0.stacks_changed.notify_one();
        }
        let control = self.clone();
        tokio::spawn(async move { control.remove_unnamed_mirrors().await });
        diagnostics
    }

    pub(super) async fn read_again(&self) -> Vec<String> {
        let _one_at_a_time = self.0.changing.lock().await;
        self.read_anew().await
    }

    async fn read_anew(&self) -> Vec<String> {
        let dirs = self.0.config_dirs.clone();
        let environment = config::Environment { zone: TimeZone::system(), ..self.0.environment.clone() };
        let previous = self.loaded();
        let written = self.0.stacks_written.load(Ordering::Relaxed);
        let read = move || config::load(&dirs, &environment, Some(&previous));
        let loaded = match tokio::task::spawn_blocking(read).await {
            Ok(loaded) => loaded,
            Err(death) => return vec![format!("reading the definitions died, the old ones stay: {death}")],
        };
        let diagnostics: Vec<_> = loaded.diagnostics.iter().map(ToString::to_string).collect();
        diagnostics.iter().for_each(|diagnostic| error!("{diagnostic}"));
        self.0.context.queue.set_max_parallel(loaded.definitions.daemon.max_parallel);
        info!(
            "definitions read: {} backups, {} instances, {} repositories, {} findings",
            loaded.definitions.backups.len(),
            loaded.definitions.instances.len(),
            loaded.definitions.repositories.len(),
            diagnostics.len()
        );
        *self.0.active.write().unwrap_or_else(PoisonError::into_inner) = Active::new(loaded);
        self.0.stacks_read.store(written, Ordering::Relaxed);
        // Without a schedule there are no slots.
        if self.0.trigger.get().is_some()
            && let Err(failure) = self.plan().await
        {
            error!("the slots of the new definitions could not be planned: {failure:#}");
        }
        self.tell(Event::DefinitionsChanged);
        diagnostics
    }

    /// Defines a repository. A `password` or an `environment` goes into 0600 files, never into TOML.
    ///
    /// # Errors
    /// The name exists, or the definition would not be valid; nothing was written then.
    pub async fn add_repository(&self, name: &str, keys: Keys) -> Result<()> {
        let name = checked(name)?;
        self.edit(move |dirs, env| edit::add_repository(dirs, env, &name, keys.into_iter().collect())).await
    }

    /// Defines a backup.
    ///
    /// # Errors
    /// As [`Control::add_repository`].
    pub async fn add_backup(&self, name: &str, keys: Keys) -> Result<()> {
        let name = checked(name)?;
        self.edit(move |dirs, env| edit::add_backup(dirs, env, &name, keys.into_iter().collect())).await
    }

    /// Changes keys of a backup; others stay as they are.
    ///
    /// # Errors
    /// It is not defined, or would not be valid; nothing was written then.
    pub async fn alter_backup(&self, name: &str, keys: Keys) -> Result<()> {
        let name = self.known_backup(name)?.name.clone();
        self.edit(move |dirs, env| edit::alter_backup(dirs, env, &name, keys.into_iter().collect())).await
    }

    /// Removes a backup's definition. Its sets stay where they are.
    ///
    /// # Errors
    /// It is not defined.
    pub async fn remove_backup(&self, name: &str) -> Result<()> {
        let name = self.known_backup(name)?.name.clone();
        self.edit(move |dirs, env| edit::remove_backup(dirs, env, &name)).await
    }

    /// Removes a repository's definition. Its data and its password file stay.
    ///
    /// # Errors
    /// It is not defined, or a backup uses it.
    pub async fn remove_repository(&self, name: &str) -> Result<()> {
        let name = self.known_repository(name)?.name.clone();
        let shown = name.clone();
        self.edit(move |dirs, env| edit::remove_repository(dirs, env, &name)).await?;
        Ok(crate::job::forget_known(&self.0.context, &shown).await?)
    }

    /// Defines an instance.
    ///
    /// # Errors
    /// As [`Control::add_repository`].
    pub async fn add_instance(&self, name: &str, keys: Keys) -> Result<()> {
        let name = checked(name)?;
        self.edit(move |dirs, env| edit::add_instance(dirs, env, &name, keys.into_iter().collect())).await
    }

    /// Removes an instance's definition. Its data, its identity and its sets stay.
    ///
    /// # Errors
    /// It is not defined, or a backup names it.
    pub async fn remove_instance(&self, name: &str) -> Result<()> {
        let name = self.known_instance(name)?.name.clone();
        self.edit(move |dirs, env| edit::remove_instance(dirs, env, &name)).await
    }

    /// Lets a backup run, or not.
    ///
    /// # Errors
    /// It is not defined.
    pub async fn set_enabled(&self, backup: &str, enabled: bool) -> Result<()> {
        let name = self.known_backup(backup)?.name.clone();
        self.edit(move |dirs, env| edit::set_enabled(dirs, env, &name, enabled)).await
    }

    async fn edit<F>(&self, edit: F) -> Result<()>
    where
        F: FnOnce(&config::Dirs, &config::Environment) -> edit::Edited + Send + 'static,
    {
        let _one_at_a_time = self.0.changing.lock().await;
        let (dirs, environment) = (self.0.config_dirs.clone(), self.0.environment.clone());
        let edited = tokio::task::spawn_blocking(move || edit(&dirs, &environment)).await;
        edited.map_err(anyhow::Error::new)?.map_err(refused)?;
        self.read_anew().await;
        Ok(())
    }
}

pub(super) fn refused(error: EditError) -> Error {
    let kind = match &error {
        EditError::NoSuch(_) => ErrorKind::InvalidArgument,
        EditError::AlreadyExists(_) => ErrorKind::AlreadyExists,
        EditError::InUse(_) => ErrorKind::InUse,
        EditError::Invalid(_) => ErrorKind::InvalidDefinition,
        EditError::NotWritable(_) => ErrorKind::Failed,
    };
    Error::new(kind, error.to_string())
}
