//! The time zone in an expression: its last word, or `TZ=` before it as in crontabs.

use jiff::tz::TimeZone;

use super::super::ParseError;
use super::cursor::Token;
use super::words::{closest, month, weekday};

/// Takes the zone off the words of an expression; at least one word is left.
pub(super) fn split(mut words: Vec<Token<'_>>) -> Result<(Vec<Token<'_>>, Option<TimeZone>), ParseError> {
    let first = words[0];
    if let Some(prefix) = ["CRON_TZ=", "TZ="].into_iter().find(|prefix| first.text.starts_with(prefix)) {
        let zone = find(first.skip(prefix.len()))?;
        words.remove(0);
        if words.is_empty() {
            return Err(first
                .fail("a time zone alone is no schedule")
                .help("write for example `daily Europe/Rome`"));
        }
        return Ok((words, Some(zone)));
    }
    match words.last() {
        Some(last) if words.len() > 1 && names_zone(last.text) => {
            let zone = find(*last)?;
            words.pop();
            Ok((words, Some(zone)))
        }
        _ => Ok((words, None)),
    }
}

/// Whether a last word can only be meant as a zone: it begins with letters that are no weekday, month or `L`.
fn names_zone(word: &str) -> bool {
    let end = word.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(word.len());
    let letters = &word[..end];
    !letters.is_empty()
        && letters != "L"
        && letters != "l"
        && weekday(letters).is_none()
        && month(letters).is_none()
}

fn find(word: Token<'_>) -> Result<TimeZone, ParseError> {
    TimeZone::get(word.text).map_err(|_| {
        let error = word.fail(format!("`{}` is no time zone known here", word.text));
        let known = jiff::tz::db().available().map(|name| name.to_string()).collect::<Vec<_>>();
        match closest(word.text, known.iter().map(String::as_str)) {
            Some(name) => error.help(format!("did you mean `{name}`?")),
            None => error.help("write an IANA name such as `Europe/Rome` or `UTC`"),
        }
    })
}
