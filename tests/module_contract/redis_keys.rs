//! `redis-dump` and `redis-restore` against a real server.

use std::fs;

use holdfast::client::redis_key::{Restored, dump, restore};
use holdfast::process::Stdin;

use crate::setup::{Module, Redis, argv, run};

fn dumped(redis: &Redis, key: &str) -> Vec<u8> {
    let mut out = Vec::new();
    dump(key.as_ref(), &redis.environment(), &mut out).unwrap();
    out
}

fn restored(redis: &Redis, key: &str, mut text: &[u8]) -> anyhow::Result<Restored> {
    restore(key.as_ref(), None, &redis.environment(), &mut text)
}

#[test]
fn a_key_of_any_type_comes_back_with_its_time_to_live_over_an_existing_one() {
    let dir = tempfile::tempdir().unwrap();
    let redis = Redis::start(dir.path());
    let () = redis.ask(&["HSET", "h", "a", "1", "b", "\n\0x"]);
    let () = redis.ask(&["SET", "empty", ""]);
    let () = redis.ask(&["PEXPIRE", "h", "3600000"]);
    let (hash, empty) = (dumped(&redis, "h"), dumped(&redis, "empty"));
    let () = redis.ask(&["FLUSHALL"]);
    let () = redis.ask(&["SET", "h", "in the way"]);
    let () = redis.ask(&["SETEX", "empty", "50", "in the way"]);
    assert_eq!(restored(&redis, "h", &hash).unwrap(), Restored::Key);
    assert_eq!(restored(&redis, "empty", &empty).unwrap(), Restored::Key);
    assert_eq!(redis.ask::<String>(&["HGET", "h", "b"]), "\n\0x");
    let left: i64 = redis.ask(&["PTTL", "h"]);
    assert!((3_500_000..=3_600_000).contains(&left), "{left}");
    assert_eq!(redis.ask::<i64>(&["PTTL", "empty"]), -1);
}

#[test]
fn an_absent_key_is_told_apart_from_an_empty_file() {
    let dir = tempfile::tempdir().unwrap();
    let redis = Redis::start(dir.path());
    let absent = dumped(&redis, "gone");
    assert!(!absent.is_empty());
    let () = redis.ask(&["SET", "gone", "made later"]);
    assert_eq!(restored(&redis, "gone", &absent).unwrap(), Restored::WasAbsent);
    assert_eq!(redis.ask::<String>(&["GET", "gone"]), "made later");
    assert!(restored(&redis, "gone", b"").unwrap_err().to_string().contains("empty"));
    assert_eq!(redis.ask::<String>(&["GET", "gone"]), "made later");
}

#[test]
fn a_bare_payload_as_ns8_writes_it_is_taken_and_a_damaged_one_leaves_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let redis = Redis::start(dir.path());
    let () = redis.ask(&["SET", "k", "value"]);
    let bare: Vec<u8> = redis.ask(&["DUMP", "k"]);
    let () = redis.ask(&["SET", "k", "other"]);
    let mut damaged = bare.clone();
    damaged[3] ^= 1;
    let error = format!("{:#}", restored(&redis, "k", &damaged).unwrap_err());
    assert!(error.contains("damaged"), "{error}");
    assert_eq!(redis.ask::<String>(&["GET", "k"]), "other");
    assert_eq!(restored(&redis, "k", &bare).unwrap(), Restored::Key);
    assert_eq!(redis.ask::<String>(&["GET", "k"]), "value");
}

#[tokio::test]
async fn the_programs_are_the_links_on_the_hooks_path_and_never_show_the_password() {
    let module = Module::bare();
    let redis = Redis::start(&module.path(""));
    let () = redis.ask(&["SET", "k", "value"]);
    let () = redis.ask(&["CONFIG", "SET", "requirepass", "canary-right"]);
    let tool = |name: &str, arguments: &[&str], password: &str| {
        let mut program = argv([]);
        program.argv = vec![module.path("tools").join(name).into()];
        program.argv.extend(arguments.iter().map(Into::into));
        program.env = redis.environment();
        program.env.push(("REDIS_PASSWORD".into(), password.into()));
        program
    };
    let file = module.path("k.dump");
    let mut program = tool("redis-dump", &["k"], "canary-right");
    program.stdout = holdfast::process::Stdout::File(fs::File::create(&file).unwrap().into());
    assert!(run(program).await.1.ok());
    assert!(fs::read(&file).unwrap().starts_with(b"holdfast-redis-key 1 ttl=-1\n"));

    let mut program = tool("redis-restore", &["copy", "5000"], "canary-right");
    program.stdin = Stdin::File(fs::File::open(&file).unwrap().into());
    assert!(run(program).await.1.ok());

    let (printed, ended) = run(tool("redis-dump", &["k"], "canary-wrong")).await;
    assert!(!ended.ok() && !printed.contains("canary"), "{printed}");
    assert!(printed.contains("REDIS_PASSWORD"), "{printed}");
    let (printed, ended) = run(tool("redis-dump", &[], "x")).await;
    assert_eq!(ended.how, holdfast::process::How::Exited(2));
    assert!(printed.contains("usage: redis-dump KEY"), "{printed}");
    let mut program = tool("redis-dump", &["k"], "x");
    program.env[0].1 = module.path("nowhere.sock").into();
    let (printed, ended) = run(program).await;
    assert!(!ended.ok() && printed.contains("nowhere.sock"), "{printed}");
}
