//! Dumps that are streamed out of containers of a real Docker: PostgreSQL, twice with different data, and any command.

use serde_json::Value;

use crate::engine::Engine;
use crate::lab::{Lab, Setup, names};
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
    let lab = setup
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
    lab.good_backup("b").await;
    assert_eq!(names(&lab.path("staging")), Vec::<String>::new(), "nothing was staged");
    server.ask("delete from item where id > 7");
    engine.good(&["exec", "pg1", "sh", "-c", "echo two >/data/file"]);
    lab.good_restore("app").await;
    assert_eq!((server.state(), other.state()), (before, wrong), "{}", lab.daemon.log());
    assert_eq!(engine.good(&["exec", "pg1", "cat", "/data/file"]), "one");
    lab.assert_settled().await;
}

/// No set, and nothing in any snapshot.
#[track_caller]
fn nothing_stored(lab: &Lab, why: &str) {
    let listed = lab.restic("repo", &["snapshots", "--json"]);
    for snapshot in serde_json::from_slice::<Vec<Value>>(&listed.stdout).unwrap() {
        assert!(!snapshot["tags"].to_string().contains("kind=tree"), "{why}: {snapshot}");
        let files = lab.restic("repo", &["ls", "--quiet", snapshot["id"].as_str().unwrap()]);
        let files = stdout(&files);
        assert!(!files.contains("shop.dump") && !files.contains("/dump\n"), "{why}: {files}");
    }
}

/// The client ends half way, in each way that it can, and then the container does.
async fn half_a_stream_is_none(engine: &Engine, lab: &Lab) {
    let put = |text: &str| {
        let script = "printf '%s\\n' \"$1\" >/usr/local/bin/pg_dump; chmod 755 /usr/local/bin/pg_dump";
        engine.good(&["exec", "pg1", "sh", "-ec", script, "sh", &format!("#!/bin/sh\n{text}")]);
    };
    for (text, word) in [
        ("/usr/bin/pg_dump \"$@\" | head -c 70000; exit 0", "reading dumps/postgresql/shop.dump"),
        ("/usr/bin/pg_dump \"$@\" | head -c 70000; exit 3", "exited with 3"),
        ("/usr/bin/pg_dump \"$@\" | head -c 70000; kill -9 $$", "exited with 137"),
    ] {
        put(&format!("case \"$*\" in *--version*) exec /usr/bin/pg_dump \"$@\";; esac\n{text}"));
        let ended = lab.backup("b").await;
        let said: String = ended.units.iter().map(|unit| unit.error.clone()).collect();
        assert!(ended.outcome == "failed" && said.contains(word), "{word}: {ended:#?}\n{}", lab.daemon.log());
        nothing_stored(lab, word);
    }
    put("case \"$*\" in *--version*) exec /usr/bin/pg_dump \"$@\";; esac\n\
         /usr/bin/pg_dump \"$@\" | head -c 70000; : >/data/half; sleep 600");
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
