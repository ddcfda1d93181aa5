//! The data from before a restore: kept, put back, and removed in time.

use support::{error_of, until};

use super::{House, Options, support};

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_puts_everything_back_and_another_one_takes_it_back() {
    let house = House::build("").await;
    house.back_up().await;
    house.daemon.write("app/state/conf/a", "newer\n");
    house.daemon.write("volumes/data/since", "new\n");
    std::fs::remove_file(house.path("app/state/one.txt")).unwrap();
    let before = house.live();
    let (outcome, said) = house.restore(&Options::new()).await;
    assert_eq!(outcome, "succeeded", "{said}");
    assert!(said.contains("holdfast rollback app1") && said.contains(".holdfast-j"), "{said}");
    assert_eq!(house.daemon.read("app/state/one.txt"), "one\n");
    let restored = house.live();
    house.daemon.write("app/state/conf/after", "written after the restore\n");
    let used = house.live();
    let (outcome, said) = house.roll_back().await;
    assert_eq!(outcome, "succeeded", "{said}");
    before
        .without("volumes/data")
        .assert_same(&house.live().without("volumes/data"), "as before the restore");
    assert_eq!(house.daemon.read("volumes/data/since"), "new\n");
    assert_eq!(house.roll_back().await.0, "succeeded", "{}", house.daemon.log());
    used.assert_same(&house.live(), "what was written after the restore was not lost");
    assert!(restored != used);
    house.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_kept_a_rollback_is_refused() {
    let house = House::build("restore = { keep_previous = \"0s\" }").await;
    house.back_up().await;
    assert_eq!(house.restore(&Options::new()).await.0, "succeeded", "{}", house.daemon.log());
    assert_eq!(house.annexes(), Vec::<std::path::PathBuf>::new());
    let refused = house.daemon.call::<_, zbus::OwnedObjectPath>("Rollback", &("app1",)).await;
    let (name, text) = error_of(refused).unwrap();
    assert_eq!(name, "org.holdfast.Backup1.Error.NoSuchSnapshot");
    assert!(text.contains("keep_previous"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_data_goes_when_its_time_is_over_and_at_most_three_are_kept() {
    let house = House::build("restore = { keep_previous = \"1h\" }").await;
    house.back_up().await;
    for _ in 0..4 {
        assert_eq!(house.restore(&Options::new()).await.0, "succeeded", "{}", house.daemon.log());
    }
    let records = || std::fs::read_dir(house.path("state/kept")).unwrap().count();
    until("the oldest is removed", || records() == 3);
    let house = House::build("restore = { keep_previous = \"1s\" }").await;
    house.back_up().await;
    assert_eq!(house.restore(&Options::new()).await.0, "succeeded");
    let house = &mut { house };
    house.daemon.restart_after_kill().await;
    until("old data is removed", || house.annexes().is_empty());
    assert_eq!(std::fs::read_dir(house.path("state/kept")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_not_backed_up_and_survives_a_restart() {
    let mut house = House::build("").await;
    house.back_up().await;
    house.daemon.write("volumes/data/x", "newer\n");
    assert_eq!(house.restore(&Options::new()).await.0, "succeeded");
    house.daemon.restart_after_kill().await;
    house.back_up().await;
    let target = house.path("out");
    let target = super::option("target", target.display().to_string());
    assert_eq!(house.restore(&target).await.0, "succeeded", "{}", house.daemon.log());
    let found = house.annexes().into_iter().filter(|path| path.starts_with(house.path("out"))).count();
    assert_eq!(found, 0);
    assert_eq!(house.roll_back().await.0, "succeeded", "{}", house.daemon.log());
    assert_eq!(house.daemon.read("volumes/data/x"), "newer\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_onto_something_else_changes_nothing() {
    let house = House::build("").await;
    house.back_up().await;
    assert_eq!(house.restore(&Options::new()).await.0, "succeeded");
    std::fs::rename(house.path("app/state/conf"), house.path("app/state/moved")).unwrap();
    let before = house.live();
    let (outcome, said) = house.roll_back().await;
    assert_eq!(outcome, "failed");
    assert!(said.contains("nothing was changed") && said.contains("conf"), "{said}");
    before.assert_same(&house.live(), "untouched");
    house.assert_clean();
}
