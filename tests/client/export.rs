//! A set as one archive: whole, or exit code 1 and no file.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::House;

async fn filled() -> House {
    let house = House::build().await;
    house.daemon.write("data/large", &"0123456789abcdef".repeat(1 << 16));
    std::os::unix::fs::symlink("large", house.path("data/link")).unwrap();
    std::fs::set_permissions(house.path("data/file"), std::fs::Permissions::from_mode(0o640)).unwrap();
    house.holdfast(&["run", "nightly"]).ends_with(0);
    house
}

/// Unpacked by the system's own tar, which knows the formats by itself.
fn unpacked(house: &House, archive: &Path, name: &str) -> std::path::PathBuf {
    let dir = house.path(name);
    std::fs::create_dir(&dir).unwrap();
    let tar = Command::new("tar").arg("-xpf").arg(archive).arg("-C").arg(&dir).output().unwrap();
    assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
    dir.join(format!("files{}", house.path("data").display()))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_holds_all_of_the_set() {
    let house = filled().await;
    for ending in ["tar", "tar.gz", "tar.zst"] {
        let archive = house.path(&format!("out.{ending}"));
        house.holdfast(&["export", "app-1", archive.to_str().unwrap()]).ends_with(0).complains(&["entries"]);
        assert_eq!(std::fs::metadata(&archive).unwrap().permissions().mode() & 0o777, 0o600);
        let dir = unpacked(&house, &archive, ending);
        let compared = Command::new("diff").arg("-r").arg(house.path("data")).arg(&dir).output().unwrap();
        assert!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stdout));
        assert_eq!(std::fs::read_link(dir.join("link")).unwrap(), Path::new("large"));
        assert_eq!(std::fs::metadata(dir.join("file")).unwrap().permissions().mode() & 0o777, 0o640);
    }
    let first = std::fs::read(house.path("out.tar")).unwrap();
    let id = house.json(&["snapshots", "app-1"])[0]["id"].as_str().unwrap().to_owned();
    let output = house.command(&["export", &id[..8], "-"]).output().unwrap();
    assert!(output.status.success() && output.stdout == first, "standard output holds the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_whole_is_no_file_and_ends_with_1() {
    let house = filled().await;
    let out = house.path("out.tar.zst");
    let out = out.to_str().unwrap();
    house.holdfast(&["export", "nobody", out]).ends_with(1).complains(&["neither"]);
    house.holdfast(&["export", "app-1", "out.zip"]).ends_with(2).complains(&[".tar.zst"]);
    house.holdfast(&["export", "deadbeef", out]).ends_with(1).complains(&["deadbeef"]);
    house.daemon.write("there.tar", "mine");
    let there = house.path("there.tar");
    house.holdfast(&["export", "app-1", there.to_str().unwrap()]).ends_with(1).complains(&["there already"]);
    assert_eq!(house.daemon.read("there.tar"), "mine");
    let mut find = Command::new("find");
    find.arg(house.path("repository")).args(["-path", "*/data/*/*", "-type", "f"]);
    let packs = String::from_utf8(find.output().unwrap().stdout).unwrap();
    let largest = packs.lines().max_by_key(|pack| std::fs::metadata(pack).unwrap().len()).unwrap();
    let mut bytes = std::fs::read(largest).unwrap();
    bytes[200] ^= 1;
    std::fs::set_permissions(largest, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(largest, bytes).unwrap();
    house.holdfast(&["export", "app-1", out]).ends_with(1);
    let left = std::fs::read_dir(house.daemon.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> =
        left.filter(|name| name.to_string_lossy().contains("export") || name == "out.tar.zst").collect();
    assert_eq!(left, Vec::<std::ffi::OsString>::new());
}
