//! Objects on the bus: what is shown of them, and how a change of it is told.

use std::borrow::Cow;
use std::collections::HashMap;

use tokio::sync::{mpsc, oneshot};
use zbus::object_server::{Interface, ObjectServer, SignalEmitter};
use zbus::wire::{ObjectPath, OwnedVariant, Variant};
use zbus::{Connection, fdo};

use super::answer::Shows;
use super::guard::Guard;

/// Properties by name.
pub(super) type Properties = HashMap<String, OwnedVariant>;

/// What a method may ask of the task that keeps the objects.
#[derive(Debug)]
pub(super) enum Wish {
    /// The object of this job stands.
    Job(String, oneshot::Sender<()>),
    /// All that `control` has told so far is on the bus.
    Told(oneshot::Sender<()>),
}

/// A handle to the task that keeps the objects (`keeper`).
#[derive(Clone)]
pub(super) struct Objects(mpsc::UnboundedSender<Wish>);

impl Objects {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Wish>) {
        let (wishes, heard) = mpsc::unbounded_channel();
        (Self(wishes), heard)
    }

    /// Returns when the object of a job stands, or when the bus is gone.
    pub(super) async fn job_stands(&self, id: &str) {
        let (done, heard) = oneshot::channel();
        if self.0.send(Wish::Job(id.to_owned(), done)).is_ok() {
            let _ = heard.await;
        }
    }

    /// Returns when all that `control` has told so far is on the bus, or when the bus is gone.
    pub(super) async fn are_told(&self) {
        let (done, heard) = oneshot::channel();
        if self.0.send(Wish::Told(done)).is_ok() {
            let _ = heard.await;
        }
    }
}

/// All properties of an interface, whether it stands on the bus or not.
pub(super) async fn properties<I: Interface>(
    interface: &I,
    connection: &Connection,
    server: &ObjectServer,
) -> fdo::Result<Properties> {
    let emitter = SignalEmitter::new(connection, ObjectPath::from_static_str_unchecked(super::path::ROOT))?;
    interface.get_all(server, connection, None, &emitter).await
}

/// Shows something else at an object and tells which properties changed, in one signal. Nothing to tell: no signal.
pub(super) async fn show<I: Shows>(
    connection: &Connection,
    path: &ObjectPath<'_>,
    view: I::View,
) -> zbus::Result<()> {
    let server = connection.object_server();
    let object = server.interface::<_, Guard<I>>(path.as_ref()).await?;
    let interface = object.get().await;
    if *interface.shown().get() == view {
        return Ok(());
    }
    let before = properties::<I>(&interface, connection, server).await?;
    *interface.shown().get() = view;
    let after = properties::<I>(&interface, connection, server).await?;
    drop(interface);
    let changed: HashMap<&str, Variant<'_>> = after
        .iter()
        .filter(|(name, value)| before.get(*name) != Some(value))
        .map(|(name, value)| Ok((name.as_str(), Variant::try_from(value)?)))
        .collect::<zbus::Result<_>>()?;
    if changed.is_empty() {
        return Ok(());
    }
    fdo::Properties::properties_changed(object.signal_emitter(), I::name(), changed, Cow::Borrowed(&[])).await
}
