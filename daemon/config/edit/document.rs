//! Changes of a TOML text that leave everything else as it stands.

use serde_json::Value as Json;
use toml_edit::{Array, Decor, DocumentMut, InlineTable, Item, RawString, Table, TableLike, Value};

use super::Keys;
use crate::config::parse::Kind;

/// Appends a definition.
pub(super) fn add(document: &mut DocumentMut, kind: Kind, name: &str, keys: Keys) {
    // What ends the file comes before what is appended to it.
    let mut above = document.trailing().as_str().unwrap_or_default().to_owned();
    document.set_trailing("");
    if !document.is_empty() || !above.is_empty() {
        above.push('\n');
    }
    let section = document.entry(kind.word()).or_insert_with(|| {
        let mut section = Table::new();
        section.set_implicit(true);
        Item::Table(section)
    });
    let mut table = Table::new();
    table.decor_mut().set_prefix(above);
    for (key, value) in keys {
        if let Some(value) = toml(&value) {
            table.insert(&key, Item::Value(value));
        }
    }
    if let Some(section) = section.as_table_like_mut() {
        section.insert(name, Item::Table(table));
    }
}

/// Changes keys of a definition; false when it is not there.
pub(super) fn alter(document: &mut DocumentMut, kind: Kind, name: &str, keys: Keys) -> bool {
    let Some(table) = definition(document, kind, name) else { return false };
    for (key, value) in keys {
        match toml(&value) {
            None => drop(table.remove(&key)),
            Some(value) => set(table, &key, value),
        }
    }
    true
}

fn definition<'d>(document: &'d mut DocumentMut, kind: Kind, name: &str) -> Option<&'d mut dyn TableLike> {
    document.get_mut(kind.word())?.as_table_like_mut()?.get_mut(name)?.as_table_like_mut()
}

fn set(table: &mut dyn TableLike, key: &str, mut value: Value) {
    let Some(item) = table.get_mut(key) else {
        table.insert(key, Item::Value(value));
        return;
    };
    if let Some(old) = item.as_value() {
        if let (Value::Array(old), Value::Array(new)) = (old, &mut value) {
            keep_elements(old, new);
        }
        *value.decor_mut() = old.decor().clone();
    }
    *item = Item::Value(value);
}

/// Elements of an array over several lines that stay keep their line and its comment; new ones are indented like them.
fn keep_elements(old: &Array, new: &mut Array) {
    let last = old.iter().last().and_then(|last| last.decor().prefix()?.as_str()?.rsplit_once('\n'));
    let Some((_, indent)) = last else { return };
    for element in new.iter_mut() {
        let same = |other: &&Value| other.as_str().is_some() && other.as_str() == element.as_str();
        match old.iter().find(same) {
            Some(kept) => *element = kept.clone(),
            None => *element.decor_mut() = Decor::new(format!("\n{indent}"), ""),
        }
    }
    new.set_trailing(old.trailing().clone());
    new.set_trailing_comma(old.trailing_comma());
}

/// Takes a definition away; false when it is not there. A comment right above it goes with it, one set off by a blank line stays.
pub(super) fn remove(document: &mut DocumentMut, kind: Kind, name: &str) -> bool {
    let section = document.get_mut(kind.word()).and_then(Item::as_table_like_mut);
    let Some(removed) = section.and_then(|section| section.remove(name)) else { return false };
    let Some(table) = removed.as_table() else { return true };
    let prefix = table.decor().prefix().and_then(RawString::as_str).unwrap_or_default();
    let kept = prefix.rfind("\n\n").map_or("", |at| &prefix[..at + 1]).to_owned();
    if kept.trim().is_empty() {
        return true;
    }
    let next = table.position().and_then(|position| following(document.as_table_mut(), position));
    match next {
        Some(next) => {
            let own = next.decor().prefix().and_then(RawString::as_str).unwrap_or_default().to_owned();
            next.decor_mut().set_prefix(format!("{kept}{own}"));
        }
        None => {
            let own = document.trailing().as_str().unwrap_or_default().to_owned();
            document.set_trailing(format!("{kept}{own}"));
        }
    }
    true
}

/// The first table with a header after a position.
fn following(table: &mut Table, position: isize) -> Option<&mut Table> {
    let mut best: Option<&mut Table> = None;
    for (_, item) in table.iter_mut() {
        let Item::Table(child) = item else { continue };
        let own = child.position().is_some_and(|at| at > position) && !child.is_implicit();
        let candidate = if own { Some(child) } else { following(child, position) };
        if let Some(candidate) = candidate
            && best.as_ref().is_none_or(|best| candidate.position() < best.position())
        {
            best = Some(candidate);
        }
    }
    best
}

/// A JSON value in TOML; `None` for null.
fn toml(value: &Json) -> Option<Value> {
    Some(match value {
        Json::Null => return None,
        Json::Bool(value) => (*value).into(),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => integer.into(),
            None => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(values) => Value::Array(values.iter().filter_map(toml).collect::<Array>()),
        Json::Object(table) => {
            let entries = table.iter().filter_map(|(key, value)| Some((key.clone(), toml(value)?)));
            Value::InlineTable(entries.collect::<InlineTable>())
        }
    })
}
