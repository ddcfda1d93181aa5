//! restic itself, in every version that we support, on temporary repositories. Fakes only where a fault is wanted.
//!
//! The programs come from `make deps`; a missing one fails the tests. Names that begin with `system_` need root.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests say by panic that they failed"
)]

mod fakes;
mod faults;
mod lab;
mod locks;
mod rest;
mod roundtrip;
mod secrets;
mod tree;
