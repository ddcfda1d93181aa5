//! What `holdfast schedule` shows of an expression.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde::{Serialize, Serializer};

use super::{ParseError, Schedule};

/// An expression in other words, and its next slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The normal form.
    pub normal: String,
    /// A plain English sentence.
    pub sentence: String,
    /// The next slots, written as RFC 3339 with the zone's offset.
    #[serde(serialize_with = "rfc3339")]
    pub next: Vec<Zoned>,
}

/// Explains an expression: its next `n` slots after `from`, in the zone that it names or in `zone`. Intervals count
/// from the Unix epoch here, since nothing is known of runs.
///
/// # Errors
/// Where and why the expression was not understood.
pub fn explain(expr: &str, zone: &TimeZone, from: Timestamp, n: usize) -> Result<Explanation, ParseError> {
    let schedule = Schedule::parse(expr)?;
    let shown = schedule.zone().unwrap_or(zone).clone();
    let slots = std::iter::successors(schedule.next_after(from, zone, None), |slot| {
        schedule.next_after(*slot, zone, None)
    });
    let next = slots.take(n).map(|slot| slot.to_zoned(shown.clone())).collect();
    Ok(Explanation { normal: schedule.normal(), sentence: schedule.sentence(), next })
}

fn rfc3339<S: Serializer>(slots: &[Zoned], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(slots.iter().map(|slot| slot.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()))
}
