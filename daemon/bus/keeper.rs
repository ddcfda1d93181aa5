//! The one task that keeps the objects on the bus as `control` says they are, and tells what changed.
//!
//! It alone adds, changes and removes objects, so signals come in order and the table cannot disagree with the bus. Every
//! step looks at what is now and compares it with what is shown: a lost or doubled event does no harm.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::{Receiver, error::RecvError, error::TryRecvError};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zbus::Connection;
use zbus::object_server::SignalEmitter;
use zbus::wire::OwnedObjectPath;

use super::answer::{Desk, Shows};
use super::authorise::Thing;
use super::backup::Backup;
use super::guard::Guard;
use super::instance::Instance;
use super::job::Job;
use super::manager::Manager;
use super::objects::{Wish, show};
use super::repository::Repository;
use super::view::ManagerView;
use super::work::Work;
use super::{path, rows};
use crate::control::{self, ErrorKind, Event, JobView};
use crate::definition::{Definitions, Name};
use crate::state::{Kind, Outcome};

/// A job's numbers are told at most this often.
const PROGRESS: Duration = Duration::from_millis(500);

/// How long restic may take to say its version before the objects stand without it.
const VERSION: Duration = Duration::from_secs(5);

pub(super) struct Keeper {
    connection: Connection,
    desk: Desk,
    events: Receiver<Event>,
    wishes: UnboundedReceiver<Wish>,
    restic_version: String,
    /// The definitions that the objects were last compared with.
    was: Option<Arc<Definitions>>,
    backups: BTreeSet<String>,
    repositories: BTreeSet<String>,
    instances: BTreeSet<String>,
    jobs: HashMap<String, Told>,
}

/// What has been told of a job.
struct Told {
    /// The last view, without its numbers.
    standing: JobView,
    /// When a change was last told.
    at: Instant,
    /// Numbers have changed since.
    due: bool,
    /// Its end was told.
    ended: bool,
}

/// A job as it is now.
struct Seen {
    id: String,
    /// None: it is no longer to be shown.
    view: Option<JobView>,
    /// How it ended, if it has.
    outcome: Option<Outcome>,
}

impl Keeper {
    /// Puts all objects up; nothing is told to anybody yet, for the name is not ours.
    pub(super) async fn raise(
        connection: Connection,
        desk: Desk,
        wishes: UnboundedReceiver<Wish>,
    ) -> zbus::Result<Self> {
        // Events first: what changes while we look is seen.
        let events = desk.control.subscribe();
        let mut keeper = Self {
            connection,
            desk,
            events,
            wishes,
            restic_version: String::new(),
            was: None,
            backups: BTreeSet::new(),
            repositories: BTreeSet::new(),
            instances: BTreeSet::new(),
            jobs: HashMap::new(),
        };
        keeper.ask_restic().await;
        let manager = Manager::new(keeper.desk.clone(), keeper.manager_view());
        let authority = keeper.desk.authority.clone();
        let manager = Guard::properties(manager, authority.clone(), Thing::Daemon, "");
        keeper.connection.object_server().at(path::ROOT, manager).await?;
        keeper.look(Work { everything: true, ..Work::default() }).await;
        let tree = Guard::methods(zbus::fdo::ObjectManager, authority);
        keeper.connection.object_server().at(path::ROOT, tree).await?;
        Ok(keeper)
    }

