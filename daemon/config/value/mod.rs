//! From one TOML value to one typed value, with every finding noted and none hiding the next.
//!
//! serde stops at the first error of a table and loses places in enums; so tables are read key by key.

mod dump;
mod path;
mod service;
mod storage;
mod text;
mod time;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use serde_json::{Map, json};
use toml::Spanned;
use toml::de::DeValue;

use super::diagnostic::{Diagnostic, Severity, Source};

pub(super) use dump::{ContainerName, Database, Percent, Port, SourceWord, SshAddress};
pub(super) use path::{AbsolutePath, Exclude, FilePath, Include, Steps};
pub(super) use service::{ManagerWord, Part, Stop, UnitName};
pub use storage::check_read_data;
pub(super) use storage::{MaxUnused, ReadData, Url};
pub(super) use text::{Argv, Before, Count, HostName, Priority, UserName};
pub(super) use time::{Delay, Limit, Zone, duration_text};

/// More findings than this in one file are counted, not listed.
const MAX_FINDINGS: usize = 50;

/// A value as it stands in a file.
pub(super) type Node<'t> = Spanned<DeValue<'t>>;

/// What can be read from a TOML value.
pub(super) trait Value: Sized {
    /// The value; `None` when it is wrong, which was noted.
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self>;
    /// Its JSON schema.
    fn schema() -> serde_json::Value;
}

/// A table with known keys; made by [`table!`](crate::config::value::table).
pub(super) trait Table: Default {
    /// The keys, in the order in which they are documented.
    const KEYS: &'static [&'static str];
    /// Takes one key; false when it is not known.
    fn set(&mut self, key: &str, node: &Node<'_>, reader: &mut Reader<'_>) -> bool;
    /// The keys that were given, with the places of their values.
    fn given(&self) -> Vec<(&'static str, Range<usize>)>;
    /// The JSON schema of each key.
    fn properties() -> Map<String, serde_json::Value>;
}

/// Defines a table of the file: a struct of optional values with places, how it is read, and its schema, in one list.
macro_rules! table {
    ($(#[doc = $about:literal])* $name:ident { $($(#[doc = $doc:literal])* $key:ident: $kind:ty,)* }) => {
        $(#[doc = $about])*
        #[derive(Debug, Default)]
        pub(in crate::config) struct $name {
            $($(#[doc = $doc])* pub(in crate::config) $key: Option<toml::Spanned<$kind>>,)*
        }

        impl $crate::config::value::Table for $name {
            const KEYS: &'static [&'static str] = &[$($crate::config::value::bare(stringify!($key))),*];

            fn set(
                &mut self,
                key: &str,
                node: &$crate::config::value::Node<'_>,
                reader: &mut $crate::config::value::Reader<'_>,
            ) -> bool {
                match key {
                    $(_ if key == $crate::config::value::bare(stringify!($key)) => self.$key = reader.value(node),)*
                    _ => return false,
                }
                true
            }

            fn given(&self) -> Vec<(&'static str, std::ops::Range<usize>)> {
                [$(($crate::config::value::bare(stringify!($key)), self.$key.as_ref().map(toml::Spanned::span))),*]
                    .into_iter()
                    .filter_map(|(key, span)| span.map(|span| (key, span)))
                    .collect()
            }

            fn properties() -> serde_json::Map<String, serde_json::Value> {
                let mut all = serde_json::Map::new();
                $(all.insert(
                    $crate::config::value::bare(stringify!($key)).into(),
                    $crate::config::value::described::<$kind>(concat!($($doc),*).trim()),
                );)*
                all
            }
        }

        impl $crate::config::value::Value for $name {
            fn read(
                node: &$crate::config::value::Node<'_>,
                reader: &mut $crate::config::value::Reader<'_>,
            ) -> Option<Self> {
                reader.table(node)
            }

            fn schema() -> serde_json::Value {
                $crate::config::value::table_schema::<Self>()
            }
        }
    };
}
pub(super) use table;

/// The key that a field stands for: `match` is a word of Rust as well, so its field is `r#match`.
pub(super) const fn bare(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', ..] => field.split_at(2).1,
        _ => field,
    }
}

/// A key's schema with its description.
pub(super) fn described<T: Value>(doc: &str) -> serde_json::Value {
    let mut schema = T::schema();
    if let Some(object) = schema.as_object_mut() {
        object.insert("description".into(), doc.into());
    }
    schema
}

/// The schema of a table with known keys.
pub(super) fn table_schema<T: Table>() -> serde_json::Value {
    json!({ "type": "object", "additionalProperties": false, "properties": T::properties() })
}

/// `false`, or a table: what can be switched off.
#[derive(Debug)]
pub(super) enum Switch<T> {
    Off,
    On(T),
}

impl<T: Value> Value for Switch<T> {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Boolean(false) => Some(Self::Off),
            DeValue::Table(_) => T::read(node, reader).map(Self::On),
            _ => reader.wrong_type(node, "a table, or `false` to switch it off", None),
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "anyOf": [{ "const": false }, T::schema()] })
    }
}

impl<T: Value> Value for Vec<Spanned<T>> {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let DeValue::Array(array) = node.get_ref() else {
            return reader.wrong_type(node, "an array", Some("write it in brackets: [\"…\"]".into()));
        };
        let values: Vec<_> = array.iter().map(|element| reader.value(element)).collect();
        values.into_iter().collect()
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "array", "items": T::schema() })
    }
}

