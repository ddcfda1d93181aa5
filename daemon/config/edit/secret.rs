//! Secrets given with a repository: written to files of their own, never into the definition.

use std::path::PathBuf;

use serde_json::Value;

use super::{EditError, Keys, write};
use crate::config::{Diagnostic, Dirs, Environment};
use crate::definition::Name;

/// A secret to be written before the definition that names it.
pub(super) struct Secret {
    path: PathBuf,
    text: String,
}

impl Secret {
    pub(super) fn write(&self, dirs: &Dirs, env: &Environment) -> Result<(), EditError> {
        Ok(write::secret(dirs, env, &self.path, &self.text)?)
    }
}

/// The keys with `password` and `environment` replaced by the names of files, and those files.
pub(super) fn taken_out(dirs: &Dirs, name: &Name, mut keys: Keys) -> Result<(Keys, Vec<Secret>), EditError> {
    let given = |value: Option<Value>| value.filter(|value| !value.is_null());
    let password = given(keys.remove("password")).map(|value| password(&value));
    let environment = given(keys.remove("environment")).map(|value| environment(&value));
    let mut secrets = Vec::new();
    for (key, kind, text) in
        [("password_file", "password", password), ("environment_file", "env", environment)]
    {
        let Some(text) = text else { continue };
        let refuse = |message: String, help: &str| {
            let message = format!("repository `{name}`: {message}");
            EditError::Invalid(vec![Diagnostic::of_file(&dirs.fragments(), message, Some(help.into()))])
        };
        let text = text.map_err(|(message, help)| refuse(message, help))?;
        if keys.contains_key(key) {
            return Err(refuse(
                format!("`{key}` is given, and what is to be written into it too"),
                "give one of them",
            ));
        }
        let file = format!("{name}.{kind}");
        keys.insert(key.into(), format!("../secrets/{file}").into());
        secrets.push(Secret { path: dirs.config.join("secrets").join(file), text });
    }
    Ok((keys, secrets))
}

type Refused = (String, &'static str);

fn password(value: &Value) -> Result<String, Refused> {
    match value.as_str() {
        Some(text) if !text.is_empty() && !text.contains(['\n', '\r', '\0']) => Ok(format!("{text}\n")),
        Some(_) => Err((
            "the password is empty or has several lines".into(),
            "give one line, or none: then one is generated",
        )),
        None => Err(("the password is not a string".into(), "give a string")),
    }
}

fn environment(value: &Value) -> Result<String, Refused> {
    let table = value
        .as_object()
        .ok_or_else(|| ("`environment` is not a table".to_owned(), "give names and values"))?;
    table.iter().map(|(name, value)| line(name, value)).collect()
}

/// One `NAME=value` line. What would change how restic itself runs is not a credential.
fn line(name: &str, value: &Value) -> Result<String, Refused> {
    let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(letters) {
        return Err((format!("{name:?} is not the name of a variable"), "write letters, digits and '_'"));
    }
    if ["RESTIC_", "LD_", "HOLDFAST_"].iter().any(|prefix| name.starts_with(prefix)) || name == "PATH" {
        return Err((
            format!("the variable {name} may not be set here"),
            "give only the storage's credentials",
        ));
    }
    match value.as_str() {
        Some(text) if !text.contains(['\n', '\r', '\0']) => Ok(format!("{name}={text}\n")),
        Some(_) => Err((format!("the value of {name} has several lines"), "give one line")),
        None => Err((format!("the value of {name} is not a string"), "give a string")),
    }
}
