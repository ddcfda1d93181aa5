//! A file instead of the saved dump: edited by hand, or made elsewhere by `pg_dumpall`, `pg_dump` or `mariadb-dump`.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use zbus::wire::{Dict, Fd, OwnedObjectPath, Variant};

use super::servers::{Mariadb, Postgres, good};
use super::*;

pub(super) type Options = HashMap<&'static str, Variant<'static>>;

pub(super) fn given(files: &[(&str, PathBuf)]) -> Options {
    let open = |path: &PathBuf| Fd::from(OwnedFd::from(std::fs::File::open(path).unwrap()));
    let files: HashMap<String, Fd<'static>> =
        files.iter().map(|(name, path)| ((*name).to_owned(), open(path))).collect();
    HashMap::from([("dump", Variant::Dict(Dict::from(files)))])
}

pub(super) async fn restore(lab: &Lab, options: &Options) -> Ended {
    let called: zbus::Result<OwnedObjectPath> = lab.daemon.call("Restore", &("app", "", options)).await;
    lab.ended(&called.unwrap_or_else(|e| panic!("{e}\n{}", lab.daemon.log()))).await
}

async fn planned(lab: &Lab, options: &Options) -> serde_json::Value {
    let text: String = lab.daemon.call("Plan", &("app", "", options)).await.unwrap();
    serde_json::from_str(&text).unwrap()
}

const ODD: &str = "o'dd \"x";
const ROWS: &str = "create table item(id int, name text); create table empty(x int); \
    insert into item select g, E'row\\n\\\\connect other; ' || g from generate_series(1, 300) g; \
    create function f() returns text language sql as $$ select 'a;' /* \\connect x */ $$";

fn shop() -> Postgres {
    let server = Postgres::start();
    server.ask("postgres", "create role keeper login password 'pw;''x'");
    server.ask("postgres", "create database shop owner keeper");
    server.ask("postgres", "create database \"o'dd \"\"x\"");
    server.ask("postgres", "alter database shop set work_mem to '7MB'");
    for name in ["shop", ODD] {
        server.ask(name, ROWS);
    }
    server
}

fn all_of(server: &Postgres, to: &Path, arguments: &[&str]) -> PathBuf {
    let mut dump = server.client("pg_dumpall");
    std::fs::write(to, good(dump.args(arguments).output().unwrap()) + "\n").unwrap();
    to.to_owned()
}

fn state(server: &Postgres) -> Vec<String> {
    let sql = "select count(*), sum(length(name)), f() from item group by f()";
    let mut all: Vec<String> = ["shop", ODD].iter().map(|name| server.ask(name, sql)).collect();
    all.push(server.ask("shop", "show work_mem"));
    all.push(
        server.ask("postgres", "select pg_get_userbyid(datdba) from pg_database where datname = 'shop'"),
    );
    // What a restore keeps is there as well, until it is rolled back.
    let own = |name: &String| !name.starts_with("holdfast_");
    all.push(server.databases().into_iter().filter(own).collect::<Vec<_>>().join(","));
    all
}

async fn lab(server: &Postgres) -> Lab {
    let odd = toml::Value::from(ODD);
    let keys = format!(
        "{}password_file = \"{PASSWORD_FILE}\"\nname = \"db\"\ndatabases = [\"shop\", {odd}]\n",
        server.definition()
    );
    let lab = setup(HEALTH, &[keys]);
    lab.write("health", "0\n", 0o644);
    let lab = lab.start().await;
    lab.good_backup("b").await;
    lab
}