impl Value for bool {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Boolean(value) => Some(*value),
            _ => reader.wrong_type(node, "`true` or `false`", None),
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "boolean" })
    }
}

/// Reads one file and notes what is wrong in it.
pub(super) struct Reader<'s> {
    pub(super) source: &'s Source,
    /// The key being read, for messages.
    key: String,
    /// Lines that already have a syntax error: what else seems wrong there is its consequence.
    broken: BTreeSet<usize>,
    findings: Vec<Diagnostic>,
    unlisted: usize,
}

impl<'s> Reader<'s> {
    pub(super) fn new(source: &'s Source) -> Self {
        Self { source, key: String::new(), broken: BTreeSet::new(), findings: Vec::new(), unlisted: 0 }
    }

    /// The findings, in file order.
    pub(super) fn finish(mut self) -> Vec<Diagnostic> {
        self.findings.sort_by_key(|d| (d.line, d.column));
        if self.unlisted > 0 {
            let rest = format!("{} more errors in this file are not listed", self.unlisted);
            self.findings.push(Diagnostic::of_file(&self.source.file, rest, None));
        }
        self.findings
    }

    /// How much was noted so far: whether a value was refused shows in the difference.
    pub(super) fn noted(&self) -> usize {
        self.findings.len() + self.unlisted
    }

    /// The directory that relative paths in this file are relative to.
    pub(super) fn directory(&self) -> &'s Path {
        self.source.file.parent().unwrap_or(Path::new("/"))
    }

    /// Notes a syntax error; later findings on its line are held back.
    pub(super) fn syntax(&mut self, span: &Range<usize>, message: &str, help: Option<String>) {
        self.note(span, Severity::Error, message.to_owned(), help);
        self.broken.insert(self.source.line_of(span.start));
    }

    /// Notes an error.
    pub(super) fn error(&mut self, span: &Range<usize>, message: impl Into<String>, help: Option<String>) {
        if !self.broken.contains(&self.source.line_of(span.start)) {
            self.note(span, Severity::Error, message.into(), help);
        }
    }

    /// Notes a warning.
    pub(super) fn warning(&mut self, span: &Range<usize>, message: impl Into<String>, help: Option<String>) {
        self.note(span, Severity::Warning, message.into(), help);
    }

    fn note(&mut self, span: &Range<usize>, severity: Severity, message: String, help: Option<String>) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(self.source.diagnostic(span, severity, message, help));
        } else {
            self.unlisted += 1;
        }
    }

    /// Notes an error about a value; for `return reader.refuse(…)`.
    pub(super) fn refuse<T>(
        &mut self,
        node: &Node<'_>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Option<T> {
        self.error(&node.span(), message, Some(help.into()));
        None
    }

    /// Notes that a value has the wrong type.
    pub(super) fn wrong_type<T>(&mut self, node: &Node<'_>, wanted: &str, help: Option<String>) -> Option<T> {
        let found = match node.get_ref() {
            DeValue::Integer(_) => "an integer",
            DeValue::Array(_) => "an array",
            DeValue::String(_) => "a string",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Table(_) => "a table",
        };
        let help = help.unwrap_or_else(|| format!("write {wanted}"));
        self.error(&node.span(), format!("`{}` takes {wanted}, not {found}", self.key), Some(help));
        None
    }

    /// The text of a string value.
    pub(super) fn text<'n>(&mut self, node: &'n Node<'_>, wanted: &str) -> Option<&'n str> {
        match node.get_ref() {
            DeValue::String(text) => Some(text),
            _ => self.wrong_type(node, wanted, None),
        }
    }

    /// The key being read.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Reads a value and keeps its place.
    pub(super) fn value<T: Value>(&mut self, node: &Node<'_>) -> Option<Spanned<T>> {
        T::read(node, self).map(|value| Spanned::new(node.span(), value))
    }

    /// Reads a table with known keys; what is wrong in it was noted, the rest is there.
    pub(super) fn table<T: Table>(&mut self, node: &Node<'_>) -> Option<T> {
        let DeValue::Table(entries) = node.get_ref() else { return self.wrong_type(node, "a table", None) };
        let mut table = T::default();
        for (key, value) in entries {
            let outer = std::mem::replace(&mut self.key, key.get_ref().to_string());
            if !table.set(key.get_ref(), value, self) {
                self.unknown(key.get_ref(), &key.span(), T::KEYS);
            }
            self.key = outer;
        }
        Some(table)
    }

    /// Notes a key that is not known.
    pub(super) fn unknown(&mut self, key: &str, span: &Range<usize>, known: &[&str]) {
        if key == "password" {
            let help = "write it to a file of mode 0600 and give `password_file = \"…\"`, or leave it out: then one is generated";
            return self.error(span, "a password may not stand in this file", Some(help.into()));
        }
        let help = match nearest(key, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known here: {}", known.join(", ")),
        };
        self.error(span, format!("unknown key `{}`", key.escape_debug()), Some(help));
    }
}

/// The known name that was probably meant.
pub(super) fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let name = &name[..name.char_indices().nth(MAX_COMPARED).map_or(name.len(), |(at, _)| at)];
    let limit = (name.chars().count() / 3).max(1);
    known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(name, known), *known))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, known)| known)
}

/// Names are compared up to this many characters.
const MAX_COMPARED: usize = 64;
