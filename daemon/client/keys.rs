//! Keys of a definition from the command line: flags for the common ones, `--set KEY=VALUE` for all.

use std::collections::HashMap;

use serde_json::{Map, Value};
use zbus::Variant;

use super::failure::Failure;
use super::wire::to_variant;

/// Keys of a definition, nested as in TOML.
pub(super) type Keys = Map<String, Value>;

/// Adds `KEY=VALUE`: the value is TOML, or a text where it is none; `a.b=1` sets `b` in the table `a`.
pub(super) fn set(keys: &mut Keys, pair: &str) -> Result<(), Failure> {
    let Some((key, value)) = pair.split_once('=') else {
        return Err(Failure::usage(format!("--set {pair}: write KEY=VALUE, such as catch_up=true")));
    };
    let value = toml_value(value.trim());
    let mut path: Vec<&str> = key.split('.').map(str::trim).collect();
    let last = path.pop().unwrap_or_default();
    let mut table = keys;
    for part in path.iter().copied() {
        let entry = table.entry(part).or_insert_with(|| Value::Object(Map::new()));
        table = entry
            .as_object_mut()
            .ok_or_else(|| Failure::usage(format!("--set {pair}: {part} is no table")))?;
    }
    if last.is_empty() || path.contains(&"") {
        return Err(Failure::usage(format!("--set {pair}: the key is empty")));
    }
    table.insert(last.to_owned(), value);
    Ok(())
}

fn toml_value(text: &str) -> Value {
    let parsed: Result<toml::Table, _> = toml::from_str(&format!("v = {text}"));
    let table = parsed.ok().filter(|table| table.len() == 1);
    let value = table.and_then(|mut table| table.remove("v")).filter(|value| !value.is_datetime());
    value.and_then(|value| serde_json::to_value(value).ok()).unwrap_or_else(|| text.into())
}

/// `7`, or `daily=7,weekly=4,within=30d`.
pub(super) fn retention(text: &str) -> Result<Value, Failure> {
    if let Ok(last) = text.parse::<u32>() {
        return Ok(last.into());
    }
    let mut table = Keys::new();
    for pair in text.split(',') {
        let wrong = || Failure::usage(format!("--retention {text}: write 7, or daily=7,weekly=4,within=30d"));
        let (key, value) = pair.split_once('=').ok_or_else(wrong)?;
        let value = value.trim().parse::<u32>().map_or_else(|_| value.trim().into(), Value::from);
        table.insert(key.trim().to_owned(), value);
    }
    Ok(Value::Object(table))
}

/// The keys as an argument of a call.
pub(super) fn options(keys: &Keys) -> Result<HashMap<&str, Variant<'static>>, Failure> {
    let one = |(key, value): (_, &Value)| match to_variant(value) {
        Ok(value) => Ok((key, value)),
        Err(why) => Err(Failure::usage(format!("{key}: {why}"))),
    };
    keys.iter().map(|(key, value)| one((key.as_str(), value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(pairs: &[&str]) -> Value {
        let mut keys = Keys::new();
        pairs.iter().for_each(|pair| set(&mut keys, pair).unwrap());
        Value::Object(keys)
    }

    #[test]
    fn values_are_toml_and_texts_need_no_quotes() {
        assert_eq!(
            of(&[
                "catch_up=true",
                "schedule=Mon..Fri 02:30",
                "retry.attempts=2",
                "retry.delay=15m",
                "x=[\"a\"]"
            ]),
            json!({
                "catch_up": true, "schedule": "Mon..Fri 02:30", "retry": {"attempts": 2, "delay": "15m"}, "x": ["a"],
            })
        );
    }

    #[test]
    fn a_value_cannot_smuggle_in_other_keys() {
        assert_eq!(of(&["a=daily\nenabled = false"]), json!({"a": "daily\nenabled = false"}));
        assert_eq!(of(&["a=1\nenabled = false"]), json!({"a": "1\nenabled = false"}));
    }

    #[test]
    fn malformed_pairs_are_usage_errors() {
        for bad in ["x", "=1", ".a=1", "a..b=1"] {
            assert_eq!(
                set(&mut Keys::new(), bad).unwrap_err().exit,
                super::super::failure::Exit::Usage,
                "{bad}"
            );
        }
        let mut keys = Keys::new();
        set(&mut keys, "a=1").unwrap();
        assert!(set(&mut keys, "a.b=1").is_err());
    }

    #[test]
    fn retention_is_a_number_or_a_table() {
        assert_eq!(retention("3").unwrap(), json!(3));
        assert_eq!(retention("daily=7,within=30d").unwrap(), json!({"daily": 7, "within": "30d"}));
        assert!(retention("often").is_err());
    }
}
