//! Services around backups and restores: stopped in order, and always as they were afterwards. The services are two
//! files, `svc/web` and `svc/db`, that a program makes and removes; `web` needs `db`.

use std::fs;

use zbus::wire::Variant;

use crate::lab::{Lab, SECOND, Setup, names, text};

/// What a program of the services does: it counts its calls, may fail at one, and notes what it did in `svc-log`. An
/// exit of 9 says nothing about whether the service runs.
const PROGRAM: &str = r#"#!/bin/sh
D='@DIR@'
echo "$*" >>"$D/svc-calls"
n=$(wc -l <"$D/svc-calls")
[ ! -e "$D/on-svc-$1" ] || . "$D/on-svc-$1"
fail=$(cat "$D/svc-fail" 2>/dev/null || echo 0)
[ "$n" -ne "$fail" ] || { echo "told to fail" >&2; exit 9; }
case $1 in
start) : >"$D/svc/$2"; echo "$*" >>"$D/svc-log" ;;
stop) rm -f "$D/svc/$2"; echo "$*" >>"$D/svc-log" ;;
status) [ -e "$D/svc/$2" ] || code=3 ;;
esac
late=$(cat "$D/svc-fail-late" 2>/dev/null || echo 0)
[ "$n" -ne "$late" ] || { echo "told to fail" >&2; exit 9; }
exit ${code:-0}
"#;

/// One service of an instance.
fn service(name: &str, more: &str) -> String {
    let argv = |verb: &str| format!("[\"@DIR@/service\", \"{verb}\", \"{name}\"]");
    format!(
        "[[instance.app.service]]\nmanager = \"command\"\nname = \"{name}\"\nstart = {}\nstop = {}\nstatus = {}\n{more}\n",
        argv("start"),
        argv("stop"),
        argv("status")
    )
}

/// An instance with hooks whose services are given so that only `depends_on` tells their order.
fn setup(db: &str, web: &str) -> Setup {
    let setup = Setup::new().hooked();
    setup.write("service", PROGRAM, 0o755);
    for name in ["db", "web"] {
        setup.write(&format!("svc/{name}"), "", 0o644);
    }
    let web = format!("depends_on = [\"db\"]\n{web}");
    let (db, web) = (service("db", db), service("web", &web));
    let dir = setup.path("").display().to_string();
    let dir = dir.trim_end_matches('/');
    setup
        .config(&db.replace("@DIR@", dir))
        .config(&web.replace("@DIR@", dir))
        .replace("instances = [\"app\"]", "instances = [\"app\"]\nretry = { attempts = 0 }")
}

fn log(lab: &Lab) -> Vec<String> {
    lab.text("svc-log").lines().map(str::to_owned).collect()
}

fn running(lab: &Lab) -> Vec<String> {
    let mut names = names(&lab.path("svc"));
    names.sort();
    names
}

#[track_caller]
fn assert_as_before(lab: &Lab, what: &str) {
    assert_eq!(running(lab), ["db", "web"], "services after {what}\n{}", lab.daemon.log());
}

const ROUND: [&str; 4] = ["stop web", "stop db", "start db", "start web"];

