//! Medians, percentiles and units.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// Durations in order.
pub(crate) struct Sorted(Vec<Duration>);

impl From<Vec<Duration>> for Sorted {
    fn from(mut all: Vec<Duration>) -> Self {
        all.sort();
        Self(all)
    }
}

impl Sorted {
    /// The value below which this many per thousand lie; 0 of nothing.
    pub(crate) fn at(&self, per_mille: usize) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0.get((self.0.len() * per_mille / 1000).min(last)).copied().unwrap_or_default()
    }

    /// The middle.
    pub(crate) fn median(&self) -> Duration {
        self.at(500)
    }

    /// The least: on a busy machine the one that was disturbed the least.
    pub(crate) fn least(&self) -> Duration {
        self.at(0)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// `12.3 ms` or `4.56 s`.
pub(crate) fn shown(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1000.0;
    match millis {
        m if m < 10.0 => format!("{m:.2} ms"),
        m if m < 1000.0 => format!("{m:.1} ms"),
        m => format!("{:.2} s", m / 1000.0),
    }
}

/// Kilobytes as MB (10^6, as the design counts).
pub(crate) fn megabytes(kib: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a figure for eyes")]
    let bytes = (kib * 1024) as f64;
    bytes / 1e6
}

/// The load averages.
///
/// # Errors
/// There is no /proc.
pub(crate) fn load() -> Result<String> {
    let text = std::fs::read_to_string("/proc/loadavg").context("reading the load")?;
    Ok(text.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
}
