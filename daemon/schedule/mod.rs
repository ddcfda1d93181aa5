//! Which slots are due, and the tick that asks.
//!
//! [`Planner`] decides, in wall-clock time that it is given; [`Trigger`] wakes it, without polling. A decision is durable
//! before it takes effect: what the planner hands out is stored first (`state`), then run. A slot that was handed out
//! but not stored before a crash is found again at the next start.

mod delay;
mod descriptor;
mod planner;
mod trigger;
mod zones;

pub use planner::{Due, Entry, GRACE, Kind, Planner};
pub use trigger::Trigger;
pub use zones::ZoneWatch;
