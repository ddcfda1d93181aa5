//! Where commands run and paths lie: users, install dirs, hooks, volumes, and the tree of includes that restic reads.
//!
//! [`Place::resolve`] finds an instance and touches nothing. [`Tree::build`] lays a directory of links to its data and
//! says what restic is to read there. The contract is that of NethServer 8's modules; the names of files, variables and
//! volumes follow it.

mod account;
mod cover;
mod environment;
mod exclude;
mod held;
mod hooks;
mod include;
mod manifest;
mod pattern;
mod resolve;
mod root;
mod rules;
mod secret;
mod spelling;
mod ssh;
mod staging;
mod steps;
mod tree;
mod volumes;
mod walk;

pub use account::{account, group_number, local_names, user_comment, user_name, user_number};
pub use cover::{Cover, left_out};
pub use environment::Environment;
pub use exclude::Excludes;
pub use held::{Held, packer, tar_bytes};
pub use hooks::{Step, Steps, session};
pub use manifest::{FORMAT, JOB_LOG, MANIFEST, Manifest, TreePath};
pub use resolve::{Place, Purpose};
pub use root::{Hex, Root, RootKind, copy_attributes};
pub use secret::{MAX_SECRET, read_secret};
pub use spelling::{carried, spelled, unspelled};
pub use ssh::{
    SshError, asks_for_a_password, command_line, file_option, judge, of_connection, over_ssh, rsync_path,
    rsync_shell, sudo, tied,
};
pub use staging::{Staging, clear_all};
pub use tree::Tree;
pub use volumes::{FarVolume, Make, not_at_their_mountpoints, volumes_there};
