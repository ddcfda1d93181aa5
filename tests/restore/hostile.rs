//! Bad input and hostile trees: nothing outside the target changes, and live data stays as it was.

use std::os::unix::fs::symlink;

use super::support::error_of;
use super::tree::Tree;
use super::{House, Options, option, restic};

/// A restore that is refused as a job: live data untouched, nothing left.
async fn refused_as_job(house: &House, options: &Options, reason: &str) {
    let before = house.live();
    let (outcome, said) = house.restore(options).await;
    assert_eq!(outcome, "failed", "{said}");
    assert!(said.contains(reason), "{reason:?} is not in: {said}");
    before.assert_same(&house.live(), reason);
    house.assert_clean();
}

async fn r01_to_r03(version: &str) {
    let house = House::with(&restic(version), "").await;
    house.back_up().await;
    house.daemon.write("victim/conf/a", "victim\n");
    house.daemon.write("victim/file", "victim\n");
    // A directory, a file and a volume's child have become links; a file has a second name.
    std::fs::remove_dir_all(house.path("app/state/conf")).unwrap();
    symlink(house.path("victim/conf"), house.path("app/state/conf")).unwrap();
    std::fs::remove_file(house.path("app/state/one.txt")).unwrap();
    symlink(house.path("victim/file"), house.path("app/state/one.txt")).unwrap();
    std::fs::remove_file(house.path("volumes/data/x")).unwrap();
    std::fs::hard_link(house.path("victim/file"), house.path("volumes/data/x")).unwrap();
    std::fs::remove_dir_all(house.path("volumes/data/deep")).unwrap();
    symlink("../../victim", house.path("volumes/data/deep")).unwrap();
    let victim = Tree::of(&house.path("victim"));
    assert_eq!(house.restore(&Options::new()).await.0, "succeeded", "{}", house.daemon.log());
    for (path, text) in
        [("app/state/conf/a", "a\n"), ("app/state/one.txt", "one\n"), ("volumes/data/deep/y", "y\n")]
    {
        assert_eq!(house.daemon.read(path), text);
        assert!(!house.path(path).is_symlink());
    }
    assert!(house.path("app/state/conf").symlink_metadata().unwrap().is_dir());
    for (path, thing) in [("conf/a", "victim\n"), ("file", "victim\n")] {
        assert_eq!(house.daemon.read(&format!("victim/{path}")), thing);
    }
    assert_eq!(house.roll_back().await.0, "succeeded", "{}", house.daemon.log());
    assert!(house.path("app/state/conf").is_symlink() && house.path("volumes/data/deep").is_symlink());
    victim.assert_same(&Tree::of(&house.path("victim")), "the victim");
}

