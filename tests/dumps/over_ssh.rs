//! Engines whose client programs run on another machine: a real sshd, real servers.

use zbus::wire::Variant;

use super::etcd::Etcd;
use super::host::Host;
use super::openldap::Slapd;
use super::rabbitmq::Rabbit;
use super::servers::{Mariadb, Postgres, Redis};
use super::*;

/// An instance `app` with these dumps, each of which runs on the host.
pub(super) fn there(host: &Host, more: &str, dumps: &[String]) -> Setup {
    let ssh = format!("ssh = \"{}:{}\"\n", host.login(), host.port);
    let dumps: Vec<String> = dumps.iter().map(|keys| format!("{ssh}{keys}")).collect();
    let setup = setup(more, &dumps)
        .replace("instances = [\"app\"]", "instances = [\"app\"]\nretry = { attempts = 0 }");
    setup.write("state/ssh/app", &std::fs::read_to_string(host.identity()).unwrap(), 0o600);
    setup.write("state/ssh/known_hosts", &host.known_hosts(), 0o644);
    std::fs::create_dir(host.path("tmp")).unwrap();
    host.on_remote("export TMPDIR=\"$D/tmp\"");
    setup
}

const PASSWORD_KEY: &str = "password_file = \"db.password\"\n";

fn redis(append_only: bool, value: &str) -> Redis {
    let server = Redis::start(append_only);
    server.ask(&["SET", "key", value]);
    server
}

/// Neither the other machine's list of processes nor anything that stays may hold the password.
#[track_caller]
pub(super) fn assert_secret(host: &Host, lab: &Lab) {
    let calls = host.calls().join("\n");
    assert!(!calls.contains("9184"), "{calls}");
    assert_no_canary(lab);
}

