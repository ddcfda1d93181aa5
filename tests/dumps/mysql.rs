//! A real MySQL. Debian's stable suites have none, so this runs where `HOLDFAST_MYSQL` names a directory of its programs.

use std::collections::HashMap;

use zbus::wire::{OwnedObjectPath, Variant};

use super::servers::Mysql;
use super::*;

const HEALTHY: &str = "include = [\"@DIR@/data\"]\nrestore = { keep_previous = \"1h\", health = { command = [\"sh\", \"-c\", \"[ ! -e @DIR@/wait ] || { : >@DIR@/at-health; exec sleep 60; }\"], timeout = \"60s\" } }";

const DATABASES: [&str; 2] = ["shop", "odd`; x"];

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn shop() -> Mysql {
    let server = Mysql::start();
    for name in DATABASES {
        let name = quoted(name);
        server.ask(&format!(
            "create database {name} character set latin1; use {name}; \
             create table item(id int primary key, body blob, text varchar(99) character set utf8mb4, \
                twice int generated always as (id * 2) stored, json json, key (text)); \
             insert into item (id, body, text, json) values (1, x'00ff27', 'grüße 🦀', '{{\"a\": [1, null]}}'), (2, 'two', null, null); \
             create table part(item int, foreign key (item) references item (id)); insert into part values (1); \
             create view few as select id from item where id < 2; \
             create trigger tr before insert on item for each row set new.text = upper(new.text); \
             create procedure p() select count(*) from item; \
             create event ev on schedule every 1 day do delete from part"
        ));
    }
    server.ask(
        "create user keeper@localhost identified by 'pw;''x'; grant select on shop.* to keeper@localhost; \
         create role reader; grant reader to keeper@localhost",
    );
    server
}

fn state(server: &Mysql, name: &str) -> Vec<String> {
    let all = [
        "select id, hex(body), hex(text), twice, json from @.item order by id",
        "select * from @.part",
        "select * from @.few",
        "call @.p()",
        "show create database @",
        "select event_name from information_schema.events where event_schema = '#'",
        "select trigger_name from information_schema.triggers where trigger_schema = '#'",
    ];
    let ask = |sql: &&str| server.ask(&sql.replace('@', &quoted(name)).replace('#', name));
    all.iter().map(ask).map(|said| said.replace(&name.replace('`', "``"), "@")).collect()
}

fn states(server: &Mysql) -> Vec<Vec<String>> {
    DATABASES.iter().map(|name| state(server, name)).collect()
}

fn change(server: &Mysql) {
    server.ask(
        "delete from shop.part; delete from shop.item; drop trigger shop.tr; drop user keeper@localhost",
    );
    server.ask(&format!("insert into {}.item (id, text) values (7, 'seven')", quoted(DATABASES[1])));
}

#[tokio::test]
#[ignore = "needs a MySQL: HOLDFAST_MYSQL names a directory of its programs"]
async fn soak_a_real_mysql_is_dumped_restored_rolled_back_and_copied() {
    let (server, other) = (shop(), shop());
    let keys = format!("{}password_file = \"{PASSWORD_FILE}\"\n", server.definition());
    let setup = setup(HEALTHY, &[keys]);
    setup.write("data/file", "one\n", 0o644);
    let lab = setup.start().await;
    let before = states(&server);
    let ended = lab.backup("b").await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", lab.daemon.log());
    assert!(
        manifest(&lab)["dumps"][0]["version"].as_str().unwrap().starts_with(|c: char| c.is_ascii_digit())
    );

    change(&server);
    let (late, wrong) = (states(&server), states(&other));
    lab.good_restore("app").await;
    assert_eq!(states(&server), before, "{}", lab.daemon.log());
    let login = server.ask("show grants for keeper@localhost");
    assert!(
        login.contains("`shop`") && login.contains("reader"),
        "an account that is gone comes back: {login}"
    );
    roll_back(&lab).await;
    assert_eq!(states(&server), late, "rolled back");
    assert_eq!(states(&other), wrong, "the other server was touched");

    one_database(&server, &lab, &before[0], &late).await;
    as_second(&server, &lab, &before[0], &late).await;
    killed(&server, lab, &late).await;
}

/// One database beside the one that lives.
async fn one_database(server: &Mysql, lab: &Lab, saved: &[String], late: &[Vec<String>]) {
    let ended = lab.restore_database("copy=shop").await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", lab.daemon.log());
    assert_eq!(state(server, "copy"), saved);
    assert_eq!(states(server), late, "those that live were touched");
    roll_back(lab).await;
    assert_eq!(server.ask("show databases like 'copy'"), "");
}

/// All of it as a second instance, under other names on the same server.
async fn as_second(server: &Mysql, lab: &Lab, saved: &[String], late: &[Vec<String>]) {
    let map = format!("{0}/data={0}/data2", lab.dir.display());
    let named = vec!["shop2=shop".to_owned(), format!("odd2={}", DATABASES[1])];
    let options: HashMap<&str, Variant<'_>> =
        [("as", "app2".into()), ("map", vec![map].into()), ("database", named.into())].into();
    let called: zbus::Result<OwnedObjectPath> = lab.daemon.call("Restore", &("app", "", options)).await;
    let ended = lab.ended(&called.unwrap_or_else(|e| panic!("{e}\n{}", lab.daemon.log()))).await;
    assert!(ended.outcome == "succeeded" || ended.outcome == "warning", "{ended:#?}\n{}", lab.daemon.log());
    assert_eq!(state(server, "shop2"), saved);
    assert_eq!(states(server), late, "those that live were touched");
    assert_eq!(lab.text("data2/file"), "one\n");
}

/// kill -9 while the restored data lives already.
async fn killed(server: &Mysql, mut lab: Lab, late: &[Vec<String>]) {
    lab.write("wait", "", 0o644);
    lab.start_restore("app", "", &[]).await;
    lab.reached("health").await;
    assert_ne!(states(server), late, "the restored data lives already");
    lab.daemon.restart_after_kill().await;
    assert_eq!(states(server), late, "{}", lab.daemon.log());
    assert_no_canary(&lab);
    lab.assert_settled().await;
}
