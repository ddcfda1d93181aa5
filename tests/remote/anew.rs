//! A set of another machine as a new instance beside the first one, there.

use zbus::wire::{OwnedObjectPath, Variant};

use crate::far::{chosen, files, in_lanes};
use crate::host::Host;
use crate::lab::{Ended, Lab, names, text};
use crate::restore::assert_nothing_beside;

/// What lies where, for a second instance: in directories that are not there yet, one tree with another name.
fn maps(host: &Host, lab: &Lab) -> Vec<String> {
    let map = |from: String, to: String| format!("{from}={to}");
    vec![
        map(host.path("store").display().to_string(), host.path("new/deep/shelf").display().to_string()),
        map(lab.path("yml").display().to_string(), lab.path("yml2").display().to_string()),
    ]
}

async fn as_second(host: &Host, lab: &Lab) -> Ended {
    let options = [("as", Variant::from("app2")), ("map", Variant::from(maps(host, lab)))];
    lab.restore("app", "", &options).await
}

/// Whether all of the second instance stands; otherwise none of it does.
fn stands(host: &Host, lab: &Lab, what: &str) -> bool {
    let all = [
        host.path("new").exists(),
        lab.path("yml2").exists(),
        lab.path("config/conf.d/app2.toml").exists(),
        lab.path("state/instances/app2").exists(),
    ];
    assert!(all.iter().all(|one| *one == all[0]), "{what}: half of it stands: {all:?}\n{}", lab.daemon.log());
    if all[0] {
        assert_eq!(host.text("new/deep/shelf/one"), "one\n", "{what}");
        assert_eq!(host.text("new/deep/shelf/deep/two"), "two\n", "{what}");
    }
    all[0]
}