async fn include(lab: &Lab, path: &str) -> Ended {
    lab.restore("app", "", &[("include", Variant::from(vec![path]))]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_of_another_machine_are_dumped_whole_and_those_come_back_that_can() {
    let host = Host::start();
    let (server, other) = (redis(true, "first"), redis(false, "other"));
    let (slapd, etcd) = (Slapd::start("first"), Etcd::start("first"));
    let writer = sqlite::make(&host.path("o'dd %.db"), 50);
    let database =
        format!("source = \"sqlite\"\ndatabases = [{:?}]\n", host.path("o'dd %.db").display().to_string());
    // Two services may not have one name.
    let etcd_keys = etcd.definition().replace("name = \"server\"", "name = \"etcd\"");
    let keys = [server.definition() + PASSWORD_KEY, slapd.definition(), etcd_keys, database];
    let lab = there(&host, "", &keys).start().await;
    lab.good_backup("b").await;
    let files: Vec<String> =
        manifest(&lab)["dumps"].as_array().unwrap().iter().map(|one| one["file"].to_string()).collect();
    assert_eq!(files.len(), 6, "{files:?}");
    assert_eq!(lab::names(&host.path("tmp")), [""; 0], "what was spooled there is gone");
    assert_eq!((slapd.0.done(), etcd.server.done()), ("start ".to_owned(), "start ".to_owned()));

    // All come out, and are what they were.
    let target = lab.path("out").display().to_string();
    let ended = lab.restore("app", "", &[("target", Variant::from(target.as_str()))]).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", lab.daemon.log());
    let saved = lab::names(&lab.path("out/dumps/sqlite"));
    assert_eq!(sqlite::count(&lab.path("out/dumps/sqlite").join(&saved[0])), (50, 7, "ok".into()));
    assert!(lab.text("out/dumps/openldap/config.ldif").contains("olcSuffix: dc=one"));
    assert!(lab.path("out/dumps/etcd/snapshot.db").exists());

    server.ask(&["SET", "key", "changed"]);
    server.ask(&["SET", "late", "x"]);
    let ended = include(&lab, "dumps/redis").await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", lab.daemon.log());
    assert_eq!((server.ask(&["GET", "key"]), server.ask(&["EXISTS", "late"])), ("first".into(), "0".into()));
    assert_eq!(other.ask(&["GET", "key"]), "other", "the other server was touched");
    roll_back(&lab).await;
    assert_eq!(
        (server.ask(&["GET", "key"]), server.ask(&["EXISTS", "late"])),
        ("changed".into(), "1".into())
    );
    drop(writer);
    assert_secret(&host, &lab);
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_lost_while_an_engine_dumps_makes_no_set_and_leaves_nothing_there() {
    let host = Host::start();
    let (server, slapd, etcd) = (redis(false, "first"), Slapd::start("first"), Etcd::start("first"));
    drop(sqlite::make(&host.path("app.db"), 50));
    let database = format!("source = \"sqlite\"\ndatabases = [\"{}\"]\n", host.path("app.db").display());
    let etcd_keys = etcd.definition().replace("name = \"server\"", "name = \"etcd\"");
    let keys = [server.definition() + PASSWORD_KEY, slapd.definition(), etcd_keys, database];
    let lab = there(&host, "", &keys).start().await;
    for word in ["--rdb -", "slapcat", "snapshot save", "vacuum into"] {
        host.on_remote(&format!(
            "export TMPDIR=\"$D/tmp\"\ncase $SSH_ORIGINAL_COMMAND in *'{word}'*) kill -9 $PPID;; esac"
        ));
        refused(&lab, &lab.backup("b").await, "cannot be reached over ssh");
        lab.until("nothing is left there", || lab::names(&host.path("tmp")).is_empty()).await;
    }
    assert_eq!(lab::names(&host.path("tmp")), [""; 0]);
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_of_rabbitmq_are_read_and_loaded_by_curl_on_the_other_machine() {
    let host = Host::start();
    let server = Rabbit::begin().wait();
    let user = |name: &str| {
        server.tell("PUT", &format!("users/{name}"), serde_json::json!({"password": "x", "tags": ""}))
    };
    user("app");
    let lab = there(&host, "", &[server.definition()]).start().await;
    lab.good_backup("b").await;
    assert!(host.calls().iter().any(|call| call.contains("curl")), "{:?}", host.calls());
    crate::servers::good(server.call("DELETE", "users/app", None));
    user("late");
    let names = || -> Vec<String> {
        let all = server.state()["users"].as_array().unwrap().clone();
        all.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    lab.good_restore("app").await;
    assert!(names().contains(&"app".to_owned()) && names().contains(&"late".to_owned()), "{:?}", names());
    roll_back(&lab).await;
    assert!(!names().contains(&"app".to_owned()), "{:?}", names());
    assert_secret(&host, &lab);
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_another_machine_go_into_the_repository_whole_or_not_at_all() {
    let host = Host::start();
    let (postgres, mariadb) = (Postgres::start(), Mariadb::start());
    postgres.ask("postgres", "create database shop");
    postgres.ask("shop", "create table item as select generate_series(1, 1000) as id");
    mariadb.ask("create database wiki; create table wiki.t as select 'row' as x");
    let noise = "openssl enc -aes-128-ctr -K 00 -iv 00 -nosalt </dev/zero 2>/dev/null | head -c 3000000";
    let script =
        format!("{noise}; [ ! -e {0}/hold ] || {{ : >{0}/at-half; sleep 1000; }}", host.dir.path().display());
    let keys = [
        format!("stream = true\n{}{PASSWORD_KEY}databases = [\"shop\"]\n", postgres.definition()),
        format!("stream = true\n{}{PASSWORD_KEY}databases = [\"wiki\"]\n", mariadb.definition()),
        format!(
            "stream = true\nsource = \"command\"\nname = \"noise\"\ncommand = [\"bash\", \"-c\", {script:?}]\n"
        ),
    ];
    let lab = there(&host, "restore = { keep_previous = \"0s\" }", &keys).start().await;
    // Cut half way: restic has taken much of it.
    host.write("hold", "", 0o644);
    let job = lab.daemon.run_backup("b").await;
    lab.until("half of it came", || host.path("at-half").exists()).await;
    host.cut();
    let ended = lab.ended(&job).await;
    let said: String = ended.units.iter().map(|unit| unit.error.clone()).collect();
    assert!(ended.outcome == "failed" && said.contains("over ssh"), "{ended:#?}");
    assert_eq!(lab.sets("app").await.len(), 0, "{ended:#?}");
    std::fs::remove_file(host.path("hold")).unwrap();

    lab.good_backup("b").await;
    let dumps = manifest(&lab)["dumps"].clone();
    let noise = dumps.as_array().unwrap().iter().find(|one| one["dump"] == "noise").unwrap();
    assert_eq!(noise["size"], 3_000_000);
    assert!(dumps.as_array().unwrap().iter().all(|one| one["stream"]["snapshot"].is_string()), "{dumps:#}");
    postgres.ask("shop", "delete from item");
    mariadb.ask("delete from wiki.t");
    for name in ["dumps/postgresql", "dumps/mariadb"] {
        let ended = include(&lab, name).await;
        assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", lab.daemon.log());
    }
    assert_eq!(postgres.ask("shop", "select count(*) from item"), "1000");
    assert_eq!(mariadb.ask("select x from wiki.t"), "row");
    assert_secret(&host, &lab);
    lab.assert_settled().await;
}
