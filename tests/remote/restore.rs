//! Restores onto another machine.

use zbus::wire::Variant;

use crate::director::Director;
use crate::far::{chosen, director, files, in_lanes};
use crate::host::Host;
use crate::lab::{Lab, names};

/// That nothing of ours lies beside the live data.
pub(crate) fn assert_nothing_beside(host: &Host, lab: &Lab) {
    for dir in ["", "store"] {
        let left: Vec<String> =
            names(&host.path(dir)).into_iter().filter(|n| n.starts_with(".holdfast")).collect();
        assert_eq!(left, [""; 0], "beside live data\n{}", lab.daemon.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_director_comes_back_with_its_database_and_a_rollback_takes_that_back() {
    let far = Director::start();
    let lab = director(&far).start().await;
    lab.good_backup("b").await;
    let host = &far.host;
    host.write("store/blobstore/store/0a/blob-1", "broken\n", 0o644);
    host.write("store/blobstore/more", "new since\n", 0o644);
    host.write("store/director/tmp/scratch", "live scratch\n", 0o644);
    std::fs::remove_dir_all(host.path("store/director/tasks")).unwrap();
    far.ask("bosh", "delete from vms");
    lab.write("yml/micro_bosh.yml", "name: other\n", 0o600);
    far.forget();
    lab.good_restore("app").await;
    assert!(far.all_run(), "{}", lab.daemon.log());
    assert_eq!(host.text("store/blobstore/store/0a/blob-1"), "a compiled package\n");
    assert!(!host.path("store/blobstore/more").exists());
    assert_eq!(host.text("store/director/tasks/1/debug"), "done\n");
    assert_eq!(host.text("store/director/tmp/scratch"), "live scratch\n", "what the backup left out stays");
    assert_eq!(far.ask("bosh", "select name from vms"), "router/0");
    assert_eq!(lab.text("yml/micro_bosh.yml"), "name: micro\n");
    assert!(far.did().iter().any(|line| line == "stop director"), "{:?}", far.did());
    let job: zbus::wire::OwnedObjectPath = lab.daemon.call("Rollback", &("app",)).await.unwrap();
    let ended = lab.ended(&job).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:?}\n{}", lab.daemon.log());
    assert_eq!(host.text("store/blobstore/store/0a/blob-1"), "broken\n");
    assert_eq!(host.text("store/blobstore/more"), "new since\n");
    assert_eq!(far.ask("bosh", "select count(*) from vms"), "0");
    assert_eq!(lab.text("yml/micro_bosh.yml"), "name: other\n");
    assert!(far.all_run(), "{}", lab.daemon.log());
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_comes_back_alone_a_target_gets_all_and_a_plan_touches_nothing() {
    let host = Host::start();
    let lab = files(&host).replaced().start().await;
    lab.good_backup("b").await;
    host.write("store/one", "changed\n", 0o640);
    host.write("store/deep/two", "changed\n", 0o600);
    let options = std::collections::HashMap::<&str, Variant<'_>>::new();
    let plan: String = lab.daemon.call("Plan", &("app", "", options)).await.unwrap();
    assert!(plan.contains("@127.0.0.1:") && plan.contains("/store"), "{plan}");
    assert_eq!(host.text("store/one"), "changed\n");
    let one = format!("files{}", host.path("store/one").display());
    let ended = lab.restore("app", "", &[("include", Variant::from(vec![one]))]).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:?}\n{}", lab.daemon.log());
    assert_eq!(
        (host.text("store/one").as_str(), host.text("store/deep/two").as_str()),
        ("one\n", "changed\n")
    );
    assert_nothing_beside(&host, &lab);
    let target = lab.path("look");
    let ended = lab.restore("app", "", &[("target", Variant::from(target.display().to_string()))]).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:?}");
    let saved = target.join("files").join(host.path("store/deep/two").strip_prefix("/").unwrap());
    assert_eq!(std::fs::read_to_string(saved).unwrap(), "two\n");
    lab.assert_settled().await;
}

trait Replaced {
    fn replaced(self) -> Self;
}

impl Replaced for crate::lab::Setup {
    /// Keeps nothing of before a restore.
    fn replaced(self) -> Self {
        self.config("restore = { keep_previous = \"0s\" }\n")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_at_any_call_leaves_the_data_wholly_old_or_wholly_new() {
    let host = Host::start();
    let lab = files(&host).replaced().start().await;
    lab.good_backup("b").await;
    host.write("store/one", "changed\n", 0o640);
    host.forget_calls();
    lab.good_restore("app").await;
    let calls = chosen(&host.calls());
    assert!(calls.len() > 4, "{:?}", host.calls());
    in_lanes(calls, lost_in_a_restore).await;
}

/// Loses the connection at these calls of a restore, one after the other.
async fn lost_in_a_restore(calls: Vec<usize>) {
    let host = Host::start();
    let mut lab = files(&host).replaced().start().await;
    lab.good_backup("b").await;
    for n in calls {
        host.write("store/one", "changed\n", 0o640);
        host.forget_calls();
        host.on_remote(&format!("[ $n != {n} ] || kill -9 $PPID"));
        let ended = lab.restore("app", "", &[]).await;
        let reached = host.calls().len() > n;
        host.let_be();
        let what = format!("call {n} lost: {ended:?}\n{}", lab.daemon.log());
        assert!(reached, "{what}");
        let wanted = if ended.outcome == "succeeded" { "one\n" } else { "changed\n" };
        assert_eq!(host.text("store/one"), wanted, "{what}");
        assert_eq!(host.text("store/deep/two"), "two\n", "{what}");
        assert_eq!(lab.text("yml/micro_bosh.yml"), "name: micro\n", "{what}");
        let all: Vec<String> =
            names(&host.path("store")).into_iter().filter(|name| !name.starts_with(".holdfast")).collect();
        assert_eq!(all.len(), 3, "{what}");
    }
    // What could not be removed there goes at the next start.
    lab.daemon.restart_after_kill().await;
    lab.until("all is removed", || names(&lab.path("state/undo")).is_empty()).await;
    assert_nothing_beside(&host, &lab);
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_is_put_back_when_the_machine_answers_again() {
    let host = Host::start();
    let mut lab = files(&host).replaced().start().await;
    lab.good_backup("b").await;
    host.write("store/one", "changed\n", 0o640);
    // The exchange is done, and nobody hears of it.
    let done = host.path("exchanged");
    host.on_remote(&format!(
        "case $SSH_ORIGINAL_COMMAND in *' sh swap '*) /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"; : >'{}'; sleep 100000 ;; esac",
        done.display()
    ));
    lab.start_restore("app", "", &[]).await;
    lab.until("it is exchanged", || done.exists()).await;
    assert_eq!(host.text("store/one"), "one\n");
    host.refuse(true);
    lab.daemon.restart_after_kill().await;
    lab.until("there is an alarm", || lab.daemon.log().contains("is not put right yet")).await;
    assert_eq!(host.text("store/one"), "one\n", "nobody can reach it");
    host.let_be();
    host.refuse(false);
    lab.until("the old data is back", || host.text("store/one") == "changed\n").await;
    lab.until("all is undone", || names(&lab.path("state/undo")).is_empty()).await;
    assert_nothing_beside(&host, &lab);
    lab.good_restore("app").await;
    assert_eq!(host.text("store/one"), "one\n");
    lab.assert_settled().await;
}
