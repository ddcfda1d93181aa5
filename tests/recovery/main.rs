//! Instances whose unit fails come back by themselves: real daemon, real restic, real files, and something that answers
//! for systemd on a private bus. With the real systemd: `tests/system/cases/80-recovery.sh` and
//! the two after it. `rows.rs` says which test bears which row of what MicroShift can.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[expect(dead_code, unreachable_pub, reason = "shared with the other integration tests; each uses a part")]
#[path = "../support/mod.rs"]
mod support;

#[expect(dead_code, reason = "shared with the tests of the daemon")]
#[path = "../daemon/lab.rs"]
mod lab;

mod alone;
mod away;
mod bounds;
mod crash;
mod full;
mod odd;
mod rows;
mod shipped;
mod shop;
mod standing;
mod systemd;
mod walk;
mod watch;
