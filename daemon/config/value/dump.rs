//! Values of a data source.

use serde_json::json;
use toml::de::DeValue;

use super::text::plain;
use super::{Node, Reader, Value, nearest};
use crate::definition::Address;

/// What is dumped, by its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum SourceWord {
    Postgresql,
    Mariadb,
    Mysql,
    Redis,
    Openldap,
    Etcd,
    Rabbitmq,
    Opensearch,
    Elasticsearch,
    Mongodb,
    Sqlite,
    Command,
}

const WORDS: [(&str, SourceWord); 12] = [
    ("postgresql", SourceWord::Postgresql),
    ("mariadb", SourceWord::Mariadb),
    ("mysql", SourceWord::Mysql),
    ("redis", SourceWord::Redis),
    ("openldap", SourceWord::Openldap),
    ("etcd", SourceWord::Etcd),
    ("rabbitmq", SourceWord::Rabbitmq),
    ("opensearch", SourceWord::Opensearch),
    ("elasticsearch", SourceWord::Elasticsearch),
    ("mongodb", SourceWord::Mongodb),
    ("sqlite", SourceWord::Sqlite),
    ("command", SourceWord::Command),
];

impl SourceWord {
    pub(in crate::config) fn word(self) -> &'static str {
        WORDS.iter().find(|(_, source)| *source == self).map_or("", |(word, _)| word)
    }
}

impl Value for SourceWord {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let words = WORDS.map(|(word, _)| word);
        let text = reader.text(node, "the word of a data source")?;
        if let Some((_, source)) = WORDS.iter().find(|(word, _)| *word == text) {
            return Some(*source);
        }
        let help = match nearest(text, &words) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("write one of {}", words.join(", ")),
        };
        reader.refuse(node, format!("`source` does not know {text:?}"), help)
    }

    fn schema() -> serde_json::Value {
        json!({ "enum": WORDS.map(|(word, _)| word) })
    }
}

/// The name of a database or of a server's user: whatever the server allows, and that is much.
#[derive(Debug, Clone)]
pub(in crate::config) struct Database(pub(in crate::config) String);

impl Value for Database {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.text(node, "a name")?;
        if text.is_empty() || text.contains('\0') {
            let message = format!("`{}` holds a name that is empty or has a NUL byte", reader.key());
            return reader.refuse(node, message, "write the name as the server knows it");
        }
        Some(Self(text.to_owned()))
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// A port of TCP.
#[derive(Debug, Clone, Copy)]
pub(in crate::config) struct Port(pub(in crate::config) u16);

impl Value for Port {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let DeValue::Integer(number) = node.get_ref() else {
            return reader.wrong_type(node, "a whole number from 1 to 65535", None);
        };
        match u16::from_str_radix(number.as_str(), number.radix()) {
            Ok(port) if port > 0 => Some(Self(port)),
            _ => reader.refuse(node, "`port` is out of range", "write 1 to 65535"),
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "integer", "minimum": 1, "maximum": 65_535 })
    }
}

/// A part of something: `"0%"` to `"100%"`.
#[derive(Debug, Clone, Copy)]
pub(in crate::config) struct Percent(pub(in crate::config) u8);

impl Value for Percent {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = plain(node, reader, "a percentage, as in \"50%\"")?;
        let number = text.strip_suffix('%').and_then(|number| number.parse::<u8>().ok());
        match number.filter(|number| *number <= 100) {
            Some(number) => Some(Self(number)),
            None => {
                let message = format!("`{}`: {text:?} is not a percentage", reader.key());
                reader.refuse(node, message, "write \"0%\" to \"100%\"")
            }
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "pattern": "^(100|[0-9]{1,2})%$" })
    }
}

/// A container, with or without who runs it.
#[derive(Debug, Clone)]
pub(in crate::config) struct ContainerName(pub(in crate::config) String);

impl Value for ContainerName {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = plain(node, reader, "the name of a container")?;
        let name = text.strip_prefix("docker:").or_else(|| text.strip_prefix("podman:")).unwrap_or(text);
        let good = match name.strip_prefix("label:").map(|label| label.split_once('=')) {
            Some(label) => label.is_some_and(|(key, value)| word(key) && !value.is_empty()),
            None => word(name),
        };
        if !good {
            let message = format!("{text:?} is not the name of a container");
            let help = "write NAME, docker:NAME or podman:NAME, or label:KEY=VALUE in place of NAME";
            return reader.refuse(node, message, help);
        }
        Some(Self(text.to_owned()))
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "pattern": "^((docker|podman):)?(label:[A-Za-z0-9][A-Za-z0-9._-]*=.+|[A-Za-z0-9][A-Za-z0-9._-]*)$" })
    }
}

/// The name of a container, or a label's key.
fn word(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// A machine that is reached over ssh.
#[derive(Debug, Clone)]
pub(in crate::config) struct SshAddress(pub(in crate::config) Address);

impl Value for SshAddress {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = plain(node, reader, "a machine as ssh names it")?;
        match Address::parse(text) {
            Ok(address) => Some(Self(address)),
            Err(rule) => reader.refuse(node, rule, "write \"user@host\" or \"user@host:2222\""),
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "pattern": "^([A-Za-z0-9_][A-Za-z0-9._-]*@)?([A-Za-z0-9_][A-Za-z0-9._-]*|\\[[0-9A-Fa-f:.%A-Za-z_-]+\\])(:[0-9]{1,5})?$" })
    }
}
