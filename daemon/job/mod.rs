//! The procedures, each a straight line of phases, and the jobs that are alive.

pub mod backup;
mod context;
mod hook;
mod live;
pub mod message;
pub mod maintenance;
mod repository;
pub mod restore;
mod retain;
pub mod retention;
mod secrets;
pub mod undo;

use context::remove_tree;
pub use context::{Context, Dirs};
pub use live::{Event, Jobs, Live, READABLE, Ticket, append};
pub use repository::{
    Location, Opened, access, described, does_not_exist, forget_known, open, open_existing, sync, test,
};
