//! The D-Bus face: translations of a few lines, no logic.
//!
//! [`serve`] puts all objects up and then takes the name `org.holdfast.Backup1`. One file per interface (`manager`, `backup`,
//! `repository`, `instance`, `job`); `authorise` decides who may do what, where need be with `polkit`; `guard` keeps what objects show behind it; `argument`, `options`, `keys` and `request` turn what
//! callers give into what `control` takes; `rows` turns what it answers into plain D-Bus types; `keeper` is the task that keeps
//! the objects in line with what is. Every method goes: size of its arguments, authorisation, shape of its arguments, and
//! then `control` in a task of its own, so that even a panic is answered.

mod answer;
mod argument;
mod authorise;
mod backup;
mod error;
mod guard;
mod instance;
mod job;
mod keeper;
mod keys;
mod manager;
mod objects;
mod options;
pub mod path;
mod pin;
mod polkit;
mod repository;
mod request;
mod rows;
mod view;
mod work;

use std::time::Duration;

use anyhow::{Context, bail};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zbus::Connection;
use zbus::connection::Builder;
use zbus::fdo::{DBusProxy, RequestNameFlags, RequestNameReply};

use self::answer::Desk;
use self::authorise::Authority;
use self::keeper::Keeper;
use self::objects::Objects;
use crate::control::Control;

pub use error::Error;

/// The name on the bus.
pub const NAME: &str = "org.holdfast.Backup1";

/// How long the bus may take to answer us.
const ANSWER: Duration = Duration::from_secs(10);

/// How long the last signals may take when we leave.
const FAREWELL: Duration = Duration::from_secs(2);

/// Which bus: `system`, `session`, or an address as D-Bus writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// The system bus.
    System,
    /// The session bus.
    Session,
    /// `unix:path=…` and the like.
    Address(String),
}

impl From<&str> for Address {
    fn from(text: &str) -> Self {
        match text {
            "system" => Self::System,
            "session" => Self::Session,
            address => Self::Address(address.to_owned()),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::System => f.write_str("the system bus"),
            Self::Session => f.write_str("the session bus"),
            Self::Address(address) => write!(f, "the bus at {address:?}"),
        }
    }
}

/// A running face. Dropped without [`Served::stop`], it ends without a farewell.
#[derive(Debug)]
pub struct Served {
    connection: Connection,
    keeper: Option<JoinHandle<()>>,
    kept: CancellationToken,
    cancel: CancellationToken,
    _end: End,
}

/// Ends the loop connection → objects → authority → connection, so that a lost bus frees its memory.
struct End(Authority);

impl std::fmt::Debug for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("End")
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.0.hang_up();
    }
}

/// Connects, puts all objects up, and takes the name. Returns when callers can be answered.
///
/// # Errors
/// The bus cannot be reached, it refuses us, or another daemon has the name.
pub async fn serve(control: Control, address: &Address, cancel: CancellationToken) -> anyhow::Result<Served> {
    let connection = connect(address).await.with_context(|| format!("connecting to {address}"))?;
    let authority =
        Authority::new(&connection, control.clone()).await.context("preparing to ask the bus who calls")?;
    let (objects, wishes) = Objects::new();
    let end = End(authority.clone());
    let desk = Desk { control, authority, objects };
    let keeper = Keeper::raise(connection.clone(), desk, wishes).await.context("putting the objects up")?;
    let named = tokio::time::timeout(ANSWER, take_name(&connection)).await.context("the bus does not answer");
    named.flatten().with_context(|| format!("taking the name {NAME} on {address}"))?;
    let (cancel, kept) = (cancel.child_token(), CancellationToken::new());
    let (token, guard) = (cancel.clone(), kept.clone().drop_guard());
    let keeper = tokio::spawn(async move {
        // Dropped also when the keeper panics.
        let _guard = guard;
        keeper.run(token).await;
    });
    tracing::info!("on {address} as {NAME}");
    Ok(Served { connection, keeper: Some(keeper), kept, cancel, _end: end })
}

async fn connect(address: &Address) -> zbus::Result<Connection> {
    let builder = match address {
        Address::System => Builder::system(),
        Address::Session => Builder::session(),
        Address::Address(address) => Builder::address(address.as_str()),
    };
    // Longer than any question of ours; each has its own limit.
    builder.method_timeout(polkit::PERSON + ANSWER).build().await
}

/// Takes the name and keeps it: it cannot be taken from us, and we do not take it from anybody.
async fn take_name(connection: &Connection) -> anyhow::Result<()> {
    match connection.request_name_with_flags(NAME, RequestNameFlags::DO_NOT_QUEUE).await {
        Ok(RequestNameReply::PrimaryOwner | RequestNameReply::AlreadyOwner) => Ok(()),
        Ok(RequestNameReply::Exists | RequestNameReply::InQueue) | Err(zbus::Error::NameTaken) => {
            let owner = owner(connection).await.unwrap_or_else(|| "another process".into());
            bail!(
                "{owner} has it: another holdfastd runs on this bus; stop it, or give this one another --bus"
            )
        }
        Err(error) => Err(error).context("the bus refused (its policy must allow our user to own the name)"),
    }
}

/// Who has the name.
async fn owner(connection: &Connection) -> Option<String> {
    let bus = DBusProxy::new(connection).await.ok()?;
    let pid = bus.get_connection_unix_process_id(NAME.try_into().ok()?).await.ok()?;
    Some(format!("process {pid}"))
}

impl Served {
    /// Waits until callers can no longer be answered: the bus is gone, or an error of ours ended the keeper.
    pub async fn closed(&self) {
        tokio::select! {
            () = self.connection.closed() => {}
            () = self.kept.cancelled() => {}
        }
    }

    /// Leaves the bus: what has happened is told, the name is given back, the connection closed.
    pub async fn stop(mut self) {
        self.cancel.cancel();
        if let Some(keeper) = self.keeper.take() {
            let _ = tokio::time::timeout(FAREWELL, keeper).await;
        }
        let _ = tokio::time::timeout(FAREWELL, self.connection.release_name(NAME)).await;
        let _ = self.connection.clone().close().await;
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let Some(keeper) = &self.keeper {
            keeper.abort();
        }
    }
}
