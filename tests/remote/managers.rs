//! Units of another machine's systemd, and its containers. The real systemd is asked in a booted machine
//! (`tests/system/cases`); here programs can be led astray: each notes its calls in `calls`, and the call whose number is in
//! `fails-at` fails before it has done anything.

use crate::far::{chosen, files, in_lanes};
use crate::host::Host;
use crate::lab::{Lab, Setup, names};

/// How both begin.
const FAULTS: &str = r#"#!/bin/bash
D='@DIR@'
n=$(cat "$D/calls" 2>/dev/null | wc -l)
echo "$*" >>"$D/calls"
[ "$(cat "$D/fails-at" 2>/dev/null)" != "$n" ] || { echo "told to fail" >&2; exit 1; }
"#;

/// Units are files: `load-UNIT` says how it is loaded, `active-UNIT` that it runs.
const SYSTEMCTL: &str = r#"
verb= names=()
for word; do
    case $word in -*) ;; *) if [ -z "$verb" ]; then verb=$word; else names+=("$word"); fi ;; esac
done
case $verb in
show)
    first=1
    for name in "${names[@]}"; do
        [ -n "$first" ] || echo
        first='' active=inactive sub=dead load=not-found by=
        if [ -e "$D/active-$name" ]; then active=active sub=running; fi
        [ ! -e "$D/load-$name" ] || load=$(cat "$D/load-$name")
        [ "$name" != app.service ] || by=app.socket
        printf '%s\n' Type=simple "TriggeredBy=$by" RequiredBy= "Id=$name" "LoadState=$load" "ActiveState=$active" \
            "SubState=$sub" "InvocationID=$(cat "$D/active-$name" 2>/dev/null)"
    done ;;
start) echo "start ${names[*]}" >>"$D/did"; echo "$n" >"$D/active-${names[0]}" ;;
stop) echo "stop ${names[*]}" >>"$D/did"; rm -f "$D/active-${names[0]}" ;;
esac
"#;

/// An instance `app` there, with app.service, which app.socket would start.
fn units(host: &Host) -> Setup {
    host.write("bin/systemctl", &format!("{FAULTS}{SYSTEMCTL}"), 0o755);
    for name in ["app.service", "app.socket"] {
        host.write(&format!("load-{name}"), "loaded", 0o644);
        host.write(&format!("active-{name}"), "1\n", 0o644);
    }
    files(host).config("[[instance.app.service]]\nmanager = \"systemd\"\nunits = [\"app.service\"]\nrequire_healthy = true\n")
}

