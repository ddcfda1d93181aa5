//! Prune and check, and when a repository counts as damaged.

use std::fs;

use zbus::wire::OwnedObjectPath;

use crate::crash::noise;
use crate::lab::{Ended, Lab, Setup, names};
use crate::support::Row;
use crate::tree::plant;

const LOCAL: &str = "/org/holdfast/Backup1/repository/local";

async fn check(lab: &Lab) -> Ended {
    let job: OwnedObjectPath = lab.daemon.call("Check", &("local", Row::new())).await.unwrap();
    lab.ended(&job).await
}

async fn damaged(lab: &Lab) -> bool {
    lab.daemon.property(LOCAL, "Repository", "Damaged").await
}

/// All files below a directory.
fn packs(lab: &Lab) -> Vec<std::path::PathBuf> {
    let data = lab.path("repo/data");
    names(&data)
        .iter()
        .flat_map(|sub| {
            names(&data.join(sub)).into_iter().map(|f| data.join(sub).join(f)).collect::<Vec<_>>()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_removes_what_no_set_needs() {
    let setup = Setup::new().plain().replace("instances = [\"app\"]", "instances = [\"app\"]\nretention = 1");
    plant(setup.dir.path(), "data/noise", &noise(8 << 20), 0o600);
    let lab = setup.start().await;
    lab.good_backup("b").await;
    lab.remove("data/noise");
    lab.good_backup("b").await;
    let size = |lab: &Lab| packs(lab).iter().map(|p| fs::metadata(p).unwrap().len()).sum::<u64>();
    assert!(size(&lab) > 7 << 20);
    let job: OwnedObjectPath = lab.daemon.call("Prune", &("local",)).await.unwrap();
    let ended = lab.ended(&job).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}");
    assert!(size(&lab) < 1 << 20, "{} bytes are left", size(&lab));
    let last: u64 = lab.daemon.property(LOCAL, "Repository", "LastPrune").await;
    assert!(last > 0);
    lab.check("repo");
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_pack_is_found_by_a_check_and_the_repository_is_damaged_until_one_is_good() {
    for version in ["0.14", "0.19"] {
        let lab = Setup::with_restic(version).plain().start().await;
        plant(&lab.dir, "data/noise", &noise(1 << 20), 0o600);
        lab.good_backup("b").await;
        assert_eq!((&*check(&lab).await.outcome, damaged(&lab).await), ("succeeded", false));
        let last: u64 = lab.daemon.property(LOCAL, "Repository", "LastCheck").await;
        assert!(last > 0);
        // The largest holds data: for a lost pack of directories restic 0.14 looks again and again, 90 s long.
        let pack = packs(&lab).into_iter().max_by_key(|p| fs::metadata(p).unwrap().len()).unwrap();
        fs::rename(&pack, lab.path("kept-pack")).unwrap();
        let ended = check(&lab).await;
        assert_eq!((&*ended.outcome, damaged(&lab).await), ("failed", true), "restic {version}: {ended:#?}");
        assert!(ended.error.contains("damaged"), "{}", ended.error);
        fs::rename(lab.path("kept-pack"), &pack).unwrap();
        assert_eq!((&*check(&lab).await.outcome, damaged(&lab).await), ("succeeded", false));
        lab.assert_settled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_did_not_get_to_the_data_says_nothing_about_damage() {
    let lab = Setup::new().plain().start().await;
    lab.good_backup("b").await;
    // The storage is away; then the password is wrong; then somebody cancels.
    lab.on("check", "echo 'Fatal: unable to open repository: dial tcp: connection refused' >&2; exit 1");
    let ended = check(&lab).await;
    assert_eq!((&*ended.outcome, damaged(&lab).await), ("failed", false), "{ended:#?}");
    assert!(ended.error.contains("unreachable"), "{}", ended.error);
    lab.remove("on-check");
    lab.write("config/password", "wrong\n", 0o600);
    let ended = check(&lab).await;
    assert_eq!((&*ended.outcome, damaged(&lab).await), ("failed", false), "{ended:#?}");
    lab.write("config/password", &format!("{}\n", crate::lab::PASSWORD), 0o600);
    fs::rename(lab.path("repo"), lab.path("away")).unwrap();
    let ended = check(&lab).await;
    assert_eq!((&*ended.outcome, damaged(&lab).await), ("failed", false), "{ended:#?}");
    fs::rename(lab.path("away"), lab.path("repo")).unwrap();
    lab.hold("check");
    let job: OwnedObjectPath = lab.daemon.call("Check", &("local", Row::new())).await.unwrap();
    lab.reached("check").await;
    lab.cancel(&job).await;
    assert_eq!((&*lab.ended(&job).await.outcome, damaged(&lab).await), ("cancelled", false));
    assert_eq!(check(&lab).await.outcome, "succeeded");
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forget_waits_for_a_backup_of_another_job_in_the_same_repository() {
    let lab = Setup::new()
        .plain()
        .replace("instances = [\"app\"]", "instances = [\"app\"]\nretention = 1")
        .config("[backup.c]\nrepositories = [\"local\"]\ninstances = [\"other\"]\n[instance.other]\ninclude = [\"@DIR@/data\"]\n")
        .start()
        .await;
    lab.good_backup("b").await;
    lab.hold("backup");
    let other = lab.daemon.run_backup("c").await;
    lab.reached("backup").await;
    let job = lab.daemon.run_backup("b").await;
    let start = std::time::Instant::now();
    loop {
        let waiting: String = lab.daemon.property(&job, "Job", "Waiting").await;
        if waiting.contains("backup of c") {
            break;
        }
        assert!(start.elapsed() < crate::support::DEADLINE, "{waiting}\n{}", lab.daemon.log());
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(lab.calls("forget"), 0);
    lab.go("backup");
    assert_eq!(lab.ended(&other).await.outcome, "succeeded");
    assert_eq!(lab.ended(&job).await.outcome, "succeeded");
    assert_eq!((lab.calls("forget"), lab.snapshots_in("repo")), (1, 2));
}
