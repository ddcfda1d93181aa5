//! Backups of another machine that does not answer, is not the one that it was, or does not let us in.

use crate::director::{Director, SERVICES};
use crate::far::{chosen, director, files, in_lanes, saved, served};
use crate::host::Host;
use crate::lab::{Lab, names, text};
use crate::servers::good;

/// Whether all services of a director are as before, by themselves or soon.
async fn all_run_again(far: &Director, lab: &Lab, what: &str) {
    lab.until(&format!("{what}: all services run"), || far.all_run()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_at_any_call_ends_with_all_services_started_and_no_half_set() {
    let host = Host::start();
    let lab = served(&host).start().await;
    lab.good_backup("b").await;
    assert_eq!(saved(&lab, "/dumps/command/dump"), "the data");
    assert!(host.text("did").contains("dump it's; $all\n"), "{}", host.text("did"));
    let calls = chosen(&host.calls());
    assert!(calls.len() > 8, "{:?}", host.calls());
    in_lanes(calls, lost_in_a_backup).await;
}

/// Loses the connection at these calls of a backup, one after the other.
async fn lost_in_a_backup(calls: Vec<usize>) {
    let host = Host::start();
    let lab = served(&host).start().await;
    let mut sets = 0;
    for n in calls {
        host.forget_calls();
        host.on_remote(&format!("[ $n != {n} ] || kill -9 $PPID"));
        let ended = lab.backup("b").await;
        let reached = host.calls().len() > n;
        host.let_be();
        let runs = || host.path("running-web").exists() && host.path("running-db").exists();
        lab.until(&format!("call {n} lost: services run"), runs).await;
        let what = format!("call {n} lost: {ended:?}\n{}", lab.daemon.log());
        assert!(reached, "{what}");
        match ended.outcome.as_str() {
            "failed" => assert!(ended.units[0].error.contains("cannot be reached over ssh"), "{what}"),
            // Lost when services were started again: that is repeated.
            "succeeded" | "warning" => sets += 1,
            _ => panic!("{what}"),
        }
        assert_eq!(lab.sets("app").await.len(), sets, "{what}");
    }
    lab.until("all undo steps are done", || names(&lab.path("state/undo")).is_empty()).await;
    lab.good_backup("b").await;
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_director_whose_connection_is_lost_in_its_dump_or_its_mirror_runs_again() {
    let far = Director::start();
    let lab = director(&far).start().await;
    for lost in ["*'pg_dump '*)", "*'rsync --server'*)"] {
        far.host.on_remote(&format!(
            "case $SSH_ORIGINAL_COMMAND in *--version*) ;; {lost} kill -9 $PPID ;; esac"
        ));
        let ended = lab.backup("b").await;
        assert_eq!(ended.outcome, "failed", "{lost}: {ended:?}");
        assert!(ended.units[0].error.contains("cannot be reached over ssh"), "{lost}: {ended:?}");
        all_run_again(&far, &lab, lost).await;
        assert_eq!(lab.sets("app").await.len(), 0, "{lost}");
    }
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_gone_after_a_kill_gets_its_services_back_when_it_answers() {
    let far = Director::start();
    let mut lab = director(&far).start().await;
    far.host.on_remote(
        "case $SSH_ORIGINAL_COMMAND in *'rsync --server'*) : >\"$D/at-rsync\"; sleep 100000 ;; esac",
    );
    lab.daemon.run_backup("b").await;
    lab.until("the mirror is made", || far.host.path("at-rsync").exists()).await;
    assert!(SERVICES.iter().all(|name| !far.process(name)) && !far.agent("status"));
    far.host.refuse(true);
    lab.daemon.restart_after_kill().await;
    lab.until("there is an alarm", || lab.daemon.log().contains("could not be started again")).await;
    assert!(!names(&lab.path("state/undo")).is_empty());
    // A second start does not forget it.
    lab.daemon.restart_after_kill().await;
    far.host.let_be();
    far.host.refuse(false);
    all_run_again(&far, &lab, "the machine answers").await;
    lab.until("all undo steps are done", || names(&lab.path("state/undo")).is_empty()).await;
    assert_eq!(text(&lab.history().await[0], "Outcome"), "interrupted");
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_down_is_tried_again_before_anything_is_touched() {
    let host = Host::start();
    let lab = files(&host)
        .replace("retry = { attempts = 0 }", "retry = { attempts = 5, delay = \"1s\" }")
        .start()
        .await;
    host.refuse(true);
    let job = lab.daemon.run_backup("b").await;
    let connections = host.connections();
    lab.until("it is tried again", || host.connections() > connections + 1).await;
    host.refuse(false);
    let ended = lab.ended(&job).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:?}\n{}", lab.daemon.log());
    host.refuse(true);
    lab.assert_settled().await;
}

async fn refused(lab: &Lab, words: &[&str]) {
    let ended = lab.backup("b").await;
    assert_eq!(ended.outcome, "failed", "{ended:?}");
    for word in words {
        assert!(ended.units[0].error.contains(word), "{word}: {ended:?}");
    }
    assert_eq!(lab.sets("app").await.len(), 0);
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_host_key_or_a_key_that_is_not_taken_is_told_with_advice_and_not_tried_again() {
    let host = Host::start();
    let lab = files(&host)
        .replace("retry = { attempts = 0 }", "retry = { attempts = 5, delay = \"1h\" }")
        .start()
        .await;
    let keys = host.authorized_keys();
    host.write("home/.ssh/authorized_keys", "", 0o600);
    refused(&lab, &["does not take our key", "holdfast setup"]).await;
    host.write("home/.ssh/authorized_keys", &keys, 0o600);
    host.change_host_key();
    refused(&lab, &["the host key of", "known_hosts", "holdfast setup"]).await;
    assert_eq!(host.calls(), [""; 0], "nothing ran there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sudo_that_asks_is_told_and_one_that_does_not_is_used() {
    let host = Host::start();
    let lab = files(&host).config("sudo = true\n").start().await;
    let sudo = |text: &str| host.write("bin/sudo", text, 0o755);
    sudo("#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n");
    refused(&lab, &["sudo on", "without asking"]).await;
    sudo("#!/bin/sh\necho \"$*\" >>'@DIR@/sudo-calls'\n[ \"$1\" = -n ] || exit 1\nshift\nexec \"$@\"\n");
    lab.good_backup("b").await;
    assert!(host.text("sudo-calls").starts_with("-n rsync --server"), "{}", host.text("sudo-calls"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_there_is_a_warning_and_no_rsync_there_a_failure() {
    let host = Host::start();
    let lab = files(&host).start().await;
    host.write("bin/rsync", "#!/bin/sh\nexit 127\n", 0o755);
    let ended = lab.backup("b").await;
    assert_eq!(ended.outcome, "failed", "{ended:?}");
    // Somebody else's rsync, that says it could not read all.
    let real = crate::servers::good(host.ssh("PATH=/usr/bin:/bin command -v rsync"));
    host.write("bin/rsync", &format!("#!/bin/sh\necho 'rsync: send_files failed to open \"x\": Permission denied (13)' >&2\n'{real}' \"$@\"\nexit 23\n"), 0o755);
    let ended = lab.backup("b").await;
    assert_eq!(ended.outcome, "warning", "{ended:?}");
    assert!(ended.units[0].error.contains("not everything could be transferred"), "{ended:?}");
    std::fs::remove_file(host.path("bin/rsync")).unwrap();
    let _ = std::fs::remove_dir_all(host.path("store"));
    let ended = lab.backup("b").await;
    assert_eq!(ended.outcome, "warning", "{ended:?}");
    assert!(ended.units[0].error.contains("is not there"), "{ended:?}");
    let listed = good(lab.restic("repo", &["ls", "latest"]));
    assert!(!listed.contains("store/one"), "{listed}");
}

/// Whether a program with this word runs on the other host.
pub(crate) fn runs_there(host: &Host, word: &str) -> bool {
    let home = format!("HOME={}", host.path("home").display());
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let read = |what: &str| std::fs::read(entry.path().join(what)).unwrap_or_default();
        let there = read("environ").split(|byte| *byte == 0).any(|one| one == home.as_bytes());
        there && read("cmdline").split(|byte| *byte == 0).any(|one| one == word.as_bytes())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_does_not_outlive_its_connection_or_its_job() {
    let host = Host::start();
    let lab = served(&host).start().await;
    let service = host.text("bin/service").replace("echo 'the data'", "exec sleep 98765");
    host.write("bin/service", &service, 0o755);
    let job = lab.daemon.run_backup("b").await;
    lab.until("the dump runs", || runs_there(&host, "98765")).await;
    lab.cancel(&job).await;
    assert_eq!(lab.ended(&job).await.outcome, "cancelled");
    lab.until("a cancelled job's dump is gone", || !runs_there(&host, "98765")).await;
    let job = lab.daemon.run_backup("b").await;
    lab.until("the dump runs", || runs_there(&host, "98765")).await;
    host.cut();
    assert_eq!(lab.ended(&job).await.outcome, "failed");
    lab.until("a lost dump is gone", || !runs_there(&host, "98765")).await;
    assert!(host.path("running-web").exists() && host.path("running-db").exists());
    lab.assert_settled().await;
}