    /// Keeps the objects until cancelled; what was told to us before that is still told on.
    pub(super) async fn run(mut self, cancel: CancellationToken) {
        while !cancel.is_cancelled() {
            let mut work = Work::default();
            let due = self.jobs.values().filter(|told| told.due).map(|told| told.at + PROGRESS).min();
            tokio::select! {
                () = cancel.cancelled() => {}
                event = self.events.recv() => match event {
                    Ok(event) => work.note(event),
                    Err(RecvError::Lagged(_)) => work.everything = true,
                    Err(RecvError::Closed) => return,
                },
                Some(wish) = self.wishes.recv() => work.wish(wish),
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
            self.gather(&mut work);
            self.look(work).await;
        }
    }

    /// Adds whatever else has come in by now.
    fn gather(&mut self, work: &mut Work) {
        loop {
            match self.events.try_recv() {
                Ok(event) => work.note(event),
                Err(TryRecvError::Lagged(_)) => work.everything = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        while let Ok(wish) = self.wishes.try_recv() {
            work.wish(wish);
        }
        let now = Instant::now();
        for (id, _) in self.jobs.iter().filter(|(_, told)| told.due && told.at + PROGRESS <= now) {
            work.jobs.entry(id.clone()).or_default();
        }
    }

    /// Looks at all that may have changed. What a job changed is shown before its end is told.
    async fn look(&mut self, mut work: Work) {
        if work.everything {
            let live = self.desk.control.jobs().into_iter().map(|job| job.record.id);
            let ids: Vec<String> = live.chain(self.jobs.keys().cloned()).collect();
            ids.into_iter().for_each(|id| _ = work.jobs.entry(id).or_default());
        }
        if work.reloaded || work.paused || work.everything {
            self.definitions(&mut work);
        }
        if work.reloaded {
            self.ask_restic().await;
        }
        let jobs: Vec<_> =
            std::mem::take(&mut work.jobs).into_iter().map(|(id, told)| self.seen(id, told)).collect();
        jobs.iter().for_each(|seen| self.touched(seen, &mut work));
        self.defined(&work).await;
        let mut ended = Vec::new();
        for seen in jobs {
            let path = path::job(&seen.id);
            match self.job(&path, seen).await {
                Ok(outcome) => ended.extend(outcome.map(|outcome| (path, outcome))),
                Err(error) => self.log("job", path.as_str(), Err(error)),
            }
        }
        self.tell(&work, &ended).await;
        // Who waits may be gone.
        work.waiting.into_iter().for_each(|done| _ = done.send(()));
    }

    /// Tells what concerns the whole.
    async fn tell(&self, work: &Work, ended: &[(OwnedObjectPath, Outcome)]) {
        let shown = show::<Manager>(&self.connection, &root().as_ref(), self.manager_view()).await;
        self.log("manager", path::ROOT, shown);
        for (path, outcome) in ended {
            let told = Manager::job_removed(&self.emitter(), path.as_ref(), outcome.word()).await;
            self.log("job's end", path.as_str(), told);
        }
        if work.reloaded {
            let told = Manager::definitions_changed(&self.emitter()).await;
            self.log("reload", path::ROOT, told);
        }
    }

    /// Adds what differs between the definitions as they are and as they were. A thousand that stayed cost nothing.
    fn definitions(&mut self, work: &mut Work) {
        let now = self.desk.control.definitions();
        let was = self.was.replace(Arc::clone(&now));
        let was = was.as_deref().filter(|_| !work.everything);
        work.repositories.extend(differ(
            was.map(|was| &was.repositories),
            &now.repositories,
            &self.repositories,
        ));
        let instances = differ(was.map(|was| &was.instances), &now.instances, &self.instances);
        // Which instances a backup covers and when it runs next hangs on more than its own definition.
        let same = was.filter(|was| was.daemon == now.daemon && instances.is_empty() && !work.paused);
        work.backups.extend(differ(same.map(|was| &was.backups), &now.backups, &self.backups));
        work.instances.extend(instances);
    }

    async fn defined(&mut self, work: &Work) {
        let (control, desk) = (self.desk.control.clone(), self.desk.clone());
        for name in &work.repositories {
            let (view, stands) = (control.repository(name).await, self.repositories.contains(name));
            let make = |view| self.guarded(Repository::new(desk.clone(), view), Thing::Repository, name);
            let kept = self.keep(path::repository(name), stands, view, make).await;
            mark(&mut self.repositories, name, kept);
        }
        for name in &work.instances {
            let (view, stands) = (control.instance(name).await, self.instances.contains(name));
            let make = |view| self.guarded(Instance::new(view), Thing::Instance, name);
            let kept = self.keep(path::instance(name), stands, view, make).await;
            mark(&mut self.instances, name, kept);
        }
        for name in &work.backups {
            let (view, stands) = (control.backup(name).await, self.backups.contains(name));
            let make = |view| self.guarded(Backup::new(desk.clone(), view), Thing::Backup, name);
            let kept = self.keep(path::backup(name), stands, view, make).await;
            mark(&mut self.backups, name, kept);
        }
    }

    /// An object's interface behind the gate.
    fn guarded<I>(&self, interface: I, thing: Thing, name: &str) -> Guard<I> {
        Guard::properties(interface, self.desk.authority.clone(), thing, name)
    }

    /// Puts up, changes or removes the object of a definition; returns whether it stands now.
    async fn keep<I: Shows>(
        &self,
        path: OwnedObjectPath,
        stands: bool,
        view: Result<I::View, control::Error>,
        make: impl FnOnce(I::View) -> Guard<I>,
    ) -> bool {
        let server = self.connection.object_server();
        let (now, done) = match view {
            Ok(view) if stands => (true, show::<I>(&self.connection, &path.as_ref(), view).await),
            Ok(view) => (true, server.at(path.as_ref(), make(view)).await.map(drop)),
            Err(error) if !is_gone(error.kind) => {
                tracing::warn!(%path, %error, "an object on the bus shows its last known state");
                (stands, Ok(()))
            }
            Err(_) if stands => (false, server.remove::<Guard<I>, _>(path.as_ref()).await.map(drop)),
            Err(_) => (false, Ok(())),
        };
        self.log("object", path.as_str(), done);
        now
    }

    fn seen(&self, id: String, told: Option<Outcome>) -> Seen {
        let view = self.desk.control.job(&id);
        let outcome = view.as_ref().and_then(|view| view.record.outcome).or(told);
        Seen { id, view, outcome }
    }

    /// Adds what a job may have changed: when it ends, all that it was about; a backup shows what its job waits for.
    fn touched(&self, seen: &Seen, work: &mut Work) {
        let Some(view) = &seen.view else { return };
        let told = self.jobs.get(&seen.id);
        let waits_otherwise = told.is_none_or(|told| told.standing.waiting != view.waiting);
        let ends = seen.outcome.is_some() && !told.is_some_and(|told| told.ended);
        if view.record.kind == Kind::Backup && (waits_otherwise || ends) {
            work.backups.insert(view.record.subject.clone());
        }
        if ends {
            let units = &view.record.units;
            work.instances.extend(units.iter().map(|u| u.instance.clone()).filter(|name| !name.is_empty()));
            work.repositories
                .extend(units.iter().map(|u| u.repository.clone()).filter(|name| !name.is_empty()));
        }
    }

    /// Shows a job; gives its outcome when its end is still to be told.
    async fn job(&mut self, path: &OwnedObjectPath, seen: Seen) -> zbus::Result<Option<Outcome>> {
        let server = self.connection.object_server();
        let Some(view) = seen.view else {
            if self.jobs.remove(&seen.id).is_some() {
                server.remove::<Guard<Job>, _>(path.as_ref()).await?;
            }
            return Ok(None);
        };
        let (standing, now) = (standing(&view), Instant::now());
        match self.jobs.get_mut(&seen.id) {
            None => {
                let job = self.guarded(Job::new(self.desk.clone(), view), Thing::Job, &seen.id);
                server.at(path.as_ref(), job).await?;
                self.jobs.insert(seen.id.clone(), Told { standing, at: now, due: false, ended: false });
                Manager::job_new(&self.emitter(), path.as_ref()).await?;
            }
            Some(told) if told.standing != standing || told.at + PROGRESS <= now => {
                *told = Told { standing, at: now, due: false, ended: told.ended };
                show::<Job>(&self.connection, &path.as_ref(), view).await?;
            }
            Some(told) => told.due = true,
        }
        let Some(told) = self.jobs.get_mut(&seen.id) else { return Ok(None) };
        let was_told = std::mem::replace(&mut told.ended, seen.outcome.is_some());
        Ok(seen.outcome.filter(|_| !was_told))
    }

    async fn ask_restic(&mut self) {
        let version = tokio::time::timeout(VERSION, self.desk.control.restic_version()).await;
        self.restic_version = rows::text(&version.unwrap_or_default());
    }

    fn manager_view(&self) -> ManagerView {
        let paused = self.desk.control.paused();
        ManagerView {
            restic_version: self.restic_version.clone(),
            findings: self.desk.control.findings().iter().map(|line| rows::text(line)).collect(),
            paused: paused.is_some(),
            paused_until: rows::time(paused.filter(|until| *until < jiff::Timestamp::MAX)),
            active_jobs: self.desk.control.active_jobs(),
        }
    }

    fn emitter(&self) -> SignalEmitter<'static> {
        SignalEmitter::from_parts(self.connection.clone(), root().into())
    }

    /// What could not be told is logged, unless the bus is gone: then everybody knows.
    fn log(&self, what: &str, name: &str, result: zbus::Result<()>) {
        if let Err(error) = result
            && !self.connection.is_closed()
        {
            tracing::warn!(name, %error, "telling the bus about this {what}");
        }
    }
}

/// The names whose definitions differ or that have no object; with nothing to compare with, all that are defined or stand.
fn differ<T: PartialEq>(
    was: Option<&BTreeMap<Name, Arc<T>>>,
    now: &BTreeMap<Name, Arc<T>>,
    standing: &BTreeSet<String>,
) -> Vec<String> {
    let same = |name: &str| was.is_some_and(|was| was.get(name) == now.get(name));
    let names = now.keys().map(ToString::to_string).chain(standing.iter().cloned());
    names.filter(|name| !same(name) || !standing.contains(name)).collect()
}

fn root() -> OwnedObjectPath {
    zbus::ObjectPath::from_static_str_unchecked(path::ROOT).into()
}

/// Whether an error says that the thing is not defined.
const fn is_gone(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NoSuchBackup | ErrorKind::NoSuchRepository | ErrorKind::NoSuchInstance)
}

fn mark(names: &mut BTreeSet<String>, name: &str, stands: bool) {
    if stands {
        names.insert(name.to_owned());
    } else {
        names.remove(name);
    }
}

/// A view without its numbers: when this differs, the change is told at once.
fn standing(view: &JobView) -> JobView {
    let mut view = view.clone();
    view.progress = 0.0;
    let record = &mut view.record;
    (record.bytes_done, record.bytes_total, record.files_done) = (0, 0, 0);
    for unit in &mut record.units {
        (unit.bytes, unit.bytes_added, unit.files) = (0, 0, 0);
    }
    view
}
