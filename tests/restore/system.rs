//! What needs root: mounts. Run with `--ignored system_`.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::support::mount::Mount;
use super::{House, Options, option};

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
    let below = Mount::tmpfs(house.path("app/state/conf/sub/mounted here"), "size=1m");
    refused(&house, "holds the mount point").await;
    drop(below);
    let at = Mount::tmpfs(house.path("outside/dir"), "size=1m");
    refused(&house, "is a mount point").await;
    drop(at);
    assert_eq!(house.restore(&Options::new()).await.0, "succeeded", "{}", house.daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root"]
async fn system_a_volume_that_is_a_mount_point_is_restored_child_by_child_from_another_disk() {
    let house = House::build("").await;
    // What is made below its root is given the group of that, and its bit; not so what comes back.
    let _volume = Mount::tmpfs(house.path("volumes/data"), "size=1m,mode=2775,gid=4");
    for name in ["x", "deep/y", "deep/odd \n name"] {
        house.daemon.write(&format!("volumes/data/{name}"), "saved\n");
    }
    std::fs::set_permissions(house.path("volumes/data/deep"), Permissions::from_mode(0o755)).unwrap();
    for link in ["second", "deep/third"] {
        std::fs::hard_link(house.path("volumes/data/x"), house.path(&format!("volumes/data/{link}")))
            .unwrap();
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
    let staging = Mount::tmpfs(house.path("staging"), "size=1m");
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

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    super::support::stdout(&output)
}

/// A user that is removed with the test.
struct User(&'static str);

impl User {
    fn add(name: &'static str, uid: &str) -> Self {
        let made = Command::new("useradd").args(["--no-create-home", "--uid", uid, name]).status();
        assert!(made.unwrap().success(), "useradd {name}");
        Self(name)
    }

    fn number(&self) -> Option<u32> {
        said("id", &["-u", self.0]).trim().parse().ok()
    }

    fn remove(&self) {
        let _ = Command::new("userdel").arg(self.0).output();
        let _ = std::fs::remove_dir_all(format!("/home/{}", self.0));
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.remove();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root"]
async fn system_a_user_that_is_missing_is_made_with_its_number_when_asked_and_goes_when_the_restore_fails() {
    let user = User::add("hfmade", "61234");
    let health = "user = \"hfmade\"\nrestore.health = { command = [\"@DIR@/ask\"], timeout = \"1s\" }";
    let mut house = House::build(health).await;
    house.program("ask", "#!/bin/sh\nexit 1\n");
    // Its programs run as that user.
    let dir = house.daemon.dir.path().to_owned();
    std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let file = house.path("app/state/conf/a");
    std::os::unix::fs::chown(&file, Some(61_234), Some(61_234)).unwrap();
    house.back_up().await;
    user.remove();
    let before = house.live();
    let asked = || option("create_user", true);
    let refused =
        house.daemon.call::<_, zbus::OwnedObjectPath>("Restore", &("app1", "", Options::new())).await;
    let text = match refused {
        Ok(job) => house.ended(&job).await.1,
        Err(refused) => refused.to_string(),
    };
    assert!(text.contains("hfmade") && text.contains("useradd"), "{text}");
    let plan: String = house.daemon.call("Plan", &("app1", "", asked())).await.unwrap();
    assert!(plan.contains("\"create_user\":{\"name\":\"hfmade\",\"uid\":61234}"), "{plan}");
    assert_eq!(user.number(), None, "a plan touches nothing");
    let (outcome, text) = house.restore(&asked()).await;
    assert_eq!(outcome, "failed", "{text}");
    before.assert_same(&house.live(), &text);
    assert_eq!(user.number(), None, "{}", house.daemon.log());
    assert!(!std::path::Path::new("/home/hfmade").exists());
    house.assert_clean();
    // Killed half way, it goes at the next start.
    house.program("ask", "#!/bin/sh\n: >/tmp/hfmade-asked\nexec sleep 60\n");
    let _ = std::fs::remove_file("/tmp/hfmade-asked");
    house.start_restore(&asked()).await;
    super::support::until("the health check runs", || std::path::Path::new("/tmp/hfmade-asked").exists());
    let _ = std::fs::remove_file("/tmp/hfmade-asked");
    assert_eq!(user.number(), Some(61_234));
    house.daemon.restart_after_kill().await;
    assert_eq!(user.number(), None, "{}", house.daemon.log());
    house.assert_clean();
    house.program("ask", "#!/bin/sh\nexit 0\n");
    let (outcome, text) = house.restore(&asked()).await;
    assert_eq!(outcome, "succeeded", "{text}\n{}", house.daemon.log());
    assert_eq!(user.number(), Some(61_234));
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&file.metadata().unwrap()), 61_234);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root"]
async fn system_whom_access_lists_name_has_the_number_that_the_name_has_here() {
    let user = User::add("hfacl", "61235");
    let house = House::build("").await;
    let (file, dir) = (house.path("app/state/conf/a"), house.path("app/state/conf/sub"));
    let set = |arguments: &[&str], path: &std::path::Path| {
        let done = Command::new("setfacl").args(arguments).arg(path).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    set(&["-m", "u:hfacl:rw,g:hfacl:r"], &file);
    set(&["-m", "d:u:hfacl:rx"], &dir);
    let volume = house.path("volumes/data/x");
    set(&["-m", "u:61235:rw"], &volume);
    house.back_up().await;
    // The name has another number now.
    user.remove();
    let user = User::add("hfacl", "61999");
    assert_eq!(house.restore(&Options::new()).await.0, "succeeded", "{}", house.daemon.log());
    let list = |path: &std::path::Path| said("getfacl", &["-n", "-c", "-p", &path.display().to_string()]);
    let of_file = list(&file);
    let group = format!("group:{}:r--", said("id", &["-g", "hfacl"]).trim());
    assert!(of_file.contains("user:61999:rw-") && of_file.contains(&group), "{of_file}");
    assert!(!of_file.contains("61235"), "{of_file}");
    assert!(list(&dir).contains("default:user:61999:r-x"), "{}", list(&dir));
    assert!(list(&volume).contains("user:61235:rw-"), "in volumes numbers count: {}", list(&volume));
    assert_eq!(house.restore(&option("owners", "number".to_owned())).await.0, "succeeded");
    assert!(list(&file).contains("user:61235:rw-"), "{}", list(&file));
    drop(user);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root"]
async fn system_a_target_on_a_disk_that_is_read_only_is_refused() {
    let house = House::build("").await;
    house.back_up().await;
    let disk = Mount::tmpfs(house.path("disk"), "size=1m");
    assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(&disk.0).status().unwrap().success());
    let before = house.live();
    let target = house.path("disk/new").display().to_string();
    let (outcome, said) = house.restore(&option("target", target)).await;
    assert_eq!(outcome, "failed", "{said}");
    assert!(said.contains("was not touched") || said.contains("Read-only"), "{said}");
    before.assert_same(&house.live(), &said);
    drop(disk);
    house.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root"]
async fn system_a_file_system_that_is_mounted_read_only_is_refused() {
    let house = House::build("").await;
    let outside = Mount::tmpfs(house.path("outside"), "size=1m");
    house.daemon.write("outside/dir/z", "z\n");
    house.back_up().await;
    assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(&outside.0).status().unwrap().success());
    refused(&house, "mounted read-only").await;
}
