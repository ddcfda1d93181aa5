//! What is the same for every source: space, names, what is no longer defined, containers.

use zbus::wire::Variant;

use super::servers::Postgres;
use super::*;

#[tokio::test]
async fn a_dump_that_is_no_longer_defined_is_refused_by_name_and_comes_out_into_a_directory() {
    let keys = "source = \"command\"\nname = \"index\"\ncommand = [\"echo\", \"x\"]\n".to_owned();
    let setup = setup("include = [\"@DIR@/data\"]", &[keys]);
    setup.write("data/file", "one\n", 0o644);
    let lab = setup.start().await;
    lab.good_backup("b").await;
    let config = lab.text("config/holdfast.toml").replace("name = \"index\"", "name = \"other\"");
    lab.write("config/holdfast.toml", &config, 0o600);
    let _: Vec<String> = lab.daemon.call("Reload", &()).await.unwrap();
    lab.write("data/file", "two\n", 0o644);
    not_restored(&lab, &lab.restore("app", "", &[]).await, "defines no dump index any more");
    assert_eq!(lab.text("data/file"), "two\n");
    let target = lab.path("out").display().to_string();
    let ended = lab.restore("app", "", &[("target", Variant::from(target.as_str()))]).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}");
    assert_eq!(lab.text("out/dumps/index/dump"), "x\n");
}

#[tokio::test]
async fn in_a_container_its_own_client_runs_and_its_environment_says_who_logs_in() {
    let server = Postgres::start();
    server.ask("postgres", "create role app superuser login password 'canary:from the file'");
    server.ask("postgres", "create database shop");
    server.ask("shop", "create table item as select generate_series(1, 10) as id");
    let keys = "source = \"postgresql\"\ncontainer = \"shop-db\"\ndatabases = [\"shop\"]\n".to_owned();
    let mut setup = setup("restore = { keep_previous = \"0s\" }", &[keys]);
    setup.write("secret", "canary:from the file\n", 0o600);
    let variables = "\"Config\":{\"Env\":[\"POSTGRES_USER=app\",\"POSTGRES_PASSWORD_FILE=@DIR@/secret\"]}";
    container(&mut setup, "shop-db", variables, &format!("PGHOST='{}'", server.0.dir.path().display()));
    let lab = setup.start().await;
    lab.good_backup("b").await;
    server.ask("shop", "delete from item");
    lab.good_restore("app").await;
    assert_eq!(server.ask("shop", "select count(*) from item"), "10");
    let calls = lab.text("engine-calls");
    assert!(
        calls.contains("pg_dump") && calls.contains("-e PGPASSWORD ") && !calls.contains("canary"),
        "{calls}"
    );
    assert!(!lab.daemon.log().contains("canary:from"), "{}", lab.daemon.log());
    lab.assert_settled().await;
}

#[tokio::test]
#[ignore = "needs root: runs clients as another user"]
async fn system_client_programs_run_as_the_user_that_the_definition_names() {
    let server = Postgres::start();
    server.ask("postgres", "create database shop");
    server.ask("shop", "create table item as select generate_series(1, 10) as id");
    let keys = format!(
        "{}password_file = \"{PASSWORD_FILE}\"\nrun_as = \"postgres\"\ndatabases = [\"shop\"]\n",
        server.definition()
    );
    let mut setup = setup("", &[keys]);
    let enter = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(setup.dir.path(), enter).unwrap();
    fake(&mut setup, "pg_dump", "id -un >>/tmp/hf-$(basename \"$D\")\nexec \"$real\" \"$@\"");
    let said = Path::new("/tmp").join(format!("hf-{}", setup.dir.path().file_name().unwrap().display()));
    let lab = setup.start().await;
    lab.good_backup("b").await;
    server.ask("shop", "delete from item");
    lab.good_restore("app").await;
    assert_eq!(server.ask("shop", "select count(*) from item"), "10");
    let who = std::fs::read_to_string(&said).unwrap();
    std::fs::remove_file(&said).unwrap();
    assert!(who.lines().count() > 0 && who.lines().all(|user| user == "postgres"), "{who}");
    assert_no_canary(&lab);
}

/// Needs a small file system of its own.
#[tokio::test]
#[ignore = "needs root: mounts a tmpfs"]
async fn system_a_full_disk_while_staging_takes_no_snapshot_and_leaves_nothing() {
    let keys = "source = \"command\"\ncommand = [\"head\", \"-c\", \"20000000\", \"/dev/zero\"]\n".to_owned();
    let setup = setup("", &[keys]);
    let staging = setup.path("staging");
    let mounted = crate::support::mount::Mount::tmpfs(staging.clone(), "size=4m,mode=0700");
    let lab = setup.start().await;
    let ended = lab.backup("b").await;
    let left = lab::names(&staging);
    drop(mounted);
    refused(&lab, &ended, "No space left");
    assert_eq!(left, Vec::<String>::new());
}
