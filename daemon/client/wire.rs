//! What comes over the bus, as JSON values: one shape for tables, `--json` and tests.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Map, Value};
use zbus::wire::{Array, Dict, Signature};
use zbus::{OwnedVariant, Variant};

/// The daemon's bus name, and the beginning of its interface and error names.
pub(super) const SERVICE: &str = "org.holdfast.Backup1";
/// Its root object.
pub(super) const ROOT: &str = "/org/holdfast/Backup1";

/// `a{sv}` as it came.
pub(super) type Wire = HashMap<String, OwnedVariant>;

/// One object's properties, or one row of an answer; keys as on the bus.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Row(Map<String, Value>);

impl From<Wire> for Row {
    fn from(wire: Wire) -> Self {
        Self(wire.iter().map(|(key, value)| (key.clone(), to_json(value))).collect())
    }
}

impl From<Map<String, Value>> for Row {
    fn from(map: Map<String, Value>) -> Self {
        Self(map)
    }
}

impl Row {
    /// A text; empty where it is missing.
    pub(super) fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// A number; 0 where it is missing.
    pub(super) fn number(&self, key: &str) -> u64 {
        self.0.get(key).and_then(Value::as_u64).unwrap_or_default()
    }

    /// A fraction; 0 where it is missing.
    pub(super) fn fraction(&self, key: &str) -> f64 {
        self.0.get(key).and_then(Value::as_f64).unwrap_or_default()
    }

    /// Whether it is true; a number other than 0 is.
    pub(super) fn flag(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|v| v.as_bool().unwrap_or_else(|| v.as_u64().is_some_and(|n| n != 0)))
    }

    /// An instant given in microseconds since the epoch; none: never (0), missing or out of range.
    pub(super) fn time(&self, key: &str) -> Option<Timestamp> {
        let micros = i64::try_from(self.number(key)).ok().filter(|n| *n != 0)?;
        Timestamp::from_microsecond(micros).ok()
    }

    /// A list of texts.
    pub(super) fn texts(&self, key: &str) -> Vec<&str> {
        self.array(key).filter_map(Value::as_str).collect()
    }

    /// A list of rows.
    pub(super) fn rows(&self, key: &str) -> Vec<Self> {
        self.array(key).filter_map(Value::as_object).map(|map| Self(map.clone())).collect()
    }

    fn array(&self, key: &str) -> impl Iterator<Item = &Value> {
        self.0.get(key).and_then(Value::as_array).into_iter().flatten()
    }

    /// Sets one key.
    pub(super) fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.to_owned(), value.into());
    }

    /// As JSON.
    pub(super) fn json(&self) -> Value {
        Value::Object(self.0.clone())
    }
}

/// Rows as a JSON array.
pub(super) fn json_rows<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Value {
    Value::Array(rows.into_iter().map(Row::json).collect())
}

/// A D-Bus value as JSON: numbers stay numbers, paths and signatures become texts, descriptors null.
pub(super) fn to_json(value: &Variant<'_>) -> Value {
    match value {
        Variant::U8(n) => (*n).into(),
        Variant::Bool(b) => (*b).into(),
        Variant::I16(n) => (*n).into(),
        Variant::U16(n) => (*n).into(),
        Variant::I32(n) => (*n).into(),
        Variant::U32(n) => (*n).into(),
        Variant::I64(n) => (*n).into(),
        Variant::U64(n) => (*n).into(),
        Variant::F64(n) => (*n).into(),
        Variant::Str(s) => s.as_str().into(),
        Variant::Signature(s) => s.to_string().into(),
        Variant::ObjectPath(p) => p.as_str().into(),
        Variant::Variant(inner) => to_json(inner),
        Variant::Array(array) => array.iter().map(to_json).collect(),
        Variant::Dict(dict) => Value::Object(dict.iter().map(|(k, v)| (key_text(k), to_json(v))).collect()),
        Variant::Structure(fields) => fields.fields().iter().map(to_json).collect(),
        Variant::Fd(_) => Value::Null,
    }
}

