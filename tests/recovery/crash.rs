//! Killed in each phase of a recovery: the next start puts things right, and the instance comes back.

use crate::shop::Shop;

/// Where a recovery is made to wait, and whether the set's data lives there already.
const PLACES: [(&str, bool); 7] = [
    ("guard", false),
    ("version", false),
    ("restore", false),
    ("before", false),
    ("after", true),
    ("start", true),
    ("health", true),
];

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_each_phase_of_a_recovery_the_next_start_brings_the_instance_back() {
    let mut shop = Shop::open(", attempts = 100").await;
    for (place, swapped) in PLACES {
        shop.save(&format!("older {place}")).await;
        shop.save(place).await;
        match place {
            "start" => drop(shop.lab.write("hold-start", "", 0o644)),
            place => shop.lab.hold(place),
        }
        shop.spoil().await;
        shop.lab.reached(place).await;
        let expected = if swapped { format!("good {place}") } else { "spoilt".to_owned() };
        assert_eq!(shop.data(), expected, "{place}");
        shop.lab.daemon.restart_after_kill().await;
        // Cut off, the set was not really tried: it is the one that is restored.
        shop.back_on(place).await;
        shop.lab.assert_settled().await;
        // Where it ran already only its health was left to be asked.
        let outcome = if place == "health" { "interrupted" } else { "succeeded" };
        assert_eq!(shop.recoveries().await.1, outcome, "{place}");
        let told = || shop.lab.text("state/recovery/shop.result");
        shop.lab.until("the result", || told().contains("succeeded: shop.service runs again")).await;
        shop.lab.remove("state/recovery/shop.result");
        let kept = shop.failed();
        assert!(kept.iter().any(|text| text == "spoilt\n"), "{place}: {kept:?}\n{}", shop.lab.daemon.log());
    }
}
