//! A small server that speaks what is documented of OpenSearch's API, and fails as it does. Indices are lists of lines;
//! snapshots are real files in a repository's directory.

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::plain_http::{Request, basic, plain, reply};
use super::servers::{PASSWORD, open_dir};

/// What becomes of a call, in place of its answer.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    /// An error of this status.
    Status(u16, &'static str),
    /// Half of the answer.
    Half,
    /// No answer at all; a file `at-hang` in the server's directory says that it came so far.
    Hang,
    /// Done, then the error.
    Late(u16, &'static str),
}

/// Which call is to fail: part of method and path, and how.
type Faults = Vec<(&'static str, Fault)>;

#[derive(Default)]
pub(crate) struct State {
    pub(crate) indices: BTreeMap<String, Vec<String>>,
    pub(crate) aliases: BTreeMap<String, Vec<String>>,
    /// Where each repository lies, and whether it is only read.
    pub(crate) repositories: BTreeMap<String, (PathBuf, bool)>,
    pub(crate) faults: Faults,
    /// How a snapshot ends; none: well.
    pub(crate) ends: Option<&'static str>,
    /// Whether a restored index lacks its last document.
    pub(crate) loses: bool,
    /// Shards of restored indices that failed, with the reason.
    broken: BTreeMap<String, String>,
    /// How often each unfinished snapshot was looked at.
    looks: usize,
    pub(crate) calls: Vec<String>,
    /// The number of the call that fails with 503.
    pub(crate) fail_at: Option<usize>,
}

pub(crate) struct SearchServer {
    pub(crate) dir: TempDir,
    pub(crate) port: u16,
    pub(crate) state: Arc<Mutex<State>>,
}

struct House {
    path: PathBuf,
    distribution: Option<&'static str>,
    state: Arc<Mutex<State>>,
}

impl SearchServer {
    pub(crate) fn start(distribution: Option<&'static str>) -> Self {
        let dir = open_dir();
        std::fs::create_dir(dir.path().join("repo")).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let house = Arc::new(House { path: dir.path().to_owned(), distribution, state: Arc::clone(&state) });
        // Ends with the test's process; nothing but this test knows its port.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let house = Arc::clone(&house);
                std::thread::spawn(move || house.serve(stream));
            }
        });
        Self { dir, port, state }
    }

    pub(crate) fn put(&self, index: &str, documents: &[&str]) {
        let documents = documents.iter().map(|text| (*text).to_owned()).collect();
        self.state.lock().unwrap().indices.insert(index.to_owned(), documents);
    }

    pub(crate) fn alias(&self, alias: &str, index: &str) {
        self.state.lock().unwrap().aliases.insert(alias.to_owned(), vec![index.to_owned()]);
    }

    /// All that applications see.
    pub(crate) fn seen(&self) -> (BTreeMap<String, Vec<String>>, BTreeMap<String, Vec<String>>) {
        let state = self.state.lock().unwrap();
        (state.indices.clone(), state.aliases.clone())
    }

    pub(crate) fn fault(&self, call: &'static str, fault: Fault) {
        self.state.lock().unwrap().faults = vec![(call, fault)];
    }

    /// Lets the call of this number fail.
    pub(crate) fn fail_at(&self, call: usize) {
        let mut state = self.state.lock().unwrap();
        (state.calls, state.fail_at) = (Vec::new(), Some(call));
    }

    pub(crate) fn well(&self) {
        let mut state = self.state.lock().unwrap();
        (state.faults, state.ends, state.loses, state.fail_at) = (Vec::new(), None, false, None);
    }

    /// Nothing of ours is on the server: no repository, no file, no index beside the others.
    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        let state = self.state.lock().unwrap();
        assert!(state.repositories.is_empty(), "{:?}", state.repositories);
        let ours: Vec<&String> = state.indices.keys().filter(|name| name.starts_with("holdfast")).collect();
        assert!(ours.is_empty(), "{ours:?}");
        assert_eq!(std::fs::read_dir(self.dir.path().join("repo")).unwrap().count(), 0, "files are left");
    }

    pub(crate) fn definition(&self, source: &str) -> String {
        format!(
            "source = \"{source}\"\nport = {}\nsnapshot_dir = \"{}\"\n",
            self.port,
            self.dir.path().join("repo").display()
        )
    }
}

type Answer = Result<Value, (u16, String)>;

fn refuse<T>(status: u16, kind: &str, reason: impl std::fmt::Display) -> Result<T, (u16, String)> {
    let text =
        json!({ "error": { "type": kind, "reason": reason.to_string() }, "status": status }).to_string();
    Err((status, text))
}

