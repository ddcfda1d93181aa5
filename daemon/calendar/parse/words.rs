//! Words: keywords, cron's macros, weekdays, months.

use super::super::ParseError;
use super::super::days::Days;
use super::super::field::{Field, Part};
use super::super::spec::Spec;
use super::cursor::Token;

/// All keywords, as systemd knows them.
pub(super) const KEYWORDS: [&str; 9] =
    ["minutely", "hourly", "daily", "weekly", "monthly", "quarterly", "semiannually", "yearly", "annually"];

/// What a keyword means.
pub(super) fn keyword(word: &str) -> Option<Spec> {
    let daily = Spec::midnight();
    Some(match word.to_ascii_lowercase().as_str() {
        "minutely" => Spec { minutes: Field::all(0, 59), hours: Field::all(0, 23), ..daily },
        "hourly" => Spec { hours: Field::all(0, 23), ..daily },
        "daily" => daily,
        "weekly" => Spec { days: on_weekday(0), ..daily },
        "monthly" => months(Part::range(1, 12)),
        "quarterly" => months(Part { start: 1, end: 12, step: 3 }),
        "semiannually" | "semi-annually" | "biannually" | "bi-annually" => {
            months(Part { start: 1, end: 12, step: 6 })
        }
        "yearly" | "annually" => months(Part::one(1)),
        _ => return None,
    })
}

/// What one of cron's macros means. A week begins on Sunday there.
pub(super) fn cron_macro(words: &[Token<'_>]) -> Result<Spec, ParseError> {
    let word = words[0];
    if let Some(more) = words.get(1) {
        return Err(more.fail(format!("nothing may follow `{}` but a time zone", word.text)));
    }
    match word.text.to_ascii_lowercase().as_str() {
        "@weekly" => Ok(Spec { days: on_weekday(6), ..Spec::midnight() }),
        "@midnight" => Ok(Spec::midnight()),
        "@every" => Err(word.fail("`@every` needs no sign here").help("write for example `every 6h`")),
        "@reboot" => Err(word
            .fail("`@reboot` is no time")
            .help("a missed run is caught up at start: `catch_up = true`")),
        other => other.strip_prefix('@').and_then(keyword).ok_or_else(|| {
            word.fail(format!("`{}` is no macro of cron", word.text))
                .help("known are @hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually")
        }),
    }
}

fn months(part: Part) -> Spec {
    let days = Days { numbers: Some(Field::only(1, 1, 31)), ..Days::every() };
    Spec { months: Field::new(vec![part], 1, 12), days, ..Spec::midnight() }
}

fn on_weekday(weekday: u16) -> Days {
    Days { weekdays: Some(Field::only(weekday, 0, 6)), ..Days::every() }
}

const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// The weekday of a name or of its first three letters, Monday is 0.
pub(super) fn weekday(word: &str) -> Option<u16> {
    position(word, &WEEKDAYS)
}

/// The month of a name or of its first three letters, January is 1.
pub(super) fn month(word: &str) -> Option<u16> {
    position(word, &MONTHS).map(|index| index + 1)
}

fn position(word: &str, names: &[&str]) -> Option<u16> {
    let word = word.to_ascii_lowercase();
    let found =
        names.iter().position(|name| *name == word || (word.len() == 3 && name.starts_with(&word)))?;
    u16::try_from(found).ok()
}

/// The candidate that looks most like `word`, if one does.
pub(super) fn closest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    candidates
        .map(|candidate| (strsim::jaro_winkler(&word, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}
