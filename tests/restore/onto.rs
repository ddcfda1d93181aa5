//! A restore in place begins with what lives; a large one comes in parts; both say how far they are.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::support::{stdout, until};
use super::tree::Tree;
use super::{House, Options, restic};

/// Changes the middle of each pack: what is read from it is noticed.
fn damage_packs(house: &House) {
    let find = std::process::Command::new("find")
        .arg(house.path("repository"))
        .args(["-path", "*/data/*", "-type", "f", "-size", "+64k"])
        .output();
    for pack in stdout(&find.unwrap()).lines() {
        let mut bytes = std::fs::read(pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        std::fs::set_permissions(pack, PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(pack, bytes).unwrap();
    }
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 33) as u8
    };
    std::iter::repeat_with(&mut next).take(length).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_did_not_change_is_not_fetched_and_what_only_looks_the_same_is() {
    let house = House::build("").await;
    let large = house.path("app/state/conf/large");
    std::fs::write(&large, noise(200_000)).unwrap();
    house.back_up().await;
    let saved = house.live();
    damage_packs(&house);
    let (outcome, said) = house.restore(&Options::new()).await;
    assert_eq!(outcome, "succeeded", "fetched what lives: {said}");
    saved.assert_same(&house.live(), "nothing had changed");
    // The same length and time, another content.
    let time = large.metadata().unwrap().modified().unwrap();
    let mut other = noise(200_000);
    other[100] ^= 1;
    std::fs::write(&large, other).unwrap();
    std::fs::File::options().write(true).open(&large).unwrap().set_modified(time).unwrap();
    let before = house.live();
    let (outcome, said) = house.restore(&Options::new()).await;
    assert!(outcome == "failed" && said.contains("was not touched"), "{outcome}: {said}");
    before.assert_same(&house.live(), "nothing live was touched");
    house.assert_clean();
}

/// Every saved thing is another kind of thing by now.
async fn other_kinds(version: &str) {
    let house = House::with(&restic(version), "").await;
    house.daemon.write("victim/file", "victim\n");
    for name in ["b", "c", "d", "e", "f"] {
        house.daemon.write(&format!("app/state/conf/{name}"), &format!("{name}\n"));
    }
    symlink("a", house.path("app/state/conf/link")).unwrap();
    house.back_up().await;
    let saved = house.live();
    let conf = |name: &str| house.path("app/state/conf").join(name);
    for name in ["a", "b", "c", "d", "f", "link"] {
        std::fs::remove_file(conf(name)).unwrap();
    }
    std::fs::remove_dir_all(conf("sub")).unwrap();
    symlink(house.path("victim/file"), conf("a")).unwrap();
    std::fs::hard_link(house.path("victim/file"), conf("b")).unwrap();
    house.daemon.write("app/state/conf/c/deep/er", "a directory\n");
    rustix::fs::mknodat(rustix::fs::CWD, conf("d"), rustix::fs::FileType::Fifo, 0o640.into(), 0).unwrap();
    symlink(house.path("victim"), conf("f")).unwrap();
    house.daemon.write("app/state/conf/sub", "a file\n");
    house.daemon.write("app/state/conf/link", "a file\n");
    house.daemon.write("app/state/conf/e", "longer than it was, and another content\n");
    house.daemon.write("app/state/conf/since/then", "goes\n");
    let victim = Tree::of(&house.path("victim"));
    let (outcome, said) = house.restore(&Options::new()).await;
    assert_eq!(outcome, "succeeded", "{said}\n{}", house.daemon.log());
    saved.assert_same(&house.live(), version);
    victim.assert_same(&Tree::of(&house.path("victim")), "the victim");
    house.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_lives_by_a_saved_name_gives_way_with_restic_0_14() {
    other_kinds("0.14").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_lives_by_a_saved_name_gives_way_with_restic_0_18() {
    other_kinds("0.18").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_lives_by_a_saved_name_gives_way_with_restic_0_19() {
    other_kinds("0.19").await;
}

/// A restic that notes its arguments, and does `at` when it is to restore.
fn listening(dir: &Path, version: &str, at: &str) -> std::path::PathBuf {
    let path = dir.join("restic");
    let (real, dir) = (restic(version), dir.display());
    let text = format!(
        "#!/bin/sh\nD='{dir}'\nif [ \"$1\" = restore ]; then\necho \"$*\" >>\"$D/calls\"\n{at}\nfi\nexec '{}' \"$@\"\n",
        real.display()
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

async fn in_parts(version: &str, over: bool) {
    let dir = tempfile::tempdir().unwrap();
    let house = House::with(&listening(dir.path(), version, ""), "").await;
    let config =
        house.daemon.read("config/holdfast.toml").replace("[daemon]\n", "[daemon]\nmax_parallel = 2\n");
    house.daemon.write("config/holdfast.toml", &config);
    let _: Vec<String> = house.daemon.call("Reload", &()).await.unwrap();
    std::fs::File::create(house.path("volumes/data/large")).unwrap().set_len(80 << 20).unwrap();
    house.back_up().await;
    let saved = house.live();
    for path in ["app/state/conf/a", "volumes/data/deep/y", "outside/dir/z"] {
        house.daemon.write(path, "newer\n");
    }
    std::fs::remove_file(house.path("volumes/data/large")).unwrap();
    let job = house.start_restore(&Options::new()).await;
    let (outcome, said) = house.ended(&job).await;
    assert_eq!(outcome, "succeeded", "{said}\n{}", house.daemon.log());
    let is = house.live();
    match version {
        "0.14" => saved.without_holes().assert_same(&is.without_holes(), version),
        _ => saved.assert_same(&is, version),
    }
    let calls = std::fs::read_to_string(dir.path().join("calls")).unwrap();
    assert_eq!((calls.lines().count(), calls.contains("--overwrite always")), (2, over), "{calls}");
    let number = async |name: &str| house.daemon.property::<u64>(&job, "Job", name).await;
    let (done, total) = (number("BytesDone").await, number("BytesTotal").await);
    assert!(done == total && total >= 80 << 20 && number("FilesDone").await > 0, "{done} of {total}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_set_comes_in_parts_with_restic_0_14() {
    in_parts("0.14", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_set_comes_in_parts_with_restic_0_19() {
    in_parts("0.19", true).await;
}

/// How far it is while restic is held: (done, total).
async fn held(version: &str, at: &str, begun: impl Fn(u64) -> bool) -> (u64, u64) {
    let dir = tempfile::tempdir().unwrap();
    let house = House::with(&listening(dir.path(), version, at), "").await;
    house.daemon.write("app/state/conf/large", &"0123456789abcdef".repeat(10_000));
    house.back_up().await;
    let job = house.start_restore(&Options::new()).await;
    let arrived = dir.path().join("at");
    until("restic is held", || arrived.exists());
    let number = async |name: &str| house.daemon.property::<u64>(&job, "Job", name).await;
    let (mut done, mut total) = (number("BytesDone").await, number("BytesTotal").await);
    let begin = std::time::Instant::now();
    // Both are told at most twice a second.
    while !begun(done) || total == 0 {
        assert!(begin.elapsed() < std::time::Duration::from_secs(60), "{done} bytes and no more");
        tokio::task::yield_now().await;
        (done, total) = (number("BytesDone").await, number("BytesTotal").await);
    }
    let progress: f64 = house.daemon.property(&job, "Job", "Progress").await;
    std::fs::write(dir.path().join("go"), "").unwrap();
    let (outcome, said) = house.ended(&job).await;
    assert_eq!(outcome, "succeeded", "{said}");
    assert!(progress < 1.0 || done == total, "{progress}");
    (done, total)
}

const HOLD: &str = ": >\"$D/at\"\nwhile [ ! -e \"$D/go\" ]; do sleep 0.05; done";

#[tokio::test(flavor = "multi_thread")]
async fn how_much_is_to_come_is_known_before_anything_came() {
    let (done, total) = held("0.19", HOLD, |_| true).await;
    assert!(done == 0 && total > 160_000, "{done} of {total}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_restic_says_of_its_progress_is_told() {
    let status = "{\"message_type\":\"status\",\"total_bytes\":900000,\"bytes_restored\":400000,\"bytes_skipped\":100000}";
    let at = format!("printf '%s\\n' '{status}'\n{HOLD}");
    assert_eq!(held("0.19", &at, |done| done > 0).await, (500_000, 1_000_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_restic_that_says_nothing_what_it_wrote_is_told() {
    let at = format!("'{}' \"$@\" || exit\n{HOLD}\nexit 0", restic("0.14").display());
    let (done, total) = held("0.14", &at, |done| done >= 160_000).await;
    assert!(done <= total, "{done} of {total}");
}
