//! Programs that stand for restic and misbehave.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use holdfast::restic::{Error, Restic};

use crate::lab::{Lab, program, script};

const VERSION: &str = "[ \"$1\" = version ] && { echo restic 0.18.0 compiled with go; exit; }\n";

/// A lab whose restic is a script; it answers `version` by itself.
async fn faked(body: &str) -> (Lab, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = script(dir.path(), "restic", &format!("{VERSION}{body}"));
    (Lab::with(Restic::probe(&path).await.unwrap(), None), dir)
}

#[tokio::test]
async fn success_without_a_result_is_a_failure() {
    for body in ["exit 0", "echo '{\"message_type\":\"summary\"'", "echo '{\"message_type\":\"summary\"}'"] {
        let (lab, _dir) = faked(body).await;
        let error = lab.backup(&["hello"]).await.unwrap_err();
        assert!(matches!(error, Error::NoSummary), "{body}: {error:?}");
    }
}

#[tokio::test]
async fn unknown_exit_codes_are_failures() {
    let (lab, _dir) = faked("echo oh dear >&2; exit 77").await;
    let error = lab.backup(&["hello"]).await.unwrap_err();
    assert!(matches!(&error, Error::Unknown { code: 77, stderr } if stderr == "oh dear"), "{error:?}");
    assert_eq!(error.to_string(), "restic failed with code 77: oh dear");
}

#[tokio::test]
async fn a_flood_of_messages_leaves_a_short_error() {
    let (lab, _dir) = faked("yes 'some message or other' | head -c 200000000 >&2; exit 1").await;
    let error = lab.backup(&["hello"]).await.unwrap_err();
    assert!(
        matches!(error, Error::Unknown { code: 1, .. }) && error.to_string().len() < 8 << 10,
        "{error:?}"
    );
    let rss = fs::read_to_string("/proc/self/status").unwrap();
    let peak = rss.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB");
    assert!(peak.parse::<u64>().unwrap() < 600 << 10, "peak memory {peak} kB");
}

#[tokio::test]
async fn garbage_between_messages_is_survived() {
    let summary = r#"{"message_type":"summary","files_new":1,"files_changed":0,"files_unmodified":0,"data_added":1,"total_files_processed":1,"total_bytes_processed":5,"snapshot_id":"0123456789abcdef"}"#;
    let body = format!(
        "printf '\\377\\376{{\"message_type\":\"sta\\n'; head -c 10000000 /dev/zero | tr '\\0' x; echo; \
         printf '\\033[2K\\377' >&2; printf '%s' '{summary}'"
    );
    let (lab, _dir) = faked(&body).await;
    let made = lab.backup(&["hello"]).await.unwrap();
    assert_eq!(made.snapshot_id, "0123456789abcdef");
}

