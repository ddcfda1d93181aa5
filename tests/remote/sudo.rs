//! Volumes of another machine where we log in as somebody who may run no more as root than `holdfast setup` wrote.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use zbus::wire::OwnedObjectPath;

use crate::engine::{plant, volume};
use crate::host::Host;
use crate::lab::{Lab, Setup, names};
use crate::microbosh::{ends_with_0, holdfast};
use crate::setup::admin;
use crate::support::{stderr, stdout};

/// All that `vcap` may do.
const EVERYTHING: &str = "vcap ALL=(ALL) NOPASSWD: ALL\n";

/// A whole volume, a part of one, and those that a pattern names. Nobody but root reads them.
fn volumes(host: &Host) -> Setup {
    plant(host);
    for (name, file) in [
        ("data", "one"),
        ("data", "deep/two"),
        ("data", ".hidden"),
        ("data", "cache/x"),
        ("other", "in/sub/three"),
        ("other", "out"),
        ("log-a", "four"),
    ] {
        let dir = host.path(&format!("volumes/app-{name}/_data"));
        if !dir.exists() {
            volume(host, &format!("app-{name}"));
        }
        host.write(&format!("volumes/app-{name}/_data/{file}"), &format!("{file}\n"), 0o600);
    }
    host.write("table", "row\n", 0o600);
    let table = host.path("table").display().to_string();
    Setup::new().config(&format!(
        "[backup.b]\nrepositories = [\"local\"]\ninstances = [\"app\"]\nretry = {{ attempts = 0 }}\n\
         [instance.app]\nssh = \"{}:{}\"\nsudo = true\nvolumes = \"docker\"\n\
         include = [\"volumes/data\", \"volumes/other/in/sub\", \"volumes/log-*\"]\nexclude = [\"volumes/data/cache\"]\n\
         [[instance.app.dump]]\nsource = \"command\"\ncontainer = \"db\"\ncommand = [\"cat\", \"{table}\"]\n\
         restore = [\"sh\", \"-c\", \"cat >'{table}'\"]\n\
         [[instance.app.dump]]\nsource = \"command\"\nname = \"labelled\"\ncontainer = \"label:org.example.db=1\"\n\
         command = [\"cat\", \"{table}\"]\nrestore = [\"true\"]\n",
        host.login(),
        host.port
    ))
}

fn file(host: &Host, name: &str) -> PathBuf {
    let (volume, rest) = name.split_once('/').unwrap();
    host.path(&format!("volumes/app-{volume}/_data/{rest}"))
}

const FILES: [&str; 8] = [
    "data/one",
    "data/deep/two",
    "data/.hidden",
    "data/cache/x",
    "data/new",
    "other/in/sub/three",
    "other/out",
    "log-a/four",
];

fn live(host: &Host) -> Vec<String> {
    let read = |name: &&str| std::fs::read_to_string(file(host, name)).unwrap_or_else(|_| "-".to_owned());
    FILES.iter().map(read).collect()
}

fn change(host: &Host) {
    for path in FILES.map(|name| file(host, name)) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "changed\n").unwrap();
    }
    std::fs::write(host.path("table"), "changed\n").unwrap();
    let mode = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(host.path("volumes/app-data/_data"), mode).unwrap();
}

/// Has setup write its files while an administrator lets it.
fn set_up(lab: &Lab, host: &Host, more: &[&str]) {
    admin(host, EVERYTHING);
    let (print, identity) = (host.fingerprint(), host.identity().display().to_string());
    let mut arguments = vec!["setup", "app", "--host-key", &print, "--identity", &identity];
    arguments.extend(more);
    ends_with_0(lab, &arguments);
    admin(host, "");
}

#[track_caller]
fn refused(host: &Host, commands: &[String]) {
    for command in commands {
        let done = host.ssh(&format!("sudo -n {command}"));
        let said = stderr(&done);
        assert!(!done.status.success(), "{command}: {}", stdout(&done));
        let sudo = ["password is required", "not allowed"].iter().any(|words| said.contains(words));
        assert!(sudo, "{command} was refused by another: {said}");
    }
}

#[track_caller]
fn fails_with(lab: &Lab, arguments: &[&str], words: &[&str]) {
    let done = holdfast(lab, arguments);
    let said = stdout(&done) + &stderr(&done);
    assert_eq!(done.status.code(), Some(1), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in:\n{said}");
    }
}

async fn roll_back(lab: &Lab) {
    let job: OwnedObjectPath = lab.daemon.call("Rollback", &("app",)).await.unwrap();
    let ended = lab.ended(&job).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:?}\n{}", lab.daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: an account of its own, and sudo"]
