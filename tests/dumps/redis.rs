//! Redis.

use std::path::PathBuf;

use super::servers::Redis;
use super::*;

fn definition(server: &Redis) -> String {
    format!("{}password_file = \"{PASSWORD_FILE}\"\n", server.definition())
}

fn fill(server: &Redis) {
    server.ask(&["MSET", "a", "1", "odd ' key", "two"]);
    server.ask(&["SET", "short", "x", "EX", "100000"]);
    server.ask(&["-n", "3", "RPUSH", "list", "x", "y"]);
}

fn state(server: &Redis) -> Vec<String> {
    let ttl: i64 = server.ask(&["TTL", "short"]).parse().unwrap();
    vec![
        server.ask(&["MGET", "a", "odd ' key", "late"]),
        server.ask(&["-n", "3", "LRANGE", "list", "0", "-1"]),
        server.ask(&["DBSIZE"]),
        (ttl > 90_000).to_string(),
        server.ask(&["CONFIG", "GET", "masterauth"]),
        server.ask(&["ROLE"]).lines().next().unwrap().to_owned(),
    ]
}

async fn round_trip(append_only: bool) {
    let (server, other) = (Redis::start(append_only), Redis::start(append_only));
    fill(&server);
    other.ask(&["SET", "a", "other"]);
    let lab = setup("", &[definition(&server)]).start().await;
    let before = state(&server);
    lab.good_backup("b").await;
    server.ask(&["MSET", "a", "changed", "late", "1"]);
    server.ask(&["-n", "3", "DEL", "list"]);
    let late = state(&server);
    lab.good_restore("app").await;
    assert_eq!(state(&server), before, "{}", lab.daemon.log());
    assert_eq!(other.ask(&["GET", "a"]), "other");
    roll_back(&lab).await;
    assert_eq!(state(&server), late);
    assert_no_canary(&lab);
    lab.assert_settled().await;
}

#[tokio::test]
async fn all_keys_are_restored_and_rolled_back() {
    round_trip(false).await;
}

#[tokio::test]
async fn all_keys_are_restored_where_an_append_only_file_is_in_use() {
    round_trip(true).await;
}

#[tokio::test]
async fn a_dump_that_is_cut_off_or_changed_takes_no_snapshot_and_a_failed_restore_leaves_the_old_keys() {
    let server = Redis::start(false);
    fill(&server);
    let health = "restore = { health = { command = [\"sh\", \"-c\", \"exit $(cat @DIR@/health)\"], timeout = \"1s\" } }";
    let mut setup = setup(health, &[definition(&server)]);
    fake(&mut setup, "redis-cli", "[ ! -e \"$D/on-cli\" ] || . \"$D/on-cli\"\nexec \"$real\" \"$@\"");
    setup.write("health", "0\n", 0o644);
    let lab = setup.start().await;
    for (shell, word) in [
        ("exit 1", "exited with 1"),
        ("exit 0", "too short"),
        ("\"$real\" \"$@\" | head -c -1; exit 0", "cut off"),
        ("\"$real\" \"$@\" | head -c 60; exit 0", "cut off"),
        ("\"$real\" \"$@\" | sed 's/two/tWo/'; exit 0", "checksum is wrong"),
    ] {
        lab.on("cli", &format!("case \"$*\" in *--rdb*) {shell};; esac"));
        refused(&lab, &lab.backup("b").await, word);
    }
    lab.remove("on-cli");
    lab.write(&format!("config/{PASSWORD_FILE}"), "wrong\n", 0o600);
    refused(&lab, &lab.backup("b").await, "asking the Redis server");
    lab.write(&format!("config/{PASSWORD_FILE}"), &format!("{}\n", servers::PASSWORD), 0o600);
    lab.good_backup("b").await;
    server.ask(&["SET", "a", "changed"]);
    let late = state(&server);
    lab.write("health", "1\n", 0o644);
    not_restored(&lab, &lab.restore("app", "", &[]).await, "the old data is back");
    assert_eq!(state(&server), late);
    assert_no_canary(&lab);
    lab.assert_settled().await;
}

#[tokio::test]
async fn killed_while_the_restored_keys_live_the_old_ones_are_back_after_the_next_start() {
    let server = Redis::start(true);
    fill(&server);
    let mut lab = setup(NO_ANSWER, &[definition(&server)]).start().await;
    let before = state(&server);
    lab.good_backup("b").await;
    server.ask(&["MSET", "a", "changed", "late", "1"]);
    let late = state(&server);
    lab.start_restore("app", "", &[]).await;
    lab.reached("health").await;
    assert_eq!(state(&server), before, "the restored keys live already");
    lab.daemon.restart_after_kill().await;
    assert_eq!(state(&server), late, "{}", lab.daemon.log());
    lab.assert_settled().await;
}

