//! Message ids of the journal, described in `units/holdfast.catalog`.

/// A job began.
pub const STARTED: &str = "7b1a5e0c4d9f4c0f8a3e6d2b9c5f1e01";
/// A job ended well, or with a warning.
pub const FINISHED: &str = "7b1a5e0c4d9f4c0f8a3e6d2b9c5f1e02";
/// A job failed.
pub const FAILED: &str = "7b1a5e0c4d9f4c0f8a3e6d2b9c5f1e03";
/// A job was cut off by the end of the daemon.
pub const INTERRUPTED: &str = "7b1a5e0c4d9f4c0f8a3e6d2b9c5f1e04";
/// A service that was stopped could not be started again.
pub const SERVICE_DOWN: &str = "7b1a5e0c4d9f4c0f8a3e6d2b9c5f1e05";
/// An instance whose unit failed was not recovered.
pub const NOT_RECOVERED: &str = "7b1a5e0c4d9f4c0f8a3e6d2b9c5f1e06";
