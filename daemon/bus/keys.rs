//! Keys of definitions (`a{sv}`) as JSON values, for `config` to check and write.

use serde_json::{Map, Value};
use zbus::wire::Variant;

use super::argument::{limit, shown};
use super::error::{Error, Result};
use super::options::{Given, unknown, wrong};
use crate::control::Keys;

/// The most values in one call, nested ones included.
const MAX_VALUES: usize = 10_000;

/// What a key's value may be.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// `s`
    Text,
    /// `as`
    Texts,
    /// `b`
    Flag,
    /// a whole number
    Number,
    /// a number, or a table `a{sv}`
    NumberOrTable,
    /// a table: `a{sv}` or `a{ss}`
    Table,
}

/// A key that a definition may have over the bus, and its shape.
pub(super) type Known = (&'static str, Shape);

/// The keys of a backup: those of `[backup.NAME]`.
pub(super) const BACKUP: &[Known] = &[
    ("repositories", Shape::Texts),
    ("schedule", Shape::Text),
    ("after", Shape::Text),
    ("before", Shape::Text),
    ("retention", Shape::NumberOrTable),
    ("instances", Shape::Texts),
    ("enabled", Shape::Flag),
    ("catch_up", Shape::Flag),
    ("random_delay", Shape::Text),
    ("blackout", Shape::Texts),
    ("priority", Shape::Number),
    ("max_duration", Shape::Text),
    ("retry", Shape::Table),
    ("allow_users", Shape::Texts),
    ("allow_groups", Shape::Texts),
];

/// The keys of a repository: no program can be named here.
pub(super) const REPOSITORY: &[Known] = &[
    ("url", Shape::Text),
    ("password", Shape::Text),
    ("environment", Shape::Table),
    ("layout", Shape::Text),
    ("append_only", Shape::Flag),
];

/// The keys of an instance: paths only, for what is named here must never become a program that the daemon runs.
pub(super) const INSTANCE: &[Known] = &[
    ("include", Shape::Texts),
    ("exclude", Shape::Texts),
    ("allow_users", Shape::Texts),
    ("allow_groups", Shape::Texts),
];

/// Takes the keys of a definition: each known and of its shape.
pub(super) fn take(given: Given, known: &[Known]) -> Result<Keys> {
    let mut budget = MAX_VALUES;
    let mut keys = Keys::new();
    for (key, value) in given {
        limit("key", &key)?;
        let Some((_, shape)) = known.iter().find(|(name, _)| *name == key) else {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            return Err(Error::argument(unknown(&key, &names)));
        };
        let json = json(&key, &value, &mut budget)?;
        if !shape.fits(&json) {
            return Err(wrong(&key, &value, shape.words()));
        }
        keys.insert(key, json);
    }
    Ok(keys)
}

impl Shape {
    fn fits(self, value: &Value) -> bool {
        match self {
            Self::Text => value.is_string(),
            Self::Texts => value.as_array().is_some_and(|a| a.iter().all(Value::is_string)),
            Self::Flag => value.is_boolean(),
            Self::Number => value.is_i64() || value.is_u64(),
            Self::NumberOrTable => value.is_u64() || value.is_object(),
            Self::Table => value.is_object(),
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Text => "a string (s)",
            Self::Texts => "an array of strings (as)",
            Self::Flag => "a boolean (b)",
            Self::Number => "a whole number (i)",
            Self::NumberOrTable => "a number (u) or a table (a{sv})",
            Self::Table => "a table (a{sv})",
        }
    }
}

/// The JSON value of a variant. Its depth is bounded: no message nests deeper than 64 containers.
fn json(key: &str, value: &Variant<'_>, budget: &mut usize) -> Result<Value> {
    let Some(left) = budget.checked_sub(1) else {
        return Err(Error::argument(format!("the call carries more than {MAX_VALUES} values")));
    };
    *budget = left;
    Ok(match value {
        Variant::Bool(b) => Value::from(*b),
        Variant::U8(n) => Value::from(*n),
        Variant::I16(n) => Value::from(*n),
        Variant::U16(n) => Value::from(*n),
        Variant::I32(n) => Value::from(*n),
        Variant::U32(n) => Value::from(*n),
        Variant::I64(n) => Value::from(*n),
        Variant::U64(n) => Value::from(*n),
        Variant::F64(n) if n.is_finite() => Value::from(*n),
        Variant::Str(text) => Value::from(string(key, text.as_str())?),
        Variant::Variant(inner) => json(key, inner, budget)?,
        Variant::Array(array) => array.iter().map(|e| json(key, e, budget)).collect::<Result<_>>()?,
        Variant::Dict(dict) => {
            let mut table = Map::new();
            for (name, value) in dict.iter() {
                let Variant::Str(name) = name else {
                    return Err(wrong(key, value, "a table with string keys"));
                };
                table.insert(string(key, name.as_str())?, json(key, value, budget)?);
            }
            Value::Object(table)
        }
        _ => return Err(wrong(key, value, "plain data (s, b, numbers, arrays and tables of them)")),
    })
}

/// A string that may go into a definition. Its text is not repeated in the error: it may be a secret.
fn string(key: &str, text: &str) -> Result<String> {
    limit(&format!("value of {}", shown(key)), text)?;
    if text.chars().any(char::is_control) {
        return Err(Error::argument(format!("the value of {} holds a control character", shown(key))));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use zbus::wire::OwnedVariant;

    use super::*;

    fn one(key: &str, value: Variant<'static>) -> Given {
        [(key.to_owned(), OwnedVariant::try_from(value).unwrap())].into()
    }

    #[test]
    fn toml_keys_come_through_as_json() {
        let table: HashMap<String, OwnedVariant> = [("last".to_owned(), OwnedVariant::from(3_u32))].into();
        let retention = take(one("retention", Variant::from(table)), BACKUP).unwrap();
        assert_eq!(retention["retention"], serde_json::json!({"last": 3}));
        assert_eq!(take(one("retention", 3_i32.into()), BACKUP).unwrap()["retention"], 3);
        let list: Variant<'static> = vec!["*".to_owned()].into();
        assert_eq!(take(one("instances", list), BACKUP).unwrap()["instances"], serde_json::json!(["*"]));
    }

    #[test]
    fn wrong_shapes_and_unknown_keys_are_refused_by_name() {
        for (key, value) in [
            ("retention", Variant::from(-1_i32)),
            ("retention", "3".into()),
            ("schedule", 5_u32.into()),
            ("enabled", "yes".into()),
            ("instances", vec![1_u32, 2].into()),
            ("dump_state", "x".into()),
            ("schedule", "a\nb".into()),
        ] {
            let refused = take(one(key, value.try_clone().unwrap()), BACKUP);
            assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{key} {value:?} was taken");
        }
    }

    #[test]
    fn no_program_and_no_user_of_an_instance_come_over_the_bus() {
        for key in ["dump_state", "cleanup_state", "install_dir", "module", "user", "version", "restore"] {
            let list: Variant<'static> = vec!["/bin/true".to_owned()].into();
            let refused = take(one(key, list), INSTANCE);
            assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{key} was taken");
        }
    }

    #[test]
    fn a_refused_secret_is_not_repeated() {
        let Err(Error::InvalidArgument(message)) = take(one("password", "can\nary".into()), REPOSITORY)
        else {
            panic!("taken")
        };
        assert!(!message.contains("ary"), "{message}");
    }
}
