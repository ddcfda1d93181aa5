use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::state::{JobRecord, Kind, Outcome, Phase, SetRecord, UnitRecord};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn open_in(dir: &Path) -> (Database, Opened) {
    Database::open(dir, at(0)).unwrap()
}

fn unit(instance: &str, repository: &str, outcome: Option<Outcome>) -> UnitRecord {
    UnitRecord {
        instance: instance.into(),
        repository: repository.into(),
        phase: Phase::Snapshot,
        outcome,
        snapshot: "5na9".into(),
        error: String::new(),
        bytes: 3,
        bytes_added: 2,
        downtime: 1_200_000,
        files: 1,
    }
}

fn job(id: &str, second: i64, outcome: Option<Outcome>) -> JobRecord {
    JobRecord {
        id: id.into(),
        kind: Kind::Backup,
        subject: "daily".into(),
        cause: "schedule".into(),
        queued: at(second),
        started: Some(at(second)),
        finished: outcome.map(|_| at(second + 10)),
        phase: Phase::Snapshot,
        outcome,
        error: String::new(),
        bytes_done: u64::MAX,
        bytes_total: 7,
        files_done: 1,
        units: vec![unit("a1", "b2", outcome), unit("a2", "local", outcome)],
    }
}

fn set(snapshot: &str, second: i64) -> SetRecord {
    SetRecord {
        repository: "b2".into(),
        location: "m/u".into(),
        set: "j1".into(),
        snapshot: snapshot.into(),
        instance: "a1".into(),
        uuid: "u".into(),
        backup: "daily".into(),
        host: "srv1".into(),
        time: at(second),
        size: 10,
        files: 2,
        version: "1.0".into(),
        outcome: Some(Outcome::Succeeded),
    }
}

fn ids(jobs: &[JobRecord]) -> Vec<&str> {
    jobs.iter().map(|job| job.id.as_str()).collect()
}

fn snapshots(sets: &[SetRecord]) -> Vec<&str> {
    sets.iter().map(|set| set.snapshot.as_str()).collect()
}

#[tokio::test]
async fn what_was_saved_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let (db, opened) = open_in(&dir.path().join("deep/state"));
    assert_eq!(opened, Opened::Fresh);
    let mut saved = job("j1", 1, Some(Outcome::Warning));
    saved.error = "line\n\u{0}'; DROP TABLE job; --\u{1F4A5}".into();
    db.save_job(&saved).await.unwrap();
    db.set_decided("backup/daily", at(5)).await.unwrap();
    db.set_meta("paused", "1").await.unwrap();
    drop(db);
    let (db, opened) = open_in(&dir.path().join("deep/state"));
    assert_eq!(opened, Opened::Existing);
    // SQLite's numbers are signed.
    saved.bytes_done = i64::MAX as u64;
    assert_eq!(db.job("j1").await.unwrap(), Some(saved));
    assert_eq!(db.job("j2").await.unwrap(), None);
    assert_eq!(db.decided("backup/daily").await.unwrap(), Some(at(5)));
    assert_eq!(db.decided("backup/other").await.unwrap(), None);
    assert_eq!(
        db.all_decided().await.unwrap().into_iter().collect::<Vec<_>>(),
        [("backup/daily".into(), at(5))]
    );
    assert_eq!(db.meta("paused").await.unwrap().as_deref(), Some("1"));
    assert_eq!(db.meta("other").await.unwrap(), None);
}

#[tokio::test]
async fn the_files_are_for_the_daemon_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("holdfast.db"), "").unwrap();
    let (db, _) = open_in(dir.path());
    db.set_meta("a", "b").await.unwrap();
    for name in ["holdfast.db", "holdfast.db-wal", "holdfast.db-shm"] {
        let mode = fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn jobs_are_found_by_everything_that_can_be_asked_for_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let (db, _) = open_in(dir.path());
    for (id, second, outcome) in
        [("j1", 1, Some(Outcome::Failed)), ("j2", 2, None), ("j3", 3, Some(Outcome::Succeeded))]
    {
        db.save_job(&job(id, second, outcome)).await.unwrap();
    }
    let mut other = job("j4", 4, Some(Outcome::Succeeded));
    (other.kind, other.subject, other.units) = (Kind::Prune, "b2".into(), vec![unit("", "b2", None)]);
    db.save_job(&other).await.unwrap();
    let all = JobFilter::default;
    for (filter, expected) in [
        (all(), vec!["j4", "j3", "j2", "j1"]),
        (JobFilter { limit: Some(2), ..all() }, vec!["j4", "j3"]),
        (JobFilter { limit: Some(0), ..all() }, vec![]),
        (JobFilter { kind: Some(Kind::Prune), ..all() }, vec!["j4"]),
        (JobFilter { subject: Some("daily".into()), limit: Some(1), ..all() }, vec!["j3"]),
        (JobFilter { instance: Some("a2".into()), ..all() }, vec!["j3", "j2", "j1"]),
        (JobFilter { repository: Some("b2".into()), ..all() }, vec!["j4", "j3", "j2", "j1"]),
        (JobFilter { repository: Some("b2".into()), outcome: Some(Outcome::Failed), ..all() }, vec!["j1"]),
        (JobFilter { since: Some(at(2)), until: Some(at(4)), ..all() }, vec!["j3", "j2"]),
        (JobFilter { subject: Some("nothing' OR '1".into()), ..all() }, vec![]),
    ] {
        assert_eq!(ids(&db.jobs(filter.clone()).await.unwrap()), expected, "{filter:?}");
    }
    assert_eq!(ids(&db.unfinished_jobs().await.unwrap()), ["j2"]);
}

