//! Definitions changed by a caller: written back as TOML, comments and order kept, checked before anything is written.
//!
//! Edits exclude each other by a lock on the configuration directory. A file is replaced by rename: killed at any moment,
//! it is wholly old or wholly new. Secrets are written before the definition that names them; one that no definition names
//! is harmless, and is never overwritten with another: the old one is set aside first.

mod design;
mod document;
mod secret;
mod write;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use toml_edit::DocumentMut;

use super::load::{Overlay, load_with};
use super::parse::Kind;
use super::{Diagnostic, Dirs, Environment, Loaded, files, load};
use crate::definition::Name;

pub use design::{Design, design_instance};

/// TOML keys and values of one definition; `null` takes a key away.
pub type Keys = Map<String, Value>;

/// Why an edit was not made. Nothing was written then.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// There is no such definition.
    #[error("{0}")]
    NoSuch(String),
    /// The name is taken.
    #[error("{0}")]
    AlreadyExists(String),
    /// Backups use the repository.
    #[error("{0}")]
    InUse(String),
    /// The definition would not be valid, or its file is not.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Diagnostic>),
    /// The file cannot be written.
    #[error("{0:#}")]
    NotWritable(#[from] anyhow::Error),
}

/// The outcome of an edit: the file that was written. The change is active after the next [`load()`].
pub type Edited = Result<PathBuf, EditError>;

/// Defines a repository in `conf.d/NAME.toml`. `password` (a string) and `environment` (a table of strings) are written to
/// 0600 files in `secrets/` and only named in the definition.
///
/// # Errors
/// See [`EditError`].
pub fn add_repository(dirs: &Dirs, env: &Environment, name: &str, keys: Keys) -> Edited {
    let _lock = write::lock(dirs)?;
    let loaded = load(dirs, env, None);
    let name = new_name(dirs, &loaded, Kind::Repository, name)?;
    let (keys, secrets) = secret::taken_out(dirs, &name, keys)?;
    let (path, mut document) = fragment(dirs, env, &name)?;
    if let Some(embedded) = embedded_in_use(&loaded, &name) {
        document::add(&mut document, Kind::Repository, "local", embedded);
    }
    document::add(&mut document, Kind::Repository, &name, keys);
    let change = Change { dirs, env, before: &loaded, path: &path, document: &document };
    let after = change.check()?;
    for secret in &secrets {
        secret.write(dirs, env)?;
    }
    let repository = after.definitions.repositories.get(&name);
    let private = repository.is_some_and(|repository| repository.shown_url() != repository.url);
    change.write(private)
}

/// The embedded repository's keys, when backups use it: it ends with the first one that is defined, so it is written down.
fn embedded_in_use(loaded: &Loaded, adding: &Name) -> Option<Keys> {
    let local = loaded.definitions.repositories.get("local")?;
    let embedded = !loaded.origins.contains_key("repository/local");
    let used = loaded.definitions.backups.values().any(|backup| backup.repositories.contains(&local.name));
    if !embedded || !used || *adding == local.name {
        return None;
    }
    json!({ "url": local.url }).as_object().cloned()
}

/// Defines a backup in `conf.d/NAME.toml`.
///
/// # Errors
/// See [`EditError`].
pub fn add_backup(dirs: &Dirs, env: &Environment, name: &str, keys: Keys) -> Edited {
    add(dirs, env, Kind::Backup, name, keys)
}

/// Defines an instance in `conf.d/NAME.toml`. The keys are those of the TOML table; the module, if one is named, must be
/// defined.
///
/// # Errors
/// See [`EditError`].
pub fn add_instance(dirs: &Dirs, env: &Environment, name: &str, keys: Keys) -> Edited {
    add(dirs, env, Kind::Instance, name, keys)
}

/// Takes an instance's definition away; its data, its identity and its snapshots are kept.
///
/// # Errors
/// See [`EditError`]; also a backup that names it would no longer be valid.
pub fn remove_instance(dirs: &Dirs, env: &Environment, name: &str) -> Edited {
    let _lock = write::lock(dirs)?;
    let loaded = load(dirs, env, None);
    remove(dirs, env, &loaded, Kind::Instance, name)
}

fn add(dirs: &Dirs, env: &Environment, kind: Kind, name: &str, keys: Keys) -> Edited {
    let _lock = write::lock(dirs)?;
    let loaded = load(dirs, env, None);
    let name = new_name(dirs, &loaded, kind, name)?;
    let (path, mut document) = fragment(dirs, env, &name)?;
    document::add(&mut document, kind, &name, keys);
    let change = Change { dirs, env, before: &loaded, path: &path, document: &document };
    change.check()?;
    change.write(false)
}

/// Changes keys of a backup where it stands; the others stay.
///
/// # Errors
/// See [`EditError`].
pub fn alter_backup(dirs: &Dirs, env: &Environment, name: &str, keys: Keys) -> Edited {
    let _lock = write::lock(dirs)?;
    let loaded = load(dirs, env, None);
    let (path, mut document) = standing(dirs, env, &loaded, Kind::Backup, name)?;
    if !document::alter(&mut document, Kind::Backup, name, keys) {
        return Err(no_such(Kind::Backup, name));
    }
    let change = Change { dirs, env, before: &loaded, path: &path, document: &document };
    change.check()?;
    change.write(false)
}

/// Enables or disables a backup.
///
/// # Errors
/// See [`EditError`].
pub fn set_enabled(dirs: &Dirs, env: &Environment, name: &str, enabled: bool) -> Edited {
    alter_backup(dirs, env, name, Keys::from_iter([("enabled".to_owned(), Value::Bool(enabled))]))
}

