//! What is remembered: SQLite for jobs, outcomes, slots and sets; beside it plain files.

mod record;

pub use record::{JobRecord, Kind, Outcome, Phase, SetRecord, UnitRecord};
