//! The program `holdfast`.

pub mod redis_key;
