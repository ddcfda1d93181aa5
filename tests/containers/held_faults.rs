//! The same with an engine that fails: a fake `docker` whose volume is a directory, and which fails at every call in turn.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use crate::lab::{Lab, Setup};

/// Notes each call in `asked`; fails at the call that `fail` names, once; `on-out` and `on-in` are pieces of shell that a
/// stream comes from, or goes to.
const DOCKER: &str = r#"#!/bin/sh
D='@DIR@'
number=$(($(cat "$D/asked" 2>/dev/null || echo 0) + 1))
echo $number >"$D/asked"
if [ "$(cat "$D/fail" 2>/dev/null)" = $number ]; then
    echo "$1 $2" >"$D/failed"
    echo "Error response from daemon: injected" >&2
    exit 125
fi
case "$*" in
    "volume inspect app-far") printf '[{"Name":"app-far","Driver":"cloud","Mountpoint":"","Options":{"tier":"cold"}}]\n' ;;
    "rm --force holdfast-app-far") ;;
    "ps --all"*) echo c1 ;;
    "container inspect"*|"image ls"*) echo sha256:1 ;;
    "run --rm"*--create*)
        [ ! -e "$D/on-out" ] || . "$D/on-out"
        exec tar --create --file=- --directory="$D/far" --format=posix --numeric-owner . ;;
    "run --rm"*--extract*)
        [ ! -e "$D/on-in" ] || . "$D/on-in"
        find "$D/far" -mindepth 1 -delete
        exec tar --extract --file=- --totals --directory="$D/far" --preserve-permissions --same-owner --numeric-owner ;;
    *) echo "unexpected: $*" >&2; exit 1 ;;
esac
"#;

async fn lab(more: &str) -> Lab {
    assert!(rustix::process::geteuid().is_root(), "this test must be run as root");
    let mut setup = Setup::new();
    setup.write("fake/docker", DOCKER, 0o755);
    let path = std::env::var("PATH").unwrap();
    setup.environment.retain(|(name, _)| name != "PATH");
    setup.environment.push(("PATH".into(), format!("{}:{path}", setup.path("fake").display())));
    setup.write("far/deep/own", "one\n", 0o640);
    setup.write("data/file", "one\n", 0o640);
    chown(setup.path("far/deep/own"), Some(7), Some(8)).unwrap();
    let config = "[backup.b]\nrepositories = [\"local\"]\ninstances = [\"app\"]\nretry = { attempts = 0 }\n\
                  [instance.app]\nvolumes = \"docker\"\ninclude = [\"volumes/far\", \"@DIR@/data\"]\n";
    setup.config(&format!("{config}{more}")).start().await
}

/// What lives: the names and the contents of both.
fn lives(lab: &Lab) -> [String; 4] {
    let names = |dir: &str| {
        let mut names = crate::lab::names(&lab.path(dir));
        names.sort();
        names.join(" ")
    };
    [names("far"), lab.text("far/deep/own"), lab.text("far/since"), lab.text("data/file")]
}

fn change(lab: &Lab) {
    lab.write("far/deep/own", "two\n", 0o600);
    lab.write("far/since", "new\n", 0o600);
    lab.write("data/file", "two\n", 0o600);
}

/// Forgets the calls, and fails at this one.
fn fail_at(lab: &Lab, call: usize) {
    let _ = fs::remove_file(lab.path("asked"));
    let _ = fs::remove_file(lab.path("failed"));
    lab.write("fail", &call.to_string(), 0o644);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: owners of a volume are kept"]
async fn system_an_engine_that_fails_at_any_call_makes_no_set_and_changes_no_volume() {
    let lab = lab("restore = { keep_previous = \"0s\" }\n").await;
    for call in 1.. {
        assert!(call < 30, "it never ends well");
        fail_at(&lab, call);
        let ended = lab.backup("b").await;
        if !lab.path("failed").exists() {
            assert_eq!(ended.outcome, "succeeded", "{ended:?}");
            break;
        }
        // What only clears the way may fail.
        let harmless = ["rm --force\n", "container inspect\n"].contains(&lab.text("failed").as_str());
        let sets = usize::from(ended.outcome == "succeeded");
        assert_eq!(sets, usize::from(harmless), "call {call}, {}: {ended:?}", lab.text("failed"));
    }
    change(&lab);
    let before = lives(&lab);
    for call in 1.. {
        assert!(call < 60, "it never ends well");
        fail_at(&lab, call);
        let ended = lab.restore("app", "", &[]).await;
        if ended.outcome == "succeeded" {
            if lab.path("failed").exists() {
                change(&lab);
                continue;
            }
            break;
        }
        assert_eq!(ended.outcome, "failed", "call {call}");
        assert_eq!(
            lives(&lab),
            before,
            "call {call}, {}: {ended:?}\n{}",
            lab.text("failed"),
            lab.daemon.log()
        );
        lab.assert_settled().await;
    }
    assert_eq!(lives(&lab), ["deep", "one\n", "", "one\n"]);
    let meta = fs::metadata(lab.path("far/deep/own")).unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o640);
    a_part(&lab).await;
}

