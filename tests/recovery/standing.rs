//! How sets stand in lists, pins, and what versions have to do with it.

use crate::lab::text;
use crate::shop::Shop;
use crate::support::error_of;

#[tokio::test(flavor = "multi_thread")]
async fn a_list_says_of_each_set_how_it_stands_towards_a_recovery() {
    let shop = Shop::open(", attempts = 9").await;
    shop.lab.write("version", "0.9\n", 0o644);
    shop.save("of another version").await;
    shop.lab.write("version", "1.0\n", 0o644);
    shop.save("one").await;
    shop.save("two").await;
    assert_eq!(shop.standings().await, ["latest, candidate", "candidate", "other version"]);
    let row = &shop.lab.sets("shop").await[2];
    let name = text(row, "name");
    assert!(name.ends_with("Z_0.9") && name.len() == "20261121T151200Z_0.9".len(), "{name}");
    shop.spoil().await;
    shop.back_on("two").await;
    let () = shop.lab.daemon.call("Pause", &(0_u64,)).await.unwrap();
    shop.spoil().await;
    shop.lab.good_backup("b").await;
    let expected = ["latest, taken while unhealthy", "restored", "candidate", "other version"];
    assert_eq!(shop.standings().await, expected);
    // A version that cannot be had is no reason not to list.
    shop.lab.on("version", "exit 9");
    assert_eq!(shop.standings().await[1..3], ["restored", "version not known"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_set_is_never_forgotten_and_an_unpinned_one_is() {
    let shop =
        Shop::with(&["shop"], "", |setup| setup.replace("[backup.b]", "[backup.b]\nretention = 1")).await;
    shop.save("one").await;
    let pinned = text(&shop.lab.sets("shop").await[0], "id");
    let call = async |method: &str, id: &str| shop.lab.daemon.call::<_, ()>(method, &("shop", id)).await;
    call("Pin", &pinned[..8]).await.unwrap();
    for name in ["two", "three"] {
        shop.save(name).await;
    }
    let ids =
        async || -> Vec<String> { shop.lab.sets("shop").await.iter().map(|row| text(row, "id")).collect() };
    let left = ids().await;
    assert!(left.len() == 2 && left[1] == pinned, "{left:?}");
    assert_eq!(shop.standings().await, ["latest, candidate", "pinned, candidate"]);
    let (name, said) = error_of(call("Pin", "0000").await).unwrap();
    assert!(name.ends_with(".NoSuchSnapshot") && said.contains("holdfast snapshots shop"), "{said}");
    // A pin is a file: it outlives the database.
    call("Unpin", &pinned).await.unwrap();
    shop.save("four").await;
    assert_eq!(ids().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sets_of_versions_that_are_gone_are_forgotten_as_retention_says() {
    let shop = Shop::with(&["shop"], "", |setup| {
        setup.replace("[backup.b]", "[backup.b]\nretention = { last = 9, versions = 2 }")
    })
    .await;
    for version in ["1", "1", "2", "3"] {
        shop.lab.write("version", &format!("{version}\n"), 0o644);
        shop.save(version).await;
    }
    let versions: Vec<_> = shop.lab.sets("shop").await.iter().map(|row| text(row, "version")).collect();
    assert_eq!(versions, ["3", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_its_start_the_daemon_saves_what_is_of_a_new_version_and_nothing_else() {
    let mut shop = Shop::with(&["shop", "cafe"], "", |setup| {
        setup.replace("[backup.b]", "[backup.b]\nbefore = \"new-version\"").replace(
            "[instance.cafe]\n",
            "[instance.plain]\ninclude = [\"@DIR@/data-cafe\"]\n[instance.cafe]\n",
        )
    })
    .await;
    shop.save("one").await;
    let causes = async |shop: &Shop| -> Vec<String> {
        shop.lab.history().await.iter().map(|row| text(row, "Subject")).collect()
    };
    shop.lab.write("version", "1.1\n", 0o644);
    shop.lab.daemon.restart_after_kill().await;
    shop.logged("of a new version, so they are saved now", 1).await;
    // It may not have begun yet when that is said.
    shop.logged("of b ended: succeeded", 2).await;
    shop.idle().await;
    assert_eq!(causes(&shop).await.len(), 2);
    let sets = shop.lab.sets("shop").await;
    assert_eq!((sets.len(), text(&sets[0], "version").as_str()), (2, "1.1"));
    assert_eq!(shop.lab.sets("plain").await.len(), 1, "one without a version");
    // The same version again: nothing is made.
    shop.lab.daemon.restart_after_kill().await;
    assert_eq!(shop.lab.sets("shop").await.len(), 2);
    assert_eq!(causes(&shop).await.len(), 2);
}
