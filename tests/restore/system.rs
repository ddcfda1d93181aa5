//! What needs root: mounts. Run with `--ignored system_`.

use std::process::Command;

use super::{House, Options, option};

/// A file system mounted for a test; gone when dropped.
struct Mount(std::path::PathBuf);

impl Mount {
    fn tmpfs(at: std::path::PathBuf, size: &str) -> Self {
        std::fs::create_dir_all(&at).unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(&at).status();
        assert!(mounted.unwrap().success(), "mounting needs root");
        Self(at)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

async fn refused(house: &House, reason: &str) {
    let before = house.live();
    let text: String = house.daemon.call("Plan", &("app1", "", Options::new())).await.unwrap();
    assert!(text.contains(reason), "{reason:?} is not in: {text}");
    let (outcome, said) = house.restore(&Options::new()).await;
    assert_eq!(outcome, "failed");
    assert!(said.contains(reason) && said.contains("was not touched"), "{reason:?} is not in: {said}");
    before.assert_same(&house.live(), reason);
    house.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root"]
async fn system_mount_points_at_and_below_what_is_swapped_are_refused() {
    let house = House::build("").await;
    house.back_up().await;
    let below = Mount::tmpfs(house.path("app/state/conf/sub/mounted here"), "1m");
    refused(&house, "holds the mount point").await;
    drop(below);
    let at = Mount::tmpfs(house.path("outside/dir"), "1m");
    refused(&house, "is a mount point").await;
    drop(at);
    assert_eq!(house.restore(&Options::new()).await.0, "succeeded", "{}", house.daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root"]
async fn system_a_volume_that_is_a_mount_point_is_restored_child_by_child_from_another_disk() {
    let house = House::build("").await;
    let _volume = Mount::tmpfs(house.path("volumes/data"), "1m");
    for name in ["x", "deep/y", "deep/odd \n name"] {
        house.daemon.write(&format!("volumes/data/{name}"), "saved\n");
    }
    let before = house.live();
    house.back_up().await;
    house.daemon.write("volumes/data/deep/y", "newer\n");
    house.daemon.write("volumes/data/deep/z", "newer\n");
    assert_eq!(house.restore(&Options::new()).await.0, "succeeded", "{}", house.daemon.log());
    before.assert_same(&house.live(), "copied from the staging disk");
    assert_eq!(house.roll_back().await.0, "succeeded");
    assert_eq!(house.daemon.read("volumes/data/deep/z"), "newer\n");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root"]
async fn system_r07_no_room_for_staging_or_beside_the_live_data_leaves_that_as_it_is() {
    let house = House::build("").await;
    house.daemon.write("app/state/conf/large", &"x".repeat(3 << 20));
    house.back_up().await;
    let before = house.live();
    let staging = Mount::tmpfs(house.path("staging"), "1m");
    let (outcome, said) = house.restore(&Options::new()).await;
    assert_eq!(outcome, "failed");
    assert!(said.contains("bytes are needed"), "{said}");
    before.assert_same(&house.live(), "no room for staging");
    // Without a size to compare, restic itself finds the disk full.
    let (outcome, said) = house.restore(&option("include", vec!["state/conf".to_owned()])).await;
    assert_eq!(outcome, "failed", "{said}");
    before.assert_same(&house.live(), "the disk is full");
    drop(staging);
    house.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root"]
async fn system_a_file_system_that_is_mounted_read_only_is_refused() {
    let house = House::build("").await;
    let outside = Mount::tmpfs(house.path("outside"), "1m");
    house.daemon.write("outside/dir/z", "z\n");
    house.back_up().await;
    assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(&outside.0).status().unwrap().success());
    refused(&house, "mounted read-only").await;
}
