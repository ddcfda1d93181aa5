//! Names, programs, numbers.

use serde_json::json;
use toml::de::DeValue;

use super::{Node, Reader, Value};
use crate::definition::{Layout, Name, Owners, Selector, Version, VersionMatch};

/// Notes control characters and emptiness, which are right nowhere.
pub(super) fn plain<'n>(node: &'n Node<'_>, reader: &mut Reader<'_>, wanted: &str) -> Option<&'n str> {
    let text = reader.text(node, wanted)?;
    if text.trim().is_empty() {
        return reader.refuse(
            node,
            format!("`{}` is empty", reader.key()),
            format!("write {wanted}, or leave the key out"),
        );
    }
    if text.contains(char::is_control) {
        return reader.refuse(node, format!("`{}` holds a control character", reader.key()), "remove it");
    }
    Some(text)
}

impl Value for Name {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.text(node, "a name")?;
        match Self::parse(text) {
            Ok(name) => Some(name),
            Err(rule) => reader.refuse(node, rule, "rename it"),
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$" })
    }
}

impl Value for Selector {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.text(node, "the name of an instance, \"*\", \"module:NAME\" or \"compose:*\"")?;
        if text == "*" {
            return Some(Self::All);
        }
        if text == "compose:*" {
            return Some(Self::Compose(None));
        }
        if let Some(project) = text.strip_prefix("compose:") {
            return match Name::parse(project) {
                Ok(name) => Some(Self::Compose(Some(name))),
                Err(rule) => reader.refuse(node, rule, "write \"compose:*\", or \"compose:PROJECT\""),
            };
        }
        let (module, name) = text.strip_prefix("module:").map_or((false, text), |name| (true, name));
        match Name::parse(name) {
            Ok(name) if module => Some(Self::Module(name)),
            Ok(name) => Some(Self::Instance(name)),
            Err(rule) => reader.refuse(node, rule, "write the name of an instance, \"*\" or \"module:NAME\""),
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "examples": ["dokuwiki1", "*", "module:dokuwiki", "compose:*"] })
    }
}

/// A program and its arguments.
#[derive(Debug, Clone)]
pub(in crate::config) struct Argv(pub(in crate::config) Vec<String>);

impl Value for Argv {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let array = match node.get_ref() {
            DeValue::Array(array) => array,
            DeValue::String(_) => {
                let help = "no shell reads it: write [\"program\", \"argument\"], or [\"sh\", \"-c\", \"…\"] if you mean a shell";
                return reader.wrong_type(node, "an array of a program and its arguments", Some(help.into()));
            }
            _ => return reader.wrong_type(node, "an array of a program and its arguments", None),
        };
        let words: Option<Vec<String>> = array.iter().map(|word| argument(word, reader)).collect();
        let words = words?;
        if words.first().is_none_or(|program| program.trim().is_empty()) {
            return reader.refuse(
                node,
                format!("`{}` names no program", reader.key()),
                "write [\"program\", \"argument\"]",
            );
        }
        Some(Self(words))
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "array", "minItems": 1, "items": { "type": "string" } })
    }
}

fn argument(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<String> {
    let text = reader.text(node, "strings")?;
    if text.contains('\0') {
        return reader.refuse(node, "an argument may not hold a NUL byte", "remove it");
    }
    Some(text.to_owned())
}

/// A whole number, at least 1.
#[derive(Debug, Clone, Copy)]
pub(in crate::config) struct Count(pub(in crate::config) u32);

impl Value for Count {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match u32::read(node, reader)? {
            0 => reader.refuse(
                node,
                format!("`{}` may not be 0", reader.key()),
                "write 1 or more, or leave it out",
            ),
            count => Some(Self(count)),
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "integer", "minimum": 1, "maximum": MOST })
    }
}

/// Who goes first: -10 to 10.
#[derive(Debug, Clone, Copy)]
pub(in crate::config) struct Priority(pub(in crate::config) i8);

impl Value for Priority {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let DeValue::Integer(number) = node.get_ref() else {
            return reader.wrong_type(node, "a whole number from -10 to 10", None);
        };
        let value = i8::from_str_radix(number.as_str(), number.radix()).ok();
        match value.filter(|value| (-10..=10).contains(value)) {
            Some(value) => Some(Self(value)),
            None => reader.refuse(
                node,
                format!("`{}` is out of range", reader.key()),
                "write -10 to 10; who has more goes first",
            ),
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "integer", "minimum": -10, "maximum": 10 })
    }
}

/// The largest number that is taken: more than anyone keeps, tries or runs.
const MOST: u32 = 1_000_000;

