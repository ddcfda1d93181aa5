//! Cron: five fields, or six with seconds first; names, `L`, `#`, and the rule that day of month *or* weekday decide
//! where both are restricted. A field that begins with `*` restricts nothing, as in Vixie's cron; a `+` before the
//! weekday says that both must match, as in croner.

use super::super::ParseError;
use super::super::days::{Days, LAST};
use super::super::field::{Field, Part, Years};
use super::super::spec::Spec;
use super::cursor::{Cursor, Token};
use super::numbers::{Unit, number};
use super::oncalendar::around_the_week;
use super::words::{month, weekday};

const SECOND: Unit = Unit::cron("a second", 0, 59);
const MINUTE: Unit = Unit::cron("a minute", 0, 59);
const HOUR: Unit = Unit::cron("an hour", 0, 23);
const DAY: Unit = Unit::cron("a day of the month", 1, 31);
const MONTH: Unit = Unit { names: month, ..Unit::cron("a month", 1, 12) };
const WEEKDAY: Unit = Unit { names: sunday_zero, ..Unit::cron("a weekday", 0, 7) };
const FIELDS: &str = "minute, hour, day of month, month, weekday; six fields begin with the second";

/// Whether words are meant as cron: no calendar expression has so many.
pub(super) fn looks_like(words: &[Token<'_>]) -> bool {
    words.len() > 3 && !words.iter().any(|word| word.text.contains(':'))
}

/// Reads the fields of a cron expression.
pub(super) fn parse(words: &[Token<'_>]) -> Result<Spec, ParseError> {
    let (second, fields) = match words {
        [_, _, _, _, _] => (None, words),
        [second, fields @ ..] if fields.len() == 5 => (Some(*second), fields),
        _ => return Err(wrong_count(words)),
    };
    Ok(Spec {
        seconds: second.map_or_else(|| Ok(Field::only(0, 0, 59)), |word| SECOND.field(any(word)))?,
        minutes: MINUTE.field(any(fields[0]))?,
        hours: HOUR.field(any(fields[1]))?,
        months: MONTH.field(any(fields[3]))?,
        days: days(any(fields[2]), any(fields[4]))?,
        years: Years::default(),
    })
}

fn wrong_count(words: &[Token<'_>]) -> ParseError {
    let place = words[0].up_to(words[words.len() - 1]);
    let error = place.fail(format!("cron has 5 or 6 fields, here are {}", words.len()));
    match words.len() {
        7 => error.help("leave the year out, or write `2026-*-* 02:30`"),
        _ => error.help(FIELDS),
    }
}

/// `?` is what Quartz writes for "any".
fn any(word: Token<'_>) -> Token<'_> {
    if word.text == "?" { word.read_as("*") } else { word }
}

fn days(number_word: Token<'_>, weekday_word: Token<'_>) -> Result<Days, ParseError> {
    let both = weekday_word.text.starts_with('+');
    let weekday_word = weekday_word.skip(usize::from(both));
    let (numbers, from_end) = numbers(number_word)?;
    let (weekdays, nth) = weekdays(weekday_word)?;
    let either = !both && !number_word.text.starts_with('*') && !weekday_word.text.starts_with('*');
    let days = Days { numbers, from_end, weekdays, nth, either };
    Ok(if either && (days.any_number() || days.any_weekday()) { Days::every() } else { days })
}

fn numbers(word: Token<'_>) -> Result<(Option<Field>, Option<Field>), ParseError> {
    let mut parts = Vec::new();
    let mut last = false;
    for item in word.split(|c| c == ',') {
        if item.text.eq_ignore_ascii_case("l") {
            last = true;
        } else if item.text.ends_with(['w', 'W']) {
            return Err(item
                .fail("`W`, the nearest working day, is not supported")
                .help("name weekdays instead"));
        } else {
            parts.push(DAY.item(item)?);
        }
    }
    let numbers = (!parts.is_empty()).then(|| Field::new(parts, 1, 31));
    Ok((numbers, last.then(|| Field::only(1, 1, 31))))
}

/// Plain weekdays, and for each weekday in which weeks of a month it is meant.
type Weekdays = (Option<Field>, [u8; 7]);

fn weekdays(word: Token<'_>) -> Result<Weekdays, ParseError> {
    let mut plain = Vec::new();
    let mut nth = [0_u8; 7];
    for item in word.split(|c| c == ',') {
        if let Some((day, week)) = nth_weekday(item)? {
            nth[usize::from(day)] |= 1 << week;
        } else {
            plain.extend(plain_weekdays(item)?);
        }
    }
    let plain = (!plain.is_empty()).then(|| Field::new(plain, 0, 6));
    Ok((plain, nth))
}

/// `MON#2` is the second Monday, `FRI#L` and `5L` the last Friday.
fn nth_weekday(item: Token<'_>) -> Result<Option<(u16, u32)>, ParseError> {
    let text = item.text;
    if let Some(hash) = text.find('#') {
        let day = WEEKDAY.item(item.cut(0, hash))?;
        let week = item.skip(hash + 1);
        if day.start != day.end {
            return Err(item
                .fail("`#` counts one weekday")
                .help("write each with its number: `MON#1,TUE#1`"));
        }
        return Ok(Some((monday_zero(day.start), which_week(week)?)));
    }
    if text.eq_ignore_ascii_case("l") {
        return Err(item
            .fail("`L` alone is no weekday")
            .help("`SUN#L` or `0L` is the last Sunday of the month"));
    }
    let named = text
        .strip_suffix(['l', 'L'])
        .filter(|day| day.ends_with(|c: char| c.is_ascii_digit()) || day.len() == 3);
    let Some(day) = named.filter(|day| !day.contains('-')) else { return Ok(None) };
    let day = WEEKDAY.item(item.cut(0, day.len()))?;
    Ok(Some((monday_zero(day.start), LAST)))
}

fn which_week(word: Token<'_>) -> Result<u32, ParseError> {
    if word.text.eq_ignore_ascii_case("l") {
        return Ok(LAST);
    }
    let mut cursor = Cursor::new(word);
    let week = number(&mut cursor, "a number from 1 to 5 or `L`")?;
    cursor.end("the end of the field or a comma")?;
    if (1..=5).contains(&week) { Ok(week) } else { Err(word.fail("a month has its weekdays 1 to 5 times")) }
}

/// A value, range or step of weekdays. Ranges of names may go over the weekend, and 7 is Sunday again.
fn plain_weekdays(item: Token<'_>) -> Result<Vec<Part>, ParseError> {
    let over_the_weekend = item.text.split_once('-').and_then(|(first, last)| {
        let (first, last) = (sunday_zero(first)?, sunday_zero(last)?);
        (first > last).then(|| around_the_week(monday_zero(first), monday_zero(last)))
    });
    if let Some(days) = over_the_weekend {
        return Ok(days.map(Part::one).collect());
    }
    let mut part = WEEKDAY.item(item)?;
    if item.text.starts_with('*') {
        part.end = 6;
    }
    let days = (part.start..=part.end).step_by(usize::from(part.stride()));
    Ok(days.map(|day| Part::one(monday_zero(day))).collect())
}

fn sunday_zero(name: &str) -> Option<u16> {
    weekday(name).map(|day| (day + 1) % 7)
}

const fn monday_zero(sunday_zero: u16) -> u16 {
    (sunday_zero + 6) % 7
}
