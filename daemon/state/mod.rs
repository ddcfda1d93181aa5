//! What is remembered: SQLite for jobs, outcomes, slots and sets; beside it plain files that can be read without it.
//!
//! | below the state directory | what |
//! |---|---|
//! | `holdfast.db` | [`Database`] |
//! | `holdfast.db.damaged-TIME` | a database that could not be used, set aside |
//! | `undo/JOB.undo` | [`undo`]: what to put back when the job does not live to do it |
//! | `instances/NAME` | [`identity()`]: the uuid of an instance |
//! | `dumps/UUID.json` | [`Sizes`] of an instance's dumps when last they were good |
//! | `pins/SNAPSHOT` | [`pins`]: sets that no retention may forget |
//! | `locks/` | [`lock`]: `flock` files |

mod database;
pub mod durable;
mod identity;
pub mod lock;
pub mod pins;
mod record;
mod sizes;
pub mod undo;

pub use database::{Database, JobFilter, Opened, SetFilter, Slot};
pub use identity::identity;
pub use record::{JobRecord, Kind, Outcome, Phase, SetRecord, UnitRecord};
pub use sizes::{Sizes, read_sizes, write_sizes};