/// Takes a backup's definition away; its snapshots are kept.
///
/// # Errors
/// See [`EditError`].
pub fn remove_backup(dirs: &Dirs, env: &Environment, name: &str) -> Edited {
    let _lock = write::lock(dirs)?;
    let loaded = load(dirs, env, None);
    remove(dirs, env, &loaded, Kind::Backup, name)
}

/// Takes a repository's definition away; its data and its secrets are kept.
///
/// # Errors
/// See [`EditError`].
pub fn remove_repository(dirs: &Dirs, env: &Environment, name: &str) -> Edited {
    let _lock = write::lock(dirs)?;
    let loaded = load(dirs, env, None);
    let backups = loaded.definitions.backups.values();
    let users: Vec<&str> = backups
        .filter(|backup| backup.repositories.iter().any(|used| &**used == name))
        .map(|b| &*b.name)
        .collect();
    if !users.is_empty() {
        let users = users.join(", ");
        let way = "remove them, or take it out of their `repositories`";
        return Err(EditError::InUse(format!(
            "the repository `{name}` is used by the backups {users}; {way}"
        )));
    }
    remove(dirs, env, &loaded, Kind::Repository, name)
}

fn remove(dirs: &Dirs, env: &Environment, loaded: &Loaded, kind: Kind, name: &str) -> Edited {
    let (path, mut document) = standing(dirs, env, loaded, kind, name)?;
    if !document::remove(&mut document, kind, name) {
        return Err(no_such(kind, name));
    }
    let change = Change { dirs, env, before: loaded, path: &path, document: &document };
    change.check()?;
    change.write(false)
}

fn no_such(kind: Kind, name: &str) -> EditError {
    EditError::NoSuch(format!("there is no {} `{}`", kind.word(), name.escape_debug()))
}

/// A name that is not taken yet.
fn new_name(dirs: &Dirs, loaded: &Loaded, kind: Kind, name: &str) -> Result<Name, EditError> {
    let invalid = |rule: String| {
        let message = format!("{} name: {rule}", kind.word());
        EditError::Invalid(vec![Diagnostic::of_file(
            &dirs.fragments(),
            message,
            Some("choose another name".into()),
        )])
    };
    let name = Name::parse(name).map_err(invalid)?;
    match loaded.origins.get(&kind.id(&name)) {
        None => Ok(name),
        Some(place) => {
            let message = format!("the {} `{name}` is already defined at {place}", kind.word());
            Err(EditError::AlreadyExists(message))
        }
    }
}

/// `conf.d/NAME.toml` as it is, or empty.
fn fragment(dirs: &Dirs, env: &Environment, name: &Name) -> Result<(PathBuf, DocumentMut), EditError> {
    let path = dirs.fragments().join(format!("{name}.toml"));
    let document = if path.symlink_metadata().is_ok() { parsed(&path, env)? } else { DocumentMut::new() };
    Ok((path, document))
}

/// The file that a definition stands in.
fn standing(
    dirs: &Dirs,
    env: &Environment,
    loaded: &Loaded,
    kind: Kind,
    name: &str,
) -> Result<(PathBuf, DocumentMut), EditError> {
    let Some(place) = loaded.origins.get(&kind.id(name)) else { return Err(no_such(kind, name)) };
    if !place.file.starts_with(&dirs.config) {
        let message = format!(
            "the {} `{name}` stands in {}, which is not ours to change",
            kind.word(),
            place.file.display()
        );
        return Err(EditError::NotWritable(anyhow::anyhow!(message)));
    }
    Ok((place.file.clone(), parsed(&place.file, env)?))
}

fn parsed(path: &Path, env: &Environment) -> Result<DocumentMut, EditError> {
    let source = match files::read(path, env.uid) {
        None => return Ok(DocumentMut::new()),
        Some(Err(diagnostic)) => return Err(EditError::Invalid(vec![*diagnostic])),
        Some(Ok(source)) => source,
    };
    let error = |error: toml_edit::TomlError| {
        let span = error.span().unwrap_or(0..0);
        let help = "repair the file by hand first".to_owned();
        EditError::Invalid(vec![source.error(&span, error.message(), Some(help))])
    };
    source.text.parse::<DocumentMut>().map_err(error)
}

/// A file about to be replaced.
struct Change<'a> {
    dirs: &'a Dirs,
    env: &'a Environment,
    before: &'a Loaded,
    path: &'a Path,
    document: &'a DocumentMut,
}

impl Change<'_> {
    /// What is left of the file; `None` when nothing is, and it is one of the fragments.
    fn text(&self) -> Option<String> {
        let text = self.document.to_string();
        let empty = text.trim().is_empty() && self.path.parent() == Some(&self.dirs.fragments());
        (!empty).then_some(text)
    }

    /// Loads everything as it would be.
    fn check(&self) -> Result<Loaded, EditError> {
        let text = self.text();
        let overlay = Overlay { path: self.path, text: text.as_deref() };
        let after = load_with(self.dirs, self.env, None, Some(&overlay));
        // Places of first definitions may shift with the edit; what is wrong does not.
        let gist = |d: &Diagnostic| (d.file.clone(), d.message.split("; first at").next().map(str::to_owned));
        let known: Vec<_> = self.before.diagnostics.iter().map(gist).collect();
        let here = |d: &Diagnostic| d.file == self.path && after.refused.contains_key(self.path);
        let wrong = |d: &&Diagnostic| d.is_error() && (here(d) || !known.contains(&gist(d)));
        let wrong: Vec<Diagnostic> = after.diagnostics.iter().filter(wrong).cloned().collect();
        if wrong.is_empty() { Ok(after) } else { Err(EditError::Invalid(wrong)) }
    }

    fn write(&self, private: bool) -> Edited {
        let text = self.text();
        write::replace(self.dirs, self.path, text.as_deref(), private)?;
        Ok(self.path.to_owned())
    }
}
