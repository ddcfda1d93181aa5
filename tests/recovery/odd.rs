//! Odd circumstances: a version command that hangs, a unit that flaps, a set without its content, a clock that is wrong.

use crate::lab::{names, text};
use crate::shop::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn a_version_command_that_hangs_is_ended_and_nothing_was_touched() {
    let shop =
        Shop::with(&["shop"], "", |setup| setup.replace("version = {", "hook_timeout = \"2s\"\nversion = {"))
            .await;
    shop.save("one").await;
    shop.lab.on("version", "exec sleep 600");
    shop.spoil().await;
    shop.logged("shop was not recovered: nothing was touched: version", 1).await;
    shop.idle().await;
    let told = shop.lab.text("state/recovery/shop.result");
    assert!(
        told.contains("shop failed: nothing was touched: version") && told.contains("its hook_timeout"),
        "{told}"
    );
    assert_eq!((shop.data().as_str(), shop.systemd.starts()), ("spoilt", 0));
    // With the version known again, no attempt and no set was spent.
    shop.lab.remove("on-version");
    assert_eq!(shop.standings().await, ["latest, candidate"]);
    shop.look_again().await;
    shop.back_on("one").await;
    shop.lab.assert_settled().await;
}

/// As `Restart=` does it: what is about to run again is left alone, and in the end there are no more recoveries than
/// `attempts` allows.
#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_flaps_is_recovered_as_often_as_the_bounds_allow_and_no_more() {
    let shop = Shop::open(", attempts = 2").await;
    for set in ["one", "two", "three"] {
        shop.save(set).await;
    }
    shop.lab.hold("restore");
    shop.spoil().await;
    shop.lab.reached("restore").await;
    for _ in 0..20 {
        shop.systemd.set("shop", "activating").await;
        shop.systemd.fail("shop").await;
    }
    shop.lab.go("restore");
    shop.back_on("three").await;
    assert_eq!(shop.recoveries().await, (1, "succeeded".to_owned()));
    shop.spoil().await;
    shop.back_on("two").await;
    for round in 1..5 {
        shop.spoil().await;
        shop.logged("the most that `recovery.attempts` allows", round).await;
        shop.idle().await;
        shop.systemd.set("shop", "active").await;
        shop.look_again().await;
    }
    let rows = shop.lab.history().await;
    let restored =
        |row: &&crate::support::Row| text(row, "Kind") == "recover" && text(row, "Outcome") == "succeeded";
    assert_eq!((rows.iter().filter(restored).count(), shop.data().as_str()), (2, "spoilt"));
    assert_eq!(shop.failed().len(), 2);
}

/// The packs are gone, the snapshot is there: that is found while nothing was touched, and the older set is used.
#[tokio::test(flavor = "multi_thread")]
async fn a_set_whose_content_is_missing_costs_nothing_and_the_older_one_is_next() {
    let shop = Shop::open(", attempts = 9, patience = \"0s\"").await;
    shop.save("one").await;
    let packs = || -> Vec<std::path::PathBuf> {
        let data = shop.lab.path("repo/data");
        names(&data)
            .iter()
            .flat_map(|dir| {
                names(&data.join(dir)).into_iter().map(|n| data.join(dir).join(n)).collect::<Vec<_>>()
            })
            .collect()
    };
    let before = packs();
    shop.save("two").await;
    for pack in packs().iter().filter(|pack| !before.contains(pack)) {
        std::fs::remove_file(pack).unwrap();
    }
    // What restic has of them in its cache would hide it.
    std::fs::remove_dir_all(shop.lab.path("cache")).unwrap();
    shop.spoil().await;
    shop.back_on("one").await;
    assert_eq!(shop.standings().await, ["latest, restored", "restored"]);
    assert_eq!(shop.failed(), ["spoilt\n"]);
}

/// A year ahead, and then right again.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_clock_that_is_wrong_by_a_year_the_instance_comes_back_each_set_once() {
    let mut shop = Shop::open(", attempts = 9").await;
    shop.save("one").await;
    shop.save("two").await;
    let right = [("DBUS_SYSTEM_BUS_ADDRESS", shop.systemd.bus.address.clone())];
    for (years, set) in [("+1y", "two"), ("-1y", "one")] {
        let faked = [
            ("LD_PRELOAD", faketime()),
            ("FAKETIME", years.to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            right[0].clone(),
        ];
        restart_in(&mut shop, &faked).await;
        shop.spoil().await;
        shop.back_on(set).await;
        let told = shop.lab.text("state/recovery/shop.result");
        let year = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).year()
            + if years == "+1y" { 1 } else { -1 };
        assert!(told.starts_with(&year.to_string()), "the clock is not wrong: {told}");
    }
    restart_in(&mut shop, &right).await;
    shop.spoil().await;
    shop.logged("no set of version 1.0 is left to restore: 2 restored", 1).await;
    shop.idle().await;
    assert_eq!((shop.data().as_str(), shop.failed()), ("spoilt", vec!["spoilt\n".to_owned(); 2]));
    shop.save("three").await;
    shop.spoil().await;
    shop.back_on("three").await;
    shop.lab.assert_settled().await;
}

async fn restart_in(shop: &mut Shop, environment: &[(&str, String)]) {
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(key, value)| (*key, value.as_str())).collect();
    shop.lab.daemon.restart_in(&environment).await;
}

/// The library that does it.
fn faketime() -> String {
    let mut libraries = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let found = libraries.find_map(|dir| {
        let library = dir.path().join("faketime/libfaketimeMT.so.1");
        library.exists().then_some(library)
    });
    found.expect("libfaketime is installed (package faketime)").display().to_string()
}
