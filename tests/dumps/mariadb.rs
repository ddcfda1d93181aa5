//! MariaDB.

use super::servers::Mariadb;
use super::*;

const ODD: &str = "w`iki ' ; -- \"x";

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn wiki() -> Mariadb {
    let server = Mariadb::start();
    for name in ["wiki", ODD] {
        let name = quoted(name);
        server.ask(&format!(
            "create database {name} character set latin1; create table {name}.page(id int primary key, body blob); \
             insert into {name}.page values (1, x'00ff27'), (2, 'two'); \
             create view {name}.few as select id from {name}.page where id < 2; \
             create trigger {name}.tr before insert on {name}.page for each row set new.id = new.id + 100; \
             create procedure {name}.p() select 1"
        ));
    }
    server
}

fn definition(server: &Mariadb) -> String {
    format!("{}password_file = \"{PASSWORD_FILE}\"\n", server.definition())
}

fn state(server: &Mariadb) -> Vec<String> {
    let mut all = vec![server.ask("show databases")];
    for name in ["wiki", ODD] {
        let name = quoted(name);
        all.push(server.ask(&format!("select id, hex(body) from {name}.page order by id")));
        all.push(server.ask(&format!("select count(*) from {name}.few")));
        all.push(server.ask(&format!("call {name}.p()")));
        all.push(server.ask(&format!("show create database {name}")));
    }
    all
}

fn change(server: &Mariadb) {
    server.ask(&format!("delete from wiki.page; insert into {}.page values (7, 'seven')", quoted(ODD)));
}

