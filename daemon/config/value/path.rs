//! Paths and patterns.

use std::path::PathBuf;

use serde_json::json;
use toml::de::DeValue;

use super::text::plain;
use super::{Node, Reader, Value};
use crate::definition::{Engine, VolumePlace, Volumes};

/// A path that begins at the root, without `..`.
#[derive(Debug, Clone)]
pub(in crate::config) struct AbsolutePath(pub(in crate::config) PathBuf);

impl Value for AbsolutePath {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = plain(node, reader, "an absolute path")?;
        if !text.starts_with('/') {
            return reader.refuse(
                node,
                format!("`{}` is a relative path", reader.key()),
                "write it from the root: \"/…\"",
            );
        }
        if climbs(text) {
            return reader.refuse(node, format!("`{}` holds \"..\"", reader.key()), "write the path itself");
        }
        if text.trim_matches('/').is_empty() {
            return reader.refuse(
                node,
                format!("`{}` is the root directory", reader.key()),
                "name a directory of its own",
            );
        }
        Some(Self(text.components()))
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "pattern": "^/" })
    }
}

/// Whether a path has a part `..`.
fn climbs(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

trait Components {
    fn components(&self) -> PathBuf;
}

impl Components for str {
    /// The path without double and trailing slashes and `.` parts.
    fn components(&self) -> PathBuf {
        std::path::Path::new(self).components().collect()
    }
}

/// A file; relative to the directory of the file that names it. Absolute once read.
#[derive(Debug, Clone)]
pub(in crate::config) struct FilePath(pub(in crate::config) PathBuf);

impl Value for FilePath {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = plain(node, reader, "the path of a file")?;
        if text.ends_with('/') {
            return reader.refuse(node, format!("`{}` names a directory", reader.key()), "name a file");
        }
        Some(Self(cleaned(&reader.directory().join(text))))
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// The path with `.` and `..` taken out as written, without asking the file system.
fn cleaned(path: &std::path::Path) -> PathBuf {
    use std::path::Component;
    path.components().fold(PathBuf::new(), |mut clean, part| {
        match part {
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir => {}
            _ => clean.push(part),
        }
        clean
    })
}

/// The directory of restore steps: relative to `install_dir`, or absolute.
#[derive(Debug, Clone)]
pub(in crate::config) struct Steps(pub(in crate::config) PathBuf);

impl Value for Steps {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = plain(node, reader, "the path of a directory")?;
        if climbs(text) {
            return reader.refuse(node, format!("`{}` holds \"..\"", reader.key()), "write the path itself");
        }
        Some(Self(text.components()))
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// What is backed up.
#[derive(Debug, Clone)]
pub(in crate::config) struct Include(pub(in crate::config) String);

impl Value for Include {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = plain(node, reader, "a path")?;
        let way = "write \"state/…\", \"volumes/NAME\", \"~/…\" or an absolute path";
        if climbs(text) {
            return reader.refuse(node, format!("{text:?} holds \"..\""), "write the path itself");
        }
        if text == "volumes/" || text == "volumes" {
            return reader.refuse(node, "which volume is not said", "write \"volumes/NAME\"");
        }
        let rooted = ["state/", "volumes/", "~/", "/", "local:/"].iter().any(|root| text.starts_with(root));
        if !rooted && text != "state" && text != "~" {
            return reader.refuse(node, format!("{text:?} is not a path that can be included"), way);
        }
        if unclosed(text) {
            return reader.refuse(
                node,
                format!("{text:?} has a \"[\" without \"]\""),
                "close it, or write \"\\\\[\"",
            );
        }
        Some(Self(text.to_owned()))
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "pattern": "^(state(/|$)|volumes/|~(/|$)|/|local:/)" })
    }
}

/// What is left out.
#[derive(Debug, Clone)]
pub(in crate::config) struct Exclude(pub(in crate::config) String);

impl Value for Exclude {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = plain(node, reader, "a pattern")?;
        if text.trim() == "!" {
            return reader.refuse(node, "\"!\" without a pattern", "write \"!PATTERN\" for what stays in");
        }
        if unclosed(text) {
            return reader.refuse(
                node,
                format!("{text:?} has a \"[\" without \"]\""),
                "close it, or write \"\\\\[\"",
            );
        }
        Some(Self(text.to_owned()))
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// Whether a glob has a class that is not closed, which restic refuses.
fn unclosed(pattern: &str) -> bool {
    let (mut open, mut escaped) = (false, false);
    for c in pattern.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => open = true,
            ']' => open = false,
            '/' if open => return true,
            _ => {}
        }
    }
    open
}

/// A directory, or the volume of an engine.
fn volume_place(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<VolumePlace> {
    let text = reader.text(node, "an absolute path, or \"docker:VOLUME\"")?;
    for engine in [Engine::Docker, Engine::Podman] {
        let Some(name) = text.strip_prefix(engine.word()).and_then(|rest| rest.strip_prefix(':')) else {
            continue;
        };
        let fits = |b: &u8| b.is_ascii_alphanumeric() || b"_.-".contains(b);
        let first = name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        if !first || !name.as_bytes().iter().all(fits) {
            let help = "a volume's name has letters, digits, '.', '_' and '-'";
            return reader.refuse(node, format!("{name:?} is no name of a volume"), help);
        }
        return Some(VolumePlace::Of(engine, name.to_owned()));
    }
    AbsolutePath::read(node, reader).map(|path| VolumePlace::Directory(path.0))
}

impl Value for Volumes {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let wanted = "\"podman\", \"docker\" or a table { NAME = \"/path\" or \"docker:VOLUME\" }";
        match node.get_ref() {
            DeValue::Table(table) => {
                let entries = table
                    .iter()
                    .map(|(name, path)| Some((name.get_ref().to_string(), volume_place(path, reader)?)));
                entries.collect::<Vec<_>>().into_iter().collect::<Option<_>>().map(Self::Table)
            }
            _ => match reader.text(node, wanted)? {
                "podman" => Some(Self::Podman),
                "docker" => Some(Self::Docker),
                other => {
                    reader.refuse(node, format!("{other:?} does not know volumes"), format!("write {wanted}"))
                }
            },
        }
    }

    fn schema() -> serde_json::Value {
        let of_engine =
            json!({ "type": "string", "pattern": "^(docker|podman):[A-Za-z0-9][A-Za-z0-9_.-]*$" });
        let place = json!({ "anyOf": [AbsolutePath::schema(), of_engine] });
        let table = json!({ "type": "object", "additionalProperties": place });
        json!({ "anyOf": [{ "enum": ["podman", "docker"] }, table] })
    }
}
