//! What is wrong in a file, where, and what to write instead; rendered with the line underlined.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde::Serialize;

/// Lines longer than this many bytes are not quoted.
const MAX_QUOTED: usize = 300;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; the definition is used.
    Warning,
    /// The definition, or the whole file, is not used.
    Error,
}

/// One finding in one file. As JSON: `file line column severity message help rendered`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 when the file as a whole is meant.
    pub line: usize,
    /// The column in characters, from 1; 0 when the file as a whole is meant.
    pub column: usize,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, as a sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// All of it with the line underlined, without colours. [`Diagnostic::coloured`] has them.
    pub rendered: String,
    #[serde(skip)]
    excerpt: Option<Excerpt>,
}

/// The line that a finding is in, secrets masked, and the part of it that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    line: String,
    span: Range<usize>,
}

impl Diagnostic {
    /// A finding about a file as a whole.
    pub(super) fn of_file(file: &Path, message: impl Into<String>, help: Option<String>) -> Self {
        Self::new((file.to_owned(), 0, 0), Severity::Error, message.into(), help, None)
    }

    fn new(
        (file, line, column): (PathBuf, usize, usize),
        severity: Severity,
        message: String,
        help: Option<String>,
        excerpt: Option<Excerpt>,
    ) -> Self {
        let mut new = Self { file, line, column, severity, message, help, rendered: String::new(), excerpt };
        new.rendered = new.render(&Renderer::plain());
        new
    }

    /// Whether the definition or file is refused.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The rendered text with colours for a terminal.
    pub fn coloured(&self) -> String {
        self.render(&Renderer::styled())
    }

    fn render(&self, renderer: &Renderer) -> String {
        let level = match self.severity {
            Severity::Warning => Level::WARNING,
            Severity::Error => Level::ERROR,
        };
        let path = self.file.to_string_lossy();
        let title = level.primary_title(self.message.as_str());
        let group: Group<'_> = match &self.excerpt {
            Some(excerpt) => title.element(
                Snippet::source(excerpt.line.as_str())
                    .line_start(self.line)
                    .path(path)
                    .annotation(AnnotationKind::Primary.span(excerpt.span.clone())),
            ),
            None if self.line > 0 => {
                title.element(Origin::path(path).line(self.line).char_column(self.column))
            }
            None => title.element(Origin::path(path)),
        };
        let group = match &self.help {
            Some(help) => group.element(Level::HELP.message(help.as_str())),
            None => group,
        };
        renderer.render(&[group])
    }
}

impl fmt::Display for Diagnostic {
    /// One line: `FILE:LINE:COLUMN: error: MESSAGE (HELP)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        let severity = if self.is_error() { "error" } else { "warning" };
        write!(f, " {severity}: {}", self.message)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, " ({help})"))
    }
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// A file's text and where its lines begin.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) file: PathBuf,
    pub(super) text: String,
    /// Whether users other than the owner and its group can read the file.
    pub(super) public: bool,
    starts: Vec<usize>,
}

