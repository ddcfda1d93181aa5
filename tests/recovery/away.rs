//! What is not the set's fault costs no set: repositories that are away, disks that are full.

use crate::lab::SECOND;
use crate::shop::Shop;

/// What restic says when nobody listens.
const REFUSED: &str =
    "echo 'Fatal: unable to open config file: dial tcp 192.0.2.1:443: connection refused' >&2; exit 1";

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_is_away_for_a_moment_costs_no_set() {
    let shop = Shop::open("").await;
    shop.save("one").await;
    shop.save("two").await;
    shop.lab.on(
        "restore",
        &format!(
            "if [ ! -e \"$D/twice\" ]; then mv \"$D/once\" \"$D/twice\" || : >\"$D/once\"; {REFUSED}; fi"
        ),
    );
    shop.spoil().await;
    shop.back_on("two").await;
    assert_eq!((shop.lab.calls("restore"), shop.recoveries().await), (3, (1, "succeeded".to_owned())));
    assert_eq!(shop.standings().await, ["latest, restored", "candidate"]);
    assert_eq!(shop.failed(), ["spoilt\n"]);
    shop.lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_repository_is_waited_for_the_job_says_so_and_can_be_cancelled_and_the_set_is_not_spent() {
    let shop = Shop::open("").await;
    shop.save("one").await;
    let () = shop.lab.daemon.call("Pause", &(0_u64,)).await.unwrap();
    shop.lab.on("restore", REFUSED);
    shop.spoil().await;
    let job = shop.call(&[]).await.unwrap();
    let waits = async || shop.lab.daemon.property::<String>(&job, "Job", "Waiting").await;
    let start = std::time::Instant::now();
    while !waits().await.contains("repository local does not answer") {
        assert!(start.elapsed() < crate::support::DEADLINE, "{}", shop.lab.daemon.log());
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    shop.lab.cancel(&job).await;
    assert_eq!(shop.lab.ended(&job).await.outcome, "cancelled");
    assert_eq!(
        (shop.data().as_str(), shop.standings().await),
        ("spoilt", vec!["latest, candidate".to_owned()])
    );
    shop.lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_stays_away_is_an_alarm_and_neither_set_nor_attempt_is_spent() {
    let shop = Shop::open(", attempts = 1, patience = \"0s\"").await;
    shop.save("one").await;
    for call in ["restore", "cat"] {
        shop.lab.on(call, REFUSED);
    }
    shop.spoil().await;
    shop.logged("shop was not recovered: repository local is away", 1).await;
    shop.idle().await;
    assert_eq!(
        (shop.data().as_str(), shop.standings().await),
        ("spoilt", vec!["latest, candidate".to_owned()])
    );
    for call in ["restore", "cat"] {
        shop.lab.remove(&format!("on-{call}"));
    }
    shop.look_again().await;
    shop.back_on("one").await;
    assert_eq!(shop.recoveries().await, (2, "succeeded".to_owned()));
}

/// A pack that was cut short looks like a connection that was: but the repository answers, for all that time.
#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_a_repository_which_answers_never_gives_out_is_spent() {
    let shop = Shop::open(", patience = \"0s\"").await;
    shop.save("one").await;
    shop.save("two").await;
    shop.lab.on("restore", "rm \"$D/on-restore\"; echo 'Load(<data/12>): unexpected EOF' >&2; exit 1");
    shop.spoil().await;
    shop.back_on("one").await;
    assert_eq!(shop.standings().await, ["latest, restored", "restored"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_set_that_lies_in_two_repositories_the_copy_that_can_be_had_is_used_at_once() {
    let shop = Shop::with(&["shop"], "", |setup| {
        setup.config(SECOND).replace("repositories = [\"local\"]", "repositories = [\"local\", \"second\"]")
    })
    .await;
    shop.save("one").await;
    shop.save("two").await;
    // The repository that is asked first, whichever that is.
    let first = "f=$(cat \"$RESTIC_REPOSITORY_FILE\"); [ -e \"$D/first\" ] || echo \"$f\" >\"$D/first\"";
    let away = format!(
        "{first}
if [ \"$f\" = \"$(cat \"$D/first\")\" ]; then {REFUSED}; fi"
    );
    shop.lab.on("restore", &away);
    shop.spoil().await;
    shop.back_on("two").await;
    assert_eq!((shop.lab.calls("restore"), shop.recoveries().await), (2, (1, "succeeded".to_owned())));
}
