//! PostgreSQL.

use zbus::wire::Variant;

use super::servers::Postgres;
use super::*;

/// A name that breaks whoever does not quote.
const ODD: &str = "sh\"op' ; --\n\\x";

fn shop() -> Postgres {
    let server = Postgres::start();
    server.ask("postgres", "create role keeper login password 'keeper-secret'");
    server.ask("postgres", "create role clerk");
    server.ask("postgres", "grant clerk to keeper");
    server.ask("postgres", "create database shop owner keeper");
    server.ask("postgres", "alter database shop set search_path to \"$user\", public, extra");
    server.ask("postgres", "alter database shop set work_mem to '7MB'");
    server.ask("postgres", "revoke all on database shop from public");
    server.ask("postgres", "grant connect on database shop to clerk");
    let rows = "create table item(id int primary key, name text); \
        insert into item select g, 'item ' || g from generate_series(1, 2000) g; \
        create view cheap as select * from item where id < 10; alter table item owner to keeper; \
        select lo_from_bytea(4711, 'large object')";
    server.ask("shop", rows);
    server.ask("postgres", &format!("create database {}", quoted(ODD)));
    server.ask(ODD, "create table t(x text); insert into t values ('odd')");
    server
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn definition(server: &Postgres, databases: &[&str]) -> String {
    let list: Vec<String> = databases.iter().map(|name| toml::Value::from(*name).to_string()).collect();
    format!("{}password_file = \"{PASSWORD_FILE}\"\ndatabases = [{}]\n", server.definition(), list.join(", "))
}

fn state(server: &Postgres) -> [String; 5] {
    [
        server.ask("shop", "select count(*), sum(id) from item"),
        server.ask("shop", "select count(*) from cheap"),
        server.ask("shop", "select convert_from(lo_get(4711), 'UTF8')"),
        server.ask("shop", "show search_path; ") + &server.ask("shop", "show work_mem"),
        server.ask(ODD, "select string_agg(x, ',' order by x) from t"),
    ]
}

/// A gibibyte of rows, with some of it changed afterwards.
#[tokio::test]
#[ignore = "minutes long; `make soak` or by name"]
async fn soak_a_gibibyte_of_rows_is_restored_and_rolled_back() {
    let server = shop();
    let rows = "create table large as select g as id, repeat(md5(g::text), 32) as text from generate_series(1, 1048576) g";
    server.ask("shop", rows);
    let lab = setup("", &[definition(&server, &["shop"])]).start().await;
    let sum = || server.ask("shop", "select count(*), sum(length(text)), sum(hashtext(text)) from large");
    let before = sum();
    assert!(before.starts_with("1048576|1073741824|"), "{before}");
    lab.good_backup("b").await;
    server.ask("shop", "delete from large where id % 100 = 0");
    let late = sum();
    lab.good_restore("app").await;
    assert_eq!(sum(), before);
    roll_back(&lab).await;
    assert_eq!(sum(), late);
}

#[tokio::test]
async fn databases_are_restored_into_their_own_server_with_applications_connected_and_rolled_back() {
    let (server, other) = (shop(), shop());
    other.ask("shop", "delete from item where id > 5");
    let lab = setup("", &[definition(&server, &["shop", ODD])]).start().await;
    let mut writer = server.session("shop", "begin; insert into item values (9999, 'not committed');");
    let before = state(&server);
    lab.good_backup("b").await;
    let dumps = manifest(&lab)["dumps"].as_array().unwrap().clone();
    assert_eq!(dumps.len(), 3, "{dumps:#?}");
    assert!(
        dumps.iter().all(|d| d["sha256"].as_str().unwrap().len() == 64 && d["version"] != ""),
        "{dumps:#?}"
    );
    let _ = writer.kill();
    let _ = writer.wait();

    server.ask("shop", "truncate item; insert into item values (1, 'late')");
    server.ask(ODD, "insert into t values ('late')");
    let late = state(&server);
    let wrong = state(&other);
    let mut application = server.session("shop", "select pg_sleep(600);");
    lab.good_restore("app").await;
    assert!(!application.wait().unwrap().success(), "the application was to be disconnected");
    assert_eq!(state(&server), before);
    assert_eq!(state(&other), wrong, "the other server was touched");
    let acl = "select datacl::text from pg_database where datname = 'shop'";
    let acl = server.ask("postgres", acl);
    assert!(acl.contains("clerk=c/") && !acl.contains("{=") && !acl.contains(",="), "{acl}");
    assert_eq!(
        server.ask("postgres", "select pg_get_userbyid(datdba) from pg_database where datname = 'shop'"),
        "keeper"
    );

    roll_back(&lab).await;
    assert_eq!(state(&server), late);
    roll_back(&lab).await;
    assert_eq!(state(&server), before, "a rollback can be rolled back");
    assert_eq!(server.databases().len(), 4 + ODD.matches('\n').count(), "{:?}", server.databases());
    assert_no_canary(&lab);
    lab.assert_settled().await;
}

#[tokio::test]
async fn one_database_alone_is_restored_and_roles_that_are_gone_come_back() {
    let server = shop();
    let lab =
        setup("restore = { keep_previous = \"0s\" }", &[definition(&server, &["shop", ODD])]).start().await;
    lab.good_backup("b").await;
    server.ask("shop", "delete from item");
    server.ask(ODD, "insert into t values ('late')");
    let include = Variant::from(vec!["dumps/postgresql/shop.dump"]);
    let ended = lab.restore("app", "", &[("include", include)]).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", lab.daemon.log());
    assert_eq!(server.ask("shop", "select count(*) from item"), "2000");
    assert_eq!(server.ask(ODD, "select count(*) from t"), "2", "the other one was touched");
    assert!(!server.databases().iter().any(|name| name.starts_with("holdfast")), "{:?}", server.databases());

    server.ask("postgres", "drop database shop");
    server.ask("postgres", "drop role keeper; drop role clerk");
    lab.good_restore("app").await;
    assert_eq!(server.ask("shop", "select count(*) from item"), "2000");
    let sql =
        "select count(*) from pg_auth_members where member = 'keeper'::regrole and roleid = 'clerk'::regrole";
    assert_eq!(server.ask("postgres", sql), "1");
    lab.assert_settled().await;
}

#[tokio::test]
async fn what_cannot_be_dumped_whole_takes_no_snapshot_and_says_why() {
    let mut server = Postgres::start();
    server.ask("postgres", "create database shop");
    server
        .ask("shop", "create table item as select g as id, repeat('x', 100) from generate_series(1, 5000) g");
    let mut setup = setup("stall_timeout = \"2s\"", &[definition(&server, &["shop"])]);
    fake(
        &mut setup,
        "pg_dump",
        "[ \"$1\" = --version ] || [ ! -e \"$D/on-pg_dump\" ] || . \"$D/on-pg_dump\"\nexec \"$real\" \"$@\"",
    );
    let lab = setup.start().await;
    for (shell, word) in [
        ("exit 1", "exited with 1"),
        ("exit 0", "is no archive"),
        ("\"$real\" \"$@\" | head -c 100; exit 0", "to its end"),
        ("\"$real\" \"$@\" | head -c 50000; exit 0", "to its end"),
        ("\"$real\" \"$@\" | head -c -1; exit 0", "to its end"),
        ("\"$real\" \"$@\" | head -c 50000; kill -9 $$", "killed by signal 9"),
        ("sleep 600", "no progress"),
    ] {
        lab.on("pg_dump", shell);
        refused(&lab, &lab.backup("b").await, word);
    }
    lab.remove("on-pg_dump");
    let mut locker = server.session("shop", "begin; lock table item in access exclusive mode;");
    refused(&lab, &lab.backup("b").await, "no progress");
    let _ = locker.kill();
    let _ = locker.wait();
    lab.write(&format!("config/{PASSWORD_FILE}"), "wrong\n", 0o600);
    refused(&lab, &lab.backup("b").await, "password authentication failed");
    lab.write(&format!("config/{PASSWORD_FILE}"), &format!("{}\n", servers::PASSWORD), 0o644);
    refused(&lab, &lab.backup("b").await, "can be read by everybody");
    lab.write(&format!("config/{PASSWORD_FILE}"), &format!("{}\n", servers::PASSWORD), 0o600);
    server.ask("postgres", "alter database shop rename to shop2");
    refused(&lab, &lab.backup("b").await, "there is no database \"shop\"");
    server.0.kill();
    refused(&lab, &lab.backup("b").await, "asking the PostgreSQL server");
    assert_no_canary(&lab);
    lab.assert_settled().await;
}

#[tokio::test]
async fn a_damaged_dump_is_refused_before_anything_lives_and_a_failed_restore_leaves_the_old_data() {
    let server = shop();
    let health = "restore = { health = { command = [\"sh\", \"-c\", \"exit $(cat @DIR@/health)\"], timeout = \"1s\" } }";
    let setup = setup(health, &[definition(&server, &["shop", ODD])]);
    setup.write("health", "0\n", 0o644);
    let lab = setup.start().await;
    lab.good_backup("b").await;
    server.ask("shop", "delete from item where id > 10");
    let (late, databases) = (state(&server), server.databases());
    let archive = "f=$(find \"$D/staging\" -name shop.dump)";
    for (damage, word) in [
        ("printf X | dd of=\"$f\" bs=1 seek=30000 conv=notrunc", "another SHA-256"),
        ("truncate -s -10 \"$f\"", "bytes"),
        (": >\"$f\"", "bytes"),
        ("rm \"$f\"", "shop.dump"),
        ("ln -sf /etc/passwd \"$f\"", "shop.dump"),
    ] {
        lab.on(
            "restore",
            &format!("\"$real\" \"$@\"; rc=$?; {{ {archive}; {damage}; }} >/dev/null 2>&1; exit $rc"),
        );
        not_restored(&lab, &lab.restore("app", "", &[]).await, word);
        assert_eq!((state(&server), server.databases()), (late.clone(), databases.clone()), "{word}");
    }
    lab.remove("on-restore");
    lab.write("health", "1\n", 0o644);
    not_restored(&lab, &lab.restore("app", "", &[]).await, "the old data is back");
    assert_eq!((state(&server), server.databases()), (late, databases));
    lab.assert_settled().await;
}

#[tokio::test]
async fn killed_while_it_loads_or_after_the_swap_the_old_data_lives_after_the_next_start() {
    let server = shop();
    let health = "restore = { health = { command = [\"sh\", \"-c\", \": >@DIR@/at-health; exec sleep 60\"], timeout = \"60s\" } }";
    let mut setup = setup(health, &[definition(&server, &["shop", ODD])]);
    fake(
        &mut setup,
        "pg_restore",
        "[ ! -e \"$D/on-pg_restore\" ] || . \"$D/on-pg_restore\"\nexec \"$real\" \"$@\"",
    );
    let mut lab = setup.start().await;
    lab.good_backup("b").await;
    server.ask("shop", "delete from item where id > 10");
    let (late, databases) = (state(&server), server.databases());
    lab.on("pg_restore", "case \"$*\" in *single-transaction*) : >\"$D/at-load\"; exec sleep 600;; esac");
    lab.start_restore("app", "", &[]).await;
    lab.reached("load").await;
    assert_ne!(server.databases(), databases, "a database is being loaded");
    lab.daemon.restart_after_kill().await;
    lab.until("the new database is gone", || server.databases() == databases).await;
    lab.assert_settled().await;
    lab.remove("on-pg_restore");
    lab.start_restore("app", "", &[]).await;
    lab.reached("health").await;
    assert_eq!(server.ask("shop", "select count(*) from item"), "2000", "the new data lives already");
    lab.daemon.restart_after_kill().await;
    lab.assert_settled().await;
    assert_eq!((state(&server), server.databases()), (late, databases));
}

#[tokio::test]
async fn all_databases_of_a_server_are_dumped_but_those_left_out_and_a_shrunk_one_is_a_warning() {
    let server = Postgres::start();
    for name in ["one", "two", "scratch"] {
        server.ask("postgres", &format!("create database {name}"));
        server.ask(name, "create table t as select g, repeat('x', 50) from generate_series(1, 9000) g");
    }
    let keys = format!(
        "{}password_file = \"{PASSWORD_FILE}\"\nname = \"main\"\nexclude = [\"scratch\"]\n",
        server.definition()
    );
    let lab = setup("", &[keys]).start().await;
    lab.good_backup("b").await;
    let dumps = manifest(&lab)["dumps"].as_array().unwrap().clone();
    let files: Vec<&str> = dumps.iter().map(|dump| dump["file"].as_str().unwrap()).collect();
    let wanted =
        ["dumps/main/globals.sql", "dumps/main/one.dump", "dumps/main/postgres.dump", "dumps/main/two.dump"];
    assert_eq!(files, wanted);
    server.ask("two", "delete from t where g > 10");
    let ended = lab.backup("b").await;
    assert_eq!(ended.outcome, "warning", "{ended:#?}");
    assert!(
        ended.units[0].error.contains("dumps/main/two.dump") && ended.units[0].error.contains("shrink_limit"),
        "{ended:#?}"
    );
    let plan: String = lab.daemon.call("Plan", &("app", "", crate::support::Row::new())).await.unwrap();
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["dumps"].as_array().unwrap().len(), 4, "{plan:#}");
    assert!(plan["dumps"][1]["how"].as_str().unwrap().contains("takes the name"), "{plan:#}");
    lab.good_restore("app").await;
    assert_eq!(server.ask("one", "select count(*) from t"), "9000");
}

