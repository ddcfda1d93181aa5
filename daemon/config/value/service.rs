//! Names of services and who manages them.

use serde_json::json;
use toml::de::DeValue;

use super::text::plain;
use super::{Argv, Node, Reader, Value, nearest};
use crate::definition::{Manager, StopUntil};

/// Who manages a service, by its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct ManagerWord(pub(in crate::config) &'static str);

impl Value for ManagerWord {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.text(node, "the manager of a service")?;
        match Manager::WORDS.iter().find(|word| **word == text) {
            Some(word) => Some(Self(word)),
            None => {
                let help = one_of(text, &Manager::WORDS);
                reader.refuse(node, format!("{text:?} does not manage services"), help)
            }
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "enum": Manager::WORDS })
    }
}

fn one_of(text: &str, words: &[&str]) -> String {
    match nearest(text, words) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("write one of {}", words.join(", ")),
    }
}

impl Value for StopUntil {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let words = Self::WORDS.map(|(word, _)| word);
        let text = reader.text(node, "one of never, restore, dump and snapshot")?;
        let found = Self::WORDS.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let message = format!("`{}` does not know {text:?}", reader.key());
            return reader.refuse(node, message, one_of(text, &words));
        }
        found
    }

    fn schema() -> serde_json::Value {
        json!({ "enum": Self::WORDS.map(|(word, _)| word) })
    }
}

/// The key `stop`: until when, or, for the manager `command`, the program.
#[derive(Debug, Clone)]
pub(in crate::config) enum Stop {
    Until(StopUntil),
    Program(Argv),
}

impl Value for Stop {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Array(_) => Argv::read(node, reader).map(Self::Program),
            _ => StopUntil::read(node, reader).map(Self::Until),
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "anyOf": [StopUntil::schema(), Argv::schema()] })
    }
}

/// A systemd unit that can be started and stopped, with its suffix.
#[derive(Debug, Clone)]
pub(in crate::config) struct UnitName(pub(in crate::config) String);

/// Kinds of units that run. Source: systemd.unit(5).
const SUFFIXES: [&str; 6] = ["service", "socket", "timer", "path", "target", "mount"];

impl Value for UnitName {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = plain(node, reader, "the name of a unit")?;
        let fits = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        if !text.chars().all(fits) || text.starts_with(['-', '.']) || text.len() > 255 {
            let help = "write the name as systemctl shows it: \"nginx.service\"";
            return reader.refuse(node, format!("{text:?} is not the name of a unit"), help);
        }
        if text.ends_with('@') || text.contains("@.") {
            let help = "name an instance of it: \"NAME@INSTANCE.service\"";
            return reader.refuse(node, format!("{text:?} is a template, which does not run"), help);
        }
        match text.rsplit_once('.') {
            Some((_, suffix)) if SUFFIXES.contains(&suffix) => Some(Self(text.to_owned())),
            _ => Some(Self(format!("{text}.service"))),
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "pattern": "^[A-Za-z0-9:_\\\\@][A-Za-z0-9:_.\\\\@-]*$" })
    }
}

/// A container, a compose project or service, a process of monit: never taken for an option.
#[derive(Debug, Clone)]
pub(in crate::config) struct Part(pub(in crate::config) String);

impl Value for Part {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = plain(node, reader, "a name")?;
        let fits = |c: char| c.is_ascii_alphanumeric() || "_.-@:".contains(c);
        let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        if !begins || !text.chars().all(fits) {
            let help = "a name has letters, digits, '_', '.', '-' and begins with a letter, a digit or '_'";
            return reader.refuse(node, format!("`{}`: {text:?} is not a name", reader.key()), help);
        }
        Some(Self(text.to_owned()))
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.@:-]*$" })
    }
}
