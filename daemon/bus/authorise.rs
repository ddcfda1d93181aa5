//! Who may do what: the one place that decides.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;
use zbus::Connection;
use zbus::fdo::{ConnectionCredentials, DBusProxy};
use zbus::message::Header;
use zbus::names::BusName;
use zbus::proxy::CacheProperties;

use super::argument::shown;
use super::error::{Error, Result};
use super::polkit::{self, Verdict};
use crate::control::Control;
use crate::definition::Allow;
use crate::state::Kind;

/// How long the bus may take to say who calls.
const BUS: Duration = Duration::from_secs(10);

/// How long polkit may take over a look at properties: the objects cannot change meanwhile.
const LOOK: Duration = Duration::from_secs(2);

/// How long looks are refused unasked after polkit did not answer one.
const SULK: Duration = Duration::from_secs(10);

/// How many questions about one user may be before polkit at once.
const OPEN: u32 = 32;

/// What is done, as coarse as it is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Looks only.
    View,
    /// Starts what changes nothing live: backups, checks, prunes.
    Run,
    /// Ends a job.
    Cancel,
    /// Changes live data.
    Restore,
    /// Changes definitions, locks, the schedule; restores what, or to where, no definition names.
    Manage,
}

impl Action {
    const fn word(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Run => "run",
            Self::Cancel => "cancel",
            Self::Restore => "restore",
            Self::Manage => "manage",
        }
    }
}

/// What kind of thing a call is about; with its name that is all that a decision hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thing {
    /// The daemon as a whole.
    Daemon,
    Backup,
    Repository,
    Instance,
    Job,
}

impl Thing {
    /// What people call it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Backup => "backup",
            Self::Repository => "repository",
            Self::Instance => "instance",
            Self::Job => "job",
        }
    }
}

/// Who calls, as the bus says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Caller {
    /// Their uid.
    pub(super) uid: u32,
}

impl Caller {
    /// What a job says of who asked for it.
    pub(super) fn cause(self) -> String {
        format!("uid {}", self.uid)
    }
}

/// Decides who may do what. Credentials are asked of the bus at each call: a cache could outlive its connection.
#[derive(Clone)]
pub(super) struct Authority(Arc<Inner>);

struct Inner {
    /// Taken out when the connection ends, for a proxy keeps it alive. Held only to clone.
    bus: RwLock<Option<DBusProxy<'static>>>,
    control: Control,
    /// The daemon's own uid.
    own: u32,
    /// Questions before polkit, by uid.
    open: Mutex<HashMap<u32, u32>>,
    /// Until when looks are refused unasked.
    sulking: Mutex<Option<Instant>>,
}

impl Authority {
    /// Decides for calls that come in on a connection.
    pub(super) async fn new(connection: &Connection, control: Control) -> zbus::Result<Self> {
        let bus = DBusProxy::builder(connection).cache_properties(CacheProperties::No).build().await?;
        let own = rustix::process::geteuid().as_raw();
        let (bus, open, sulking) = (RwLock::new(Some(bus)), Mutex::default(), Mutex::default());
        Ok(Self(Arc::new(Inner { bus, control, own, open, sulking })))
    }

