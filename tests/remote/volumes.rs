//! Volumes and containers of another machine's engine: saved by their mountpoints there, dumped by programs inside.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use zbus::wire::{OwnedObjectPath, Variant};

use crate::engine::{full, plant, volume};
use crate::far::{chosen, in_lanes, known, saved};
use crate::host::Host;
use crate::lab::{Ended, Lab, Setup, names, text};

/// An instance `app` with a whole volume, a part of another one, and a dump of what a program in a container prints.
fn contained(host: &Host) -> Setup {
    plant(host);
    let data = volume(host, &full("app", "data"));
    let other = volume(host, &full("app", "other"));
    for (dir, name, content) in [
        (&data, "one", "one\n"),
        (&data, "deep/two", "two\n"),
        (&data, "cache/x", "scratch\n"),
        (&other, "sub/in", "in\n"),
        (&other, "out", "out\n"),
    ] {
        std::fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
        std::fs::write(dir.join(name), content).unwrap();
    }
    std::fs::set_permissions(data.join("one"), std::fs::Permissions::from_mode(0o640)).unwrap();
    host.write("table", "row\n", 0o644);
    let table = host.path("table").display().to_string();
    known(Setup::new(), host).config(&format!(
        "[backup.b]\nrepositories = [\"local\"]\ninstances = [\"app\"]\nretry = {{ attempts = 0 }}\n\
         [instance.app]\nssh = \"{}:{}\"\nvolumes = \"docker\"\ninclude = [\"volumes/data\", \"volumes/other/sub\"]\n\
         exclude = [\"volumes/data/cache\"]\n[[instance.app.dump]]\nsource = \"command\"\ncontainer = \"db\"\n\
         command = [\"cat\", \"{table}\"]\nrestore = [\"sh\", \"-c\", \"cat >'{table}'\"]\n",
        host.login(),
        host.port
    ))
}

fn data(host: &Host) -> PathBuf {
    host.path(&format!("volumes/{}/_data", full("app", "data")))
}

fn read(path: PathBuf) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|_| "-".to_owned())
}

fn mode(path: PathBuf) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// All that lives: files of the volumes, what the container has, and the mode of the volume itself.
fn live(host: &Host) -> Vec<String> {
    let data = data(host);
    let other = host.path(&format!("volumes/{}/_data", full("app", "other")));
    let mut all: Vec<String> =
        ["one", "deep/two", "new", "cache/x"].iter().map(|name| read(data.join(name))).collect();
    all.extend(["sub/in", "out"].iter().map(|name| read(other.join(name))));
    all.extend([read(host.path("table")), format!("{:o}", mode(data))]);
    all
}

fn change(host: &Host) {
    let data = data(host);
    std::fs::write(data.join("one"), "changed\n").unwrap();
    std::fs::write(data.join("new"), "new since\n").unwrap();
    std::fs::write(data.join("cache/x"), "live scratch\n").unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).unwrap();
    let other = host.path(&format!("volumes/{}/_data", full("app", "other")));
    std::fs::write(other.join("sub/in"), "changed\n").unwrap();
    std::fs::write(other.join("out"), "changed\n").unwrap();
    std::fs::write(host.path("table"), "changed\n").unwrap();
}

const SAVED: [&str; 8] = ["one\n", "two\n", "-", "live scratch\n", "in\n", "changed\n", "row\n", "751"];
const CHANGED: [&str; 8] =
    ["changed\n", "two\n", "new since\n", "live scratch\n", "changed\n", "changed\n", "changed\n", "700"];

/// That nothing of ours lies in the volumes.
fn assert_nothing_in_them(host: &Host, what: &str) {
    for name in ["data", "other"] {
        let dir = host.path(&format!("volumes/{}/_data", full("app", name)));
        let left: Vec<String> =
            names(&dir).into_iter().filter(|name| name.starts_with(".holdfast")).collect();
        assert_eq!(left, [""; 0], "{what}");
    }
}

