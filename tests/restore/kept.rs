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
    // What a root itself has comes back as well.
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(house.path("volumes/data"), mode(0o2771)).unwrap();
    let before = house.live();
    let time = || house.path("volumes/data").metadata().unwrap().modified().unwrap();
    let before_time = time();
    let (outcome, said) = house.restore(&Options::new()).await;
    assert_eq!(outcome, "succeeded", "{said}");
    assert!(said.contains("holdfast rollback app1") && said.contains(".holdfast-j"), "{said}");
    assert_eq!(house.daemon.read("app/state/one.txt"), "one\n");
    let restored = house.live();
    house.daemon.write("app/state/conf/after", "written after the restore\n");
    let used = house.live();
    let (outcome, said) = house.roll_back().await;
    assert_eq!(outcome, "succeeded", "{said}");
    before.assert_same(&house.live(), "as before the restore");
    assert_eq!(time(), before_time);
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

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_restore_keeps_inside_what_a_later_one_set_aside_goes_as_well() {
    let house = House::build("").await;
    house.back_up().await;
    let include = super::option("include", vec!["state/conf/sub/b".to_owned()]);
    assert_eq!(house.restore(&include).await.0, "succeeded", "{}", house.daemon.log());
    assert_eq!(house.restore(&Options::new()).await.0, "succeeded", "{}", house.daemon.log());
    let nested = || {
        let inside =
            |path: &std::path::PathBuf| path.parent().unwrap().to_string_lossy().contains(".holdfast-j");
        let find = std::process::Command::new("find")
            .arg(house.daemon.dir.path())
            .args(["-name", ".holdfast-j*", "-print"])
            .output();
        let all: Vec<_> = support::stdout(&find.unwrap()).lines().map(std::path::PathBuf::from).collect();
        all.into_iter().filter(inside).count()
    };
    assert_eq!(nested(), 1);
    // Its time comes while the later one is still kept.
    let read = |path: &std::path::Path| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let records = std::fs::read_dir(house.path("state/kept")).unwrap();
    let records = records.map(|entry| entry.unwrap().path().join("record.json"));
    let earlier = records.min_by_key(|path| read(path)["made"].as_str().unwrap().to_owned()).unwrap();
    let mut record = read(&earlier);
    record["until"] = "2020-01-01T00:00:00Z".into();
    std::fs::write(&earlier, record.to_string()).unwrap();
    let mut house = house;
    house.daemon.restart_after_kill().await;
    let dir = house.path("state/kept");
    until("the earlier record is gone", || std::fs::read_dir(&dir).unwrap().count() == 1);
    let find = std::process::Command::new("find")
        .arg(house.daemon.dir.path())
        .args(["-path", "*/.holdfast-j*/*/.holdfast-j*"])
        .output();
    assert_eq!(support::stdout(&find.unwrap()), "");
    assert_eq!(house.roll_back().await.0, "succeeded", "{}", house.daemon.log());
}