impl Source {
    /// `text` without a byte order mark.
    pub(super) fn new(file: PathBuf, text: String, public: bool) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file, text, public, starts }
    }

    /// The line, from 0, that a byte offset lies in.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    fn line_text(&self, line: usize) -> (usize, &str) {
        let start = self.starts.get(line).copied().unwrap_or(0);
        let end = self.starts.get(line + 1).copied().unwrap_or(self.text.len());
        (start, self.text[start..end].trim_end_matches(['\n', '\r']))
    }

    /// The place of a byte offset.
    pub(super) fn place(&self, offset: usize) -> Place {
        let line = self.line_of(offset);
        let (start, _) = self.line_text(line);
        let column = self.text[start..self.boundary(offset)].chars().count() + 1;
        Place { file: self.file.clone(), line: line + 1, column }
    }

    fn boundary(&self, offset: usize) -> usize {
        let offset = offset.min(self.text.len());
        (0..=offset).rev().find(|at| self.text.is_char_boundary(*at)).unwrap_or(0)
    }

    /// A finding at a span of bytes.
    pub(super) fn diagnostic(
        &self,
        span: &Range<usize>,
        severity: Severity,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Diagnostic {
        let place = self.place(span.start);
        let (start, text) = self.line_text(place.line - 1);
        let from = self.boundary(span.start).saturating_sub(start).min(text.len());
        let to = self.boundary(span.end).saturating_sub(start).clamp(from, text.len());
        let excerpt = (text.len() <= MAX_QUOTED).then(|| Excerpt { line: masked(text), span: from..to });
        Diagnostic::new((place.file, place.line, place.column), severity, message.into(), help, excerpt)
    }

    /// An error at a span of bytes.
    pub(super) fn error(
        &self,
        span: &Range<usize>,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Diagnostic {
        self.diagnostic(span, Severity::Error, message, help)
    }

    /// The earlier place of what is written again at `span`: a table's header or a key.
    pub(super) fn first_of(&self, span: &Range<usize>) -> Option<Place> {
        let again = self.line_of(span.start);
        let (_, line) = self.line_text(again);
        let key = self.text.get(span.clone())?;
        let same = |text: &str| match line.trim_start().starts_with('[') {
            true => text.trim() == line.trim(),
            false => {
                text.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
            }
        };
        let found = (0..again).rev().find(|at| same(self.line_text(*at).1))?;
        let (start, text) = self.line_text(found);
        Some(self.place(start + text.find(key)?))
    }
}

/// The line with what looks like a secret replaced by `*`, byte for byte, so that columns stay true: diagnostics go to
/// the journal and over the bus.
fn masked(line: &str) -> String {
    let stars =
        |text: &str| text.chars().flat_map(|c| std::iter::repeat_n('*', c.len_utf8())).collect::<String>();
    for word in ["password", "secret", "token", "passphrase"] {
        let Some(at) = line.find(word) else { continue };
        let after = line[at + word.len()..].trim_start_matches(['"', '\'']).trim_start();
        if let Some(value) = after.strip_prefix('=') {
            let keep = line.len() - value.len();
            return format!("{}{}", &line[..keep], stars(value));
        }
    }
    let Some(scheme) = line.find("://") else { return line.to_owned() };
    let rest = &line[scheme + 3..];
    match (rest.rfind('@'), rest.find(':')) {
        (Some(at), Some(colon)) if colon < at => {
            let keep = scheme + 3 + colon + 1;
            format!("{}{}{}", &line[..keep], stars(&rest[colon + 1..at]), &rest[at..])
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_a_quoted_line_are_masked_and_columns_kept() {
        for (line, shown) in [
            ("password = \"hunter2\"", "password =**********"),
            ("url = \"rest:https://u:pä@h/\" # x", "url = \"rest:https://u:***@h/\" # x"),
            ("password_file = \"a\"", "password_file = \"a\""),
            ("url = \"sftp://u@h:22/x\"", "url = \"sftp://u@h:22/x\""),
        ] {
            assert_eq!(masked(line), shown);
            assert_eq!(masked(line).len(), line.len());
        }
    }

    #[test]
    fn places_count_characters_and_end_of_file_has_one() {
        let source = Source::new("f".into(), "ä = 1\r\nb\u{1F600} = 2".into(), false);
        let place = |offset| (source.place(offset).line, source.place(offset).column);
        assert_eq!(place(0), (1, 1));
        assert_eq!(place(3), (1, 3));
        assert_eq!(place(source.text.find('2').unwrap()), (2, 6));
        assert_eq!(place(usize::MAX).0, 2);
        let rendered = source.error(&(0..2), "no", Some("yes".into())).rendered;
        assert!(
            rendered.contains("--> f:1:1") && rendered.contains("ä = 1") && rendered.contains("help: yes"),
            "{rendered}"
        );
    }
}
