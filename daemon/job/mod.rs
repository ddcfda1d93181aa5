//! The procedures: to be furnished. Retention is here.

pub mod retention;
