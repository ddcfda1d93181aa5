//! What was backed up comes back, byte by byte.

use std::fs;

use crate::lab::{Lab, Setup, text};
use crate::tree::{self, plant};

/// Destroyed, changed and added to: what a restore has to put right.
fn ruin(lab: &Lab, dir: &str) {
    fs::write(lab.path(dir).join("file"), "ruined").unwrap();
    fs::remove_dir_all(lab.path(dir).join("sub")).unwrap();
    fs::write(lab.path(dir).join("intruder"), "was not there").unwrap();
}

/// Plain files of an absolute path, destroyed, changed, added to: in place everything is as it was.
async fn plain_files_come_back(version: &str) {
    let setup = Setup::with_restic(version).plain();
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
