//! Killed in each phase of a restore: the live data is wholly old or wholly new, and the next start says which.

use std::path::PathBuf;
use std::time::Duration;

use holdfast::state::undo::{Step, Undo};

use super::support::until;
use super::tree::Tree;
use super::{House, Options, restic};

/// Where a restore is made to wait, and whether the new data lives there already.
const PLACES: [(&str, bool); 4] = [("fetch", false), ("before", false), ("after", true), ("health", true)];

/// Waits once at its place when told to.
fn waits(place: &str) -> String {
    format!(
        "[ ! -e \"$D/hold-{place}\" ] || {{ rm \"$D/hold-{place}\"; : >\"$D/at-{place}\"; exec sleep 60; }}\n"
    )
}

async fn furnished() -> (House, Tree, Tree) {
    let wrapper_dir = tempfile::tempdir().unwrap().keep();
    let wrapper = wrapper_dir.join("restic");
    let house = House::with(
        &wrapper_with(&wrapper, "/nonexistent"),
        "restore.health = { command = [\"@DIR@/ask\"], timeout = \"1m\" }",
    )
    .await;
    let own = house.path("restic");
    std::fs::remove_dir_all(&wrapper_dir).unwrap();
    let dir = house.daemon.dir.path().display().to_string();
    wrapper_with(&own, &dir);
    let config = house.daemon.read("config/holdfast.toml");
    let config = config.replace(&wrapper.display().to_string(), &own.display().to_string());
    house.daemon.write("config/holdfast.toml", &config);
    let _: Vec<String> = house.daemon.call("Reload", &()).await.unwrap();
    let script = |place: &str| format!("#!/bin/sh\nD='{dir}'\n{}", waits(place));
    house.program("ask", &script("health"));
    house.program("app/actions/restore-module/05before", &script("before"));
    house.program("app/actions/restore-module/50after", &script("after"));
    house.back_up().await;
    let saved = live(&house);
    for path in ["app/state/conf/a", "app/state/one.txt", "volumes/data/x", "outside/dir/z"] {
        house.daemon.write(path, "newer\n");
    }
    // What a root itself has is restored where all of it was saved, and is put back too.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o2771);
    std::fs::set_permissions(house.path("volumes/data"), mode).unwrap();
    let newer = live(&house);
    (house, saved, newer)
}

fn wrapper_with(path: &std::path::Path, dir: &str) -> PathBuf {
    let real = restic("0.19");
    let text = format!(
        "#!/bin/sh\nD='{dir}'\nif [ \"$1\" = restore ]; then\n{}fi\nexec '{}' \"$@\"\n",
        waits("fetch"),
        real.display()
    );
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    path.to_owned()
}

/// With the roots' own modes and owners.
fn live(house: &House) -> Tree {
    Tree::of_all(["app/state", "volumes/data", "outside/dir"].map(|dir| house.path(dir)))
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_each_phase_the_old_data_lives_again_and_the_next_start_says_so() {
    let (mut house, saved, newer) = furnished().await;
    for (place, swapped) in PLACES {
        house.daemon.write(&format!("hold-{place}"), "");
        let at = house.path(&format!("at-{place}"));
        house.start_restore(&Options::new()).await;
        until(&format!("the restore is at {place}"), || at.exists());
        assert_eq!(house.daemon.read("volumes/data/x") == "x\n", swapped, "{place}");
        house.daemon.restart_after_kill().await;
        newer.assert_same(&live(&house), &format!("killed at {place}\n{}", house.daemon.log()));
        assert_eq!(house.annexes(), Vec::<PathBuf>::new(), "{place}");
        house.assert_clean();
        let log = house.daemon.log();
        assert!(log.contains("undoing what job") && log.contains("was interrupted"), "{place}: {log}");
        assert!(!swapped || log.contains("putting back"), "{place}: {log}");
    }
    let (outcome, said) = house.restore(&Options::new()).await;
    assert_eq!(outcome, "succeeded", "{said}");
    saved.assert_same(&live(&house), "and then it goes well");
}

/// Blows at random moments, from before the job to after it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes long; `make soak` or by name"]
async fn soak_killed_at_random_moments_everything_is_wholly_old_or_wholly_new() {
    let rounds = 300;
    let (mut house, saved, newer) = furnished().await;
    let mut new = 0;
    for round in 0..rounds {
        if live(&house) == saved {
            assert_eq!(house.roll_back().await.0, "succeeded", "{}", house.daemon.log());
            // A rollback exchanges what lies in a root, not what the root itself has.
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o2771);
            std::fs::set_permissions(house.path("volumes/data"), mode).unwrap();
        }
        house.start_restore(&Options::new()).await;
        // Not a wait for something: the moment of the blow.
        let moment = u64::from(uuid::Uuid::new_v4().as_fields().1) % 1_500;
        tokio::time::sleep(Duration::from_millis(moment)).await;
        house.daemon.restart_after_kill().await;
        let now = live(&house);
        if now == saved {
            new += 1;
        } else {
            newer.assert_same(&now, &format!("round {round}\n{}", house.daemon.log()));
        }
        house.assert_clean();
    }
    println!("{new} of {rounds} had come to their end");
}

/// A server that was started by hand holds the data: the exchange has to wait, and what it would bring back stays.
#[tokio::test(flavor = "multi_thread")]
async fn old_data_that_cannot_be_put_back_yet_is_not_removed() {
    let mut house = House::build("").await;
    house.daemon.stop();
    house.daemon.write("volumes/data/lock.mdb", "new");
    house.daemon.write("volumes/.data.holdfast-jdead/data/x", "old\n");
    let (live, annex) = (house.path("volumes/data"), house.path("volumes/.data.holdfast-jdead"));
    let aside = annex.join("data");
    let undo = Undo::begin(&house.path("state/undo"), "jdead").unwrap();
    undo.push(Step::RemoveDir { path: annex.clone() }).await.unwrap();
    let inode = Some(std::os::unix::fs::MetadataExt::ino(&aside.metadata().unwrap()));
    undo.push(Step::SwapBack { instance: "app1".into(), live, aside, inode }).await.unwrap();
    drop(undo);
    let held = std::fs::File::options().write(true).open(house.path("volumes/data/lock.mdb")).unwrap();
    rustix::fs::fcntl_lock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    house.daemon.start_again().await;
    assert_eq!(house.daemon.read("volumes/.data.holdfast-jdead/data/x"), "old\n");
    assert!(house.daemon.log().contains("undo steps are left"), "{}", house.daemon.log());
    drop(held);
    house.daemon.stop();
    house.daemon.start_again().await;
    assert_eq!(house.daemon.read("volumes/data/x"), "old\n", "{}", house.daemon.log());
    assert!(!annex.exists());
    house.assert_clean();
}
