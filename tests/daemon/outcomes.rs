//! When something is wrong: which outcome, which words, and what is left as it was.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::process::{Pid, Signal, kill_process};

use crate::crash::{noise, slow_restic};
use crate::lab::{Ended, Lab, Setup};
use crate::tree::plant;

const NO_RETRY: &str = "instances = [\"app\"]\nretry = { attempts = 0, delay = \"1s\" }";
const RETRY: &str = "instances = [\"app\"]\nretry = { attempts = 2, delay = \"1s\" }";

/// A failed run says so with these words, made no snapshot and left nothing lying about.
async fn assert_failed(lab: &Lab, ended: &Ended, words: &[&str]) {
    assert_eq!(ended.outcome, "failed", "{ended:#?}\n{}", lab.daemon.log());
    for word in words {
        assert!(ended.error.contains(word), "{word:?} is not in: {}", ended.error);
    }
    assert!(ended.units.iter().all(|unit| unit.snapshot.is_empty()), "{ended:#?}");
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_never_tried_again_and_never_an_init() {
    for (version, seen) in [("0.14", true), ("0.14", false), ("0.19", true), ("0.19", false)] {
        let lab = Setup::with_restic(version).plain().replace("instances = [\"app\"]", RETRY).start().await;
        if seen {
            lab.good_backup("b").await;
        }
        lab.write("config/password", "wrong\n", 0o600);
        let calls = (lab.calls("backup"), lab.calls("cat"));
        let ended = lab.backup("b").await;
        assert_failed(&lab, &ended, &["wrong password"]).await;
        assert_eq!(lab.calls("init"), 0, "restic {version}");
        assert!(
            lab.calls("backup") - calls.0 <= 1 && lab.calls("cat") - calls.1 <= 1,
            "{}",
            lab.text("calls")
        );
        lab.write("config/password", &format!("{}\n", crate::lab::PASSWORD), 0o600);
        lab.good_backup("b").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_was_seen_and_is_gone_is_not_made_anew() {
    for version in ["0.14", "0.19"] {
        let lab = Setup::with_restic(version).plain().start().await;
        lab.good_backup("b").await;
        fs::rename(lab.path("repo"), lab.path("moved")).unwrap();
        let ended = lab.backup("b").await;
        assert_failed(&lab, &ended, &["local", "was seen here before and is not there now"]).await;
        assert!(!lab.path("repo/config").exists() && lab.calls("init") == 0, "nothing was created");
        fs::rename(lab.path("moved"), lab.path("repo")).unwrap();
        lab.good_backup("b").await;
        assert_eq!(lab.sets("app").await.len(), 2);
    }
}

/// X12: and no word anywhere holds the credentials in its address.
#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_repository_is_tried_again_and_never_made() {
    // Nobody listens there: the port is ours until we let it go.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let lab = Setup::with_restic("0.14")
        .plain()
        .replace("@DIR@/repo\"", &format!("rest:http://user:canary-url-5533@127.0.0.1:{port}/\""))
        .replace("instances = [\"app\"]", "instances = [\"app\"]\nretry = { attempts = 1, delay = \"1s\" }")
        .replace("[instance.app]", "[instance.app]\nstall_timeout = \"2s\"")
        .start()
        .await;
    let ended = lab.backup("b").await;
    assert_failed(&lab, &ended, &["unreachable", "refused"]).await;
    assert_eq!((lab.calls("init"), lab.calls("cat")), (0, 2), "{}", lab.text("calls"));
    assert!(lab.daemon.log().contains("will be tried again in 1s"), "{}", lab.daemon.log());
    assert!(!ended.error.contains("canary") && !lab.daemon.log().contains("canary"));
    for command in [&["status"][..], &["--json", "status"], &["history"], &["repository", "test", "disk"]] {
        let mut holdfast = lab.bus.command(env!("CARGO_BIN_EXE_holdfast"));
        let said = holdfast.args(["--bus", &lab.bus.address]).args(command).output().unwrap();
        let said = format!("{}{}", crate::support::stdout(&said), crate::support::stderr(&said));
        assert!(!said.is_empty() && !said.contains("canary"), "{command:?}: {said}");
    }
}

/// Leaves a lock that another host holds, as far as anybody can tell.
fn foreign_lock(lab: &Lab, exclusive: bool) {
    #![expect(clippy::disallowed_methods, reason = "stands for another machine")]
    let mut command = std::process::Command::new("unshare");
    command.args([
        "--user",
        "--map-root-user",
        "--uts",
        "sh",
        "-c",
        "hostname elsewhere && exec \"$@\"",
        "sh",
    ]);
    command.arg(crate::lab::restic_program("0.18")).args(["--no-cache", "--limit-download", "1", "--repo"]);
    command.arg(lab.path("repo")).arg(if exclusive { "prune" } else { "check" });
    command.env("RESTIC_PASSWORD_FILE", lab.path("config/password"));
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    crate::support::until("a foreign lock", || !lab.locks("repo").is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(lab.locks("repo").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lock_of_another_host_is_waited_for_and_never_removed() {
    let lab = Setup::new().plain().start().await;
    lab.good_backup("b").await;
    foreign_lock(&lab, true);
    let lock = lab.locks("repo");
    let job = lab.daemon.run_backup("b").await;
    lab.until("it was tried twice", || lab.calls("backup") >= 3).await;
    let outcome: String = lab.daemon.property(&job, "Job", "Outcome").await;
    assert_eq!(outcome, "", "it waits");
    lab.cancel(&job).await;
    assert_eq!(lab.ended(&job).await.outcome, "cancelled");
    assert_eq!(lab.locks("repo"), lock, "the lock is still there");
    fs::remove_file(lab.path("repo/locks").join(&lock[0])).unwrap();
    lab.good_backup("b").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restic_killed_in_a_backup_leaves_a_lock_that_the_next_run_and_its_forget_heal() {
    for version in ["0.14", "0.19"] {
        let setup = Setup::with_restic(version).hooked();
        let lab = setup.replace("instances = [\"app\"]", &format!("{NO_RETRY}\nretention = 1")).start().await;
        lab.good_backup("b").await;
        slow_restic(&lab);
        let job = lab.daemon.run_backup("b").await;
        lab.until("restic has its lock", || !lab.locks("repo").is_empty()).await;
        let restic =
            lab.processes().into_iter().find(|p| p.contains("usr/bin/restic backup")).expect("restic runs");
        let pid: i32 = restic.split(':').next().unwrap().parse().unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        let ended = lab.ended(&job).await;
        assert_failed(&lab, &ended, &["signal 9"]).await;
        lab.remove("on-backup");
        lab.remove("app/state/files/noise");
        lab.good_backup("b").await;
        assert_eq!(lab.snapshots_in("repo"), 1, "forget ran");
        lab.assert_settled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_the_backup_and_nothing_else() {
    let lab = Setup::new().plain().replace("instances = [\"app\"]", NO_RETRY).start().await;
    lab.good_backup("b").await;
    plant(&lab.dir, "data/noise", &noise(24 << 20), 0o600);
    // restic alone sees a small disk where packs go.
    lab.on(
        "backup",
        "exec unshare --user --map-root-user --mount sh -c 'd=$1; shift; \
         mount -t tmpfs -o size=1m tmpfs \"$d\" && exec \"$@\"' sh \"$D/repo/data\" \"$real\" \"$@\"",
    );
    let ended = lab.backup("b").await;
    assert_failed(&lab, &ended, &["no space left"]).await;
    lab.remove("on-backup");
    lab.check("repo");
    lab.good_backup("b").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_file_is_a_warning_with_its_name() {
    for version in ["0.14", "0.19"] {
        let lab = Setup::with_restic(version).plain().start().await;
        fs::set_permissions(lab.path("data/sub/other"), fs::Permissions::from_mode(0o000)).unwrap();
        if rustix::process::geteuid().is_root() {
            let without = "--bounding-set=-dac_override,-dac_read_search";
            lab.on("backup", &format!("exec setpriv {without} \"$real\" \"$@\""));
        }
        let ended = lab.backup("b").await;
        assert_eq!(ended.outcome, "warning", "{ended:#?}");
        assert!(ended.error.contains("data/sub/other"), "{}", ended.error);
        assert!(!ended.units[0].snapshot.is_empty(), "a set exists");
        assert_eq!(lab.sets("app").await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_literal_include_is_a_warning_or_with_strict_a_failure() {
    for (strict, outcome) in [("", "warning"), ("strict = true\n", "failed")] {
        let lab = Setup::new()
            .plain()
            .replace(
                "include = [\"@DIR@/data\"]\n",
                &format!("include = [\"@DIR@/data\", \"@DIR@/absent\"]\n{strict}"),
            )
            .start()
            .await;
        let ended = lab.backup("b").await;
        assert_eq!(ended.outcome, outcome, "{ended:#?}");
        assert!(ended.error.contains("/absent"), "{}", ended.error);
        assert_eq!(lab.snapshots_in("repo"), usize::from(strict.is_empty()));
        lab.assert_settled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_dump_takes_no_snapshot_and_is_cleaned_up_after() {
    let lab = Setup::new().hooked().start().await;
    lab.on("dump", "echo half >dump.sql; echo the database is away >&2; exit 1");
    let ended = lab.backup("b").await;
    assert_failed(&lab, &ended, &["dump_state", "exited with 1", "the database is away", "no snapshot"])
        .await;
    assert_eq!(lab.text("hooks"), "dump begins\ncleanup begins\ncleanup ends\n");
    assert_eq!((lab.calls("backup"), lab.snapshots_in("repo")), (0, 0));
    assert!(!lab.path("app/state/dump.sql").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_keeps_where_we_stage_is_refused_and_left_as_it_is() {
    let lab = Setup::new().hooked().start().await;
    lab.good_backup("b").await;
    lab.remove("hooks");
    lab.write("staging/app/diary", "years\n", 0o600);
    let ended = lab.backup("b").await;
    assert_eq!(ended.outcome, "failed", "{ended:#?}");
    assert!(ended.error.contains("is in the way and is not ours"), "{}", ended.error);
    assert_eq!(lab.text("staging/app/diary"), "years\n");
    assert!(!lab.path("hooks").exists(), "nothing was run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_cleanup_is_a_warning_and_the_set_stays() {
    let lab = Setup::new().hooked().start().await;
    lab.on("cleanup", "exit 4");
    let ended = lab.backup("b").await;
    assert_eq!(ended.outcome, "warning", "{ended:#?}");
    assert!(ended.error.contains("cleanup_state exited with 4"), "{}", ended.error);
    assert_eq!(lab.sets("app").await.len(), 1);
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_is_not_executable_is_a_failure_before_anything_runs() {
    let lab = Setup::new().hooked().start().await;
    fs::set_permissions(lab.path("app/bin/module-dump-state"), fs::Permissions::from_mode(0o644)).unwrap();
    let ended = lab.backup("b").await;
    assert_failed(&lab, &ended, &["module-dump-state", "not executable", "chmod +x", "nothing was touched"])
        .await;
    assert_eq!(lab.text("hooks"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_is_ended_at_its_time_limit_with_all_its_children() {
    let lab =
        Setup::new().hooked().replace("install_dir", "hook_timeout = \"1s\"\ninstall_dir").start().await;
    lab.on("dump", "sleep 600 & sleep 600");
    let ended = lab.backup("b").await;
    assert_failed(&lab, &ended, &["dump_state", "hook_timeout"]).await;
    assert!(lab.text("hooks").ends_with("cleanup ends\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_ignores_signals_is_killed() {
    let lab =
        Setup::new().hooked().replace("install_dir", "hook_timeout = \"1s\"\ninstall_dir").start().await;
    lab.on("dump", "trap '' INT TERM; while :; do sleep 0.1; done");
    let ended = lab.backup("b").await;
    assert_failed(&lab, &ended, &["dump_state", "hook_timeout"]).await;
    assert!(lab.text("hooks").ends_with("cleanup ends\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hook_leaves_behind_holds_nobody_up() {
    let lab = Setup::new().hooked().start().await;
    lab.on("dump", "sleep 600 & echo $! >\"$D/left\"");
    let start = std::time::Instant::now();
    lab.good_backup("b").await;
    assert!(start.elapsed() < std::time::Duration::from_secs(15), "its open pipe was waited for");
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_prints_far_too_much_is_heard_in_part() {
    let lab = Setup::new().hooked().start().await;
    lab.on("dump", "yes | head -n 30000; printf '\\377\\000\\n'; head -c 3000000 /dev/zero | tr '\\0' x");
    lab.good_backup("b").await;
    let log = lab.daemon.log();
    assert!(
        log.contains("20002 more lines, which are left out"),
        "{}",
        &log[log.len().saturating_sub(3000)..]
    );
    assert!(log.len() < 8 << 20, "{} bytes of log", log.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_in_the_dump_it_is_cleaned_up_after() {
    let lab = Setup::new().hooked().start().await;
    lab.hold("dump");
    let job = lab.daemon.run_backup("b").await;
    lab.reached("dump").await;
    lab.cancel(&job).await;
    let ended = lab.ended(&job).await;
    assert_eq!(ended.outcome, "cancelled", "{ended:#?}");
    assert_eq!(
        (lab.text("hooks"), lab.calls("backup")),
        ("dump begins\ncleanup begins\ncleanup ends\n".into(), 0)
    );
    lab.assert_settled().await;
    lab.good_backup("b").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_in_restic_no_lock_is_left_and_cleanup_runs() {
    for version in ["0.14", "0.18", "0.19"] {
        let lab = Setup::with_restic(version).hooked().start().await;
        slow_restic(&lab);
        let job = lab.daemon.run_backup("b").await;
        // At the very moment that the lock appears: restic does not take it away yet.
        lab.until("restic has its lock", || !lab.locks("repo").is_empty()).await;
        lab.cancel(&job).await;
        let ended = lab.ended(&job).await;
        assert_eq!(ended.outcome, "cancelled", "restic {version}: {ended:#?}");
        assert!(lab.locks("repo").is_empty(), "restic {version} left its lock\n{}", lab.daemon.log());
        assert!(lab.text("hooks").ends_with("cleanup ends\n"));
        lab.assert_settled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_ended_at_max_duration() {
    let lab = Setup::new()
        .hooked()
        .replace("instances = [\"app\"]", "instances = [\"app\"]\nmax_duration = \"1s\"")
        .start()
        .await;
    lab.on("dump", "sleep 600");
    let ended = lab.backup("b").await;
    assert_failed(&lab, &ended, &["max_duration"]).await;
    assert!(lab.text("hooks").ends_with("cleanup ends\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_an_old_and_a_false_restic_are_told_apart() {
    let lab = Setup::new().plain().start().await;
    lab.write("restic", "#!/bin/sh\necho restic 0.9.6 compiled with go1.13 on linux/amd64\n", 0o755);
    let ended = lab.backup("b").await;
    assert_failed(&lab, &ended, &["0.9.6 is too old", "0.14"]).await;
    lab.write("restic", "#!/bin/sh\necho something else\n", 0o755);
    let ended = lab.backup("b").await;
    assert_failed(&lab, &ended, &["does not work as restic"]).await;
    lab.remove("restic");
    let ended = lab.backup("b").await;
    assert_failed(&lab, &ended, &["restic", "not found"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restic_without_a_result_and_one_with_an_unknown_code_failed() {
    let lab = Setup::new().plain().replace("instances = [\"app\"]", NO_RETRY).start().await;
    for (shell, words) in [
        ("exit 0", "without a result"),
        ("echo '{\"message_type\":\"summ'; exit 0", "without a result"),
        ("echo odd >&2; exit 77", "code 77"),
        ("kill -9 $$", "signal 9"),
    ] {
        lab.on("backup", shell);
        let ended = lab.backup("b").await;
        assert_failed(&lab, &ended, &[words]).await;
    }
    lab.remove("on-backup");
    lab.good_backup("b").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_instance_that_fails_does_not_stop_the_others() {
    let lab = Setup::new()
        .hooked()
        .replace("instances = [\"app\"]", "instances = [\"app\", \"other\", \"absent-user\"]")
        .config("[instance.other]\ninclude = [\"@DIR@/data\"]\n[instance.absent-user]\nuser = \"no-such-user-here\"\ninclude = [\"@DIR@/data\"]\n")
        .start()
        .await;
    lab.write("data/file", "x", 0o600);
    lab.on("dump", "exit 1");
    let ended = lab.backup("b").await;
    assert_eq!(ended.outcome, "failed");
    let of = |name: &str| ended.units.iter().find(|u| u.instance == name).unwrap().clone();
    assert_eq!(
        (&*of("app").outcome, &*of("other").outcome, &*of("absent-user").outcome),
        ("failed", "succeeded", "failed")
    );
    assert!(of("absent-user").error.contains("no-such-user-here"), "{}", of("absent-user").error);
    assert_eq!(lab.snapshots_in("repo"), 1);
}
