//! By command: with the daemon, and without one as from an `OnFailure=` unit.
#![expect(clippy::disallowed_methods, reason = "tests start real programs themselves")]

use std::process::{Command, Output, Stdio};

use crate::lab::text;
use crate::shop::Shop;
use crate::support::{stderr, stdout};

pub(crate) fn holdfast(shop: &Shop, bus: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    for name in ["config", "state", "cache", "runtime"] {
        command.env(format!("HOLDFAST_{}", name.to_uppercase()), shop.lab.path(name));
    }
    command.env("HOLDFAST_BUS", bus).env("DBUS_SYSTEM_BUS_ADDRESS", &shop.systemd.bus.address);
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Off the runtime, on which this very test answers for systemd.
pub(crate) async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

const NOWHERE: &str = "unix:path=/nonexistent/bus";

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_the_set_is_restored_and_the_unit_started_and_the_daemon_knows_of_it() {
    let mut shop = Shop::open("").await;
    shop.save("one").await;
    shop.save("two").await;
    let refused = run(holdfast(&shop, NOWHERE, &["recover", "shop", "--no-daemon"])).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("only while no daemon does"), "{}", stderr(&refused));
    assert_eq!(shop.lab.daemon.stop(), Some(0));
    let runs = run(holdfast(&shop, NOWHERE, &["recover", "shop", "--no-daemon"])).await;
    assert!(runs.status.success() && stdout(&runs).contains("skipped"), "{}", stdout(&runs));
    shop.spoil().await;
    let no_start = ["recover", "shop", "--no-daemon", "--no-start", "--dont-save-failed"];
    let done = run(holdfast(&shop, NOWHERE, &no_start)).await;
    assert!(done.status.success(), "{}{}", stdout(&done), stderr(&done));
    assert_eq!((shop.data().as_str(), shop.systemd.state("shop")), ("good two", "failed"));
    assert_eq!((shop.systemd.starts(), shop.failed().len()), (0, 0));
    let done = run(holdfast(&shop, NOWHERE, &["recover", "shop", "--no-daemon"])).await;
    assert!(done.status.success(), "{}{}", stdout(&done), stderr(&done));
    assert_eq!((shop.data().as_str(), shop.systemd.state("shop")), ("good one", "active"));
    shop.lab.daemon.start_again().await;
    assert_eq!(shop.recoveries().await, (3, "succeeded".to_owned()));
    assert_eq!(shop.standings().await, ["latest, restored", "restored"]);
    shop.lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_without_a_daemon_the_daemons_start_brings_the_instance_back() {
    let mut shop = Shop::open("").await;
    shop.save("one").await;
    assert_eq!(shop.lab.daemon.stop(), Some(0));
    shop.spoil().await;
    shop.lab.hold("after");
    let mut command = holdfast(&shop, NOWHERE, &["recover", "shop", "--no-daemon"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    shop.lab.reached("after").await;
    assert_eq!(shop.data(), "good one", "swapped already");
    child.kill().unwrap();
    child.wait().unwrap();
    shop.lab.daemon.start_again().await;
    shop.back_on("one").await;
    shop.lab.assert_settled().await;
    assert_eq!(shop.failed(), ["spoilt\n"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_shows_names_and_standing_and_pins() {
    let shop = Shop::open("").await;
    shop.save("one").await;
    let bus = shop.lab.bus.address.clone();
    let id = text(&shop.lab.sets("shop").await[0], "id");
    let pinned = run(holdfast(&shop, &bus, &["pin", "shop", &id[..8]])).await;
    assert!(pinned.status.success(), "{}", stderr(&pinned));
    let listed = stdout(&run(holdfast(&shop, &bus, &["snapshots", "shop"])).await);
    assert!(listed.contains("Z_1.0 ") && listed.contains("latest, pinned, candidate"), "{listed}");
    let unpinned = run(holdfast(&shop, &bus, &["unpin", "shop", &id])).await;
    assert!(unpinned.status.success(), "{}", stderr(&unpinned));
    assert_eq!(shop.standings().await, ["latest, candidate"]);
}
