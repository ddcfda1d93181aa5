//! With another user than our own: needs root. `cargo test --test module_contract -- --ignored system_`

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;

use holdfast::definition::{Name, Volumes};
use holdfast::target::Make;
use tokio_util::sync::CancellationToken;

use crate::setup::{Module, Redis, argv, mode, run_well, targets};
use crate::volumes::engine;

const NOBODY: u32 = 65534;

fn give(path: &Path) {
    std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    if !path.is_symlink() && path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path());
        }
    }
}

/// The module as user `nobody` has it: all of it is that user's own.
fn of_nobody() -> Module {
    assert!(rustix::process::geteuid().is_root(), "this test must be run as root");
    let mut module = Module::wiki();
    mode(module.place.path(), 0o755);
    // The built program lies where `nobody` may not look.
    for name in ["redis-dump", "redis-restore"] {
        let tool = module.path("tools").join(name);
        fs::remove_file(&tool).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_holdfast"), &tool).unwrap();
    }
    give(&module.path("config"));
    module.instance.user = Some("nobody".into());
    module
}

#[tokio::test]
#[ignore = "needs root"]
async fn system_hooks_run_as_the_instances_user_with_its_own_rights() {
    let module = of_nobody();
    let redis = Redis::start(&module.path(""));
    let environment = module.path("config/state/environment");
    let text = fs::read_to_string(&environment).unwrap();
    fs::write(&environment, format!("{text}REDIS_ADDRESS={}\n", redis.socket.display())).unwrap();
    let mut sqlite = argv(["sqlite3", "wiki.sqlite", "create table page(t)"]);
    sqlite.dir = Some(module.path("config/state"));
    run_well(sqlite).await;
    let place = module.resolve().await;
    run_well(place.dump_hook("b").unwrap()).await;
    let seen = fs::read_to_string(module.path("config/state/hook.seen")).unwrap();
    for line in ["user=nobody", "USER=nobody", "HOME=/nonexistent"] {
        assert!(seen.lines().any(|l| l == line), "{line} is not in {seen}");
    }
    run_well(place.cleanup_hook("b").unwrap()).await;
}

#[tokio::test]
#[ignore = "needs root"]
async fn system_a_hook_of_a_third_user_is_refused() {
    let module = of_nobody();
    chown(module.path("config/bin/module-dump-state"), Some(1), None).unwrap();
    let refusal = module.refusal().await;
    assert!(refusal.contains("neither root nor nobody"), "{refusal}");
}

#[tokio::test]
#[ignore = "needs root"]
async fn system_an_own_user_has_its_volumes_under_their_plain_names_and_only_in_its_own_directories() {
    let mut module = of_nobody();
    module.instance.volumes = Volumes::Podman;
    engine(&module, "podman");
    fs::write(module.path("asked"), "").unwrap();
    mode(&module.path("asked"), 0o666);
    for volume in ["wiki-data", "wiki-conf", "wiki-plugins"] {
        module.write(&format!("engine/{volume}/local/x"), "x");
    }
    let refusal = module.refusal().await;
    assert!(refusal.contains("not in a directory of user nobody"), "{refusal}");
    give(&module.path("engine"));
    let tree = module.tree().await;
    assert_eq!(fs::read_link(tree.dir.join("volumes/wiki-data")).unwrap(), module.path("engine/wiki-data"));
    assert!(targets(&tree).contains(&"volumes/wiki-data/local".to_owned()));
    let asked = fs::read_to_string(module.path("asked")).unwrap();
    assert!(!asked.contains("wiki1-"), "{asked}");
}

#[tokio::test]
#[ignore = "needs root"]
async fn system_a_user_cannot_turn_its_state_directory_into_another_place() {
    let module = of_nobody();
    fs::rename(module.path("config/state"), module.path("config/kept")).unwrap();
    symlink("/etc", module.path("config/state")).unwrap();
    give(&module.path("config/state"));
    let refusal = module.refusal().await;
    assert!(refusal.contains("config/state is a symbolic link"), "{refusal}");
}

#[tokio::test]
#[ignore = "needs root"]
async fn system_podman_itself_makes_finds_and_misses_volumes() {
    assert!(rustix::process::geteuid().is_root(), "this test must be run as root");
    let mut module = Module::bare();
    module.instance.name = Name::parse(&format!("holdfast-test-{}", std::process::id())).unwrap();
    module.instance.volumes = Volumes::Podman;
    module.instance.include = vec!["volumes/none".into(), "volumes/d*".into()];
    let mut place = module.resolve().await;
    assert_eq!(place.volumes.len(), 0);
    place.create_volume("data", &Make::default(), &CancellationToken::new()).await.unwrap();
    fs::write(place.volumes["data"].join("file"), "x").unwrap();
    let found = module.try_tree().await.map(|tree| targets(&tree));
    run_well(argv(["podman", "volume", "rm", &format!("{}-data", module.instance.name)])).await;
    assert_eq!(found.unwrap(), ["volumes/data/file"]);
}
