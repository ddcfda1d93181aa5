//! How long a child may take, and how it is ended.

use std::time::Duration;

/// How long a child may take, and how it is ended: SIGINT, after [`Limits::grace`] SIGTERM, after another one SIGKILL,
/// each to its whole group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest it may run; none: for ever.
    pub timeout: Option<Duration>,
    /// The longest it may go without a sign of life; none: for ever.
    pub stall: Option<Duration>,
    /// Whether its CPU time and I/O count as signs of life as well as its output: for programs that work in silence.
    pub work_counts: bool,
    /// The time between two steps of the kill chain.
    pub grace: Duration,
    /// How long pipes are read after it ended, when something that it left behind holds them open.
    pub drain: Duration,
}

impl Limits {
    /// No time-out, no stall limit, 30 s between the steps of the kill chain.
    pub const NONE: Self = Self {
        timeout: None,
        stall: None,
        work_counts: false,
        grace: Duration::from_secs(30),
        drain: Duration::from_secs(2),
    };

    /// A time-out, and a kill chain with 5 s between its steps: for short questions.
    pub const fn within(timeout: Duration) -> Self {
        Self { timeout: Some(timeout), grace: Duration::from_secs(5), ..Self::NONE }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::NONE
    }
}