    /// Lets go of the connection; every later call is refused.
    pub(super) fn hang_up(&self) {
        *self.0.bus.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Says who calls, or refuses: `name` is that of the thing that it is about, or empty.
    pub(super) async fn authorise(
        &self,
        header: &Header<'_>,
        action: Action,
        thing: Thing,
        name: &str,
    ) -> Result<Caller> {
        let decided = self.decide(header, action, thing, name, None).await;
        let member = header.member().map(|m| m.as_str()).unwrap_or_default();
        let (object, action) = (shown(name), action.word());
        match &decided {
            Ok(caller) if action != Action::View.word() => {
                tracing::info!(uid = caller.uid, action, object = %object, "{member} allowed");
            }
            Ok(_) => {}
            Err(error) => tracing::info!(action, object = %object, "{member} refused: {}", error.text()),
        }
        decided
    }

    /// Says who calls, or refuses everybody but root and the daemon's own user: for what no rule can hand on.
    pub(super) async fn only_root(&self, header: &Header<'_>, what: &str) -> Result<Caller> {
        let uid = self.credentials(header).await?.unix_user_id();
        match uid {
            Some(uid) if uid == 0 || uid == self.0.own => {
                tracing::info!(uid, "{what} allowed");
                Ok(Caller { uid })
            }
            _ => {
                tracing::info!(?uid, "{what} refused");
                Err(Error::NotAuthorized(format!(
                    "not authorised to {what}: only root may, whatever polkit says; ask as root"
                )))
            }
        }
    }

    /// Whether the caller may see the properties of a thing. Objects cannot come or go while this is decided, so it is
    /// decided soon.
    pub(super) async fn show(&self, header: &Header<'_>, thing: Thing, name: &str) -> Result<()> {
        self.decide(header, Action::View, thing, name, Some(LOOK)).await.map(drop)
    }

    /// The rule: root and the daemon's own user may do all; those whom the definition names see, run and cancel it; of
    /// everybody else polkit decides, and without a clear yes nobody may anything.
    async fn decide(
        &self,
        header: &Header<'_>,
        action: Action,
        thing: Thing,
        name: &str,
        limit: Option<Duration>,
    ) -> Result<Caller> {
        let credentials = self.credentials(header).await?;
        let uid =
            credentials.unix_user_id().ok_or_else(|| refused(action, "the bus does not say who you are"))?;
        if uid == 0 || uid == self.0.own || self.named(uid, &credentials, action, thing, name).await {
            return Ok(Caller { uid });
        }
        let verdict = self.polkit(uid, header, action, name, limit).await?;
        if verdict == Verdict::Yes {
            // Whoever left while polkit thought has nothing coming any more.
            let still = self.credentials(header).await?.unix_user_id() == Some(uid);
            return if still { Ok(Caller { uid }) } else { Err(refused(action, "the caller is gone")) };
        }
        Err(refused(action, &why(verdict, uid, action)))
    }

    /// Whether a definition names the caller.
    async fn named(
        &self,
        uid: u32,
        credentials: &ConnectionCredentials,
        action: Action,
        thing: Thing,
        name: &str,
    ) -> bool {
        if !matches!(action, Action::View | Action::Run | Action::Cancel) {
            return false;
        }
        match self.allow(thing, name) {
            Some(allow) if allow != Allow::default() => {
                is_one_of(uid, credentials.unix_group_ids().cloned(), allow).await
            }
            _ => false,
        }
    }

    /// Whom the definition of a thing names; of a job, that of what it is about.
    fn allow(&self, thing: Thing, name: &str) -> Option<Allow> {
        let definitions = self.0.control.definitions();
        let backup = |name: &str| definitions.backups.get(name).map(|backup| backup.allow.clone());
        let instance = |name: &str| definitions.instances.get(name).map(|instance| instance.allow.clone());
        match thing {
            Thing::Daemon | Thing::Repository => None,
            Thing::Backup => backup(name),
            Thing::Instance => instance(name),
            Thing::Job => {
                let record = self.0.control.job(name)?.record;
                match record.kind {
                    Kind::Backup => backup(&record.subject),
                    Kind::Restore | Kind::Rollback | Kind::Recover | Kind::Drill | Kind::Import => {
                        instance(&record.subject)
                    }
                    _ => None,
                }
            }
        }
    }

    async fn polkit(
        &self,
        uid: u32,
        header: &Header<'_>,
        action: Action,
        name: &str,
        limit: Option<Duration>,
    ) -> Result<Verdict> {
        if limit.is_some() && self.sulks() {
            return Ok(Verdict::Silent);
        }
        let Some(bus) = self.bus() else { return Ok(Verdict::Silent) };
        let _open = Question::open(&self.0.open, uid)?;
        let verdict = polkit::ask(bus.inner().connection(), header, action.word(), name, limit).await;
        if limit.is_some() {
            let until = (verdict == Verdict::Silent).then(|| Instant::now() + SULK);
            *self.0.sulking.lock().unwrap_or_else(PoisonError::into_inner) = until;
        }
        Ok(verdict)
    }

    fn sulks(&self) -> bool {
        let until = *self.0.sulking.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn bus(&self) -> Option<DBusProxy<'static>> {
        self.0.bus.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn credentials(&self, header: &Header<'_>) -> Result<ConnectionCredentials> {
        let (Some(bus), Some(sender)) = (self.bus(), header.sender()) else {
            return Err(Error::NotAuthorized("the call did not come over the bus".into()));
        };
        let asked = tokio::time::timeout(BUS, bus.get_connection_credentials(BusName::from(sender.clone())));
        match asked.await {
            Ok(Ok(credentials)) => Ok(credentials),
            Ok(Err(error)) => Err(Error::NotAuthorized(format!("the bus does not say who you are: {error}"))),
            Err(_) => Err(Error::NotAuthorized("the bus does not say in time who you are".into())),
        }
    }
}

/// A place among the questions about one user; given back on drop.
struct Question<'a> {
    open: &'a Mutex<HashMap<u32, u32>>,
    uid: u32,
}

impl<'a> Question<'a> {
    fn open(open: &'a Mutex<HashMap<u32, u32>>, uid: u32) -> Result<Self> {
        let mut counts = open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(uid).or_default();
        if *count >= OPEN {
            return Err(Error::Busy(format!(
                "uid {uid} has {OPEN} calls waiting for polkit: wait for their answers"
            )));
        }
        *count += 1;
        Ok(Self { open, uid })
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        let mut counts = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.uid);
            }
        }
    }
}

