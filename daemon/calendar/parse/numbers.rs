//! Lists of numbers: `1,5..10,*/15`.

use super::super::ParseError;
use super::super::field::{Field, Part};
use super::cursor::{Cursor, Token};

/// What a list of numbers counts, and how its notation writes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit {
    /// For messages: "a minute".
    pub(super) name: &'static str,
    pub(super) min: u16,
    pub(super) max: u16,
    /// The sign of a range: `..` in calendar syntax, `-` in cron.
    pub(super) range: &'static str,
    /// Whether `5/15` means "from 5 on, every 15"; cron knows that only for ranges.
    pub(super) open_step: bool,
    /// Names beside the numbers.
    pub(super) names: fn(&str) -> Option<u16>,
}

/// No names.
pub(super) const fn nameless(_: &str) -> Option<u16> {
    None
}

impl Unit {
    /// A unit of calendar syntax.
    pub(super) const fn calendar(name: &'static str, min: u16, max: u16) -> Self {
        Self { name, min, max, range: "..", open_step: true, names: nameless }
    }

    /// A unit of cron.
    pub(super) const fn cron(name: &'static str, min: u16, max: u16) -> Self {
        Self { name, min, max, range: "-", open_step: false, names: nameless }
    }

    /// A whole word as a field.
    pub(super) fn field(&self, word: Token<'_>) -> Result<Field, ParseError> {
        Ok(Field::new(self.parts(word)?, self.min, self.max))
    }

    /// A whole word as parts.
    pub(super) fn parts(&self, word: Token<'_>) -> Result<Vec<Part>, ParseError> {
        word.split(|c| c == ',').into_iter().map(|item| self.item(item)).collect()
    }

    /// One item of a list: `*`, a value, a range, each perhaps with a step.
    pub(super) fn item(&self, word: Token<'_>) -> Result<Part, ParseError> {
        let mut cursor = Cursor::new(word);
        let star = cursor.eat("*");
        let mut part =
            if star { Part::range(self.min, self.max) } else { Part::one(self.value(&mut cursor)?) };
        let ranged = !star && cursor.eat(self.range);
        if ranged {
            part.end = self.value(&mut cursor)?;
            self.check_order(&cursor, word, part)?;
        }
        if cursor.eat("/") {
            part = self.with_step(&mut cursor, word, part, star || ranged)?;
        }
        cursor.end("the end of the field or a comma")?;
        Ok(part)
    }

    fn check_order(&self, cursor: &Cursor<'_>, word: Token<'_>, part: Part) -> Result<(), ParseError> {
        if part.start <= part.end {
            return Ok(());
        }
        let Self { min, max, range, .. } = self;
        let (start, end) = (part.start, part.end);
        Err(cursor
            .fail_from(word.at, "the range ends before it begins")
            .help(format!("write it in two: `{start}{range}{max},{min}{range}{end}`")))
    }

    fn with_step(
        &self,
        cursor: &mut Cursor<'_>,
        word: Token<'_>,
        part: Part,
        bounded: bool,
    ) -> Result<Part, ParseError> {
        let at = cursor.at();
        let step = number(cursor, "a step")?;
        if step == 0 {
            return Err(cursor
                .fail_from(at, "a step of 0 never gets anywhere")
                .help("write a step of at least 1"));
        }
        if !bounded && !self.open_step {
            return Err(cursor
                .fail_from(word.at, "a step needs a range in cron")
                .help(format!("write `{}-{}/{step}`", part.start, self.max)));
        }
        let end = if bounded { part.end } else { self.max };
        let whole = Part::range(part.start, end);
        if u32::from(part.start) + step > u32::from(self.max) {
            return Err(cursor
                .fail_from(at, format!("a step of {step} leads beyond the last value, {}", self.max))
                .help("leave the step out, or write a smaller one"));
        }
        Ok(Part { step: step as u16, ..whole })
    }

    fn value(&self, cursor: &mut Cursor<'_>) -> Result<u16, ParseError> {
        let at = cursor.at();
        if cursor.peek().is_some_and(|c| c.is_ascii_alphabetic()) {
            let word = cursor.letters();
            return (self.names)(word)
                .ok_or_else(|| cursor.fail_from(at, format!("`{word}` is not {}", self.name)));
        }
        let value = number(cursor, self.name)?;
        u16::try_from(value).ok().filter(|value| (self.min..=self.max).contains(value)).ok_or_else(|| {
            let message = format!("{value} is not {}: they go from {} to {}", self.name, self.min, self.max);
            cursor.fail_from(at, message)
        })
    }
}

/// Reads a number; one that is too large for anything becomes the largest.
pub(super) fn number(cursor: &mut Cursor<'_>, what: &str) -> Result<u32, ParseError> {
    match cursor.digits() {
        "" => Err(cursor.fail_here(what)),
        digits => Ok(digits.parse().unwrap_or(u32::MAX)),
    }
}
