//! The gate before what objects show: properties, and the list of all objects.
//!
//! Methods of our own interfaces name what they need and pass `authorise` themselves. Properties cannot be forgotten here:
//! an object only gets on the bus inside a [`Guard`].

use std::collections::HashMap;
use std::fmt::Write;
use std::ops::Deref;

use async_trait::async_trait;
use zbus::message::Header;
use zbus::names::{InterfaceName, MemberName};
use zbus::object_server::{DispatchResult, Interface, SignalEmitter};
use zbus::wire::{OwnedVariant, Variant};
use zbus::{BoxDBusError, Connection, Message, ObjectServer, fdo};

use super::authorise::{Authority, Thing};

/// An interface whose properties only those see who may.
pub(super) struct Guard<I> {
    inner: I,
    authority: Authority,
    thing: Thing,
    name: String,
    /// Whether its methods pass here too, because they are not ours.
    methods: bool,
}

impl<I> Guard<I> {
    /// Guards what is shown of a thing.
    pub(super) fn properties(inner: I, authority: Authority, thing: Thing, name: &str) -> Self {
        Self { inner, authority, thing, name: name.to_owned(), methods: false }
    }

    /// Guards an interface of the library's whose methods show things.
    pub(super) fn methods(inner: I, authority: Authority) -> Self {
        Self { inner, authority, thing: Thing::Daemon, name: String::new(), methods: true }
    }

    async fn look(&self, header: Option<&Header<'_>>) -> super::error::Result<()> {
        match header {
            Some(header) => self.authority.show(header, self.thing, &self.name).await,
            // The daemon itself looks.
            None => Ok(()),
        }
    }
}

impl<I> Deref for Guard<I> {
    type Target = I;
    fn deref(&self) -> &I {
        &self.inner
    }
}

#[async_trait]
impl<I: Interface> Interface for Guard<I> {
    fn name() -> InterfaceName<'static> {
        I::name()
    }

    async fn get(
        &self,
        property: &str,
        server: &ObjectServer,
        connection: &Connection,
        header: Option<&Header<'_>>,
        emitter: &SignalEmitter<'_>,
    ) -> Option<Result<OwnedVariant, BoxDBusError>> {
        if let Err(refused) = self.look(header).await {
            return Some(Err(Box::new(refused)));
        }
        self.inner.get(property, server, connection, header, emitter).await
    }

    async fn get_all(
        &self,
        server: &ObjectServer,
        connection: &Connection,
        header: Option<&Header<'_>>,
        emitter: &SignalEmitter<'_>,
    ) -> fdo::Result<HashMap<String, OwnedVariant>> {
        // Only a standard error fits here.
        self.look(header).await.map_err(|refused| fdo::Error::AccessDenied(refused.text().to_owned()))?;
        self.inner.get_all(server, connection, header, emitter).await
    }

    async fn set_mut(
        &mut self,
        property: &str,
        value: &Variant<'_>,
        server: &ObjectServer,
        connection: &Connection,
        header: Option<&Header<'_>>,
        emitter: &SignalEmitter<'_>,
    ) -> Option<Result<(), BoxDBusError>> {
        if let Err(refused) = self.look(header).await {
            return Some(Err(Box::new(refused)));
        }
        self.inner.set_mut(property, value, server, connection, header, emitter).await
    }

    fn call<'call>(
        &'call self,
        server: &'call ObjectServer,
        connection: &'call Connection,
        msg: &'call Message,
        name: MemberName<'call>,
    ) -> DispatchResult<'call> {
        match self.inner.call(server, connection, msg, name) {
            DispatchResult::Async(answer) if self.methods => DispatchResult::Async(Box::pin(async move {
                self.look(Some(&msg.header())).await.map_err(|refused| Box::new(refused) as BoxDBusError)?;
                answer.await
            })),
            other => other,
        }
    }

    fn call_mut<'call>(
        &'call mut self,
        server: &'call ObjectServer,
        connection: &'call Connection,
        msg: &'call Message,
        name: MemberName<'call>,
    ) -> DispatchResult<'call> {
        // None of ours takes itself mutably; were one to, it is refused rather than let through unasked.
        let _ = (server, connection, msg, name);
        DispatchResult::NotFound
    }

    fn introspect_to_writer(&self, writer: &mut dyn Write, level: usize) {
        self.inner.introspect_to_writer(writer, level);
    }
}
