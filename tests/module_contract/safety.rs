//! What a module's own user may prepare must not lead the daemon elsewhere.

use std::fs;
use std::os::unix::fs::symlink;

use crate::setup::{Module, mode, targets};

#[tokio::test]
async fn a_link_on_the_way_inside_an_instances_data_is_not_followed() {
    let mut module = Module::wiki();
    fs::remove_dir_all(module.path("config/etc")).unwrap();
    symlink("/etc", module.path("config/state/way")).unwrap();
    symlink("/etc", module.path("volumes/wiki-data/way")).unwrap();
    module.instance.include =
        ["state/way/passwd", "volumes/wiki-data/way/pass*", "volumes/wiki-data/*/passwd"]
            .map(String::from)
            .into();
    let tree = module.tree().await;
    assert_eq!(targets(&tree), ["state/environment"]);
    assert_eq!(tree.missing.len(), 3, "{:?}", tree.missing);
    assert!(tree.missing.iter().all(|m| m.contains("symbolic link")), "{:?}", tree.missing);
}

#[tokio::test]
async fn a_link_that_is_itself_included_is_stored_as_a_link_and_said_so() {
    let mut module = Module::wiki();
    fs::remove_dir_all(module.path("config/etc")).unwrap();
    symlink("/etc/passwd", module.path("config/state/link")).unwrap();
    module.instance.include = vec!["state/link".into()];
    let tree = module.tree().await;
    assert_eq!(targets(&tree), ["state/environment", "state/link"]);
    assert!(tree.warnings.iter().any(|w| w.contains("state/link") && w.contains("the link is stored")));
}

#[tokio::test]
async fn an_absolute_include_goes_through_links_of_root_but_not_through_those_of_others() {
    let mut module = Module::bare();
    module.write("real/wiki/a", "x");
    symlink("real", module.path("ours")).unwrap();
    fs::create_dir(module.path("open")).unwrap();
    symlink(module.path("real"), module.path("open/theirs")).unwrap();
    mode(&module.path("open"), 0o777);
    // The temporary directory above is the test's own: private, so that its links can be trusted.
    mode(module.place.path(), 0o700);
    let good = module.path("ours/wiki").display().to_string();
    module.instance.include = vec![good.clone(), module.path("open/theirs/wiki").display().to_string()];
    let tree = module.tree().await;
    assert_eq!(targets(&tree), [format!("files{good}")]);
    assert!(tree.missing.len() == 1 && tree.missing[0].contains("open/theirs"), "{:?}", tree.missing);
}

#[tokio::test]
async fn an_include_file_that_leads_out_of_the_install_dir_is_refused_without_showing_its_target() {
    let module = Module::wiki();
    let file = module.path("config/etc/state-include.conf");
    fs::remove_file(&file).unwrap();
    symlink("/etc/passwd", &file).unwrap();
    let refusal = module.refusal().await;
    assert!(refusal.contains("state-include.conf") && refusal.contains("leads out"), "{refusal}");
    assert!(!refusal.contains("root:"), "{refusal}");
}

#[tokio::test]
async fn a_pipe_in_place_of_a_file_does_not_hang_us() {
    let module = Module::wiki();
    let file = module.path("config/state/environment");
    fs::remove_file(&file).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(module.refusal().await.contains("not a regular file"));
}

#[tokio::test]
async fn an_environment_with_nul_bytes_and_a_huge_include_file_are_refused() {
    let module = Module::wiki();
    module.write("config/state/environment", "A=1\nB=\0\n");
    let refusal = module.refusal().await;
    assert!(refusal.contains("state/environment") && refusal.contains("line 2"), "{refusal}");
    module.write("config/state/environment", "A=1\n");
    module.write("config/etc/state-include.conf", &"state/x\n".repeat(200_000));
    assert!(module.refusal().await.contains("more than"));
}
