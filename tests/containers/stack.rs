//! Compose stacks that are found by their labels: real PostgreSQL and MariaDB in containers, files of a third one.
#![expect(clippy::disallowed_methods, reason = "tests start real programs themselves")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::engine::Engine;
use crate::lab::{Ended, Lab, Setup, text};
use crate::support::{stderr, stdout};

/// In the databases' environment or in a file in the container; searched for where it must not be.
const PASSWORD: &str = "canary-in-container-7351";

/// PostgreSQL tells its password by a file, MariaDB by a variable. `web` waits for PostgreSQL's health.
const SHOP: &str = r#"version: "2.4"
services:
  db:
    image: servers:1
    network_mode: none
    environment: { POSTGRES_USER: shop, POSTGRES_PASSWORD_FILE: /pw }
    entrypoint:
      - sh
      - -ec
      - |
        printf @SECRET@ > /pw
        mkdir -p /run/postgresql; chown postgres /data /run/postgresql /pw
        as="setpriv --reuid postgres --regid postgres --clear-groups"
        bin=$$(echo /usr/lib/postgresql/*/bin)
        [ -s /data/PG_VERSION ] || $$as $$bin/initdb -N -D /data -U shop --auth scram-sha-256 --pwfile /pw >/dev/null
        exec $$as $$bin/postgres -D /data -c fsync=off -c listen_addresses=
    stop_signal: SIGINT
    healthcheck: { test: ["CMD", "pg_isready"], interval: 1s, retries: 100 }
    volumes: ["pg:/data"]
    labels: { backup.enable: "true", backup.database.pg_dumpall: "true" }
  maria:
    image: servers:1
    network_mode: none
    environment: { MARIADB_ROOT_PASSWORD: @SECRET@ }
    entrypoint:
      - sh
      - -ec
      - |
        mkdir -p /run/mysqld; chown mysql /data /run/mysqld
        [ -d /data/mysql ] || mariadb-install-db --user=mysql --datadir=/data --auth-root-authentication-method=normal >/dev/null
        echo "alter user root@localhost identified by '$$MARIADB_ROOT_PASSWORD';" >/tmp/init
        exec mariadbd --user=mysql --datadir=/data --skip-networking --init-file=/tmp/init
    volumes: ["maria:/data"]
    labels: { backup.enable: "true", backup.database.mariadb-dump: "true" }
  web:
    image: small:1
    network_mode: none
    entrypoint: ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
    depends_on: { db: { condition: service_healthy } }
    volumes: ["files:/data"]
    labels: { backup.enable: "true", backup.volume-path.files: "/data" }
volumes: { pg: {}, maria: {}, files: {} }
"#;

/// A stack with one service, which has these labels.
const SMALL: &str = r#"version: "2.4"
services:
  web:
    image: small:1
    network_mode: none
    entrypoint: ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
    volumes: ["files:/data"]
    labels: { backup.enable: "true", LABELS }
volumes: { files: {} }
"#;

struct Stacks {
    engine: Engine,
    dir: tempfile::TempDir,
}

impl Stacks {
    fn start() -> Self {
        let engine = Engine::docker();
        engine.import_servers();
        Self { engine, dir: tempfile::tempdir().unwrap() }
    }

    fn compose(&self, project: &str, arguments: &[&str]) {
        let file = self.dir.path().join(format!("{project}.yml"));
        let mut command = Command::new("docker-compose");
        command.arg("-f").arg(file).args(["-p", project]).args(arguments);
        let done = command.env("DOCKER_HOST", self.engine.socket()).output().expect("docker-compose runs");
        assert!(done.status.success(), "{arguments:?}: {}{}", stdout(&done), stderr(&done));
    }

    fn up(&self, project: &str, text: &str) {
        fs::write(self.dir.path().join(format!("{project}.yml")), text).unwrap();
        self.compose(project, &["up", "--detach"]);
    }

    fn psql(&self, database: &str, sql: &str) -> String {
        self.psql_of("shop", database, sql)
    }

    fn psql_of(&self, project: &str, database: &str, sql: &str) -> String {
        let container = format!("{project}_db_1");
        let password = format!("PGPASSWORD={PASSWORD}");
        let psql = ["psql", "-U", "shop", "-d", database, "-X", "-At", "-c", sql];
        self.engine.good(&[&["exec", "-e", &password, &container], &psql[..]].concat())
    }

    fn maria(&self, sql: &str) -> Output {
        self.maria_of("shop", sql)
    }

    fn maria_of(&self, project: &str, sql: &str) -> Output {
        let container = format!("{project}_maria_1");
        let password = format!("MYSQL_PWD={PASSWORD}");
        self.engine.call(&["exec", "-e", &password, &container, "mariadb", "-u", "root", "-N", "-e", sql])
    }

    /// The file of a project's `files` volume.
    fn file(&self, project: &str) -> PathBuf {
        let volume = format!("{project}_files");
        let place = self.engine.good(&["volume", "inspect", "--format", "{{.Mountpoint}}", &volume]);
        PathBuf::from(place).join("file")
    }

    fn write(&self, project: &str, text: &str) {
        fs::write(self.file(project), text).unwrap();
    }

    fn damage(&self) {
        self.psql("shop", "delete from item");
        assert!(self.maria("delete from shop.item").status.success());
        self.write("shop", "damaged\n");
    }

    #[track_caller]
    fn assert_data(&self, lab: &Lab, what: &str) {
        let maria = stdout(&self.maria("select count(*) from shop.item"));
        let file = fs::read_to_string(self.file("shop")).unwrap();
        let found = (self.psql("shop", "select count(*) from item"), maria.trim(), file.as_str());
        assert_eq!(found, ("10".to_owned(), "7", "one\n"), "{what}\n{}", lab.daemon.log());
    }

    fn states(&self) -> [String; 3] {
        ["shop_db_1", "shop_maria_1", "shop_web_1"].map(|name| self.engine.state(name))
    }

    #[track_caller]
    fn assert_running(&self, lab: &Lab, what: &str) {
        assert_eq!(self.states(), ["running"; 3], "{what}\n{}", lab.daemon.log());
    }

    /// Asks `holdfast` about this Docker.
    fn holdfast(&self, lab: &Lab, arguments: &[&str]) -> Output {
        let path = format!("{}:/usr/bin:/bin", lab.path("fake").display());
        Command::new(env!("CARGO_BIN_EXE_holdfast")).args(arguments).env("PATH", path).output().unwrap()
    }
}

fn setup(stacks: &Stacks) -> Setup {
    let mut setup = Setup::new();
    stacks.engine.lend(&mut setup);
    setup.config(
        "[discovery]\ndocker = true\n\
         [backup.b]\nrepositories = [\"local\"]\ninstances = [\"compose:*\"]\nretry = { attempts = 0 }\n",
    )
}

fn covered(ended: &Ended) -> Vec<(&str, &str)> {
    let mut all: Vec<_> = ended.units.iter().map(|u| (u.instance.as_str(), u.outcome.as_str())).collect();
    all.sort_unstable();
    all
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: runs a Docker engine"]
async fn system_a_stack_is_found_by_its_labels_backed_up_and_restored() {
    let stacks = Stacks::start();
    stacks.up("shop", &SHOP.replace("@SECRET@", PASSWORD));
    stacks.psql("postgres", "create database shop");
    stacks.psql("shop", "create table item as select generate_series(1, 10) as id");
    let made = "create database shop; create table shop.item (id int); \
                insert into shop.item values (1), (2), (3), (4), (5), (6), (7)";
    crate::support::until("MariaDB takes its password", || stacks.maria("select 1").status.success());
    assert!(stacks.maria(made).status.success());
    stacks.write("shop", "one\n");
    let mut lab = setup(&stacks).start().await;
    backed_up(&stacks, &mut lab).await;
    restored(&stacks, &lab).await;
    others(&stacks, &lab).await;
    assert!(!lab.daemon.log().contains(PASSWORD), "{}", lab.daemon.log());
}

async fn backed_up(stacks: &Stacks, lab: &mut Lab) {
    let ask = "\"$D/fake/docker\" ps --all --format '{{.Names}} {{.State}}' | sort >\"$D/at-stack\"";
    lab.on("backup", ask);
    let ended = lab.good_backup("b").await;
    assert_eq!(covered(&ended), [("shop", "succeeded")]);
    let during = "shop_db_1 running\nshop_maria_1 running\nshop_web_1 exited\n";
    assert_eq!(lab.text("at-stack"), during, "databases run on, what has only paths is stopped");
    stacks.assert_running(lab, "a backup");
    lab.measure_downtime("compose", "b").await;
    lab.hold("backup");
    lab.daemon.run_backup("b").await;
    lab.reached("backup").await;
    assert_eq!(stacks.engine.state("shop_web_1"), "exited");
    lab.daemon.restart_after_kill().await;
    stacks.assert_running(lab, "a kill and a start");
    lab.assert_settled().await;
}

async fn restored(stacks: &Stacks, lab: &Lab) {
    let sets = lab.sets("shop").await;
    let first = text(&sets[0], "id");
    stacks.damage();
    lab.good_restore("shop").await;
    stacks.assert_data(lab, "the latest set");
    stacks.assert_running(lab, "a restore");
    stacks.damage();
    lab.good_backup("b").await;
    let specific = lab.restore("shop", &first, &[("stop", false.into())]).await;
    assert_eq!(specific.outcome, "succeeded", "{specific:?}\n{}", lab.daemon.log());
    stacks.assert_data(lab, "a specific set, nothing stopped");
    let left = lab.restore("shop", &first, &[("start", false.into())]).await;
    assert_eq!(left.outcome, "succeeded", "{left:?}\n{}", lab.daemon.log());
    assert_eq!(stacks.states(), ["running", "running", "exited"], "--no-start");
    stacks.compose("shop", &["start", "web"]);
    under_another_name(stacks, lab, &first).await;
}

/// The same compose file as another project takes what was saved of the first, which goes on as it was.
async fn under_another_name(stacks: &Stacks, lab: &Lab, first: &str) {
    let other: zbus::Result<zbus::wire::OwnedObjectPath> =
        lab.daemon.call("Restore", &("shop", "", named())).await;
    let refusal = other.unwrap_err().to_string();
    assert!(refusal.contains("docker compose -p shop2 up -d"), "{refusal}");
    stacks.up("shop2", &SHOP.replace("@SECRET@", PASSWORD));
    crate::support::until("its MariaDB answers", || stacks.maria_of("shop2", "select 1").status.success());
    stacks.write("shop2", "its own\n");
    stacks.psql("shop", "delete from item where id > 3");
    stacks.write("shop", "newer\n");
    let ended = lab.restore("shop", first, &[("as", "shop2".into())]).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:?}\n{}", lab.daemon.log());
    assert_eq!(ended.units[0].instance, "shop2", "{ended:?}");
    let maria = stdout(&stacks.maria_of("shop2", "select count(*) from shop.item"));
    let found = (stacks.psql_of("shop2", "shop", "select count(*) from item"), maria.trim().to_owned());
    assert_eq!(found, ("10".to_owned(), "7".to_owned()), "{}", lab.daemon.log());
    assert_eq!(fs::read_to_string(stacks.file("shop2")).unwrap(), "one\n");
    assert_eq!(stacks.psql("shop", "select count(*) from item"), "3", "the first one is left alone");
    assert_eq!(fs::read_to_string(stacks.file("shop")).unwrap(), "newer\n");
    let job: zbus::wire::OwnedObjectPath = lab.daemon.call("Rollback", &("shop2",)).await.unwrap();
    assert_eq!(lab.ended(&job).await.outcome, "succeeded", "{}", lab.daemon.log());
    assert_eq!(fs::read_to_string(stacks.file("shop2")).unwrap(), "its own\n");
    stacks.compose("shop2", &["down", "--volumes"]);
}

fn named() -> std::collections::HashMap<&'static str, zbus::wire::Variant<'static>> {
    [("as", "shop2".into())].into()
}

/// Stacks that come, go, or cannot be right.
async fn others(stacks: &Stacks, lab: &Lab) {
    stacks.up("shop_staging", &SMALL.replace("LABELS", "backup.volume-path.files: \"/data\""));
    stacks.write("shop_staging", "other\n");
    let ended = lab.good_backup("b").await;
    assert_eq!(covered(&ended), [("shop", "succeeded"), ("shop_staging", "succeeded")], "without a reload");
    let both = "backup.volume-path.files: \"/data\", backup.database.pg_dumpall: \"true\"";
    stacks.up("bad", &SMALL.replace("LABELS", both));
    let ended = lab.backup("b").await;
    assert_eq!(ended.outcome, "failed", "{ended:?}");
    assert_eq!(covered(&ended), [("bad", "failed"), ("shop", "succeeded"), ("shop_staging", "succeeded")]);
    assert!(ended.error.contains("keep one of the two labels"), "{}", ended.error);
    let shown = stacks.holdfast(lab, &["discover"]);
    assert_eq!(shown.status.code(), Some(3), "{}", stderr(&shown));
    let told = stdout(&shown);
    assert!(told.contains("[instance.shop]") && told.contains("docker:shop_db_1"), "{told}");
    assert!(told.contains("# The compose project bad cannot be backed up"), "{told}");
    let json = stacks.holdfast(lab, &["discover", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
    let names: Vec<_> = json.as_array().unwrap().iter().map(|row| row["project"].as_str().unwrap()).collect();
    assert_eq!(names, ["bad", "shop", "shop_staging"], "{json}");
    gone(stacks, lab).await;
}

/// A stack that is gone is left out of backups; what it had is listed.
async fn gone(stacks: &Stacks, lab: &Lab) {
    stacks.compose("bad", &["down", "--volumes"]);
    stacks.compose("shop_staging", &["down"]);
    assert_eq!(covered(&lab.good_backup("b").await), [("shop", "succeeded")], "one that is gone is left out");
    assert_eq!(lab.sets("shop_staging").await.len(), 2, "its sets are listed");
    let gone = lab.restore("shop_staging", "", &[]).await;
    assert_eq!(gone.outcome, "failed");
    assert!(gone.error.contains("no container belongs to the compose project"), "{}", gone.error);
    let options = std::collections::HashMap::<&str, zbus::wire::Variant<'_>>::new();
    let unknown: zbus::Result<zbus::wire::OwnedObjectPath> =
        lab.daemon.call("Restore", &("nowhere", "", options)).await;
    assert!(unknown.unwrap_err().to_string().contains("up --no-start"));
    lab.assert_settled().await;
}
