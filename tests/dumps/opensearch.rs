//! OpenSearch and Elasticsearch, against a server that speaks what is documented of them: neither is in Debian.

use super::search_server::{Fault, SearchServer};
use super::*;

pub(super) fn server() -> SearchServer {
    let server = SearchServer::start(Some("opensearch"));
    server.put("shop", &["one", "two"]);
    server.put("log-2024 ü;--'", &["x"]);
    server.put(".kibana_1", &["own"]);
    server.alias("sales", "shop");
    server
}

pub(super) fn definition(server: &SearchServer) -> String {
    format!("{}user = \"admin\"\npassword_file = \"{PASSWORD_FILE}\"\n", server.definition("opensearch"))
}

pub(super) fn change(server: &SearchServer) {
    server.put("shop", &["changed", "two", "three"]);
    server.put("late", &["x"]);
    let state = &mut *server.state.lock().unwrap();
    state.indices.remove("log-2024 ü;--'");
    state.aliases.clear();
}

#[tokio::test]
async fn indices_are_restored_with_their_aliases_into_their_own_server_and_rolled_back() {
    let (server, other) = (server(), SearchServer::start(Some("opensearch")));
    other.put("shop", &["other"]);
    let lab = setup("", &[definition(&server)]).start().await;
    let (indices, aliases) = server.seen();
    lab.good_backup("b").await;
    server.assert_clean();
    let dump = manifest(&lab)["dumps"][0].clone();
    assert_eq!(
        (&dump["file"], &dump["version"]),
        (&"dumps/opensearch/snapshot.tar".into(), &"2.11.1".into())
    );
    assert_eq!(
        dump["details"]["indices"][1],
        serde_json::json!({ "name": "shop", "documents": 2 }),
        "{dump:#}"
    );
    change(&server);
    let late = server.seen();
    lab.good_restore("app").await;
    let (now, names) = server.seen();
    assert_eq!(names, aliases);
    assert_eq!(now["late"], ["x"], "what came since stays");
    for (name, lines) in &indices {
        assert_eq!(&now[name], lines, "{name}");
    }
    server.assert_clean();
    assert_eq!(other.seen().0["shop"], ["other"]);
    roll_back(&lab).await;
    assert_eq!(server.seen(), late);
    server.assert_clean();
    assert!(other.state.lock().unwrap().calls.is_empty(), "the other server was asked");
    assert_no_canary(&lab);
    lab.assert_settled().await;
}

#[tokio::test]
async fn a_snapshot_that_is_not_whole_takes_no_set_and_leaves_nothing_on_the_server() {
    let server = server();
    let more = "stall_timeout = \"3s\"";
    let lab = setup(more, &[definition(&server)]).start().await;
    for (call, fault, word) in [
        ("PUT /_snapshot/holdfast", Fault::Status(500, "is not shared among all nodes"), "is not shared"),
        ("PUT /_snapshot/holdfast", Fault::Late(500, "verification failed"), "path.repo"),
        ("/set?wait", Fault::Status(503, "no cluster manager"), "503"),
        ("/set?wait", Fault::Late(503, "no cluster manager"), "beginning the snapshot"),
        ("GET /_cat/indices", Fault::Half, "asking for the indices"),
        ("/set/_status", Fault::Status(404, "snapshot_missing"), "snapshot_missing"),
        ("/set/_status", Fault::Half, "looking after the snapshot"),
        ("GET / ", Fault::Half, "asking the opensearch server"),
        ("GET / ", Fault::Hang, "asking the opensearch server"),
        ("/set/_status", Fault::Hang, "made no progress"),
    ] {
        server.fault(call, fault);
        refused(&lab, &lab.backup("b").await, word);
        server.well();
        server.assert_clean();
    }
    for (state, word) in [
        ("PARTIAL", "PARTIAL; shop[0]: node left"),
        ("FAILED", "FAILED; shop[0]: node left"),
        ("INCOMPATIBLE", "INCOMPATIBLE"),
        ("IN_PROGRESS", "the snapshot made no progress"),
    ] {
        server.state.lock().unwrap().ends = Some(state);
        refused(&lab, &lab.backup("b").await, word);
        server.well();
        server.assert_clean();
    }
    lab.write(&format!("config/{PASSWORD_FILE}"), "wrong\n", 0o600);
    refused(&lab, &lab.backup("b").await, "401");
    assert_no_canary(&lab);
    lab.assert_settled().await;
}

