//! Databases and other sources of data, end to end: real `holdfastd`, real restic, real servers, two of each engine with
//! different data, so that a restore into the wrong one fails.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[expect(dead_code, unreachable_pub, reason = "shared with the other integration tests; each uses a part")]
#[path = "../support/mod.rs"]
mod support;

#[expect(dead_code, reason = "shared with the tests of the daemon; each uses a part")]
#[path = "../daemon/lab.rs"]
mod lab;

mod certificates;
mod combined;
mod command;
mod etcd;
mod faults;
mod full_disk;
mod given;
#[expect(dead_code, reason = "shared with the tests of remote hosts; each uses a part")]
#[path = "../remote/host.rs"]
mod host;
mod mariadb;
mod mongodb;
mod mysql;
mod openldap;
mod opensearch;
mod over_ssh;
mod over_ssh_files;
mod over_ssh_programs;
mod over_ssh_sudo;
mod plain_http;
mod postgresql;
mod rabbitmq;
mod rabbitmq_messages;
mod redis;
mod renamed;
mod rows;
mod scripted;
mod search_server;
mod second;
#[expect(dead_code, reason = "shared with the tests of remote hosts; each uses a part")]
mod servers;
mod sqlite;
mod streams;
mod streams_seen;

use std::path::Path;

use lab::{Ended, Lab, Setup};

/// The password file's name below the configuration directory.
const PASSWORD_FILE: &str = "db.password";

/// An instance `app` with these dumps, each the keys of one, and a backup `b` of it. `more` are the instance's own keys.
fn setup(more: &str, dumps: &[String]) -> Setup {
    let mut setup = Setup::new();
    setup.environment.push(("PATH".into(), search_path()));
    setup.write(&format!("config/{PASSWORD_FILE}"), &format!("{}\n", servers::PASSWORD), 0o600);
    let dumps: String = dumps.iter().map(|keys| format!("[[instance.app.dump]]\n{keys}\n")).collect();
    setup.config(&format!(
        "[backup.b]\nrepositories = [\"local\"]\ninstances = [\"app\"]\n[instance.app]\n{more}\n{dumps}"
    ))
}

/// Puts a program before the real one: a shell script in which `$real` is that one, and `$D` the lab's directory.
fn fake(setup: &mut Setup, program: &str, script: &str) {
    let real = std::env::split_paths(&search_path())
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{program} is not installed"));
    let text = format!("#!/bin/bash\nD='@DIR@'\nreal='{}'\n{script}\n", real.display());
    setup.write(&format!("fake/{program}"), &text, 0o755);
    put_first(setup);
}

/// Pretends a Docker with one container: it runs what it is asked to run beside itself, with the variables that it is told,
/// those in `kept`, and no others; what is mounted in throw-away ones has its own name. `more` is what `inspect` says besides.
/// It reads `on-docker`, a piece of shell.
fn container(setup: &mut Setup, name: &str, more: &str, kept: &str) {
    let script = format!(
        r#"#!/bin/bash
D='@DIR@'
echo "$*" >>"$D/engine-calls"
[ ! -e "$D/on-docker" ] || . "$D/on-docker"
keep=(PATH="$PATH" {kept})
case $1 in
inspect)
    [ "${{@: -1}}" = {name} ] || {{ echo "no such container" >&2; exit 1; }}
    echo '{{"Id":"0123abcd","Image":"4567","State":{{"Running":true}},{more}}}' ;;
exec)
    shift; [ "$1" = -i ] || exit 9; shift
    while [ "$1" = -e ]; do keep+=("$2=${{!2}}"); shift 2; done
    [ "$1" = 0123abcd ] || exit 9
    shift; exec env -i "${{keep[@]}}" "$@" ;;
