//! What answers for systemd: units that run for as long as a file begins with `good`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use zbus::object_server::SignalEmitter;
use zbus::wire::OwnedObjectPath;
use zbus::{Connection, ObjectServer, interface};

use crate::support::Bus;

const ROOT: &str = "/org/freedesktop/systemd1";

/// How the units stand, by name, and what was asked of them.
#[derive(Default)]
struct Book {
    states: BTreeMap<String, &'static str>,
    starts: Vec<String>,
    jobs: u32,
}

type Shared = Arc<Mutex<Book>>;

/// A bus with a systemd on it.
pub(crate) struct Systemd {
    pub(crate) bus: Bus,
    connection: Connection,
    book: Shared,
}

struct Manager {
    dir: PathBuf,
    book: Shared,
}

struct Unit {
    name: String,
    book: Shared,
}

fn path(name: &str) -> OwnedObjectPath {
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    OwnedObjectPath::try_from(format!("{ROOT}/unit/{name}")).unwrap()
}

async fn told(server: &ObjectServer, name: &str) {
    let unit = server.interface::<_, Unit>(path(name)).await.unwrap();
    unit.get().await.active_state_changed(unit.signal_emitter()).await.unwrap();
}

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    fn subscribe(&self) {}

    fn reset_failed_unit(&self, name: String) {
        let mut book = self.book.lock().unwrap();
        if book.states.get(&name) == Some(&"failed") {
            book.states.insert(name, "inactive");
        }
    }

    async fn load_unit(&self, name: String, #[zbus(object_server)] server: &ObjectServer) -> OwnedObjectPath {
        let unit = Unit { name: name.clone(), book: Arc::clone(&self.book) };
        server.at(path(&name), unit).await.unwrap();
        path(&name)
    }

    /// The unit `NAME.service` runs if `data-NAME/file` begins with `good`. A file `hold-start` makes it wait.
    async fn start_unit(
        &self,
        name: String,
        _mode: String,
        #[zbus(object_server)] server: &ObjectServer,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> OwnedObjectPath {
        self.book.lock().unwrap().starts.push(name.clone());
        if std::fs::remove_file(self.dir.join("hold-start")).is_ok() {
            std::fs::write(self.dir.join("at-start"), "").unwrap();
            std::future::pending::<()>().await;
        }
        let data = self.dir.join(format!("data-{}/file", name.trim_end_matches(".service")));
        let good = std::fs::read_to_string(data).is_ok_and(|text| text.starts_with("good"));
        let state = if good { "active" } else { "failed" };
        let id = {
            let mut book = self.book.lock().unwrap();
            book.states.insert(name.clone(), state);
            book.jobs += 1;
            book.jobs
        };
        told(server, &name).await;
        let job = OwnedObjectPath::try_from(format!("{ROOT}/job/{id}")).unwrap();
        let result = if good { "done" } else { "failed" };
        Self::job_removed(&emitter, id, job.clone(), name, result.to_owned()).await.unwrap();
        job
    }

    #[zbus(signal)]
    async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: OwnedObjectPath,
        unit: String,
        result: String,
    ) -> zbus::Result<()>;
}

#[interface(name = "org.freedesktop.systemd1.Unit")]
impl Unit {
    #[zbus(property)]
    fn id(&self) -> String {
        self.name.clone()
    }
    #[zbus(property)]
    fn load_state(&self) -> &'static str {
        match self.book.lock().unwrap().states.contains_key(&self.name) {
            true => "loaded",
            false => "not-found",
        }
    }
    #[zbus(property)]
    fn active_state(&self) -> &'static str {
        self.book.lock().unwrap().states.get(&self.name).copied().unwrap_or("inactive")
    }
    #[zbus(property)]
    fn sub_state(&self) -> &'static str {
        "dead"
    }
    #[zbus(property, name = "InvocationID")]
    fn invocation_id(&self) -> Vec<u8> {
        vec![1]
    }
}

impl Systemd {
    /// With these units, which run.
    pub(crate) async fn start(dir: &Path, units: &[&str]) -> Self {
        let bus = Bus::start();
        let book = Shared::default();
        for unit in units {
            book.lock().unwrap().states.insert(format!("{unit}.service"), "active");
        }
        let manager = Manager { dir: dir.to_owned(), book: Arc::clone(&book) };
        let builder = zbus::connection::Builder::address(bus.address.as_str());
        let builder = builder.name("org.freedesktop.systemd1").serve_at(ROOT, manager);
        let connection = builder.build().await.unwrap();
        Self { bus, connection, book }
    }

    /// A unit fails.
    pub(crate) async fn fail(&self, unit: &str) {
        self.set(unit, "failed").await;
    }

    /// A unit is stopped or started by somebody.
    pub(crate) async fn set(&self, unit: &str, state: &'static str) {
        let name = format!("{unit}.service");
        self.book.lock().unwrap().states.insert(name.clone(), state);
        if self.connection.object_server().interface::<_, Unit>(path(&name)).await.is_ok() {
            told(self.connection.object_server(), &name).await;
        }
    }

    /// How a unit stands.
    pub(crate) fn state(&self, unit: &str) -> &'static str {
        self.book.lock().unwrap().states[&format!("{unit}.service")]
    }

    /// How often units were started.
    pub(crate) fn starts(&self) -> usize {
        self.book.lock().unwrap().starts.len()
    }

    /// Waits until a unit stands so.
    pub(crate) async fn until(&self, unit: &str, state: &str, log: impl Fn() -> String) {
        let start = std::time::Instant::now();
        while self.state(unit) != state {
            assert!(start.elapsed() < crate::support::DEADLINE, "{unit} is not {state}\n{}", log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
