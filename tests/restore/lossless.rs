//! What comes back is what was there, and what was not backed up is not lost.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::XattrFlags;

use super::tree::Tree;
use super::{House, Options, restic};

/// Everything that a tree may hold, as far as this user may make it.
fn furnish(dir: &Path) {
    let write = |name: &[u8], text: &str| std::fs::write(dir.join(OsStr::from_bytes(name)), text).unwrap();
    write(b"not utf-8 \xff\xfe", "bytes");
    write(b"line\nbreak", "newline");
    write(b" -rf *?[x]\\ \"'$HOME", "odd");
    write(b"twin", "same");
    std::fs::hard_link(dir.join("twin"), dir.join("other twin")).unwrap();
    symlink("/etc/passwd", dir.join("link out")).unwrap();
    symlink("gone", dir.join("dangling")).unwrap();
    let sparse = std::fs::File::create(dir.join("sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    rustix::fs::setxattr(dir.join("twin"), "user.colour", b"\x00blue", XattrFlags::empty()).unwrap();
    // An ACL: user::rw-, user:65534:r--, group::r--, mask::r--, other::---.
    let acl: Vec<u8> =
        [(1_u16, 6_u16, u32::MAX), (2, 4, 65_534), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
            .into_iter()
            .fold(2_u32.to_le_bytes().to_vec(), |mut all, (tag, perm, id)| {
                all.extend(tag.to_le_bytes());
                all.extend(perm.to_le_bytes());
                all.extend(id.to_le_bytes());
                all
            });
    rustix::fs::setxattr(dir.join("sparse"), "system.posix_acl_access", &acl, XattrFlags::empty()).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, dir.join("fifo"), rustix::fs::FileType::Fifo, 0o640.into(), 0)
        .unwrap();
    std::fs::create_dir(dir.join("closed")).unwrap();
    std::fs::write(dir.join("closed/suid"), "#!").unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(dir.join("closed/suid"), Some(1234), Some(4321)).unwrap();
        // cap_net_bind_service=ep
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        rustix::fs::setxattr(dir.join("twin"), "security.capability", &capability, XattrFlags::empty())
            .unwrap();
    }
    std::fs::set_permissions(dir.join("closed/suid"), std::fs::Permissions::from_mode(0o4711)).unwrap();
    std::fs::set_permissions(dir.join("closed"), std::fs::Permissions::from_mode(0o2700)).unwrap();
    let at = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
    for name in ["twin", "closed/suid", "closed"] {
        std::fs::File::open(dir.join(name)).unwrap().set_modified(at).unwrap();
    }
}

async fn comes_back(version: &str) {
    let house = House::with(&restic(version), "restore.setuid = true").await;
    for dir in ["app/state/conf", "volumes/data/deep", "outside/dir"] {
        furnish(&house.path(dir));
    }
    let before = house.live();
    house.back_up().await;
    before.assert_same(&house.live(), "a backup changes nothing");
    std::fs::remove_dir_all(house.path("app/state/conf/closed")).unwrap();
    std::fs::remove_dir_all(house.path("outside/dir")).unwrap();
    house.daemon.write("volumes/data/deep/y", "spoilt");
    house.daemon.write("volumes/data/new since then", "goes");
    house.daemon.write("app/state/one.txt", "spoilt");
    house.daemon.write("outside/beside", "changed, and not backed up\n");
    let (outcome, said) = house.restore(&Options::new()).await;
    assert_eq!(outcome, "succeeded", "{said}");
    assert_eq!(house.daemon.read("outside/beside"), "changed, and not backed up\n");
    let (mut before, mut after) = (before, house.live());
    if version == "0.14" {
        // It cannot restore holes.
        (before, after) = (before.without_holes(), after.without_holes());
    }
    before.without("outside/beside").assert_same(&after.without("outside/beside"), version);
    house.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_a_file_has_comes_back_with_restic_0_14() {
    comes_back("0.14").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_a_file_has_comes_back_with_restic_0_18() {
    comes_back("0.18").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_a_file_has_comes_back_with_restic_0_19() {
    comes_back("0.19").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_backup_left_out_stays_with_all_that_it_has() {
    let house = House::build("").await;
    house.back_up().await;
    for dir in ["app/state/conf/cache", "volumes/data/deep/cache", "outside/dir/new/deeper/cache"] {
        std::fs::create_dir_all(house.path(dir)).unwrap();
        furnish(&house.path(dir));
    }
    house.daemon.write("app/state/conf/sub/x.tmp", "left out\n");
    house.daemon.write("volumes/data/top.tmp", "left out\n");
    let left_out = |house: &House| {
        let parts = [
            "app/state/conf/cache",
            "app/state/conf/sub/x.tmp",
            "volumes/data/deep/cache",
            "volumes/data/top.tmp",
        ];
        Tree::of_all(parts.map(|part| house.path(part)))
    };
    let deep = house.path("outside/dir/new/deeper/cache");
    let (before, deep_before) = (left_out(&house), Tree::of(&deep));
    let inode = |path: &str| std::os::unix::fs::MetadataExt::ino(&house.path(path).metadata().unwrap());
    let linked = inode("app/state/conf/sub/x.tmp");
    let sub_time = house.path("app/state/conf/sub").metadata().unwrap().modified().unwrap();
    assert_eq!(house.restore(&Options::new()).await.0, "succeeded", "{}", house.daemon.log());
    before.assert_same(&left_out(&house), "what was left out");
    deep_before.assert_same(&Tree::of(&deep), "below a directory that the backup does not know");
    assert_ne!(inode("app/state/conf/sub/x.tmp"), linked, "a copy, no hard link to the old data");
    let restored = house.path("app/state/conf/sub").metadata().unwrap().modified().unwrap();
    assert!(restored < sub_time, "the directory has the time that was saved, not that of the copy");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_name_is_no_text_is_planned_and_restored_by_itself() {
    let house = House::build("").await;
    let name = OsStr::from_bytes(b"line\nbreak \xff \\ *");
    let file = house.path("app/state/conf").join(name);
    std::fs::write(&file, "saved").unwrap();
    house.back_up().await;
    std::fs::write(&file, "spoilt").unwrap();
    house.daemon.write("app/state/conf/a", "mine");
    let spelled = "state/conf/line\\nbreak \\xff \\\\ \\*";
    let include = super::option("include", vec![spelled.to_owned()]);
    let text: String = house.daemon.call("Plan", &("app1", "", &include)).await.unwrap();
    let plan: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&plan["problems"], &plan["replace"][0]["path"]),
        (&serde_json::json!([]), &spelled.into()),
        "{plan}"
    );
    assert_eq!(
        (&plan["replace"][0]["files"], &plan["replace"][0]["bytes"]),
        (&1.into(), &5.into()),
        "{plan}"
    );
    assert_eq!(house.restore(&include).await.0, "succeeded", "{}", house.daemon.log());
    assert_eq!(std::fs::read(&file).unwrap(), b"saved");
    assert_eq!(house.daemon.read("app/state/conf/a"), "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_file_comes_back_and_nothing_else_changes() {
    let house = House::build("").await;
    house.back_up().await;
    house.daemon.write("app/state/conf/a", "spoilt");
    house.daemon.write("app/state/one.txt", "mine");
    let before = house.live();
    let include = super::option("include", vec!["state/conf/a".to_owned()]);
    assert_eq!(house.restore(&include).await.0, "succeeded", "{}", house.daemon.log());
    assert_eq!(house.daemon.read("app/state/conf/a"), "a\n");
    before.without("conf").assert_same(&house.live().without("conf"), "the rest");
    assert_eq!(house.daemon.read("app/state/one.txt"), "mine");
}