async fn rolled_back(lab: &Lab) -> Ended {
    let job: OwnedObjectPath = lab.daemon.call("Rollback", &("app",)).await.unwrap();
    lab.ended(&job).await
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_and_what_a_container_dumps_come_back_and_a_rollback_takes_that_back() {
    let host = Host::start();
    let lab = contained(&host).start().await;
    lab.good_backup("b").await;
    assert_eq!(saved(&lab, "/dumps/command/dump"), "row");
    let listed = crate::servers::good(lab.restic("repo", &["ls", "latest"]));
    assert!(
        listed.contains("/volumes/data/deep/two") && listed.contains("/volumes/other/sub/in"),
        "{listed}"
    );
    assert!(!listed.contains("cache") && !listed.contains("/out"), "{listed}");
    change(&host);
    assert_eq!(live(&host), CHANGED);
    let none = std::collections::HashMap::<&str, Variant<'_>>::new();
    let plan: String = lab.daemon.call("Plan", &("app", "", none)).await.unwrap();
    assert!(plan.contains("/_data/one") && plan.contains("\"problems\":[]"), "{plan}");
    assert_eq!(live(&host), CHANGED, "a plan");
    lab.good_restore("app").await;
    assert_eq!(live(&host), SAVED, "{}", lab.daemon.log());
    assert_eq!(mode(data(&host).join("one")), 0o640);
    let ended = rolled_back(&lab).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:?}\n{}", lab.daemon.log());
    assert_eq!(live(&host), CHANGED);
    // One that is gone is made again, with its labels; one file comes alone.
    std::fs::remove_dir_all(host.path(&format!("volumes/{}", full("app", "data")))).unwrap();
    lab.good_restore("app").await;
    assert_eq!(live(&host)[..3], SAVED[..3]);
    let labels = host.text(&format!("volumes/{}/labels", full("app", "data")));
    assert!(labels.contains("\"org.example.of\":\"test\""), "{labels}");
    change_one(&host);
    let ended = lab.restore("app", "", &[("include", Variant::from(vec!["volumes/data/deep"]))]).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:?}");
    assert_eq!((live(&host)[0].as_str(), live(&host)[1].as_str()), ("changed\n", "two\n"));
    lab.assert_settled().await;
}

