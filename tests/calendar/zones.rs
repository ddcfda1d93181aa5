//! A zone that changes while the daemon runs.

use std::os::unix::fs::symlink;
use std::time::Duration;

use holdfast::schedule::ZoneWatch;
use tokio::time::timeout;

#[tokio::test]
async fn a_change_of_the_machines_zone_or_of_zone_data_is_noticed_within_a_minute_and_nothing_else_is() {
    let place = tempfile::tempdir().unwrap();
    let (etc, data) = (place.path().join("etc"), place.path().join("zoneinfo"));
    std::fs::create_dir_all(data.join("Europe")).unwrap();
    std::fs::create_dir(&etc).unwrap();
    let mut watch = ZoneWatch::of(&etc, &data).unwrap();

    std::fs::write(etc.join("passwd"), "").unwrap();
    assert!(
        timeout(Duration::from_secs(1), watch.changed()).await.is_err(),
        "another file of /etc was taken for it"
    );

    symlink(data.join("Europe/Rome"), etc.join("localtime.new")).unwrap();
    std::fs::rename(etc.join("localtime.new"), etc.join("localtime")).unwrap();
    timeout(Duration::from_secs(60), watch.changed()).await.unwrap().unwrap();

    std::fs::write(data.join("Europe/Rome"), "TZif").unwrap();
    timeout(Duration::from_secs(60), watch.changed()).await.unwrap().unwrap();
}
