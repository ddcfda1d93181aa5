//! holdfast.toml(5): every key of the definition files, from their schema.

use roff::{Roff, bold, italic, roman};
use serde_json::{Map, Value};

use super::{head, item, section, see_also};
use crate::config;

const DESCRIPTION: [&str; 4] = [
    "holdfastd(8) reads holdfast.toml, then conf.d/*.toml in name order, and the module library. Every table may stand in \
     any file; a name that is defined twice is an error that names both places. A bad definition stops no other one.",
    "After a change, `holdfast config check` says what is wrong, and `holdfast reload` makes it active in one step. \
     `holdfast config explain` says what is in force and where it came from.",
    "Durations are written 90s, 15m, 6h, 30d; sizes 500KiB, 10MiB. Programs are lists of arguments, never shell text. A \
     relative path of a file is relative to the file that names it.",
    "Files that others than root can write are refused.",
];

const EXAMPLE: &str = r#"[repository.disk]
url = "/mnt/backup"

[backup.nightly]
repositories = ["disk"]
instances = ["files"]
schedule = "daily"
retention = { daily = 7, weekly = 4, monthly = 12 }

[instance.files]
include = ["/home", "/etc"]"#;

pub(super) fn page() -> Roff {
    let synopsis =
        "/etc/holdfast/holdfast.toml, /etc/holdfast/conf.d/*.toml, /usr/share/holdfast/modules/*.toml";
    let mut page = head("holdfast.toml", "what is backed up, where to, when", synopsis, &DESCRIPTION);
    let schema = config::schema();
    let module = table(&schema, "module").cloned().unwrap_or_default();
    for name in ["daemon", "discovery", "repository", "backup", "instance", "module"] {
        let Some(keys) = table(&schema, name) else { continue };
        section(&mut page, &title(name));
        if name == "instance" {
            let text =
                "Every key of a module may stand here too, and wins over its module's. Of its own it has:";
            page.text([roman(text)]);
        }
        for (key, about) in keys.iter().filter(|(key, _)| name != "instance" || !module.contains_key(*key)) {
            entry(&mut page, key, about);
        }
    }
    section(&mut page, "EXAMPLE");
    page.control("nf", []);
    EXAMPLE.lines().for_each(|line| _ = page.text([roman(line)]));
    page.control("fi", []);
    see_also(&mut page, &["holdfast(1)", "holdfastd(8)", "org.holdfast.Backup1(5)"]);
    page
}

fn title(name: &str) -> String {
    if ["daemon", "discovery"].contains(&name) { format!("[{name}]") } else { format!("[{name}.NAME]") }
}

/// The keys of a table of the file; those of a named table are one level deeper.
fn table<'a>(schema: &'a Value, name: &str) -> Option<&'a Map<String, Value>> {
    let about = &schema["properties"][name];
    about["properties"].as_object().or_else(|| about["additionalProperties"]["properties"].as_object())
}

/// A key, and below it the keys of the table that it may be.
fn entry(page: &mut Roff, key: &str, about: &Value) {
    let mut meaning = about["description"].as_str().unwrap_or_default().to_owned();
    let examples = examples(about);
    if !examples.is_empty() {
        meaning.push_str(&format!(" For example {}.", examples.join(", ")));
    }
    item(page, vec![bold(key), roman(" = "), italic(kind(about))], &meaning);
    let forms = about["anyOf"].as_array().map_or(std::slice::from_ref(about), Vec::as_slice);
    let tables = forms.iter().map(|form| if form["type"] == "array" { &form["items"] } else { form });
    for (inner, about) in tables.filter_map(|form| form["properties"].as_object()).flatten() {
        entry(page, &format!("{key}.{inner}"), about);
    }
}

fn examples(about: &Value) -> Vec<String> {
    let of = |value: &Value| value["examples"].as_array().cloned().unwrap_or_default();
    let own = of(about);
    let shown = if own.is_empty() { of(&about["items"]) } else { own };
    shown.iter().map(ToString::to_string).collect()
}

/// What may stand behind the equals sign, in words.
fn kind(about: &Value) -> String {
    if let Some(forms) = about["anyOf"].as_array() {
        return forms.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    if let Some(words) = about["enum"].as_array() {
        return words.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
    }
    match about["type"].as_str() {
        Some("boolean") => "true or false".into(),
        Some("integer") => "number".into(),
        Some("array") => format!("list of {}", plural(&kind(&about["items"]))),
        Some("object") => "table".into(),
        Some(other) => other.into(),
        None => about["const"].to_string(),
    }
}

fn plural(kind: &str) -> String {
    if kind.contains(' ') { kind.into() } else { format!("{kind}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_key_of_every_table_is_on_the_page() {
        let (text, schema) = (page().to_roff(), config::schema());
        for name in ["daemon", "discovery", "repository", "backup", "instance", "module"] {
            let keys = table(&schema, name).unwrap();
            assert!(!keys.is_empty(), "{name}");
            for key in keys.keys() {
                assert!(text.contains(&format!("\\fB{}\\fR = ", key.replace('-', "\\-"))), "{name}.{key}");
            }
        }
        assert!(text.contains("\\fBretention.daily\\fR"), "keys of inner tables are there");
    }

    #[test]
    fn kinds_are_words() {
        assert_eq!(kind(&json!({"type": "array", "items": {"type": "string"}})), "list of strings");
        assert_eq!(kind(&json!({"anyOf": [{"const": false}, {"type": "object"}]})), "false or table");
        assert_eq!(kind(&json!({"enum": ["a", "b"]})), "\"a\" or \"b\"");
    }
}