fn change_one(host: &Host) {
    for name in ["one", "deep/two"] {
        std::fs::write(data(host).join(name), "changed\n").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_instance_gets_volumes_of_its_own_there() {
    let host = Host::start();
    let lab = contained(&host).start().await;
    lab.good_backup("b").await;
    let as_second = [("as", Variant::from("app2"))];
    let ended = lab.restore("app", "", &as_second).await;
    if !rustix::process::geteuid().is_root() {
        // A user's volumes have no name of an instance before theirs: they are the first one's.
        assert!(ended.units[0].error.contains("is there already on"), "{ended:?}");
        return;
    }
    // The dump is all of what the first one has.
    assert_eq!(ended.outcome, "warning", "{ended:?}\n{}", lab.daemon.log());
    assert_eq!(read(host.path("volumes/app2-data/_data/deep/two")), "two\n");
    let mut there = names(&host.path("volumes/app2-data/_data"));
    there.sort();
    assert_eq!(there, ["deep", "one"]);
    assert_eq!(mode(host.path("volumes/app2-data/_data")), 0o751);
    assert_eq!(read(data(&host).join("one")), "one\n");
    std::fs::remove_file(lab.path("config/conf.d/app2.toml")).unwrap();
    std::fs::remove_file(lab.path("state/instances/app2")).unwrap();
    let _: Vec<String> = lab.daemon.call("Reload", &()).await.unwrap();
    let ended = lab.restore("app", "", &as_second).await;
    assert!(ended.units[0].error.contains("is there already on"), "{ended:?}");
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_mirrored_or_does_not_run_is_told_and_no_set_is_made() {
    let host = Host::start();
    let lab = contained(&host).start().await;
    let refused = async |words: &[&str]| {
        let ended = lab.backup("b").await;
        assert_eq!(ended.outcome, "failed", "{ended:?}");
        for word in words {
            assert!(ended.units[0].error.contains(word), "{word}: {ended:?}");
        }
        assert_eq!(lab.sets("app").await.len(), 0);
    };
    std::fs::remove_file(host.path("db-runs")).unwrap();
    refused(&["container db is not running"]).await;
    host.write("db-runs", "", 0o644);
    let options = format!("volumes/{}/options", full("app", "data"));
    host.write(&options, "{\"type\":\"nfs\",\"device\":\":/x\",\"o\":\"addr=nas\"}", 0o644);
    refused(&["only volumes of docker's local driver", "\"data\""]).await;
    std::fs::remove_file(host.path(&options)).unwrap();
    // It goes between the question and the mirror.
    let of = full("app", "data");
    host.on_remote(&format!(
        "case $SSH_ORIGINAL_COMMAND in *'rsync --server'*) rm -rf \"$D/volumes/{of}/_data\" ;; esac"
    ));
    refused(&["volume data of", "change_dir"]).await;
    host.let_be();
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_at_any_call_of_a_backup_leaves_no_half_set_and_of_a_restore_no_half_data() {
    let host = Host::start();
    let lab = contained(&host).start().await;
    lab.good_backup("b").await;
    let backup = chosen(&host.calls());
    host.forget_calls();
    lab.good_restore("app").await;
    let restore = chosen(&host.calls());
    assert!(backup.len() > 3 && restore.len() > 8, "{backup:?} {restore:?}");
    let all = backup.into_iter().map(|n| (n, true)).chain(restore.into_iter().map(|n| (n, false)));
    in_lanes(all.collect(), lost).await;
}

async fn lost(calls: Vec<(usize, bool)>) {
    let host = Host::start();
    let kept = "volumes = \"docker\"\nrestore = { keep_previous = \"0s\" }";
    let mut lab = contained(&host).replace("volumes = \"docker\"", kept).start().await;
    lab.good_backup("b").await;
    let mut sets = 1;
    for (n, backup) in calls {
        if !backup {
            change(&host);
        }
        host.forget_calls();
        host.on_remote(&format!("[ $n != {n} ] || kill -9 $PPID"));
        let ended = match backup {
            true => lab.backup("b").await,
            false => lab.restore("app", "", &[]).await,
        };
        let reached = host.calls().len() > n;
        host.let_be();
        let what = format!("call {n} lost, backup: {backup}: {ended:?}\n{}", lab.daemon.log());
        assert!(reached, "{what}");
        sets += usize::from(backup && ended.outcome != "failed");
        assert_eq!(lab.sets("app").await.len(), sets, "{what}");
        if !backup {
            // What could not be removed there goes at the next start.
            if !names(&lab.path("state/undo")).is_empty() {
                lab.daemon.restart_after_kill().await;
                lab.until("all is undone", || names(&lab.path("state/undo")).is_empty()).await;
            }
            let wanted = if ended.outcome == "failed" { CHANGED } else { SAVED };
            assert_eq!(live(&host), wanted, "{what}");
            assert_nothing_in_them(&host, &what);
        }
    }
    lab.assert_settled().await;
}

/// Calls of a restore at which the daemon is killed, before they are done or after.
const MOMENTS: [(&str, bool); 8] = [
    (" sh marks ", false),
    (" sh make ", true),
    ("rsync --server", true),
    (" sh list ", true),
    (" sh swap ", false),
    (" sh swap ", true),
    ("docker exec -i 0123abcd sh -c exec 3", true),
    ("docker exec -i 0123abcd sh -c cat >", true),
];

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_phase_of_a_restore_volumes_and_container_are_as_before() {
    in_lanes(MOMENTS.to_vec(), killed).await;
}

async fn killed(moments: Vec<(&'static str, bool)>) {
    let host = Host::start();
    let mut lab = contained(&host).start().await;
    lab.good_backup("b").await;
    for (part, done) in moments {
        change(&host);
        let does = if done { "/bin/sh -c \"$SSH_ORIGINAL_COMMAND\";" } else { "" };
        host.on_remote(&format!(
            "case ${{SSH_ORIGINAL_COMMAND//\\'/}} in *'{part}'*) {does} : >\"$D/at\"; exec sleep 100000 ;; esac"
        ));
        lab.start_restore("app", "", &[]).await;
        lab.until(part, || host.path("at").exists()).await;
        lab.daemon.kill();
        host.let_be();
        std::fs::remove_file(host.path("at")).unwrap();
        lab.daemon.start_again().await;
        lab.until("all is undone", || names(&lab.path("state/undo")).is_empty()).await;
        let what = format!("{part} {done}\n{}", lab.daemon.log());
        assert_eq!(live(&host), CHANGED, "{what}");
        assert_nothing_in_them(&host, &what);
        assert_eq!(text(&lab.history().await[0], "Outcome"), "interrupted", "{what}");
    }
    lab.good_restore("app").await;
    assert_eq!(live(&host), SAVED);
    lab.assert_settled().await;
}