fn refused(action: Action, why: &str) -> Error {
    Error::NotAuthorized(format!("not authorised to {}: {why}", action.word()))
}

/// Why polkit did not say yes, and what to do.
fn why(verdict: Verdict, uid: u32, action: Action) -> String {
    let action = action.word();
    match verdict {
        Verdict::Password => format!(
            "uid {uid} needs an administrator's password for org.holdfast.backup1.{action}: ask from a session where one \
             can be typed, or as root"
        ),
        Verdict::Silent => {
            "polkit did not answer, so only root may: ask as root, or see to polkit (`systemctl status polkit`; Debian's \
             package polkitd)"
                .into()
        }
        Verdict::Yes | Verdict::No => {
            format!("polkit refuses org.holdfast.backup1.{action} for uid {uid}: ask as root")
        }
    }
}

/// Whether a user is named: by name, or by a group of its process, or where the bus does not tell groups, of the user
/// database.
async fn is_one_of(uid: u32, groups: Option<Vec<u32>>, allow: Allow) -> bool {
    // Name services may go over the network.
    let looked_up = tokio::task::spawn_blocking(move || {
        let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
        if user.as_ref().is_some_and(|user| allow.users.contains(&user.name)) {
            return true;
        }
        let wanted =
            allow.groups.iter().filter_map(|name| nix::unistd::Group::from_name(name).ok().flatten());
        let wanted: Vec<u32> = wanted.map(|group| group.gid.as_raw()).collect();
        let own = || groups.or_else(|| groups_of(&user?)).unwrap_or_default();
        !wanted.is_empty() && own().iter().any(|group| wanted.contains(group))
    });
    looked_up.await.unwrap_or(false)
}

fn groups_of(user: &nix::unistd::User) -> Option<Vec<u32>> {
    let name = std::ffi::CString::new(user.name.as_str()).ok()?;
    let groups = nix::unistd::getgrouplist(&name, user.gid).ok()?;
    Some(groups.into_iter().map(nix::unistd::Gid::as_raw).collect())
}