#[tokio::test]
async fn databases_are_restored_into_their_own_server_and_rolled_back() {
    let (server, other) = (wiki(), wiki());
    change(&other);
    let lab = setup("", &[definition(&server)]).start().await;
    let before = state(&server);
    lab.good_backup("b").await;
    let files: Vec<String> = manifest(&lab)["dumps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d["file"].as_str().unwrap().to_owned())
        .collect();
    assert!(files.contains(&"dumps/mariadb/wiki.sql".to_owned()), "{files:?}");
    assert!(files.contains(&"dumps/mariadb/accounts.sql".to_owned()), "{files:?}");
    let plan: String = lab.daemon.call("Plan", &("app", "", crate::support::Row::new())).await.unwrap();
    assert!(plan.contains("those that it has stay as they are"), "{plan}");
    change(&server);
    let (late, wrong) = (state(&server), state(&other));
    lab.good_restore("app").await;
    assert_eq!(state(&server), before);
    assert_eq!(state(&other), wrong, "the other server was touched");
    roll_back(&lab).await;
    assert_eq!(state(&server), late);
    roll_back(&lab).await;
    assert_eq!(state(&server), before);
    assert_no_canary(&lab);
    lab.assert_settled().await;
}

#[tokio::test]
async fn a_dump_that_is_cut_off_takes_no_snapshot_and_one_that_does_not_load_changes_nothing() {
    let server = wiki();
    let health = "restore = { health = { command = [\"sh\", \"-c\", \"exit $(cat @DIR@/health)\"], timeout = \"1s\" } }";
    let mut setup = setup(health, &[definition(&server)]);
    fake(
        &mut setup,
        "mariadb-dump",
        "[ \"$1\" = --version ] || [ ! -e \"$D/on-dump\" ] || . \"$D/on-dump\"\nexec \"$real\" \"$@\"",
    );
    setup.write("health", "0\n", 0o644);
    let lab = setup.start().await;
    for (shell, word) in [
        ("exit 2", "exited with 2"),
        ("exit 0", "does not begin"),
        ("\"$real\" \"$@\" | head -c 900; exit 0", "cut off"),
        ("\"$real\" \"$@\" | head -c -60; exit 0", "cut off"),
        ("\"$real\" \"$@\" | head -c 900; kill -9 $$", "signal 9"),
    ] {
        lab.on("dump", shell);
        refused(&lab, &lab.backup("b").await, word);
    }
    lab.write(&format!("config/{PASSWORD_FILE}"), "wrong\n", 0o600);
    refused(&lab, &lab.backup("b").await, "Access denied");
    lab.write(&format!("config/{PASSWORD_FILE}"), &format!("{}\n", servers::PASSWORD), 0o600);
    // A whole dump, of a server that knew statements which this one does not.
    lab.on("dump", "[ \"${@: -1}\" != wiki ] || { \"$real\" \"$@\" | sed 's/^CREATE TABLE `page`/CREATE NONSENSE `page`/'; exit 0; }");
    lab.good_backup("b").await;
    lab.remove("on-dump");
    change(&server);
    let late = state(&server);
    let failed = lab.restore("app", "", &[]).await;
    not_restored(&lab, &failed, "CREATE NONSENSE");
    not_restored(&lab, &failed, "the old data is back");
    assert_eq!(state(&server), late);
    lab.good_backup("b").await;
    change_more(&server);
    let later = state(&server);
    lab.write("health", "1\n", 0o644);
    not_restored(&lab, &lab.restore("app", "", &[]).await, "the old data is back");
    assert_eq!(state(&server), later);
    assert_no_canary(&lab);
    lab.assert_settled().await;
}

fn change_more(server: &Mariadb) {
    server.ask("insert into wiki.page values (8, 'eight')");
}

#[tokio::test]
async fn killed_while_it_replaces_and_started_before_the_server_is_there_the_old_data_comes_back_in_the_end()
{
    let server = wiki();
    let health = "restore = { health = { command = [\"sh\", \"-c\", \": >@DIR@/at-health; exec sleep 60\"], timeout = \"60s\" } }";
    let mut lab = setup(health, &[definition(&server)]).start().await;
    lab.good_backup("b").await;
    change(&server);
    let late = state(&server);
    lab.start_restore("app", "", &[]).await;
    lab.reached("health").await;
    assert_ne!(state(&server), late, "the restored data lives already");
    // The server is away when the daemon comes back: nothing that is still needed may go.
    std::fs::rename(server.0.path("socket"), server.0.path("away")).unwrap();
    lab.daemon.restart_after_kill().await;
    assert!(lab.daemon.log().contains("is kept for the next start"), "{}", lab.daemon.log());
    std::fs::rename(server.0.path("away"), server.0.path("socket")).unwrap();
    lab.daemon.restart_after_kill().await;
    assert_eq!(state(&server), late, "{}", lab.daemon.log());
    lab.assert_settled().await;
}

/// MySQL's client programs are not in Debian. These take no option that those do not have, say what those say of
/// themselves, and let MariaDB's do the work.
#[tokio::test]
async fn with_source_mysql_its_own_programs_are_called_with_their_own_options() {
    let server = wiki();
    let keys = definition(&server).replace("\"mariadb\"", "\"mysql\"");
    let mut setup = setup("", &[keys]);
    for (name, real) in [("mysqldump", "mariadb-dump"), ("mysql", "mariadb")] {
        let script = format!(
            r#"#!/bin/bash
[ "$1" != --version ] || {{ echo "{name}  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)"; exit 0; }}
words=()
for word in "$@"; do
    case $word in
    --set-gtid-purged=OFF | --column-statistics=0) echo "$word" >>'@DIR@/own' ;;
    --defaults-extra-file=* | --user=* | --host=* | --port=* | --socket=* | --batch | --skip-column-names | --database=* | \
        --default-character-set=utf8mb4 | --execute | --single-transaction | --quick | --routines | --events | --triggers | \
        --hex-blob | --no-tablespaces | -- | [!-]*) words+=("$word") ;;
    *) echo "{name}: [ERROR] unknown variable '$word'." >&2; exit 7 ;;
    esac
done
exec {real} "${{words[@]}}"
"#
        );
        setup.write(&format!("fake/{name}"), &script, 0o755);
    }
    put_first(&mut setup);
    let lab = setup.start().await;
    let before = state(&server);
    lab.good_backup("b").await;
    assert_eq!(manifest(&lab)["dumps"][0]["client_version"], "8.0.36");
    // MariaDB calls itself 10: as a server it is not older than 8.
    let own = lab.text("own");
    assert!(own.contains("--set-gtid-purged=OFF") && !own.contains("--column-statistics"), "{own}");
    change(&server);
    lab.good_restore("app").await;
    assert_eq!(state(&server), before);
    assert_no_canary(&lab);
    lab.assert_settled().await;
}
