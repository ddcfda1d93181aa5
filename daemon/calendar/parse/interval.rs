//! `every 6h`, `every 1h30m`.

use super::super::ParseError;
use super::cursor::{Cursor, Token};
use super::fail;

/// Ten years: longer intervals are a slip of the pen.
const LONGEST: i64 = 3660 * 86_400;
const HELP: &str = "write a number and s, m, h, d or w: `every 90s`, `every 6h`, `every 1d12h`";

/// Reads what follows `every`, in seconds.
pub(super) fn parse(text: &str, words: &[Token<'_>]) -> Result<i64, ParseError> {
    if words.len() < 2 {
        return Err(fail(text.len(), 0, "`every` needs an interval").help(HELP));
    }
    let mut seconds = 0;
    for word in &words[1..] {
        seconds += length(*word)?;
    }
    let place = words[1].up_to(words[words.len() - 1]);
    match seconds {
        0 => Err(place.fail("an interval must be longer than nothing").help(HELP)),
        1..=LONGEST => Ok(seconds),
        _ => Err(place.fail("the interval is longer than ten years").help(HELP)),
    }
}

fn length(word: Token<'_>) -> Result<i64, ParseError> {
    let mut cursor = Cursor::new(word);
    let mut sum = 0;
    while cursor.peek().is_some() {
        let start = cursor.at();
        let digits = cursor.digits();
        if digits.is_empty() {
            return Err(cursor.fail_here("a number").help(HELP));
        }
        let number: i64 =
            digits.parse().map_err(|_| cursor.fail_from(start, "the number is too large").help(HELP))?;
        let unit_at = cursor.at();
        let unit = cursor.letters();
        let factor = factor(unit).ok_or_else(|| match unit {
            "" => cursor.fail_from(start, "the number has no unit").help(HELP),
            _ => cursor.fail_from(unit_at, format!("`{unit}` is no unit of time")).help(HELP),
        })?;
        sum = number
            .checked_mul(factor)
            .map_or(i64::MAX, |product| product.saturating_add(sum))
            .min(LONGEST + 1);
    }
    Ok(sum)
}

fn factor(unit: &str) -> Option<i64> {
    Some(match unit {
        "s" | "sec" | "second" | "seconds" => 1,
        "m" | "min" | "minute" | "minutes" => 60,
        "h" | "hr" | "hour" | "hours" => 3600,
        "d" | "day" | "days" => 86_400,
        "w" | "week" | "weeks" => 7 * 86_400,
        _ => return None,
    })
}
