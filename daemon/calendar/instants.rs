//! Civil matches to instants in a time zone.
//!
//! Between two changes of a zone's offset civil time and real time run side by side; only the hours behind a change need
//! care. With named hours a slot is civil time: one that falls into the gap of spring is shifted by the gap, one that
//! is repeated in autumn counts the first time only. With every hour, or a step of hours, each instant whose civil time
//! matches is a slot.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::spec::Spec;

/// More than civil time can ever differ from itself by a change of offset (the largest known: a day).
const TWO_DAYS: i64 = 2 * 86_400;

/// A stretch of time with one offset from UTC. All in seconds.
struct Stretch {
    start: i64,
    end: i64,
    offset: i64,
    before: i64,
}

impl Stretch {
    fn at(zone: &TimeZone, second: i64) -> Option<Self> {
        let instant = Timestamp::from_second(second).ok()?;
        let offset = i64::from(zone.to_offset(instant).seconds());
        let just_after = Timestamp::from_second(second + 1).ok()?;
        let start =
            zone.preceding(just_after).next().map_or(i64::MIN / 2, |change| change.timestamp().as_second());
        let end =
            zone.following(instant).next().map_or(i64::MAX / 2, |change| change.timestamp().as_second());
        let before = Timestamp::from_second(start.saturating_sub(1))
            .map_or(offset, |earlier| i64::from(zone.to_offset(earlier).seconds()));
        Some(Self { start, end, offset, before })
    }

    /// Seconds of civil time that are missing at its start.
    fn gap(&self) -> i64 {
        (self.offset - self.before).max(0)
    }

    /// The first second whose civil time was not there before the change.
    fn first_new(&self) -> i64 {
        self.start + (self.before - self.offset).max(0)
    }

    fn next(&self, spec: &Spec, from: i64) -> Option<i64> {
        let from = from.max(self.start);
        let civil = !spec.is_real_time();
        let plain_from = if civil { from.max(self.first_new()) } else { from };
        let plain = spec.next_civil(plain_from + self.offset).map(|civil| civil - self.offset);
        let shifted = (civil && from < self.start + self.gap())
            .then(|| spec.next_civil(from + self.before))
            .flatten()
            .filter(|civil| *civil < self.start + self.offset)
            .map(|civil| civil - self.before);
        [plain, shifted].into_iter().flatten().min().filter(|slot| *slot < self.end)
    }

    fn last(&self, spec: &Spec, upto: i64) -> Option<i64> {
        let upto = upto.min(self.end - 1);
        let civil = !spec.is_real_time();
        let lowest = if civil { self.first_new() } else { self.start };
        let plain = spec
            .prev_civil(upto + self.offset)
            .map(|civil| civil - self.offset)
            .filter(|slot| *slot >= lowest);
        let shifted = (civil && self.gap() > 0)
            .then(|| spec.prev_civil(upto.min(self.start + self.gap() - 1) + self.before))
            .flatten()
            .map(|civil| civil - self.before)
            .filter(|slot| *slot >= self.start);
        [plain, shifted].into_iter().flatten().max()
    }
}

/// The first slot at or after the second `from`.
pub(super) fn next(spec: &Spec, zone: &TimeZone, mut from: i64) -> Option<i64> {
    loop {
        let stretch = Stretch::at(zone, from)?;
        if let Some(slot) = stretch.next(spec, from) {
            return Some(slot);
        }
        let earliest = spec.next_civil(stretch.end + stretch.offset - TWO_DAYS)?;
        from = stretch.end.max(earliest - stretch.offset - TWO_DAYS);
    }
}

/// The last slot at or before the second `upto`.
pub(super) fn last(spec: &Spec, zone: &TimeZone, mut upto: i64) -> Option<i64> {
    loop {
        let stretch = Stretch::at(zone, upto)?;
        if let Some(slot) = stretch.last(spec, upto) {
            return Some(slot);
        }
        let latest = spec.prev_civil(stretch.start + stretch.before + TWO_DAYS)?;
        upto = (stretch.start - 1).min(latest - stretch.before + TWO_DAYS);
    }
}
