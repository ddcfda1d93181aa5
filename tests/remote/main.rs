//! Instances on other hosts, end to end: real `holdfastd`, real restic, a real sshd on a loopback port of its own, rsync, and
//! a director like microBOSH's: monit with services of its own, PostgreSQL among them, and an agent.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[expect(dead_code, unreachable_pub, reason = "shared with the other integration tests; each uses a part")]
#[path = "../support/mod.rs"]
mod support;

#[expect(dead_code, reason = "shared with the tests of the daemon; each uses a part")]
#[path = "../daemon/lab.rs"]
mod lab;

#[expect(dead_code, reason = "shared with the tests of dumps; each uses a part")]
#[path = "../dumps/servers.rs"]
mod servers;

mod director;
mod engine;
mod far;
mod host;

mod anew;
mod backup;
mod faults;
mod full;
mod kills;
mod labs;
mod managers;
mod mariadb;
mod microbosh;
mod mirrors;
mod restore;
mod setup;
mod steps;
mod sudo;
mod volumes;