#[tokio::test]
async fn a_text_of_all_databases_made_elsewhere_is_loaded_whole_or_one_taken_out_of_it() {
    let (server, other) = (shop(), shop());
    let lab = lab(&server).await;
    other.ask("postgres", "create role stranger");
    other.ask("postgres", "create database unrelated");
    for name in ["shop", ODD] {
        other.ask(name, "insert into item values (0, 'from elsewhere')");
    }
    let (late, theirs) = (state(&server), state(&other));
    let all = all_of(&other, &lab.path("all.sql"), &["--clean"]);
    // One database of it: the other one and all else stay.
    let mut options = given(&[("db", all.clone())]);
    let plan = planned(&lab, &options).await;
    assert!(
        plan["problems"] == serde_json::json!([]) && plan["dumps"].to_string().contains("\"given\":true"),
        "{plan:#}"
    );
    options.insert("database", Variant::from(vec!["shop"]));
    let ended = restore(&lab, &options).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", lab.daemon.log());
    assert_eq!((&state(&server)[0], &state(&server)[1..]), (&theirs[0], &late[1..]));
    roll_back(&lab).await;
    assert_eq!(state(&server), late);
    // All that the definition names, and roles that are missing; what it does not name is not made.
    let ended = restore(&lab, &given(&[("db", all)])).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", lab.daemon.log());
    assert_eq!((&state(&server)[..4], &state(&server)[4]), (&theirs[..4], &late[4]));
    assert_eq!(server.ask("postgres", "select count(*) from pg_roles where rolname = 'stranger'"), "1");
    roll_back(&lab).await;
    assert_eq!(state(&server), late);
    lab.assert_settled().await;
}

#[tokio::test]
async fn an_edited_dump_is_loaded_instead_of_the_saved_one_and_what_is_none_changes_nothing() {
    let server = shop();
    let mut lab = lab(&server).await;
    server.ask("shop", "delete from item where id > 5");
    let late = state(&server);
    let one = server.client("pg_dump").args(["--clean", "shop"]).output().unwrap();
    let text = good(one) + "\n";
    let write = |name: &str, text: &str| lab.write(name, text, 0o600);
    let mended = write(
        "mended.sql",
        &text.replace("COPY public.empty (x) FROM stdin;\n", "COPY public.empty (x) FROM stdin;\n77\n"),
    );
    let cut = write("cut.sql", &text[..text.len() / 2]);
    let wrong =
        write("wrong.sql", &text.replace("CREATE TABLE public.empty", "CREATE NONSENSE public.empty"));
    let shell = write(
        "shell.sql",
        &text.replace("CREATE TABLE public.empty", "\\! touch /tmp/never\nCREATE TABLE public.empty"),
    );
    let lost =
        write("lost.sql", &format!("-- x\n{}", text.replace("CREATE TABLE public.item", "SELECT 1; --")));
    let picture = write("picture.sql", "GIF89a, and no dump at all");
    for (name, file, word) in [
        ("db/shop", &cut, "end marker"),
        ("db/shop", &picture, "neither an archive"),
        ("db/shop", &wrong, "NONSENSE"),
        ("db/shop", &shell, "no command that pg_dump writes"),
        ("db/shop", &lost, "syntax error"),
        ("db", &mended, "say which one"),
        ("nothing", &mended, "holds no dump"),
    ] {
        let ended = restore(&lab, &given(&[(name, file.clone())])).await;
        not_restored(&lab, &ended, word);
        not_restored(&lab, &ended, "the live data was not touched");
        assert_eq!(state(&server), late, "{word}");
        assert!(!server.databases().join(",").contains("holdfast_"), "{word}");
        lab.assert_settled().await;
    }
    let plan = planned(&lab, &given(&[("db/shop", cut)])).await;
    assert!(plan["problems"].to_string().contains("end marker"), "{plan:#}");
    // It does not run well: what lived lives again.
    let options = || given(&[("db/shop", mended.clone())]);
    lab.write("health", "1\n", 0o644);
    not_restored(&lab, &restore(&lab, &options()).await, "the old data is back");
    assert_eq!(state(&server), late);
    assert!(!server.databases().join(",").contains("holdfast_"));
    lab.write("health", "0\n", 0o644);
    let ended = restore(&lab, &options()).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", lab.daemon.log());
    assert_eq!(server.ask("shop", "select x from empty"), "77");
    assert_eq!(server.ask("shop", "select count(*) from item"), "5");
    roll_back(&lab).await;
    assert_eq!(state(&server), late);
    lab.daemon.restart_after_kill().await;
    assert_no_canary(&lab);
    lab.assert_settled().await;
}

#[tokio::test]
async fn an_archive_in_custom_format_made_elsewhere_takes_the_place_of_the_saved_one() {
    let (server, other) = (shop(), shop());
    let lab = lab(&server).await;
    other.ask("shop", "insert into item values (0, 'from elsewhere')");
    let archive = lab.path("shop.dump");
    let mut dump = other.client("pg_dump");
    good(dump.args(["-Fc", "-f"]).arg(&archive).arg("shop").output().unwrap());
    let ended = restore(&lab, &given(&[("db/shop", archive)])).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", lab.daemon.log());
    assert_eq!(server.ask("shop", "select count(*) from item"), "301");
    lab.assert_settled().await;
}

