//! What to put back when a job does not live to do it: one synced file per job, readable without SQLite.
//!
//! A file `undo/JOB.undo` holds a JSON record a line: `{"step":{…}}`, written *before* the caller acts, and `{"done":INDEX}`
//! when that step needs no undoing any more. A last line without its end was torn by a crash: the caller had not acted on
//! it. Steps may be run twice (killed between the act and `done`), so each must be safe to repeat, and harmless when what
//! it undoes never happened.

mod file;
mod step;

pub use file::{Pending, Undo, pending};
pub use step::{Act, Recorded, Step};
