//! From text to rule. Each notation has its file; here is decided which one it is.

mod cron;
mod cursor;
mod interval;
mod numbers;
mod oncalendar;
pub(super) mod window;
mod words;
mod zone;

use jiff::tz::TimeZone;

use super::{ParseError, Rule};
use cursor::{Token, tokens};

/// Longer than any sensible expression.
const LONGEST: usize = 1000;

/// Reads an expression in any of the notations.
pub(super) fn parse(text: &str) -> Result<(Rule, Option<TimeZone>), ParseError> {
    check_characters(text)?;
    let words = tokens(text);
    let Some(first) = words.first() else {
        return Err(fail(0, text.len(), "the expression is empty")
            .help("write for example `daily` or `Mon..Fri 02:30`"));
    };
    if first.text.eq_ignore_ascii_case("every") {
        return Ok((Rule::Every(interval::parse(text, &words)?), None));
    }
    let (words, zone) = zone::split(words)?;
    let spec = if words[0].text.starts_with('@') {
        words::cron_macro(&words)?
    } else if let [word] = words.as_slice()
        && let Some(spec) = words::keyword(word.text)
    {
        spec
    } else if cron::looks_like(&words) {
        cron::parse(&words)?
    } else {
        oncalendar::parse(&words)?
    };
    if !spec.is_possible() {
        let place = whole(&words);
        return Err(fail(place.at, place.text.len(), "no date can ever match this")
            .help("see that the month has such a day (30 February does not exist) and that it falls on such a weekday"));
    }
    Ok((Rule::Calendar(Box::new(spec)), zone))
}

fn check_characters(text: &str) -> Result<(), ParseError> {
    if text.len() > LONGEST {
        return Err(fail(LONGEST, text.len() - LONGEST, "the expression is too long")
            .help(format!("at most {LONGEST} characters are read")));
    }
    let wrong = text.char_indices().find(|(_, c)| !(c.is_ascii_graphic() || matches!(c, ' ' | '\t')));
    wrong.map_or(Ok(()), |(at, c)| {
        Err(fail(at, c.len_utf8(), format!("the character {c:?} has no meaning here"))
            .help("expressions are written in ASCII: letters, the digits 0 to 9, and signs"))
    })
}

/// The part of the expression that a list of tokens covers; its text may lack what lies between.
fn whole<'a>(words: &[Token<'a>]) -> Token<'a> {
    words[0].up_to(words[words.len() - 1])
}

/// An error at a place, without help.
fn fail(offset: usize, len: usize, message: impl Into<String>) -> ParseError {
    ParseError { message: message.into(), offset, len, help: None }
}

impl ParseError {
    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}