#[tokio::test]
async fn the_command_opens_the_file_itself_and_shows_in_its_plan_what_was_given() {
    let server = shop();
    let lab = lab(&server).await;
    server.ask("shop", "delete from item");
    let one = server.client("pg_dump").arg(ODD).output().unwrap();
    let file = lab.write("one.sql", &(good(one) + "\n"), 0o600);
    let run = |arguments: &[&str]| {
        let mut holdfast = lab.bus.command(env!("CARGO_BIN_EXE_holdfast"));
        holdfast.args(["--bus", &lab.bus.address]).args(arguments).output().unwrap()
    };
    let dump = format!("db/shop={}", file.display());
    let plan = run(&["plan", "app", "--dump", &dump]);
    assert!(crate::support::stdout(&plan).contains("the file that was given"), "{plan:?}");
    let done = run(&["restore", "app", "--yes", "--dump", &dump]);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(server.ask("shop", "select count(*) from item"), "300");
    let absent = run(&["restore", "app", "--yes", "--dump", "db/shop=/no/such/file"]);
    assert!(
        !absent.status.success() && crate::support::stderr(&absent).contains("/no/such/file"),
        "{absent:?}"
    );
    lab.assert_settled().await;
}

#[tokio::test]
async fn an_archive_of_the_compose_sidecar_is_loaded_by_a_dump_of_its_engine() {
    let (server, other) = (shop(), shop());
    let lab = lab(&server).await;
    other.ask("shop", "insert into item values (0, 'from elsewhere')");
    std::fs::create_dir_all(lab.path("stack/db/database")).unwrap();
    all_of(&other, &lab.path("stack/db/database/pg_dumpall.sql"), &[]);
    let archive = lab.path("backup_shop_20331105-120000_0a1b.tar");
    let mut tar = lab.bus.command("tar");
    good(tar.arg("-C").arg(lab.path("stack")).arg("-cf").arg(&archive).arg("db").output().unwrap());
    let mut holdfast = lab.bus.command(env!("CARGO_BIN_EXE_holdfast"));
    holdfast.args(["--bus", &lab.bus.address, "import"]).arg(&archive).args(["--instance", "app"]);
    let done = holdfast.args(["--time", "2026-11-20"]).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let sets = lab.sets("app").await;
    let imported = sets.iter().find(|set| lab::text(set, "backup") == "(import)").unwrap();
    let late = state(&server);
    let ended = lab.restore("app", &lab::text(imported, "id"), &[]).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", lab.daemon.log());
    assert_eq!((&state(&server)[..4], &state(&server)[4]), (&state(&other)[..4], &late[4]));
    assert_eq!(server.ask("shop", "select count(*) from item"), "301");
    roll_back(&lab).await;
    assert_eq!(state(&server), late);
    lab.assert_settled().await;
}

#[tokio::test]
async fn a_text_of_all_databases_of_mariadb_is_taken_apart_too() {
    let (server, other) = (Mariadb::start(), Mariadb::start());
    for (server, row) in [(&server, "here"), (&other, "elsewhere")] {
        for name in ["wiki", "shop"] {
            server.ask(&format!("create database {name} character set latin1; create table {name}.t(x text); insert into {name}.t values ('{row}; USE `x`;\\n')"));
        }
    }
    let keys = format!("{}password_file = \"{PASSWORD_FILE}\"\nname = \"db\"\n", server.definition());
    let lab = setup("", &[keys]).start().await;
    lab.good_backup("b").await;
    other.ask("drop table wiki.t; create table wiki.u(y int); create view wiki.v as select y from wiki.u");
    let file = lab.write("all.sql", &other.dump(&["--all-databases"]), 0o600);
    let mut options = given(&[("db", file)]);
    options.insert("database", Variant::from(vec!["wiki"]));
    let ended = restore(&lab, &options).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", lab.daemon.log());
    assert_eq!(server.ask("show tables in wiki"), "u\nv");
    assert!(server.ask("show create database wiki").contains("latin1"));
    assert!(server.ask("select x from shop.t").starts_with("here"));
    roll_back(&lab).await;
    assert_eq!(server.ask("show tables in wiki"), "t");
    lab.assert_settled().await;
}
