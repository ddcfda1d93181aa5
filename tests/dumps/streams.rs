//! Streamed dumps: never staged, one restic per repository, nothing committed unless all of it came.

use std::collections::HashMap;
use std::fs;

use zbus::wire::Variant;

use super::lab::{SECOND, text};
use super::servers::{Mariadb, Postgres};
use super::*;

const RESTICS: [&str; 3] = ["0.14", "0.18", "0.19"];

/// Bytes that a stream takes before anything happens to it: more than all pipes between us and restic hold.
const MUCH: usize = 3_000_000;

/// An instance `app` with these streamed dumps, backed up into both repositories.
fn two(version: &str, more: &str, dumps: &[String]) -> Setup {
    let mut setup = Setup::with_restic(version);
    setup.environment.push(("PATH".into(), search_path()));
    setup.write(&format!("config/{PASSWORD_FILE}"), &format!("{}\n", servers::PASSWORD), 0o600);
    let dumps: String =
        dumps.iter().map(|keys| format!("[[instance.app.dump]]\nstream = true\n{keys}\n")).collect();
    setup.config(SECOND).config(&format!(
        "[backup.b]\nrepositories = [\"local\", \"second\"]\ninstances = [\"app\"]\n{more}\n\
         [instance.app]\nrestore = {{ keep_previous = \"0s\" }}\ninclude = [\"@DIR@/data\"]\n{dumps}"
    ))
}

/// A dump that a piece of shell prints, and that a restore writes to `index`.
fn printed(shell: &str) -> String {
    format!(
        "source = \"command\"\nname = \"index\"\ncommand = [\"bash\", \"-c\", {shell:?}]\n\
         restore = [\"sh\", \"-c\", \"cat >@DIR@/index\"]\n"
    )
}

/// One that reads its shell from `script`.
fn scripted(version: &str, more: &str) -> Setup {
    let setup = two(version, more, &[printed("D=@DIR@; . @DIR@/script")]);
    setup.write("data/file", "one\n", 0o644);
    setup
}

/// Prints so many bytes that neither repeat nor compress.
fn noise(bytes: usize) -> String {
    format!("openssl enc -aes-128-ctr -K 00 -iv 00 -nosalt </dev/zero 2>/dev/null | head -c {bytes}")
}

/// Leads the restic of one repository astray.
fn on_repository(lab: &Lab, repository: &str, shell: &str) {
    let place = lab.path(repository);
    lab.on(
        "backup",
        &format!("if [ \"$(cat \"$RESTIC_REPOSITORY_FILE\")\" = '{}' ]; then {shell}; fi", place.display()),
    );
}

/// The snapshots in a repository, as restic lists them.
fn listed(lab: &Lab, repository: &str) -> Vec<serde_json::Value> {
    let said = lab.restic(repository, &["snapshots", "--json"]);
    serde_json::from_slice(&said.stdout).unwrap()
}

fn of_kind(lab: &Lab, repository: &str, kind: &str) -> Vec<serde_json::Value> {
    let tag = serde_json::Value::from(format!("kind={kind}"));
    listed(lab, repository)
        .into_iter()
        .filter(|snapshot| snapshot["tags"].as_array().unwrap().contains(&tag))
        .collect()
}

/// No set, no lock, and nothing in any snapshot that looks like a dump.
#[track_caller]
fn nothing_stored(lab: &Lab, why: &str) {
    for repository in ["repo", "repo2"] {
        assert_eq!(of_kind(lab, repository, "tree"), [serde_json::Value::Null; 0], "{why}: {repository}");
        for snapshot in listed(lab, repository) {
            let id = snapshot["id"].as_str().unwrap();
            let files = lab.restic(repository, &["ls", "--quiet", id]);
            assert_eq!(crate::support::stdout(&files).trim(), "", "{why}: {repository}");
        }
    }
}

fn said(ended: &Ended) -> String {
    ended.units.iter().map(|unit| format!("{}: {}\n", unit.repository, unit.error)).collect()
}

