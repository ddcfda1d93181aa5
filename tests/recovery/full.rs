//! Disks that are full in the middle of a recovery. Needs root, for they are mounted. Run with `--ignored system_`.

use crate::shop::Shop;
use crate::support::mount::Mount;

/// What fills a disk, from within a recovery.
fn fill(place: &str) -> String {
    format!("dd if=/dev/zero of=\"$D/{place}/filler\" bs=64k 2>/dev/null; :")
}

/// Where the fetched data lies, and where the live data does: room is there when it begins, and then it is not.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: mounts small file systems"]
async fn system_a_disk_that_fills_in_the_middle_costs_neither_data_nor_set() {
    for (place, at) in [("staging", "restore"), ("data-shop", "before")] {
        let mut shop = Shop::with(&["shop"], ", attempts = 2", |setup| {
            // What is a mount point itself cannot be swapped.
            setup.replace("[\"@DIR@/data-shop\"]", "[\"@DIR@/data-shop/file\", \"@DIR@/data-shop/large\"]")
        })
        .await;
        shop.lab.daemon.kill();
        let small = Mount::tmpfs(shop.lab.path(place), "size=8m,mode=0700");
        shop.lab.write("data-shop/large", &"a line of a large file\n".repeat(100_000), 0o640);
        shop.lab.daemon.start_again().await;
        for set in ["one", "two"] {
            shop.save(set).await;
        }
        shop.lab.on(at, &fill(place));
        shop.spoil().await;
        shop.logged("shop was not recovered: ", 1).await;
        shop.idle().await;
        let told = shop.lab.text("state/recovery/shop.result").to_lowercase();
        let said = ["no space left on device", "bytes are needed beside"];
        assert!(said.iter().any(|said| told.contains(said)), "{place}: {told}");
        assert_eq!((shop.data().as_str(), shop.systemd.state("shop")), ("spoilt", "failed"), "{place}");
        assert_eq!(shop.standings().await, ["latest, candidate", "candidate"], "{place}: {told}");
        shop.lab.remove(&format!("on-{at}"));
        let _ = std::fs::remove_file(small.0.join("filler"));
        shop.lab.assert_settled().await;
        // With room again: the newest one, and both attempts are still there.
        shop.look_again().await;
        shop.back_on("two").await;
        shop.spoil().await;
        shop.back_on("one").await;
        drop(shop);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: mounts small file systems"]
async fn system_without_room_for_the_set_and_a_tenth_nothing_is_begun() {
    let mut shop = Shop::open("").await;
    shop.lab.write("data-shop/large", &"a line of a large file\n".repeat(100_000), 0o640);
    shop.save("one").await;
    shop.lab.daemon.kill();
    // Enough for the set, and not for a tenth more.
    let small = Mount::tmpfs(shop.lab.path("staging"), "size=2360k,mode=0700");
    shop.lab.daemon.start_again().await;
    shop.spoil().await;
    shop.logged("shop was not recovered: ", 1).await;
    shop.idle().await;
    let told = shop.lab.text("state/recovery/shop.result");
    assert!(told.contains("bytes are needed in") && told.contains("daemon.staging_dir"), "{told}");
    assert_eq!((shop.lab.calls("restore"), shop.data().as_str()), (0, "spoilt"));
    assert_eq!(shop.standings().await, ["latest, candidate"]);
    drop(small);
    shop.look_again().await;
    shop.back_on("one").await;
}
