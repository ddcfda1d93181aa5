//! The rooms of `daemon/` import downwards only, and the tree keeps its shape. What may import what stands in one table.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that is not as it should be")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room and the rooms it may import, besides itself. Adding an arrow is a decision: it is made here, in the open.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("calendar", &[]),
    ("definition", &["calendar"]),
    ("process", &[]),
    ("archive", &[]),
    ("target", &["definition", "process"]),
    ("service_control", &["definition", "process", "target"]),
    ("restic", &["process"]),
    ("state", &["definition"]),
    ("queue", &["state"]),
    ("dump", &["archive", "definition", "process", "state", "target"]),
    (
        "job",
        &[
            "archive",
            "definition",
            "dump",
            "process",
            "queue",
            "restic",
            "service_control",
            "state",
            "target",
        ],
    ),
    ("schedule", &["calendar"]),
    ("config", &["calendar", "definition"]),
    (
        "control",
        &[
            "calendar",
            "config",
            "definition",
            "job",
            "queue",
            "restic",
            "schedule",
            "service_control",
            "state",
            "target",
        ],
    ),
    ("bus", &["control", "definition", "state"]),
    ("service", &["bus", "control", "job", "process", "state"]),
    (
        "client",
        &[
            "calendar",
            "config",
            "control",
            "definition",
            "job",
            "process",
            "restic",
            "service",
            "state",
            "target",
        ],
    ),
];

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(sources(&path)),
            false if path.extension().is_some_and(|e| e == "rs") => found.push(path),
            false => {}
        }
    }
    found.sort();
    found
}

/// The code before the tests beside it.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let code: Vec<&str> = text.lines().take_while(|line| line.trim() != "#[cfg(test)]").collect();
    code.into_iter().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The rooms that a text imports or names: `crate::ROOM` and `crate::{ROOM::…, ROOM}`.
fn imported(text: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for rest in text.split("crate::").skip(1) {
        let word = |text: &str| -> String {
            text.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect()
        };
        match rest.strip_prefix('{') {
            Some(list) => rooms
                .extend(list.split(['}', ';']).next().unwrap_or("").split(',').map(|part| word(part.trim()))),
            None => rooms.push(word(rest)),
        }
    }
    rooms.retain(|room| !room.is_empty());
    rooms
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("daemon")
}

#[test]
fn arrows_point_downwards_only() {
    let rules: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    let mut wrong = Vec::new();
    for path in sources(&root()) {
        let relative = path.strip_prefix(root()).unwrap();
        let Some(room) = relative.parent().and_then(|p| p.components().next()) else { continue };
        let room = room.as_os_str().to_str().unwrap();
        let allowed = rules.get(room).unwrap_or_else(|| panic!("room {room} is not in the table"));
        for import in imported(&code(&path)) {
            if import != room && !allowed.contains(&import.as_str()) {
                wrong.push(format!("{}: {room} -> {import}", relative.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that are not in the table:\n{}", wrong.join("\n"));
}

#[test]
fn the_table_has_no_cycle() {
    let rules: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    let mut left: Vec<&str> = rules.keys().copied().collect();
    while let Some(at) = left.iter().position(|room| rules[room].iter().all(|needed| !left.contains(needed)))
    {
        left.remove(at);
    }
    assert!(left.is_empty(), "these rooms import each other in a circle: {left:?}");
}

#[test]
fn the_table_names_no_arrow_that_is_not_there() {
    let mut used: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in sources(&root()) {
        let relative = path.strip_prefix(root()).unwrap();
        if let Some(room) = relative.parent().and_then(|p| p.components().next()) {
            used.entry(room.as_os_str().to_str().unwrap().to_owned())
                .or_default()
                .extend(imported(&code(&path)));
        }
    }
    let mut unused = Vec::new();
    for (room, allowed) in MAY_IMPORT {
        let imports = used.get(*room).cloned().unwrap_or_default();
        unused.extend(
            allowed.iter().filter(|a| !imports.iter().any(|i| i == *a)).map(|a| format!("{room} -> {a}")),
        );
    }
    assert!(unused.is_empty(), "remove these arrows from the table: {unused:?}");
}

#[test]
fn only_process_spawns() {
    let spawns =
        |path: &PathBuf| !path.starts_with(root().join("process")) && code(path).contains("Command::new");
    let wrong: Vec<_> = sources(&root()).into_iter().filter(spawns).collect();
    assert!(wrong.is_empty(), "only process/ spawns: {wrong:?}");
}

#[test]
fn files_stay_below_400_lines() {
    let long = |path: &PathBuf| fs::read_to_string(path).unwrap().lines().count() > 400;
    let wrong: Vec<_> = sources(&root()).into_iter().filter(long).collect();
    assert!(wrong.is_empty(), "split these: {wrong:?}");
}

#[test]
fn no_room_is_a_drawer_for_everything() {
    let drawer = |path: &PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap();
        ["utils", "util", "common", "helpers", "helper", "misc"].contains(&name)
    };
    let wrong: Vec<_> = sources(&root()).into_iter().filter(drawer).collect();
    assert!(wrong.is_empty(), "say what these are for: {wrong:?}");
}