#[tokio::test]
async fn databases_are_streamed_into_two_repositories_and_come_back_from_either() {
    let (postgres, mariadb) = (Postgres::start(), Mariadb::start());
    postgres.ask("postgres", "create database shop");
    postgres
        .ask("shop", "create table item as select g as id, md5(g::text) from generate_series(1, 20000) g");
    mariadb.ask("create database wiki; create table wiki.page(id int primary key, body blob)");
    mariadb.ask("use wiki; insert into page select seq, repeat('x', 100) from seq_1_to_5000");
    let state = || {
        [
            postgres.ask("shop", "select count(*), md5(string_agg(md5, '' order by id)) from item"),
            mariadb.ask("select count(*), sum(length(body)) from wiki.page"),
        ]
    };
    let before = state();
    let password = format!("password_file = \"{PASSWORD_FILE}\"\n");
    let dumps = [
        format!("{}{password}databases = [\"shop\"]\n", postgres.definition()),
        format!("{}{password}databases = [\"wiki\"]\n", mariadb.definition()),
    ];
    for version in RESTICS {
        let setup = two(version, "retention = 1", &dumps);
        setup.write("data/file", "one\n", 0o644);
        let lab = setup.start().await;
        lab.good_backup("b").await;
        let manifest: Vec<_> = manifest_of_tree(&lab)["dumps"].as_array().unwrap().clone();
        // Roles, shop, wiki; each in two repositories.
        assert_eq!(manifest.len(), 6, "{manifest:#?}");
        for repository in ["repo", "repo2"] {
            assert_eq!((of_kind(&lab, repository, "stream").len(), lab.snapshots_in(repository)), (3, 4));
            let tree = of_kind(&lab, repository, "tree")[0]["id"].as_str().unwrap().to_owned();
            let files = lab.restic(repository, &["ls", "--quiet", &tree]);
            assert!(!crate::support::stdout(&files).contains("dumps"), "{version}: it was staged");
        }
        let size = u64::try_from(lab.sets("app").await[0]["size"].try_clone().unwrap()).unwrap();
        assert!(size > 500_000, "{version}: the set has {size} bytes, its streams count");
        // All of it with one of them; the others just have to bring it back.
        let all = version == "0.18";
        for repository in if all { &["local", "second"][..] } else { &["second"] } {
            postgres.ask("shop", "delete from item");
            mariadb.ask("delete from wiki.page");
            let options = [("repository", Variant::from(*repository))];
            let ended = lab.restore("app", "", &options).await;
            assert_eq!(ended.outcome, "succeeded", "{version}: {ended:#?}\n{}", lab.daemon.log());
            assert_eq!(state(), before, "{version}: {repository}");
        }
        let plan: String = lab.daemon.call("Plan", &("app", "", crate::support::Row::new())).await.unwrap();
        let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
        assert_eq!(plan["dumps"].as_array().unwrap().len(), 3, "{plan:#}");
        assert!(plan["dumps"][0]["stream"].as_str().unwrap().len() >= 8, "{plan:#}");
        if !all {
            continue;
        }
        // Streams go with their set.
        lab.good_backup("b").await;
        for repository in ["repo", "repo2"] {
            assert_eq!((of_kind(&lab, repository, "stream").len(), lab.snapshots_in(repository)), (3, 4));
        }
        assert_no_canary(&lab);
        lab.assert_settled().await;
    }
}

/// The manifest of the latest tree.
fn manifest_of_tree(lab: &Lab) -> serde_json::Value {
    let text = lab.restic("repo", &["dump", "--tag", "kind=tree", "latest", "/manifest.json"]);
    serde_json::from_slice(&text.stdout).unwrap()
}

