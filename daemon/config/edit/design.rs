//! An instance that is to be defined when its data is there: checked as a whole, nothing written yet.

use std::path::PathBuf;
use std::sync::Arc;

use toml_edit::DocumentMut;

use super::{Change, EditError, Keys, document, new_name};
use crate::config::load::load;
use crate::config::parse::Kind;
use crate::config::{Dirs, Environment};
use crate::definition::Instance;

/// A definition that is good and not written yet.
#[derive(Debug, Clone)]
pub struct Design {
    /// What it means.
    pub instance: Arc<Instance>,
    /// The file that it is to stand in, in `conf.d/`; there is none of that name.
    pub file: PathBuf,
    /// The text of that file.
    pub text: String,
}

/// Checks an instance's definition as it would be. A module that is not defined here is defined with it, without keys.
/// `comment` is put above, as a line of its own.
///
/// # Errors
/// See [`EditError`].
pub fn design_instance(
    dirs: &Dirs,
    env: &Environment,
    name: &str,
    keys: Keys,
    comment: &str,
) -> Result<Design, EditError> {
    let loaded = load(dirs, env, None);
    let name = new_name(dirs, &loaded, Kind::Instance, name)?;
    let mut document = DocumentMut::new();
    document.set_trailing(format!("# {}\n", comment.replace(char::is_control, " ")));
    let module = keys.get("module").and_then(|module| module.as_str()).map(str::to_owned);
    document::add(&mut document, Kind::Instance, &name, keys);
    if let Some(module) = module.filter(|module| !loaded.origins.contains_key(&Kind::Module.id(module))) {
        document::add(&mut document, Kind::Module, &module, Keys::new());
    }
    let file = free(dirs, &name);
    let change = Change { dirs, env, before: &loaded, path: &file, document: &document };
    let after = change.check()?;
    let instance = after.definitions.instances.get(&name).cloned();
    let instance = instance.ok_or_else(|| anyhow::anyhow!("the definition of {name} came to nothing"))?;
    Ok(Design { instance, file, text: document.to_string() })
}

/// A file that is not there: `NAME.toml`, or `NAME.N.toml`.
fn free(dirs: &Dirs, name: &str) -> PathBuf {
    let numbered = (1..).map(|number| dirs.fragments().join(format!("{name}.{number}.toml")));
    let mut all = std::iter::once(dirs.fragments().join(format!("{name}.toml"))).chain(numbered);
    all.find(|path| path.symlink_metadata().is_err()).unwrap_or_default()
}
