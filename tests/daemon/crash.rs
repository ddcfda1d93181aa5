//! kill -9 at every step: afterwards nothing is shown running, nothing lies about, and the next run succeeds.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use crate::lab::{Lab, Setup, names, text};
use crate::tree::{self, plant};

/// Makes restic's backups slow, and gives it something to do.
pub(crate) fn slow_restic(lab: &Lab) {
    plant(&lab.dir, "app/state/files/noise", &noise(12 << 20), 0o600);
    lab.on("backup", "extra='--limit-upload 64'");
}

/// Bytes that neither compress nor repeat.
pub(crate) fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = Vec::with_capacity(bytes);
    while noise.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    noise
}

/// Kills the daemon where it is, starts it again, and looks whether all is as promised.
async fn killed_and_started(lab: &mut Lab) {
    lab.daemon.restart_after_kill().await;
    let last = &lab.history().await[0];
    assert_eq!(text(last, "Outcome"), "interrupted", "{last:?}\n{}", lab.daemon.log());
    lab.assert_settled().await;
    assert!(!lab.path("app/state/dump.sql").exists(), "the cleanup hook was run");
}

fn cleanups(lab: &Lab) -> usize {
    lab.text("hooks").matches("cleanup ends").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_the_dump_hook_runs() {
    let mut lab = Setup::new().hooked().start().await;
    lab.hold("dump");
    lab.daemon.run_backup("b").await;
    lab.reached("dump").await;
    killed_and_started(&mut lab).await;
    assert_eq!((cleanups(&lab), lab.snapshots_in("repo")), (1, 0));
    lab.good_backup("b").await;
    assert_eq!(lab.sets("app").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_restic_runs() {
    for version in ["0.14", "0.18", "0.19"] {
        let mut lab = Setup::with_restic(version).hooked().start().await;
        slow_restic(&lab);
        lab.daemon.run_backup("b").await;
        lab.until("restic has its lock", || !lab.locks("repo").is_empty()).await;
        killed_and_started(&mut lab).await;
        assert_eq!((cleanups(&lab), lab.snapshots_in("repo")), (1, 0), "restic {version}");
        lab.remove("on-backup");
        lab.remove("app/state/files/noise");
        lab.good_backup("b").await;
        lab.check("repo");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_restic_saved_the_snapshot_it_is_found_once() {
    let mut lab = Setup::new().hooked().start().await;
    lab.good_backup("b").await;
    lab.hold_after("backup");
    lab.daemon.run_backup("b").await;
    lab.reached("backup").await;
    assert_eq!(lab.snapshots_in("repo"), 2, "restic has saved it");
    killed_and_started(&mut lab).await;
    lab.good_backup("b").await;
    let sets = lab.sets("app").await;
    let mut ids: Vec<_> = sets.iter().map(|set| text(set, "id")).collect();
    ids.dedup();
    assert_eq!(ids.len(), 3, "{sets:#?}\n{}", lab.daemon.log());
    assert_eq!(lab.snapshots_in("repo"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_made_before_the_crash_counts_for_retention_and_can_be_restored() {
    let mut lab = Setup::new()
        .hooked()
        .replace("instances = [\"app\"]", "instances = [\"app\"]\nretention = 2")
        .start()
        .await;
    lab.write("app/state/files/one", "second\n", 0o640);
    lab.hold_after("backup");
    lab.daemon.run_backup("b").await;
    lab.reached("backup").await;
    killed_and_started(&mut lab).await;
    lab.write("app/state/files/one", "ruined\n", 0o640);
    lab.good_restore("app").await;
    assert_eq!(lab.text("app/state/files/one"), "second\n", "the set of the dead job is the latest");
    lab.good_backup("b").await;
    lab.good_backup("b").await;
    assert_eq!((lab.sets("app").await.len(), lab.snapshots_in("repo")), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_the_cleanup_hook_runs_it_is_run_again() {
    let mut lab = Setup::new().hooked().start().await;
    lab.hold("cleanup");
    lab.daemon.run_backup("b").await;
    lab.reached("cleanup").await;
    killed_and_started(&mut lab).await;
    assert_eq!(lab.text("hooks").matches("cleanup begins").count(), 2);
    assert_eq!((cleanups(&lab), lab.snapshots_in("repo")), (1, 1));
    lab.good_backup("b").await;
    assert_eq!(lab.sets("app").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_undo_it_is_repeated() {
    let mut lab = Setup::new().hooked().start().await;
    lab.hold("dump");
    lab.daemon.run_backup("b").await;
    lab.reached("dump").await;
    lab.hold("cleanup");
    // The second daemon is killed in the cleanup that it makes up for.
    lab.daemon.kill();
    lab.daemon.launch_again();
    lab.reached("cleanup").await;
    lab.daemon.kill();
    lab.daemon.start_again().await;
    lab.assert_settled().await;
    assert_eq!(lab.text("hooks").matches("cleanup begins").count(), 2);
    assert_eq!(cleanups(&lab), 1);
    assert_eq!(lab.outcomes().await, [("backup".into(), "interrupted".into())]);
}

/// With hooks, and a retention of so many sets.
fn keeping(last: usize) -> Setup {
    let definition = format!("instances = [\"app\"]\nretention = {last}");
    Setup::new().hooked().replace("instances = [\"app\"]", &definition)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_retention_removes_anything() {
    let mut lab = keeping(1).start().await;
    lab.good_backup("b").await;
    lab.hold("forget");
    lab.daemon.run_backup("b").await;
    lab.reached("forget").await;
    killed_and_started(&mut lab).await;
    assert_eq!(lab.snapshots_in("repo"), 2);
    lab.good_backup("b").await;
    assert_eq!((lab.sets("app").await.len(), lab.snapshots_in("repo")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_forget_holds_its_lock() {
    let mut lab = keeping(1).start().await;
    lab.good_backup("b").await;
    lab.on("forget", "extra='--no-cache --limit-download 1'");
    lab.daemon.run_backup("b").await;
    lab.until("forget has its lock", || lab.calls("forget") > 0 && !lab.locks("repo").is_empty()).await;
    killed_and_started(&mut lab).await;
    lab.remove("on-forget");
    lab.good_backup("b").await;
    assert_eq!((lab.sets("app").await.len(), lab.snapshots_in("repo")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_forget_removed_a_set_it_is_not_listed_any_more() {
    let mut lab = keeping(1).start().await;
    lab.good_backup("b").await;
    lab.hold_after("forget");
    lab.daemon.run_backup("b").await;
    lab.reached("forget").await;
    killed_and_started(&mut lab).await;
    assert_eq!(lab.snapshots_in("repo"), 1);
    lab.good_restore("app").await;
    let sets = lab.sets("app").await;
    assert_eq!(sets.len(), 1, "{sets:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_check_or_a_prune_holds_its_lock() {
    let mut lab = Setup::new().hooked().start().await;
    lab.good_backup("b").await;
    for (method, subcommand) in [("Check", "check"), ("Prune", "prune")] {
        lab.on(subcommand, "extra='--no-cache --limit-download 1'");
        let _: zbus::wire::OwnedObjectPath = match method {
            "Check" => lab.daemon.call(method, &("local", crate::support::Row::new())).await.unwrap(),
            _ => lab.daemon.call(method, &("local",)).await.unwrap(),
        };
        lab.until("it has its lock", || lab.calls(subcommand) > 0 && !lab.locks("repo").is_empty()).await;
        killed_and_started(&mut lab).await;
    }
    lab.good_backup("b").await;
}

/// The data as it was when it was backed up, and another state of it that lives now.
async fn with_newer_data(setup: Setup) -> (Lab, tree::Tree, tree::Tree) {
    let lab = setup.start().await;
    plant(&lab.dir, "app/state/files/noise", &noise(4 << 20), 0o600);
    lab.good_backup("b").await;
    let old = tree::read(&lab.path("app/state/files"));
    lab.write("app/state/files/one", "newer\n", 0o640);
    lab.write("app/state/files/new", "new\n", 0o640);
    let live = tree::read(&lab.path("app/state/files"));
    (lab, old, live)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_restore_fetches_the_live_data_is_untouched() {
    let (mut lab, old, live) = with_newer_data(Setup::new().hooked()).await;
    lab.on("restore", "extra='--limit-download 64'");
    lab.start_restore("app", "", &[]).await;
    lab.until("restic has its lock", || !lab.locks("repo").is_empty()).await;
    killed_and_started(&mut lab).await;
    tree::assert_same(&live, &tree::read(&lab.path("app/state/files")), "after the crash");
    lab.remove("on-restore");
    lab.good_restore("app").await;
    tree::assert_same(&old, &tree::read(&lab.path("app/state/files")), "restored");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_a_step_after_the_files_the_old_data_lives() {
    let setup = Setup::new().hooked();
    setup.write(
        "app/actions/restore-module/20hold",
        "#!/bin/sh\nD='@DIR@'\n[ ! -e \"$D/on-step\" ] || . \"$D/on-step\"\n",
        0o755,
    );
    let (mut lab, old, live) = with_newer_data(setup).await;
    lab.hold("step");
    lab.start_restore("app", "", &[]).await;
    lab.reached("step").await;
    tree::assert_same(&old, &tree::read(&lab.path("app/state/files")), "swapped already");
    killed_and_started(&mut lab).await;
    tree::assert_same(&live, &tree::read(&lab.path("app/state/files")), "put back at the start");
    assert!(
        names(&lab.path("app/state")).iter().all(|n| !n.starts_with(".holdfast")),
        "nothing is left beside"
    );
    lab.good_restore("app").await;
    tree::assert_same(&old, &tree::read(&lab.path("app/state/files")), "restored");
}

/// With staging on another file system the items of each directory are copied beside the live data by a `cp` of their
/// own: the second waits. Nothing is swapped before all lies beside.
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_copies_are_made_the_old_data_lives() {
    let staging = tempfile::tempdir_in("/dev/shm").unwrap();
    let here = fs::metadata(std::env::temp_dir()).unwrap().dev();
    assert_ne!(fs::metadata(staging.path()).unwrap().dev(), here, "/dev/shm is another file system");
    let mut setup =
        Setup::new().hooked().replace("@DIR@/staging", &staging.path().join("s").display().to_string());
    let path = format!("{}:{}", setup.path("programs").display(), std::env::var("PATH").unwrap());
    setup.environment.push(("PATH".into(), path));
    setup.write(
        "programs/cp",
        "#!/bin/sh\nD='@DIR@'\necho x >>\"$D/copies\"\n\
         [ ! -e \"$D/on-cp\" ] || [ \"$(wc -l <\"$D/copies\")\" -lt 2 ] || . \"$D/on-cp\"\nPATH=/usr/bin:/bin exec cp \"$@\"\n",
        0o755,
    );
    setup.write("app/state/deep/second/x", "x\n", 0o600);
    setup.write("app/etc/state-include.conf", "state/files\nstate/deep/second\n", 0o644);
    let (mut lab, old, live) = with_newer_data(setup).await;
    lab.write("app/state/deep/second/x", "newer\n", 0o600);
    lab.hold("cp");
    lab.start_restore("app", "", &[]).await;
    lab.reached("cp").await;
    tree::assert_same(&live, &tree::read(&lab.path("app/state/files")), "nothing is swapped yet");
    assert_eq!(lab.text("app/state/deep/second/x"), "newer\n", "nor the second");
    killed_and_started(&mut lab).await;
    tree::assert_same(&live, &tree::read(&lab.path("app/state/files")), "put back at the start");
    assert_eq!(lab.text("app/state/deep/second/x"), "newer\n");
    assert!(names(&staging.path().join("s")).is_empty(), "staging is empty");
    lab.good_restore("app").await;
    tree::assert_same(&old, &tree::read(&lab.path("app/state/files")), "restored");
    assert_eq!(lab.text("app/state/deep/second/x"), "x\n");
}

/// How many kills: `HOLDFAST_SOAK=1` makes it a thousand, another number that many.
fn kills(few: usize) -> usize {
    match std::env::var("HOLDFAST_SOAK").ok().and_then(|text| text.parse().ok()) {
        None => few,
        Some(1) => 1000,
        Some(number) => number,
    }
}

/// Some number below `limit`; said, so that a failure can be told apart.
fn random(limit: u64) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::from(now.subsec_nanos()).wrapping_mul(0x9e37_79b9_7f4a_7c15) % limit
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_moments_of_a_backup_nothing_is_lost() {
    let mut lab = keeping(3).start().await;
    lab.good_backup("b").await;
    for round in 0..kills(15) {
        lab.write("app/state/files/one", &format!("round {round}\n"), 0o640);
        lab.daemon.run_backup("b").await;
        let moment = Duration::from_millis(random(700));
        tokio::time::sleep(moment).await;
        lab.daemon.restart_after_kill().await;
        let outcome = text(&lab.history().await[0], "Outcome");
        assert!(["interrupted", "succeeded"].contains(&&*outcome), "{outcome} after a kill at {moment:?}");
        lab.assert_settled().await;
        let sets = lab.sets("app").await.len();
        assert!(sets >= 1, "no set is left after a kill at {moment:?}");
    }
    // However few of them got so far: what dead ones left is not kept in the place of a set.
    for _ in 0..3 {
        lab.good_backup("b").await;
    }
    let sets = lab.sets("app").await;
    assert_eq!((sets.len(), lab.snapshots_in("repo")), (3, 3), "{sets:#?}");
    lab.check("repo");
    lab.write("app/state/files/one", "ruined\n", 0o640);
    lab.good_restore("app").await;
    assert!(lab.text("app/state/files/one").starts_with("round"));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_moments_of_a_restore_the_data_is_wholly_old_or_wholly_new() {
    let setup = Setup::new().hooked();
    setup.write("app/etc/state-include.conf", "state/files\nstate/more\nstate/dump.sql\n", 0o644);
    for number in 0..40 {
        setup.write(&format!("app/state/more/{number}"), "old\n", 0o600);
    }
    let mut lab = setup.start().await;
    lab.good_backup("b").await;
    let whole = |lab: &Lab| {
        let files = names(&lab.path("app/state/more"));
        assert_eq!(files.len(), 40);
        let texts: std::collections::BTreeSet<_> = files
            .iter()
            .map(|f| lab.text(&format!("app/state/more/{f}")))
            .chain([lab.text("app/state/files/one")])
            .collect();
        assert_eq!(texts.len(), 1, "{texts:?}\n{}", lab.daemon.log());
    };
    lab.write("app/state/files/one", "old\n", 0o640);
    lab.good_backup("b").await;
    for _ in 0..kills(10) {
        for name in names(&lab.path("app/state/more")) {
            lab.write(&format!("app/state/more/{name}"), "new\n", 0o600);
        }
        lab.write("app/state/files/one", "new\n", 0o640);
        lab.start_restore("app", "", &[]).await;
        tokio::time::sleep(Duration::from_millis(random(300))).await;
        lab.daemon.restart_after_kill().await;
        whole(&lab);
        lab.assert_settled().await;
        assert!(
            names(&lab.path("app/state")).iter().all(|n| !n.starts_with(".holdfast")),
            "nothing is left beside"
        );
    }
    lab.good_restore("app").await;
    whole(&lab);
}
