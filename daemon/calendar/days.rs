//! Which days of a month an expression means.

use jiff::civil::Date;

use super::field::{Field, values};

/// The days of a month that are meant: by number, by number from the end, by weekday, by the n-th weekday.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Days {
    /// Days of the month, 1 to 31; `None` where only `from_end` names days.
    pub(super) numbers: Option<Field>,
    /// Days counted from the end of the month: 1 is the last.
    pub(super) from_end: Option<Field>,
    /// Weekdays, Monday is 0; `None` where only `nth` names weekdays.
    pub(super) weekdays: Option<Field>,
    /// For each weekday the weeks in which it is meant (bit n: the n-th one, bit 6: the last one).
    pub(super) nth: [u8; 7],
    /// Cron's rule: a day is meant if the numbers *or* the weekdays say so. Otherwise both must.
    pub(super) either: bool,
}

/// The bit in [`Days::nth`] for the last one of a month.
pub(super) const LAST: u32 = 6;

/// One bit for every seventh day.
const WEEKS: u64 = 1 | 1 << 7 | 1 << 14 | 1 << 21 | 1 << 28;

impl Days {
    /// Every day.
    pub(super) fn every() -> Self {
        Self {
            numbers: Some(Field::all(1, 31)),
            from_end: None,
            weekdays: Some(Field::all(0, 6)),
            nth: [0; 7],
            either: false,
        }
    }

    /// Whether days of the month are no restriction.
    pub(super) fn any_number(&self) -> bool {
        self.numbers.as_ref().is_some_and(Field::is_all)
    }

    /// Whether weekdays are no restriction.
    pub(super) fn any_weekday(&self) -> bool {
        self.weekdays.as_ref().is_some_and(Field::is_all)
    }

    /// The days meant in a month, bit n for day n.
    pub(super) fn in_month(&self, year: i16, month: i8) -> u64 {
        let Ok(first) = Date::new(year, month, 1) else { return 0 };
        let length = first.days_in_month() as u32;
        let valid = (1_u64 << (length + 1)) - 2;
        let numbers = self.by_number(length) & valid;
        let weekdays = self.by_weekday(first.weekday().to_monday_zero_offset() as u32, valid);
        if self.either { numbers | weekdays } else { numbers & weekdays }
    }

    fn by_number(&self, length: u32) -> u64 {
        let from_end = self.from_end.as_ref().map_or(0, Field::bits);
        values(from_end)
            .filter(|position| *position <= length)
            .fold(self.numbers.as_ref().map_or(0, Field::bits), |days, position| {
                days | 1 << (length + 1 - position)
            })
    }

    fn by_weekday(&self, first: u32, valid: u64) -> u64 {
        let plain = self.weekdays.as_ref().map_or(0, Field::bits);
        let mut days = 0;
        for weekday in 0..7 {
            let first_of_it = (weekday + 7 - first) % 7 + 1;
            let all = (WEEKS << first_of_it) & valid;
            if plain >> weekday & 1 == 1 {
                days |= all;
            }
            days |= nth_of(self.nth[weekday as usize], first_of_it, all);
        }
        days
    }
}

/// Of `all` days that are one weekday those in the wanted weeks.
fn nth_of(weeks: u8, first_of_it: u32, all: u64) -> u64 {
    values(u64::from(weeks)).fold(0, |days, week| {
        days | if week == LAST {
            1 << (63 - all.leading_zeros())
        } else {
            all & 1 << (first_of_it + 7 * (week - 1))
        }
    })
}