#[tokio::test(flavor = "multi_thread")]
async fn services_are_stopped_in_order_for_the_snapshot_and_run_again_before_retention() {
    let lab = setup("", "").replace("retry =", "retention = 1\nretry =").start().await;
    lab.on("backup", "ls \"$D/svc\" >\"$D/at-backup\"");
    lab.on("forget", "ls \"$D/svc\" >\"$D/at-forget\"");
    lab.good_backup("b").await;
    assert_eq!(log(&lab), ROUND);
    assert_eq!(lab.text("at-backup"), "", "both were stopped for the snapshot");
    lab.good_backup("b").await;
    assert_eq!(lab.text("at-forget"), "db\nweb\n", "both ran at retention");
    lab.measure_downtime("command", "b").await;
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stopped_until_the_dump_runs_during_the_snapshot() {
    let lab = setup("until = \"dump\"", "until = \"never\"").start().await;
    lab.on("dump", "ls \"$D/svc\" >\"$D/at-dump\"");
    lab.on("backup", "ls \"$D/svc\" >\"$D/at-backup\"");
    lab.good_backup("b").await;
    assert_eq!((lab.text("at-dump").as_str(), lab.text("at-backup").as_str()), ("web\n", "db\nweb\n"));
    assert_eq!(log(&lab), ["stop db", "start db"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_was_stopped_by_hand_stays_stopped() {
    let lab = setup("", "").start().await;
    lab.remove("svc/web");
    lab.good_backup("b").await;
    lab.good_restore("app").await;
    assert_eq!(running(&lab), ["db"]);
    assert_eq!(log(&lab), ["stop db", "start db", "stop db", "start db"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sick_service_is_not_backed_up_where_health_is_required() {
    let lab = setup("require_healthy = true", "").start().await;
    lab.remove("svc/db");
    let ended = lab.backup("b").await;
    assert_eq!(ended.outcome, "failed");
    assert!(
        ended.error.contains("not healthy") && ended.error.contains("nothing was touched"),
        "{}",
        ended.error
    );
    assert_eq!((log(&lab).len(), lab.snapshots_in("repo")), (0, 0));
    lab.assert_settled().await;
}

/// Lets call after call of the services' program fail, before or after it acted, and looks after each what is left.
async fn every_call_fails_once(lab: &Lab, how: &str, restore: bool) -> usize {
    for n in 1..200 {
        let (sets, before) = (lab.sets("app").await.len(), lab.text("app/state/files/one"));
        let _ = fs::remove_file(lab.path("svc-calls"));
        lab.write(how, &n.to_string(), 0o644);
        let ended = if restore { lab.restore("app", "", &[]).await } else { lab.backup("b").await };
        let what = format!("{how} at call {n}: {ended:#?}");
        let calls = lab.text("svc-calls").lines().count();
        fs::remove_file(lab.path(how)).unwrap();
        lab.until("the services run again", || running(lab) == ["db", "web"]).await;
        lab.assert_settled().await;
        if calls < n {
            assert_eq!(ended.outcome, "succeeded", "{what}");
            return n - 1;
        }
        assert_ne!(ended.outcome, "succeeded", "{what}\n{}", lab.daemon.log());
        let more = lab.sets("app").await.len() - sets;
        let unit = &ended.units[0];
        if restore {
            let after = lab.text("app/state/files/one");
            assert!(ended.outcome == "warning" || after == before, "{what}: old data lives");
            lab.write("app/state/files/one", "newer\n", 0o640);
        } else {
            assert_eq!(more == 1, ended.outcome == "warning", "{what}: a set only with a warning");
            assert_eq!(unit.snapshot.is_empty(), more == 0, "{what}");
        }
    }
    panic!("calls never end");
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_call_of_a_backup_fails_the_services_run_and_no_bad_set_exists() {
    let lab = setup("", "").start().await;
    for how in ["svc-fail", "svc-fail-late"] {
        let calls = every_call_fails_once(&lab, how, false).await;
        assert!(calls >= 12, "only {calls} calls were tried");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_call_of_a_restore_fails_the_services_run_and_the_data_is_whole() {
    let lab = setup("", "").start().await;
    lab.good_backup("b").await;
    lab.write("app/state/files/one", "newer\n", 0o640);
    for how in ["svc-fail", "svc-fail-late"] {
        let calls = every_call_fails_once(&lab, how, true).await;
        assert!(calls >= 12, "only {calls} calls were tried");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_does_not_start_raises_an_alarm_and_is_started_as_soon_as_it_can() {
    let lab = setup("", "").start().await;
    lab.on("svc-start", "[ \"$2\" != web ] || { echo broken >&2; exit 5; }");
    let ended = lab.backup("b").await;
    assert_eq!(ended.outcome, "warning", "{ended:#?}");
    assert!(ended.error.contains("service is down") && ended.error.contains("broken"), "{}", ended.error);
    assert!(lab.daemon.log().contains("is down: it was stopped by us"), "{}", lab.daemon.log());
    assert_eq!(running(&lab), ["db"]);
    assert_eq!(names(&lab.path("state/undo")).len(), 1, "it is written down until it runs");
    lab.remove("on-svc-start");
    lab.until("it is started later", || running(&lab) == ["db", "web"]).await;
    lab.until("the undo step is closed", || names(&lab.path("state/undo")).is_empty()).await;
    lab.good_backup("b").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_starts_and_dies_is_not_taken_for_running() {
    let lab = setup("", "").start().await;
    lab.on("svc-start", ": >\"$D/svc/$2\"; (sleep 0.3; rm -f \"$D/svc/$2\") >/dev/null 2>&1 & exit 0");
    let ended = lab.backup("b").await;
    assert_eq!(ended.outcome, "warning", "{ended:#?}");
    assert!(ended.error.contains("ended again"), "{}", ended.error);
    lab.remove("on-svc-start");
    lab.until("they are started later", || running(&lab) == ["db", "web"]).await;
    lab.until("the undo step is closed", || names(&lab.path("state/undo")).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_ignores_its_stop_fails_the_backup_and_is_started_when_it_ends_after_all() {
    let lab = setup("stop_timeout = \"1s\"", "").start().await;
    // It ends long after we gave up.
    lab.on(
        "svc-stop",
        "[ \"$2\" != db ] || { setsid sh -c \": >$D/began; sleep 4; rm -f $D/svc/db; : >$D/ended\" >/dev/null 2>&1 & while [ ! -e \"$D/began\" ]; do sleep 0.05; done; exit 0; }",
    );
    let ended = lab.backup("b").await;
    assert_eq!(ended.outcome, "failed");
    assert!(ended.error.contains("did not stop within 1s"), "{}", ended.error);
    assert_eq!(lab.snapshots_in("repo"), 0);
    lab.remove("on-svc-stop");
    lab.until("it has ended", || lab.path("ended").exists()).await;
    lab.until("it is started again", || running(&lab) == ["db", "web"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_services_are_stopped_they_run_after_the_next_start() {
    for (what, hold) in [
        ("the second stop", "svc-stop"),
        ("the dump", "dump"),
        ("the snapshot", "backup"),
        ("the start", "svc-start"),
        ("the cleanup", "cleanup"),
    ] {
        let mut lab = setup("", "").start().await;
        lab.hold(hold);
        if hold == "svc-stop" {
            let wait = lab.text("on-svc-stop");
            lab.on("svc-stop", &format!("[ \"$2\" != db ] || {{ {wait} }}"));
        }
        lab.daemon.run_backup("b").await;
        lab.reached(hold).await;
        lab.daemon.restart_after_kill().await;
        assert_as_before(&lab, what);
        assert_eq!(text(&lab.history().await[0], "Outcome"), "interrupted", "{what}");
        lab.assert_settled().await;
        let wanted = if ["cleanup", "svc-start"].contains(&hold) { 1 } else { 0 };
        assert_eq!(lab.snapshots_in("repo"), wanted, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_a_restore_services_are_stopped_before_the_old_data_is_put_back_and_run_then() {
    for (what, hold) in [("a step after the swap", "step"), ("the health check", "health")] {
        let program = "#!/bin/sh\nD='@DIR@'\n[ ! -e \"$D/on-NAME\" ] || . \"$D/on-NAME\"\n";
        let setup = setup("", "").replace(
            "restore = { keep_previous = \"0s\" }",
            "restore = { keep_previous = \"0s\", health = { command = [\"bin/health\"] } }",
        );
        setup.write("app/actions/restore-module/20hold", &program.replace("NAME", "step"), 0o755);
        setup.write("app/bin/health", &program.replace("NAME", "health"), 0o755);
        let mut lab = setup.start().await;
        lab.good_backup("b").await;
        lab.write("app/state/files/one", "newer\n", 0o640);
        lab.remove("svc-log");
        lab.hold(hold);
        lab.start_restore("app", "", &[]).await;
        lab.reached(hold).await;
        assert_eq!(lab.text("app/state/files/one"), "one\n", "{what}: swapped");
        lab.daemon.restart_after_kill().await;
        assert_eq!(lab.text("app/state/files/one"), "newer\n", "{what}: the old data lives");
        assert_as_before(&lab, what);
        let again = log(&lab);
        assert_eq!(again[again.len() - 2..], ["start db", "start web"], "{what}");
        let stops = again.iter().filter(|line| line.starts_with("stop")).count();
        assert_eq!(stops, if hold == "health" { 4 } else { 2 }, "{what}: {again:?}");
        lab.assert_settled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_or_stopped_with_services_down_they_run_again() {
    let mut lab = setup("", "").start().await;
    lab.hold("dump");
    let job = lab.daemon.run_backup("b").await;
    lab.reached("dump").await;
    assert_eq!(running(&lab), [""; 0]);
    lab.cancel(&job).await;
    assert_eq!(lab.ended(&job).await.outcome, "cancelled");
    assert_as_before(&lab, "a cancel");
    lab.assert_settled().await;
    let _ = fs::remove_file(lab.path("go-dump"));
    fs::remove_file(lab.path("at-dump")).unwrap();
    lab.hold("dump");
    lab.daemon.run_backup("b").await;
    lab.reached("dump").await;
    assert_eq!(lab.daemon.stop(), Some(0));
    assert_as_before(&lab, "SIGTERM");
    assert_eq!(names(&lab.path("state/undo")), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_jobs_that_need_the_same_service_stop_it_once_and_the_last_starts_it() {
    let setup = setup("", "");
    setup.write("data/file", "x\n", 0o644);
    let dir = setup.path("").display().to_string();
    let dir = dir.trim_end_matches('/');
    let other = service("db", "").replace("instance.app", "instance.other").replace("@DIR@", dir);
    let lab = setup
        .config(SECOND)
        .config(&format!("[instance.other]\ninclude = [\"{dir}/data\"]\n{other}"))
        .config("[backup.c]\nrepositories = [\"second\"]\ninstances = [\"other\"]\n")
        .start()
        .await;
    lab.hold("dump");
    let first = lab.daemon.run_backup("b").await;
    lab.reached("dump").await;
    // The other one finds `db` stopped, by us: it is to run again, but not before the first has ended.
    lab.good_backup("c").await;
    assert_eq!(running(&lab), [""; 0], "the first still needs it stopped");
    lab.go("dump");
    assert_eq!(lab.ended(&first).await.outcome, "succeeded");
    assert_as_before(&lab, "both");
    assert_eq!(log(&lab), ROUND);
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_stops_and_starts_unless_told_otherwise_and_its_plan_says_so() {
    let lab = setup("", "until = \"dump\"").start().await;
    lab.good_backup("b").await;
    fs::remove_file(lab.path("svc-log")).unwrap();
    let options = std::collections::HashMap::<&str, &Variant<'_>>::new();
    let plan: String = lab.daemon.call("Plan", &("app", "", options)).await.unwrap();
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    let stops = plan["stop"].as_array().unwrap();
    assert!(stops[0].as_str().unwrap().contains("command web") && stops.len() == 2, "{plan}");
    lab.good_restore("app").await;
    assert_eq!(log(&lab), ROUND);
    let running_on = lab.restore("app", "", &[("stop", false.into())]).await;
    assert_eq!((running_on.outcome.as_str(), log(&lab).len()), ("succeeded", 4), "nothing was stopped");
    let stopped = lab.restore("app", "", &[("start", false.into())]).await;
    assert_eq!(stopped.outcome, "succeeded", "{stopped:#?}");
    assert_eq!((running(&lab).len(), names(&lab.path("state/undo")).len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_whose_service_does_not_run_on_the_new_data_is_undone() {
    let lab = setup("", "").start().await;
    lab.good_backup("b").await;
    lab.write("app/state/files/one", "newer\n", 0o640);
    lab.on("svc-start", "! grep -q one \"$D/app/state/files/one\" || { echo cannot read it >&2; exit 1; }");
    let ended = lab.restore("app", "", &[]).await;
    assert_eq!(ended.outcome, "failed");
    assert!(ended.error.contains("cannot read it"), "{}", ended.error);
    assert_eq!(lab.text("app/state/files/one"), "newer\n");
    assert_as_before(&lab, "the rollback");
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_whose_service_does_not_stop_touches_nothing_and_all_run_as_before() {
    let lab = setup("stop_timeout = \"1s\"", "").start().await;
    lab.good_backup("b").await;
    lab.write("app/state/files/one", "newer\n", 0o640);
    lab.on("svc-stop", "[ \"$2\" != db ] || exit 0");
    let ended = lab.restore("app", "", &[]).await;
    assert_eq!(ended.outcome, "failed", "{ended:#?}");
    assert!(ended.error.contains("did not stop within 1s"), "{}", ended.error);
    assert!(ended.error.contains("the live data was not touched"), "{}", ended.error);
    assert!(ended.error.contains("--no-stop"), "{}", ended.error);
    assert_eq!(lab.text("app/state/files/one"), "newer\n");
    assert_as_before(&lab, "a restore that could not stop them");
    // Whether it stops after all is watched for a while, with its step open.
    assert_eq!(names(&lab.path("staging")), [""; 0], "{}", lab.daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_exchanges_data_while_services_are_stopped() {
    let lab = setup("", "").replace("keep_previous = \"0s\"", "keep_previous = \"1h\"").start().await;
    lab.good_backup("b").await;
    lab.write("app/state/files/one", "newer\n", 0o640);
    lab.good_restore("app").await;
    fs::remove_file(lab.path("svc-log")).unwrap();
    let job: zbus::wire::OwnedObjectPath = lab.daemon.call("Rollback", &("app",)).await.unwrap();
    let ended = lab.ended(&job).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}");
    assert_eq!(log(&lab), ROUND);
    assert_eq!(lab.text("app/state/files/one"), "newer\n");
}
