//! A database that was damaged anywhere: the daemon goes on, whatever it finds.

use std::fs;
use std::path::Path;

use holdfast::state::{Database, JobFilter, Kind, Opened, Outcome, SetFilter};
use jiff::Timestamp;

use crate::records::{job, set};
use crate::victim::Dice;

async fn fill(dir: &Path) {
    let (db, _) = Database::open(dir, Timestamp::now()).unwrap();
    for n in 0..60 {
        db.save_job(&job(&format!("j{n}"), (n % 3 > 0).then_some(Outcome::Succeeded))).await.unwrap();
        db.save_set(&set("g", n)).await.unwrap();
        db.set_decided(&format!("backup/{n}"), Timestamp::now()).await.unwrap();
        db.set_meta(&format!("key {n}"), "value").await.unwrap();
    }
}

/// Everything that a daemon does with its database; nothing of it may fail.
async fn use_all(db: &Database) -> anyhow::Result<()> {
    let now = Timestamp::now();
    db.interrupt_unfinished(now).await?;
    db.jobs(JobFilter { instance: Some("a1".into()), ..JobFilter::default() }).await?;
    db.jobs(JobFilter { repository: Some("b2".into()), ..JobFilter::default() }).await?;
    db.jobs_total().await?;
    db.last_finished(Kind::Backup, "daily").await?;
    db.last_success(Kind::Backup, "daily").await?;
    db.all_decided().await?;
    for n in (0..60).step_by(7) {
        db.save_job(&job(&format!("j{n}"), Some(Outcome::Failed))).await?;
        db.decided(&format!("backup/{n}")).await?;
        db.set_decided(&format!("backup/{n}"), now).await?;
        db.meta(&format!("key {n}")).await?;
        db.set_meta(&format!("key {n}"), "new").await?;
        db.parent("b2", "", &format!("u{n}")).await?;
        db.save_set(&set("g", n)).await?;
    }
    db.sets(SetFilter::default()).await?;
    db.replace_sets("b2", "", now, vec![set("h", 1)]).await?;
    db.remove_sets("b2", &["h-1".into()]).await?;
    db.delete_old_jobs(now, 10).await?;
    Ok(())
}

#[tokio::test]
async fn damage_anywhere_stops_nothing() {
    let template = tempfile::tempdir().unwrap();
    fill(template.path()).await;
    let sound = settled(&template.path().join("holdfast.db")).await;
    let mut dice = Dice(3);
    let (mut set_aside, mut unseen) = (0, 0);
    for case in 0..90 {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = sound.clone();
        match case % 3 {
            0 => bytes.truncate(dice.roll(bytes.len() as u64) as usize),
            1 => {
                let (from, length) = (dice.roll(bytes.len() as u64) as usize, dice.roll(300) as usize);
                bytes.iter_mut().skip(from).take(length).for_each(|byte| *byte = dice.roll(256) as u8);
            }
            _ => {
                let at = dice.roll(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << dice.roll(8);
            }
        }
        fs::write(dir.path().join("holdfast.db"), &bytes).unwrap();
        let (db, _) = Database::open(dir.path(), Timestamp::now()).unwrap();
        use_all(&db).await.unwrap_or_else(|e| panic!("case {case}: {e:#}"));
        match db.opened() {
            Opened::SetAside { path, .. } => {
                assert!(path.exists());
                set_aside += 1;
            }
            Opened::InMemory(why) => panic!("case {case}: {why}"),
            _ => unseen += 1,
        }
    }
    assert!(set_aside > 30 && unseen > 10, "{set_aside} set aside, {unseen} unseen: the cases are too easy");
}

/// The bytes of a database once its thread has closed it: then its WAL is gone.
async fn settled(path: &Path) -> Vec<u8> {
    while path.with_file_name("holdfast.db-wal").exists() {
        tokio::task::yield_now().await;
    }
    fs::read(path).unwrap()
}
