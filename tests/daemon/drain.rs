//! SIGTERM with work at hand, and a second daemon on the same state.
#![expect(clippy::disallowed_methods, reason = "tests start real programs themselves")]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::crash::noise;
use crate::lab::{Lab, Setup, text};
use crate::tree::plant;

/// One job in its dump hook, another in restic.
async fn with_two_jobs_at_work() -> Lab {
    let setup = Setup::new().hooked().config(
        "[backup.c]\nrepositories = [\"local\"]\ninstances = [\"other\"]\n[instance.other]\ninclude = [\"@DIR@/data\"]\n",
    );
    plant(setup.dir.path(), "data/noise", &noise(12 << 20), 0o600);
    let lab = setup.start().await;
    lab.hold("dump");
    lab.on("backup", "extra='--limit-upload 64'");
    lab.daemon.run_backup("b").await;
    lab.daemon.run_backup("c").await;
    lab.reached("dump").await;
    lab.until("restic has its lock", || !lab.locks("repo").is_empty()).await;
    lab
}

async fn assert_drained(lab: &mut Lab, exit: Option<i32>, took: Duration) {
    assert_eq!(exit, Some(0), "{}", lab.daemon.log());
    assert!(took < Duration::from_secs(20), "it took {took:?}");
    assert!(lab.text("hooks").ends_with("cleanup begins\ncleanup ends\n"), "{}", lab.text("hooks"));
    assert!(lab.locks("repo").is_empty(), "no lock is left");
    assert!(lab.processes().is_empty(), "no process is left: {:?}", lab.processes());
    lab.daemon.start_again().await;
    lab.assert_settled().await;
    for row in lab.history().await {
        assert_eq!(text(&row, "Outcome"), "cancelled", "{row:?}");
        assert!(text(&row, "Error").contains("the daemon was stopped"), "{row:?}");
    }
    assert!(!lab.daemon.log().contains("undoing what job"), "nothing was left to undo\n{}", lab.daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_cancels_jobs_cleans_up_and_exits_with_zero() {
    let mut lab = with_two_jobs_at_work().await;
    let start = Instant::now();
    let exit = lab.daemon.stop();
    assert_drained(&mut lab, exit, start.elapsed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_does_no_harm() {
    let mut lab = with_two_jobs_at_work().await;
    let start = Instant::now();
    lab.daemon.signal(Signal::TERM);
    lab.daemon.signal(Signal::TERM);
    lab.daemon.signal(Signal::INT);
    let exit = lab.daemon.wait_for_exit();
    assert_drained(&mut lab, exit, start.elapsed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_on_the_same_state_ends_and_disturbs_nothing() {
    let lab = Setup::new().hooked().start().await;
    lab.hold("dump");
    let job = lab.daemon.run_backup("b").await;
    lab.reached("dump").await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfastd"));
    for name in ["config", "state", "cache", "runtime"] {
        command.arg(format!("--{name}")).arg(lab.path(name));
    }
    let second = command.args(["--bus", &lab.bus.address]).stdin(Stdio::null()).output().unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains(&lab.daemon.pid().to_string()) || said.contains("already"), "{said}");
    lab.go("dump");
    assert_eq!(lab.ended(&job).await.outcome, "succeeded");
    lab.assert_settled().await;
}
