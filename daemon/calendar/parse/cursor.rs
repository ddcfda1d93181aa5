//! Words of an expression with their places, and reading within a word.

use super::super::ParseError;
use super::fail;

/// A word of the expression.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    whole: &'a str,
    /// The word.
    pub(super) text: &'a str,
    /// Where it begins in the expression, in bytes.
    pub(super) at: usize,
}

impl<'a> Token<'a> {
    /// From the start of this word to the end of another.
    pub(super) fn up_to(self, last: Token<'a>) -> Self {
        Self { text: &self.whole[self.at..last.at + last.text.len()], ..self }
    }

    /// The rest of the word behind its first `skip` bytes, which must be ASCII.
    pub(super) fn skip(self, skip: usize) -> Self {
        Self { text: &self.text[skip..], at: self.at + skip, ..self }
    }

    /// The same place with another text.
    pub(super) fn read_as(self, text: &'a str) -> Self {
        Self { text, ..self }
    }

    /// The bytes `from..to` of the word, which must be ASCII.
    pub(super) fn cut(self, from: usize, to: usize) -> Self {
        Self { text: &self.text[from..to], at: self.at + from, ..self }
    }

    /// The pieces between separators, as words.
    pub(super) fn split(self, separator: impl Fn(char) -> bool) -> Vec<Self> {
        let mut pieces = Vec::new();
        let mut start = 0;
        for (at, _) in self.text.char_indices().filter(|(_, c)| separator(*c)) {
            pieces.push(self.cut(start, at));
            start = at + 1;
        }
        pieces.push(self.skip(start));
        pieces
    }

    /// An error that marks the whole word.
    pub(super) fn fail(self, message: impl Into<String>) -> ParseError {
        fail(self.at, self.text.len(), message)
    }
}

/// The words of an expression that holds ASCII only.
pub(super) fn tokens(whole: &str) -> Vec<Token<'_>> {
    whole
        .split_ascii_whitespace()
        .map(|text| Token { whole, text, at: text.as_ptr() as usize - whole.as_ptr() as usize })
        .collect()
}

/// Reads a word from left to right.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    word: Token<'a>,
    done: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(word: Token<'a>) -> Self {
        Self { word, done: 0 }
    }

    /// What is left of the word.
    pub(super) fn rest(&self) -> &'a str {
        &self.word.text[self.done..]
    }

    /// Where the reader stands in the expression.
    pub(super) const fn at(&self) -> usize {
        self.word.at + self.done
    }

    /// The next character.
    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Reads `sign` if it comes next.
    pub(super) fn eat(&mut self, sign: &str) -> bool {
        let found = self.rest().starts_with(sign);
        if found {
            self.done += sign.len();
        }
        found
    }

    /// Reads letters.
    pub(super) fn letters(&mut self) -> &'a str {
        self.take(|c| c.is_ascii_alphabetic())
    }

    /// Reads digits.
    pub(super) fn digits(&mut self) -> &'a str {
        self.take(|c| c.is_ascii_digit())
    }

    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.done += end;
        &rest[..end]
    }

    /// An error from `start` to where the reader stands, at least one character long.
    pub(super) fn fail_from(&self, start: usize, message: impl Into<String>) -> ParseError {
        fail(start, (self.at() - start).max(1), message)
    }

    /// An error for what comes next.
    pub(super) fn fail_here(&self, expected: &str) -> ParseError {
        match self.peek() {
            Some(found) => fail(self.at(), 1, format!("found `{found}` where {expected} should be")),
            None => fail(self.at(), 0, format!("{expected} is missing")),
        }
    }

    /// Sees that the word is read completely.
    pub(super) fn end(&self, expected: &str) -> Result<(), ParseError> {
        if self.rest().is_empty() { Ok(()) } else { Err(self.fail_here(expected)) }
    }
}
