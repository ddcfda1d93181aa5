//! Owners, set-uid bits and device files of what comes back.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::support::error_of;
use super::{House, Options, option};

fn mode(house: &House, path: &str) -> u32 {
    house.path(path).metadata().unwrap().mode() & 0o7777
}

async fn with_set_uid(instance: &str) -> House {
    let house = House::build(instance).await;
    for (path, mode) in [("app/state/conf/a", 0o4755), ("volumes/data/x", 0o2750)] {
        std::fs::set_permissions(house.path(path), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    std::fs::set_permissions(house.path("outside/dir"), std::fs::Permissions::from_mode(0o2770)).unwrap();
    house.back_up().await;
    house
}

#[tokio::test(flavor = "multi_thread")]
async fn set_uid_bits_come_back_only_when_that_is_said() {
    let house = with_set_uid("").await;
    let text: String = house.daemon.call("Plan", &("app1", "", Options::new())).await.unwrap();
    assert!(text.contains("set-uid and set-gid bits are taken off"), "{text}");
    let (outcome, said) = house.restore(&Options::new()).await;
    assert_eq!(outcome, "warning", "{said}");
    assert!(said.contains("state/conf/a, volumes/data/x") && said.contains("setuid"), "{said}");
    assert_eq!((mode(&house, "app/state/conf/a"), mode(&house, "volumes/data/x")), (0o755, 0o750));
    assert_eq!(mode(&house, "outside/dir"), 0o2770, "what a directory has gives nobody rights");
    let (outcome, said) = house.restore(&option("setuid", true)).await;
    assert_eq!(outcome, "succeeded", "{said}");
    assert_eq!((mode(&house, "app/state/conf/a"), mode(&house, "volumes/data/x")), (0o4755, 0o2750));
    let target = house.path("beside").display().to_string();
    let (outcome, said) = house.restore(&option("target", target)).await;
    assert!(outcome == "warning" && said.contains("state/conf/a"), "{outcome}: {said}");
    assert_eq!(mode(&house, "beside/state/conf/a"), 0o755);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_may_say_it_and_a_call_may_say_otherwise() {
    let house = with_set_uid("restore = { setuid = true, owners = \"number\" }").await;
    assert_eq!(house.restore(&Options::new()).await.0, "succeeded", "{}", house.daemon.log());
    assert_eq!(mode(&house, "app/state/conf/a"), 0o4755);
    assert_eq!(house.restore(&option("setuid", false)).await.0, "warning");
    assert_eq!(mode(&house, "app/state/conf/a"), 0o755);
    let somebody = option("owners", "somebody".to_owned());
    let wrong = house.daemon.call::<_, zbus::OwnedObjectPath>("Restore", &("app1", "", &somebody)).await;
    let (name, text) = error_of(wrong).unwrap();
    assert!(name.ends_with("InvalidArgument") && text.contains("name, number"), "{name}: {text}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root"]
async fn system_device_files_come_back_only_when_that_is_said() {
    let house = House::build("").await;
    let device = house.path("app/state/conf/null");
    let made = std::process::Command::new("mknod").arg(&device).args(["c", "1", "3"]).status();
    assert!(made.unwrap().success());
    house.back_up().await;
    let saved = house.live();
    let time = house.path("app/state/conf").metadata().unwrap().modified().unwrap();
    let (outcome, said) = house.restore(&Options::new()).await;
    assert!(outcome == "warning" && said.contains("state/conf/null"), "{outcome}: {said}");
    assert!(device.symlink_metadata().is_err());
    assert_eq!(house.path("app/state/conf").metadata().unwrap().modified().unwrap(), time);
    assert_eq!(house.restore(&option("devices", true)).await.0, "succeeded", "{}", house.daemon.log());
    saved.assert_same(&house.live(), "with its device");
}
