//! Containers, end to end: real `holdfastd`, real restic, a Docker engine and a podman of the tests' own with images that
//! are made here. They need root: `cargo test --test containers -- --ignored system_`
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

#[expect(dead_code, reason = "shared with the tests of other hosts; each uses a part")]
#[path = "../remote/host.rs"]
mod host;

mod elsewhere;
mod engine;
mod held;
mod held_faults;
mod inside;
mod inside_rootless;
mod rootless;
mod services;
mod stack;
mod streamed;