async fn system_volumes_are_saved_and_restored_with_no_more_rights_than_setup_has_brought() {
    let host = Host::start_with_vcap();
    let lab = volumes(&host).start().await;
    set_up(&lab, &host, &[]);
    let rules = host.text("sudoers.d/holdfast-app");
    let dir = host.path("volumes").display().to_string();
    assert!(rules.contains(&format!(". {dir}/app-data/_data/\n")) && !rules.contains(". /\n"), "{rules}");
    ends_with_0(&lab, &["run", "b"]);
    let saved = live(&host);
    assert_eq!(crate::far::saved(&lab, "/volumes/data/deep/two"), "deep/two");
    for name in ["command", "labelled"] {
        assert_eq!(crate::far::saved(&lab, &format!("/dumps/{name}/dump")), "row");
    }
    // One that came later, which the pattern names, needs no new file.
    volume(&host, "app-log-b");
    host.write("volumes/app-log-b/_data/later", "later\n", 0o600);
    ends_with_0(&lab, &["run", "b"]);
    assert_eq!(crate::far::saved(&lab, "/volumes/log-b/later"), "later");
    backups_are_bounded(&host, &rules, &dir);
    change(&host);
    let changed = live(&host);
    fails_with(&lab, &["restore", "app", "--yes"], &["lets a restore run `test", "--restore"]);
    assert_eq!(live(&host), changed);
    set_up(&lab, &host, &["--restore"]);
    // Nothing is missing now, and nobody is asked to bring anything.
    let said = ends_with_0(&lab, &["setup", "app", "--restore"]);
    assert!(said.contains("anything run in these containers") && said.contains("db"), "{said}");
    ends_with_0(&lab, &["restore", "app", "--yes"]);
    let mut wanted = saved.clone();
    // What the backup left out stays.
    (wanted[3], wanted[6]) = ("changed\n".to_owned(), "changed\n".to_owned());
    assert_eq!(live(&host), wanted, "{}", lab.daemon.log());
    assert_eq!(host.text("table"), "row\n");
    let mode = std::fs::metadata(host.path("volumes/app-data/_data")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o751);
    roll_back(&lab).await;
    assert_eq!(live(&host), changed, "{}", lab.daemon.log());
    // One that is gone is made anew, with its labels.
    std::fs::remove_dir_all(host.path("volumes/app-data")).unwrap();
    ends_with_0(&lab, &["restore", "app", "--yes"]);
    assert_eq!(live(&host)[..3], saved[..3]);
    assert!(host.text("volumes/app-data/labels").contains("\"org.example.of\":\"test\""));
    restores_are_bounded(&host, &dir);
    // A name that no rule can hold changes nothing at all.
    host.write("volumes/app-data/_data/a b", "blank\n", 0o600);
    let kept = || ["data/.", "other/in", "log-a/."].map(|name| names(&file(&host, name)));
    change(&host);
    let before = (live(&host), kept());
    fails_with(&lab, &["restore", "app", "--yes"], &["names with blanks"]);
    assert_eq!((live(&host), kept()), before, "{}", lab.daemon.log());
}

/// Nothing of other volumes or containers is read, and nothing is changed.
fn backups_are_bounded(host: &Host, rules: &str, dir: &str) {
    let words = rules.lines().find(|line| line.ends_with("app-data/_data/")).unwrap();
    let reads = words.split("NOPASSWD: ").nth(1).unwrap().replace('\\', "");
    assert!(reads.contains("rsync --server --sender"), "{reads}");
    refused(
        host,
        &[
            reads.replace("app-data/_data/", "app-data/_data/../../app-other/_data/"),
            reads.replace(&format!("{dir}/app-data/_data/"), "/"),
            format!("{reads} /etc/"),
            "docker volume inspect web-data".to_owned(),
            "docker volume inspect app-data app-other".to_owned(),
            "docker volume create app-data".to_owned(),
            "docker volume rm app-data".to_owned(),
            "docker volume ls --format '{{json .}}'".to_owned(),
            "docker run --privileged x".to_owned(),
            "docker exec -i web id".to_owned(),
            "docker exec -i -u root db id".to_owned(),
            "docker exec -iu root db id".to_owned(),
            "docker exec -i dbx id".to_owned(),
            "docker inspect --type container --format '{{json .}}' web".to_owned(),
            "docker ps --all --no-trunc --filter label=x --format '{{.ID}} {{.Names}}'".to_owned(),
            format!("test -e {dir}"),
        ],
    );
}

/// Nothing of other volumes, and no volume that is another place of the machine.
fn restores_are_bounded(host: &Host, dir: &str) {
    let (data, beside) = (format!("{dir}/app-data/_data"), format!("{dir}/app-data/_data/.holdfast-j1"));
    refused(
        host,
        &[
            "docker volume create --opt=type=none --opt=device=/etc app-data".to_owned(),
            "docker volume create --label=a=b web-data".to_owned(),
            format!("mv -T -- {data}/one {beside}/old/../one"),
            format!("mv -T -- {data}/.. {beside}/old/x"),
            format!("mv -T -- {data}/one 'x {beside}/old/one'"),
            format!("mv -T -- /etc/shadow {beside}/new/one"),
            format!("mv -T -- {dir}/app-other/_data/out {beside}/new/one"),
            format!("rm -rf -- {data}"),
            format!("rm -rf -- {beside} {data}"),
            format!("chown -- 1:1 {data}/one"),
            format!("chown -R -- 1:1 {data}"),
            format!("chmod -- u+s {data}"),
            format!("find {data} -mindepth 1 -maxdepth 1 -delete"),
            format!("find {dir}/app-web/_data -mindepth 1 -maxdepth 1 -printf %f"),
            "find /proc -ignore_readdir_race -maxdepth 3 -path '/proc/[0-9]*/fd/*' -lname /x -delete -lname '/*' -print -quit"
                .to_owned(),
        ],
    );
}
