//! Who may do what: the one place that decides.

use std::sync::{Arc, PoisonError, RwLock};

use zbus::Connection;
use zbus::fdo::{ConnectionCredentials, DBusProxy};
use zbus::message::Header;
use zbus::names::BusName;
use zbus::proxy::CacheProperties;

use super::argument::shown;
use super::error::{Error, Result};

/// The group whose members may look and run.
const GROUP: &str = "holdfast";

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
    /// Changes definitions, locks, the schedule.
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
pub(super) struct Authority {
    /// Taken out when the connection ends, for a proxy keeps it alive. Held only to clone.
    bus: Arc<RwLock<Option<DBusProxy<'static>>>>,
    /// The daemon's own uid.
    own: u32,
}

impl Authority {
    /// Decides for calls that come in on a connection.
    pub(super) async fn new(connection: &Connection) -> zbus::Result<Self> {
        let bus = DBusProxy::builder(connection).cache_properties(CacheProperties::No).build().await?;
        Ok(Self { bus: Arc::new(RwLock::new(Some(bus))), own: rustix::process::geteuid().as_raw() })
    }

    /// Lets go of the connection; every later call is refused.
    pub(super) fn hang_up(&self) {
        *self.bus.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Says who calls, or refuses: `object` is the name of what it is about, or empty.
    pub(super) async fn authorise(
        &self,
        header: &Header<'_>,
        action: Action,
        object: &str,
    ) -> Result<Caller> {
        let credentials = self.credentials(header).await?;
        let uid =
            credentials.unix_user_id().ok_or_else(|| refused(action, "the bus does not say who you are"))?;
        let caller = Caller { uid };
        let member = header.member().map(|m| m.as_str()).unwrap_or_default();
        if self.may(uid, &credentials, action).await {
            if action != Action::View {
                tracing::info!(uid, action = action.word(), object = %shown(object), "{member} allowed");
            }
            return Ok(caller);
        }
        tracing::info!(uid, action = action.word(), object = %shown(object), "{member} refused");
        Err(refused(action, &format!("uid {uid} may not")))
    }

    /// The rule: root and the daemon's own user may do all, members of the group look and run, nobody else anything.
    async fn may(&self, uid: u32, credentials: &ConnectionCredentials, action: Action) -> bool {
        if uid == 0 || uid == self.own {
            return true;
        }
        matches!(action, Action::View | Action::Run) && in_group(uid, credentials).await
    }

    async fn credentials(&self, header: &Header<'_>) -> Result<ConnectionCredentials> {
        let bus = self.bus.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (Some(bus), Some(sender)) = (bus, header.sender()) else {
            return Err(Error::NotAuthorized("the call did not come over the bus".into()));
        };
        let credentials = bus.get_connection_credentials(BusName::from(sender.clone())).await;
        credentials
            .map_err(|error| Error::NotAuthorized(format!("the bus does not say who you are: {error}")))
    }
}

fn refused(action: Action, why: &str) -> Error {
    let action = action.word();
    Error::NotAuthorized(format!(
        "not authorised to {action}: {why}; ask as root, or as a member of the group {GROUP} to view and run"
    ))
}

/// Whether the caller is of our group: by the groups of its process, or where the bus does not tell, by the user database.
async fn in_group(uid: u32, credentials: &ConnectionCredentials) -> bool {
    let groups = credentials.unix_group_ids().cloned();
    // Name services may go over the network.
    let looked_up = tokio::task::spawn_blocking(move || {
        let group = nix::unistd::Group::from_name(GROUP).ok().flatten()?;
        Some(match groups {
            Some(groups) => groups.contains(&group.gid.as_raw()),
            None => groups_of(uid)?.contains(&group.gid),
        })
    });
    looked_up.await.ok().flatten().unwrap_or(false)
}

fn groups_of(uid: u32) -> Option<Vec<nix::unistd::Gid>> {
    let user = nix::unistd::User::from_uid(uid.into()).ok().flatten()?;
    let name = std::ffi::CString::new(user.name).ok()?;
    nix::unistd::getgrouplist(&name, user.gid).ok()
}
