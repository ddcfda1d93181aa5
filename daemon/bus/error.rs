//! Errors as the bus names them.

use zbus::DBusError;

use crate::control::{self, ErrorKind};

/// An error reply: its variant is the last part of `org.holdfast.Backup1.Error.*`, its text a sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq, DBusError)]
#[zbus(prefix = "org.holdfast.Backup1.Error")]
#[expect(missing_docs, reason = "as control::ErrorKind")]
pub enum Error {
    NoSuchBackup(String),
    NoSuchRepository(String),
    NoSuchInstance(String),
    NoSuchSnapshot(String),
    NoSuchJob(String),
    AlreadyExists(String),
    InUse(String),
    Disabled(String),
    Busy(String),
    InvalidArgument(String),
    InvalidDefinition(String),
    NotAuthorized(String),
    RepositoryUnavailable(String),
    Failed(String),
}

pub(super) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The sentence.
    pub(super) fn text(&self) -> &str {
        self.description().unwrap_or_default()
    }

    /// A malformed argument.
    pub(super) fn argument(message: impl Into<String>) -> Self {
        Self::InvalidArgument(message.into())
    }

    /// What exists in the contract but not yet in this version.
    pub(super) fn not_yet(what: &str) -> Self {
        Self::Failed(format!("{what} is not supported yet in this version of holdfastd; nothing was started"))
    }
}

impl From<control::Error> for Error {
    fn from(error: control::Error) -> Self {
        let text = super::rows::text(&error.message);
        match error.kind {
            ErrorKind::NoSuchBackup => Self::NoSuchBackup(text),
            ErrorKind::NoSuchRepository => Self::NoSuchRepository(text),
            ErrorKind::NoSuchInstance => Self::NoSuchInstance(text),
            ErrorKind::NoSuchSnapshot => Self::NoSuchSnapshot(text),
            ErrorKind::NoSuchJob => Self::NoSuchJob(text),
            ErrorKind::AlreadyExists => Self::AlreadyExists(text),
            ErrorKind::InUse => Self::InUse(text),
            ErrorKind::Disabled => Self::Disabled(text),
            ErrorKind::Busy => Self::Busy(text),
            ErrorKind::InvalidArgument => Self::InvalidArgument(text),
            ErrorKind::InvalidDefinition => Self::InvalidDefinition(text),
            ErrorKind::NotAuthorized => Self::NotAuthorized(text),
            ErrorKind::RepositoryUnavailable => Self::RepositoryUnavailable(text),
            ErrorKind::Failed => Self::Failed(text),
        }
    }
}