impl Value for u32 {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let DeValue::Integer(number) = node.get_ref() else {
            return reader.wrong_type(node, "a whole number", None);
        };
        let value = i64::from_str_radix(number.as_str(), number.radix()).unwrap_or(i64::MAX);
        match Self::try_from(value) {
            Ok(value) if value <= MOST => Some(value),
            Ok(_) => {
                reader.refuse(node, format!("`{}` is too large", reader.key()), format!("{MOST} is the most"))
            }
            Err(_) if value < 0 => reader.refuse(
                node,
                format!("`{}` is negative", reader.key()),
                "write 0 or more, or leave it out",
            ),
            Err(_) => {
                reader.refuse(node, format!("`{}` is too large", reader.key()), format!("{MOST} is the most"))
            }
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "integer", "minimum": 0, "maximum": MOST })
    }
}

/// The host name in snapshots.
#[derive(Debug, Clone)]
pub(in crate::config) struct HostName(pub(in crate::config) String);

impl Value for HostName {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = plain(node, reader, "a host name")?;
        if text.contains(|c: char| c.is_whitespace() || c == ',' || c == '/') {
            let help = "write letters, digits, '.' and '-'";
            return reader.refuse(node, format!("{text:?} is not a host name"), help);
        }
        Some(Self(text.to_owned()))
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "pattern": "^[^\\s,/]+$" })
    }
}

/// The name of a user of the machine, or of a systemd credential.
#[derive(Debug, Clone)]
pub(in crate::config) struct UserName(pub(in crate::config) String);

impl Value for UserName {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = plain(node, reader, "a name")?;
        let good = |c: char| !c.is_whitespace() && !":/,".contains(c);
        if !text.chars().all(good) || text.starts_with(['-', '.']) {
            let help = "write the name alone, without spaces, ':', '/' and ','";
            return reader.refuse(node, format!("`{}`: {text:?} is not a name", reader.key()), help);
        }
        Some(Self(text.to_owned()))
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "pattern": "^[^-.\\s:/,][^\\s:/,]*$" })
    }
}

impl Value for String {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        plain(node, reader, "a string").map(str::to_owned)
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "minLength": 1 })
    }
}

impl Value for Layout {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match reader.text(node, "\"per-instance\" or \"shared\"")? {
            "per-instance" => Some(Self::PerInstance),
            "shared" => Some(Self::Shared),
            other => reader.refuse(
                node,
                format!("the layout {other:?} is not known"),
                "write \"per-instance\" or \"shared\"",
            ),
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "enum": ["per-instance", "shared"] })
    }
}

/// `before = "new-version"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Before;

impl Value for Before {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match reader.text(node, "\"new-version\"")? {
            "new-version" => Some(Self),
            other => reader.refuse(
                node,
                format!("`before` does not know {other:?}"),
                "write \"new-version\", or leave it out",
            ),
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "const": "new-version" })
    }
}

impl Value for Owners {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.text(node, "\"name\" or \"number\"")?;
        let found = Self::of_word(text);
        if found.is_none() {
            let help = "write name, or number to keep the numbers that were saved".to_owned();
            return reader.refuse(node, format!("`{}` does not know {text:?}", reader.key()), help);
        }
        found
    }

    fn schema() -> serde_json::Value {
        json!({ "enum": Self::WORDS.map(|(word, _)| word) })
    }
}

/// `builtin = "dpkg:NAME"`.
impl Value for VersionMatch {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let words = Self::WORDS.map(|(word, _)| word);
        let text = reader.text(node, "one of any, exact, minor, major and not-newer")?;
        let found = Self::WORDS.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let help = match super::nearest(text, &words) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("write one of {}", words.join(", ")),
            };
            return reader.refuse(node, format!("`{}` does not know {text:?}", reader.key()), help);
        }
        found
    }

    fn schema() -> serde_json::Value {
        json!({ "enum": Self::WORDS.map(|(word, _)| word) })
    }
}

impl Value for Version {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = plain(node, reader, "\"dpkg:NAME\", \"rpm:NAME\", \"ostree\" or \"bootc\"")?;
        let package = |name: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "+-._:".contains(c))
        };
        match text.split_once(':') {
            Some(("dpkg", name)) if package(name) => Some(Self::Dpkg(name.to_owned())),
            Some(("rpm", name)) if package(name) => Some(Self::Rpm(name.to_owned())),
            None if text == "ostree" => Some(Self::Ostree),
            None if text == "bootc" => Some(Self::Bootc),
            _ => reader.refuse(
                node,
                format!("{text:?} is not a built-in version"),
                "write \"dpkg:NAME\", \"rpm:NAME\", \"ostree\" or \"bootc\"",
            ),
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "pattern": "^((dpkg|rpm):[A-Za-z0-9+._:-]+|ostree|bootc)$" })
    }
}
