//! Restores that do not come to their end: the live data is as it was, and nothing is left lying about.

use std::fs;

use crate::crash::noise;
use crate::lab::{Lab, Setup, names};
use crate::tree::{self, Tree, plant};

/// An instance with a set, and newer data that lives now.
async fn with_newer_data(setup: Setup) -> (Lab, Tree) {
    let lab = setup.start().await;
    plant(&lab.dir, "app/state/files/noise", &noise(4 << 20), 0o600);
    lab.good_backup("b").await;
    lab.write("app/state/files/one", "newer\n", 0o640);
    lab.write("app/state/files/new", "new\n", 0o640);
    let live = tree::read(&lab.path("app/state/files"));
    (lab, live)
}

async fn assert_untouched(lab: &Lab, live: &Tree) {
    tree::assert_same(live, &tree::read(&lab.path("app/state/files")), "the live data");
    let left = names(&lab.path("app/state"));
    assert!(left.iter().all(|name| !name.starts_with(".holdfast")), "left beside the live data: {left:?}");
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_while_it_fetches_nothing_live_was_touched_and_no_lock_is_left() {
    for version in ["0.14", "0.18", "0.19"] {
        let (lab, live) = with_newer_data(Setup::with_restic(version).hooked()).await;
        lab.on("restore", "extra='--limit-download 64'");
        let job = lab.start_restore("app", "", &[]).await;
        lab.until("restic has its lock", || !lab.locks("repo").is_empty()).await;
        lab.cancel(&job).await;
        let ended = lab.ended(&job).await;
        assert_eq!(ended.outcome, "cancelled", "restic {version}: {ended:#?}");
        assert!(lab.locks("repo").is_empty(), "restic {version} left its lock\n{}", lab.daemon.log());
        assert_untouched(&lab, &live).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_lost_data_is_not_restored() {
    for version in ["0.18", "0.19"] {
        let setup = Setup::with_restic(version).hooked();
        let (lab, live) = with_newer_data(setup).await;
        let data = lab.path("repo/data");
        let packs = names(&data).into_iter().flat_map(|sub| {
            names(&data.join(&sub)).into_iter().map(|name| data.join(&sub).join(name)).collect::<Vec<_>>()
        });
        let largest = packs.max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
        // Not lost, for which restic looks 15 min long: it holds something else.
        fs::remove_file(&largest).unwrap();
        fs::write(&largest, noise(5 << 20)).unwrap();
        lab.on("restore", "extra='--no-cache'");
        let ended = lab.restore("app", "", &[]).await;
        assert_eq!(ended.outcome, "failed", "restic {version}: {ended:#?}");
        assert!(ended.error.contains("the live data was not touched"), "{}", ended.error);
        assert_untouched(&lab, &live).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_in_a_step_the_old_data_is_put_back() {
    let setup = Setup::new().hooked();
    let hold = "#!/bin/sh\nD='@DIR@'\n[ ! -e \"$D/on-step\" ] || . \"$D/on-step\"\n";
    setup.write("app/actions/restore-module/30hold", hold, 0o755);
    let (lab, live) = with_newer_data(setup).await;
    lab.hold("step");
    let job = lab.start_restore("app", "", &[]).await;
    lab.reached("step").await;
    assert_eq!(lab.text("app/state/files/one"), "one\n", "swapped already");
    lab.cancel(&job).await;
    assert_eq!(lab.ended(&job).await.outcome, "cancelled");
    assert_untouched(&lab, &live).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_waits_for_a_backup_of_its_instance() {
    let (lab, _) = with_newer_data(Setup::new().hooked()).await;
    lab.hold("dump");
    let backup = lab.daemon.run_backup("b").await;
    lab.reached("dump").await;
    let job = lab.start_restore("app", "", &[]).await;
    let start = std::time::Instant::now();
    loop {
        let waiting: String = lab.daemon.property(&job, "Job", "Waiting").await;
        if waiting.contains("backup of b") {
            break;
        }
        assert!(start.elapsed() < crate::support::DEADLINE, "{waiting}\n{}", lab.daemon.log());
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    lab.go("dump");
    assert_eq!(lab.ended(&backup).await.outcome, "succeeded");
    assert_eq!(lab.ended(&job).await.outcome, "succeeded");
    // The set was chosen when it was asked for.
    assert_eq!(lab.text("app/state/files/one"), "one\n");
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_planted_in_the_live_tree_leads_nobody_out_of_it() {
    let lab = Setup::new().hooked().start().await;
    lab.write("app/etc/state-include.conf", "state/files/deep\n", 0o644);
    lab.good_backup("b").await;
    lab.write("outside/deep/two", "outside\n", 0o600);
    fs::remove_dir_all(lab.path("app/state/files")).unwrap();
    std::os::unix::fs::symlink(lab.path("outside"), lab.path("app/state/files")).unwrap();
    let ended = lab.restore("app", "", &[]).await;
    assert_eq!(ended.outcome, "failed", "{ended:#?}");
    assert_eq!(lab.text("outside/deep/two"), "outside\n");
    assert_eq!(names(&lab.path("outside")), ["deep"], "nothing was written there");
    lab.assert_settled().await;
}