#[tokio::test]
async fn what_the_definition_says_of_the_server_is_compared_with_it() {
    let server = server();
    let there = definition(&server);
    let elsewhere = server.dir.path().join("elsewhere").display().to_string();
    let repo = server.dir.path().join("repo").display().to_string();
    for (keys, word) in [
        (there.replace("\"opensearch\"", "\"elasticsearch\""), "write source = \"opensearch\""),
        (format!("{there}databases = [\"nothing\"]"), "no index \"nothing\""),
        (format!("{there}server_dir = \"{elsewhere}\""), "is not the directory that we see"),
        (format!("{there}server_dir = \"/elsewhere\""), "path.repo"),
        (there.replace(&repo, "/no/such/directory"), "`snapshot_dir`"),
    ] {
        let lab = setup("", &[keys]).start().await;
        refused(&lab, &lab.backup("b").await, word);
        assert!(server.state.lock().unwrap().repositories.is_empty());
    }
}

/// What a restore may not change, and what it may not leave.
#[track_caller]
fn untouched(lab: &Lab, server: &SearchServer, late: &impl PartialEq<Seen>, what: &str) {
    assert!(*late == server.seen(), "{what}: {:?}\n{}", server.seen(), lab.daemon.log());
    server.assert_clean();
}

type Map = std::collections::BTreeMap<String, Vec<String>>;
type Seen = (Map, Map);

#[tokio::test]
async fn a_restore_that_fails_at_whatever_call_leaves_the_live_indices() {
    let server = server();
    let lab = setup("restore = { keep_previous = \"0s\" }", &[definition(&server)]).start().await;
    lab.good_backup("b").await;
    let (saved, _) = server.seen();
    change(&server);
    let late = server.seen();
    let mut failed = 0;
    for call in 1.. {
        server.well();
        server.fail_at(call);
        let ended = lab.restore("app", "", &[]).await;
        let made = server.state.lock().unwrap().calls.len();
        if ended.outcome == "failed" {
            failed += 1;
            untouched(&lab, &server, &late, &format!("call {call}"));
        } else {
            assert_eq!(server.seen().0["shop"], saved["shop"], "call {call}");
            change(&server);
        }
        if made < call {
            assert_eq!(ended.outcome, "succeeded", "{ended:#?}");
            break;
        }
    }
    assert!(failed > 20, "{failed} restores failed");
    lab.assert_settled().await;
}

#[tokio::test]
async fn shards_that_do_not_come_and_documents_that_are_missing_are_found_before_anything_live_is_touched() {
    let server = server();
    let mut setup = setup(HEALTH, &[definition(&server)]);
    fake(&mut setup, "tar", "[ ! -e \"$D/on-tar\" ] || . \"$D/on-tar\"\nexec \"$real\" \"$@\"");
    setup.write("health", "0\n", 0o644);
    let lab = setup.start().await;
    for (shell, word) in [
        ("exit 1", "exited with 1"),
        ("exit 0", "no whole repository"),
        ("\"$real\" \"$@\" | head -c 700; exit 0", "no whole repository"),
        ("\"$real\" \"$@\" | sed 's/\"set\"/\"sot\"/'; exit 0", "the snapshot is not in it"),
        ("\"$real\" \"$@\" | head -c 700; kill -9 $$", "signal 9"),
    ] {
        lab.on("tar", &format!("case \"$*\" in *--create*) {shell};; esac"));
        refused(&lab, &lab.backup("b").await, word);
        server.assert_clean();
    }
    lab.remove("on-tar");
    let good = lab.good_backup("b").await.units[0].snapshot.clone();
    lab.on("tar", "case \"$*\" in *--create*) \"$real\" --exclude=__docs \"$@\"; exit 0;; esac");
    lab.good_backup("b").await;
    lab.remove("on-tar");
    change(&server);
    let late = server.seen();
    not_restored(&lab, &lab.restore("app", "", &[]).await, "failed recovery of blob");
    untouched(&lab, &server, &late, "a shard");
    server.state.lock().unwrap().loses = true;
    not_restored(&lab, &lab.restore("app", &good, &[]).await, "the saved one had");
    server.well();
    untouched(&lab, &server, &late, "documents");
    server.fault("/_restore", Fault::Status(404, "index_not_found_exception"));
    not_restored(&lab, &lab.restore("app", &good, &[]).await, "index_not_found");
    server.well();
    untouched(&lab, &server, &late, "an index");
    lab.write("health", "1\n", 0o644);
    not_restored(&lab, &lab.restore("app", &good, &[]).await, "the old data is back");
    untouched(&lab, &server, &late, "health");
    lab.assert_settled().await;
}