/// An engine that runs what it is asked to run beside itself, and does not end what it ran when it is ended itself. It knows
/// just what it is told of the environment.
const ENGINE: &str = r#"#!/bin/bash
echo "$*" >>'@DIR@/engine-calls'
case $1 in
inspect) echo '{"Id":"0123abcd","State":{"Running":true},"Config":{"Env":[]}}' ;;
exec)
    shift 2
    keep=(PATH="$PATH")
    while [ "$1" = -e ]; do keep+=("$2=${!2}"); shift 2; done
    shift
    [ ! -e '@DIR@/on-exec' ] || . '@DIR@/on-exec'
    setsid env -i "${keep[@]}" "$@" <&0 &
    wait $! ;;
esac
"#;

fn in_a_container(server: &Redis, more: &str) -> Setup {
    let keys = format!("{}container = \"cache\"\n", definition(server));
    let mut setup = setup(more, &[keys]);
    setup.write("fake/docker", ENGINE, 0o755);
    put_first(&mut setup);
    setup
}

/// Where the second server works: in the container, so below the machine's `/tmp` here. Each daemon has a place of its own.
fn place(lab: &Lab) -> PathBuf {
    let calls = lab.text("engine-calls");
    let mut words = calls.split_whitespace();
    words.find(|word| word.starts_with("/tmp/holdfast-app-redis-")).expect("no call names its place").into()
}

fn nothing_is_left(lab: &Lab) {
    assert!(!place(lab).exists(), "{}", lab.daemon.log());
}

#[tokio::test]
async fn in_a_container_the_second_server_runs_there_too_and_nothing_of_it_is_left() {
    let server = Redis::start(true);
    fill(&server);
    let mut lab = in_a_container(&server, "stall_timeout = \"20s\"").start().await;
    let before = state(&server);
    lab.good_backup("b").await;
    server.ask(&["MSET", "a", "changed", "late", "1"]);
    let late = state(&server);
    lab.good_restore("app").await;
    assert_eq!(state(&server), before, "{}", lab.daemon.log());
    nothing_is_left(&lab);
    roll_back(&lab).await;
    assert_eq!(state(&server), late);
    for (shell, word) in [
        ("case \"$*\" in *'cat >'*) echo no room >&2; exit 1;; esac", "no room"),
        ("case \"$*\" in *redis-server*) exit 127;; esac", "second Redis server"),
    ] {
        lab.on("exec", shell);
        not_restored(&lab, &lab.restore("app", "", &[]).await, word);
        lab.remove("on-exec");
        assert_eq!(state(&server), late, "{word}");
        nothing_is_left(&lab);
    }
    // Killed when the second server runs: in the container it runs on.
    lab.on("exec", "case \"$*\" in *redis-cli*' -p '*) exec sleep 60;; esac");
    lab.start_restore("app", "", &[]).await;
    let pid = || std::fs::read_to_string(place(&lab).join("pid")).is_ok_and(|text| text.ends_with('\n'));
    lab.until("the second server runs", pid).await;
    lab.remove("on-exec");
    lab.daemon.restart_after_kill().await;
    assert_eq!(state(&server), late, "{}", lab.daemon.log());
    nothing_is_left(&lab);
    let calls = lab.text("engine-calls");
    assert!(calls.contains("-e REDISCLI_AUTH ") && !calls.contains("canary"), "{calls}");
    assert_no_canary(&lab);
    lab.assert_settled().await;
}

/// The second server's port is another program's in the first starts: as many as `taken` says.
const TAKEN: &str = r#"settings=$(cat)
echo start >>"$D/starts"
[ "$(wc -l <"$D/starts")" -gt "$(cat "$D/taken")" ] || settings=$(sed "s/^port .*/port $(cat "$D/port")/" <<<"$settings")
exec "$real" - <<<"$settings""#;

async fn taken_port(setup: fn(&Redis) -> Setup) {
    let server = Redis::start(false);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    fill(&server);
    let mut setup = setup(&server);
    fake(&mut setup, "redis-server", TAKEN);
    setup.write("port", &taken.local_addr().unwrap().port().to_string(), 0o644);
    setup.write("taken", "2\n", 0o644);
    let mut lab = setup.start().await;
    let before = state(&server);
    lab.good_backup("b").await;
    server.ask(&["MSET", "a", "changed", "late", "1"]);
    let late = state(&server);
    lab.good_restore("app").await;
    assert_eq!(state(&server), before);
    assert_eq!(lab.text("starts").lines().count(), 3);
    roll_back(&lab).await;
    lab.write("taken", "99\n", 0o644);
    not_restored(&lab, &lab.restore("app", "", &[]).await, "is in use");
    // Words of its own for all that ends it.
    lab.write("fake/redis-server", "#!/bin/sh\necho 'no room for it'; exit 1\n", 0o755);
    not_restored(&lab, &lab.restore("app", "", &[]).await, "no room for it");
    lab.remove("fake/redis-server");
    lab.daemon.restart_after_kill().await;
    assert_eq!(state(&server), late);
    assert_no_canary(&lab);
    lab.assert_settled().await;
}

#[tokio::test]
async fn a_second_server_whose_port_is_taken_gets_another_one() {
    taken_port(|server| setup("", &[definition(server)])).await;
}

#[tokio::test]
async fn a_second_server_in_a_container_whose_port_is_taken_gets_another_one() {
    taken_port(|server| in_a_container(server, "")).await;
}