/// A restore of something else leaves the volume alone, one of a part of it leaves the rest.
async fn a_part(lab: &Lab) {
    change(lab);
    let _ = fs::remove_file(lab.path("asked"));
    lab.write("fail", "0", 0o644);
    let file = format!("files{}", lab.path("data/file").display());
    let ended = lab.restore("app", "", &[("include", vec![file].into())]).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:?}\n{}", lab.daemon.log());
    assert_eq!(lives(lab), ["deep since", "two\n", "new\n", "one\n"]);
    let ended = lab.restore("app", "", &[("include", vec!["volumes/far/deep".to_owned()].into())]).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:?}\n{}", lab.daemon.log());
    assert_eq!(lives(lab), ["deep since", "one\n", "new\n", "one\n"]);
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: owners of a volume are kept"]
async fn system_a_stream_of_a_volume_that_is_cut_off_makes_no_set() {
    let lab = lab("").await;
    fs::write(lab.path("far/large"), vec![b'x'; 100_000]).unwrap();
    let stream = "tar --create --file=- --directory=\"$D/far\" .";
    let cases = [
        // Between two members, in the middle of one, not even one; and a whole one of a helper that failed.
        (format!("{stream} | head --bytes=1024; exit 0"), "cut off"),
        (format!("{stream} | head --bytes=60000; exit 0"), "cut off"),
        ("exit 0".to_owned(), "empty"),
        (format!("{stream}; echo tar: cannot read >&2; exit 2"), "cannot read"),
        (format!("{stream}; echo no such image >&2; exit 125"), "no such image"),
    ];
    for (shell, why) in cases {
        lab.on("out", &shell);
        let ended = lab.backup("b").await;
        assert_eq!(ended.outcome, "failed", "{shell}: {ended:?}");
        assert!(ended.error.contains(why), "{shell}: {ended:?}");
        assert_eq!(lab.sets("app").await.len(), 0, "{shell}");
    }
    // A file that changes meanwhile is told, and its tar is whole.
    lab.on("out", &format!("{stream}; echo 'tar: ./large: file changed as we read it' >&2; exit 1"));
    let ended = lab.backup("b").await;
    assert_eq!(ended.outcome, "warning", "{ended:?}");
    assert!(ended.error.contains("changed while it was read"), "{ended:?}");
    assert_eq!(lab.sets("app").await.len(), 1);
    lab.remove("on-out");
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: owners of a volume are kept"]
async fn system_a_volume_that_takes_only_a_part_is_told_and_gets_its_old_data_back() {
    let lab = lab("").await;
    lab.good_backup("b").await;
    change(&lab);
    let before = lives(&lab);
    // It takes less than was sent, and says that all is well; once.
    lab.on(
        "in",
        "rm \"$D/on-in\"; find \"$D/far\" -mindepth 1 -delete; head --bytes=1024 >/dev/null; \
                  echo 'Total bytes read: 1024 (1KiB, 1MiB/s)' >&2; cat >/dev/null; exit 0",
    );
    let ended = lab.restore("app", "", &[]).await;
    assert_eq!(ended.outcome, "failed", "{ended:?}");
    assert!(ended.error.contains("were sent and") && ended.error.contains("old data is back"), "{ended:?}");
    assert_eq!(lives(&lab), before);
    lab.assert_settled().await;
    // It never takes anything any more: the next start tries again, with what is still kept.
    lab.on("in", "cat >/dev/null; echo 'no space left' >&2; exit 2");
    let ended = lab.restore("app", "", &[]).await;
    assert_eq!(ended.outcome, "failed", "{ended:?}");
    assert!(
        ended.error.contains("no space left") && ended.error.contains("when holdfastd starts"),
        "{ended:?}"
    );
    fs::remove_dir_all(lab.path("far/deep")).unwrap();
    lab.remove("on-in");
    let mut lab = lab;
    lab.daemon.restart_after_kill().await;
    lab.until("the old data is back", || lives(&lab) == before).await;
    lab.until("the undo steps are closed", || crate::lab::names(&lab.path("state/undo")).is_empty()).await;
    assert!(!lab.daemon.log().contains("left as it is"), "the undo steps remove it: {}", lab.daemon.log());
    lab.assert_settled().await;
}