#[tokio::test]
async fn a_dump_that_is_cut_off_or_fails_is_in_no_snapshot() {
    let server = Postgres::start();
    server.ask("postgres", "create database shop");
    server.ask("shop", "create table item as select g, md5(g::text) from generate_series(1, 60000) g");
    let dump =
        format!("{}password_file = \"{PASSWORD_FILE}\"\ndatabases = [\"shop\"]\n", server.definition());
    let mut setup = two("0.18", "", &[dump]);
    setup.write("data/file", "one\n", 0o644);
    fake(
        &mut setup,
        "pg_dump",
        "[ \"$1\" = --version ] || [ ! -e \"$D/on-pg_dump\" ] || . \"$D/on-pg_dump\"\nexec \"$real\" \"$@\"",
    );
    let lab = setup.start().await;
    let whole = server.client("pg_dump").args(["-Fc", "-Z0", "shop"]).output().unwrap().stdout.len();
    let cut =
        |percent: usize, end: &str| format!("\"$real\" \"$@\" | head -c {}; {end}", whole * percent / 100);
    for (shell, word) in [
        (cut(1, "exit 0"), "to its end"),
        (cut(50, "exit 0"), "to its end"),
        (cut(99, "exit 0"), "to its end"),
        (cut(1, "kill -9 $$"), "killed by signal 9"),
        (cut(50, "kill -9 $$"), "killed by signal 9"),
        (cut(99, "kill -9 $$"), "killed by signal 9"),
        ("\"$real\" \"$@\"; exit 1".into(), "exited with 1"),
        ("exit 0".into(), "is empty"),
        ("echo nonsense; exit 0".into(), "dumps/postgresql/shop.dump"),
    ] {
        lab.on("pg_dump", &shell);
        let ended = lab.backup("b").await;
        assert_eq!(ended.outcome, "failed", "{shell}: {ended:#?}");
        assert!(said(&ended).contains(word), "{shell}: {}", said(&ended));
        assert_eq!(lab.sets("app").await.len(), 0, "{shell}");
        for repository in ["repo", "repo2"] {
            let files = of_kind(&lab, repository, "stream").iter().any(|snapshot| {
                snapshot["tags"].as_array().unwrap().contains(&"file=dumps/postgresql/shop.dump".into())
            });
            assert!(!files && lab.locks(repository).is_empty(), "{shell}: {repository}");
        }
    }
    lab.remove("on-pg_dump");
    lab.good_backup("b").await;
    lab.assert_settled().await;
}

#[tokio::test]
async fn every_restic_hears_the_signal_before_its_input_ends() {
    for version in RESTICS {
        let lab = scripted(version, "").start().await;
        for shell in [
            format!("{}; exit 3", noise(MUCH)),
            format!("{}; kill -9 $$", noise(MUCH)),
            "echo half; exit 3".to_owned(),
            ":".to_owned(),
        ] {
            lab.write("script", &shell, 0o644);
            let ended = lab.backup("b").await;
            assert_eq!(ended.outcome, "failed", "{version}: {shell}: {ended:#?}");
            assert_eq!((lab.snapshots_in("repo"), lab.snapshots_in("repo2")), (0, 0), "{version}: {shell}");
        }
        lab.assert_settled().await;
    }
}

#[tokio::test]
async fn a_repository_that_fails_or_hangs_is_dropped_and_the_other_one_has_its_set() {
    let setup = scripted("0.18", "retry = { attempts = 0 }");
    let setup = setup.replace("[instance.app]\n", "[instance.app]\nstall_timeout = \"2s\"\n");
    let lab = setup.start().await;
    lab.write("script", &noise(2 * MUCH), 0o644);
    for (shell, word) in [
        (format!("head -c {MUCH} >/dev/null; echo 'Fatal: no luck' >&2; exit 1"), "no luck"),
        ("echo 'Fatal: no luck' >&2; exit 1".to_owned(), "no luck"),
        ("exec sleep 600".to_owned(), "no progress"),
        (format!("head -c {MUCH} >/dev/null; exec sleep 600"), "no progress"),
        // It says that all is well and has not seen all.
        (format!("head -c {MUCH} | \"$real\" \"$@\"; exit 0"), "repo2"),
    ] {
        on_repository(&lab, "repo2", &shell);
        let ended = lab.backup("b").await;
        let unit = |name: &str| ended.units.iter().find(|unit| unit.repository == name).unwrap();
        assert_eq!(unit("local").outcome, "succeeded", "{shell}: {ended:#?}\n{}", lab.daemon.log());
        assert_eq!(
            (&*unit("second").outcome, &*unit("second").snapshot),
            ("failed", ""),
            "{shell}: {ended:#?}"
        );
        let restic = unit("second").error.contains("restic");
        assert!(unit("second").error.contains(word) || restic && word == "repo2", "{shell}: {ended:#?}");
        assert_eq!(of_kind(&lab, "repo2", "tree").len(), 0, "{shell}");
    }
    lab.remove("on-backup");
    fs::write(lab.path("index"), "lost").unwrap();
    lab.good_restore("app").await;
    assert_eq!(fs::metadata(lab.path("index")).unwrap().len(), 2 * MUCH as u64);
    assert_eq!(lab.sets("app").await.len(), 5);
    lab.assert_settled().await;
}

