//! MongoDB, with programs that act as MongoDB's tools do: they are not in Debian.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;

pub(super) const KEYS: &str = "source = \"mongodb\"\nport = 27999\nuser = \"admin\"\nauth_database = \"users\"\npassword_file = \"db.password\"\n";
/// A database whose name would be something else to a shell.
const ODD: &str = "odd;--'x";

/// A lab with the tools, and two databases: a server is a directory.
fn with_tools(more: &str, keys: &str) -> Setup {
    let mut setup = setup(more, &[format!("{KEYS}{keys}")]);
    tools(&mut setup);
    setup
}

/// The tools, before everything else on PATH, and what they find on their server.
pub(super) fn tools(setup: &mut Setup) {
    setup.write("mongo.pl", include_str!("mongo.pl"), 0o644);
    setup.environment.push(("MONGO_DATA".into(), setup.path("mongo").display().to_string()));
    setup.environment.push(("MONGO_PASSWORD".into(), servers::PASSWORD.into()));
    for tool in ["mongodump", "mongorestore", "mongosh"] {
        let script = format!(
            "#!/bin/bash\nD='@DIR@'\nexport MONGO_DATA=\"$D/mongo\" MONGO_PASSWORD='{}'\n\
             real() {{ perl \"$D/mongo.pl\" {tool} \"$@\"; }}\necho \"{tool} $*\" >>\"$D/tool-calls\"\n\
             [ ! -e \"$D/on-{tool}\" ] || . \"$D/on-{tool}\"\nreal \"$@\"\n",
            servers::PASSWORD
        );
        setup.write(&format!("fake/{tool}"), &script, 0o755);
    }
    put_first(setup);
    for (file, text) in [("shop/item", "one\ntwo\n"), ("shop/empty", ""), ("admin/system.users", "root\n")] {
        setup.write(&format!("mongo/{file}"), text, 0o644);
    }
    setup.write(&format!("mongo/{ODD}/item"), "odd\n", 0o644);
}

pub(super) type Seen = BTreeMap<PathBuf, String>;

/// All documents of the server.
pub(super) fn seen(lab: &Lab) -> Seen {
    let mut all = Seen::new();
    for database in std::fs::read_dir(lab.path("mongo")).unwrap() {
        for file in std::fs::read_dir(database.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let name = path.strip_prefix(lab.path("mongo")).unwrap().to_owned();
            all.insert(name, std::fs::read_to_string(&path).unwrap());
        }
    }
    all
}

pub(super) fn change(lab: &Lab) -> Seen {
    lab.write("mongo/shop/item", "changed\n", 0o644);
    lab.write("mongo/shop/late", "x\n", 0o644);
    lab.write("mongo/admin/system.users", "root\nlate\n", 0o644);
    std::fs::remove_dir_all(lab.path("mongo").join(ODD)).unwrap();
    seen(lab)
}

#[tokio::test]
async fn databases_are_restored_rolled_back_and_loaded_under_another_name() {
    let lab = with_tools("", "").start().await;
    let before = seen(&lab);
    lab.good_backup("b").await;
    let dumps = manifest(&lab)["dumps"].clone();
    let of = |index: usize| (dumps[index]["file"].clone(), dumps[index]["database"].clone());
    assert_eq!(of(0), ("dumps/mongodb/odd%3b--%27x.archive".into(), ODD.into()), "{dumps:#}");
    assert_eq!(of(1), ("dumps/mongodb/shop.archive".into(), "shop".into()));
    assert_eq!(of(2).0, "dumps/mongodb/admin.archive");
    assert_eq!((&dumps[1]["version"], &dumps[1]["client_version"]), (&"6.0.14".into(), &"100.9.4".into()));
    let late = change(&lab);
    lab.good_restore("app").await;
    let mut wanted = before.clone();
    wanted.insert("admin/system.users".into(), "root\nlate\n".into());
    assert_eq!(seen(&lab), wanted, "users are not loaded, collections that came since are gone");
    roll_back(&lab).await;
    assert_eq!(seen(&lab), late);
    let ended = lab.restore_database("copy=shop").await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", lab.daemon.log());
    assert_eq!(lab.text("mongo/copy/item"), "one\ntwo\n");
    assert_eq!(lab.text("mongo/shop/item"), "changed\n");
    not_restored(
        &lab,
        &lab.restore_database("copy=shop").await,
        "is a database \"copy\" on the server already",
    );
    let calls = lab.text("tool-calls");
    assert!(!calls.contains("canary") && calls.contains("--config="), "{calls}");
    assert_no_canary(&lab);
    lab.assert_settled().await;
}

