//! Which sets are kept: pure, over committed sets, for restic's own rules count snapshots.
//!
//! The rules are those of `restic forget --keep-…` (0.14, held by a differential test): a set is kept if any rule keeps it;
//! `daily = 7` keeps the newest set of each of the 7 newest days that have one. Two differences. Sets from the future of
//! the clock are kept and count for nothing: a clock that was wrong once, or is wrong now, must not cost the good sets.
//! And restic from 0.16 on also keeps the oldest snapshot while a rule has counts left; we do not.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

use crate::definition::Retention;

/// A committed set (outcome `succeeded` or `warning`) of one backup, instance and repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetTime {
    /// Its snapshot's id.
    pub id: String,
    /// When it was made.
    pub time: Timestamp,
}

/// Whether a set is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The set's id.
    pub id: String,
    /// Kept, or to be forgotten.
    pub keep: bool,
    /// Which rules keep it, by their names in the definition; also `newest`, `future` and `no rule`.
    pub reasons: Vec<String>,
}

/// Decides for each set, newest first. What lies in one hour, day, week (ISO), month or year is told in `zone`.
///
/// The newest set is kept whatever the rules say, and everything when there is no rule at all.
pub fn keep(sets: &[SetTime], retention: &Retention, zone: &TimeZone, now: Timestamp) -> Vec<Decision> {
    let mut sets: Vec<&SetTime> = sets.iter().collect();
    sets.sort_by(|a, b| b.time.cmp(&a.time).then_with(|| b.id.cmp(&a.id)));
    let future = sets.iter().take_while(|set| set.time > now).count();
    let newest = sets.get(future).map(|set| set.time);
    let mut rules = Rules::new(retention);
    let decide = |(index, set): (usize, &&SetTime)| {
        let mut reasons = match newest {
            _ if index < future => vec!["future"],
            Some(newest) => rules.reasons(&set.time.to_zoned(zone.clone()), newest),
            None => Vec::new(),
        };
        if reasons.is_empty() && index == future {
            reasons.push("newest");
        }
        Decision {
            id: set.id.clone(),
            keep: !reasons.is_empty(),
            reasons: reasons.into_iter().map(str::to_owned).collect(),
        }
    };
    sets.iter().enumerate().map(decide).collect()
}

/// The rules, as far as they are used up by newer sets.
struct Rules {
    buckets: Vec<Bucket>,
    within: Option<Duration>,
    none: bool,
    seen: i64,
}

/// A rule that keeps the newest set of each of so many spans of time.
struct Bucket {
    name: &'static str,
    left: u32,
    span: fn(&Zoned, i64) -> Span,
    last: Option<Span>,
}

/// What two sets have in common that lie in the same span.
type Span = [i64; 4];

impl Rules {
    fn new(retention: &Retention) -> Self {
        let bucket = |name, left, span| Bucket { name, left, span, last: None };
        let buckets = vec![
            bucket("last", retention.last, |_, nth| [nth, 0, 0, 0]),
            bucket("hourly", retention.hourly, |t, _| day(t, t.hour())),
            bucket("daily", retention.daily, |t, _| day(t, 0)),
            bucket("weekly", retention.weekly, |t, _| {
                let week = t.date().iso_week_date();
                [week.year().into(), week.week().into(), 0, 0]
            }),
            bucket("monthly", retention.monthly, |t, _| [t.year().into(), t.month().into(), 0, 0]),
            bucket("yearly", retention.yearly, |t, _| [t.year().into(), 0, 0, 0]),
        ];
        Self {
            buckets,
            within: retention.within,
            none: Retention { versions: 0, ..retention.clone() } == Retention::default(),
            seen: 0,
        }
    }

    /// Which rules keep the next older set.
    fn reasons(&mut self, time: &Zoned, newest: Timestamp) -> Vec<&'static str> {
        self.seen += 1;
        let mut reasons = Vec::new();
        if self.none {
            reasons.push("no rule");
        }
        if self.within.is_some_and(|within| is_within(time.timestamp(), newest, within)) {
            reasons.push("within");
        }
        for bucket in self.buckets.iter_mut().filter(|bucket| bucket.left > 0) {
            let span = (bucket.span)(time, self.seen);
            if bucket.last.replace(span) != Some(span) {
                bucket.left -= 1;
                reasons.push(bucket.name);
            }
        }
        reasons
    }
}

fn day(time: &Zoned, hour: i8) -> Span {
    [time.year().into(), time.month().into(), time.day().into(), hour.into()]
}

/// Younger than `within`, counted back from the newest set.
fn is_within(time: Timestamp, newest: Timestamp, within: Duration) -> bool {
    let age = newest.duration_since(time);
    SignedDuration::try_from(within).map_or(true, |within| age < within)
}

#[cfg(test)]
mod tests;