#[tokio::test]
async fn what_passes_is_tried_again_with_a_dump_of_its_own() {
    let lab = scripted("0.18", "retry = { attempts = 1, delay = \"1s\" }").start().await;
    lab.write("script", "echo dumped >>$D/dumped; wc -l <$D/dumped", 0o644);
    on_repository(
        &lab,
        "repo2",
        "rm \"$D/on-backup\"; echo 'Fatal: unable to open: dial tcp: connection refused' >&2; exit 1",
    );
    lab.good_backup("b").await;
    assert_eq!(lab.text("dumped").lines().count(), 2);
    for (repository, content) in [("local", "1\n"), ("second", "2\n")] {
        let options = [("repository", Variant::from(repository))];
        let ended = lab.restore("app", "", &options).await;
        assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", lab.daemon.log());
        assert_eq!(lab.text("index"), content, "{repository}");
    }
    lab.assert_settled().await;
}

/// A dump that prints much and then waits.
fn halfway(lab: &Lab) {
    lab.write("script", &format!("{}; : >$D/at-half; exec sleep 600", noise(MUCH)), 0o644);
}

#[tokio::test]
async fn cancelled_in_the_middle_there_is_no_snapshot_and_no_lock() {
    for version in RESTICS {
        let lab = scripted(version, "").start().await;
        halfway(&lab);
        let job = lab.daemon.run_backup("b").await;
        lab.reached("half").await;
        lab.cancel(&job).await;
        let ended = lab.ended(&job).await;
        assert_eq!(ended.outcome, "cancelled", "{version}: {ended:#?}");
        assert_eq!((lab.snapshots_in("repo"), lab.snapshots_in("repo2")), (0, 0), "{version}");
        lab.assert_settled().await;
    }
}

#[tokio::test]
async fn killed_in_the_middle_nothing_of_it_is_kept_even_by_a_restic_that_lives_on() {
    for version in RESTICS {
        for lives_on in [false, true] {
            let mut lab = scripted(version, "").start().await;
            halfway(&lab);
            if lives_on {
                // The signal that comes with our death is the shell's, not that of what the shell runs.
                lab.on(
                    "backup",
                    "\"$real\" \"$@\" >>\"$D/orphan\" 2>&1; echo \"ended $?\" >>\"$D/orphan\"; exit 1",
                );
            }
            lab.daemon.run_backup("b").await;
            lab.reached("half").await;
            lab.daemon.kill();
            lab.until("all restics have ended", || lab.processes().iter().all(|p| !p.contains("--stdin")))
                .await;
            nothing_stored(&lab, &format!("{version}, lives on: {lives_on}: {}", lab.text("orphan")));
            lab.daemon.start_again().await;
            lab.assert_settled().await;
            assert_eq!(lab.sets("app").await.len(), 0);
            let _ = fs::remove_file(lab.path("on-backup"));
            lab.write("script", "echo whole", 0o644);
            lab.good_backup("b").await;
            lab.good_restore("app").await;
            assert_eq!(lab.text("index"), "whole\n", "{version}");
        }
    }
}

