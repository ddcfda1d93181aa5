//! What the daemon does with data, end to end: real `holdfastd`, real `dbus-daemon`, real restic, real files. What is
//! asserted is what a user sees: bytes that are back, outcomes on the bus, lines of the log, nothing left lying about.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[expect(dead_code, unreachable_pub, reason = "shared with the other integration tests; each uses a part")]
#[path = "../support/mod.rs"]
mod support;

mod lab;
mod tree;

mod crash;
mod drain;
mod maintenance;
mod managers;
mod monit;
mod outcomes;
mod restores;
mod roundtrip;
mod rows;
mod secrets;
mod services;
mod several;
mod slots;