run)
    shift
    while [ "$1" != 4567 ]; do
        case $1 in
        --rm | --interactive) shift; continue ;;
        --mount) from=${{2#type=bind,source=}}; there+=("${{from#*,target=}}"); here+=("${{from%,target=*}}") ;;
        -e) keep+=("$2=${{!2}}") ;;
        --entrypoint) program=$2 ;;
        esac
        shift 2
    done
    shift
    words=("$@")
    for i in "${{!there[@]}}"; do words=("${{words[@]//"${{there[i]}}"/"${{here[i]}}"}}"); done
    exec env -i "${{keep[@]}}" "$program" "${{words[@]}}" ;;
esac
"#
    );
    setup.write("fake/docker", &script, 0o755);
    put_first(setup);
}

/// Lets the daemon find the fakes before anything else.
fn put_first(setup: &mut Setup) {
    let path = format!("{}:{}", setup.path("fake").display(), search_path());
    setup.environment.retain(|(name, _)| name != "PATH");
    setup.environment.push(("PATH".into(), path));
}

/// Where programs are: PostgreSQL's own ones before Debian's scripts of these names, which take their time.
fn search_path() -> String {
    let psql = servers::postgres_program("psql");
    let dir = Path::new(&psql).parent().unwrap().display().to_string();
    format!("{dir}:{}", std::env::var("PATH").unwrap())
}

/// A backup that must fail, with a word in its error; and no snapshot is there.
#[track_caller]
fn refused(lab: &Lab, ended: &Ended, word: &str) {
    let said: String = ended.units.iter().map(|unit| unit.error.clone()).collect();
    assert_eq!(ended.outcome, "failed", "{word}: {ended:#?}\n{}", lab.daemon.log());
    assert!(said.contains(word), "{word} is not in {said}");
    assert_eq!(lab.snapshots_in("repo"), 0, "{word}");
}

/// A restore that must have failed, with a word in its error.
#[track_caller]
fn not_restored(lab: &Lab, ended: &Ended, word: &str) {
    let said: String = ended.units.iter().map(|unit| unit.error.clone()).collect();
    assert_eq!(ended.outcome, "failed", "{word}: {ended:#?}\n{}", lab.daemon.log());
    assert!(said.contains(word), "{word} is not in {said}");
}

async fn roll_back(lab: &Lab) -> Ended {
    let job: zbus::wire::OwnedObjectPath = lab.daemon.call("Rollback", &("app",)).await.unwrap();
    let ended = lab.ended(&job).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", lab.daemon.log());
    ended
}

impl Lab {
    /// A restore of one database: `NAME`, or `NEW=OLD`.
    async fn restore_database(&self, text: &str) -> Ended {
        self.restore("app", "", &[("database", zbus::wire::Variant::from(vec![text]))]).await
    }
}

/// The manifest of the latest snapshot.
fn manifest(lab: &Lab) -> serde_json::Value {
    let text = lab.restic("repo", &["dump", "latest", "/manifest.json"]);
    serde_json::from_slice(&text.stdout).unwrap()
}

/// An answer to a restore's question about health: the exit code in the file `health`.
const HEALTH: &str =
    "restore = { health = { command = [\"sh\", \"-c\", \"exit $(cat @DIR@/health)\"], timeout = \"1s\" } }";

/// A question about health that never ends, for kills; see [`Lab::reached`].
const NO_ANSWER: &str = "restore = { health = { command = [\"sh\", \"-c\", \": >@DIR@/at-health; exec sleep 60\"], timeout = \"60s\" } }";

/// X11: no file that stays, no word of the log and no call of restic holds the servers' password.
fn assert_no_canary(lab: &Lab) {
    let word = servers::PASSWORD.split([':', '\\']).next_back().unwrap();
    fn files(dir: &Path, all: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            match path.is_dir() && !path.is_symlink() {
                true => files(&path, all),
                false => all.push(path),
            }
        }
    }
    let mut all = vec![lab.path("log"), lab.path("calls")];
    for dir in ["state", "runtime", "staging"] {
        files(&lab.path(dir), &mut all);
    }
    for path in all {
        let text = std::fs::read(&path).unwrap_or_default();
        let found = text.windows(word.len()).any(|window| window == word.as_bytes());
        assert!(!found, "the password stands in {}", path.display());
    }
}
