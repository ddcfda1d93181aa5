//! Staging on a disk that is full, with every engine: no set, the cause and the place in the error, services as before.

use super::etcd::Etcd;
use super::mongodb;
use super::openldap::Slapd;
use super::opensearch;
use super::rabbitmq::Rabbit;
use super::servers::{Mariadb, Postgres, Redis};
use super::*;
use crate::support::mount::Mount;

/// More than the disk has, however well it is packed.
fn long() -> String {
    let mut number = 1_u64;
    let mut next = || {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{:08x}", number >> 32)
    };
    (0..4000).map(|_| next()).collect()
}

/// An instance of this name with this dump.
fn instance(name: &str, keys: &str) -> String {
    let keys = keys.replace("instance.app.", &format!("instance.{name}."));
    format!("[instance.{name}]\n[[instance.{name}.dump]]\n{keys}\n")
}

fn rabbit() -> Rabbit {
    let server = Rabbit::begin().wait();
    let policy = serde_json::json!({"pattern": long(), "definition": {"max-length": 5}});
    server.tell("PUT", "policies/%2f/long", policy);
    server
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: mounts a tmpfs"]
async fn system_no_engine_makes_a_set_of_a_dump_that_found_no_room() {
    let (postgres, mariadb, redis) = (Postgres::start(), Mariadb::start(), Redis::start(false));
    let (slapd, etcd, search, rabbit) =
        (Slapd::start("first"), Etcd::start("first"), opensearch::server(), rabbit());
    let long = long();
    postgres.ask("postgres", &format!("create table t as select '{long}' as x"));
    mariadb.ask(&format!("create database shop; create table shop.t as select '{long}' as x"));
    redis.ask(&["SET", "key", &long]);
    let mut setup = Setup::new();
    setup.environment.push(("PATH".into(), search_path()));
    mongodb::tools(&mut setup);
    setup.write("mongo/shop/item", &long, 0o644);
    drop(sqlite::make(&setup.path("data/app.db"), 2000));
    let password = format!("password_file = \"{PASSWORD_FILE}\"\n");
    setup.write(&format!("config/{PASSWORD_FILE}"), &format!("{}\n", servers::PASSWORD), 0o600);
    let engines = [
        ("postgresql", postgres.definition() + &password + "databases = [\"postgres\"]\n"),
        ("mariadb", mariadb.definition() + &password),
        ("redis", redis.definition() + &password),
        ("openldap", slapd.definition()),
        ("etcd", etcd.definition()),
        ("rabbitmq", rabbit.definition()),
        ("opensearch", opensearch::definition(&search)),
        ("mongodb", mongodb::KEYS.to_owned()),
        ("sqlite", "source = \"sqlite\"\ndatabases = [\"@DIR@/data/app.db\"]\n".to_owned()),
    ];
    let instances: String = engines.iter().map(|(name, keys)| instance(name, keys)).collect();
    let node = instance("node", &rabbit.node().replace("until = \"restore\"", "until = \"dump\""));
    let names: Vec<&str> = engines.iter().map(|(name, _)| *name).collect();
    let setup = setup.config(&format!(
        "[backup.b]\nrepositories = [\"local\"]\ninstances = {names:?}\n\
         [backup.messages]\nrepositories = [\"local\"]\ninstances = [\"node\"]\n{instances}{node}"
    ));
    // One page.
    let staging = Mount::tmpfs(setup.path("staging"), "size=4k,mode=0700");
    let lab = setup.start().await;
    let mut units = lab.backup("b").await.units;
    assert_eq!(units.len(), engines.len());
    units.extend(lab.backup("messages").await.units);
    let mut wrong = String::new();
    for unit in &units {
        let error = &unit.error;
        let cause = ["o space left", "disk is full"].iter().any(|word| error.contains(word));
        let place = error.contains(&format!("staging/{}", unit.instance));
        if unit.outcome != "failed" || !cause || !place {
            wrong.push_str(&format!("{}: {}: {error}\n", unit.instance, unit.outcome));
        }
    }
    assert_eq!(wrong, "", "what is not named\n{}", lab.daemon.log());
    assert_eq!(lab.snapshots_in("repo"), 0);
    assert_eq!(lab::names(&staging.0), [""; 0]);
    assert_eq!((slapd.0.done(), etcd.server.done()), ("start ".to_owned(), "start ".to_owned()));
    assert_eq!(
        rabbit.server.done(),
        "start stop start ",
        "the node was stopped for its messages and runs again"
    );
    search.assert_clean();
    lab.assert_settled().await;
}
