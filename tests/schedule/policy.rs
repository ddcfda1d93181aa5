//! When a slot may run: blackouts, what follows another backup, overlaps, the longest duration, the network.

use super::{House, backup, backup_of, told};

/// restic that begins a backup when it is let, and says that it waits.
const HELD: &str = "#!/bin/sh\ncase \" $* \" in *' backup '*)\n  echo $$ >>@DIR@/begun\n  \
                    while [ ! -e @DIR@/go ]; do sleep 0.05; done ;;\nesac\nexec restic \"$@\"\n";

/// A house whose backups are held until the file `go` is there.
pub(super) async fn held(backups: &str) -> House {
    use std::os::unix::fs::PermissionsExt;
    let house = House::now("").await;
    let program = house.daemon.write("restic", HELD);
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = house.daemon.read("config/holdfast.toml");
    let restic = format!("[daemon]\nrestic = \"{}\"", program.display());
    house.daemon.write("config/holdfast.toml", &(config.replacen("[daemon]", &restic, 1) + backups));
    house.daemon.call::<_, Vec<String>>("Reload", &()).await.unwrap();
    house
}

/// Runs a backup to its end, so that its repository is there; the next one is held again.
pub(super) async fn warm_up(house: &House, backup: &str) {
    house.daemon.write("go", "");
    let job = house.daemon.run_backup(backup).await;
    assert_eq!(house.daemon.wait_for_job(job.as_str()).await, "succeeded");
    for file in ["go", "begun"] {
        std::fs::remove_file(house.daemon.dir.path().join(file)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_in_a_blackout_runs_once_when_that_ends() {
    // 2026-06-01 is a Monday; Berlin is two hours ahead of UTC.
    let keys = "schedule = '09..17:00'\nblackout = ['Mon..Fri 08:00-18:00']\ncatch_up = false";
    let mut house = House::at("2026-06-01 09:59:57", &backup("office", keys)).await;
    house.runs_at("office", "2026-06-01T16:00:00Z").await;
    assert_eq!(house.history("office").await.len(), 0);
    // A person may.
    let job = house.daemon.run_backup("office").await;
    assert_eq!(house.daemon.wait_for_job(job.as_str()).await, "succeeded");
    assert!(house.daemon.log().contains("office runs in its blackout"));
    house.restart_at("2026-06-01 15:59:57").await;
    let history = house.ended("office", 2).await;
    assert_eq!(told(&history)[1], ("schedule", "succeeded"));
    house.runs_at("office", "2026-06-02T16:00:00Z").await;
    house.restart_at("2026-06-01 16:00:30").await;
    assert_eq!(house.history("office").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_after_another_runs_after_each_run_that_made_sets() {
    let backups = backup("first", "") + &backup_of("second", "other", "after = 'first'");
    let mut house = House::now(&backups).await;
    assert_eq!(house.text("second", "Schedule").await, "after first");
    house.daemon.run_backup("first").await;
    assert_eq!(told(&house.ended("second", 1).await), [("after", "succeeded")]);
    // Without a set nothing follows.
    std::fs::rename(house.daemon.dir.path().join("repository"), house.daemon.dir.path().join("gone"))
        .unwrap();
    let job = house.daemon.run_backup("first").await;
    assert_eq!(house.daemon.wait_for_job(job.as_str()).await, "failed");
    std::fs::rename(house.daemon.dir.path().join("gone"), house.daemon.dir.path().join("repository"))
        .unwrap();
    // It also follows what ended while it could not.
    house.pause().await;
    let job = house.daemon.run_backup("first").await;
    house.daemon.wait_for_job(job.as_str()).await;
    house.says("second", "Waiting", "the daemon is paused").await;
    house.daemon.restart_after_kill().await;
    house.resume().await;
    assert_eq!(told(&house.ended("second", 2).await), [("after", "succeeded"), ("catch-up", "succeeded")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn t16_a_slot_that_comes_while_the_last_run_is_at_work_is_skipped_and_counted() {
    let house = held(&backup("slow", "schedule = '*:*:*'")).await;
    let skipped = |history: &[super::Run]| history.iter().filter(|run| run.outcome == "skipped").count() >= 2;
    let history = house.until("two skipped slots", "slow", skipped).await;
    assert_eq!(history[0].outcome, "", "{history:?}");
    assert!(history[1].error.contains(&format!("at work as job {}", history[0].id)), "{history:?}");
    house.daemon.write("go", "");
    house.until("an end", "slow", |history| history[0].outcome == "succeeded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_takes_too_long_fails_and_the_next_one_finishes_it() {
    let house = held(&(backup("long", "max_duration = '2s'") + &backup("warm", ""))).await;
    warm_up(&house, "warm").await;
    let job = house.daemon.run_backup("long").await;
    assert_eq!(house.daemon.wait_for_job(job.as_str()).await, "failed");
    let history = house.history("long").await;
    assert!(history[0].error.contains("longer than max_duration"), "{history:?}");
    let begun = house.daemon.read("begun").trim().to_owned();
    assert!(!std::path::Path::new("/proc").join(begun).exists(), "restic was left running");
    let config = house.daemon.read("config/holdfast.toml").replace("'2s'", "'1h'");
    house.daemon.write("config/holdfast.toml", &config);
    house.daemon.write("go", "");
    house.daemon.call::<_, Vec<String>>("Reload", &()).await.unwrap();
    let job = house.daemon.run_backup("long").await;
    assert_eq!(house.daemon.wait_for_job(job.as_str()).await, "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_that_does_not_answer_yet_is_waited_for_unless_somebody_asked() {
    let keys = "schedule = '02:30'\nretry = { attempts = 0 }";
    let remote = "\n[repository.remote]\nurl = \"rest:http://127.0.0.1:9/\"\n";
    let backups = backup("away", keys).replace("local", "remote") + remote;
    let house = House::at("2026-06-01 00:29:57", &backups).await;
    house.says("away", "Waiting", "tries again in 15s").await;
    let asked = backup_of("asked", "other", "retry = { attempts = 0 }").replace("local", "remote");
    house.daemon.write("config/conf.d/asked.toml", &asked);
    house.daemon.call::<_, Vec<String>>("Reload", &()).await.unwrap();
    let job = house.daemon.run_backup("asked").await;
    assert_eq!(house.daemon.wait_for_job(job.as_str()).await, "failed");
    assert_eq!(house.history("away").await[0].outcome, "", "the scheduled run was given up");
}

/// The network comes up while a scheduled run waits for it: the same run goes on, without an attempt counted.
#[tokio::test(flavor = "multi_thread")]
async fn when_the_network_comes_up_the_run_that_waited_for_it_goes_on() {
    use std::os::unix::fs::PermissionsExt;
    let remote = "\n[repository.remote]\nurl = \"rest:http://127.0.0.1:9/\"\n";
    let keys = "schedule = '02:30'\nretry = { attempts = 0 }";
    let mut house = House::at("2026-06-01 00:00:00", "").await;
    let dir = house.daemon.dir.path().display().to_string();
    // Once the file `up` is there, the remote repository answers: it lies in a directory.
    let script = format!(
        "#!/bin/sh\n[ ! -e {dir}/up ] || printf '%s' {dir}/far >\"$RESTIC_REPOSITORY_FILE\"\nexec restic \"$@\"\n"
    );
    let program = house.daemon.write("restic", &script);
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let restic = format!("[daemon]\nrestic = \"{}\"", program.display());
    let config = house.daemon.read("config/holdfast.toml").replacen("[daemon]", &restic, 1);
    let backups = backup("away", keys).replace("local", "remote");
    house.daemon.write("config/holdfast.toml", &(config + &backups + remote));
    house.restart_at("2026-06-01 00:29:57").await;
    house.says("away", "Waiting", "tries again in 15s").await;
    house.daemon.write("up", "");
    assert_eq!(told(&house.ended("away", 1).await), [("schedule", "succeeded")]);
}