#[tokio::test]
async fn what_a_dead_daemon_left_unfinished_is_interrupted_once() {
    let dir = tempfile::tempdir().unwrap();
    let (db, _) = open_in(dir.path());
    let mut running = job("j1", 1, None);
    running.units[0].outcome = Some(Outcome::Succeeded);
    db.save_job(&running).await.unwrap();
    db.save_job(&job("j2", 2, Some(Outcome::Failed))).await.unwrap();
    let ended = db.interrupt_unfinished(at(9)).await.unwrap();
    assert_eq!(ids(&ended), ["j1"]);
    assert_eq!(db.job("j1").await.unwrap().as_ref(), Some(&ended[0]));
    assert_eq!((ended[0].outcome, ended[0].finished), (Some(Outcome::Interrupted), Some(at(9))));
    let outcomes: Vec<_> = ended[0].units.iter().map(|unit| unit.outcome).collect();
    assert_eq!(outcomes, [Some(Outcome::Succeeded), Some(Outcome::Interrupted)]);
    assert!(db.interrupt_unfinished(at(10)).await.unwrap().is_empty());
    assert_eq!(
        db.jobs_total().await.unwrap(),
        [(Kind::Backup, Outcome::Failed, 1), (Kind::Backup, Outcome::Interrupted, 1)]
    );
}

#[tokio::test]
async fn deleting_old_jobs_keeps_counters_the_last_of_each_kind_and_what_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (db, _) = open_in(dir.path());
    for second in 0..10 {
        let outcome = if second == 3 { Outcome::Warning } else { Outcome::Failed };
        db.save_job(&job(&format!("j{second}"), second, Some(outcome))).await.unwrap();
    }
    db.save_job(&job("running", -5, None)).await.unwrap();
    assert_eq!(db.delete_old_jobs(at(100), 2).await.unwrap(), 7);
    assert_eq!(ids(&db.jobs(JobFilter::default()).await.unwrap()), ["j9", "j8", "j3", "running"]);
    assert_eq!(db.delete_old_jobs(at(9), 0).await.unwrap(), 1);
    assert_eq!(ids(&db.jobs(JobFilter::default()).await.unwrap()), ["j9", "j3", "running"]);
    assert_eq!(db.last_finished(Kind::Backup, "daily").await.unwrap().unwrap().id, "j9");
    assert_eq!(db.last_success(Kind::Backup, "daily").await.unwrap(), Some(at(13)));
    assert_eq!(db.last_success(Kind::Prune, "daily").await.unwrap(), None);
    // Saving again what is known must not count again; another outcome moves the count.
    db.save_job(&job("j9", 9, Some(Outcome::Failed))).await.unwrap();
    db.save_job(&job("j3", 3, Some(Outcome::Succeeded))).await.unwrap();
    let total = db.jobs_total().await.unwrap();
    assert_eq!(total, [(Kind::Backup, Outcome::Failed, 9), (Kind::Backup, Outcome::Succeeded, 1)]);
}

