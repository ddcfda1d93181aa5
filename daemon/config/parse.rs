//! A file's text to its raw tables; nothing wrong in one table hides what is wrong in the next.

use std::ops::Range;
use std::sync::Arc;

use serde_json::{Map, Value as Json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Source};
use super::raw::{
    Entry, MODULE_KEY, RawBackup, RawDaemon, RawDiscovery, RawInstance, RawModule, RawRepository,
};
use super::value::{Node, Reader, Table, Value, described, table_schema};
use super::written;
use crate::definition::Name;

/// The kinds of named tables, as they are written in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Repository,
    Backup,
    Instance,
    Module,
}

impl Kind {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Repository, "repository"),
        (Self::Backup, "backup"),
        (Self::Instance, "instance"),
        (Self::Module, "module"),
    ];

    /// The word in the file.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Repository => "repository",
            Self::Backup => "backup",
            Self::Instance => "instance",
            Self::Module => "module",
        }
    }

    /// `repository/NAME`: how [`Loaded`](super::Loaded) calls a definition.
    pub(super) fn id(self, name: &str) -> String {
        format!("{}/{name}", self.word())
    }
}

/// A name that a file defines, whether or not its table could be read.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) kind: Kind,
    pub(super) name: Name,
    pub(super) span: Range<usize>,
}

/// One file, read.
#[derive(Debug)]
pub(super) struct RawFile {
    pub(super) source: Arc<Source>,
    pub(super) daemon: Option<Spanned<RawDaemon>>,
    pub(super) discovery: Option<Spanned<RawDiscovery>>,
    pub(super) repositories: Vec<Entry<RawRepository>>,
    pub(super) backups: Vec<Entry<RawBackup>>,
    pub(super) instances: Vec<Entry<RawInstance>>,
    pub(super) modules: Vec<Entry<RawModule>>,
    /// In the order of the file.
    pub(super) names: Vec<Named>,
    /// Whether it is TOML at all; when not, what was read of it is a guess.
    pub(super) syntax_ok: bool,
}

/// Reads a text. The findings include syntax errors.
pub(super) fn parse(source: &Arc<Source>) -> (RawFile, Vec<Diagnostic>) {
    let (root, errors) = DeTable::parse_recoverable(&source.text);
    let mut file = RawFile {
        source: Arc::clone(source),
        daemon: None,
        discovery: None,
        repositories: Vec::new(),
        backups: Vec::new(),
        instances: Vec::new(),
        modules: Vec::new(),
        names: Vec::new(),
        syntax_ok: errors.is_empty(),
    };
    let mut reader = Reader::new(source);
    for error in errors {
        syntax_error(&error, &mut reader);
    }
    for (key, node) in root.get_ref() {
        file.section(key, node, &mut reader);
    }
    file.names.sort_by_key(|named| named.span.start);
    (file, reader.finish())
}

fn syntax_error(error: &toml::de::Error, reader: &mut Reader<'_>) {
    let span = error.span().unwrap_or(0..0);
    if error.message() != "duplicate key" {
        let help = "see https://toml.io for how TOML is written";
        return reader.syntax(&span, error.message(), Some(help.into()));
    }
    let written = reader.source.text.get(span.clone()).unwrap_or_default().to_owned();
    let help = match reader.source.first_of(&span) {
        Some(first) => format!("it stands first at {first}; remove or rename one of them"),
        None => "remove or rename one of them".into(),
    };
    reader.syntax(&span, &format!("`{written}` is defined twice"), Some(help));
}

impl RawFile {
    fn section(
        &mut self,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        node: &Node<'_>,
        reader: &mut Reader<'_>,
    ) {
        match key.get_ref().as_ref() {
            "daemon" => self.daemon = reader.value(node),
            "discovery" => self.discovery = reader.value(node),
            "repository" => self.repositories = self.named(Kind::Repository, node, reader),
            "backup" => self.backups = self.named(Kind::Backup, node, reader),
            "instance" => self.instances = self.named(Kind::Instance, node, reader),
            "module" => self.modules = self.named(Kind::Module, node, reader),
            other => {
                let known = ["daemon", "repository", "backup", "instance", "module", "discovery"];
                reader.unknown(other, &key.span(), &known)
            }
        }
    }

