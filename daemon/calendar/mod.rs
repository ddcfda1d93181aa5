//! Schedule expressions to instants: pure, no clock, no files.

use std::sync::Arc;

/// A schedule expression that was understood. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    text: Arc<str>,
}

/// Why an expression was not understood, with the place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// What is wrong, as a sentence.
    pub message: String,
    /// Byte offset into the expression.
    pub offset: usize,
    /// Length in bytes of what is wrong; at least 1 unless at the end.
    pub len: usize,
    /// What to write instead.
    pub help: Option<String>,
}

impl Schedule {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is wrong and where.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Ok(Self { text: text.into() })
    }

    /// The expression as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}
