//! What users see of sets with streams, and what streams cost.
#![expect(clippy::disallowed_methods, reason = "tests start real programs themselves")]

use std::fs;
use std::process::{Command, Output};

use super::lab::{SECOND, text};
use super::*;
use crate::support::{stderr, stdout};

/// An instance `app` with a file and a streamed dump of what `script` prints, backed up into `more` besides `local`.
fn printed(version: &str, repositories: &str) -> Setup {
    let setup = Setup::with_restic(version);
    setup.write("data/file", "one\n", 0o644);
    setup.config(SECOND).config(&format!(
        "[backup.b]\nrepositories = [{repositories}]\ninstances = [\"app\"]\n\
         [instance.app]\nrestore = {{ keep_previous = \"0s\" }}\ninclude = [\"@DIR@/data\"]\n\
         [[instance.app.dump]]\nsource = \"command\"\nname = \"index\"\nstream = true\n\
         command = [\"bash\", \"-c\", \". @DIR@/script\"]\nrestore = [\"sh\", \"-c\", \"cat >@DIR@/index\"]\n"
    ))
}

fn client(lab: &Lab, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command.env_clear().env("PATH", search_path()).env("HOME", lab.path("state"));
    for (name, place) in [("CONFIG", "config"), ("STATE", "state"), ("CACHE", "cache")] {
        command.env(format!("HOLDFAST_{name}"), lab.path(place));
    }
    command.env("HOLDFAST_BUS", &lab.bus.address).args(words).output().unwrap()
}

#[track_caller]
fn good(lab: &Lab, words: &[&str]) -> String {
    let said = client(lab, words);
    assert!(said.status.success(), "{words:?}: {}{}", stdout(&said), stderr(&said));
    stdout(&said)
}

#[tokio::test]
async fn a_set_with_streams_is_looked_into_exported_and_taken_in_like_any_other() {
    let mut lab = printed("0.18", "\"local\", \"second\"").start().await;
    // A size that fills no block.
    lab.write("script", "head -c 1300000 /dev/zero; echo end", 0o644);
    lab.good_backup("b").await;
    let data = format!("files{}", lab.path("data").display());
    let listed = good(&lab, &["ls", "app"]);
    assert!(
        listed.contains("/dumps/index/dump\n") && listed.contains(&format!("/{data}/file\n")),
        "{listed}"
    );
    assert_eq!(good(&lab, &["ls", "app", "dumps"]).trim(), "/dumps/index/dump");
    assert!(!good(&lab, &["ls", "app", &data]).contains("dumps"));
    for line in good(&lab, &["--json", "ls", "app", "dumps"]).lines() {
        let _: serde_json::Value = serde_json::from_str(line).unwrap();
    }
    assert!(good(&lab, &["find", "app", "dump"]).contains("dump"));
    let found: serde_json::Value =
        serde_json::from_str(&good(&lab, &["--json", "find", "app", "dump"])).unwrap();
    assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
    for repository in ["local", "second"] {
        let all = client(&lab, &["cat", "app", "--repository", repository, "dumps/index/dump"]);
        assert!(all.stdout.len() == 1_300_004 && all.stdout.ends_with(b"end\n"), "{}", stderr(&all));
    }
    let archive = lab.path("out.tar.gz");
    good(&lab, &["export", "app", archive.to_str().unwrap()]);
    let into = lab.path("unpacked");
    fs::create_dir(&into).unwrap();
    let tar = Command::new("tar").arg("-xpf").arg(&archive).arg("-C").arg(&into).output().unwrap();
    assert!(tar.status.success() && stderr(&tar).is_empty(), "{}", stderr(&tar));
    assert_eq!(fs::metadata(into.join("dumps/index/dump")).unwrap().len(), 1_300_004);
    assert_eq!(fs::read_to_string(into.join(&data).join("file")).unwrap(), "one\n");
    good(&lab, &["import", archive.to_str().unwrap(), "--instance", "app"]);
    for snapshot in ["kind=stream", "kind=tree"] {
        let forgotten = lab
            .restic("repo2", &["forget", "--tag", snapshot, "--keep-last", "0", "--unsafe-allow-remove-all"]);
        assert!(forgotten.status.success(), "{}", stderr(&forgotten));
    }
    // What was taken in is a set of its own and needs no stream.
    let streams = lab
        .restic("repo", &["forget", "--tag", "kind=stream", "--unsafe-allow-remove-all", "--keep-last", "0"]);
    assert!(streams.status.success(), "{}", stderr(&streams));
    let sets = lab.sets("app").await;
    let imported = sets.iter().find(|set| text(set, "backup") == "(import)").unwrap();
    let ended = lab.restore("app", &text(imported, "id"), &[]).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", lab.daemon.log());
    assert_eq!(fs::metadata(lab.path("index")).unwrap().len(), 1_300_004);
    // Without a daemon as well.
    lab.write("script", "echo streamed", 0o644);
    assert_eq!(lab.backup("b").await.outcome, "warning", "it has shrunk");
    lab.daemon.kill();
    good(&lab, &["restore", "app", "--no-daemon", "--yes"]);
    assert_eq!(lab.text("index"), "streamed\n");
}

#[tokio::test]
async fn a_dump_that_works_in_silence_stalls_nobody() {
    for version in ["0.14", "0.18", "0.19"] {
        let setup = printed(version, "\"local\", \"second\"");
        let lab = setup.replace("[instance.app]\n", "[instance.app]\nstall_timeout = \"6s\"\n").start().await;
        lab.write(
            "script",
            "echo a; end=$((SECONDS + 9)); while ((SECONDS < end)); do :; done; echo b",
            0o644,
        );
        lab.good_backup("b").await;
        lab.good_restore("app").await;
        assert_eq!(lab.text("index"), "a\nb\n", "{version}");
    }
}

/// The largest size that a process ever had in memory, in KiB.
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// 256 MiB, or with `HOLDFAST_SOAK` 5 GiB; nothing of it is ever on our disk but in the repositories.
#[tokio::test]
async fn a_large_stream_needs_no_more_memory_than_a_small_one_and_no_disk() {
    let mib = if std::env::var_os("HOLDFAST_SOAK").is_some() { 5 << 10 } else { 256 };
    let lab = printed("0.18", "\"local\", \"second\"").start().await;
    lab.write("script", "echo small", 0o644);
    lab.good_backup("b").await;
    let before = peak(lab.daemon.pid());
    let staging = lab.path("staging").display().to_string();
    let script =
        format!("head -c {mib}M /dev/zero; du -s --apparent-size --block-size=1 {staging} >@DIR@/staged");
    lab.write("script", &script, 0o644);
    lab.good_backup("b").await;
    let after = peak(lab.daemon.pid());
    assert!(after < before + (16 << 10), "{before} KiB, then {after} KiB");
    let staged: u64 = lab.text("staged").split_whitespace().next().unwrap().parse().unwrap();
    assert!(staged < 1 << 20, "{staged} bytes are staged");
    assert_eq!(u64::try_from(lab.sets("app").await[0]["size"].try_clone().unwrap()).unwrap() >> 20, mib);
    lab.assert_settled().await;
}
