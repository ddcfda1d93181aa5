//! What is installed with the program: every file is right, and names every key.

use std::collections::BTreeSet;

use holdfast::config::{explain, schema};
use serde_json::Value;

use super::*;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

/// The sample with its commented keys made active: `#key` and `#[table]`, but not `# prose`.
fn sample() -> String {
    let text = std::fs::read_to_string(shipped("holdfast.toml")).unwrap();
    let active = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => rest.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(|line| active(line) + "\n").collect()
}

#[test]
fn every_shipped_file_is_right() {
    let etc = Etc::with(&std::fs::read_to_string(shipped("holdfast.toml")).unwrap());
    let mut names = 0;
    for entry in std::fs::read_dir(shipped("modules")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        etc.write(&format!("modules/{name}.toml"), std::fs::read(&path).unwrap());
        // A module is right only if an instance of it is.
        let extra = match name.as_str() {
            "ns8" | "dokuwiki" | "samba" => "user = 'u'\ninstall_dir = '/home/u/.config'\n",
            "microbosh" => "ssh = 'vcap@director'\ninclude_add = ['local:/srv/bosh/micro_bosh.yml']\n",
            _ => "",
        };
        etc.write(
            &format!("etc/conf.d/{name}.toml"),
            format!("[instance.{name}]\nmodule = '{name}'\n{extra}"),
        );
        names += 1;
    }
    let loaded = etc.load();
    assert_eq!((said(&loaded).as_str(), loaded.definitions.instances.len()), ("", names));
    assert!(names >= 3);
}

#[test]
fn the_sample_with_all_its_keys_is_right() {
    let etc = Etc::with(&sample());
    etc.write("modules/system.toml", std::fs::read(shipped("modules/system.toml")).unwrap());
    assert_eq!(said(&etc.load()), "");
}

#[test]
fn the_sample_names_every_key_and_no_other() {
    let named = keys_of_table(&toml::from_str::<Value>(&sample()).unwrap());
    let known = keys_of_schema(&schema());
    let missing: Vec<_> = known.difference(&named).collect();
    assert!(missing.is_empty(), "config/holdfast.toml does not name {missing:?}");
    let other: Vec<_> = named.difference(&known).collect();
    assert!(other.is_empty(), "the schema does not know {other:?}");
}

#[test]
fn the_shipped_schema_is_the_generated_one() {
    let generated = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    if std::env::var_os("HOLDFAST_WRITE_SCHEMA").is_some() {
        std::fs::write(shipped("schema.json"), &generated).unwrap();
    }
    let shipped = std::fs::read_to_string(shipped("schema.json")).unwrap();
    assert!(shipped == generated, "write it anew: HOLDFAST_WRITE_SCHEMA=1 cargo test --test config schema");
}

#[test]
fn every_key_of_the_schema_is_described_and_explained() {
    let undescribed = walk(&schema(), "");
    assert!(undescribed.is_empty(), "{undescribed:?}");
    let rows = explain(&Etc::with("[repository.r]\nurl='/r'\n[instance.i]\ninclude=['/i']\n[backup.b]\nrepositories=['r']\ninstances=['i']\n").load(), None).unwrap();
    let explained: BTreeSet<String> =
        rows.iter().map(|row| format!("{}.{}", row.definition.split('/').next().unwrap(), row.key)).collect();
    let top = keys_of_schema(&schema()).into_iter().map(|key| key.replace("module.", "instance."));
    let top = top.filter(|key| {
        key.matches('.').count() == 1 && !key.ends_with("_add") && !key.ends_with("_credential")
    });
    let missing: Vec<_> = top.filter(|key| !explained.contains(key) && !key.ends_with("_command")).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Properties without a description.
fn walk(schema: &Value, path: &str) -> Vec<String> {
    let mut missing = Vec::new();
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        if property["description"].as_str().is_none_or(str::is_empty) {
            missing.push(path.clone());
        }
        missing.extend(walk(property, &path));
        missing.extend(walk(&property["additionalProperties"], &path));
        missing.extend(property["anyOf"].as_array().into_iter().flatten().flat_map(|one| walk(one, &path)));
    }
    missing
}

/// `daemon.host`, `repository.prune.schedule`: without the names of definitions. What an instance shares with a module is the module's.
fn keys_of_schema(schema: &Value) -> BTreeSet<String> {
    fn below(schema: &Value, path: &str, all: &mut BTreeSet<String>) {
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            all.insert(format!("{path}.{key}"));
            below(property, &format!("{path}.{key}"), all);
            property["anyOf"]
                .as_array()
                .into_iter()
                .flatten()
                .for_each(|one| below(one, &format!("{path}.{key}"), all));
        }
    }
    let mut all = BTreeSet::new();
    for (section, property) in schema["properties"].as_object().unwrap() {
        let table = if section == "daemon" { property } else { &property["additionalProperties"] };
        below(table, section, &mut all);
    }
    shared(all)
}

fn keys_of_table(root: &Value) -> BTreeSet<String> {
    fn below(table: &Value, path: &str, all: &mut BTreeSet<String>) {
        for (key, value) in table.as_object().into_iter().flatten() {
            all.insert(format!("{path}.{key}"));
            if key != "volumes" {
                below(value, &format!("{path}.{key}"), all);
            }
        }
    }
    let mut all = BTreeSet::new();
    for (section, tables) in root.as_object().unwrap() {
        if section == "daemon" {
            below(tables, section, &mut all);
        } else {
            tables.as_object().unwrap().values().for_each(|table| below(table, section, &mut all));
        }
    }
    shared(all)
}

fn shared(all: BTreeSet<String>) -> BTreeSet<String> {
    let one = |key: String| if key == "instance.module" { key } else { key.replace("instance.", "module.") };
    all.into_iter().map(one).collect()
}
