//! How an instance whose unit failed comes back by itself.

use std::time::Duration;

/// Which unit is watched, and what may be done when it fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The unit of systemd whose failure counts.
    pub unit: String,
    /// A program that is asked before anything is done, argv: 0 go on, 75 not now.
    pub guard: Option<Vec<String>>,
    /// How many recoveries may begin within `window`.
    pub attempts: u32,
    /// The time that `attempts` counts in.
    pub window: Duration,
    /// The least time between the beginnings of two recoveries.
    pub cool_down: Duration,
    /// How long a repository that does not answer is waited for.
    pub patience: Duration,
    /// Whether the failed data is kept.
    pub save_failed: bool,
    /// How long.
    pub keep_failed: Duration,
    /// Whether sets may be used that were made with a warning.
    pub allow_warning: bool,
}

impl Recovery {
    /// Of a unit, with nothing else said.
    pub fn of(unit: String) -> Self {
        let day = Duration::from_secs(86_400);
        Self {
            unit,
            guard: None,
            attempts: 3,
            window: day,
            cool_down: Duration::ZERO,
            patience: Duration::from_secs(300),
            save_failed: true,
            keep_failed: 7 * day,
            allow_warning: false,
        }
    }
}
