//! The lab itself: without these, a test that passes on it would say nothing.

use crate::director::{Director, SERVICES};
use crate::host::Host;
use crate::servers::good;
use crate::support::{stderr, until};

#[test]
fn the_other_host_runs_what_it_is_asked_and_can_be_led_astray() {
    let host = Host::start();
    assert_eq!(good(host.ssh("echo $HOME; cat")), host.path("home").display().to_string());
    host.on_remote("[ $n != 1 ] || { echo wrong >&2; exit 7; }");
    let failed = host.ssh("true");
    assert_eq!((failed.status.code(), stderr(&failed).as_str()), (Some(7), "wrong\n"));
    assert!(host.ssh("true").status.success());
    assert_eq!(host.calls(), ["echo $HOME; cat", "true", "true"]);
    host.refuse(true);
    assert_eq!(host.ssh("true").status.code(), Some(255));
    host.refuse(false);
    assert!(host.ssh("true").status.success());
    assert!(host.known_hosts().contains("ssh-ed25519"));
    assert!(host.fingerprint().starts_with("SHA256:"));
}

#[test]
fn the_director_is_stopped_and_started_by_monit_over_ssh() {
    let director = Director::start();
    assert_eq!(director.ask("bosh", "select name from vms"), "router/0");
    good(director.host.ssh("monit stop all"));
    until("all are stopped", || SERVICES.iter().all(|name| !director.process(name)));
    good(director.host.ssh("agent stop"));
    assert!(!director.agent("status"));
    good(director.host.ssh("agent start; monit start all"));
    until("all run again", || director.all_run());
    let home = format!("HOME={}", director.host.path("home").display());
    drop(director);
    let left = std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|one| one == home.as_bytes())
    });
    assert!(!left, "nothing of it is left");
}
