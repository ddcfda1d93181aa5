//! Docker, podman, compose and monit that fail: whichever call it is, before or after it did what it was asked, services
//! are as before, and no set is there that should not be. Each of many instances has services of its own in one fake; in
//! instance `iN` the N-th call fails, so one job tries them all at once.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::lab::{Ended, Lab, Setup, Unit};

/// More than any job calls.
const CALLS: usize = 40;

/// Counts calls per instance, by the number at the end of the last argument, and fails at that one. `late`: it does what
/// it was asked before, and only calls that do something count.
const FAULTS: &str = r#"#!/bin/sh
D='@DIR@'
for last; do :; done
k=${last##*-}
how=$(cat "$D/how" 2>/dev/null || echo none)
case "$1 $how" in
stop\ late|start\ late|pause\ late|unpause\ late) echo "$*" >>"$D/asked/$k" ;;
*\ late) how=none ;;
*) echo "$*" >>"$D/asked/$k" ;;
esac
n=$(cat "$D/asked/$k" 2>/dev/null | wc -l)
[ "$how" != first ] || [ "$n" -ne "$k" ] || { echo "told to fail" >&2; exit 9; }
"#;

/// After what was asked is done.
const LATE: &str =
    "[ \"$how\" != late ] || [ \"$n\" -ne \"$k\" ] || { echo \"told to fail\" >&2; exit 9; }\n";

/// Containers are files that say how they stand.
const ENGINE: &str = r#"
name=${last#0123456789ab-}
put() { echo "$1" >"$D/box/$name"; }
case $1 in
container)
    [ -e "$D/box/$name" ] || { echo "Error: No such container: $name" >&2; exit 1; }
    is=$(cat "$D/box/$name") up=false frozen=false
    [ "$is" = exited ] || up=true
    [ "$is" != paused ] || frozen=true
    printf '[{"Id":"0123456789ab-%s","Name":"/%s","Created":"1","State":{"Running":%s,"Paused":%s,"StartedAt":"x"},"Config":{"Labels":{"com.docker.compose.project":"shop-%s","com.docker.compose.service":"%s"}}}]\n' \
        "$name" "$name" $up $frozen "$k" "${name%-*}" ;;
ps) for one in web cold frozen; do echo "0123456789ab-$one-$k"; done ;;
stop) put exited ;;
start|unpause) put running ;;
pause) put paused ;;
*) echo "not understood: $*" >&2; exit 7 ;;
esac
"#;

/// A program per instance: its number is in its name.
const MONIT: &str = r#"
case $1 in
status)
    for one in web cold frozen; do
        is=Monitored
        [ "$(cat "$D/box/$one-$k")" = running ] || is='Not monitored'
        printf "Process '%s'\n  status   OK\n  monitoring status   %s\n\n" "$one" "$is"
    done ;;
stop) echo exited >"$D/box/$2-$k" ;;
start) echo running >"$D/box/$2-$k" ;;
esac
"#;

fn service(manager: &str, k: usize) -> String {
    let own = match manager {
        "compose" => format!("project = \"shop-{k}\""),
        "monit" => format!("binary = \"@DIR@/fake/monit-{k}\""),
        _ => format!("containers = [\"web-{k}\", \"cold-{k}\", \"frozen-{k}\"]"),
    };
    format!("[[instance.i{k}.service]]\nmanager = \"{manager}\"\n{own}\n")
}

/// `CALLS` instances whose services a fake of this manager holds, and a backup `b` of all.
fn setup(manager: &str) -> Setup {
    let mut setup = Setup::new();
    let path = format!("{}:{}", setup.path("fake").display(), std::env::var("PATH").unwrap());
    setup.environment.push(("PATH".into(), path));
    let mut config =
        "[backup.b]\nrepositories = [\"local\"]\ninstances = [\"*\"]\nretry = { attempts = 0 }\n".to_owned();
    for k in 1..=CALLS {
        for (name, state) in [("web", "running"), ("cold", "exited"), ("frozen", frozen(manager))] {
            setup.write(&format!("box/{name}-{k}"), &format!("{state}\n"), 0o644);
        }
        setup.write(&format!("data/{k}/file"), "one\n", 0o644);
        let dir = setup.path("data").join(k.to_string()).display().to_string();
        config +=
            &format!("[instance.i{k}]\nrestore = {{ keep_previous = \"0s\" }}\ninclude = [\"{dir}\"]\n");
        config += &service(manager, k).replace("@DIR@", &setup.path("").display().to_string());
    }
    fs::create_dir(setup.path("asked")).unwrap();
    fakes(&setup, manager);
    setup.config(&config)
}

/// monit knows no pause.
fn frozen(manager: &str) -> &'static str {
    if manager == "monit" { "running" } else { "paused" }
}

fn fakes(setup: &Setup, manager: &str) {
    if manager == "monit" {
        for k in 1..=CALLS {
            let faults = FAULTS.replace("k=${last##*-}", &format!("k={k}"));
            setup.write(&format!("fake/monit-{k}"), &format!("{faults}{MONIT}{LATE}"), 0o755);
        }
        return;
    }
    let program = if manager == "compose" { "docker" } else { manager };
    setup.write(&format!("fake/{program}"), &format!("{FAULTS}{ENGINE}{LATE}"), 0o755);
    fs::set_permissions(setup.path("fake"), fs::Permissions::from_mode(0o755)).unwrap();
}