    fn named<T: Value>(&mut self, kind: Kind, node: &Node<'_>, reader: &mut Reader<'_>) -> Vec<Entry<T>> {
        let DeValue::Table(table) = node.get_ref() else {
            let help = format!("write [{}.NAME]", kind.word());
            reader.error(&node.span(), format!("`{}` takes named tables", kind.word()), Some(help));
            return Vec::new();
        };
        let mut entries = Vec::new();
        for (key, node) in table {
            let name = match Name::parse(key.get_ref()) {
                Ok(name) => name,
                Err(rule) => {
                    reader.error(
                        &key.span(),
                        format!("{} name: {rule}", kind.word()),
                        Some("rename it".into()),
                    );
                    continue;
                }
            };
            self.names.push(Named { kind, name: name.clone(), span: key.span() });
            if !matches!(node.get_ref(), DeValue::Table(_)) {
                let help = format!("write [{}.NAME] with its keys below", kind.word());
                reader.error(&key.span(), format!("`{}.{name}` is not a table", kind.word()), Some(help));
                continue;
            }
            let before = reader.noted();
            if let Some(raw) = T::read(node, reader) {
                let sound = reader.noted() == before;
                let written = match kind {
                    Kind::Instance | Kind::Module => written::table(node),
                    Kind::Repository | Kind::Backup => Map::new(),
                };
                let source = Arc::clone(&self.source);
                entries.push(Entry { name, span: key.span(), source, raw, sound, written });
            }
        }
        entries
    }
}

impl Table for RawInstance {
    const KEYS: &'static [&'static str] = &INSTANCE_KEYS;

    fn set(&mut self, key: &str, node: &Node<'_>, reader: &mut Reader<'_>) -> bool {
        if key == "module" {
            self.module = reader.value(node);
            return true;
        }
        self.own.set(key, node, reader)
    }

    fn given(&self) -> Vec<(&'static str, Range<usize>)> {
        let module = self.module.as_ref().map(|module| ("module", module.span()));
        module.into_iter().chain(self.own.given()).collect()
    }

    fn properties() -> Map<String, Json> {
        let mut all = Map::new();
        all.insert("module".into(), described::<Name>(MODULE_KEY));
        all.extend(RawModule::properties());
        all
    }
}

const INSTANCE_KEYS: [&str; RawModule::KEYS.len() + 1] = {
    let mut keys = ["module"; RawModule::KEYS.len() + 1];
    let mut at = 0;
    while at < RawModule::KEYS.len() {
        keys[at + 1] = RawModule::KEYS[at];
        at += 1;
    }
    keys
};

impl Value for RawInstance {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.table(node)
    }

    fn schema() -> Json {
        table_schema::<Self>()
    }
}

/// The schema's properties of the whole file: named tables by kind.
pub(super) fn sections() -> Map<String, Json> {
    let named = |schema: Json, about: &str| {
        serde_json::json!({
            "type": "object",
            "description": about,
            "propertyNames": Name::schema(),
            "additionalProperties": schema,
        })
    };
    let mut all = Map::new();
    all.insert("daemon".into(), described::<RawDaemon>("Settings of the daemon itself."));
    all.insert("discovery".into(), described::<RawDiscovery>("What is found by itself."));
    for (kind, word) in Kind::ALL {
        let section = match kind {
            Kind::Repository => named(RawRepository::schema(), "A place that holds snapshots."),
            Kind::Backup => {
                named(RawBackup::schema(), "Which instances go where, when, and how long they are kept.")
            }
            Kind::Instance => {
                named(RawInstance::schema(), "One installed module: its own keys win over its module's.")
            }
            Kind::Module => named(RawModule::schema(), "What a kind of application needs."),
        };
        all.insert(word.into(), section);
    }
    all
}