#[tokio::test]
async fn the_whole_server_is_restored_as_it_was_at_one_moment() {
    let lab = with_tools("", "oplog = true").start().await;
    let before = seen(&lab);
    lab.good_backup("b").await;
    assert!(lab.text("tool-calls").contains("--oplog --archive"));
    let late = change(&lab);
    lab.good_restore("app").await;
    assert!(lab.text("tool-calls").contains("--oplogReplay"));
    let now = seen(&lab);
    assert!(before.iter().all(|(name, text)| now.get(name) == Some(text)), "{now:?}");
    roll_back(&lab).await;
    assert_eq!(seen(&lab).get(Path::new("shop/item")), late.get(Path::new("shop/item")));
    assert!(!lab.path("mongo").join(ODD).exists(), "what the restore made is gone");
    lab.assert_settled().await;
}

#[tokio::test]
async fn an_archive_that_is_not_whole_takes_no_set_whatever_its_program_says() {
    let lab = with_tools("", "").start().await;
    for (shell, word) in [
        ("exit 1", "exited with 1"),
        ("exit 0", "too short"),
        ("real \"$@\" | head -c 3; exit 0", "too short"),
        ("real \"$@\" | head -c 60; exit 0", "cut off"),
        ("real \"$@\" | head -c -1; exit 0", "cut off"),
        ("real \"$@\" | head -c -70; exit 0", "cut off"),
        ("real \"$@\" | sed 's/two/tWo/;s/odd\\x00/oDd\\x00/'; exit 0", "checksum of item is wrong"),
        ("echo 'not an archive'; exit 0", "does not begin as one"),
        ("real \"$@\" | head -c 60; kill -9 $$", "signal 9"),
        ("echo 'connection refused' >&2; exit 1", "connection refused"),
    ] {
        lab.on("mongodump", &format!("case \"$*\" in *--archive*) {shell};; esac"));
        refused(&lab, &lab.backup("b").await, word);
    }
    lab.remove("on-mongodump");
    for (shell, word) in [
        ("exit 3", "exited with 3"),
        ("exit 0", "gave no answer"),
        ("echo 'holdfast-answer {'; exit 0", "mongosh's answer"),
    ] {
        lab.on("mongosh", &format!("case \"$*\" in *ask.js*) {shell};; esac"));
        refused(&lab, &lab.backup("b").await, word);
    }
    lab.remove("on-mongosh");
    lab.write(&format!("config/{PASSWORD_FILE}"), "wrong\n", 0o600);
    refused(&lab, &lab.backup("b").await, "Authentication failed");
    lab.assert_settled().await;
}

#[tokio::test]
async fn a_restore_that_fails_leaves_or_loads_back_the_old_documents() {
    let setup = with_tools(HEALTH, "");
    setup.write("health", "0\n", 0o644);
    let lab = setup.start().await;
    lab.good_backup("b").await;
    let late = change(&lab);
    // Fails at each call of each tool in turn; only that one call fails.
    for tool in ["mongodump", "mongorestore", "mongosh"] {
        let plain = "case \"$*\" in *--version*) ;; *) n=$(($(cat \"$D/n\") - 1)); echo $n >\"$D/n\"; [ $n != 0 ] || { echo half-way >&2; exit 1; };; esac";
        // The program did its work before it failed.
        let late_end = plain.replace("echo half-way", "real \"$@\"; echo half-way");
        for shell in [plain, &late_end] {
            for call in 1..40 {
                lab.write("n", &format!("{call}\n"), 0o644);
                lab.on(tool, shell);
                let ended = lab.restore("app", "", &[]).await;
                lab.remove(&format!("on-{tool}"));
                if lab.text("n").trim().parse::<i32>().unwrap() > 0 {
                    assert_eq!(ended.outcome, "succeeded", "{tool} {call}: {ended:#?}");
                    assert!(call > 1, "{tool} was called {call} times");
                    break;
                }
                if ended.outcome == "failed" {
                    assert_eq!(seen(&lab), late, "{tool} {call}: {}", lab.daemon.log());
                } else {
                    change(&lab);
                }
            }
            change(&lab);
        }
    }
    lab.on("mongosh", "case \"$*\" in *ask.js*) real \"$@\" | sed 's/\"item\":2/\"item\":1/'; exit 0;; esac");
    not_restored(&lab, &lab.restore("app", "", &[]).await, "has 1 documents now, the saved one had 2");
    lab.on("mongosh", "case \"$*\" in *ask.js*) real \"$@\" | sed 's/6.0.14/5.0.9/'; exit 0;; esac");
    not_restored(&lab, &lab.restore("app", "", &[]).await, "does not fit into an older server");
    lab.remove("on-mongosh");
    lab.write("health", "1\n", 0o644);
    not_restored(&lab, &lab.restore("app", "", &[]).await, "the old data is back");
    assert_eq!(seen(&lab), late);
    lab.assert_settled().await;
}