fn key_text(key: &Variant<'_>) -> String {
    match to_json(key) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// A definition's key as a D-Bus value: texts, integers, booleans, lists of texts and tables (`a{sv}`).
///
/// # Errors
/// What cannot be sent, as a sentence.
pub(super) fn to_variant(value: &Value) -> Result<Variant<'static>, String> {
    match value {
        Value::String(s) => Ok(s.clone().into()),
        Value::Bool(b) => Ok((*b).into()),
        Value::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(n), _) => Ok(n.into()),
            (None, Some(n)) => Ok(n.into()),
            _ => Err(format!("the number {n} is out of range")),
        },
        Value::Array(items) if items.iter().all(Value::is_string) => {
            Ok(items.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>().into())
        }
        Value::Array(items) => {
            let mut array = Array::new(&Signature::Variant);
            for item in items {
                let inner = Variant::Variant(Box::new(to_variant(item)?));
                array.append(inner).map_err(|e| e.to_string())?;
            }
            Ok(array.into())
        }
        Value::Object(map) => {
            let mut dict = Dict::new(&Signature::Str, &Signature::Variant);
            for (key, item) in map {
                let inner = Variant::Variant(Box::new(to_variant(item)?));
                dict.append(key.clone().into(), inner).map_err(|e| e.to_string())?;
            }
            Ok(dict.into())
        }
        Value::Null => Err("null means nothing in a definition".to_owned()),
    }
}

/// The object of a name under `kind`, escaped as systemd escapes: every byte other than an ASCII letter, or a digit that is
/// not first, as `_` and two hex digits. A job's id stands as it is.
pub(super) fn object_path(kind: &str, name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if kind == "job" && !name.is_empty() && name.bytes().all(plain) {
        return format!("{ROOT}/{kind}/{name}");
    }
    let escape = |(at, byte): (usize, u8)| match byte {
        b'0'..=b'9' if at > 0 => char::from(byte).to_string(),
        b'a'..=b'z' | b'A'..=b'Z' => char::from(byte).to_string(),
        other => format!("_{other:02x}"),
    };
    let label: String = name.bytes().enumerate().map(escape).collect();
    format!("{ROOT}/{kind}/{}", if label.is_empty() { "_" } else { &label })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_escaped_as_systemd_does() {
        assert_eq!(object_path("backup", "my-backup.1"), "/org/holdfast/Backup1/backup/my_2dbackup_2e1");
        assert_eq!(object_path("instance", "1st"), "/org/holdfast/Backup1/instance/_31st");
        assert_eq!(object_path("job", "j20261121Z_3f"), "/org/holdfast/Backup1/job/j20261121Z_3f");
        assert_eq!(object_path("job", "../x"), "/org/holdfast/Backup1/job/_2e_2e_2fx");
    }

    #[test]
    fn values_survive_the_way_to_the_bus_and_back() {
        let value = json!({
            "repositories": ["a", "b"], "retention": {"last": 3, "within": "30d"}, "enabled": true,
            "volumes": {"data": "/srv"}, "empty": [], "mixed": [1, "x"],
        });
        assert_eq!(to_json(&to_variant(&value).unwrap()), value);
    }

    #[test]
    fn zero_and_absent_times_are_never() {
        let row = Row::from(json!({"a": 0, "b": 1_700_000_000_000_000_u64}).as_object().unwrap().clone());
        assert_eq!(row.time("a"), None);
        assert_eq!(row.time("c"), None);
        assert_eq!(row.time("b").unwrap().as_second(), 1_700_000_000);
    }

    #[test]
    fn a_flag_may_be_a_number() {
        let row = Row::from(json!({"a": 0, "b": 5, "c": true, "d": false}).as_object().unwrap().clone());
        assert_eq!(["a", "b", "c", "d", "e"].map(|k| row.flag(k)), [false, true, true, false, false]);
    }
}
