//! A weekly window: `Mon..Fri 08:00-18:00`.

use super::super::ParseError;
use super::cursor::{Cursor, Token, tokens};
use super::numbers::number;
use super::{check_characters, fail, oncalendar};

const HELP: &str = "write weekdays and two times: `Mon..Fri 08:00-18:00`, or just the times for every day";
const MINUTES_OF_DAY: u32 = 24 * 60;

/// Weekdays as bits from Monday on, and the minutes of the day at which it begins and ends.
pub(in crate::calendar) fn parse(text: &str) -> Result<(u8, u16, u16), ParseError> {
    check_characters(text)?;
    let words = tokens(text);
    let Some(first) = words.first() else {
        return Err(fail(0, text.len(), "the window is empty").help(HELP));
    };
    let named = first.text.starts_with(|c: char| c.is_ascii_alphabetic());
    let days = if named { days(*first)? } else { 0b111_1111 };
    let rest = &words[usize::from(named)..];
    match rest {
        [] => Err(fail(text.len(), 0, "the times of the window are missing").help(HELP)),
        [times] => {
            let (from, to) = self::times(*times)?;
            Ok((days, from, to))
        }
        [_, more, ..] => Err(more.fail(format!("`{}` is one word too many", more.text)).help(HELP)),
    }
}

fn days(word: Token<'_>) -> Result<u8, ParseError> {
    let field = oncalendar::weekdays(word)?;
    Ok((0..7).filter(|day| field.contains(*day)).fold(0, |bits, day| bits | 1 << day))
}

fn times(word: Token<'_>) -> Result<(u16, u16), ParseError> {
    let mut cursor = Cursor::new(word);
    let from = time(&mut cursor, MINUTES_OF_DAY - 1)?;
    if !cursor.eat("-") {
        return Err(cursor.fail_here("`-` and the end of the window").help(HELP));
    }
    let to = time(&mut cursor, MINUTES_OF_DAY)?;
    cursor.end("the end of the window")?;
    Ok((from, to))
}

/// Minutes of the day, at most `last`.
fn time(cursor: &mut Cursor<'_>, last: u32) -> Result<u16, ParseError> {
    let at = cursor.at();
    let hour = number(cursor, "an hour").map_err(|error| error.help(HELP))?;
    if !cursor.eat(":") {
        return Err(cursor.fail_here("`:` and minutes").help(HELP));
    }
    let minutes_at = cursor.at();
    let minute = number(cursor, "minutes").map_err(|error| error.help(HELP))?;
    if minute > 59 {
        return Err(cursor.fail_from(minutes_at, format!("{minute} is no minute: they go from 0 to 59")));
    }
    let minutes = hour.saturating_mul(60).saturating_add(minute);
    u16::try_from(minutes).ok().filter(|_| minutes <= last).ok_or_else(|| {
        cursor.fail_from(at, "no such time of a day").help("a window begins before 24:00 and ends by then")
    })
}
