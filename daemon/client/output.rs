//! The only place that writes for eyes and scripts: results on standard output, the rest on standard error.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IsTerminal, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table};
use serde_json::Value;

use super::failure::Failure;

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum When {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How a text is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// Nothing special.
    Plain,
    /// As it should be.
    Good,
    /// Needs a look.
    Note,
    /// Went wrong.
    Bad,
    /// Aside.
    Dim,
    /// A heading.
    Strong,
}

impl Tone {
    /// The tone of an outcome.
    pub(super) fn of_outcome(outcome: &str) -> Self {
        match outcome {
            "succeeded" => Self::Good,
            "warning" | "cancelled" => Self::Note,
            "failed" | "interrupted" => Self::Bad,
            "skipped" | "" => Self::Dim,
            _ => Self::Plain,
        }
    }

    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "\u{1b}[32m",
            Self::Note => "\u{1b}[33m",
            Self::Bad => "\u{1b}[31m",
            Self::Dim => "\u{1b}[2m",
            Self::Strong => "\u{1b}[1m",
        }
    }
}

/// A text with its tone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text(pub(super) String, pub(super) Tone);

impl<T: Into<String>> From<T> for Text {
    fn from(text: T) -> Self {
        Self(text.into(), Tone::Plain)
    }
}

impl Text {
    /// An outcome in its colour; `-` where there is none.
    pub(super) fn outcome(word: &str) -> Self {
        Self(if word.is_empty() { "-" } else { word }.to_owned(), Tone::of_outcome(word))
    }
}

/// A table before it is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grid {
    header: Vec<&'static str>,
    rows: Vec<Vec<Text>>,
}

impl Grid {
    pub(super) fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    pub(super) fn row<const N: usize>(&mut self, row: [Text; N]) {
        self.rows.push(row.into());
    }

    /// A row whose length is that of the header only at run time.
    pub(super) fn cells(&mut self, row: Vec<Text>) {
        self.rows.push(row);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Drawn; `width`: cells are wrapped to fit so many columns.
    pub(super) fn draw(&self, color: bool, width: Option<u16>) -> String {
        let mut table = Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled).force_no_tty();
        if let Some(width) = width {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        if color {
            table.enforce_styling();
        }
        table.set_header(self.header.iter().map(|h| Cell::new(h).add_attribute(Attribute::Bold)));
        table.add_rows(self.rows.iter().map(|row| row.iter().map(cell).collect::<Vec<_>>()));
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }
}

fn cell(text: &Text) -> Cell {
    let cell = Cell::new(&text.0);
    match text.1 {
        Tone::Plain => cell,
        Tone::Good => cell.fg(Color::Green),
        Tone::Note => cell.fg(Color::Yellow),
        Tone::Bad => cell.fg(Color::Red),
        Tone::Dim => cell.add_attribute(Attribute::Dim),
        Tone::Strong => cell.add_attribute(Attribute::Bold),
    }
}

/// Standard output and standard error of this run.
#[derive(Debug)]
pub(super) struct Out {
    /// Whether results are JSON.
    pub(super) json: bool,
    color: bool,
    error_color: bool,
    width: Option<u16>,
    error: RefCell<Option<io::Error>>,
}

impl Out {
    pub(super) fn new(json: bool, when: When) -> Self {
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let wanted = |terminal| match when {
            When::Always => true,
            When::Never => false,
            When::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        };
        let width = if out { Table::new().width() } else { None };
        Self { json, color: wanted(out), error_color: wanted(err), width, error: RefCell::new(None) }
    }

    /// Whether results are coloured.
    pub(super) const fn color(&self) -> bool {
        self.color
    }

    /// A line of the result.
    pub(super) fn line(&self, text: impl AsRef<str>) {
        self.write(&format!("{}\n", text.as_ref()));
    }

    /// The result as JSON.
    pub(super) fn value(&self, value: &Value) {
        self.line(format!("{value:#}"));
    }

    /// A table of the result; nothing at all, not even a header, where there are no rows.
    pub(super) fn grid(&self, grid: &Grid) {
        if !grid.rows.is_empty() {
            self.write(&grid.draw(self.color, self.width));
        }
    }

    /// A text in its tone, for standard output.
    pub(super) fn paint(&self, tone: Tone, text: &str) -> String {
        painted(self.color, tone, text)
    }

    /// Something said besides the result.
    pub(super) fn note(&self, text: impl AsRef<str>) {
        let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
    }

    /// A question, to be answered behind it.
    pub(super) fn ask(&self, text: &str) {
        let mut stderr = io::stderr().lock();
        let _ = write!(stderr, "{text} ").and_then(|()| stderr.flush());
    }

    /// `error: …` and `hint: …`.
    pub(super) fn failure(&self, failure: &Failure) {
        let label = |tone, word| painted(self.error_color, tone, word);
        let mut text = format!("{} {}", label(Tone::Bad, "error:"), indented(&failure.message));
        if let Some(hint) = &failure.hint {
            text.push_str(&format!("\n{}  {}", label(Tone::Good, "hint:"), indented(hint)));
        }
        self.note(text);
    }

    /// Raw text of the result. A reader that has gone away is no error; the first other one is kept for [`Out::finish`].
    pub(super) fn write(&self, text: &str) {
        let mut error = self.error.borrow_mut();
        if error.is_none() {
            let mut stdout = io::stdout().lock();
            *error = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).err();
        }
    }

    /// Whether everything could be written.
    pub(super) fn finish(&self) -> Result<(), Failure> {
        match self.error.borrow_mut().take() {
            Some(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Failure::failed(format!("writing to standard output: {error}")))
            }
            _ => Ok(()),
        }
    }
}

fn painted(color: bool, tone: Tone, text: &str) -> String {
    if color && tone != Tone::Plain { format!("{}{text}\u{1b}[0m", tone.code()) } else { text.to_owned() }
}

fn indented(text: &str) -> String {
    text.trim_end().replace('\n', "\n       ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Grid {
        let mut grid = Grid::new(&["NAME", "OUTCOME"]);
        grid.row(["nightly".into(), Text::outcome("failed")]);
        grid.row(["x".into(), Text::outcome("")]);
        grid
    }

    #[test]
    fn tables_are_plain_text_without_trailing_blanks() {
        assert_eq!(sample().draw(false, None), "NAME     OUTCOME\nnightly  failed\nx        -\n");
    }

    #[test]
    fn colour_is_there_only_when_asked_for() {
        assert!(sample().draw(true, None).contains('\u{1b}'));
        assert_eq!(painted(false, Tone::Bad, "x"), "x");
        assert_eq!(painted(true, Tone::Bad, "x"), "\u{1b}[31mx\u{1b}[0m");
    }

    #[test]
    fn long_errors_stay_under_their_label() {
        assert_eq!(indented("a\nb\n"), "a\n       b");
    }
}
