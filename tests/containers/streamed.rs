//! Dumps that are streamed out of containers of a real Docker: PostgreSQL, twice with different data, MariaDB, and any
//! command.

use serde_json::Value;

use crate::engine::Engine;
use crate::lab::{Lab, Setup, names, text};
use crate::support::{stdout, until};

/// Makes a new PostgreSQL, or runs the one that is there.
const POSTGRES: &str = "
    mkdir -p /run/postgresql; chown postgres /data /run/postgresql
    as='setpriv --reuid postgres --regid postgres --clear-groups'
    bin=$(echo /usr/lib/postgresql/*/bin)
    [ -s /data/PG_VERSION ] || $as $bin/initdb -N -D /data -U postgres --auth trust >/dev/null
    exec $as $bin/postgres -D /data -c fsync=off -c listen_addresses=";

struct Postgres<'e>(&'e Engine, &'static str);

impl Postgres<'_> {
    fn ask(&self, sql: &str) -> String {
        self.0.good(&["exec", self.1, "psql", "-U", "postgres", "-X", "-At", "-d", "shop", "-c", sql])
    }

    fn begin(&self, rows: &str) {
        let volume = format!("{}:/data", self.1);
        let arguments = ["run", "--detach", "--network", "none", "--name", self.1, "--volume", &volume];
        self.0.good(&[&arguments[..], &["servers:1", "sh", "-ec", POSTGRES]].concat());
        let create = ["exec", self.1, "createdb", "-U", "postgres", "shop"];
        until("PostgreSQL answers", || self.0.call(&create).status.success());
        self.ask(&format!(
            "create table item as select g as id, md5(g::text) from generate_series(1, {rows}) g"
        ));
    }

    fn state(&self) -> String {
        self.ask("select count(*), md5(string_agg(md5, '' order by id)) from item")
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: runs a Docker engine"]
async fn system_dumps_are_streamed_out_of_containers_and_half_of_one_is_never_stored() {
    let engine = Engine::docker();
    engine.import_servers();
    let (server, other) = (Postgres(&engine, "pg1"), Postgres(&engine, "pg2"));
    server.begin("20000");
    other.begin("3");
    let (before, wrong) = (server.state(), other.state());
    let mut setup = Setup::new();
    engine.lend(&mut setup);
    let mut lab = setup
        .config(
            "[backup.b]\nrepositories = [\"local\"]\ninstances = [\"app\"]\nretry = { attempts = 0 }\n\
             [instance.app]\nrestore = { keep_previous = \"0s\" }\n\
             [[instance.app.dump]]\nsource = \"postgresql\"\ncontainer = \"pg1\"\nstream = true\n\
             [[instance.app.dump]]\nsource = \"command\"\nname = \"file\"\ncontainer = \"pg1\"\nstream = true\n\
             command = [\"cat\", \"/data/file\"]\nrestore = [\"sh\", \"-c\", \"cat >/data/file\"]\n",
        )
        .start()
        .await;
    engine.good(&["exec", "pg1", "sh", "-c", "echo one >/data/file"]);
    half_a_stream_is_none(&engine, &lab).await;
    the_daemon_dies(&engine, &mut lab).await;
    lab.good_backup("b").await;
    assert_eq!(names(&lab.path("staging")), Vec::<String>::new(), "nothing was staged");
    server.ask("delete from item where id > 7");
    engine.good(&["exec", "pg1", "sh", "-c", "echo two >/data/file"]);
    lab.good_restore("app").await;
    assert_eq!((server.state(), other.state()), (before, wrong), "{}", lab.daemon.log());
    assert_eq!(engine.good(&["exec", "pg1", "cat", "/data/file"]), "one");
    lab.assert_settled().await;
}

/// No set, and nothing of a database in any snapshot.
#[track_caller]
fn nothing_stored(lab: &Lab, why: &str) {
    let listed = lab.restic("repo", &["snapshots", "--json"]);
    for snapshot in serde_json::from_slice::<Vec<Value>>(&listed.stdout).unwrap() {
        assert!(!snapshot["tags"].to_string().contains("kind=tree"), "{why}: {snapshot}");
        let files = lab.restic("repo", &["ls", "--quiet", snapshot["id"].as_str().unwrap()]);
        let files = stdout(&files);
        assert!(
            !files.contains("shop.dump") && !files.contains("shop.sql") && !files.contains("/dump\n"),
            "{why}: {files}"
        );
    }
}

/// Puts a script before a program of a container; it does what it is asked about its version.
fn put(engine: &Engine, container: &str, program: &str, text: &str) {
    let script = "printf '%s\\n' \"$2\" >\"/usr/local/bin/$1\"; chmod 755 \"/usr/local/bin/$1\"";
    let text =
        format!("#!/bin/sh\ncase \"$*\" in *--version*) exec /usr/bin/{program} \"$@\";; esac\n{text}");
    engine.good(&["exec", container, "sh", "-ec", script, "sh", program, &text]);
}

/// Half of a stream has come when the daemon is killed: nothing of it counts, and nobody goes on in the container.
async fn the_daemon_dies(engine: &Engine, lab: &mut Lab) {
    put(engine, "pg1", "pg_dump", "/usr/bin/pg_dump \"$@\" | head -c 70000; : >/data/half; exec sleep 54321");
    lab.daemon.run_backup("b").await;
    until("half of it is there", || engine.call(&["exec", "pg1", "rm", "/data/half"]).status.success());
    assert!(engine.good(&["top", "pg1"]).contains("sleep 54321"));
    lab.daemon.restart_after_kill().await;
    until("the client in the container has ended", || !engine.good(&["top", "pg1"]).contains("sleep 54321"));
    let sql = "select count(*) from pg_stat_activity where application_name = 'pg_dump'";
    assert_eq!(Postgres(engine, "pg1").ask(sql), "0");
    nothing_stored(lab, "the daemon was killed");
    assert_eq!(text(&lab.history().await[0], "Outcome"), "interrupted");
    lab.assert_settled().await;
    engine.good(&["exec", "pg1", "rm", "/usr/local/bin/pg_dump"]);
}

/// Makes a new MariaDB, or runs the one that is there.
const MARIADB: &str = "
    mkdir -p /run/mysqld; chown mysql /data /run/mysqld
    [ -d /data/mysql ] || mariadb-install-db --user=mysql --datadir=/data --auth-root-authentication-method=normal >/dev/null
    echo \"alter user root@localhost identified by '$MARIADB_ROOT_PASSWORD';\" >/tmp/init
    exec mariadbd --user=mysql --datadir=/data --skip-networking --init-file=/tmp/init";
/// Root's; searched for where it must not be.
const PASSWORD: &str = "canary-in-maria-9923";

fn maria(engine: &Engine, sql: &str) -> std::process::Output {
    let (password, ask) = (format!("MYSQL_PWD={PASSWORD}"), ["mariadb", "-u", "root", "-N", "-e", sql]);
    engine.call(&[&["exec", "-e", &password, "maria"], &ask[..]].concat())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: runs a Docker engine"]
async fn system_a_mariadb_is_streamed_out_of_its_container_or_nothing_of_it_is_stored() {
    let engine = Engine::docker();
    engine.import_servers();
    let password = format!("MARIADB_ROOT_PASSWORD={PASSWORD}");
    let options = ["--network", "none", "--name", "maria", "--volume", "maria:/data", "--env", &password];
    engine.good(&[&["run", "--detach"], &options[..], &["servers:1", "sh", "-ec", MARIADB]].concat());
    until("MariaDB takes its password", || maria(&engine, "select 1").status.success());
    let made = "create database shop; use shop; create table shop.item (id int primary key, text varchar(40)); \
                insert into shop.item select seq, md5(seq) from seq_1_to_20000; \
                create trigger shop.t before insert on shop.item for each row set new.text = upper(new.text)";
    assert!(maria(&engine, made).status.success());
    let sql = "select count(*), sum(crc32(concat(id, text))) from shop.item; show triggers in shop";
    let state = || stdout(&maria(&engine, sql)).split_whitespace().take(5).collect::<Vec<_>>().join(" ");
    let before = state();
    assert!(before.starts_with("20000 "), "{before}");
    let mut setup = Setup::new();
    engine.lend(&mut setup);
    let mut lab = setup
        .config(
            "[backup.b]\nrepositories = [\"local\"]\ninstances = [\"app\"]\nretry = { attempts = 0 }\n\
             [instance.app]\n[[instance.app.dump]]\nsource = \"mariadb\"\ncontainer = \"maria\"\nstream = true\n",
        )
        .start()
        .await;
    half_of_a_mariadb_is_none(&engine, &mut lab).await;
    lab.good_backup("b").await;
    assert_eq!(names(&lab.path("staging")), Vec::<String>::new(), "nothing was staged");
    assert!(maria(&engine, "delete from shop.item where id > 7; drop trigger shop.t").status.success());
    let late = state();
    lab.good_restore("app").await;
    assert_eq!(state(), before, "{}", lab.daemon.log());
    let job: zbus::wire::OwnedObjectPath = lab.daemon.call("Rollback", &("app",)).await.unwrap();
    assert_eq!(lab.ended(&job).await.outcome, "succeeded", "{}", lab.daemon.log());
    assert_eq!(state(), late, "rolled back");
    assert!(!lab.daemon.log().contains(PASSWORD));
    lab.assert_settled().await;
}

/// The client ends half way, in each way that it can; then the daemon is killed while it hangs.
async fn half_of_a_mariadb_is_none(engine: &Engine, lab: &mut Lab) {
    let real =
        "case \"$*\" in *shop*) ;; *) exec /usr/bin/mariadb-dump \"$@\";; esac\n/usr/bin/mariadb-dump \"$@\"";
    for (text, word) in [
        (" | head -c 70000; exit 0", "the dump was cut off"),
        (" | head -c 70000; exit 3", "exited with 3"),
        (" | head -c 70000; kill -9 $$", "exited with 137"),
        ("; exit 2", "exited with 2"),
    ] {
        put(engine, "maria", "mariadb-dump", &format!("{real}{text}"));
        let ended = lab.backup("b").await;
        let said: String = ended.units.iter().map(|unit| unit.error.clone()).collect();
        assert!(ended.outcome == "failed" && said.contains(word), "{word}: {ended:#?}\n{}", lab.daemon.log());
        nothing_stored(lab, word);
    }
    put(engine, "maria", "mariadb-dump", &format!("{real} | head -c 70000; : >/data/half; exec sleep 54321"));
    lab.daemon.run_backup("b").await;
    until("half of it is there", || engine.call(&["exec", "maria", "rm", "/data/half"]).status.success());
    lab.daemon.restart_after_kill().await;
    until("the client in the container has ended", || {
        !engine.good(&["top", "maria"]).contains("sleep 54321")
    });
    nothing_stored(lab, "the daemon was killed");
    engine.good(&["exec", "maria", "rm", "/usr/local/bin/mariadb-dump"]);
}

/// The client ends half way, in each way that it can, and then the container does.
async fn half_a_stream_is_none(engine: &Engine, lab: &Lab) {
    for (text, word) in [
        ("/usr/bin/pg_dump \"$@\" | head -c 70000; exit 0", "reading dumps/postgresql/shop.dump"),
        ("/usr/bin/pg_dump \"$@\" | head -c 70000; exit 3", "exited with 3"),
        ("/usr/bin/pg_dump \"$@\" | head -c 70000; kill -9 $$", "exited with 137"),
    ] {
        put(engine, "pg1", "pg_dump", text);
        let ended = lab.backup("b").await;
        let said: String = ended.units.iter().map(|unit| unit.error.clone()).collect();
        assert!(ended.outcome == "failed" && said.contains(word), "{word}: {ended:#?}\n{}", lab.daemon.log());
        nothing_stored(lab, word);
    }
    put(engine, "pg1", "pg_dump", "/usr/bin/pg_dump \"$@\" | head -c 70000; : >/data/half; sleep 600");
    let job = lab.daemon.run_backup("b").await;
    until("half of it is there", || engine.call(&["exec", "pg1", "rm", "/data/half"]).status.success());
    engine.good(&["kill", "pg1"]);
    let ended = lab.ended(&job).await;
    assert_eq!(ended.outcome, "failed", "{ended:#?}\n{}", lab.daemon.log());
    nothing_stored(lab, "the container was killed");
    engine.good(&["start", "pg1"]);
    let ready = ["exec", "pg1", "psql", "-U", "postgres", "-d", "shop", "-c", "select 1"];
    until("PostgreSQL answers again", || engine.call(&ready).status.success());
    engine.good(&["exec", "pg1", "rm", "/usr/local/bin/pg_dump"]);
}
