//! The watch: it goes on with what others began, one instance does not wait for another, and a marker that came too early
//! brings no old data back later.

use crate::lab::text;
use crate::shop::Shop;

/// An `OnFailure=` unit was faster than the watch, and the set that it restored is no good: the watch walks on.
#[tokio::test(flavor = "multi_thread")]
async fn the_watch_goes_on_where_a_recovery_that_another_asked_for_did_not_help() {
    let shop = Shop::open(", attempts = 9").await;
    shop.save("one").await;
    shop.lab.write("data-shop/file", "bad\n", 0o640);
    shop.lab.good_backup("b").await;
    let () = shop.lab.daemon.call("Pause", &(0_u64,)).await.unwrap();
    shop.lab.hold("restore");
    shop.spoil().await;
    let job = shop.call(&[]).await.unwrap();
    shop.lab.reached("restore").await;
    let () = shop.lab.daemon.call("Resume", &()).await.unwrap();
    shop.lab.go("restore");
    assert_eq!(shop.lab.ended(&job).await.outcome, "failed");
    shop.back_on("one").await;
    assert_eq!(shop.recoveries().await, (2, "succeeded".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_does_not_wait_for_the_guard_of_another() {
    let shop = Shop::with(&["shop", "cafe"], "", |setup| {
        setup.write("no-guard", "#!/bin/sh\nexit 0\n", 0o755);
        setup.replace(
            "unit = \"cafe.service\", guard = [\"@DIR@/guard\"]",
            "unit = \"cafe.service\", guard = [\"@DIR@/no-guard\"]",
        )
    })
    .await;
    shop.save("one").await;
    shop.lab.hold("guard");
    shop.spoil().await;
    shop.lab.reached("guard").await;
    shop.lab.write("data-cafe/file", "spoilt\n", 0o640);
    shop.systemd.fail("cafe").await;
    shop.systemd.until("cafe", "active", || shop.lab.daemon.log()).await;
    assert_eq!((shop.lab.text("data-cafe/file").as_str(), shop.data().as_str()), ("good first\n", "spoilt"));
    shop.lab.go("guard");
    shop.systemd.until("shop", "active", || shop.lab.daemon.log()).await;
    shop.back_on("one").await;
}

/// A boot that was still judged when the daemon started: the service runs well in it, and goes on with its work. At the next
/// start, before the service runs, nobody wants the old set any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_marker_that_came_too_early_ends_when_the_unit_runs() {
    let mut shop = Shop::open("").await;
    shop.save("one").await;
    shop.lab.daemon.kill();
    shop.systemd.set("shop", "inactive").await;
    shop.lab.write("state/recovery/shop.asked", "", 0o600);
    shop.lab.on("guard", "exit 75");
    shop.lab.daemon.start_again().await;
    shop.logged("ask again later; the marker stays", 1).await;
    assert!(shop.lab.path("state/recovery/shop.asked").exists());
    shop.lab.write("data-shop/file", "good and newer than any set\n", 0o640);
    shop.systemd.set("shop", "active").await;
    shop.lab.until("the marker is gone", || !shop.lab.path("state/recovery/shop.asked").exists()).await;
    shop.lab
        .until("the result", || shop.lab.text("state/recovery/shop.result").contains("shop skipped: "))
        .await;
    // One that is laid while it runs is for the next start.
    shop.lab.write("state/recovery/shop.asked", "", 0o600);
    shop.look_again().await;
    shop.lab.remove("on-guard");
    shop.lab.daemon.kill();
    assert!(shop.lab.path("state/recovery/shop.asked").exists());
    shop.lab.remove("state/recovery/shop.asked");
    shop.systemd.set("shop", "inactive").await;
    shop.lab.daemon.start_again().await;
    shop.idle().await;
    assert_eq!(shop.data(), "good and newer than any set");
    assert_eq!(shop.recoveries().await.0, 0);
}

/// Killed before anything was started, with `--no-start`: the next start starts nothing either.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_to_start_nothing_starts_nothing_after_a_kill() {
    let mut shop = Shop::open("").await;
    shop.save("one").await;
    let () = shop.lab.daemon.call("Pause", &(0_u64,)).await.unwrap();
    shop.lab.write("data-shop/file", "spoilt\n", 0o640);
    shop.systemd.set("shop", "inactive").await;
    shop.lab.hold("after");
    let _job = shop.call(&[("start", false.into())]).await.unwrap();
    shop.lab.reached("after").await;
    shop.lab.daemon.restart_after_kill().await;
    let () = shop.lab.daemon.call("Resume", &()).await.unwrap();
    shop.look_again().await;
    shop.idle().await;
    assert_eq!((shop.systemd.state("shop"), shop.systemd.starts()), ("inactive", 0));
    assert_eq!(shop.data(), "spoilt", "undone, and left so");
    let rows = shop.lab.history().await;
    let recovered: Vec<_> = rows.iter().filter(|row| text(row, "Kind") == "recover").collect();
    assert_eq!((recovered.len(), text(recovered[0], "Outcome").as_str()), (1, "interrupted"));
}
