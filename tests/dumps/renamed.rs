//! MariaDB: a database under another name beside the one that lives, and the accounts that its users log in with.

use std::collections::HashMap;

use zbus::wire::{OwnedObjectPath, Variant};

use super::servers::Mariadb;
use super::*;

fn wiki() -> Mariadb {
    let server = Mariadb::start();
    server.ask(
        "create database wiki character set latin1; use wiki; create table page(id int primary key); insert into page values (1), (2); \
         create view few as select id from page where id < 2; create procedure p() select count(*) from page; \
         create database selfish; use selfish; create table page(id int); \
         create trigger selfish.t before insert on selfish.page for each row insert into selfish.log values (1); \
         create role reader; grant select on wiki.* to reader; \
         create user 'shop keeper'@'%' identified by 'pw;''x'; grant all on wiki.* to 'shop keeper'@'%' with grant option; \
         grant reader to 'shop keeper'@'%'; create user kept@localhost identified by 'old'",
    );
    server
}

async fn lab(server: &Mariadb, source: &str) -> Lab {
    let keys = format!("{}password_file = \"{PASSWORD_FILE}\"\n", server.definition());
    let keys = keys.replace("\"mariadb\"", &format!("\"{source}\"\nname = \"db\""));
    let lab = setup("restore = { keep_previous = \"1h\" }", &[keys]).start().await;
    let ended = lab.backup("b").await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", lab.daemon.log());
    lab
}

fn state(server: &Mariadb, database: &str) -> Vec<String> {
    ["select id from @.page", "select id from @.few", "call @.p()", "show create database @"]
        .iter()
        .map(|sql| server.ask(&sql.replace('@', database)).replace(database, "@"))
        .collect()
}

#[tokio::test]
async fn a_database_lives_under_another_name_beside_the_one_that_lives_and_never_over_one_that_is_there() {
    let server = wiki();
    let mut lab = lab(&server, "mariadb").await;
    let saved = state(&server, "wiki");
    server.ask("delete from wiki.page where id = 2");
    let late = state(&server, "wiki");
    let databases = server.ask("show databases");
    // A trigger that calls its database by name would write into the one that lives.
    not_restored(&lab, &lab.restore_database("other=selfish").await, "speaks of \"selfish\"");
    not_restored(
        &lab,
        &lab.restore_database("selfish=wiki").await,
        "a database \"selfish\" on the server already",
    );
    assert_eq!(server.ask("show databases"), databases);
    let ended = lab.restore_database("copy=wiki").await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", lab.daemon.log());
    assert_eq!(state(&server, "copy"), saved);
    assert_eq!(state(&server, "wiki"), late, "the one that lives was touched");
    roll_back(&lab).await;
    assert_eq!(server.ask("show databases"), databases);
    // A second instance has it under the name that is said.
    let options = HashMap::from([
        ("as", Variant::from("app2")),
        ("database", Variant::from(vec!["wiki2=wiki", "selfish2=selfish"])),
    ]);
    let refused: zbus::Result<OwnedObjectPath> = lab.daemon.call("Restore", &("app", "", &options)).await;
    not_restored(&lab, &lab.ended(&refused.unwrap()).await, "speaks of \"selfish\"");
    assert_eq!(server.ask("show databases"), databases);
    lab.daemon.restart_after_kill().await;
    lab.assert_settled().await;
}

#[tokio::test]
async fn accounts_that_are_missing_come_back_with_their_rights_and_those_that_are_there_stay() {
    for source in ["mariadb", "mysql"] {
        let server = wiki();
        let lab = lab(&server, source).await;
        let grants = server.ask("show grants for 'shop keeper'@'%'");
        let files = manifest(&lab)["dumps"].to_string();
        assert!(files.contains("dumps/db/accounts.sql"), "{files}");
        server.ask("drop user 'shop keeper'@'%'; alter user kept@localhost identified by 'new'");
        let kept = server.ask("show create user kept@localhost");
        lab.good_restore("app").await;
        assert_eq!(server.ask("show grants for 'shop keeper'@'%'"), grants, "{source}");
        assert_eq!(server.ask("show create user kept@localhost"), kept, "{source}");
        assert_no_canary(&lab);
        lab.assert_settled().await;
    }
}

#[tokio::test]
async fn accounts_that_a_failed_or_killed_restore_made_go_again() {
    let server = wiki();
    let keys = format!("{}password_file = \"{PASSWORD_FILE}\"\n", server.definition());
    let setup = setup(NO_ANSWER, &[keys]);
    let mut lab = setup.start().await;
    lab.good_backup("b").await;
    server.ask("drop user 'shop keeper'@'%'; drop role reader");
    let users = server.ask("select user, host from mysql.user order by 1, 2");
    lab.start_restore("app", "", &[]).await;
    lab.reached("health").await;
    assert_ne!(server.ask("select user, host from mysql.user order by 1, 2"), users);
    lab.daemon.restart_after_kill().await;
    lab.assert_settled().await;
    assert_eq!(server.ask("select user, host from mysql.user order by 1, 2"), users, "{}", lab.daemon.log());
}