#[tokio::test]
async fn a_program_that_hangs_on_version_does_not_block() {
    let dir = tempfile::tempdir().unwrap();
    let path = script(dir.path(), "restic", "sleep 1000");
    let began = Instant::now();
    let error = Restic::probe(&path).await.unwrap_err();
    assert!(error.to_string().contains("within 10 s"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn what_is_no_restic_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let old = script(dir.path(), "old", "echo restic 0.13.1 compiled with go");
    let error = Restic::probe(&old).await.unwrap_err();
    assert_eq!(error.to_string(), "restic 0.13.1 is too old, at least 0.14.0 is needed");
    let other = script(dir.path(), "other", "echo borg 1.2.3");
    assert!(matches!(Restic::probe(&other).await, Err(Error::NotRestic { .. })));
    let failing = script(dir.path(), "failing", "echo restic 0.18.0; exit 1");
    assert!(matches!(Restic::probe(&failing).await, Err(Error::NotRestic { .. })));
    assert!(matches!(Restic::probe(Path::new("/no/restic")).await, Err(Error::NotFound(_))));
    assert!(matches!(Restic::probe(Path::new("no-such-restic")).await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn a_replaced_program_is_asked_again_and_a_removed_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let count = dir.path().join("count");
    let body = |v: &str| format!("echo x >> {}; echo restic {v} compiled", count.display());
    let path = script(dir.path(), "restic", &body("0.18.0"));
    let first = Restic::probe(&path).await.unwrap();
    assert_eq!(Restic::probe(&path).await.unwrap(), first);
    assert_eq!(fs::read_to_string(&count).unwrap(), "x\n", "asked once");
    let newer = script(dir.path(), "newer", &body("0.19.1"));
    fs::rename(newer, &path).unwrap();
    assert_eq!(Restic::probe(&path).await.unwrap().version().to_string(), "0.19.1");
    fs::remove_file(&path).unwrap();
    let lab = Lab::with(first, None);
    let error = lab.backup(&["hello"]).await.unwrap_err();
    assert!(matches!(&error, Error::NotFound(p) if *p == path), "{error:?}");
}

/// A restic that writes each of its calls down.
async fn counted() -> (Lab, tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let calls = dir.path().join("calls");
    let real = program("0.18");
    let body = format!("{VERSION}echo \"$1\" >> {}; exec {} \"$@\"", calls.display(), real.display());
    let path = script(dir.path(), "restic", &body);
    (Lab::with(Restic::probe(&path).await.unwrap(), None).initialised().await, dir, calls)
}

#[tokio::test]
async fn a_backup_is_one_process() {
    let (lab, _dir, calls) = counted().await;
    lab.backup(&["hello"]).await.unwrap();
    assert_eq!(fs::read_to_string(calls).unwrap(), "init\nbackup\n");
}

#[tokio::test]
async fn nothing_to_forget_is_no_process() {
    let (lab, _dir, calls) = counted().await;
    lab.restic.forget(&lab.access, &[], &lab.terms).await.unwrap();
    assert_eq!(fs::read_to_string(calls).unwrap(), "init\n");
}

/// Locks of another host, in the times that restic itself would tell: a lock cannot be made old, so this restic is a fake.
async fn locked_since(age: Duration, allowed: Option<Duration>) -> (Result<(), Error>, bool) {
    let time = jiff::Timestamp::now().checked_sub(age).unwrap();
    let id = "ab".repeat(32);
    let lock = format!(
        "{{\"time\":\"{time}\",\"exclusive\":true,\"hostname\":\"elsewhere\",\"username\":\"root\",\"pid\":7}}"
    );
    let dir = tempfile::tempdir().unwrap();
    let gone = dir.path().join("gone");
    let (gone_text, said) =
        (gone.display(), "unable to create lock in backend: repository is already locked");
    let body = format!(
        "case \"$*\" in *'list locks'*) echo {id};; *'cat lock'*) echo '{lock}';; *unlock*) touch '{gone_text}';; \
         *) [ -e '{gone_text}' ] || {{ echo '{said} exclusively by PID 7 on elsewhere by root (UID 0, GID 0)' >&2; exit 11; }};; esac"
    );
    let (mut lab, _script) = faked(&body).await;
    lab.access.unlock_foreign_after = allowed;
    let done = lab.restic.prune(&lab.access, "10%", &lab.terms).await;
    (done, gone.exists())
}

#[tokio::test]
async fn l03_an_old_foreign_lock_goes_only_where_the_definition_allows_its_age() {
    let hours = |n: u64| Duration::from_secs(n * 3600);
    for (age, allowed, goes) in [
        (hours(5), None, false),
        (hours(5), Some(hours(3)), true),
        (hours(5), Some(hours(6)), false),
        (Duration::from_secs(600), Some(hours(3)), false),
    ] {
        let (done, gone) = locked_since(age, allowed).await;
        assert_eq!((done.is_ok(), gone), (goes, goes), "{age:?} {allowed:?}: {done:?}");
    }
}
