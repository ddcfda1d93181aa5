//! Repeated failures walk back, each set is tried once, and what failed is kept.

use crate::shop::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn repeated_failures_walk_back_each_set_once_and_then_there_is_only_an_alarm() {
    let shop = Shop::open(", attempts = 9").await;
    for name in ["one", "two", "three"] {
        shop.save(name).await;
    }
    for name in ["three", "two", "one"] {
        shop.spoil().await;
        shop.back_on(name).await;
    }
    shop.spoil().await;
    shop.logged("no set of version 1.0 is left to restore: 3 restored", 1).await;
    shop.idle().await;
    assert_eq!((shop.data().as_str(), shop.systemd.state("shop")), ("spoilt", "failed"));
    assert_eq!(shop.failed(), ["spoilt\n"; 3]);
    shop.lab.assert_settled().await;
}

/// Each set is no good: the data that failed first must not go for those that were tried in vain.
#[tokio::test(flavor = "multi_thread")]
async fn when_sets_do_not_help_the_walk_goes_on_and_what_failed_first_is_kept() {
    let shop = Shop::open(", attempts = 9").await;
    shop.save("kept").await;
    for n in 1..5 {
        shop.lab.write("data-shop/file", &format!("bad {n}\n"), 0o640);
        shop.lab.good_backup("b").await;
    }
    let () = shop.lab.daemon.call("Pause", &(0_u64,)).await.unwrap();
    shop.lab.write("data-shop/file", "the newest letters, spoilt\n", 0o640);
    shop.systemd.fail("shop").await;
    let ended = shop.recover(&[]).await;
    assert_eq!(ended.outcome, "failed");
    assert!(ended.error.contains("the set is restored, but shop.service fails"), "{}", ended.error);
    let () = shop.lab.daemon.call("Resume", &()).await.unwrap();
    shop.back_on("kept").await;
    assert_eq!(shop.recoveries().await, (5, "succeeded".to_owned()));
    let told = shop.lab.text("state/recovery/shop.result");
    assert!(told.contains("shop.service runs again on snapshot"), "{told}");
    shop.lab.until("the limits of what is kept", || shop.failed().len() == 4).await;
    assert_eq!(shop.failed()[0], "the newest letters, spoilt\n");
    shop.lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_failed_is_not_kept_where_the_call_or_the_definition_says_so() {
    let shop = Shop::open(", attempts = 9").await;
    shop.save("one").await;
    shop.save("two").await;
    let () = shop.lab.daemon.call("Pause", &(0_u64,)).await.unwrap();
    shop.spoil().await;
    let ended = shop.recover(&[("save_failed", false.into())]).await;
    assert_eq!(ended.outcome, "succeeded", "{}", ended.error);
    assert_eq!(shop.failed(), [""; 0]);
    shop.spoil().await;
    let ended = shop.recover(&[]).await;
    assert_eq!((ended.outcome.as_str(), shop.failed().len()), ("succeeded", 1), "{}", ended.error);
    assert!(
        ended.error.contains("failed/shop/") && ended.error.contains("holdfast rollback shop"),
        "{}",
        ended.error
    );
    let shop = Shop::open(", save_failed = false").await;
    shop.save("one").await;
    shop.spoil().await;
    shop.back_on("one").await;
    assert_eq!(shop.failed(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_cannot_be_read_costs_nothing_and_the_older_one_is_next() {
    let shop = Shop::open(", attempts = 9").await;
    shop.save("one").await;
    shop.save("two").await;
    shop.lab.on("restore", "rm \"$D/on-restore\"; echo 'pack is damaged' >&2; exit 1");
    shop.spoil().await;
    shop.back_on("one").await;
    assert_eq!(shop.recoveries().await.0, 2);
    assert!(shop.lab.daemon.log().contains("pack is damaged"));
    assert_eq!(shop.failed(), ["spoilt\n"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_is_gone_altogether_comes_back() {
    let shop = Shop::open("").await;
    shop.save("one").await;
    std::fs::remove_dir_all(shop.lab.path("data-shop")).unwrap();
    shop.systemd.fail("shop").await;
    shop.back_on("one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_remembered_of_recoveries_may_be_damaged() {
    let mut shop = Shop::open("").await;
    shop.save("one").await;
    shop.spoil().await;
    shop.back_on("one").await;
    shop.save("two").await;
    shop.lab.daemon.kill();
    let database = rusqlite::Connection::open(shop.lab.path("state/holdfast.db")).unwrap();
    let spoilt = "UPDATE meta SET value = 'nonsense' WHERE key LIKE 'recovery-attempts/%'";
    assert_eq!(database.execute(spoilt, []).unwrap(), 1);
    drop(database);
    shop.lab.daemon.start_again().await;
    shop.spoil().await;
    shop.back_on("two").await;
    assert!(shop.lab.daemon.log().contains("makes no sense and is begun anew"));
}