#[tokio::test]
async fn killed_half_way_the_old_documents_are_loaded_back_at_the_next_start() {
    let mut lab = with_tools("", "").start().await;
    lab.good_backup("b").await;
    let late = change(&lab);
    lab.on(
        "mongorestore",
        "case \"$*\" in *--archive*) real \"$@\"; : >\"$D/at-loaded\"; exec sleep 60;; esac",
    );
    lab.start_restore("app", "", &[]).await;
    lab.reached("loaded").await;
    assert_ne!(seen(&lab), late);
    lab.remove("on-mongorestore");
    lab.daemon.restart_after_kill().await;
    assert_eq!(seen(&lab), late, "{}", lab.daemon.log());
    assert_no_canary(&lab);
    lab.assert_settled().await;
}

#[tokio::test]
async fn an_archive_that_is_given_is_loaded_and_one_that_is_none_changes_nothing() {
    let mut lab = with_tools("", "").start().await;
    let before = seen(&lab);
    lab.good_backup("b").await;
    let target = lab.path("out").display().to_string();
    let out = lab.restore("app", "", &[("target", zbus::wire::Variant::from(target.as_str()))]).await;
    assert_eq!(out.outcome, "succeeded", "{out:#?}");
    let archive = lab.path("out/dumps/mongodb/shop.archive");
    let late = change(&lab);
    lab.good_backup("b").await;
    let bytes = std::fs::read(&archive).unwrap();
    for (name, keep) in [("cut.archive", bytes.len() - 1), ("short.archive", 3)] {
        let path = lab.path(name);
        std::fs::write(&path, &bytes[..keep]).unwrap();
        let ended = given::restore(&lab, &given::given(&[("mongodb/shop", path)])).await;
        not_restored(&lab, &ended, "no whole archive of mongodump");
        assert_eq!(seen(&lab), late, "{name}");
    }
    let whole = || given::given(&[("mongodb/shop", archive.clone())]);
    let ended = given::restore(&lab, &whole()).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", lab.daemon.log());
    let of = |seen: &Seen| {
        seen.iter()
            .filter(|(p, _)| p.starts_with("shop"))
            .map(|(p, t)| (p.clone(), t.clone()))
            .collect::<Seen>()
    };
    assert_eq!(of(&seen(&lab)), of(&before), "what was given, not what was saved last");
    roll_back(&lab).await;
    assert_eq!(seen(&lab), late);

    // Killed while it loads: what lived is loaded back at the next start.
    lab.on(
        "mongorestore",
        "case \"$*\" in *--archive*) real \"$@\"; : >\"$D/at-loaded\"; exec sleep 60;; esac",
    );
    let called: zbus::Result<zbus::wire::OwnedObjectPath> =
        lab.daemon.call("Restore", &("app", "", &whole())).await;
    called.unwrap();
    lab.reached("loaded").await;
    assert_ne!(seen(&lab), late);
    lab.remove("on-mongorestore");
    lab.daemon.restart_after_kill().await;
    assert_eq!(seen(&lab), late, "{}", lab.daemon.log());
    lab.assert_settled().await;
}

#[tokio::test]
async fn in_a_container_its_own_tools_run_and_are_told_the_password_by_pipes() {
    let mut setup = with_tools("", "container = \"mongo\"").replace("user = \"admin\"\n", "");
    setup = setup.replace("password_file = \"db.password\"\n", "");
    setup.write("secret", &format!("{}\n", servers::PASSWORD), 0o600);
    let variables = "\"Config\":{\"Env\":[\"MONGO_INITDB_ROOT_USERNAME=admin\",\"MONGO_INITDB_ROOT_PASSWORD_FILE=@DIR@/secret\"]}";
    container(&mut setup, "mongo", variables, "TMPDIR=/nowhere");
    let lab = setup.start().await;
    let before = seen(&lab);
    for (shell, word) in [
        ("real \"$@\" | head -c 60; exit 0", "cut off"),
        ("real \"$@\" | head -c 60; kill -9 $$", "signal 9"),
    ] {
        lab.on("mongodump", &format!("case \"$*\" in *--archive*) {shell};; esac"));
        refused(&lab, &lab.backup("b").await, word);
    }
    lab.remove("on-mongodump");
    lab.good_backup("b").await;
    let late = change(&lab);
    // Once: the old documents are loaded back.
    lab.on(
        "mongorestore",
        "case \"$*\" in *--archive*) rm -f \"$D/on-mongorestore\"; echo no room >&2; exit 1;; esac",
    );
    not_restored(&lab, &lab.restore("app", "", &[]).await, "no room");
    assert_eq!(seen(&lab), late);
    lab.good_restore("app").await;
    let mut wanted = before.clone();
    wanted.insert("admin/system.users".into(), "root\nlate\n".into());
    assert_eq!(seen(&lab), wanted);
    roll_back(&lab).await;
    assert_eq!(seen(&lab), late);
    let calls = lab.text("tool-calls") + &lab.text("engine-calls");
    assert!(!calls.contains("canary") && calls.contains("mongosh --quiet"), "{calls}");
    assert_no_canary(&lab);
    lab.assert_settled().await;
}
