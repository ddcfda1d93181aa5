//! The procedures, each a straight line of phases, and the jobs that are alive.

pub mod backup;
pub mod catalog;
mod context;
mod far;
mod held;
mod hook;
pub mod import;
mod jobs;
mod live;
pub mod maintenance;
mod manifests;
pub mod message;
pub mod mirrors;
pub mod recover;
mod repository;
pub mod restore;
mod retain;
pub mod retention;
mod rsync;
mod rsync_words;
mod secrets;
mod services;
mod sets;
pub mod undo;
mod version;

pub use crate::dump::{MADE_ABOVE, container_name, openldap_directories};
use context::remove_tree;
pub use context::{Context, Dirs};
pub use jobs::{Event, Jobs, READABLE, Ticket};
pub use live::{Live, append};
pub use repository::{
    Location, NO_MODULE, Opened, access, described, does_not_exist, forget_known, open, open_existing, sync,
    test,
};
pub use rsync_words::{rsync_words, rsync_words_of_restores};
pub use services::{Holds, unit_calls, units_there};