impl House {
    fn serve(&self, stream: TcpStream) {
        let Some(Request { method, target, authorization, body }) = Request::read(&stream) else { return };
        let call = format!("{method} {target}");
        let known = [basic(&format!("admin:{PASSWORD}")), format!("ApiKey {PASSWORD}")];
        let known = authorization.is_some_and(|given| known.contains(&given));
        let fault = self.fault_of(&call);
        let answer = match fault {
            _ if !known => refuse(401, "security_exception", "unable to authenticate user"),
            Some(Fault::Status(status, reason)) => refuse(status, "exception", reason),
            Some(Fault::Hang) => {
                std::fs::write(self.path.join("at-hang"), "").unwrap();
                loop {
                    std::thread::park();
                }
            }
            _ => self.answer(&method, &target, &body),
        };
        let answer = match fault {
            Some(Fault::Late(status, reason)) => refuse(status, "exception", reason),
            _ => answer,
        };
        let (status, text) = answer.map_or_else(|failure| failure, |value| (200, value.to_string()));
        let sent = if matches!(fault, Some(Fault::Half)) { &text[..text.len() / 2] } else { &text };
        reply(&stream, status, sent);
    }

    fn fault_of(&self, call: &str) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        state.calls.push(call.to_owned());
        if state.fail_at == Some(state.calls.len()) {
            return Some(Fault::Status(503, "no cluster manager"));
        }
        state.faults.iter().find(|(part, _)| format!("{call} ").contains(part)).map(|(_, fault)| *fault)
    }

    fn answer(&self, method: &str, target: &str, body: &Value) -> Answer {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let parts: Vec<String> = path.split('/').skip(1).map(plain).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let state = &mut *self.state.lock().unwrap();
        match (method, &parts[..]) {
            ("GET", [""]) => {
                let mut version = json!({ "number": "2.11.1" });
                if let Some(name) = self.distribution {
                    version["distribution"] = name.into();
                }
                Ok(json!({ "cluster_name": "c", "version": version }))
            }
            ("POST", ["_refresh"]) => Ok(json!({ "_shards": { "failed": 0 } })),
            ("GET", ["_cat", "indices"]) => {
                assert!(query.contains("format=json") && query.contains("expand_wildcards=all"), "{query}");
                let row = |(name, lines): (&String, &Vec<String>)| json!({ "index": name, "docs.count": lines.len().to_string() });
                Ok(state.indices.iter().map(row).collect())
            }
            ("GET", ["_cat", "shards"]) => Ok(state.indices.keys().map(|name| shard(state, name)).collect()),
            ("GET", ["_cat", "recovery"]) => Ok(json!([])),
            ("GET", ["_snapshot"]) => {
                let row = |(name, (_, readonly)): (&String, &(PathBuf, bool))| {
                    (name.clone(), json!({ "type": "fs", "settings": { "readonly": readonly.to_string() } }))
                };
                Ok(Value::Object(state.repositories.iter().map(row).collect()))
            }
            ("PUT", ["_snapshot", name]) => self.register(state, name, body),
            ("DELETE", ["_snapshot", name]) => match state.repositories.remove(*name) {
                Some(_) => Ok(json!({ "acknowledged": true })),
                None => refuse(404, "repository_missing_exception", name),
            },
            (_, ["_snapshot", name, rest @ ..]) => {
                let Some((place, readonly)) = state.repositories.get(*name).cloned() else {
                    return refuse(404, "repository_missing_exception", name);
                };
                match (method, rest) {
                    ("GET", ["_all"]) => snapshots(state, &place, false),
                    ("GET", ["set"]) => snapshots(state, &place, true),
                    ("GET", ["set", "_status"]) => Ok(
                        json!({ "snapshots": [{ "shards_stats": { "done": 0 }, "stats": { "processed": {} } }] }),
                    ),
                    ("PUT", ["set"]) if !readonly => take(state, &place, body),
                    ("DELETE", ["set"]) if !readonly => {
                        std::fs::write(place.join("index-1"), "{\"snapshots\":[],\"indices\":{}}").unwrap();
                        Ok(json!({ "acknowledged": true }))
                    }
                    ("POST", ["set", "_restore"]) => restore(state, &place, body),
                    _ => refuse(405, "method_not_allowed", target),
                }
            }
            ("DELETE", [name]) => {
                state.broken.remove(*name);
                state.aliases.retain(|_, of| of != &[(*name).to_owned()]);
                match state.indices.remove(*name) {
                    Some(_) => Ok(json!({ "acknowledged": true })),
                    None => refuse(404, "index_not_found_exception", name),
                }
            }
            _ => refuse(400, "illegal_argument_exception", target),
        }
    }

    fn register(&self, state: &mut State, name: &str, body: &Value) -> Answer {
        let location = PathBuf::from(body["settings"]["location"].as_str().unwrap());
        assert_eq!(body["type"], "fs");
        if !location.starts_with(&self.path) {
            return refuse(
                500,
                "repository_exception",
                "location doesn't match any of the locations specified by path.repo",
            );
        }
        std::fs::create_dir_all(&location).unwrap();
        state.repositories.insert(name.to_owned(), (location, body["settings"]["readonly"] == true));
        state.looks = 0;
        Ok(json!({ "acknowledged": true }))
    }
}