#[tokio::test]
async fn killed_anywhere_nothing_stays_on_the_server_and_the_old_indices_live_after_the_next_start() {
    let server = server();
    let mut lab = setup(NO_ANSWER, &[definition(&server)]).start().await;
    let hung = server.dir.path().join("at-hang");
    let came = || std::fs::remove_file(&hung).is_ok();
    server.fault("/set/_status", Fault::Hang);
    lab.daemon.run_backup("b").await;
    crate::support::until("the snapshot is being made", came);
    server.well();
    lab.daemon.restart_after_kill().await;
    server.assert_clean();
    assert_eq!(lab.snapshots_in("repo"), 0);
    lab.good_backup("b").await;
    change(&server);
    let late = server.seen();
    server.fault("/_cat/shards", Fault::Hang);
    lab.start_restore("app", "", &[]).await;
    crate::support::until("indices are loaded beside the live ones", came);
    assert!(server.seen().0.keys().any(|name| name.starts_with("holdfast-")));
    server.well();
    lab.daemon.restart_after_kill().await;
    untouched(&lab, &server, &late, "beside");
    lab.start_restore("app", "", &[]).await;
    lab.reached("health").await;
    assert_eq!(server.seen().0["shop"], ["one", "two"], "the restored indices live already");
    lab.daemon.restart_after_kill().await;
    untouched(&lab, &server, &late, "health");
    assert_no_canary(&lab);
    lab.assert_settled().await;
}

#[tokio::test]
async fn elasticsearch_is_asked_with_a_key_in_place_of_a_user() {
    let server = SearchServer::start(None);
    server.put("shop", &["one", "two"]);
    let keys = format!(
        "{}api_key_file = \"{PASSWORD_FILE}\"\ndatabases = [\"sh*\"]\nglobal_state = true\n",
        server.definition("elasticsearch")
    );
    let lab = setup("", &[keys]).start().await;
    lab.good_backup("b").await;
    server.put("shop", &["changed"]);
    lab.good_restore("app").await;
    assert_eq!(server.seen().0["shop"], ["one", "two"]);
    server.assert_clean();
    assert_no_canary(&lab);
    lab.assert_settled().await;
}

#[tokio::test]
async fn a_repository_that_is_given_is_loaded_and_one_that_is_none_changes_nothing() {
    let server = server();
    let lab = setup("", &[definition(&server)]).start().await;
    let (before, _) = server.seen();
    lab.good_backup("b").await;
    let target = lab.path("out").display().to_string();
    let out = lab.restore("app", "", &[("target", zbus::wire::Variant::from(target.as_str()))]).await;
    assert_eq!(out.outcome, "succeeded", "{out:#?}");
    let file = lab.path("out/dumps/opensearch/snapshot.tar");
    change(&server);
    lab.good_backup("b").await;
    let late = server.seen();
    let cut = lab.path("cut.tar");
    std::fs::write(&cut, &std::fs::read(&file).unwrap()[..700]).unwrap();
    let ended = given::restore(&lab, &given::given(&[("opensearch", cut)])).await;
    not_restored(&lab, &ended, "no packed repository");
    untouched(&lab, &server, &late, "half a file");
    let ended = given::restore(&lab, &given::given(&[("opensearch", file)])).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", lab.daemon.log());
    assert_eq!(server.seen().0["shop"], before["shop"], "what was given, not what was saved last");
    roll_back(&lab).await;
    assert_eq!(server.seen(), late);
    server.assert_clean();
    lab.assert_settled().await;
}
