//! MariaDB of another machine: its programs run there, its dumps come over the connection.

use crate::far::files;
use crate::host::Host;
use crate::servers::{Mariadb, PASSWORD};

/// A server with two databases.
fn wiki() -> Mariadb {
    let server = Mariadb::start();
    for name in ["wiki", "`it's; odd`"] {
        server.ask(&format!(
            "create database {name}; create table {name}.page(id int primary key, body blob); \
             insert into {name}.page values (1, x'00ff27'), (2, 'two'); create procedure {name}.p() select 1"
        ));
    }
    server
}

fn state(server: &Mariadb) -> Vec<String> {
    let mut all = vec![server.ask("show databases")];
    for name in ["wiki", "`it's; odd`"] {
        all.push(server.ask(&format!("select id, hex(body) from {name}.page order by id; call {name}.p()")));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_are_dumped_and_restored_over_ssh_into_their_own_server() {
    let (host, server, other) = (Host::start(), wiki(), wiki());
    let setup = files(&host);
    setup.write("config/db.password", &format!("{PASSWORD}\n"), 0o600);
    let dump = format!("[[instance.app.dump]]\n{}password_file = \"db.password\"\n", server.definition());
    let lab = setup.config(&dump).start().await;
    let before = state(&server);
    lab.good_backup("b").await;
    let did = host.calls().join("\n");
    assert!(did.contains("mariadb-dump") && !did.contains("canary"), "{did}");
    server.ask("delete from wiki.page; insert into `it's; odd`.page values (7, 'seven')");
    other.ask("insert into wiki.page values (8, 'eight')");
    let (late, wrong) = (state(&server), state(&other));
    lab.good_restore("app").await;
    assert_eq!(state(&server), before);
    assert_eq!(state(&other), wrong, "the other server was touched");
    let job: zbus::wire::OwnedObjectPath = lab.daemon.call("Rollback", &("app",)).await.unwrap();
    let ended = lab.ended(&job).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:?}\n{}", lab.daemon.log());
    assert_eq!(state(&server), late);
    // The connection is lost while it is dumped: no set; while it is loaded: as before.
    host.on_remote("case $SSH_ORIGINAL_COMMAND in *--version*) ;; *mariadb-dump*) kill -9 $PPID ;; esac");
    assert_eq!(lab.backup("b").await.outcome, "failed");
    host.let_be();
    assert_eq!(lab.sets("app").await.len(), 1);
    assert!(!host.calls().join("\n").contains("canary") && !lab.daemon.log().contains("canary"));
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_in_a_container_there_is_dumped_and_restored_with_what_the_container_was_started_with() {
    for stream in [false, true] {
        let (host, server) = (Host::start(), wiki());
        crate::engine::plant(&host);
        let password = PASSWORD.replace('\\', "\\\\");
        host.write("db-env", &format!("[\"MARIADB_ROOT_PASSWORD={password}\"]"), 0o600);
        let dump =
            format!("[[instance.app.dump]]\n{}container = \"db\"\nstream = {stream}\n", server.definition());
        let mut lab = files(&host).config(&dump).start().await;
        let before = state(&server);
        lab.good_backup("b").await;
        let did = host.calls().join("\n");
        assert!(did.contains("docker exec -i 0123abcd") && !did.contains("canary"), "{did}");
        server.ask("delete from wiki.page; insert into `it's; odd`.page values (7, 'seven')");
        let late = state(&server);
        if !stream {
            killed_while_it_is_loaded(&host, &mut lab).await;
            assert_eq!(state(&server), late, "{}", lab.daemon.log());
        }
        lab.good_restore("app").await;
        assert_eq!(state(&server), before);
        let sets = lab.sets("app").await.len();
        host.on_remote("case $SSH_ORIGINAL_COMMAND in *--version*) ;; *mariadb-dump*) kill -9 $PPID ;; esac");
        assert_eq!(lab.backup("b").await.outcome, "failed");
        host.on_remote("case $SSH_ORIGINAL_COMMAND in *mariadb-dump*) rm -f \"$D/db-runs\" ;; esac");
        assert_eq!(lab.backup("b").await.outcome, "failed", "the container is gone");
        host.let_be();
        assert_eq!(lab.sets("app").await.len(), sets);
        assert!(!host.calls().join("\n").contains("canary") && !lab.daemon.log().contains("canary"));
        lab.assert_settled().await;
    }
}

/// As before once it runs again.
async fn killed_while_it_is_loaded(host: &Host, lab: &mut crate::lab::Lab) {
    host.on_remote(
        "case $SSH_ORIGINAL_COMMAND in *' --version'*|*dump*) ;; *'docker exec'*mariadb*) \
         n=$(cat \"$D/loads\" 2>/dev/null); : $((n += 1)); echo $n >\"$D/loads\"; \
         [ $n -lt 4 ] || { : >\"$D/at\"; exec sleep 100000; } ;; esac",
    );
    lab.start_restore("app", "", &[]).await;
    lab.until("it is loaded", || host.path("at").exists()).await;
    lab.daemon.kill();
    host.let_be();
    lab.daemon.start_again().await;
    lab.until("all is undone", || crate::lab::names(&lab.path("state/undo")).is_empty()).await;
}
