//! Weekly windows of civil time in which nothing is to begin: `Mon..Fri 08:00-18:00`.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::ParseError;
use super::parse::window;

const MINUTES_OF_DAY: u16 = 24 * 60;
const MINUTES_OF_WEEK: usize = 7 * MINUTES_OF_DAY as usize;

/// Windows that lie end to end are followed so far; a week has fewer.
const MOST_IN_A_ROW: usize = 1000;

/// One window: on some weekdays, from one time to another. It belongs to the day on which it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    text: Box<str>,
    /// Bit 0 is Monday.
    days: u8,
    /// Minutes of the day, `to` up to 24:00; when it is not later than `from` it lies on the day after.
    from: u16,
    to: u16,
}

impl Window {
    /// Reads `Mon..Fri 08:00-18:00`; without weekdays it is every day's. `22:00-06:00` ends on the day after.
    ///
    /// # Errors
    /// What is wrong and where.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let (days, from, to) = window::parse(text)?;
        Ok(Self { text: text.into(), days, from, to })
    }

    /// The window as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn length(&self) -> u16 {
        if self.to > self.from { self.to - self.from } else { self.to + MINUTES_OF_DAY - self.from }
    }

    /// When this window ends, if `at` lies in it.
    fn end_around(&self, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let today = zone.to_datetime(at).date();
        let yesterday = today.yesterday().ok();
        yesterday.into_iter().chain([today]).find_map(|day| self.end_of(day, at, zone))
    }

    /// When the window that begins on `day` ends, if `at` lies in it.
    fn end_of(&self, day: Date, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let weekday = day.weekday().to_monday_zero_offset();
        if self.days & (1 << weekday) == 0 {
            return None;
        }
        let begin = instant(minute_of(day, self.from)?, zone)?;
        let last = if self.to > self.from { day } else { day.tomorrow().ok()? };
        let end = instant(minute_of(last, self.to)?, zone)?;
        (begin <= at && at < end).then_some(end)
    }
}

/// Civil minutes are those of the wall clock: in the hour that autumn repeats, its first pass.
fn minute_of(day: Date, minute: u16) -> Option<DateTime> {
    day.to_datetime(Time::midnight()).checked_add(i64::from(minute).minutes()).ok()
}

fn instant(civil: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    zone.to_timestamp(civil).ok()
}

/// When a moment is free of all windows: itself, or the end of those in which it lies.
pub fn clear_of(windows: &[Window], at: Timestamp, zone: &TimeZone) -> Timestamp {
    let mut clear = at;
    for _ in 0..MOST_IN_A_ROW {
        match windows.iter().filter_map(|window| window.end_around(clear, zone)).max() {
            Some(end) => clear = end,
            None => break,
        }
    }
    clear
}

/// Whether the windows leave no minute of the week.
pub fn cover_the_week(windows: &[Window]) -> bool {
    let mut covered = vec![false; MINUTES_OF_WEEK];
    for window in windows {
        for day in (0..7).filter(|day| window.days & (1 << day) != 0) {
            let begin = day * usize::from(MINUTES_OF_DAY) + usize::from(window.from);
            let minutes = begin..begin + usize::from(window.length());
            minutes.for_each(|minute| covered[minute % MINUTES_OF_WEEK] = true);
        }
    }
    covered.into_iter().all(|minute| minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clear(windows: &[&str], at: &str) -> String {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let windows: Vec<_> = windows.iter().map(|text| Window::parse(text).unwrap()).collect();
        let at = at.parse::<DateTime>().unwrap().to_zoned(zone.clone()).unwrap().timestamp();
        zone.to_datetime(clear_of(&windows, at, &zone)).to_string()
    }

    #[test]
    fn a_moment_in_a_window_is_clear_at_its_end() {
        // 2026-06-01 is a Monday.
        let office = ["Mon..Fri 08:00-18:00"];
        assert_eq!(clear(&office, "2026-06-01T07:59:59"), "2026-06-01T07:59:59");
        assert_eq!(clear(&office, "2026-06-01T08:00:00"), "2026-06-01T18:00:00");
        assert_eq!(clear(&office, "2026-06-01T17:59:59"), "2026-06-01T18:00:00");
        assert_eq!(clear(&office, "2026-06-01T18:00:00"), "2026-06-01T18:00:00");
        assert_eq!(clear(&office, "2026-06-06T12:00:00"), "2026-06-06T12:00:00");
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
        let night = ["Sat 22:00-06:00"];
        assert_eq!(clear(&night, "2026-06-06T23:00:00"), "2026-06-07T06:00:00");
        assert_eq!(clear(&night, "2026-06-07T05:00:00"), "2026-06-07T06:00:00");
        assert_eq!(clear(&night, "2026-06-06T05:00:00"), "2026-06-06T05:00:00");
        assert_eq!(clear(&["Sun 00:00-24:00"], "2026-06-07T05:00:00"), "2026-06-08T00:00:00");
    }

    #[test]
    fn windows_end_to_end_are_one() {
        let both = ["Mon 08:00-12:00", "Mon 12:00-18:00", "Mon 17:00-20:00"];
        assert_eq!(clear(&both, "2026-06-01T09:00:00"), "2026-06-01T20:00:00");
    }

    #[test]
    fn windows_follow_the_wall_clock_over_both_changes() {
        assert_eq!(clear(&["01:00-04:00"], "2026-03-29T01:30:00"), "2026-03-29T04:00:00");
        assert_eq!(clear(&["01:00-04:00"], "2026-10-25T01:30:00"), "2026-10-25T04:00:00");
        assert_eq!(clear(&["01:00-02:30"], "2026-03-29T01:30:00"), "2026-03-29T03:30:00");
    }

    #[test]
    fn a_week_without_a_free_minute_is_noticed() {
        let windows =
            |texts: &[&str]| texts.iter().map(|text| Window::parse(text).unwrap()).collect::<Vec<_>>();
        assert!(cover_the_week(&windows(&["00:00-24:00"])));
        assert!(cover_the_week(&windows(&["08:00-20:00", "20:00-08:00"])));
        assert!(cover_the_week(&windows(&["08:00-08:00"])), "a window of a whole day");
        assert!(!cover_the_week(&windows(&["Mon..Sat 00:00-24:00", "Sun 00:00-23:59"])));
    }

    #[test]
    fn nonsense_is_refused_with_its_place() {
        for (text, offset) in [
            ("", 0),
            ("Mon", 3),
            ("Mon 08:00", 9),
            ("Mon 08:00-", 10),
            ("Mon 8-18", 5),
            ("Mon 25:00-26:00", 4),
            ("Mon 08:60-09:00", 7),
            ("Mon 24:00-09:00", 4),
            ("Fry 08:00-09:00", 0),
            ("Mon 08:00-09:00 Berlin", 16),
            ("Mon 08:00-24:01", 10),
            ("Mon ０8:00-09:00", 4),
        ] {
            let error = Window::parse(text).unwrap_err();
            assert_eq!(error.offset, offset, "{text:?}: {error}");
        }
    }
}
