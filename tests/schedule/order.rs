//! Who goes first, and what those who wait are told to wait for.

use super::policy::{held, warm_up};
use super::support::{ROOT, stdout, until};
use super::{backup, backup_of};

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_says_for_what_and_higher_priority_goes_first() {
    let third = "\n[instance.third]\ninclude = [\"@DIR@/data\"]\n";
    let backups = backup("first", "")
        + &backup_of("low", "other", "priority = -5")
        + &backup_of("high", "third", "priority = 5")
        + third;
    let house = held(&backups).await;
    house.daemon.run_backup("first").await;
    until("the first restic", || house.daemon.dir.path().join("begun").exists());
    let low = house.daemon.run_backup("low").await;
    house.says("low", "Waiting", "a restic process: backup of first").await;
    let high = house.daemon.run_backup("high").await;
    house.says("high", "Waiting", "a restic process: backup of first").await;
    house.says("low", "Waiting", "then backup of high").await;
    let status = stdout(&house.holdfast(&["status"]));
    assert!(status.contains("waiting: a restic process: backup of first"), "{status}");
    let status: serde_json::Value =
        serde_json::from_str(&stdout(&house.holdfast(&["status", "--json"]))).unwrap();
    let waiting = status["backups"].as_array().unwrap().iter().find(|b| b["Name"] == "low").unwrap();
    assert!(waiting["Waiting"].as_str().unwrap().contains("backup of first"), "{waiting}");
    house.daemon.write("go", "");
    house.daemon.wait_for_job(low.as_str()).await;
    house.daemon.wait_for_job(high.as_str()).await;
    let (low, high) = (house.history("low").await, house.history("high").await);
    assert_eq!((low[0].outcome.as_str(), high[0].outcome.as_str()), ("succeeded", "succeeded"));
    let log = house.daemon.log();
    let at = |name: &str| log.find(&format!("backup of {name} ended")).unwrap_or_else(|| panic!("{log}"));
    assert!(at("high") < at("low"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_says_that_it_waits_for_the_backup_in_its_repository() {
    let house = held(&backup("first", "")).await;
    warm_up(&house, "first").await;
    house.daemon.run_backup("first").await;
    until("the first restic", || house.daemon.dir.path().join("begun").exists());
    let prune: zbus::wire::OwnedObjectPath = house.daemon.call("Prune", &("local",)).await.unwrap();
    let start = std::time::Instant::now();
    loop {
        let waiting: String = house.daemon.property(prune.as_str(), "Job", "Waiting").await;
        if waiting.contains("repository local") && waiting.contains("backup of first") {
            break;
        }
        assert!(start.elapsed() < super::DEADLINE, "{waiting:?}\n{}", house.daemon.log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    house.daemon.write("go", "");
    assert_eq!(house.daemon.wait_for_job(prune.as_str()).await, "succeeded");
    assert!(prune.as_str().starts_with(ROOT));
}