#[tokio::test]
async fn the_newest_set_is_the_parent_within_its_own_restic_repository() {
    let dir = tempfile::tempdir().unwrap();
    let (db, _) = open_in(dir.path());
    for (snapshot, second) in [("s2", 2), ("s3", 3), ("s1", 1)] {
        db.save_set(&set(snapshot, second)).await.unwrap();
    }
    db.save_set(&SetRecord { location: String::new(), ..set("s9", 9) }).await.unwrap();
    db.save_set(&SetRecord { uuid: "other".into(), ..set("s8", 8) }).await.unwrap();
    assert_eq!(db.parent("b2", "m/u", "u").await.unwrap().as_deref(), Some("s3"));
    assert_eq!(db.parent("b2", "m/u", "nobody").await.unwrap(), None);
    db.remove_sets("b2", &["s3".into(), "unknown".into()]).await.unwrap();
    assert_eq!(db.parent("b2", "m/u", "u").await.unwrap().as_deref(), Some("s2"));
    let all = SetFilter::default;
    for (filter, expected) in [
        (all(), vec!["s9", "s8", "s2", "s1"]),
        (SetFilter { location: Some("m/u".into()), uuid: Some("u".into()), ..all() }, vec!["s2", "s1"]),
        (
            SetFilter { instance: Some("a1".into()), backup: Some("daily".into()), ..all() },
            vec!["s9", "s8", "s2", "s1"],
        ),
        (SetFilter { repository: Some("local".into()), ..all() }, vec![]),
    ] {
        assert_eq!(snapshots(&db.sets(filter.clone()).await.unwrap()), expected, "{filter:?}");
    }
}

#[tokio::test]
async fn restics_own_list_decides_but_what_only_we_know_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (db, _) = open_in(dir.path());
    db.save_set(&set("gone", 1)).await.unwrap();
    db.save_set(&set("listed", 2)).await.unwrap();
    db.save_set(&SetRecord { location: "m/v".into(), ..set("elsewhere", 3) }).await.unwrap();
    let began = Timestamp::now();
    db.save_set(&set("meanwhile", 4)).await.unwrap();
    let listed = SetRecord { size: 0, files: 0, version: String::new(), outcome: None, ..set("listed", 2) };
    let foreign = SetRecord { host: "srv2".into(), outcome: None, ..set("foreign", 5) };
    db.replace_sets("b2", "m/u", began, vec![listed, foreign.clone()]).await.unwrap();
    let sets = db.sets(SetFilter::default()).await.unwrap();
    assert_eq!(
        sets,
        [
            foreign,
            set("meanwhile", 4),
            SetRecord { location: "m/v".into(), ..set("elsewhere", 3) },
            set("listed", 2)
        ]
    );
    assert_eq!(db.last_synced("b2", "m/u").await.unwrap(), Some(began));
    assert_eq!(db.last_synced("b2", "m/v").await.unwrap(), None);
    // The same instant again: what was listed last time is not held for newer than the list.
    let later = Timestamp::now();
    for _ in 0..2 {
        db.replace_sets("b2", "m/u", later, vec![set("listed", 2)]).await.unwrap();
    }
    let sets = db.sets(SetFilter { location: Some("m/u".into()), ..SetFilter::default() }).await.unwrap();
    assert_eq!(snapshots(&sets), ["listed"]);
}

/// Writes a database with one job, closed, and returns its bytes.
async fn closed_database(dir: &Path) -> Vec<u8> {
    let (mut connection, _) = open::open(dir, at(0)).unwrap();
    connection.execute_batch("INSERT INTO meta VALUES ('a', 'b')").unwrap();
    let transaction = connection.transaction().unwrap();
    for n in 0..500 {
        transaction
            .execute("INSERT INTO meta VALUES (?1, ?2)", [format!("key{n}"), "x".repeat(200)])
            .unwrap();
    }
    transaction.commit().unwrap();
    connection.close().unwrap();
    fs::read(dir.join("holdfast.db")).unwrap()
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_set_aside_and_a_fresh_one_works() {
    let sound_dir = tempfile::tempdir().unwrap();
    let sound = closed_database(sound_dir.path()).await;
    let mut newer = sound.clone();
    newer[60..64].copy_from_slice(&99u32.to_be_bytes());
    let mut flipped = sound.clone();
    flipped[4096..12_000].fill(0x5a);
    let mut header = sound.clone();
    header[..16].fill(0);
    for (damaged, word) in [
        (sound[..sound.len() / 2].to_vec(), "damaged"),
        (sound[..5000].to_vec(), "damaged"),
        (b"garbage, but long enough to be looked at".repeat(300), "damaged"),
        (flipped, "damaged"),
        (header, "damaged"),
        (newer, "newer"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("holdfast.db"), &damaged).unwrap();
        let (db, opened) = open_in(dir.path());
        let Opened::SetAside { path, why } = opened.clone() else { panic!("{word}: {opened:?}") };
        assert!(why.contains(word), "{why}");
        assert!(
            path.file_name().unwrap().to_str().unwrap().starts_with("holdfast.db.damaged-20270115T"),
            "{path:?}"
        );
        assert_eq!(fs::read(&path).unwrap().len(), damaged.len(), "what was set aside has changed");
        db.save_job(&job("j1", 1, None)).await.unwrap();
        drop(db);
        assert_eq!(open_in(dir.path()).1, Opened::Existing);
    }
}

#[tokio::test]
async fn an_empty_file_is_a_fresh_database_and_an_orphaned_wal_is_not_taken_for_its_own() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("holdfast.db-wal"), "of another database").unwrap();
    let (db, opened) = open_in(dir.path());
    assert_eq!(opened, Opened::Fresh);
    db.set_meta("a", "b").await.unwrap();
    let aside = |e: &fs::DirEntry| e.file_name().to_str().unwrap().contains(".damaged-");
    assert_eq!(fs::read_dir(dir.path()).unwrap().flatten().filter(aside).count(), 1);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("holdfast.db"), "").unwrap();
    assert_eq!(open_in(dir.path()).1, Opened::Fresh);
}

