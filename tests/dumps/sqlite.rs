//! SQLite: files that are written while they are dumped.

use rusqlite::Connection;

use super::*;

pub(super) fn make(path: &Path, rows: i64) -> Connection {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    connection.pragma_update(None, "user_version", 7).unwrap();
    connection.execute_batch("create table if not exists t(x text)").unwrap();
    for row in 0..rows {
        connection.execute("insert into t values (?1)", [format!("row {row}")]).unwrap();
    }
    connection
}

pub(super) fn count(path: &Path) -> (i64, i64, String) {
    let connection = Connection::open(path).unwrap();
    let count = connection.query_row("select count(*) from t", [], |row| row.get(0)).unwrap();
    let version = connection.query_row("pragma user_version", [], |row| row.get(0)).unwrap();
    let whole = connection.query_row("pragma integrity_check", [], |row| row.get(0)).unwrap();
    (count, version, whole)
}

#[tokio::test]
async fn a_file_in_use_is_dumped_whole_restored_and_rolled_back_with_what_lies_beside_it() {
    let keys =
        "source = \"sqlite\"\ndatabases = [\"@DIR@/data/app.db\", \"@DIR@/apart/o'dd %.db\"]\n".to_owned();
    let setup = setup("include = [\"@DIR@/data\"]", &[keys]);
    let (app, odd) = (setup.path("data/app.db"), setup.path("apart/o'dd %.db"));
    // Open all the time: what was committed last stands in the -wal file only.
    let writer = make(&app, 100);
    drop(make(&odd, 3));
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
    std::fs::set_permissions(&app, mode).unwrap();
    setup.write("data/plain", "plain\n", 0o644);
    let lab = setup.start().await;
    lab.good_backup("b").await;
    writer.execute_batch("begin immediate; insert into t values ('not committed')").unwrap();
    lab.good_backup("b").await;
    writer.execute_batch("commit").unwrap();
    drop(writer);
    let late = make(&app, 50);
    let late_count = count(&app);
    lab.good_restore("app").await;
    drop(late);
    assert_eq!(
        (count(&app), count(&odd)),
        ((100, 7, "ok".into()), (3, 7, "ok".into())),
        "{}",
        lab.daemon.log()
    );
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&app).unwrap()) & 0o777, 0o640);
    roll_back(&lab).await;
    assert_eq!(count(&app), late_count);
    lab.assert_settled().await;
}

#[tokio::test]
async fn a_file_that_is_no_database_or_a_link_to_one_takes_no_snapshot() {
    let keys = "source = \"sqlite\"\ndatabases = [\"@DIR@/data/app.db\"]\n".to_owned();
    let setup = setup("", &[keys]);
    setup.write("data/app.db", "this is no database, whatever its name says\n", 0o600);
    let lab = setup.start().await;
    refused(&lab, &lab.backup("b").await, "dump sqlite");
    drop(make(&lab.path("data/real.db"), 1));
    lab.remove("data/app.db");
    std::os::unix::fs::symlink(lab.path("data/real.db"), lab.path("data/app.db")).unwrap();
    refused(&lab, &lab.backup("b").await, "is not a file");
    lab.remove("data/app.db");
    refused(&lab, &lab.backup("b").await, "looking at");
    drop(make(&lab.path("data/app.db"), 2000));
    let path = lab.path("data/app.db");
    let text = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&text[..8192], &vec![0xaa; 8192], &text[16384..]].concat()).unwrap();
    refused(&lab, &lab.backup("b").await, "dump sqlite");
    lab.assert_settled().await;
}

#[tokio::test]
async fn killed_while_the_restored_file_lives_the_old_one_is_back_after_the_next_start() {
    let keys = "source = \"sqlite\"\ndatabases = [\"@DIR@/data/app.db\"]\n".to_owned();
    let setup = setup(NO_ANSWER, &[keys]);
    let app = setup.path("data/app.db");
    drop(make(&app, 100));
    let mut lab = setup.start().await;
    lab.good_backup("b").await;
    drop(make(&app, 50));
    let late = count(&app);
    lab.start_restore("app", "", &[]).await;
    lab.reached("health").await;
    assert_eq!(count(&app).0, 100, "the restored file lives already");
    lab.daemon.restart_after_kill().await;
    assert_eq!(count(&app), late, "{}", lab.daemon.log());
    lab.assert_settled().await;
}
