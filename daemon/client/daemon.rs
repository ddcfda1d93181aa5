//! The daemon as seen from here: proxies for the contract, and the few questions that several commands ask.

use std::collections::HashMap;
use std::time::Duration;

use zbus::connection::Builder;
use zbus::fdo::{ObjectManagerProxy, PropertiesProxy};
use zbus::names::InterfaceName;
use zbus::{Connection, Variant, fdo, proxy};

use super::failure::{Exit, Failure};
use super::wire::{ROOT, Row, SERVICE, object_path};

/// How long the bus may take to let us in.
const GREETING: Duration = Duration::from_secs(20);

/// How long a call may take in all. Beyond what the daemon allows itself (`bus/answer.rs`) and a person's password.
const ANSWER: Duration = Duration::from_secs(600);

/// Options of a call: `a{sv}`.
pub(super) type Options<'a> = HashMap<&'a str, Variant<'a>>;

#[proxy(
    interface = "org.holdfast.Backup1.Manager",
    default_service = "org.holdfast.Backup1",
    default_path = "/org/holdfast/Backup1"
)]
pub(super) trait Manager {
    fn list_contents(&self, repository: &str) -> zbus::Result<Vec<super::wire::Wire>>;
    #[zbus(allow_interactive_auth)]
    fn run_backup(&self, backup: &str, options: Options<'_>) -> zbus::Result<zbus::OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn restore(
        &self,
        instance: &str,
        snapshot: &str,
        options: Options<'_>,
    ) -> zbus::Result<zbus::OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn rollback(&self, instance: &str) -> zbus::Result<zbus::OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn recover(&self, instance: &str, options: Options<'_>) -> zbus::Result<zbus::OwnedObjectPath>;
    fn import(
        &self,
        instance: &str,
        name: &str,
        data: zbus::Fd<'_>,
        options: Options<'_>,
    ) -> zbus::Result<zbus::OwnedObjectPath>;
    fn plan(&self, instance: &str, snapshot: &str, options: Options<'_>) -> zbus::Result<String>;
    #[zbus(allow_interactive_auth)]
    fn prune(&self, repository: &str) -> zbus::Result<zbus::OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn check(&self, repository: &str, options: Options<'_>) -> zbus::Result<zbus::OwnedObjectPath>;
    fn list_snapshots(&self, instance: &str) -> zbus::Result<Vec<super::wire::Wire>>;
    #[zbus(allow_interactive_auth)]
    fn pin(&self, instance: &str, snapshot: &str) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn unpin(&self, instance: &str, snapshot: &str) -> zbus::Result<()>;
    fn list_jobs(&self, filter: Options<'_>) -> zbus::Result<Vec<super::wire::Wire>>;
    #[zbus(allow_interactive_auth)]
    fn add_repository(&self, name: &str, keys: Options<'_>) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn add_backup(&self, name: &str, keys: Options<'_>) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn add_instance(&self, name: &str, keys: Options<'_>) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn remove_instance(&self, name: &str) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn alter_backup(&self, name: &str, keys: Options<'_>) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn remove_backup(&self, name: &str) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn remove_repository(&self, name: &str) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn reload(&self) -> zbus::Result<Vec<String>>;
    #[zbus(allow_interactive_auth)]
    fn pause(&self, seconds: u64) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn resume(&self) -> zbus::Result<()>;
    #[zbus(signal)]
    fn job_removed(&self, job: zbus::ObjectPath<'_>, outcome: &str) -> zbus::Result<()>;
}

#[proxy(interface = "org.holdfast.Backup1.Backup", default_service = "org.holdfast.Backup1")]
pub(super) trait Backup {
    #[zbus(allow_interactive_auth)]
    fn enable(&self) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn disable(&self) -> zbus::Result<()>;
}

#[proxy(interface = "org.holdfast.Backup1.Repository", default_service = "org.holdfast.Backup1")]
pub(super) trait Repository {
    #[zbus(allow_interactive_auth)]
    fn test(&self) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn unlock(&self) -> zbus::Result<()>;
}

#[proxy(interface = "org.holdfast.Backup1.Job", default_service = "org.holdfast.Backup1")]
pub(super) trait Job {
    #[zbus(allow_interactive_auth)]
    fn cancel(&self) -> zbus::Result<()>;
}

/// All objects of the daemon, by kind, each kind in the order of its names.
#[derive(Debug, Default)]
pub(super) struct Objects {
    pub(super) backups: Vec<Row>,
    pub(super) repositories: Vec<Row>,
    pub(super) instances: Vec<Row>,
    /// Oldest first.
    pub(super) jobs: Vec<Row>,
}

/// A connection to the daemon.
pub(super) struct Daemon {
    pub(super) connection: Connection,
    pub(super) manager: ManagerProxy<'static>,
    bus: String,
}

impl Daemon {
    /// Connects to `system`, `session` or an address. Whether a daemon is there shows with the first call.
    pub(super) async fn connect(bus: &str) -> Result<Self, Failure> {
        let bus = if bus.is_empty() { "system" } else { bus };
        let builder = match bus {
            "system" => Builder::system(),
            "session" => Builder::session(),
            address => Builder::address(address),
        };
        let connection = tokio::time::timeout(GREETING, builder.method_timeout(ANSWER).build()).await;
        let connection = connection.map_err(|_| Failure::no_daemon(bus, "the bus does not answer"))?;
        let connection = connection.map_err(|error| unreachable_bus(bus, &error))?;
        let manager = ManagerProxy::builder(&connection)
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()
            .await;
        let manager = manager.map_err(|error| Failure::from_bus(error, bus))?;
        Ok(Self { connection, manager, bus: bus.to_owned() })
    }

    /// What an error of the bus means here; for `map_err`.
    pub(super) fn failure(&self, error: zbus::Error) -> Failure {
        Failure::from_bus(error, &self.bus)
    }

    /// The same for an error about one named object, which may not exist.
    pub(super) fn failure_of(&self, error: zbus::Error, kind: &str, name: &str) -> Failure {
        if is_unknown_object(&error) { missing(kind, name) } else { self.failure(error) }
    }

    /// The daemon went away while we waited for it.
    pub(super) fn gone(&self, job: &str) -> Failure {
        Failure::no_daemon(&self.bus, "it went away while the job ran")
            .hint(format!("when it is back, `holdfast history` says what became of the job {job}"))
    }

    /// The properties of one object.
    pub(super) async fn properties(&self, path: &str, interface: &str) -> zbus::Result<Row> {
        let proxy = self.properties_proxy(path).await?;
        let name = InterfaceName::try_from(format!("{SERVICE}.{interface}"))?;
        Ok(proxy.get_all(name).await.map_err(zbus::Error::from)?.into())
    }

    /// `org.freedesktop.DBus.Properties` of one object.
    pub(super) async fn properties_proxy(&self, path: &str) -> zbus::Result<PropertiesProxy<'static>> {
        PropertiesProxy::builder(&self.connection).destination(SERVICE).path(path.to_owned()).build().await
    }

    /// The properties of one named object.
    pub(super) async fn named(&self, kind: &str, interface: &str, name: &str) -> Result<Row, Failure> {
        let row = self.properties(&object_path(kind, name), interface).await;
        row.map_err(|error| self.failure_of(error, kind, name))
    }

    /// The manager's properties.
    pub(super) async fn overview(&self) -> Result<Row, Failure> {
        self.properties(ROOT, "Manager").await.map_err(|error| self.failure(error))
    }

    /// Everything that is defined, and the jobs that are readable now.
    pub(super) async fn objects(&self) -> Result<Objects, Failure> {
        let proxy =
            ObjectManagerProxy::builder(&self.connection).destination(SERVICE).path(ROOT).build().await;
        let found = proxy.map_err(|error| self.failure(error))?.get_managed_objects().await;
        let found = found.map_err(|error| self.failure(error.into()))?;
        let mut objects = Objects::default();
        for (interface, properties) in found.into_values().flatten() {
            objects.take(interface.as_str(), properties.into());
        }
        objects.sort();
        Ok(objects)
    }
}

impl Objects {
    fn take(&mut self, interface: &str, row: Row) {
        match interface.strip_prefix(SERVICE) {
            Some(".Backup") => self.backups.push(row),
            Some(".Repository") => self.repositories.push(row),
            Some(".Instance") => self.instances.push(row),
            Some(".Job") => self.jobs.push(row),
            _ => {}
        }
    }

    fn sort(&mut self) {
        for rows in [&mut self.backups, &mut self.repositories, &mut self.instances] {
            rows.sort_by(|a, b| a.text("Name").cmp(b.text("Name")));
        }
        self.jobs.sort_by(|a, b| a.text("Id").cmp(b.text("Id")));
    }
}

fn unreachable_bus(bus: &str, error: &zbus::Error) -> Failure {
    match error {
        zbus::Error::Address(why) => Failure::new(Exit::Usage, format!("`{bus}` is no bus: {why}"))
            .hint("write --bus system, --bus session or an address such as unix:path=/run/user/1000/bus"),
        other => Failure::no_daemon(bus, &format!("the bus cannot be reached ({other})")),
    }
}

/// Whether the error says that there is no such object.
pub(super) fn is_unknown_object(error: &zbus::Error) -> bool {
    let zbus::Error::FDO(error) = error else { return false };
    match error.as_ref() {
        fdo::Error::UnknownObject(_) | fdo::Error::UnknownInterface(_) | fdo::Error::UnknownMethod(_) => true,
        fdo::Error::ZBus(inner) => is_unknown_object(inner),
        _ => false,
    }
}

fn missing(kind: &str, name: &str) -> Failure {
    let hint = match kind {
        "job" => "`holdfast status` shows the jobs that run, `holdfast history` those that ended".to_owned(),
        "instance" => {
            "`holdfast status --json` shows all instances; definitions are read anew by `holdfast reload`"
                .into()
        }
        kind => {
            format!("`holdfast {kind} list` shows the names; definitions are read anew by `holdfast reload`")
        }
    };
    let what = if kind == "job" { "is running or ended lately" } else { "is defined" };
    Failure::failed(format!("no {kind} `{name}` {what}")).hint(hint)
}
