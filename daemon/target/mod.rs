//! Where commands run and paths lie: users, install dirs, hooks, volumes, and the tree of includes that restic reads.
//!
//! [`Place::resolve`] finds an instance and touches nothing. [`Tree::build`] lays a directory of links to its data and
//! says what restic is to read there. The contract is that of NethServer 8's modules; the names of files, variables and
//! volumes follow it.

mod account;
mod environment;
mod exclude;
mod hooks;
mod include;
mod manifest;
mod pattern;
mod resolve;
mod staging;
mod tree;
mod volumes;
mod walk;

pub use account::account;
pub use environment::Environment;
pub use hooks::{Step, Steps};
pub use manifest::{FORMAT, MANIFEST, Manifest, Root, RootKind, TreePath};
pub use resolve::{Place, Purpose};
pub use staging::{Staging, clear_all};
pub use tree::Tree;
