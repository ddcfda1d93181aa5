//! Restore steps of an instance on another machine: they run there, around its data.

use zbus::wire::Variant;

use crate::far::files;
use crate::faults::runs_there;
use crate::host::Host;
use crate::lab::{Lab, names, text};
use crate::restore::assert_nothing_beside;

/// Notes its name, what of the data is there and what it reads, then does what `on-NAME` says.
const STEP: &str = "#!/bin/sh\ncd '@DIR@'\nname=${0##*/}\n\
    echo \"$name $MODULE_ID $(cat store/one)\" >>did\ncat >\"request-$name\"\n\
    [ ! -e \"on-$name\" ] || . \"./on-$name\"\n";

async fn lab(host: &Host) -> Lab {
    for name in ["05before", "10also", "50after", "validate-me", "README"] {
        host.write(&format!("steps/{name}"), STEP, if name == "README" { 0o644 } else { 0o755 });
    }
    let restore =
        format!("restore = {{ keep_previous = \"0s\", steps = \"{}\" }}\n", host.path("steps").display());
    let lab = files(host).config(&restore).start().await;
    lab.good_backup("b").await;
    host.write("store/one", "changed\n", 0o640);
    lab
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_run_there_in_order_around_the_data_and_read_the_request() {
    let host = Host::start();
    let lab = lab(&host).await;
    let none = std::collections::HashMap::<&str, Variant<'_>>::new();
    let plan: String = lab.daemon.call("Plan", &("app", "", none)).await.unwrap();
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["steps"], serde_json::json!(["05before", "10also", "50after"]));
    assert_eq!(host.text("did"), "", "a plan runs nothing");
    let ended = lab.restore("app", "", &[]).await;
    // One file is none, and that is told.
    assert_eq!(ended.outcome, "warning", "{ended:?}\n{}", lab.daemon.log());
    assert!(ended.units[0].error.contains("README is no restore step"), "{ended:?}");
    assert_eq!(host.text("did"), "05before app changed\n10also app one\n50after app one\n");
    let request: serde_json::Value = serde_json::from_str(&host.text("request-50after")).unwrap();
    assert_eq!((&request["instance"], &request["replace"]), (&"app".into(), &true.into()), "{request}");
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fails_is_lost_or_cannot_run_leaves_the_old_data() {
    let host = Host::start();
    let mut lab = lab(&host).await;
    let failed = async |lab: &Lab, words: &[&str]| {
        let ended = lab.restore("app", "", &[]).await;
        assert_eq!(ended.outcome, "failed", "{ended:?}\n{}", lab.daemon.log());
        for word in words {
            assert!(ended.units[0].error.contains(word), "{word}: {ended:?}");
        }
        assert_eq!(host.text("store/one"), "changed\n");
        assert_nothing_beside(&host, lab);
    };
    host.write("on-50after", "echo no such luck >&2; exit 3", 0o644);
    failed(&lab, &["restore step 50after", "exited with 3", "no such luck", "old data is back"]).await;
    for name in ["05before", "50after"] {
        std::fs::remove_file(host.path("on-50after")).unwrap_or_default();
        host.on_remote(&format!(
            "case $SSH_ORIGINAL_COMMAND in *MODULE_ID=app*{name}*) kill -9 $PPID ;; esac"
        ));
        failed(&lab, &[&format!("restore step {name}")]).await;
    }
    host.let_be();
    host.write("steps/50after", STEP, 0o644);
    failed(&lab, &["may not execute", "50after", "chmod +x"]).await;
    std::fs::rename(host.path("steps"), host.path("gone")).unwrap();
    failed(&lab, &["`restore.steps`", "steps"]).await;
    std::fs::rename(host.path("gone"), host.path("steps")).unwrap();
    // Killed while one runs: that goes, and the old data lives.
    host.write("steps/50after", STEP, 0o755);
    host.write("on-50after", ": >at; exec sleep 98763", 0o644);
    lab.start_restore("app", "", &[]).await;
    lab.until("the step runs", || host.path("at").exists()).await;
    assert_eq!(host.text("store/one"), "one\n");
    lab.daemon.restart_after_kill().await;
    lab.until("all is undone", || names(&lab.path("state/undo")).is_empty()).await;
    assert_eq!(host.text("store/one"), "changed\n", "{}", lab.daemon.log());
    lab.until("the step is gone", || !runs_there(&host, "98763")).await;
    assert_eq!(text(&lab.history().await[0], "Outcome"), "interrupted");
    assert_nothing_beside(&host, &lab);
    lab.assert_settled().await;
}
