//! The module contract: an NS8-like module directory, its hooks, volumes and patterns, with real programs.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests, also in their helpers"
)]

mod hooks;
mod redis_keys;
mod restic;
mod safety;
mod setup;
mod system;
mod tree;
mod volumes;
