//! Names and places of container volumes, with a stand-in for the engine that only knows mountpoints.

use std::collections::BTreeMap;
use std::fs;

use holdfast::definition::Volumes;
use holdfast::target::{Make, Purpose};
use tokio_util::sync::CancellationToken;

use crate::setup::{Module, executable, targets};

/// Answers as podman and docker do for the volumes in `engine/NAME`, and writes down what it was asked.
pub(crate) fn engine(module: &Module, name: &str) {
    let (dir, log) = (module.path("engine"), module.path("asked"));
    fs::create_dir_all(&dir).unwrap();
    let text = format!(
        r#"#!/bin/bash
echo "$@" >> {log}
case "$1 $2" in
"volume ls") ls {dir} ;;
"volume create") mkdir {dir}/"$3" ;;
"volume inspect")
    [ -e {dir}/broken ] && {{ echo "Error: cannot connect" >&2; exit 125; }}
    [ -e {dir}/"$3"/elsewhere ] && {{ printf '[{{"Name":"%s","Driver":"cloud","Mountpoint":""}}]\n' "$3"; exit; }}
    [ -d {dir}/"$3" ] || {{ echo "[]"; echo "Error: no such volume $3" >&2; exit 125; }}
    printf '[{{"Name":"%s","Driver":"local","Mountpoint":"{dir}/%s","Options":{{}}}}]\n' "$3" "$3" ;;
*) exit 9 ;;
esac
"#,
        dir = dir.display(),
        log = log.display()
    );
    executable(&module.path("tools").join(name), &text);
}

/// The name of a volume in the engine, for an instance of ours: as root with the instance's name in front.
fn full(name: &str) -> String {
    if rustix::process::geteuid().is_root() { format!("wiki1-{name}") } else { name.to_owned() }
}

fn with_engine(name: &str, volumes: Volumes) -> Module {
    let mut module = Module::wiki();
    module.instance.volumes = volumes;
    engine(&module, name);
    for volume in [full("wiki-data"), full("wiki-conf"), full("restic-cache"), "other-data".into()] {
        module.write(&format!("engine/{volume}/local/x"), "x");
    }
    module
}

#[tokio::test]
async fn volumes_are_found_under_the_name_that_the_instances_user_gives_them() {
    for (name, volumes) in [("podman", Volumes::Podman), ("docker", Volumes::Docker)] {
        let module = with_engine(name, volumes);
        let tree = module.tree().await;
        assert_eq!(
            targets(&tree),
            ["state/environment", "volumes/wiki-conf/local", "volumes/wiki-data/local"]
        );
        let link = fs::read_link(tree.dir.join("volumes/wiki-data")).unwrap();
        assert_eq!(link, module.path("engine").join(full("wiki-data")));
        assert!(tree.missing.iter().any(|m| m.contains("volumes/wiki-plugins")), "{:?}", tree.missing);
        let asked = fs::read_to_string(module.path("asked")).unwrap();
        assert!(asked.contains(&format!("volume inspect {}\n", full("wiki-plugins"))), "{asked}");
        assert!(!asked.contains("other"), "{asked}");
    }
}

#[tokio::test]
async fn a_pattern_over_volumes_sees_the_instances_own_ones() {
    let mut module = with_engine("podman", Volumes::Podman);
    fs::remove_dir_all(module.path("config/etc")).unwrap();
    module.instance.include = vec!["volumes/wiki-*".into(), "volumes/rest*".into()];
    let tree = module.tree().await;
    let all = ["state/environment", "volumes/wiki-conf/local", "volumes/wiki-data/local"];
    assert_eq!(targets(&tree), all);
    assert_eq!(tree.unmatched.len(), 1, "{:?}", tree.unmatched);
    module.instance.include = vec!["volumes".into()];
    // Without the instance's name in front all volumes of the user are its own, but never restic's cache.
    let mut expected = all.to_vec();
    if full("").is_empty() {
        expected.insert(1, "volumes/other-data/local");
    }
    assert_eq!(targets(&module.tree().await), expected);
}

#[tokio::test]
async fn an_engine_that_fails_is_a_failure_not_a_missing_volume() {
    let module = with_engine("podman", Volumes::Podman);
    module.write("engine/broken", "");
    let refusal = module.refusal().await;
    assert!(refusal.contains("cannot connect") && refusal.contains("podman"), "{refusal}");
}

#[tokio::test]
async fn a_volume_whose_driver_keeps_its_data_elsewhere_is_left_to_its_engine_by_root_alone() {
    let module = with_engine("docker", Volumes::Docker);
    module.write(&format!("engine/{}/elsewhere", full("wiki-data")), "");
    if !rustix::process::geteuid().is_root() {
        let refusal = module.refusal().await;
        assert!(refusal.contains("through docker") && refusal.contains("as root"), "{refusal}");
        return;
    }
    let place = module.resolve_for(Purpose::Backup, &[]).await.unwrap();
    assert_eq!(place.held["wiki-data"].volume, full("wiki-data"));
    let unread = place.live_path("volumes/wiki-data/x".as_ref()).unwrap_err().to_string();
    assert!(unread.contains("volume wiki1-wiki-data of docker"), "{unread}");
}

#[tokio::test]
async fn a_restore_makes_the_volume_that_it_needs() {
    let module = with_engine("podman", Volumes::Podman);
    let mut place = module.resolve_for(Purpose::Restore, &["wiki-new".into()]).await.unwrap();
    assert!(place.live_path("volumes/wiki-new/x".as_ref()).is_err());
    place.create_volume("wiki-new", &Make::default(), &CancellationToken::new()).await.unwrap();
    let made = module.path("engine").join(full("wiki-new"));
    assert_eq!(place.live_path("volumes/wiki-new/x".as_ref()).unwrap(), made.join("x"));
    place.create_volume("wiki-new", &Make::default(), &CancellationToken::new()).await.unwrap();
    assert_eq!(place.volumes["wiki-new"], made, "that it exists is no error");
}

#[tokio::test]
async fn volumes_that_nobody_knows_are_a_clear_failure() {
    let mut module = Module::wiki();
    module.instance.volumes = Volumes::None;
    let refusal = module.refusal().await;
    assert!(refusal.contains("`volumes`") && refusal.contains("table"), "{refusal}");
    module.instance.volumes = Volumes::Table(BTreeMap::new());
    let tree = module.tree().await;
    let missing = tree.missing.iter().filter(|m| m.contains("volumes/wiki-")).count();
    assert_eq!(missing, 3, "{:?}", tree.missing);
}