#[tokio::test]
async fn killed_between_the_streams_and_the_tree_there_is_no_set_and_the_streams_go_after_a_day() {
    let mut lab = scripted("0.18", "retention = 5").start().await;
    lab.write("script", "echo whole", 0o644);
    lab.on("backup", "case \"$*\" in *kind=tree*) : >\"$D/at-tree\"; exec sleep 600;; esac");
    lab.daemon.run_backup("b").await;
    lab.reached("tree").await;
    assert_eq!(of_kind(&lab, "repo", "stream").len(), 1);
    lab.daemon.restart_after_kill().await;
    lab.assert_settled().await;
    assert_eq!(lab.sets("app").await.len(), 0);
    let options: HashMap<&str, Variant<'_>> = HashMap::new();
    let asked: zbus::Result<zbus::wire::OwnedObjectPath> =
        lab.daemon.call("Restore", &("app", "", options)).await;
    assert!(asked.unwrap_err().to_string().contains("no set"), "a part is no set");
    lab.remove("on-backup");
    // The same of another day, of ours and of another host; restic itself makes them.
    let uuid = lab.text("state/instances/app").trim().to_owned();
    for host in ["testhost", "elsewhere"] {
        let tags = format!("holdfast,uuid={uuid},set=j-gone,kind=stream,instance=app,backup=b");
        let words = ["backup", "--host", host, "--time", "2020-01-01 00:00:00", "--tag", &tags];
        let made = lab.restic("repo", &[&words[..], &["/etc/hostname"]].concat());
        assert!(made.status.success(), "{}", crate::support::stderr(&made));
    }
    assert_eq!(of_kind(&lab, "repo", "stream").len(), 3);
    lab.good_backup("b").await;
    let left: Vec<String> = of_kind(&lab, "repo", "stream")
        .iter()
        .filter(|snapshot| snapshot["time"].as_str().unwrap().starts_with("2020"))
        .map(|snapshot| snapshot["hostname"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(left, ["elsewhere"], "ours is forgotten, another host's is not");
    assert_eq!(of_kind(&lab, "repo", "stream").len(), 3, "the young one stays, and the set has its own");
}

#[tokio::test]
async fn a_stream_that_shrank_is_told_and_one_that_was_tampered_with_or_is_gone_is_not_restored() {
    let lab = scripted("0.18", "").start().await;
    lab.write("script", &noise(MUCH), 0o644);
    lab.good_backup("b").await;
    lab.write("script", "echo small", 0o644);
    let ended = lab.backup("b").await;
    assert_eq!(ended.outcome, "warning", "{ended:#?}");
    assert_eq!(ended.units[0].error.matches("shrink_limit").count(), 1, "{ended:#?}");
    lab.write("index", "live\n", 0o644);
    // Streams are fetched past the cache, with that word first.
    lab.on("--no-cache", "echo other; exit 0");
    not_restored(&lab, &lab.restore("app", "", &[]).await, "another SHA-256");
    lab.on("--no-cache", "exit 1");
    not_restored(&lab, &lab.restore("app", "", &[]).await, "fetching dumps/index/dump");
    lab.remove("on---no-cache");
    for snapshot in of_kind(&lab, "repo", "stream") {
        lab.restic("repo", &["forget", snapshot["id"].as_str().unwrap()]);
    }
    not_restored(&lab, &lab.restore("app", "", &[]).await, "is not in the repository any more");
    assert_eq!(lab.text("index"), "live\n");
    let plan: String = lab.daemon.call("Plan", &("app", "", crate::support::Row::new())).await.unwrap();
    assert!(plan.contains("is not in the repository any more"), "{plan}");
    let include = Variant::from(vec![format!("files{}", lab.path("data").display())]);
    let ended = lab.restore("app", "", &[("include", include)]).await;
    assert_eq!(ended.outcome, "succeeded", "the rest can be had: {ended:#?}");
    assert_eq!(text(&lab.sets("app").await[0], "backup"), "b");
    lab.assert_settled().await;
}
