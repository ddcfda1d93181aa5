//! systemd's calendar syntax: `Mon..Fri *-*-01..07 02:30:00`.

use super::super::ParseError;
use super::super::days::Days;
use super::super::field::{Field, Part, Years};
use super::super::spec::Spec;
use super::cursor::{Cursor, Token};
use super::numbers::Unit;
use super::words::{KEYWORDS, closest, weekday};

const MONTH: Unit = Unit::calendar("a month", 1, 12);
const DAY: Unit = Unit::calendar("a day of the month", 1, 31);
const HOUR: Unit = Unit::calendar("an hour", 0, 23);
const MINUTE: Unit = Unit::calendar("a minute", 0, 59);
const SECOND: Unit = Unit::calendar("a second", 0, 59);
const SHAPE: &str =
    "write weekdays, date and time in this order, each may be left out: `Mon..Fri *-*-01..07 02:30`";

/// Reads the words of a calendar expression.
pub(super) fn parse(words: &[Token<'_>]) -> Result<Spec, ParseError> {
    let mut spec = Spec::midnight();
    let mut rest = words;
    if let Some((word, more)) = rest.split_first()
        && word.text.starts_with(|c: char| c.is_ascii_alphabetic())
    {
        spec.days.weekdays = Some(weekdays(*word)?);
        rest = more;
    }
    if let Some((word, more)) = rest.split_first()
        && !word.text.contains(':')
    {
        date(*word, &mut spec)?;
        rest = more;
    }
    if let Some((word, more)) = rest.split_first() {
        time(*word, &mut spec)?;
        rest = more;
    }
    rest.first()
        .map_or(Ok(spec), |word| Err(word.fail(format!("`{}` is one word too many", word.text)).help(SHAPE)))
}

pub(super) fn weekdays(word: Token<'_>) -> Result<Field, ParseError> {
    let mut days = Vec::new();
    let list = word.text.strip_suffix(',').map_or(word, |list| word.cut(0, list.len()));
    for item in list.split(|c| c == ',') {
        let mut cursor = Cursor::new(item);
        let first = day_name(&mut cursor, word)?;
        let last = if cursor.eat("..") || cursor.eat("-") { day_name(&mut cursor, word)? } else { first };
        cursor.end("a comma or `..`")?;
        days.extend(around_the_week(first, last).map(Part::one));
    }
    Ok(Field::new(days, 0, 6))
}

/// The days from one to another, over the weekend if need be.
pub(super) fn around_the_week(first: u16, last: u16) -> impl Iterator<Item = u16> {
    (0..=(last + 7 - first) % 7).map(move |distance| (first + distance) % 7)
}

fn day_name(cursor: &mut Cursor<'_>, word: Token<'_>) -> Result<u16, ParseError> {
    let at = cursor.at();
    let name = cursor.letters();
    if name.is_empty() {
        return Err(cursor.fail_here("a weekday"));
    }
    weekday(name).ok_or_else(|| {
        let known =
            KEYWORDS.into_iter().chain(["every", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday"]);
        let error = cursor.fail_from(at, format!("`{name}` is neither a keyword nor a weekday"));
        match closest(name, known.chain(["Saturday", "Sunday"])) {
            Some("every") if word.text.len() > name.len() => error.help("write a space behind `every`"),
            Some(found) => error.help(format!("did you mean `{found}`?")),
            None => error.help("write for example `daily`, `Mon..Fri 02:30`, `30 2 * * *` or `every 6h`"),
        }
    })
}

fn date(word: Token<'_>, spec: &mut Spec) -> Result<(), ParseError> {
    let pieces = word.split(|c| matches!(c, '-' | '~'));
    let tildes = word.text.matches('~').count();
    let from_end = tildes == 1 && word.text.rfind('~') > word.text.rfind('-');
    if tildes > 0 && !from_end {
        return Err(word
            .fail("`~` may stand only before the day")
            .help("write `*-*~01` for the last day of each month"));
    }
    let (year, month, day) = match pieces.as_slice() {
        [year, month, day] => (Some(*year), *month, *day),
        [month, day] => (None, *month, *day),
        [_] => return Err(word.fail(format!("`{}` is neither a date nor a time", word.text)).help(SHAPE)),
        _ => {
            return Err(word
                .fail("a date has year, month and day at most")
                .help("ranges are written with `..`"));
        }
    };
    if let Some(year) = year {
        spec.years = years(year)?;
    }
    spec.months = MONTH.field(month)?;
    if from_end {
        spec.days = Days { numbers: None, from_end: Some(days_from_end(day)?), ..spec.days.clone() };
    } else {
        spec.days.numbers = Some(DAY.field(day)?);
    }
    Ok(())
}

/// Days counted from the end: `~07/2` goes from the seventh last day towards the end.
fn days_from_end(word: Token<'_>) -> Result<Field, ParseError> {
    let mut positions = Vec::new();
    for item in word.split(|c| c == ',') {
        if item.text.starts_with('*') {
            return Err(item
                .fail("days counted from the end need a number")
                .help("`~01` is the last day of the month"));
        }
        let mut plain = DAY.item(item.cut(0, item.text.find('/').unwrap_or(item.text.len())))?;
        if let Some(slash) = item.text.find('/') {
            let open = plain.start == plain.end && !item.text.contains("..");
            plain.start = if open { 1 } else { plain.start };
            let mut cursor = Cursor::new(item.skip(slash + 1));
            plain.step = step_back(&mut cursor, plain)?;
        }
        positions.extend((plain.start..=plain.end).rev().step_by(usize::from(plain.stride())).map(Part::one));
    }
    Ok(Field::new(positions, 1, 31))
}

fn step_back(cursor: &mut Cursor<'_>, part: Part) -> Result<u16, ParseError> {
    let at = cursor.at();
    let step = super::numbers::number(cursor, "a step")?;
    if step == 0 {
        return Err(cursor
            .fail_from(at, "a step of 0 never gets anywhere")
            .help("write a step of at least 1"));
    }
    if step >= u32::from(part.end) && part.end > 1 {
        return Err(cursor.fail_from(at, format!("a step of {step} leads beyond the end of the month")));
    }
    cursor.end("the end of the field or a comma")?;
    Ok(u16::try_from(step).unwrap_or(31))
}

fn years(word: Token<'_>) -> Result<Years, ParseError> {
    const YEAR: Unit = Unit::calendar("a year", 0, Years::MAX);
    if word.text == "*" {
        return Ok(Years::default());
    }
    if let Some(at) = word.text.find('*') {
        return Err(word.skip(at).fail("`*` stands alone in the year").help("count from a year: `2026/2`"));
    }
    let parts = word.split(|c| c == ',').into_iter().map(|item| {
        let part = YEAR.item(item)?;
        let open = part.step > 0 && part.end == Years::MAX;
        let part = Part {
            start: four_digits(part.start),
            end: if open { part.end } else { four_digits(part.end) },
            step: part.step,
        };
        if part.start < Years::MIN || part.start > part.end {
            return Err(item.fail(format!("years go from {} to {}", Years::MIN, Years::MAX)));
        }
        Ok(part)
    });
    let mut parts = parts.collect::<Result<Vec<_>, _>>()?;
    parts.sort_unstable();
    parts.dedup();
    Ok(Years(parts))
}

/// Years of two digits mean 1970 to 2069, as with systemd.
const fn four_digits(year: u16) -> u16 {
    match year {
        0..=69 => year + 2000,
        70..=99 => year + 1900,
        _ => year,
    }
}

fn time(word: Token<'_>, spec: &mut Spec) -> Result<(), ParseError> {
    let pieces = word.split(|c| c == ':');
    let (hour, minute, second) = match pieces.as_slice() {
        [hour, minute] => (*hour, *minute, None),
        [hour, minute, second] => (*hour, *minute, Some(*second)),
        _ => {
            return Err(word.fail(format!("`{}` is no time", word.text)).help("write `HH:MM` or `HH:MM:SS`"));
        }
    };
    spec.hours = HOUR.field(hour)?;
    spec.minutes = MINUTE.field(minute)?;
    if let Some(second) = second {
        if second.text.replace("..", "").contains('.') {
            return Err(second.fail("slots fall on whole seconds").help("leave the fraction out"));
        }
        spec.seconds = SECOND.field(second)?;
    }
    Ok(())
}