/// Takes the second instance away.
async fn forget(host: &Host, lab: &Lab) {
    for dir in [host.path("new"), lab.path("yml2")] {
        std::fs::remove_dir_all(dir).unwrap();
    }
    for file in ["config/conf.d/app2.toml", "state/instances/app2"] {
        std::fs::remove_file(lab.path(file)).unwrap();
    }
    let _: Vec<String> = lab.daemon.call("Reload", &()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_instance_there_has_all_of_the_set_and_the_first_is_untouched() {
    let host = Host::start();
    let lab = files(&host).start().await;
    lab.good_backup("b").await;
    host.write("store/one", "newer\n", 0o640);
    let options: std::collections::HashMap<&str, Variant<'_>> =
        [("as", Variant::from("app2")), ("map", Variant::from(maps(&host, &lab)))].into();
    let plan: String = lab.daemon.call("Plan", &("app", "", options)).await.unwrap();
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(
        (&plan["problems"], &plan["replace"]),
        (&serde_json::json!([]), &serde_json::json!([])),
        "{plan}"
    );
    assert!(plan["create"].to_string().contains("/new/deep/shelf"), "{plan}");
    assert!(!stands(&host, &lab, "a plan"));
    host.forget_calls();
    let ended = as_second(&host, &lab).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:?}\n{}", lab.daemon.log());
    assert!(stands(&host, &lab, "as app2"));
    assert_eq!(host.text("store/one"), "newer\n");
    assert_eq!(lab.text("yml2/micro_bosh.yml"), "name: micro\n");
    assert_nothing_beside(&host, &lab);
    assert_eq!(names(&host.path("new/deep")), ["shelf"]);
    let written = lab.text("config/conf.d/app2.toml");
    assert!(written.contains("ssh_key") && written.contains("/state/ssh/app\""), "{written}");
    // It is defined now: its own sets come and go.
    lab.write(
        "config/conf.d/b2.toml",
        "[backup.b2]\nrepositories = [\"local\"]\ninstances = [\"app2\"]\n",
        0o600,
    );
    let _: Vec<String> = lab.daemon.call("Reload", &()).await.unwrap();
    lab.good_backup("b2").await;
    host.write("new/deep/shelf/one", "changed\n", 0o640);
    lab.good_restore("app2").await;
    assert_eq!(host.text("new/deep/shelf/one"), "one\n");
    assert_eq!(lab.text("yml2/micro_bosh.yml"), "name: micro\n");
    assert_eq!(host.text("store/one"), "newer\n");
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_there_is_told_and_refused() {
    let host = Host::start();
    let lab = files(&host).start().await;
    lab.good_backup("b").await;
    let refused: zbus::Result<OwnedObjectPath> = lab
        .daemon
        .call(
            "Restore",
            &(
                "app",
                "",
                [("as", Variant::from("app2"))].into_iter().collect::<std::collections::HashMap<_, _>>(),
            ),
        )
        .await;
    let said = refused.unwrap_err().to_string();
    assert!(said.contains("say it with map") && said.contains("/store"), "{said}");
    host.write("new/deep/shelf/mine", "mine\n", 0o644);
    let options: std::collections::HashMap<&str, Variant<'_>> =
        [("as", Variant::from("app2")), ("map", Variant::from(maps(&host, &lab)))].into();
    let plan: String = lab.daemon.call("Plan", &("app", "", options)).await.unwrap();
    assert!(plan.contains("is there already on"), "{plan}");
    let ended = as_second(&host, &lab).await;
    assert_eq!(ended.outcome, "failed", "{ended:?}");
    assert!(ended.units[0].error.contains("is there already on"), "{ended:?}");
    assert_eq!(names(&host.path("new/deep")), ["shelf"]);
    assert_eq!(names(&host.path("new/deep/shelf")), ["mine"]);
    assert!(!lab.path("yml2").exists() && !lab.path("config/conf.d/app2.toml").exists());
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_at_any_call_leaves_all_of_the_new_instance_or_nothing() {
    let host = Host::start();
    let lab = files(&host).start().await;
    lab.good_backup("b").await;
    host.forget_calls();
    assert_eq!(as_second(&host, &lab).await.outcome, "succeeded");
    let calls = chosen(&host.calls());
    assert!(calls.len() > 5, "{:?}", host.calls());
    in_lanes(calls, lost).await;
}

async fn lost(calls: Vec<usize>) {
    let host = Host::start();
    let mut lab = files(&host).start().await;
    lab.good_backup("b").await;
    for n in calls {
        host.forget_calls();
        host.on_remote(&format!("[ $n != {n} ] || kill -9 $PPID"));
        let ended = as_second(&host, &lab).await;
        let reached = host.calls().len() > n;
        host.let_be();
        assert!(reached, "{n}: {ended:?}");
        lab.daemon.restart_after_kill().await;
        lab.until("all is undone", || names(&lab.path("state/undo")).is_empty()).await;
        let what = format!("call {n} lost: {ended:?}");
        assert_eq!(stands(&host, &lab, &what), ended.outcome != "failed", "{what}");
        assert_eq!(host.text("store/one"), "one\n", "{what}");
        if ended.outcome != "failed" {
            forget(&host, &lab).await;
        }
    }
    lab.assert_settled().await;
}

/// Calls at which the daemon is killed, before they are done or after.
const MOMENTS: [(&str, bool); 8] = [
    (" sh above ", false),
    (" sh above ", true),
    (" sh make ", true),
    ("rsync --server", true),
    (" sh swap ", false),
    (" sh swap ", true),
    (" sh remove ", false),
    (" sh remove ", true),
];

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_phase_all_of_the_new_instance_stands_or_nothing() {
    in_lanes(MOMENTS.to_vec(), killed).await;
}

async fn killed(moments: Vec<(&'static str, bool)>) {
    let host = Host::start();
    let mut lab = files(&host).start().await;
    lab.good_backup("b").await;
    for (part, done) in moments {
        let does = if done { "/bin/sh -c \"$SSH_ORIGINAL_COMMAND\";" } else { "" };
        host.on_remote(&format!(
            "case $SSH_ORIGINAL_COMMAND in *'{part}'*) {does} : >\"$D/at\"; exec sleep 100000 ;; esac"
        ));
        let options = [("as", Variant::from("app2")), ("map", Variant::from(maps(&host, &lab)))];
        lab.start_restore("app", "", &options).await;
        lab.until(part, || host.path("at").exists()).await;
        lab.daemon.kill();
        host.let_be();
        std::fs::remove_file(host.path("at")).unwrap();
        lab.daemon.start_again().await;
        lab.until("all is undone", || names(&lab.path("state/undo")).is_empty()).await;
        let what = format!("{part} {done}\n{}", lab.daemon.log());
        // Its old data is removed last: by then it stands.
        assert_eq!(stands(&host, &lab, &what), part == " sh remove ", "{what}");
        assert_eq!(text(&lab.history().await[0], "Outcome"), "interrupted", "{what}");
        assert_eq!(host.text("store/one"), "one\n", "{what}");
        if part == " sh remove " {
            forget(&host, &lab).await;
        }
    }
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_daemon_saved_comes_back_where_its_key_is_and_is_refused_elsewhere() {
    let host = Host::start();
    let mut lab = files(&host).config("restore = { keep_previous = \"0s\" }\n").start().await;
    lab.good_backup("b").await;
    let uuid = lab.text("state/instances/app").trim().to_owned();
    // As on a machine that never knew it: no definition, and another name for its key.
    let defined = lab.text("config/holdfast.toml");
    let without = defined.split("[backup.b]").next().unwrap();
    lab.write("config/holdfast.toml", without, 0o600);
    std::fs::rename(lab.path("state/ssh/app"), lab.path("key")).unwrap();
    lab.remove("state/instances/app");
    lab.daemon.restart_after_kill().await;
    host.write("store/one", "changed\n", 0o640);
    let subject = format!("local:instance/{uuid}");
    let none = std::collections::HashMap::<&str, Variant<'_>>::new();
    let refused: zbus::Result<OwnedObjectPath> = lab.daemon.call("Restore", &(&subject, "", &none)).await;
    let said = refused.unwrap_err().to_string();
    assert!(said.contains("there is no key") && said.contains("holdfast setup app"), "{said}");
    std::fs::rename(lab.path("key"), lab.path("state/ssh/app")).unwrap();
    let ended = lab.restore(&subject, "", &[]).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:?}\n{}", lab.daemon.log());
    assert_eq!(host.text("store/one"), "one\n");
    assert!(lab.text("config/conf.d/app.toml").contains("ssh = "), "{}", lab.daemon.log());
    assert_nothing_beside(&host, &lab);
    lab.assert_settled().await;
}
