//! `org.holdfast.Backup1.Manager`: the daemon as a whole.

use zbus::interface;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::wire::{ObjectPath, OwnedObjectPath};
use zbus::{Connection, ObjectServer};

use super::answer::{Desk, Shown, Shows};
use super::authorise::{Action, Thing};
use super::error::{Error, Result};
use super::options::{Given, Options};
use super::request;
use super::rows::{self, Row};
use super::view::ManagerView;
use super::{argument, job, keys, objects, pin};

pub(super) struct Manager {
    desk: Desk,
    shown: Shown<ManagerView>,
}

impl Manager {
    pub(super) const fn new(desk: Desk, view: ManagerView) -> Self {
        Self { desk, shown: Shown::new(view) }
    }
}

impl Shows for Manager {
    type View = ManagerView;
    fn shown(&self) -> &Shown<ManagerView> {
        &self.shown
    }
}

#[interface(name = "org.holdfast.Backup1.Manager")]
impl Manager {
    /// Starts a backup. Options: instances (as) narrows it.
    #[zbus(out_args("job"))]
    async fn run_backup(
        &self,
        backup: String,
        options: Given,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath> {
        let (caller, backup) = self.desk.admit_to(&header, Action::Run, Thing::Backup, &backup).await?;
        let instances = request::run(options)?;
        let control = self.desk.control.clone();
        self.desk
            .start(caller, async move { control.run_backup(&backup, instances, &caller.cause()).await })
            .await
    }

    /// Restores a set of an instance, or of REPOSITORY:MODULE/UUID that is not defined here; snapshot "" is the latest.
    /// Options: repository (s), before (t), include (as), database (as), target (s), as (s), map (as), stop (b),
    /// start (b), force_foreign (b), force_version (b), owners (s), setuid (b), devices (b), create_user (b), and of root
    /// only dump (a{sh}: files that are open for reading, instead of saved dumps).
    #[zbus(out_args("job"))]
    async fn restore(
        &self,
        instance: String,
        snapshot: String,
        options: Given,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath> {
        argument::limit("snapshot", &snapshot)?;
        let action = request::action(&instance, &options, Action::Restore);
        let caller = self.desk.admit(&header, action, Thing::Instance, &instance).await?;
        let instance = argument::subject(&instance)?;
        let snapshot = argument::snapshot(&snapshot)?.to_owned();
        self.desk.admit_files(&header, &options).await?;
        let options = request::restore(options)?;
        let control = self.desk.control.clone();
        self.desk
            .start(
                caller,
                async move { control.restore(&instance, &snapshot, options, &caller.cause()).await },
            )
            .await
    }

    /// Restores the newest fit set of an instance whose unit has failed, and starts the unit.
    /// Options: save_failed (b), start (b), acknowledge (b).
    #[zbus(out_args("job"))]
    async fn recover(
        &self,
        instance: String,
        options: Given,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath> {
        let (caller, instance) =
            self.desk.admit_to(&header, Action::Restore, Thing::Instance, &instance).await?;
        let options = request::recover(options)?;
        let control = self.desk.control.clone();
        self.desk
            .start(caller, async move { control.recover(&instance, options, &caller.cause()).await })
            .await
    }

    /// Puts back what the last restore of an instance replaced.
    #[zbus(out_args("job"))]
    async fn rollback(
        &self,
        instance: String,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath> {
        let (caller, instance) =
            self.desk.admit_to(&header, Action::Restore, Thing::Instance, &instance).await?;
        let control = self.desk.control.clone();
        self.desk.start(caller, async move { control.rollback(&instance, &caller.cause()).await }).await
    }

    /// Removes data of a repository that no set needs.
    #[zbus(out_args("job"))]
    async fn prune(&self, repository: String, #[zbus(header)] header: Header<'_>) -> Result<OwnedObjectPath> {
        let (caller, repository) =
            self.desk.admit_to(&header, Action::Run, Thing::Repository, &repository).await?;
        let control = self.desk.control.clone();
        self.desk.start(caller, async move { control.prune(&repository, &caller.cause()).await }).await
    }

    /// Checks a repository. Options: read_data (s) is 1/12, 10% or all; none: as defined.
    #[zbus(out_args("job"))]
    async fn check(
        &self,
        repository: String,
        options: Given,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath> {
        let (caller, repository) =
            self.desk.admit_to(&header, Action::Run, Thing::Repository, &repository).await?;
        let read_data = Options::of(options, &["read_data"], &[])?.text("read_data")?;
        let control = self.desk.control.clone();
        self.desk
            .start(caller, async move { control.check(&repository, read_data, &caller.cause()).await })
            .await
    }

    /// Proves that a set restores: not supported yet.
    #[zbus(out_args("job"))]
    async fn drill(
        &self,
        instance: String,
        options: Given,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath> {
        self.desk.admit_to(&header, Action::Run, Thing::Instance, &instance).await?;
        Options::of(options, &[], &[])?;
        Err(Error::not_yet("Drill"))
    }

    /// Makes a set of an archive, or of a directory of MicroShift, that the caller opened; name is what it is called.
    /// Only root may. Options: repository (s), map (as), exclude (as), time (t), version (s), standing (s).
    #[zbus(out_args("job"))]
    async fn import(
        &self,
        instance: String,
        name: String,
        data: zbus::OwnedFd,
        options: Given,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath> {
        let (caller, instance) = self.desk.admit_root(&header, "import", &instance).await?;
        argument::limit("name", &name)?;
        let options = request::import(options)?;
        let control = self.desk.control.clone();
        let work =
            async move { control.import(&instance, name, data.into(), options, &caller.cause()).await };
        self.desk.start(caller, work).await
    }

    /// Says what a restore would do, as JSON, and touches nothing. Options as for Restore.
    #[zbus(out_args("plan"))]
    async fn plan(
        &self,
        instance: String,
        snapshot: String,
        options: Given,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<String> {
        argument::limit("snapshot", &snapshot)?;
        // What it says of a place tells what is there.
        let action = request::action(&instance, &options, Action::View);
        self.desk.admit(&header, action, Thing::Instance, &instance).await?;
        let instance = argument::subject(&instance)?;
        let snapshot = argument::snapshot(&snapshot)?.to_owned();
        self.desk.admit_files(&header, &options).await?;
        let options = request::restore(options)?;
        let control = self.desk.control.clone();
        self.desk.run(async move { control.plan_restore(&instance, &snapshot, options).await }).await
    }

    /// The committed sets of an instance, newest first.
    #[zbus(out_args("sets"))]
    async fn list_snapshots(&self, instance: String, #[zbus(header)] header: Header<'_>) -> Result<Vec<Row>> {
        let (_, instance) = self.desk.admit_to(&header, Action::View, Thing::Instance, &instance).await?;
        let control = self.desk.control.clone();
        let sets = self.desk.run(async move { control.list_snapshots(&instance).await }).await?;
        Ok(sets.into_iter().map(rows::set).collect())
    }

    /// Pins a set of an instance: no retention forgets it. The snapshot's id may be shortened.
    async fn pin(
        &self,
        instance: String,
        snapshot: String,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<()> {
        pin::set(&self.desk, (instance, snapshot), true, &header).await
    }

    /// Takes a pin back.
    async fn unpin(
        &self,
        instance: String,
        snapshot: String,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<()> {
        pin::set(&self.desk, (instance, snapshot), false, &header).await
    }

    /// The instances that a repository holds sets of.
    #[zbus(out_args("instances"))]
    async fn list_contents(
        &self,
        repository: String,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<Row>> {
        let (_, repository) =
            self.desk.admit_to(&header, Action::View, Thing::Repository, &repository).await?;
        let control = self.desk.control.clone();
        let contents = self.desk.run(async move { control.list_contents(&repository).await }).await?;
        Ok(contents.into_iter().map(rows::content).collect())
    }

    /// Jobs, newest first: rows are the properties of Job. Filter: kind (s), subject (s), instance (s), outcome (s),
    /// since (t), limit (u).
    #[zbus(out_args("jobs"))]
    async fn list_jobs(
        &self,
        filter: Given,
        #[zbus(connection)] connection: &Connection,
        #[zbus(object_server)] server: &ObjectServer,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<objects::Properties>> {
        self.desk.admit(&header, Action::View, Thing::Daemon, "").await?;
        let (query, control) = (request::jobs(filter)?, self.desk.control.clone());
        let jobs = self.desk.run(async move { control.list_jobs(query).await }).await?;
        job::rows(&self.desk, jobs, connection, server).await
    }

    /// Defines a repository. Options: url (s), password (s), environment (a{ss}), layout (s), append_only (b).
    async fn add_repository(
        &self,
        name: String,
        options: Given,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<()> {
        let (_, name) = self.desk.admit_to(&header, Action::Manage, Thing::Repository, &name).await?;
        let (keys, control) = (keys::take(options, keys::REPOSITORY)?, self.desk.control.clone());
        self.desk.define(async move { control.add_repository(&name, keys).await }).await
    }

    /// Defines a backup. Options are its TOML keys.
    async fn add_backup(
        &self,
        name: String,
        options: Given,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<()> {
        let (_, name) = self.desk.admit_to(&header, Action::Manage, Thing::Backup, &name).await?;
        let keys = keys::take(options, keys::BACKUP)?;
        let control = self.desk.control.clone();
        self.desk.define(async move { control.add_backup(&name, keys).await }).await
    }

    /// Changes keys of a backup where it is defined; others stay.
    async fn alter_backup(
        &self,
        name: String,
        options: Given,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<()> {
        let (_, name) = self.desk.admit_to(&header, Action::Manage, Thing::Backup, &name).await?;
        let keys = keys::take(options, keys::BACKUP)?;
        let control = self.desk.control.clone();
        self.desk.define(async move { control.alter_backup(&name, keys).await }).await
    }

    /// Removes a definition; its sets are kept.
    async fn remove_backup(&self, name: String, #[zbus(header)] header: Header<'_>) -> Result<()> {
        let (_, name) = self.desk.admit_to(&header, Action::Manage, Thing::Backup, &name).await?;
        let control = self.desk.control.clone();
        self.desk.define(async move { control.remove_backup(&name).await }).await
    }

    /// Removes a definition; its data is kept.
    async fn remove_repository(&self, name: String, #[zbus(header)] header: Header<'_>) -> Result<()> {
        let (_, name) = self.desk.admit_to(&header, Action::Manage, Thing::Repository, &name).await?;
        let control = self.desk.control.clone();
        self.desk.define(async move { control.remove_repository(&name).await }).await
    }

    /// Defines an instance. Options: include (as), exclude (as), allow_users (as), allow_groups (as); others stand in files
    /// only.
    async fn add_instance(
        &self,
        name: String,
        options: Given,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<()> {
        self.desk.admit(&header, Action::Manage, Thing::Instance, &name).await?;
        let name = argument::name("instance", &name)?;
        let (keys, control) = (keys::take(options, keys::INSTANCE)?, self.desk.control.clone());
        self.desk.define(async move { control.add_instance(&name, keys).await }).await
    }

    /// Removes a definition; its data and its sets are kept.
    async fn remove_instance(&self, name: String, #[zbus(header)] header: Header<'_>) -> Result<()> {
        self.desk.admit(&header, Action::Manage, Thing::Instance, &name).await?;
        let name = argument::name("instance", &name)?;
        let control = self.desk.control.clone();
        self.desk.define(async move { control.remove_instance(&name).await }).await
    }

    /// Reads the definitions anew and says what is wrong with them.
    #[zbus(out_args("diagnostics"))]
    async fn reload(&self, #[zbus(header)] header: Header<'_>) -> Result<Vec<String>> {
        self.desk.admit(&header, Action::Manage, Thing::Daemon, "").await?;
        let control = self.desk.control.clone();
        let diagnostics = self.desk.define(async move { Ok(control.reload().await) }).await?;
        Ok(diagnostics.iter().map(|line| rows::text(line)).collect())
    }

    /// Runs nothing by schedule for so many seconds; 0: until Resume.
    async fn pause(&self, seconds: u64, #[zbus(header)] header: Header<'_>) -> Result<()> {
        self.desk.admit(&header, Action::Manage, Thing::Daemon, "").await?;
        let seconds = argument::pause(seconds)?;
        let control = self.desk.control.clone();
        self.desk.define(async move { control.pause(seconds).await }).await
    }

    /// Runs by schedule again.
    async fn resume(&self, #[zbus(header)] header: Header<'_>) -> Result<()> {
        self.desk.admit(&header, Action::Manage, Thing::Daemon, "").await?;
        let control = self.desk.control.clone();
        self.desk.define(async move { control.resume().await }).await
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// Or why there is none.
    #[zbus(property)]
    fn restic_version(&self) -> String {
        self.shown.get().restic_version.clone()
    }

    /// What needs somebody: trouble with the stored history, and what Reload found last.
    #[zbus(property)]
    fn findings(&self) -> Vec<String> {
        self.shown.get().findings.clone()
    }

    #[zbus(property)]
    fn paused(&self) -> bool {
        self.shown.get().paused
    }

    /// Microseconds since the epoch; 0: not paused, or until Resume.
    #[zbus(property)]
    fn paused_until(&self) -> u64 {
        self.shown.get().paused_until
    }

    /// Jobs that have not ended.
    #[zbus(property)]
    fn active_jobs(&self) -> u32 {
        self.shown.get().active_jobs
    }

    /// A job was started.
    #[zbus(signal)]
    pub(super) async fn job_new(emitter: &SignalEmitter<'_>, job: ObjectPath<'_>) -> zbus::Result<()>;

    /// A job ended; its object stays for ten minutes.
    #[zbus(signal)]
    pub(super) async fn job_removed(
        emitter: &SignalEmitter<'_>,
        job: ObjectPath<'_>,
        outcome: &str,
    ) -> zbus::Result<()>;

    /// Definitions were read anew.
    #[zbus(signal)]
    pub(super) async fn definitions_changed(emitter: &SignalEmitter<'_>) -> zbus::Result<()>;
}