#[tokio::test]
async fn where_nothing_can_be_written_the_database_is_in_memory_with_what_was_known() {
    let dir = tempfile::tempdir().unwrap();
    closed_database(dir.path()).await;
    // SQLite cannot make its shared memory: as on a read-only or full disk.
    fs::create_dir(dir.path().join("holdfast.db-shm")).unwrap();
    let (db, opened) = open_in(dir.path());
    assert!(matches!(opened, Opened::InMemory(_)), "{opened:?}");
    assert!(opened.to_string().contains("in memory"), "{opened}");
    assert_eq!(db.meta("a").await.unwrap().as_deref(), Some("b"));
    db.save_job(&job("j1", 1, None)).await.unwrap();
    assert_eq!(db.unfinished_jobs().await.unwrap().len(), 1);

    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("holdfast.db")).unwrap();
    let (db, opened) = open_in(dir.path());
    assert!(matches!(opened, Opened::InMemory(_)), "{opened:?}");
    db.save_set(&set("s1", 1)).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_not_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (db, _) = open_in(dir.path());
    db.save_job(&job("j1", 1, None)).await.unwrap();
    db.ask("test", |c| c.pragma_update(None, "max_page_count", 1)).await.unwrap();
    let mut big = job("j1", 1, Some(Outcome::Failed));
    big.error = "x".repeat(1 << 20);
    let error = format!("{:#}", db.save_job(&big).await.unwrap_err());
    assert!(error.contains("saving a job") && error.contains("full"), "{error}");
    assert_eq!(
        db.job("j1").await.unwrap().unwrap(),
        JobRecord { bytes_done: i64::MAX as u64, ..job("j1", 1, None) }
    );
    assert_eq!(db.jobs_total().await.unwrap(), []);
    db.ask("test", |c| c.pragma_update(None, "max_page_count", 1_000_000)).await.unwrap();
    db.save_job(&big).await.unwrap();
}

#[tokio::test]
async fn damage_found_later_is_set_aside_and_the_request_carried_out() {
    let dir = tempfile::tempdir().unwrap();
    let sound = closed_database(dir.path()).await;
    let (db, opened) = open_in(dir.path());
    assert_eq!(opened, Opened::Existing);
    // Damage under SQLite's feet: all but the first page, and nothing of it cached.
    db.ask("test", |c| c.pragma_update(None, "cache_size", 0)).await.unwrap();
    db.ask("test", |c| c.execute_batch("PRAGMA shrink_memory")).await.unwrap();
    let mut damaged = sound.clone();
    damaged[4096..].fill(0xff);
    fs::write(dir.path().join("holdfast.db"), damaged).unwrap();
    db.save_job(&job("j1", 1, None)).await.unwrap();
    assert!(matches!(db.opened(), Opened::SetAside { .. }), "{:?}", db.opened());
    assert_eq!(ids(&db.unfinished_jobs().await.unwrap()), ["j1"]);
    drop(db);
    assert_eq!(open_in(dir.path()).1, Opened::Existing);
}

#[tokio::test]
async fn a_job_with_an_unknown_word_hides_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (db, _) = open_in(dir.path());
    db.save_job(&job("j1", 1, None)).await.unwrap();
    db.save_job(&job("j2", 2, None)).await.unwrap();
    db.ask("test", |c| c.execute_batch("UPDATE job SET phase = 'sideways' WHERE id = 'j1'")).await.unwrap();
    assert_eq!(ids(&db.jobs(JobFilter::default()).await.unwrap()), ["j2"]);
}

#[tokio::test]
async fn a_dropped_request_is_carried_out() {
    let dir = tempfile::tempdir().unwrap();
    let (db, _) = open_in(dir.path());
    let saving = db.clone();
    // Polled once, then dropped.
    tokio::select! {
        biased;
        _ = async { saving.set_meta("a", "b").await } => {}
        () = std::future::ready(()) => {}
    }
    assert_eq!(db.meta("a").await.unwrap().as_deref(), Some("b"));
}