#[tokio::test]
async fn one_database_is_restored_alone_or_as_another_one_beside_it_and_never_over_one_that_is_there() {
    let server = shop();
    let setup = setup("include = [\"@DIR@/data\"]", &[definition(&server, &["shop", ODD])]);
    setup.write("data/file", "one\n", 0o644);
    let lab = setup.start().await;
    lab.good_backup("b").await;
    lab.write("data/file", "two\n", 0o644);
    server.ask("shop", "delete from item where id > 10");
    let late = state(&server);
    let only = |text: &'static str| lab.restore_database(text);
    let ended = only("copy=shop").await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", lab.daemon.log());
    assert_eq!(server.ask("copy", "select count(*) from item"), "2000");
    assert_eq!(state(&server), late, "the one that lives was touched");
    assert_eq!(lab.text("data/file"), "two\n", "files were not asked for");
    not_restored(&lab, &only("copy=shop").await, "is a database \"copy\" on the server already");
    let ended = only("shop").await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", lab.daemon.log());
    assert_eq!(server.ask("shop", "select count(*) from item"), "2000");
    assert_eq!(lab.text("data/file"), "two\n");
    for (text, word) in [("a=nothing", "holds no database \"nothing\""), ("=shop", "NEW=OLD")] {
        let options = std::collections::HashMap::from([("database", zbus::wire::Variant::from(vec![text]))]);
        let asked: zbus::Result<zbus::wire::OwnedObjectPath> =
            lab.daemon.call("Restore", &("app", "", options)).await;
        let failure = asked.unwrap_err().to_string();
        assert!(failure.contains(word), "{failure}");
    }
    lab.assert_settled().await;
}