fn as_before(lab: &Lab, manager: &str, k: usize) -> bool {
    let is = |name: &str| lab.text(&format!("box/{name}-{k}")).trim().to_owned();
    [is("web"), is("cold"), is("frozen")] == ["running", "exited", frozen(manager)]
}

fn asked(lab: &Lab, k: usize) -> usize {
    lab.text(&format!("asked/{k}")).lines().count()
}

fn forget_calls(lab: &Lab, how: &str) {
    (1..=CALLS).for_each(|k| drop(fs::remove_file(lab.path(&format!("asked/{k}")))));
    lab.write("how", how, 0o644);
}

/// Waits until all is as before, also what was tried on.
async fn settled(lab: &Lab, manager: &str, how: &str) {
    for k in 1..=CALLS {
        lab.until(&format!("{manager} {how} {k}: as before"), || as_before(lab, manager, k)).await;
    }
    lab.until("undo steps are closed", || crate::lab::names(&lab.path("state/undo")).is_empty()).await;
    lab.assert_settled().await;
}

/// Whether the N-th call of a job failed and was not made up for: an engine is told once more what it refused to do.
fn failed(lab: &Lab, manager: &str, k: usize) -> bool {
    let told = |call: &str| ["stop ", "start ", "unpause "].iter().any(|verb| call.starts_with(verb));
    let text = lab.text(&format!("asked/{k}"));
    text.lines().nth(k - 1).is_some_and(|call| manager == "monit" || !told(call))
}

/// One unit whose N-th call failed, if it made so many.
fn judge(lab: &Lab, unit: &Unit, k: usize, manager: &str, what: &str) {
    let failed = failed(lab, manager, k);
    let what = format!("{what} call {k}: {unit:?}\n{}", lab.text(&format!("asked/{k}")));
    assert_eq!(unit.outcome != "succeeded", failed, "{what}\n{}", lab.daemon.log());
    assert!(!failed || unit.outcome == "warning" || unit.snapshot.is_empty(), "{what}");
}

/// The end of a job that works on all instances: that takes longer than anything else here on a busy machine.
async fn ended(lab: &Lab, job: &str) -> Ended {
    for _ in 0..60_000 {
        let outcome: String = lab.daemon.property(job, "Job", "Outcome").await;
        if !outcome.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    lab.ended(job).await
}

async fn backups(manager: &str) {
    let lab = setup(manager).start().await;
    for how in ["first", "late"] {
        forget_calls(&lab, how);
        let job = lab.daemon.run_backup("b").await;
        let ended = ended(&lab, &job).await;
        // What an engine did before it failed to say so is found out.
        let outcome = if how == "late" && manager != "monit" { "warning" } else { "failed" };
        let seen = (ended.units.len(), ended.outcome.as_str());
        assert_eq!(seen, (CALLS, outcome), "{manager} {how}: {ended:?}");
        settled(&lab, manager, how).await;
        for unit in &ended.units {
            let k: usize = unit.instance[1..].parse().unwrap();
            judge(&lab, unit, k, manager, &format!("{manager} {how}"));
            let sets = lab.sets(&unit.instance).await.len();
            assert!(unit.outcome != "failed" || how == "late" || sets == 0, "{unit:?}");
        }
        let most = (1..=CALLS).map(|k| asked(&lab, k)).max().unwrap();
        let least = if how == "first" { 10 } else { 3 };
        assert!((least..CALLS).contains(&most), "{manager} {how}: {most} calls were tried");
    }
}

async fn restores(manager: &str) {
    let lab = setup(manager).start().await;
    let job = lab.daemon.run_backup("b").await;
    assert_eq!(ended(&lab, &job).await.outcome, "succeeded", "{}", lab.daemon.log());
    for how in ["first", "late"] {
        for k in 1..=CALLS {
            lab.write(&format!("data/{k}/file"), "newer\n", 0o644);
        }
        forget_calls(&lab, how);
        let mut jobs = Vec::new();
        for k in 1..=CALLS {
            jobs.push(lab.start_restore(&format!("i{k}"), "", &[]).await);
        }
        let mut all = Vec::new();
        for job in &jobs {
            all.push(ended(&lab, job).await);
        }
        settled(&lab, manager, how).await;
        for (at, ended) in all.iter().enumerate() {
            let (k, what) = (at + 1, format!("{manager} {how}: {ended:?}"));
            let failed = failed(&lab, manager, k);
            assert_eq!(ended.outcome != "succeeded", failed, "{k} {what}\n{}", lab.daemon.log());
            let text = lab.text(&format!("data/{k}/file"));
            assert_eq!(text == "newer\n", ended.outcome == "failed", "{what}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_call_of_docker_fails_in_a_backup_its_containers_are_as_before() {
    backups("docker").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_call_of_podman_fails_in_a_backup_its_containers_are_as_before() {
    backups("podman").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_call_of_compose_fails_in_a_backup_its_containers_are_as_before() {
    backups("compose").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_call_of_monit_fails_in_a_backup_its_processes_are_as_before() {
    backups("monit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_call_of_docker_fails_in_a_restore_all_is_as_before_or_restored() {
    restores("docker").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_call_of_compose_fails_in_a_restore_all_is_as_before_or_restored() {
    restores("compose").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_call_of_monit_fails_in_a_restore_all_is_as_before_or_restored() {
    restores("monit").await;
}
