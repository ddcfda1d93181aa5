//! MongoDB and OpenSearch on another machine, TLS to servers there, and half a dump of a program that says that all is well.

use super::certificates::Certificates;
use super::etcd::Etcd;
use super::host::Host;
use super::mongodb::{KEYS, change, seen, tools};
use super::over_ssh::{assert_secret, there};
use super::rabbitmq::Rabbit;
use super::search_server::SearchServer;
use super::servers::{Mariadb, Postgres};
use super::*;

/// A daemon without MongoDB's tools, which are on the other machine.
async fn with_mongo(host: &Host, more: &str) -> Lab {
    let mut setup = there(host, more, &[KEYS.to_owned()]);
    tools(&mut setup);
    std::fs::create_dir_all(host.path("bin")).unwrap();
    for tool in ["mongodump", "mongorestore", "mongosh"] {
        let from = setup.path(&format!("fake/{tool}"));
        std::fs::copy(&from, host.path("bin").join(tool)).unwrap();
        std::fs::remove_file(from).unwrap();
    }
    setup.start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn mongodb_on_another_machine_is_dumped_restored_and_put_back_by_the_tools_there() {
    let host = Host::start();
    let mut lab = with_mongo(&host, NO_ANSWER).await;
    for (shell, word) in [
        ("real \"$@\" | head -c 60; exit 0", "cut off"),
        ("real \"$@\" | head -c -1; exit 0", "cut off"),
        ("real \"$@\" | head -c 60; kill -9 $$", "mongodump"),
    ] {
        lab.on("mongodump", &format!("case \"$*\" in *--archive*) {shell};; esac"));
        refused(&lab, &lab.backup("b").await, word);
    }
    lab.remove("on-mongodump");
    lab.good_backup("b").await;
    let before = seen(&lab);
    let late = change(&lab);
    // Killed when the documents are loaded already.
    lab.start_restore("app", "", &[]).await;
    lab.reached("health").await;
    assert_eq!(lab.text("mongo/shop/item"), "one\ntwo\n");
    host.refuse(true);
    lab.daemon.restart_after_kill().await;
    lab.until("there is an alarm", || lab.daemon.log().contains("is not put right yet")).await;
    host.refuse(false);
    lab.until("all is undone", || lab::names(&lab.path("state/undo")).is_empty()).await;
    let mut undone = seen(&lab);
    // A database that the restore made is gone; its directory is what the tools of the tests leave.
    undone.retain(|_, text| !text.is_empty());
    let mut wanted = late.clone();
    wanted.retain(|_, text| !text.is_empty());
    assert_eq!(undone, wanted, "{}", lab.daemon.log());
    assert_ne!(seen(&lab), before);
    let calls = lab.text("tool-calls");
    assert!(!calls.contains("9184") && calls.contains("--config=/dev/fd/3"), "{calls}");
    assert_eq!(lab::names(&host.path("tmp")), [""; 0], "what was spooled there is gone");
    assert_secret(&host, &lab);
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_of_mongodb_come_back_over_ssh_whole_and_go_again() {
    let host = Host::start();
    let lab = with_mongo(&host, "").await;
    lab.good_backup("b").await;
    let before = seen(&lab);
    let late = change(&lab);
    // Lost while it loads, and again while the old documents are loaded back.
    host.on_remote(
        "export TMPDIR=\"$D/tmp\"\ncase $SSH_ORIGINAL_COMMAND in *mongorestore*nsInclude*) \
         for n in 1 2; do ! mkdir \"$D/lost$n\" 2>/dev/null || { kill -9 $PPID; exit; }; done ;; esac",
    );
    not_restored(&lab, &lab.restore("app", "", &[]).await, "the old data is back");
    assert!(host.path("lost2").exists());
    assert_eq!(seen(&lab), late, "{}", lab.daemon.log());
    lab.good_restore("app").await;
    let mut wanted = before;
    wanted.insert("admin/system.users".into(), "root\nlate\n".into());
    assert_eq!(seen(&lab), wanted, "{}", lab.daemon.log());
    roll_back(&lab).await;
    assert_eq!(seen(&lab), late);
    assert_secret(&host, &lab);
    lab.assert_settled().await;
}

fn search() -> SearchServer {
    opensearch::server()
}

#[tokio::test(flavor = "multi_thread")]
async fn indices_on_another_machine_are_packed_and_laid_there_and_nothing_stays_of_what_is_lost_half_way() {
    let (host, server) = (Host::start(), search());
    let mut lab = there(&host, NO_ANSWER, &[opensearch::definition(&server)]).start().await;
    let does = "/bin/sh -c \"$SSH_ORIGINAL_COMMAND\"";
    for (verb, shell, word) in [
        ("pack", format!("{does} | head -c 700; exit 0"), "dump opensearch"),
        ("pack", format!("{does} | head -c 700; kill -9 $PPID"), "over ssh"),
        ("look", "echo no such directory >&2; exit 1".to_owned(), "no such directory"),
    ] {
        host.on_remote(&format!("case $SSH_ORIGINAL_COMMAND in *' sh {verb} '*) {shell};; esac"));
        refused(&lab, &lab.backup("b").await, word);
        server.assert_clean();
    }
    host.let_be();
    lab.good_backup("b").await;
    server.assert_clean();
    assert!(host.calls().iter().any(|call| call.contains("curl")), "{:?}", host.calls());
    let before = server.seen();
    opensearch::change(&server);
    let late = server.seen();
    host.on_remote("case $SSH_ORIGINAL_COMMAND in *' sh lay '*) head -c 700 | /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"; kill -9 $PPID;; esac");
    not_restored(&lab, &lab.restore("app", "", &[]).await, "over ssh");
    assert_eq!(server.seen(), late);
    server.assert_clean();
    host.let_be();
    lab.start_restore("app", "", &[]).await;
    lab.reached("health").await;
    assert_eq!(server.seen().0["shop"], before.0["shop"], "the restored indices live already");
    lab.daemon.restart_after_kill().await;
    lab.until("all is undone", || lab::names(&lab.path("state/undo")).is_empty()).await;
    assert_eq!(server.seen(), late, "{}", lab.daemon.log());
    server.assert_clean();
    assert_secret(&host, &lab);
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn indices_come_back_over_ssh_with_their_aliases_and_go_again() {
    let (host, server) = (Host::start(), search());
    let lab = there(&host, "", &[opensearch::definition(&server)]).start().await;
    lab.good_backup("b").await;
    let (indices, aliases) = server.seen();
    opensearch::change(&server);
    let late = server.seen();
    lab.good_restore("app").await;
    let (now, names) = server.seen();
    assert_eq!(names, aliases);
    for (name, lines) in &indices {
        assert_eq!(&now[name], lines, "{name}");
    }
    server.assert_clean();
    roll_back(&lab).await;
    assert_eq!(server.seen(), late);
    server.assert_clean();
    assert_secret(&host, &lab);
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_ssh_too_a_server_is_checked_by_an_authority_and_asks_for_a_certificate() {
    let (host, dir) = (Host::start(), servers::open_dir());
    let server = Etcd::start_with("first", Some(Certificates::make(dir.path())));
    let other = server.definition().replace("/ca.pem", "/other.pem");
    let lab = there(&host, "", &[other]).start().await;
    refused(&lab, &lab.backup("b").await, "certificate");
    drop(lab);
    std::fs::remove_dir(host.path("tmp")).unwrap();
    let lab = there(&host, "", &[server.definition()]).start().await;
    lab.good_backup("b").await;
    server.change();
    lab.good_restore("app").await;
    assert_eq!(server.state(), "/app/a\nfirst", "{}", lab.daemon.log());
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_dump_of_a_program_that_exits_with_0_over_ssh_makes_no_set() {
    let host = Host::start();
    let (postgres, mariadb) = (Postgres::start(), Mariadb::start());
    for name in ["staged", "streamed"] {
        postgres.ask("postgres", &format!("create database {name}"));
        postgres.ask(name, "create table item as select g, md5(g::text) from generate_series(1, 2000) g");
        mariadb.ask(&format!(
            "create database {name}; use {name}; create table t as select seq from seq_1_to_2000"
        ));
    }
    for (program, real) in
        [("pg_dump", servers::postgres_program("pg_dump")), ("mariadb-dump", "/usr/bin/mariadb-dump".into())]
    {
        let script = format!(
            "#!/bin/bash\nD='@DIR@'\nif [ -e \"$D/half\" ]; then case \"{program} $*\" in\n\
             $(cat \"$D/half\")) '{real}' \"$@\" >\"$D/whole\"; s=$(stat -c %s \"$D/whole\"); head -c $((s * $(cat \"$D/percent\") / 100)) \"$D/whole\"; exit 0;;\n\
             esac; fi\nexec '{real}' \"$@\"\n"
        );
        host.write(&format!("bin/{program}"), &script, 0o755);
    }
    let keys = |definition: String, name: &str| {
        let stream = if name == "streamed" { "stream = true\n" } else { "" };
        let source = definition.split('"').nth(1).unwrap().to_owned();
        format!(
            "{stream}{definition}password_file = \"{PASSWORD_FILE}\"\ndatabases = [\"{name}\"]\nname = \"{source}-{name}\"\n"
        )
    };
    let all: Vec<String> = [postgres.definition(), mariadb.definition()]
        .into_iter()
        .flat_map(|one| ["staged", "streamed"].map(|name| keys(one.clone(), name)))
        .collect();
    let lab = there(&host, "", &all).start().await;
    for program in ["pg_dump", "mariadb-dump"] {
        for name in ["staged", "streamed"] {
            for percent in ["50", "99"] {
                host.write("percent", percent, 0o644);
                host.write("half", &format!("{program}*{name}*"), 0o644);
                let ended = lab.backup("b").await;
                let what = format!("{percent} % of {name} by {program}: {ended:#?}\n{}", lab.daemon.log());
                assert!(host.path("whole").exists(), "{what}");
                std::fs::remove_file(host.path("whole")).unwrap();
                assert_eq!(ended.outcome, "failed", "{what}");
                assert_eq!(lab.sets("app").await.len(), 0, "{what}");
            }
        }
    }
    std::fs::remove_file(host.path("half")).unwrap();
    lab.good_backup("b").await;
    assert_secret(&host, &lab);
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_on_another_machine_are_saved_while_the_node_is_stopped_and_come_back_and_go_again() {
    let (host, server) = (Host::start(), Rabbit::begin().wait());
    server.tell("PUT", "queues/%2f/orders", serde_json::json!({"durable": true}));
    ["one", "two"].iter().for_each(|text| server.publish(text));
    let keys = server.node().replace("until = \"restore\"", "until = \"dump\"");
    let mut lab = there(&host, NO_ANSWER, &[keys]).start().await;
    lab.good_backup("b").await;
    assert_eq!(manifest(&lab)["dumps"][0]["details"]["node"], "one@localhost");
    assert_eq!(server.messages(), ["one", "two"], "{}", lab.daemon.log());
    servers::good(server.call("DELETE", "queues/%2f/orders/contents", None));
    server.publish("late");
    let running = lab.restore("app", "", &[("stop", zbus::wire::Variant::from(false))]).await;
    not_restored(&lab, &running, "a server has");
    // Killed when the restored node runs already.
    lab.start_restore("app", "", &[]).await;
    lab.reached("health").await;
    assert_eq!(server.messages(), ["one", "two"], "{}", lab.daemon.log());
    lab.daemon.restart_after_kill().await;
    lab.until("all is undone", || lab::names(&lab.path("state/undo")).is_empty()).await;
    assert_eq!(server.messages(), ["late"], "{}", lab.daemon.log());
    let text = lab.text("config/holdfast.toml");
    let (from, to) = (text.find("restore = {").unwrap(), text.find("[[instance.app.dump]]").unwrap());
    lab.write("config/holdfast.toml", &(text[..from].to_owned() + &text[to..]), 0o600);
    let said: Vec<String> = lab.daemon.call("Reload", &()).await.unwrap();
    assert_eq!(said, Vec::<String>::new());
    lab.good_restore("app").await;
    assert_eq!(server.messages(), ["one", "two"], "{}", lab.daemon.log());
    roll_back(&lab).await;
    assert_eq!(server.messages(), ["late"]);
    server.kill();
    let ended = lab.backup("b").await;
    assert!(ended.units[0].error.contains("was killed"), "{ended:#?}");
    assert_secret(&host, &lab);
    lab.assert_settled().await;
}
