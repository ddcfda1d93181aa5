//! Schedule expressions to instants: pure, no clock, no files but the zone data.
//!
//! [`Schedule::parse`] reads keywords, systemd's calendar syntax, cron and `every 6h`. How civil time becomes instants
//! around the changes of a zone's offset stands in `instants`.

mod blackout;
mod days;
mod explain;
mod field;
mod instants;
mod normal;
mod parse;
mod sentence;
mod spec;

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub use blackout::{Window, clear_of, cover_the_week};
pub use explain::{Explanation, explain};

/// A schedule expression that was understood. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    inner: Arc<Inner>,
}

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    text: Box<str>,
    rule: Rule,
    zone: Option<TimeZone>,
}

/// What an expression says, once its notation is forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    /// Civil times that match a pattern.
    Calendar(Box<spec::Spec>),
    /// Every so many seconds, at least 1.
    Every(i64),
}

/// Why an expression was not understood, with the place in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// What is wrong, as a sentence.
    pub message: String,
    /// Byte offset into the expression.
    pub offset: usize,
    /// Length in bytes of what is wrong; at least 1 unless at the end.
    pub len: usize,
    /// What to write instead.
    pub help: Option<String>,
}

impl Schedule {
    /// Reads an expression: `daily` and its like, systemd's calendar syntax (`Mon..Fri 02:30`, `*-*~01 04:00`, an IANA
    /// zone behind it), cron with five or six fields, `every 6h`.
    ///
    /// # Errors
    /// What is wrong and where. An expression that no date can ever match (30 February) is refused too.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let (rule, zone) = parse::parse(text)?;
        Ok(Self { inner: Arc::new(Inner { text: text.into(), rule, zone }) })
    }

    /// The expression as it was written.
    pub fn text(&self) -> &str {
        &self.inner.text
    }

    /// The zone that the expression itself names; it wins over any other.
    pub fn zone(&self) -> Option<&TimeZone> {
        self.inner.zone.as_ref()
    }

    /// The expression in normal form: two that mean the same look the same, as far as their notation allows. It parses
    /// to a schedule with the same slots.
    pub fn normal(&self) -> String {
        normal::normal(&self.inner.rule, self.inner.zone.as_ref())
    }

    /// The expression as a plain English sentence, without a full stop.
    pub fn sentence(&self) -> String {
        sentence::sentence(&self.inner.rule, self.inner.zone.as_ref())
    }

    /// The first slot strictly after `after`; `None` where there is none up to the year 9999.
    ///
    /// `zone` counts where the expression names none. `anchor` is the last slot that was decided: intervals
    /// (`every 6h`) count from it, without one from the Unix epoch.
    pub fn next_after(
        &self,
        after: Timestamp,
        zone: &TimeZone,
        anchor: Option<Timestamp>,
    ) -> Option<Timestamp> {
        let from = floor(after) + 1;
        let second = match &self.inner.rule {
            Rule::Calendar(spec) => instants::next(spec, self.zone().unwrap_or(zone), from)?,
            Rule::Every(period) => from + (anchor.map_or(0, floor) - from).rem_euclid(*period),
        };
        Timestamp::from_second(second).ok()
    }

    /// The last slot at or before `at`, with the meaning of [`Schedule::next_after`].
    pub fn latest_at_or_before(
        &self,
        at: Timestamp,
        zone: &TimeZone,
        anchor: Option<Timestamp>,
    ) -> Option<Timestamp> {
        let upto = floor(at);
        let second = match &self.inner.rule {
            Rule::Calendar(spec) => instants::last(spec, self.zone().unwrap_or(zone), upto)?,
            Rule::Every(period) => upto - (upto - anchor.map_or(0, floor)).rem_euclid(*period),
        };
        Timestamp::from_second(second).ok()
    }
}

/// Whole seconds, rounded down also before the epoch.
fn floor(instant: Timestamp) -> i64 {
    instant.as_second() - i64::from(instant.subsec_nanosecond() < 0)
}