fn shard(state: &State, name: &str) -> Value {
    match state.broken.get(name) {
        Some(why) => json!({ "index": name, "shard": "0", "prirep": "p", "state": "UNASSIGNED",
            "unassigned.reason": "ALLOCATION_FAILED", "unassigned.details": why }),
        None => json!({ "index": name, "shard": "0", "prirep": "p", "state": "STARTED" }),
    }
}

/// Indices and aliases of a body's `indices`.
fn named(body: &Value) -> Vec<String> {
    body["indices"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

fn take(state: &mut State, place: &Path, body: &Value) -> Answer {
    assert_eq!((&body["partial"], &body["ignore_unavailable"]), (&json!(false), &json!(false)));
    let mut indices = serde_json::Map::new();
    for (number, name) in named(body).into_iter().enumerate() {
        let Some(lines) = state.indices.get(&name) else {
            return refuse(404, "index_not_found_exception", name);
        };
        let dir = place.join(format!("indices/i{number}/0"));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("__docs"), lines.join("\n")).unwrap();
        let aliases: Vec<&String> =
            state.aliases.iter().filter(|(_, of)| of.contains(&name)).map(|(alias, _)| alias).collect();
        indices.insert(name, json!({ "id": format!("i{number}"), "snapshots": ["u1"], "aliases": aliases }));
    }
    let list = json!({ "snapshots": [{ "name": "set", "uuid": "u1", "state": 1 }], "indices": indices });
    std::fs::write(place.join("index-0"), list.to_string()).unwrap();
    std::fs::write(place.join("index.latest"), 0_u64.to_be_bytes()).unwrap();
    state.looks = 0;
    Ok(json!({ "accepted": true }))
}

fn list(place: &Path) -> Value {
    let last = ["index-1", "index-0"].iter().find_map(|name| std::fs::read(place.join(name)).ok());
    last.map_or(Value::Null, |text| serde_json::from_slice(&text).unwrap())
}

fn snapshots(state: &mut State, place: &Path, one: bool) -> Answer {
    let list = list(place);
    if list["snapshots"].as_array().is_none_or(Vec::is_empty) {
        return if one {
            refuse(404, "snapshot_missing_exception", "set")
        } else {
            Ok(json!({ "snapshots": [] }))
        };
    }
    state.looks += 1;
    let indices: Vec<&String> = list["indices"].as_object().unwrap().keys().collect();
    let ends = if one { state.ends.unwrap_or("SUCCESS") } else { "SUCCESS" };
    let standing = if state.looks < 2 { "IN_PROGRESS" } else { ends };
    let readonly = state.repositories.values().any(|(dir, readonly)| dir == place && *readonly);
    let standing = if readonly { "SUCCESS" } else { standing };
    let failures = match standing {
        "PARTIAL" | "FAILED" => json!([{ "index": "shop", "shard_id": 0, "reason": "node left" }]),
        _ => json!([]),
    };
    Ok(
        json!({ "snapshots": [{ "snapshot": "set", "state": standing, "indices": indices, "failures": failures,
        "shards": { "total": 1, "failed": failures.as_array().unwrap().len() } }] }),
    )
}

fn restore(state: &mut State, place: &Path, body: &Value) -> Answer {
    let list = list(place);
    let prefix = body["rename_replacement"].as_str().map_or("", |text| text.strip_suffix("$1").unwrap());
    for name in named(body) {
        let Some(index) = list["indices"].get(&name) else {
            return refuse(404, "index_not_found_exception", name);
        };
        let new = format!("{prefix}{name}");
        if state.indices.contains_key(&new) {
            return refuse(
                500,
                "snapshot_restore_exception",
                format!("an open index with same name already exists: {new}"),
            );
        }
        let blob = place.join(format!("indices/{}/0/__docs", index["id"].as_str().unwrap()));
        let text = std::fs::read_to_string(&blob);
        if let Err(failure) = &text {
            state.broken.insert(new.clone(), format!("failed recovery of blob: {failure}"));
        }
        let mut lines: Vec<String> = text.unwrap_or_default().lines().map(str::to_owned).collect();
        if state.loses {
            lines.pop();
        }
        state.indices.insert(new.clone(), lines);
        if body["include_aliases"] == true {
            for alias in index["aliases"].as_array().unwrap() {
                state.aliases.insert(alias.as_str().unwrap().to_owned(), vec![new.clone()]);
            }
        }
    }
    Ok(json!({ "accepted": true }))
}
