//! Waiting for a file descriptor without polling.

use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Lets the runtime watch a descriptor for something to read.
#[expect(deprecated, reason = "its successor is unsafe for handles that may change; an OwnedFd never does")]
pub(super) fn watch(descriptor: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}
