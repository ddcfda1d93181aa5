//! A calendar expression as sets of values, and the search for the civil times that match it.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;

use super::days::Days;
use super::field::{Field, Years};

const DAY: i64 = 86_400;

/// What a civil time must be like. Civil times are counted in seconds since 1970-01-01 00:00:00 of the same civil clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) years: Years,
    pub(super) months: Field,
    pub(super) days: Days,
    pub(super) hours: Field,
    pub(super) minutes: Field,
    pub(super) seconds: Field,
}

impl Spec {
    /// Every day at midnight; the parsers start from this.
    pub(super) fn midnight() -> Self {
        Self {
            years: Years::default(),
            months: Field::all(1, 12),
            days: Days::every(),
            hours: Field::only(0, 0, 23),
            minutes: Field::only(0, 0, 59),
            seconds: Field::only(0, 0, 59),
        }
    }

    /// Whether slots are real time (every hour, or a step in the hour field) rather than named civil hours.
    pub(super) fn is_real_time(&self) -> bool {
        self.hours.is_all() || self.hours.repeats()
    }

    /// Whether any civil time matches at all.
    pub(super) fn is_possible(&self) -> bool {
        self.next_civil(0).is_some()
    }

    /// The first match at or after `from`.
    pub(super) fn next_civil(&self, from: i64) -> Option<i64> {
        let start = to_civil(from)?;
        let day = self.day_from(start.date())?;
        if day > start.date() {
            return to_seconds(day, self.first_time());
        }
        match self.time_from(from.rem_euclid(DAY) as u32) {
            Some(time) => to_seconds(day, time),
            None => to_seconds(self.day_from(day.tomorrow().ok()?)?, self.first_time()),
        }
    }

    /// The last match at or before `upto`.
    pub(super) fn prev_civil(&self, upto: i64) -> Option<i64> {
        let end = to_civil(upto)?;
        let day = self.day_upto(end.date())?;
        if day < end.date() {
            return to_seconds(day, self.last_time());
        }
        match self.time_upto(upto.rem_euclid(DAY) as u32) {
            Some(time) => to_seconds(day, time),
            None => to_seconds(self.day_upto(day.yesterday().ok()?)?, self.last_time()),
        }
    }

    fn day_from(&self, date: Date) -> Option<Date> {
        let (mut year, mut month, mut day) = (date.year(), date.month() as u32, date.day() as u32);
        loop {
            let wanted = self.years.first_from(year)?;
            if wanted != year {
                (year, month, day) = (wanted, 1, 1);
            }
            while let Some(found) = self.months.first_from(month) {
                let days = self.days.in_month(year, found as i8);
                let rest = if found == month { days & (u64::MAX << day) } else { days };
                if rest != 0 {
                    return Date::new(year, found as i8, rest.trailing_zeros() as i8).ok();
                }
                (month, day) = (found + 1, 1);
            }
            (year, month, day) = (year + 1, 1, 1);
        }
    }

    fn day_upto(&self, date: Date) -> Option<Date> {
        let (mut year, mut month, mut day) = (date.year(), date.month() as u32, date.day() as u32);
        loop {
            let wanted = self.years.last_upto(year)?;
            if wanted != year {
                (year, month, day) = (wanted, 12, 31);
            }
            while let Some(found) = self.months.last_before(month + 1) {
                let days = self.days.in_month(year, found as i8);
                let rest = if found == month { days & !(u64::MAX << (day + 1)) } else { days };
                if rest != 0 {
                    return Date::new(year, found as i8, (63 - rest.leading_zeros()) as i8).ok();
                }
                (month, day) = (found.saturating_sub(1), 31);
            }
            (year, month, day) = (year - 1, 12, 31);
        }
    }

    fn first_time(&self) -> u32 {
        clock(self.hours.first(), self.minutes.first(), self.seconds.first())
    }

    fn last_time(&self) -> u32 {
        clock(self.hours.last(), self.minutes.last(), self.seconds.last())
    }

    fn time_from(&self, time: u32) -> Option<u32> {
        let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
        if self.hours.contains(hour) {
            if self.minutes.contains(minute)
                && let Some(second) = self.seconds.first_from(second)
            {
                return Some(clock(hour, minute, second));
            }
            if let Some(minute) = self.minutes.first_from(minute + 1) {
                return Some(clock(hour, minute, self.seconds.first()));
            }
        }
        let hour = self.hours.first_from(hour + 1)?;
        Some(clock(hour, self.minutes.first(), self.seconds.first()))
    }

    fn time_upto(&self, time: u32) -> Option<u32> {
        let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
        if self.hours.contains(hour) {
            if self.minutes.contains(minute)
                && let Some(second) = self.seconds.last_before(second + 1)
            {
                return Some(clock(hour, minute, second));
            }
            if let Some(minute) = self.minutes.last_before(minute) {
                return Some(clock(hour, minute, self.seconds.last()));
            }
        }
        let hour = self.hours.last_before(hour)?;
        Some(clock(hour, self.minutes.last(), self.seconds.last()))
    }
}

const fn clock(hour: u32, minute: u32, second: u32) -> u32 {
    hour * 3600 + minute * 60 + second
}

fn to_civil(seconds: i64) -> Option<DateTime> {
    Timestamp::from_second(seconds).ok().map(|instant| Offset::UTC.to_datetime(instant))
}

fn to_seconds(day: Date, time: u32) -> Option<i64> {
    let midnight = Offset::UTC.to_timestamp(day.to_datetime(jiff::civil::Time::midnight())).ok()?;
    Some(midnight.as_second() + i64::from(time))
}
