//! Why a request was refused, by kind, so that the bus and the client can name it.

use std::fmt;

/// A refused or failed request: a kind that programs branch on, and a sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The kind: the last part of the D-Bus error name.
    pub kind: ErrorKind,
    /// What is wrong and what to do.
    pub message: String,
}

/// The kinds of refusal; names as in `org.holdfast.Backup1.Error.*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// No backup of that name is defined.
    NoSuchBackup,
    /// No repository of that name is defined.
    NoSuchRepository,
    /// No instance of that name is defined.
    NoSuchInstance,
    /// No snapshot of that instance matches.
    NoSuchSnapshot,
    /// No such job is running or was finished lately.
    NoSuchJob,
    /// A definition of that name exists.
    AlreadyExists,
    /// Something still refers to it.
    InUse,
    /// The backup is disabled.
    Disabled,
    /// Something else is at work there.
    Busy,
    /// An argument is malformed or not supported.
    InvalidArgument,
    /// The definition would not be valid.
    InvalidDefinition,
    /// The caller may not do this.
    NotAuthorized,
    /// The repository cannot be reached or opened.
    RepositoryUnavailable,
    /// Anything else.
    Failed,
}

impl Error {
    /// An error of a kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Self {
        Self::new(ErrorKind::Failed, format!("{error:#}"))
    }
}