#[tokio::test(flavor = "multi_thread")]
async fn r01_to_r03_links_in_the_live_tree_lead_nowhere_with_restic_0_14() {
    r01_to_r03("0.14").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r01_to_r03_links_in_the_live_tree_lead_nowhere_with_restic_0_18() {
    r01_to_r03("0.18").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r01_to_r03_links_in_the_live_tree_lead_nowhere_with_restic_0_19() {
    r01_to_r03("0.19").await;
}

/// The parent of what is restored is now a directory, now a link to a victim, as fast as its owner can.
#[tokio::test(flavor = "multi_thread")]
async fn r04_a_parent_that_is_swapped_in_a_loop_leads_nowhere() {
    let house = House::build("").await;
    house.back_up().await;
    house.daemon.write("victim/sub/b", "victim\n");
    symlink(house.path("victim"), house.path("app/state/evil")).unwrap();
    let victim = Tree::of(&house.path("victim"));
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (conf, evil, ended) = (house.path("app/state/conf"), house.path("app/state/evil"), stop.clone());
    let racer = std::thread::spawn(move || {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        let mut rounds = 0_u64;
        while !ended.load(std::sync::atomic::Ordering::Relaxed) {
            let _ = renameat_with(CWD, &conf, CWD, &evil, RenameFlags::EXCHANGE);
            rounds += 1;
        }
        rounds
    });
    let include = option("include", vec!["state/conf/sub/b".to_owned(), "state/conf/a".to_owned()]);
    for _ in 0..10 {
        // Whether a round succeeds or is refused is chance; where it writes is not.
        let (outcome, said) = house.restore(&include).await;
        assert!(["succeeded", "failed"].contains(&&*outcome), "{outcome}: {said}");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(racer.join().unwrap() > 10_000);
    victim.assert_same(&Tree::of(&house.path("victim")), "the victim");
}

#[tokio::test(flavor = "multi_thread")]
async fn r08_targets_that_are_no_new_directory_are_refused() {
    let house = House::build("").await;
    house.back_up().await;
    house.daemon.write("file", "mine\n");
    symlink(house.path("outside"), house.path("link")).unwrap();
    for (target, reason) in [
        ("outside", "not empty"),
        ("file", "not a directory"),
        ("link", "symbolic link"),
        ("none/deeper/x/../y", ""),
    ] {
        let target = option("target", house.path(target).display().to_string());
        if reason.is_empty() {
            let refused =
                house.daemon.call::<_, zbus::OwnedObjectPath>("Restore", &("app1", "", &target)).await;
            assert!(error_of(refused).unwrap().1.contains(".."));
        } else {
            refused_as_job(&house, &target, reason).await;
        }
    }
    let target = option("target", house.path("new").display().to_string());
    let before = house.live();
    assert_eq!(house.restore(&target).await.0, "succeeded", "{}", house.daemon.log());
    assert_eq!(house.daemon.read("new/state/conf/a"), "a\n");
    before.assert_same(&house.live(), "the live data");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_pack_is_noticed_before_anything_live_changes() {
    let house = House::build("").await;
    house.daemon.write("app/state/conf/large", &"0123456789abcdef".repeat(20_000));
    house.back_up().await;
    house.daemon.write("app/state/conf/a", "newer\n");
    house.daemon.write("app/state/conf/large", "what is not there must be fetched\n");
    let find = std::process::Command::new("find")
        .arg(house.path("repository"))
        .args(["-path", "*/data/*", "-type", "f"])
        .output();
    for pack in super::support::stdout(&find.unwrap()).lines() {
        let mut bytes = std::fs::read(pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        std::fs::set_permissions(pack, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(pack, bytes).unwrap();
    }
    refused_as_job(&house, &Options::new(), "was not touched").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_that_are_unknown_or_foreign_are_refused_with_advice() {
    let house = House::build("").await;
    house.back_up().await;
    let call = async |snapshot: &str, options: &Options| {
        error_of(house.daemon.call::<_, zbus::OwnedObjectPath>("Restore", &("app1", snapshot, options)).await)
    };
    let (name, text) = call("deadbeef", &Options::new()).await.unwrap();
    assert!(name.ends_with("NoSuchSnapshot") && text.contains("holdfast snapshots"), "{name}: {text}");
    // Another host's: the same state, another name.
    let config = house.daemon.read("config/holdfast.toml").replace("host = \"here\"", "host = \"elsewhere\"");
    house.daemon.write("config/holdfast.toml", &config);
    let _: Vec<String> = house.daemon.call("Reload", &()).await.unwrap();
    let (name, text) = call("", &Options::new()).await.unwrap();
    assert!(name.ends_with("NoSuchSnapshot"), "{name}: {text}");
    let (outcome, said) = house.restore(&option("force_foreign", true)).await;
    assert_eq!(outcome, "succeeded", "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r13_two_restores_of_one_instance_at_once_are_refused() {
    let house = House::build("").await;
    house.program(
        "app/actions/restore-module/05wait",
        "#!/bin/sh\nwhile [ ! -e ../go ]; do sleep 0.05; done\n",
    );
    house.back_up().await;
    let first = house.start_restore(&Options::new()).await;
    for method in ["Restore", "Rollback"] {
        let refused = match method {
            "Restore" => {
                house.daemon.call::<_, zbus::OwnedObjectPath>("Restore", &("app1", "", Options::new())).await
            }
            _ => house.daemon.call("Rollback", &("app1",)).await,
        };
        let (name, text) = error_of(refused).unwrap();
        assert!(name.ends_with("Busy") && text.contains("restore of app1"), "{method}: {name}: {text}");
    }
    house.daemon.write("app/go", "");
    assert_eq!(house.ended(&first).await.0, "succeeded");
}
