//! What was backed up comes back, byte by byte.

use std::fs;
use std::path::Path;

use serde_json::Value;
use zbus::wire::Variant;

use crate::lab::{Lab, Setup, names, text};
use crate::tree::{self, Tree, plant};

/// Destroyed, changed and added to: what a restore has to put right.
fn ruin(lab: &Lab, dir: &str) {
    fs::write(lab.path(dir).join("file"), "ruined").unwrap();
    fs::remove_dir_all(lab.path(dir).join("sub")).unwrap();
    fs::write(lab.path(dir).join("intruder"), "was not there").unwrap();
}

/// Plain files of an absolute path, destroyed, changed, added to: in place everything is as it was.
async fn plain_files_come_back(version: &str) {
    let setup = Setup::with_restic(version)
        .plain()
        .replace("[instance.app]\n", "[instance.app]\nrestore = { setuid = true }\n");
    plant(setup.dir.path(), "data/with blank", b"blank", 0o400);
    plant(setup.dir.path(), "data/-dash", &[0, 255, 10], 0o4755);
    plant(setup.dir.path(), "data/sub/\u{e9}\u{1f512}$HOME[x]*", b"odd name", 0o640);
    std::os::unix::fs::symlink("file", setup.path("data/link")).unwrap();
    fs::create_dir(setup.path("data/empty")).unwrap();
    let lab = setup.start().await;
    let before = tree::read(&lab.path("data"));
    let made = lab.good_backup("b").await;
    let sets = lab.sets("app").await;
    assert_eq!(text(&sets[0], "id"), made.units[0].snapshot);

    ruin(&lab, "data");
    lab.good_restore("app").await;
    tree::assert_same(&before, &tree::read(&lab.path("data")), "restored in place");
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_files_come_back_restic_0_14() {
    plain_files_come_back("0.14").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_files_come_back_restic_0_18() {
    plain_files_come_back("0.18").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_files_come_back_restic_0_19() {
    plain_files_come_back("0.19").await;
}

/// What an NS8-style instance has beside its hooks: two volumes, one whole and one in part, an absolute file, excludes.
fn ns8(setup: Setup) -> Setup {
    let setup = setup.hooked().replace(
        "install_dir = \"@DIR@/app\"\n",
        "install_dir = \"@DIR@/app\"\nvolumes = { data = \"@DIR@/vol/data\", conf = \"@DIR@/vol/conf\" }\n\
         include_add = [\"@DIR@/srv/absolute\", \"@DIR@/srv/tree\"]\n\
         exclude_add = [\"volumes/data/**/cache/*\", \"!volumes/data/**/cache/keep\"]\n",
    );
    setup.write(
        "app/etc/state-include.conf",
        "# a comment\n\nstate/dump.sql\nstate/files\nvolumes/data\nvolumes/conf/local",
        0o644,
    );
    let dir = setup.dir.path();
    plant(dir, "vol/data/pages/start.txt", b"start", 0o640);
    plant(dir, "vol/data/pages/cache/keep", b"kept", 0o600);
    plant(dir, "vol/data/top", b"top", 0o444);
    plant(dir, "vol/conf/local/a.conf", b"a=1", 0o600);
    plant(dir, "vol/conf/other", b"not included", 0o600);
    plant(dir, "srv/absolute", b"absolute", 0o755);
    plant(dir, "srv/tree/x/y", b"deep", 0o600);
    for (number, name) in [(5, "before"), (20, "after")] {
        setup.write(
            &format!("app/actions/restore-module/{number:02}{name}"),
            &format!(
                "#!/bin/sh\nD='@DIR@'\ncat >\"$D/request-{name}\"\n\
                 files=absent; [ ! -e files/one ] || files=$(cat files/one)\n\
                 echo \"{number:02} in $(basename \"$PWD\") with $files, APP=$APP\" >>\"$D/steps\"\n\
                 [ ! -e \"$D/on-step-{name}\" ] || . \"$D/on-step-{name}\"\n"
            ),
            0o755,
        );
    }
    setup
}

/// The live data of [`ns8`] that is backed up, all in one.
fn live(lab: &Lab) -> Tree {
    let mut all = Tree::new();
    for part in ["app/state/files", "vol/data", "vol/conf/local", "srv/absolute", "srv/tree"] {
        all.extend(
            tree::read(&lab.path(part)).into_iter().map(|(name, entry)| (Path::new(part).join(name), entry)),
        );
    }
    all
}

async fn an_instance_with_hooks_volumes_and_steps_comes_back(version: &str, layout: &str) {
    let setup =
        ns8(Setup::with_restic(version)).replace("layout = \"shared\"", &format!("layout = \"{layout}\""));
    // In a per-instance layout the daemon makes the repository itself.
    let setup =
        setup.replace("@DIR@/repo\"", if layout == "shared" { "@DIR@/repo\"" } else { "@DIR@/new\"" });
    let lab = setup.start().await;
    let before = live(&lab);
    lab.write("vol/data/pages/cache/thrown", "away", 0o600);
    let made = lab.good_backup("b").await;
    assert_eq!(lab.text("hooks"), "dump begins\ndump ends\ncleanup begins\ncleanup ends\n");
    assert!(!lab.path("app/state/dump.sql").exists(), "cleanup_state removed the dump");
    if layout == "per-instance" {
        let uuid = text(&lab.sets("app").await[0], "uuid");
        assert!(lab.path(&format!("new/instance/{uuid}/config")).is_file(), "<url>/<module>/<uuid>");
    }

    fs::remove_dir_all(lab.path("vol/data/pages")).unwrap();
    lab.write("vol/data/intruder", "was not there", 0o600);
    lab.write("app/state/files/one", "changed", 0o600);
    fs::remove_dir_all(lab.path("srv/tree")).unwrap();
    lab.remove("srv/absolute");
    lab.remove("vol/conf/local/a.conf");
    lab.write("vol/conf/other", "newer", 0o600);
    lab.good_restore("app").await;

    tree::assert_same(
        &without_times_of(before, &["vol/data/pages/cache"]),
        &without_times_of(live(&lab), &["vol/data/pages/cache"]),
        "restored in place",
    );
    assert_eq!(lab.text("vol/conf/other"), "newer", "what was not included is left alone");
    assert_eq!(lab.text("app/state/dump.sql"), "dumped\n");
    let steps = lab.text("steps");
    assert_eq!(steps, "05 in state with changed, APP=1\n20 in state with one, APP=1\n", "steps around 10");
    let request: Value = serde_json::from_str(&lab.text("request-after")).unwrap();
    assert_eq!(request["snapshot"].as_str(), Some(&*made.units[0].snapshot), "{request}");
    assert_eq!(request["environment"]["APP"], "1", "{request}");
    assert_eq!(lab.text("request-before"), lab.text("request-after"));
    lab.assert_settled().await;
}

/// A directory that lost a file between two readings has another time.
fn without_times_of(mut tree: Tree, names: &[&str]) -> Tree {
    for name in names {
        let name = Path::new(name);
        let entry = tree.get_mut(name).unwrap_or_else(|| panic!("{} is gone", name.display()));
        *entry = entry.clone().timeless();
    }
    tree
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_with_hooks_volumes_and_steps_comes_back_restic_0_14_per_instance() {
    an_instance_with_hooks_volumes_and_steps_comes_back("0.14", "per-instance").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_with_hooks_volumes_and_steps_comes_back_restic_0_14_shared() {
    an_instance_with_hooks_volumes_and_steps_comes_back("0.14", "shared").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_with_hooks_volumes_and_steps_comes_back_restic_0_18_shared() {
    an_instance_with_hooks_volumes_and_steps_comes_back("0.18", "shared").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_with_hooks_volumes_and_steps_comes_back_restic_0_19_per_instance() {
    an_instance_with_hooks_volumes_and_steps_comes_back("0.19", "per-instance").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_with_hooks_volumes_and_steps_comes_back_restic_0_19_shared() {
    an_instance_with_hooks_volumes_and_steps_comes_back("0.19", "shared").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_step_puts_the_old_data_back_exactly() {
    let lab = ns8(Setup::new()).start().await;
    lab.good_backup("b").await;
    lab.write("vol/data/pages/start.txt", "newer", 0o600);
    lab.write("vol/data/intruder", "new", 0o600);
    lab.write("app/state/files/one", "changed", 0o600);
    lab.remove("srv/absolute");
    lab.write("srv/absolute", "newer", 0o600);
    let roots = ["vol/data", "vol/conf/local"];
    let before = without_times_of(live(&lab), &roots);

    lab.on("step-after", "echo the database is broken >&2; exit 3");
    let ended = lab.restore("app", "", &[]).await;
    assert_eq!(ended.outcome, "failed", "{ended:#?}");
    for word in ["20after", "exited with 3", "the database is broken", "the old data is back in place"] {
        assert!(ended.error.contains(word), "{word}: {}", ended.error);
    }
    tree::assert_same(&before, &without_times_of(live(&lab), &roots), "put back");
    assert!(!lab.path("app/state/dump.sql").exists(), "what was not there before is not there now");
    let left: Vec<_> = ["srv", "vol/data", "app/state", "vol/conf"]
        .iter()
        .flat_map(|d| names(&lab.path(d)))
        .filter(|n| n.starts_with(".holdfast"))
        .collect();
    assert!(left.is_empty(), "left beside the live data: {left:?}");
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_step_before_the_files_leaves_them_untouched() {
    let lab = ns8(Setup::new()).start().await;
    lab.good_backup("b").await;
    lab.write("app/state/files/one", "changed", 0o600);
    let before = live(&lab);
    lab.on("step-before", "exit 1");
    let ended = lab.restore("app", "", &[]).await;
    assert_eq!(ended.outcome, "failed", "{ended:#?}");
    tree::assert_same(&before, &live(&lab), "untouched");
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_is_written_only_where_none_exists() {
    let lab = ns8(Setup::new()).start().await;
    lab.good_backup("b").await;
    lab.write("app/state/environment", "APP=2\n", 0o600);
    lab.good_restore("app").await;
    assert_eq!(lab.text("app/state/environment"), "APP=2\n", "one that exists is left as it is");
    lab.remove("app/state/environment");
    lab.good_restore("app").await;
    assert_eq!(lab.text("app/state/environment"), "APP=1\n");
    let meta = fs::metadata(lab.path("app/state/environment")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&meta) & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_that_is_gone_altogether_comes_back() {
    let lab = ns8(Setup::new()).start().await;
    let before = live(&lab);
    lab.good_backup("b").await;
    for gone in ["app/state", "vol/data", "vol/conf/local", "srv/tree"] {
        fs::remove_dir_all(lab.path(gone)).unwrap();
    }
    fs::create_dir(lab.path("vol/data")).unwrap();
    lab.good_restore("app").await;
    tree::assert_same(&before, &live(&lab), "restored");
    assert_eq!(lab.text("app/state/environment"), "APP=1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_into_a_directory_holds_the_tree_and_touches_nothing_else() {
    let lab = ns8(Setup::new()).start().await;
    let saved = live(&lab);
    lab.good_backup("b").await;
    lab.write("app/state/files/one", "changed", 0o600);
    let now = live(&lab);
    let target = lab.path("out").display().to_string();
    let ended = lab.restore("app", "", &[("target", target.clone().into())]).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}");
    tree::assert_same(&now, &live(&lab), "the live data");
    assert_eq!(lab.text("steps"), "", "no step runs");
    let sub = |part: &str| tree::read(&lab.path("out").join(part));
    let saved = |part: &str| -> Tree {
        saved.iter().filter_map(|(n, e)| Some((n.strip_prefix(part).ok()?.to_owned(), e.clone()))).collect()
    };
    tree::assert_same(&saved("app/state/files"), &sub("state/files"), "state");
    tree::assert_same(&saved("vol/data"), &sub("volumes/data"), "a whole volume");
    tree::assert_same(&saved("vol/conf/local"), &sub("volumes/conf/local"), "a part of a volume");
    let absolute = format!("files{}", lab.path("srv/tree").display());
    tree::assert_same(&saved("srv/tree"), &sub(&absolute), "absolute files");

    let again = lab.restore("app", "", &[("target", target.into())]).await;
    assert_eq!(again.outcome, "failed");
    assert!(again.error.contains("is not empty"), "{}", again.error);
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn included_paths_alone_are_restored() {
    let lab = ns8(Setup::new()).start().await;
    lab.good_backup("b").await;
    lab.write("app/state/files/one", "changed", 0o600);
    lab.write("vol/data/pages/start.txt", "changed", 0o600);
    lab.write("vol/data/top2", "new", 0o600);
    let include = vec!["volumes/data/pages/start.txt"];
    let ended = lab.restore("app", "", &[("include", include.into())]).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}");
    assert_eq!(lab.text("vol/data/pages/start.txt"), "start");
    assert_eq!(
        (lab.text("app/state/files/one"), lab.text("vol/data/top2")),
        ("changed".into(), "new".into())
    );

    let absent = vec!["volumes/data/nothing"];
    let ended = lab.restore("app", "", &[("include", absent.into())]).await;
    assert_eq!(ended.outcome, "failed");
    assert!(ended.error.contains("volumes/data/nothing"), "{}", ended.error);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_set_is_restored_by_its_snapshot_or_by_time() {
    let lab = Setup::new().plain().start().await;
    let first = lab.good_backup("b").await;
    let time = lab.sets("app").await[0]["time"].try_clone().unwrap();
    lab.write("data/file", "second\n", 0o644);
    lab.good_backup("b").await;
    lab.write("data/file", "third\n", 0o644);

    assert_eq!(lab.restore("app", &first.units[0].snapshot[..8], &[]).await.outcome, "succeeded");
    assert_eq!(lab.text("data/file"), "one\n");
    lab.good_restore("app").await;
    assert_eq!(lab.text("data/file"), "second\n");
    let before: u64 = time.try_into().unwrap();
    assert_eq!(lab.restore("app", "", &[("before", Variant::U64(before))]).await.outcome, "succeeded");
    assert_eq!(lab.text("data/file"), "one\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_backup_finds_its_parent_though_the_list_of_paths_changed() {
    let lab = ns8(Setup::new()).start().await;
    lab.good_backup("b").await;
    lab.write("vol/data/one-more", "new", 0o600);
    lab.good_backup("b").await;
    let parent = lab.text("calls").lines().rfind(|l| l.starts_with("backup")).unwrap().to_owned();
    let sets = lab.sets("app").await;
    assert!(parent.contains(&format!("--parent {}", text(&sets[1], "id"))), "{parent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_state_directory_finds_the_sets_of_the_repository() {
    let lab = Setup::new().plain().start().await;
    lab.good_backup("b").await;
    let uuid = text(&lab.sets("app").await[0], "uuid");
    let mut lab = lab;
    lab.daemon.stop();
    fs::remove_dir_all(lab.path("state")).unwrap();
    // The instance's identity is what finds them; a rescued machine has it in its configuration or its files.
    lab.write("state/instances/app", &format!("{uuid}\n"), 0o600);
    lab.daemon.start_again().await;
    lab.write("data/file", "ruined", 0o644);
    lab.good_restore("app").await;
    assert_eq!(lab.text("data/file"), "one\n");
}
