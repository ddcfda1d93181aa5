//! Durations, schedules, time zones.

use std::time::Duration;

use serde_json::json;
use toml::de::DeValue;

use super::{Node, Reader, Value};
use crate::calendar::{ParseError, Schedule, Window};

/// The longest duration that makes sense anywhere: ten years.
const LONGEST: u64 = 10 * 365 * 86_400;
const UNITS: [(char, u64); 5] = [('w', 604_800), ('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// A duration that may be zero.
#[derive(Debug, Clone, Copy)]
pub(in crate::config) struct Delay(pub(in crate::config) Duration);

/// A duration that may not be zero.
#[derive(Debug, Clone, Copy)]
pub(in crate::config) struct Limit(pub(in crate::config) Duration);

/// A time zone of the IANA database.
#[derive(Debug, Clone)]
pub(in crate::config) struct Zone(pub(in crate::config) jiff::tz::TimeZone);

impl Value for Delay {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        duration(node, reader).map(Self)
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "pattern": "^([0-9]+[smhdw])+$", "examples": ["90s", "15m", "6h", "30d"] })
    }
}

impl Value for Limit {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let duration = duration(node, reader)?;
        if duration.is_zero() {
            let help = "leave it out for the default, or write a time like \"15m\"";
            return reader.refuse(node, format!("`{}` may not be zero", reader.key()), help);
        }
        Some(Self(duration))
    }

    fn schema() -> serde_json::Value {
        Delay::schema()
    }
}

fn duration(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Duration> {
    if let DeValue::Integer(number) = node.get_ref() {
        let help = format!("write it with its unit: \"{}s\"", number.as_str().trim_start_matches('-'));
        return reader.wrong_type(node, "a duration", Some(help));
    }
    let text = reader.text(node, "a duration like \"15m\"")?;
    match parse_duration(text) {
        Ok(duration) => Some(duration),
        Err(message) => {
            reader.refuse(node, message, "write numbers with s, m, h, d or w: \"90s\", \"1h30m\", \"30d\"")
        }
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration");
    if text.trim_start().starts_with('-') {
        return Err(format!("{text:?} is negative"));
    }
    let mut seconds: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = rest[digits..].chars().next().ok_or_else(|| format!("{text:?} has no unit"))?;
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let number = if digits == 0 { return Err(wrong()) } else { rest[..digits].parse::<u64>() };
        let part = number.ok().and_then(|number| number.checked_mul(*size));
        seconds = part
            .and_then(|part| seconds.checked_add(part))
            .filter(|sum| *sum <= LONGEST)
            .ok_or_else(|| format!("{text:?} is too long; ten years are the most"))?;
        rest = &rest[digits + unit.len_utf8()..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(Duration::from_secs(seconds)) }
}

/// A duration as it would be written in the file.
pub(in crate::config) fn duration_text(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    let mut text = String::new();
    for (unit, size) in UNITS {
        if rest >= size && (unit != 'w' || rest.is_multiple_of(size)) {
            text.push_str(&format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

impl Value for Schedule {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.text(node, "a schedule like \"daily\"")?;
        let help = "write \"daily\", \"Mon..Fri 02:30\", \"30 2 * * *\" or \"every 6h\"";
        Self::parse(text).map_err(|error| misread(node, text, error, help, reader)).ok()
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "examples": ["daily", "Mon..Fri 02:30", "30 2 * * *", "every 6h"] })
    }
}

impl Value for Window {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.text(node, "a weekly window like \"Mon..Fri 08:00-18:00\"")?;
        let help = "write \"Mon..Fri 08:00-18:00\", or \"22:00-06:00\" for every day";
        Self::parse(text).map_err(|error| misread(node, text, error, help, reader)).ok()
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "examples": ["Mon..Fri 08:00-18:00", "22:00-06:00"] })
    }
}

/// Notes what is wrong in an expression, at its place within the value.
fn misread(node: &Node<'_>, text: &str, error: ParseError, help: &str, reader: &mut Reader<'_>) {
    let span = node.span();
    // The offset counts in the value, the place in the file; they run in step when nothing is escaped.
    let plain = reader.source.text.get(span.clone()).is_some_and(|raw| raw.len() == text.len() + 2);
    let place = match plain {
        true => {
            let from = span.start + 1 + error.offset.min(text.len());
            from..(from + error.len).min(span.end)
        }
        false => span,
    };
    let help = error.help.unwrap_or_else(|| help.to_owned());
    reader.error(&place, format!("`{}`: {}", reader.key().to_owned(), error.message), Some(help));
}

impl Value for Zone {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.text(node, "the name of a time zone")?;
        match jiff::tz::TimeZone::get(text) {
            Ok(zone) => Some(Self(zone)),
            Err(_) => {
                let all: Vec<String> = jiff::tz::db().available().map(|zone| zone.to_string()).collect();
                let names: Vec<&str> = all.iter().map(String::as_str).collect();
                let help = match super::nearest(text, &names) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => {
                        "write a name like \"Europe/Rome\" or \"UTC\"; leave it out for the machine's".into()
                    }
                };
                reader.refuse(node, format!("the time zone {text:?} is not known"), help)
            }
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "examples": ["Europe/Rome", "UTC"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_alike() {
        for (text, seconds) in
            [("90s", 90), ("15m", 900), ("6h", 21_600), ("30d", 2_592_000), ("1h30m", 5_400), ("0s", 0)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
            assert_eq!(
                parse_duration(&duration_text(Duration::from_secs(seconds))),
                Ok(Duration::from_secs(seconds))
            );
        }
        assert_eq!(duration_text(Duration::from_secs(5_400)), "1h30m");
        assert_eq!(duration_text(Duration::from_secs(30 * 86_400)), "30d");
    }

    #[test]
    fn nonsense_durations_are_refused() {
        for bad in [
            "",
            "15",
            "m",
            "-1h",
            "1.5h",
            "1 h",
            "1e18s",
            "999999999999999999999d",
            "11y",
            "4000d",
            "1hh",
            "1µ",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad:?} was taken");
        }
    }
}
