//! Times, spans and sizes as people write them. Pure: the clock and the zone are parameters.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp, civil};

/// Where and when the reader is.
#[derive(Debug, Clone)]
pub(super) struct Here {
    /// The instant that relative times count from.
    pub(super) now: Timestamp,
    /// The zone that times are shown in.
    pub(super) zone: TimeZone,
}

impl Here {
    /// The reader's clock and zone.
    pub(super) fn now() -> Self {
        Self { now: Timestamp::now(), zone: TimeZone::system() }
    }

    /// `2026-11-21 08:10 (in 3 h)`, or `never`.
    pub(super) fn moment(&self, time: Option<Timestamp>) -> String {
        let Some(time) = time else { return "never".to_owned() };
        format!("{} ({})", self.clock(time), relative(self.now, time))
    }

    /// `2026-11-21 08:10`.
    pub(super) fn clock(&self, time: Timestamp) -> String {
        time.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M").to_string()
    }

    /// `2 d ago`, `in 3 h`, or `never`.
    pub(super) fn age(&self, time: Option<Timestamp>) -> String {
        time.map_or_else(|| "never".to_owned(), |time| relative(self.now, time))
    }

    /// Reads an instant: `2026-11-20T12:00:00Z`, `2026-11-20 12:00`, `2026-11-20` (its midnight here), `3d` or `3d ago`.
    ///
    /// # Errors
    /// What may be written instead.
    pub(super) fn parse(&self, text: &str) -> Result<Timestamp, String> {
        let text = text.trim();
        if let Ok(time) = text.parse::<Timestamp>() {
            return Ok(time);
        }
        let civil = text.parse::<civil::DateTime>();
        if let Ok(time) = civil.and_then(|civil| self.zone.to_timestamp(civil)) {
            return Ok(time);
        }
        let span = parse_duration(text.strip_suffix("ago").unwrap_or(text).trim());
        span.ok().and_then(|span| self.now.checked_sub(span).ok()).ok_or_else(|| {
            format!("`{text}` is no time; write `2026-11-20 12:00`, `2026-11-20`, `2026-11-20T12:00:00Z` or `3d` (ago)")
        })
    }
}

/// `in 3 h`, `2 d ago`, `now`; the larger unit alone, rounded down.
pub(super) fn relative(now: Timestamp, time: Timestamp) -> String {
    let seconds = time.as_second() - now.as_second();
    match seconds {
        0 => "now".to_owned(),
        1.. => format!("in {}", rough(seconds.unsigned_abs())),
        _ => format!("{} ago", rough(seconds.unsigned_abs())),
    }
}

fn rough(seconds: u64) -> String {
    const STEPS: [(u64, &str); 4] =
        [(2 * 365 * 86_400, "y"), (2 * 86_400, "d"), (2 * 3600, "h"), (2 * 60, "min")];
    for (from, unit) in STEPS {
        if seconds >= from {
            return format!("{} {unit}", seconds / (from / 2));
        }
    }
    format!("{seconds} s")
}

/// `0.4 s`, `12 s`, `3 min 20 s`, `2 h 05 min`.
pub(super) fn elapsed(span: SignedDuration) -> String {
    let seconds = span.as_secs().max(0);
    match seconds {
        0..10 => format!("{:.1} s", span.as_secs_f64().max(0.0)),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// `17 B`, `1.5 KiB`, `2.0 GiB`.
pub(super) fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

/// The part of an id that people read: 8 characters, as restic shows.
pub(super) fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// `1 file`, `2 files`.
pub(super) fn count(number: u64, word: &str) -> String {
    if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") }
}

/// `a, b and 3 more`: at most `most` names.
pub(super) fn names(names: &[&str], most: usize) -> String {
    if names.len() <= most {
        return names.join(", ");
    }
    format!("{} and {} more", names[..most].join(", "), names.len() - most)
}

/// Reads `90s`, `15m`, `6h`, `30d`, `1h30m`: a day has 24 hours.
///
/// # Errors
/// What may be written instead.
pub(super) fn parse_duration(text: &str) -> Result<SignedDuration, String> {
    let wrong = || format!("`{text}` is no duration; write `90s`, `15m`, `6h` or `30d`");
    let span: Span = text.parse().map_err(|_| wrong())?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    if duration.is_negative() { Err(wrong()) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> Here {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        Here { now: "2026-11-21T07:00:00Z".parse().unwrap(), zone }
    }

    #[test]
    fn moments_are_local_and_relative() {
        let here = here();
        let at = |text: &str| here.moment(Some(text.parse().unwrap()));
        assert_eq!(at("2026-11-21T10:00:00Z"), "2026-11-21 11:00 (in 3 h)");
        assert_eq!(at("2026-11-18T23:30:00Z"), "2026-11-19 00:30 (2 d ago)");
        assert_eq!(at("2026-11-21T07:00:00Z"), "2026-11-21 08:00 (now)");
        assert_eq!(here.moment(None), "never");
    }

    #[test]
    fn spans_take_the_unit_that_says_most() {
        let words = [59, 119, 120, 7199, 7200, 172_799, 172_800, 63_072_000].map(rough);
        assert_eq!(words, ["59 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 d", "2 y"]);
    }

    #[test]
    fn run_times_are_exact_where_they_are_short() {
        let text = |ms| elapsed(SignedDuration::from_millis(ms));
        assert_eq!(text(430), "0.4 s");
        assert_eq!(text(12_345), "12 s");
        assert_eq!(text(200_000), "3 min 20 s");
        assert_eq!(text(7_500_000), "2 h 05 min");
        assert_eq!(text(-5), "0.0 s");
    }

    #[test]
    fn times_are_read_in_every_way_that_is_shown() {
        let here = here();
        let read = |text: &str| here.parse(text).unwrap().to_string();
        assert_eq!(read("2026-11-20T12:00:00Z"), "2026-11-20T12:00:00Z");
        assert_eq!(read("2026-11-20 12:00"), "2026-11-20T11:00:00Z");
        assert_eq!(read("2026-11-20"), "2026-11-19T23:00:00Z");
        assert_eq!(read("3d"), "2026-11-18T07:00:00Z");
        assert_eq!(read("90 min ago"), "2026-11-21T05:30:00Z");
        for bad in ["", "soon", "2026-13-01", "-3d", "12", "ago", "1 month"] {
            assert!(here.parse(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn durations_are_read_as_in_definitions() {
        let seconds = |text: &str| parse_duration(text).unwrap().as_secs();
        assert_eq!(
            [seconds("90s"), seconds("15m"), seconds("6h"), seconds("30d")],
            [90, 900, 21_600, 2_592_000]
        );
        for bad in ["", "5", "-5m", "1 month", "x"] {
            assert!(parse_duration(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!([size(17), size(1536), size(3 << 30)], ["17 B", "1.5 KiB", "3.0 GiB"]);
    }

    #[test]
    fn long_lists_of_names_are_cut() {
        assert_eq!(names(&["a", "b"], 3), "a, b");
        assert_eq!(names(&["a", "b", "c", "d"], 2), "a, b and 2 more");
    }
}
