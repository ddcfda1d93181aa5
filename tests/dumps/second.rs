//! A set as a second instance, or on another machine: its databases live beside those that are there, never over them.

use std::collections::HashMap;

use zbus::wire::{OwnedObjectPath, Variant};

use super::servers::Postgres;
use super::*;

const HEALTHY: &str = "include = [\"@DIR@/data\"]\nrestore = { keep_previous = \"0s\", health = { command = [\"sh\", \"-c\", \"[ ! -e @DIR@/wait ] || { : >@DIR@/at-health; exec sleep 60; }\"], timeout = \"60s\" } }";

fn shop() -> Postgres {
    let server = Postgres::start();
    server.ask("postgres", "create role keeper");
    for name in ["app", "stock"] {
        server.ask("postgres", &format!("create database {name} owner keeper"));
        server.ask(name, "create table item as select g as id from generate_series(1, 500) g");
    }
    server
}

fn as_second(lab: &Lab, databases: &[&'static str]) -> HashMap<&'static str, Variant<'static>> {
    let map = format!("{0}/data={0}/data2", lab.dir.display());
    HashMap::from([
        ("as", Variant::from("app2")),
        ("map", Variant::from(vec![map])),
        ("database", Variant::from(databases.to_vec())),
    ])
}

async fn run(lab: &Lab, subject: &str, options: &HashMap<&str, Variant<'_>>) -> Ended {
    let called: zbus::Result<OwnedObjectPath> = lab.daemon.call("Restore", &(subject, "", options)).await;
    lab.ended(&called.unwrap_or_else(|e| panic!("{e}\n{}", lab.daemon.log()))).await
}

async fn plan(lab: &Lab, options: &HashMap<&str, Variant<'_>>) -> serde_json::Value {
    let text: String = lab.daemon.call("Plan", &("app", "", options)).await.unwrap();
    serde_json::from_str(&text).unwrap()
}

fn count(server: &Postgres, database: &str) -> String {
    server.ask(database, "select count(*) from item")
}

async fn lab(server: &Postgres, more: &[String]) -> Lab {
    let keys = format!(
        "{}password_file = \"{PASSWORD_FILE}\"\ndatabases = [\"app\", \"stock\"]\n",
        server.definition()
    );
    let dumps: Vec<String> = std::iter::once(keys).chain(more.iter().cloned()).collect();
    let setup = setup(HEALTHY, &dumps);
    setup.write("data/file", "one\n", 0o644);
    let lab = setup.start().await;
    lab.good_backup("b").await;
    lab
}

#[tokio::test]
async fn a_second_instance_has_databases_of_its_own_and_those_of_the_first_are_never_touched() {
    let server = shop();
    let lab = lab(&server, &[]).await;
    server.ask("app", "delete from item where id > 10");
    server.ask("stock", "delete from item where id > 20");
    // `app` is called as the instance: the second one's is called as that. Nothing says what `stock` is to be called.
    let databases = server.databases();
    let planned = plan(&lab, &as_second(&lab, &[])).await;
    let problems = planned["problems"].to_string();
    assert!(problems.contains("stock") && !problems.contains("\\\"app2"), "{planned:#}");
    let refused = run(&lab, "app", &as_second(&lab, &[])).await;
    not_restored(&lab, &refused, "there is a database \"stock\" on the server already");
    assert_eq!(server.databases(), databases);
    assert!(!lab.path("data2").exists() && !lab.path("config/conf.d/app2.toml").exists());

    let options = as_second(&lab, &["stock2=stock"]);
    let planned = plan(&lab, &options).await;
    assert_eq!(planned["problems"], serde_json::json!([]), "{planned:#}");
    let lives: Vec<&str> =
        planned["dumps"].as_array().unwrap().iter().filter_map(|row| row["database"].as_str()).collect();
    assert_eq!(lives, ["app2", "stock2"]);
    let ended = run(&lab, "app", &options).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", lab.daemon.log());
    assert_eq!((count(&server, "app2"), count(&server, "stock2")), ("500".into(), "500".into()));
    assert_eq!((count(&server, "app"), count(&server, "stock")), ("10".into(), "20".into()));
    assert_eq!(lab.text("data2/file"), "one\n");
    assert_eq!(server.databases(), ["app", "app2", "stock", "stock2"]);
    // The definition that was written has just its own: its next set is of these.
    let defined = lab.text("config/conf.d/app2.toml");
    assert!(defined.contains("stock2") && !defined.contains("\"stock\""), "{defined}");
    server.ask("app2", "delete from item where id > 30");
    let backed = lab.daemon.call::<_, OwnedObjectPath>("RunBackup", &("b", Options::new())).await.unwrap();
    lab.ended(&backed).await;
    lab.assert_settled().await;
}

type Options = HashMap<&'static str, Variant<'static>>;

#[tokio::test]
async fn killed_half_way_or_not_healthy_a_second_instance_leaves_no_database_and_no_definition() {
    let server = shop();
    let mut lab = lab(&server, &[]).await;
    let databases = server.databases();
    lab.write("wait", "", 0o644);
    let options = as_second(&lab, &["stock2=stock"]);
    let _job: OwnedObjectPath = lab.daemon.call("Restore", &("app", "", &options)).await.unwrap();
    lab.reached("health").await;
    assert_eq!(server.databases(), ["app", "app2", "stock", "stock2"]);
    lab.daemon.restart_after_kill().await;
    lab.assert_settled().await;
    assert_eq!(server.databases(), databases, "{}", lab.daemon.log());
    assert!(!lab.path("data2").exists() && !lab.path("config/conf.d/app2.toml").exists());
    let names: Vec<String> = std::fs::read_dir(lab.path("data"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names, ["file"]);
}

#[tokio::test]
async fn files_of_sqlite_move_with_the_instance_and_a_server_that_is_all_of_one_is_left_to_the_first() {
    let (server, redis) = (shop(), super::servers::Redis::start(false));
    redis.ask(&["SET", "k", "v"]);
    let keys = format!("{}password_file = \"{PASSWORD_FILE}\"\n", redis.definition());
    let sqlite = "source = \"sqlite\"\ndatabases = [\"@DIR@/data/app.db\"]\n".to_owned();
    let dumps = [
        format!("{}password_file = \"{PASSWORD_FILE}\"\ndatabases = [\"app\"]\n", server.definition()),
        keys,
        sqlite,
    ];
    let setup = setup(HEALTHY, &dumps);
    setup.write("data/file", "one\n", 0o644);
    drop(super::sqlite::make(&setup.path("data/app.db"), 3));
    let lab = setup.start().await;
    lab.good_backup("b").await;
    redis.ask(&["SET", "k", "later"]);
    let ended = run(&lab, "app", &as_second(&lab, &[])).await;
    assert_eq!(ended.outcome, "warning", "{ended:#?}\n{}", lab.daemon.log());
    assert!(ended.units[0].error.contains("dump redis was not"), "{ended:#?}");
    assert_eq!(redis.ask(&["GET", "k"]), "later");
    assert_eq!(super::sqlite::count(&lab.path("data2/app.db")).0, 3);
    assert_eq!(count(&server, "app2"), "500");
    lab.assert_settled().await;
}

#[tokio::test]
async fn what_another_machine_saved_is_defined_here_with_its_databases() {
    let (server, other) = (shop(), Postgres::start());
    let lab = lab(&server, &[]).await;
    let uuid = manifest(&lab)["uuid"].as_str().unwrap().to_owned();
    // The other machine: the same repository, a server of its own at the place of the first one's, nothing defined.
    let two = setup("", &[]);
    std::fs::remove_dir_all(two.path("repo")).unwrap();
    std::os::unix::fs::symlink(lab.path("repo"), two.path("repo")).unwrap();
    let two = two
        .replace("instances = [\"app\"]", "instances = [\"unused\"]")
        .replace("[instance.app]\n", "[instance.unused]\ninclude = [\"@DIR@/x\"]\n")
        .start()
        .await;
    let [from, to] = [&lab.dir, &two.dir].map(|dir| dir.display().to_string());
    let socket = |server: &Postgres| server.0.dir.path().display().to_string();
    let map = vec![format!("{from}={to}"), format!("{}={}", socket(&server), socket(&other))];
    let options = HashMap::from([
        ("map", Variant::from(map)),
        ("database", Variant::from(vec!["shelf=stock"])),
        ("repository", Variant::from("local")),
    ]);
    let subject = format!("local:instance/{uuid}");
    two.write("config/conf.d/db.password", &format!("{}\n", servers::PASSWORD), 0o600);
    let ended = run(&two, &subject, &options).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", two.daemon.log());
    assert_eq!((count(&other, "app"), count(&other, "shelf")), ("500".into(), "500".into()));
    assert_eq!(server.databases(), ["app", "stock"], "the first machine's server was touched");
    assert_eq!(other.ask("postgres", "select count(*) from pg_roles where rolname = 'keeper'"), "1");
    let defined = two.text("config/conf.d/app.toml");
    assert!(defined.contains("shelf") && defined.contains(&socket(&other)), "{defined}");
    two.assert_settled().await;
}
