//! The name is ours alone, and a bus that goes away is noticed.

use std::time::{Duration, Instant};

use crate::support::{Bus, Daemon, NAME, ROOT};

#[tokio::test]
async fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let bus = Bus::start();
    let first = crate::daemon(&bus).await;
    let mut second = Daemon::spawn(&bus, crate::CONFIG).await;
    let code = second.wait_for_exit();
    assert!(code.is_some_and(|code| code != 0), "{code:?}");
    let log = second.log();
    assert!(log.contains(NAME) && log.contains(&format!("process {}", first.pid())), "{log}");
    let version: String = first.property(ROOT, "Manager", "Version").await;
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
}

/// B03: not by our own user either, for we do not allow it.
#[tokio::test]
async fn b03_the_name_cannot_be_taken_over() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let thief = bus.connect().await;
    let flags = zbus::fdo::RequestNameFlags::REPLACE_EXISTING | zbus::fdo::RequestNameFlags::DO_NOT_QUEUE;
    let taken = thief.request_name_with_flags(NAME, flags).await;
    assert!(matches!(taken, Err(zbus::Error::NameTaken)), "{taken:?}");
    let owner = zbus::fdo::DBusProxy::new(&daemon.bus).await.unwrap();
    let pid = owner.get_connection_unix_process_id(NAME.try_into().unwrap()).await.unwrap();
    assert_eq!(pid, daemon.pid());
}

#[tokio::test]
async fn a_daemon_without_a_bus_says_so_and_ends() {
    let mut bus = Bus::start();
    let mut daemon = Daemon::spawn(&bus, crate::CONFIG).await;
    daemon.wait_for_name().await;
    daemon.stop();
    bus.kill();
    let other = Bus::start();
    let mut lost = Daemon::start(&other, crate::CONFIG).await;
    drop(other);
    // Whether it tries again or ends is the service's: it must not live on deaf without a word.
    let start = Instant::now();
    while !lost.log().contains("bus") {
        assert!(start.elapsed() < Duration::from_secs(20), "no word about the bus:\n{}", lost.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    lost.stop();
}
