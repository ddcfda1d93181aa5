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
