//! When nothing is done, or not yet: guards, bounds, pauses, units that run, versions that cannot be had.

use zbus::wire::{OwnedObjectPath, Variant};

use crate::lab::text;
use crate::shop::Shop;
use crate::support::{Row, error_of};

fn flag(value: bool) -> Variant<'static> {
    value.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_says_go_on_or_ask_later_and_one_that_fails_stops_it() {
    let shop = Shop::open("").await;
    shop.save("one").await;
    shop.lab.on("guard", "exit 75");
    shop.spoil().await;
    shop.logged("the guard of shop says that it is too early", 1).await;
    let (name, said) = error_of(shop.call(&[]).await).unwrap();
    assert!(name.ends_with(".Busy") && said.contains("ask again later"), "{name}: {said}");
    shop.lab.on("guard", "echo broken >&2; exit 3");
    let (name, said) = error_of(shop.call(&[]).await).unwrap();
    assert!(name.ends_with(".Failed") && said.contains("broken"), "{name}: {said}");
    // Where nobody asks, nobody would hear of it: it is an alarm.
    shop.look_again().await;
    shop.logged("shop was not recovered: the guard", 1).await;
    shop.lab.until("the result", || shop.lab.text("state/recovery/shop.result").contains("broken")).await;
    assert_eq!((shop.data().as_str(), shop.recoveries().await.0), ("spoilt", 0));
    shop.lab.on("guard", "exit 0");
    shop.look_again().await;
    shop.back_on("one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_attempts_only_an_alarm_until_somebody_acknowledges() {
    let shop = Shop::open(", attempts = 1").await;
    shop.save("one").await;
    shop.save("two").await;
    shop.spoil().await;
    shop.back_on("two").await;
    shop.spoil().await;
    shop.logged("the most that `recovery.attempts` allows", 1).await;
    shop.idle().await;
    assert_eq!((shop.data().as_str(), shop.systemd.state("shop")), ("spoilt", "failed"));
    let ended = shop.recover(&[]).await;
    assert_eq!(ended.outcome, "failed");
    assert!(ended.error.contains("holdfast recover shop --acknowledge"), "{}", ended.error);
    let ended = shop.recover(&[("acknowledge", flag(true))]).await;
    assert_eq!(ended.outcome, "succeeded", "{}", ended.error);
    shop.back_on("one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn within_the_cool_down_nothing_is_touched() {
    let shop = Shop::open(", cool_down = \"1h\"").await;
    shop.save("one").await;
    shop.save("two").await;
    shop.spoil().await;
    shop.back_on("two").await;
    shop.spoil().await;
    let ended = shop.recover(&[]).await;
    assert_eq!(ended.outcome, "failed");
    assert!(
        ended.error.contains("cool_down") && ended.error.contains("nothing was touched"),
        "{}",
        ended.error
    );
    shop.look_again().await;
    assert_eq!((shop.data().as_str(), shop.recoveries().await.0), ("spoilt", 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_start_data_is_restored_and_no_unit_touched() {
    let shop = Shop::open("").await;
    shop.save("one").await;
    let () = shop.lab.daemon.call("Pause", &(0_u64,)).await.unwrap();
    shop.spoil().await;
    let ended = shop.recover(&[("start", flag(false))]).await;
    assert_eq!(ended.outcome, "succeeded", "{}", ended.error);
    assert_eq!((shop.data().as_str(), shop.systemd.state("shop")), ("good one", "failed"));
    assert_eq!(shop.systemd.starts(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_paused_nothing_begins_and_at_its_end_it_does() {
    let shop = Shop::open("").await;
    shop.save("one").await;
    let () = shop.lab.daemon.call("Pause", &(0_u64,)).await.unwrap();
    shop.spoil().await;
    shop.look_again().await;
    assert_eq!((shop.data().as_str(), shop.recoveries().await.0), ("spoilt", 0));
    let () = shop.lab.daemon.call("Resume", &()).await.unwrap();
    shop.back_on("one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_left_alone_and_what_systemd_does_not_know_is_told() {
    let shop = Shop::with(&["shop"], "", |setup| {
        setup.config(
            "[instance.ghost]\ninclude = [\"@DIR@/data-shop\"]\nrecovery = { unit = \"ghost.service\" }\n\
             [instance.plain]\ninclude = [\"@DIR@/data-shop\"]\n",
        )
    })
    .await;
    shop.save("one").await;
    let ended = shop.recover(&[]).await;
    assert_eq!(ended.outcome, "skipped");
    assert!(ended.units[0].error.contains("shop.service runs; nothing was touched"), "{ended:?}");
    let ghost: OwnedObjectPath = shop.lab.daemon.call("Recover", &("ghost", Row::new())).await.unwrap();
    let ended = shop.lab.ended(&ghost).await;
    assert!(ended.error.contains("systemd knows no unit ghost.service"), "{ended:?}");
    let plain = shop.lab.daemon.call::<_, OwnedObjectPath>("Recover", &("plain", Row::new())).await;
    let (_, said) = error_of(plain).unwrap();
    assert!(said.contains("has no [recovery]"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sets_with_a_warning_are_used_only_where_that_is_allowed() {
    for (terms, restored) in [("", "one"), (", allow_warning = true", "two")] {
        let shop = Shop::with(&["shop"], terms, |setup| {
            setup.write("optional", "here\n", 0o644);
            setup.replace(
                "include = [\"@DIR@/data-shop\"]",
                "include = [\"@DIR@/data-shop\", \"@DIR@/optional\"]",
            )
        })
        .await;
        shop.save("one").await;
        shop.lab.remove("optional");
        shop.lab.write("data-shop/file", "good two\n", 0o640);
        assert_eq!(shop.lab.backup("b").await.outcome, "warning");
        shop.spoil().await;
        shop.back_on(restored).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_cannot_be_had_or_is_another_one_leaves_everything_as_it_is() {
    let shop = Shop::open(", attempts = 99").await;
    shop.save("one").await;
    let () = shop.lab.daemon.call("Pause", &(0_u64,)).await.unwrap();
    shop.spoil().await;
    for (shell, said) in [
        ("echo no such file >&2; exit 4", "exited with 4: no such file"),
        ("exit 0", "version printed nothing"),
        ("echo 2.0; exit 0", "no set of version 2.0 is left to restore: 1 other version"),
    ] {
        shop.lab.on("version", shell);
        let ended = shop.recover(&[]).await;
        assert_eq!(ended.outcome, "failed");
        assert!(ended.error.contains(said) && ended.error.contains("nothing was touched"), "{}", ended.error);
        assert_eq!((shop.data().as_str(), shop.systemd.starts()), ("spoilt", 0));
    }
    // One that hangs is cancelled with its job; nothing was touched either.
    shop.lab.hold("version");
    let job = shop.call(&[]).await.unwrap();
    shop.lab.reached("version").await;
    shop.lab.cancel(&job).await;
    assert_eq!(shop.lab.ended(&job).await.outcome, "cancelled");
    assert_eq!(shop.data(), "spoilt");
    shop.lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_fail_together_both_come_back_and_one_that_is_asked_for_twice_once() {
    let shop = Shop::with(&["shop", "cafe"], "", |setup| setup).await;
    shop.save("one").await;
    shop.lab.write("data-cafe/file", "spoilt\n", 0o640);
    shop.lab.hold("restore");
    shop.spoil().await;
    shop.lab.reached("restore").await;
    // What an `OnFailure=` unit asks while the watch is at work.
    let twice = (shop.call(&[]).await.unwrap(), shop.call(&[]).await.unwrap());
    assert_eq!(twice.0, twice.1);
    shop.systemd.fail("cafe").await;
    shop.lab.go("restore");
    shop.systemd.until("cafe", "active", || shop.lab.daemon.log()).await;
    shop.back_on("one").await;
    assert_eq!(shop.lab.text("data-cafe/file"), "good first\n");
    let rows = shop.lab.history().await;
    let recovered = rows.iter().filter(|row| text(row, "Kind") == "recover");
    assert_eq!(recovered.count(), 2);
}
