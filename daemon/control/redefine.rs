//! The keys of an instance for another machine or another name: where its paths lie then.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{Database, Keys};
use crate::definition::Moves;
use crate::job::restore::Saved;

mod dumps;

/// What a set says of databases, and what the caller does.
pub(super) struct Databases<'a> {
    /// What the set holds.
    pub(super) saved: &'a [Saved],
    /// Under which names they are to live.
    pub(super) given: &'a [Database],
    /// Where dumps of an instance that is defined here find their passwords, by the dumps' names.
    pub(super) password_files: BTreeMap<String, PathBuf>,
}

/// Keys for the new instance.
pub(super) struct Redefined {
    pub(super) keys: Keys,
    pub(super) moves: Moves,
    /// Under which names the saved databases are to live.
    pub(super) databases: Vec<Database>,
    /// What was left out, and what to do about it.
    pub(super) notes: Vec<String>,
}

/// Keys whose paths say where data lies: for a second instance each must lie elsewhere.
const DATA: [&str; 3] = ["install_dir", "include", "volumes"];
/// What belongs to the running application, of which there is only one.
const SHARED: [&str; 1] = ["service"];

/// How an include of this machine begins, where the instance is on another one.
const LOCAL: &str = "local:";

/// Rewrites the keys. `second`: the first instance goes on living beside it, so nothing of it may be touched.
///
/// # Errors
/// All paths of which nothing says where they lie, each with what to say.
pub(super) fn redefine(
    written: &Map<String, Value>,
    moves: &Moves,
    second: bool,
    first: &str,
    databases: &Databases<'_>,
) -> Result<Redefined, Vec<String>> {
    let mut rewrite = Rewrite { moves, second, first, user_moves: false, problems: Vec::new() };
    rewrite.user_moves = written.get("user").and_then(Value::as_str) == Some(first);
    let mut notes = Vec::new();
    let mut keys = Keys::new();
    let names = rewrite.names(databases);
    for (key, value) in written {
        if key == "dump" {
            let tables = rewrite.dumps(value, databases, &names, &mut notes);
            keys.insert(key.clone(), tables);
            continue;
        }
        if second && SHARED.contains(&key.as_str()) {
            notes.push(format!(
                "`{key}` was not taken over: it names what {first} uses; add to the new definition what the new one uses"
            ));
            // Not the module's either.
            keys.insert(key.clone(), Value::Array(Vec::new()));
            continue;
        }
        let value = match key.as_str() {
            "user" if second && rewrite.user_moves => rewrite.new_name().into(),
            key => rewrite.value(value, DATA.contains(&key)),
        };
        keys.insert(key.clone(), value);
    }
    if rewrite.problems.is_empty() {
        return Ok(Redefined { keys, moves: moves.clone(), databases: names, notes });
    }
    Err(rewrite.problems)
}

struct Rewrite<'a> {
    moves: &'a Moves,
    second: bool,
    first: &'a str,
    /// The second instance has a user of its own.
    user_moves: bool,
    problems: Vec<String>,
}

impl Rewrite<'_> {
    fn new_name(&self) -> String {
        self.moves.renamed.as_ref().map_or_else(|| self.first.to_owned(), |(_, new)| new.clone())
    }

    /// Every absolute path in a value; with `data` each must lie elsewhere for a second instance.
    fn value(&mut self, value: &Value, data: bool) -> Value {
        match value {
            Value::String(text) => self.text(text, data).into(),
            Value::Array(values) => values.iter().map(|value| self.value(value, data)).collect(),
            Value::Object(table) => Value::Object(
                table.iter().map(|(key, value)| (key.clone(), self.value(value, data))).collect(),
            ),
            other => other.clone(),
        }
    }

    fn text(&mut self, text: &str, data: bool) -> String {
        if let Some(path) = text.strip_prefix(LOCAL).filter(|path| path.starts_with('/')) {
            return format!("{LOCAL}{}", self.text(path, data));
        }
        let at_home = text == "~" || text.starts_with("~/");
        if at_home && data && self.second && !self.user_moves {
            self.problems.push(format!(
                "{text:?} lies in the home of the user that both would have; restore into a directory with target"
            ));
        }
        if !text.starts_with('/') {
            return text.to_owned();
        }
        match self.moves.of(Path::new(text)) {
            Some(moved) if moved != Path::new(text) => moved.to_string_lossy().into_owned(),
            _ if data && self.second => {
                self.problems.push(format!(
                    "nothing says where {text} of {} lies for {}; say it with map, as {text}=/other/place",
                    self.first,
                    self.new_name()
                ));
                text.to_owned()
            }
            _ => text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn keys() -> Map<String, Value> {
        let keys = json!({
            "module": "wiki", "user": "wiki1", "install_dir": "/home/wiki1/.config",
            "volumes": {"data": "/srv/wiki1/data"}, "include": ["state/a", "~/notes", "/srv/wiki1/files"],
            "exclude": ["*.tmp", "/srv/wiki1/files/cache"], "service": [{"units": ["wiki1.service"]}],
            "restore": {"health": {"command": ["/opt/wiki1/ask", "wiki"]}},
        });
        keys.as_object().unwrap().clone()
    }

    const NONE: Databases<'static> = Databases { saved: &[], given: &[], password_files: BTreeMap::new() };

    fn moves(given: &[(&str, &str)], new: Option<&str>) -> Moves {
        let given = given.iter().map(|(from, to)| (from.into(), to.into())).collect();
        Moves { given, renamed: new.map(|new| ("wiki1".into(), new.into())) }
    }

    #[test]
    fn a_second_instance_has_paths_of_its_own_and_leaves_the_firsts_services_alone() {
        let redefined =
            redefine(&keys(), &moves(&[("/srv/wiki1/data", "/data")], Some("wiki2")), true, "wiki1", &NONE);
        let Ok(Redefined { keys, notes, .. }) = redefined else { panic!("refused") };
        let expected = json!({
            "module": "wiki", "user": "wiki2", "install_dir": "/home/wiki2/.config", "volumes": {"data": "/data"},
            "include": ["state/a", "~/notes", "/srv/wiki2/files"], "exclude": ["*.tmp", "/srv/wiki2/files/cache"],
            "restore": {"health": {"command": ["/opt/wiki2/ask", "wiki"]}}, "service": [],
        });
        assert_eq!(json!(keys), expected);
        assert!(notes.len() == 1 && notes[0].contains("`service`"), "{notes:?}");
    }

    #[test]
    fn each_path_of_which_nothing_says_where_it_lies_is_named_with_what_to_say() {
        let written =
            json!({"include": ["/srv/data", "~/x"], "volumes": {"a": "/vol"}, "install_dir": "/opt/app"});
        let refused =
            redefine(written.as_object().unwrap(), &moves(&[], Some("wiki2")), true, "wiki1", &NONE);
        let Err(problems) = refused else { panic!("taken") };
        let all = problems.join("\n");
        assert_eq!(problems.len(), 4, "{all}");
        for word in ["/srv/data=/other/place", "/vol", "/opt/app", "~/x"] {
            assert!(all.contains(word), "{word}: {all}");
        }
    }

    #[test]
    fn on_another_machine_all_stays_where_it_was_but_what_is_mapped() {
        let Ok(redefined) = redefine(&keys(), &moves(&[("/srv", "/data")], None), false, "wiki1", &NONE)
        else {
            panic!("refused")
        };
        assert_eq!(redefined.keys["install_dir"], "/home/wiki1/.config");
        assert_eq!(redefined.keys["include"], json!(["state/a", "~/notes", "/data/wiki1/files"]));
        assert!(redefined.keys.contains_key("service"));
    }
}
