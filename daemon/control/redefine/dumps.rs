//! The dumps of an instance for another machine or another name: which databases are its own then.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Databases, Rewrite};
use crate::control::Database;
use crate::job::restore::Saved;

/// Engines of whose databases several can live beside each other in one server.
const SEVERAL: [&str; 3] = ["postgresql", "mariadb", "mysql"];

impl Rewrite<'_> {
    /// Under which names the saved databases live: as given; that of a second instance which is called as the first
    /// instance has the new one's name; all others have their own.
    pub(super) fn names(&mut self, databases: &Databases<'_>) -> Vec<Database> {
        let saved = databases.saved.iter().filter(|saved| SEVERAL.contains(&saved.source.as_str()));
        let saved: BTreeSet<&String> = saved.flat_map(|saved| &saved.databases).collect();
        for given in databases.given.iter().filter(|given| !saved.contains(&given.saved)) {
            let there: Vec<&str> = saved.iter().map(|name| name.as_str()).collect();
            self.problems.push(format!(
                "the set holds no database {:?}; there are {}",
                given.saved,
                there.join(", ")
            ));
        }
        let names: Vec<Database> = saved.into_iter().map(|saved| self.name(saved, databases.given)).collect();
        let mut lives = BTreeSet::new();
        for twice in names.iter().filter(|name| !lives.insert(&name.lives)) {
            self.problems
                .push(format!("two databases would be called {:?}; give each its own name", twice.lives));
        }
        names
    }

    fn name(&self, saved: &str, given: &[Database]) -> Database {
        let lives = match given.iter().find(|given| given.saved == saved) {
            Some(given) => given.lives.clone(),
            None if self.second && saved == self.first => self.new_name(),
            None => saved.to_owned(),
        };
        Database { saved: saved.to_owned(), lives }
    }

    /// The tables of dumps. A second instance has none that would load into what the first one uses.
    pub(super) fn dumps(
        &mut self,
        tables: &Value,
        databases: &Databases<'_>,
        names: &[Database],
        notes: &mut Vec<String>,
    ) -> Value {
        let mut kept = Vec::new();
        for table in tables.as_array().into_iter().flatten().filter_map(Value::as_object) {
            let text = |key: &str| table.get(key).and_then(Value::as_str);
            let source = text("source").unwrap_or_default().to_owned();
            let name = text("name").unwrap_or(&source).to_owned();
            let saved = databases.saved.iter().find(|saved| saved.dump == name);
            let mut table = match (source.as_str(), saved) {
                ("sqlite", _) => self.files(table),
                _ if !self.second => self.renamed(table, names),
                (source, Some(saved)) if SEVERAL.contains(&source) => self.own(table, saved, names),
                _ => {
                    notes.push(self.left_out(&name, &source));
                    continue;
                }
            };
            if let Some(path) = databases.password_files.get(&name) {
                let path = self.text(&path.to_string_lossy(), false);
                table.insert("password_file".into(), path.into());
            }
            kept.push(Value::Object(table));
        }
        Value::Array(kept)
    }

    fn left_out(&self, name: &str, source: &str) -> String {
        let first = self.first;
        match SEVERAL.contains(&source) {
            true => format!("dump {name} was not taken over: the set holds nothing of it"),
            false => format!(
                "dump {name} was not taken over and is not loaded: it is all of a server that {first} uses; give the new \
                 instance one of its own, define that as a dump, and load into it what --target brings"
            ),
        }
    }

    /// The same server, and those databases only that come with this set.
    fn own(&mut self, table: &Map<String, Value>, saved: &Saved, names: &[Database]) -> Map<String, Value> {
        let mut table = self.table(table);
        let own = names.iter().filter(|name| saved.databases.contains(&name.saved));
        table.insert("databases".into(), own.map(|name| Value::from(name.lives.as_str())).collect());
        table.remove("exclude");
        table
    }

    /// The same databases, by the names that they have here.
    fn renamed(&mut self, table: &Map<String, Value>, names: &[Database]) -> Map<String, Value> {
        let mut table = self.table(table);
        for name in table.get_mut("databases").and_then(Value::as_array_mut).into_iter().flatten() {
            let new = names.iter().find(|known| name.as_str() == Some(&known.saved));
            if let Some(new) = new {
                *name = new.lives.as_str().into();
            }
        }
        table
    }

    /// Files of a database lie where the instance's data lies.
    fn files(&mut self, table: &Map<String, Value>) -> Map<String, Value> {
        let pairs = table.iter().map(|(key, value)| (key.clone(), self.value(value, key == "databases")));
        pairs.collect()
    }

    fn table(&mut self, table: &Map<String, Value>) -> Map<String, Value> {
        // Names of databases are no paths, whatever they begin with.
        let kept = |key: &str| matches!(key, "databases" | "exclude");
        let pairs = table.iter().map(|(key, value)| {
            (key.clone(), if kept(key) { value.clone() } else { self.value(value, false) })
        });
        pairs.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::super::{Redefined, redefine};
    use super::*;
    use crate::definition::Moves;

    fn redefined(second: bool, given: &[(&str, &str)]) -> Result<Redefined, Vec<String>> {
        let keys = json!({ "dump": [
            {"source": "postgresql", "name": "pg", "databases": ["/shop", "auth"], "exclude": ["x"],
             "password_file": "secrets/pg", "socket": "/run/postgresql"},
            {"source": "redis"}, {"source": "sqlite", "databases": ["/srv/shop/app.db", "state/y.db"]},
        ]});
        let saved = |dump: &str, source: &str, databases: &[&str]| Saved {
            dump: dump.into(),
            source: source.into(),
            databases: databases.iter().map(|name| (*name).to_owned()).collect(),
        };
        let saved = [saved("pg", "postgresql", &["/shop", "auth", "shop"]), saved("redis", "redis", &[])];
        let given: Vec<Database> = given
            .iter()
            .map(|(lives, saved)| Database { saved: (*saved).to_owned(), lives: (*lives).to_owned() })
            .collect();
        let password_files = BTreeMap::from([("pg".to_owned(), "/etc/holdfast/secrets/pg".into())]);
        let databases = Databases { saved: &saved, given: &given, password_files };
        let renamed = second.then(|| ("shop".to_owned(), "shop2".to_owned()));
        let moves = Moves { given: Vec::new(), renamed };
        redefine(keys.as_object().unwrap(), &moves, second, "shop", &databases)
    }

    #[test]
    fn a_second_instance_has_databases_and_files_of_its_own_and_no_server_that_holds_one_set_of_keys() {
        let Ok(Redefined { keys, notes, .. }) = redefined(true, &[("/b", "/shop")]) else {
            panic!("refused")
        };
        let expected = json!([
            {"source": "postgresql", "name": "pg", "databases": ["/b", "auth", "shop2"],
             "password_file": "/etc/holdfast/secrets/pg", "socket": "/run/postgresql"},
            {"source": "sqlite", "databases": ["/srv/shop2/app.db", "state/y.db"]},
        ]);
        assert_eq!(keys["dump"], expected);
        assert!(notes.len() == 1 && notes[0].contains("dump redis"), "{notes:?}");
    }

    #[test]
    fn on_another_machine_all_dumps_stay_and_given_names_count() {
        let Ok(Redefined { keys, notes, .. }) = redefined(false, &[("b", "auth")]) else { panic!("refused") };
        assert_eq!(keys["dump"][0]["databases"], json!(["/shop", "b"]));
        assert_eq!((keys["dump"].as_array().unwrap().len(), notes.len()), (3, 0));
    }

    #[test]
    fn names_that_clash_or_that_nothing_has_are_refused() {
        let Err(problems) = redefined(true, &[("auth", "/shop"), ("x", "y")]) else { panic!("taken") };
        assert!(problems[0].contains("holds no database \"y\""), "{problems:?}");
        assert!(problems[1].contains("two databases would be called \"auth\""), "{problems:?}");
    }
}