fn both_run(host: &Host) -> bool {
    host.path("active-app.service").exists() && host.path("active-app.socket").exists()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_is_stopped_with_what_would_start_it_and_only_what_ran_is_started() {
    let host = Host::start();
    let lab = units(&host).start().await;
    host.on_remote("case $SSH_ORIGINAL_COMMAND in *'rsync --server'*) ls \"$D\" >\"$D/during\" ;; esac");
    lab.good_backup("b").await;
    assert!(!host.text("during").contains("active-"), "{}", host.text("during"));
    let order = "stop app.socket\nstop app.service\nstart app.socket\nstart app.service\n";
    assert_eq!((host.text("did").as_str(), both_run(&host)), (order, true));

    std::fs::remove_file(host.path("did")).unwrap();
    host.write("load-app.service", "masked", 0o644);
    refused(&lab, "app.service is masked").await;
    std::fs::remove_file(host.path("load-app.service")).unwrap();
    refused(&lab, "knows no unit app.service").await;
    host.write("load-app.service", "loaded", 0o644);
    std::fs::remove_file(host.path("active-app.service")).unwrap();
    refused(&lab, "app.service is not healthy").await;
    assert_eq!(host.text("did"), "", "nothing was touched");
    lab.assert_settled().await;
}

async fn refused(lab: &Lab, words: &str) {
    let ended = lab.backup("b").await;
    assert_eq!(ended.outcome, "failed", "{ended:?}");
    assert!(ended.units[0].error.contains(words), "{ended:?}");
}

/// What is on a host, and whether it is as before.
#[derive(Clone, Copy)]
struct What {
    made: fn(&Host) -> Setup,
    as_before: fn(&Host) -> bool,
}

const UNITS: What = What { made: units, as_before: both_run };
const PROJECT: What = What { made: |host| containers(host, "compose"), as_before: boxes };

#[tokio::test(flavor = "multi_thread")]
async fn whichever_call_of_systemctl_fails_the_units_run_again() {
    each_call_fails(UNITS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_call_of_docker_fails_the_containers_of_a_project_are_as_before() {
    each_call_fails(PROJECT).await;
}

async fn each_call_fails(what: What) {
    let host = Host::start();
    let lab = (what.made)(&host).start().await;
    lab.good_backup("b").await;
    let calls: Vec<String> = host.text("calls").lines().map(str::to_owned).collect();
    assert!(calls.len() > 10, "{calls:?}");
    in_lanes(chosen(&calls), |calls| failed(what, calls)).await;
}

/// Lets these calls of a backup fail, one after the other.
async fn failed(what: What, calls: Vec<usize>) {
    let host = Host::start();
    let lab = (what.made)(&host).start().await;
    let mut sets = 0;
    for n in calls {
        let _ = std::fs::remove_file(host.path("calls"));
        host.write("fails-at", &n.to_string(), 0o644);
        let ended = lab.backup("b").await;
        let told = format!("call {n}: {ended:?}\n{}\n{}", host.text("calls"), lab.daemon.log());
        lab.until(&format!("{told}: as before"), || (what.as_before)(&host)).await;
        match ended.outcome.as_str() {
            "failed" => assert!(ended.units[0].error.contains("told to fail"), "{told}"),
            // It failed when they were started again: that is repeated.
            "succeeded" | "warning" => sets += 1,
            _ => panic!("{told}"),
        }
        assert_eq!(lab.sets("app").await.len(), sets, "{told}");
    }
    lab.until("all undo steps are done", || names(&lab.path("state/undo")).is_empty()).await;
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn units_that_were_stopped_when_the_daemon_was_killed_are_started() {
    let host = Host::start();
    let mut lab = units(&host).start().await;
    host.on_remote(
        "case $SSH_ORIGINAL_COMMAND in *'rsync --server'*) : >\"$D/at\"; exec sleep 100000 ;; esac",
    );
    lab.daemon.run_backup("b").await;
    lab.until("it mirrors", || host.path("at").exists()).await;
    assert!(!host.path("active-app.service").exists() && !host.path("active-app.socket").exists());
    lab.daemon.kill();
    host.let_be();
    lab.daemon.start_again().await;
    lab.until("both run", || both_run(&host)).await;
    lab.until("all undo steps are done", || names(&lab.path("state/undo")).is_empty()).await;
    lab.assert_settled().await;
}

/// Containers are files `box-NAME` that say how they stand.
const ENGINE: &str = r#"
name=${!#}; name=${name#0123456789ab-}
put() { echo "$1 $name" >>"$D/did"; echo "$2" >"$D/box-$name"; }
case $1 in
container)
    [ -e "$D/box-$name" ] || { echo "Error: No such container: $name" >&2; exit 1; }
    is=$(cat "$D/box-$name") up=false frozen=false
    [ "$is" = exited ] || up=true
    [ "$is" != paused ] || frozen=true
    printf '[{"Id":"0123456789ab-%s","Name":"/%s","Created":"1","State":{"Running":%s,"Paused":%s,"StartedAt":"x"},"Config":{"Labels":{"com.docker.compose.project":"shop","com.docker.compose.service":"%s"}}}]\n' \
        "$name" "$name" $up $frozen "$name" ;;
ps) for one in web cold frozen; do echo "0123456789ab-$one"; done ;;
stop) put stop exited ;;
start|unpause) put "$1" running ;;
pause) put pause paused ;;
*) echo "not understood: $*" >&2; exit 7 ;;
esac
"#;

/// Three containers there, of which one does not run and one is paused.
fn containers(host: &Host, manager: &str) -> Setup {
    for program in ["docker", "podman"] {
        host.write(&format!("bin/{program}"), &format!("{FAULTS}{ENGINE}"), 0o755);
    }
    for (name, state) in [("web", "running"), ("cold", "exited"), ("frozen", "paused")] {
        host.write(&format!("box-{name}"), &format!("{state}\n"), 0o644);
    }
    let own = match manager {
        "compose" => "project = \"shop\"",
        _ => "containers = [\"web\", \"cold\", \"frozen\"]",
    };
    files(host).config(&format!("[[instance.app.service]]\nmanager = \"{manager}\"\n{own}\n"))
}

fn boxes(host: &Host) -> bool {
    let is = |name: &str| host.text(&format!("box-{name}")).trim().to_owned();
    [is("web"), is("cold"), is("frozen")] == ["running", "exited", "paused"]
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_every_manager_are_stopped_and_as_before_afterwards() {
    for manager in ["docker", "podman", "compose"] {
        let host = Host::start();
        let lab = containers(&host, manager).start().await;
        host.on_remote(
            "case $SSH_ORIGINAL_COMMAND in *'rsync --server'*) cat \"$D\"/box-* >\"$D/during\" ;; esac",
        );
        lab.good_backup("b").await;
        let what = format!("{manager}: {}\n{}", host.text("did"), lab.daemon.log());
        assert_eq!(host.text("during"), "exited\nexited\nexited\n", "{what}");
        assert!(boxes(&host) && !host.text("did").contains("start cold"), "{what}");
        lab.assert_settled().await;
    }
}
