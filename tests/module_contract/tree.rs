//! Which paths a tree names, what it misses, and what it remembers of its roots.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use holdfast::target::{Manifest, RootKind, Tree, TreePath};

use crate::setup::{Module, mode, targets};

fn strings<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(String::from).into()
}

#[tokio::test]
async fn the_include_file_is_expanded_to_literal_paths_its_last_line_without_newline_too() {
    let module = Module::wiki();
    for file in [
        "config/state/wiki.sql",
        "config/state/ui_name.dump",
        "config/state/hook.seen",
        "config/state/secret",
    ] {
        module.write(file, "x");
    }
    for file in ["pages/start.txt", "cache/x", "index", "media/a", "index.keep"] {
        module.write(&format!("volumes/wiki-data/{file}"), "x");
    }
    module.write("volumes/wiki-conf/local/users.auth", "x");
    module.write("volumes/wiki-conf/other", "x");
    module.write("volumes/wiki-plugins/p/plugin.php", "x");
    let tree = module.tree().await;
    assert_eq!(
        targets(&tree),
        [
            "state/environment",
            "state/hook.seen",
            "state/ui_name.dump",
            "state/wiki.sql",
            "volumes/wiki-conf/local",
            "volumes/wiki-data/index.keep",
            "volumes/wiki-data/media",
            "volumes/wiki-data/pages",
            "volumes/wiki-plugins/p",
        ]
    );
    assert_eq!(tree.missing, Vec::<String>::new());
    assert!(tree.unmatched.len() == 1 && tree.unmatched[0].contains("state/never-*"), "{:?}", tree.unmatched);
    assert!(tree.unmatched[0].contains("etc/state-include.conf:10"), "{:?}", tree.unmatched);
    assert_eq!(fs::read_link(tree.dir.join("volumes/wiki-data")).unwrap(), module.path("volumes/wiki-data"));
    let includes: Vec<_> = tree.includes.iter().map(|p| p.as_path().to_str().unwrap()).collect();
    assert!(
        includes.contains(&"volumes/wiki-data") && includes.contains(&"volumes/wiki-conf/local"),
        "{includes:?}"
    );
}

#[tokio::test]
async fn every_form_of_include_in_a_definition_finds_its_files() {
    let mut module = Module::wiki();
    fs::remove_dir_all(module.path("config/etc")).unwrap();
    module.write("srv/wiki/a", "x");
    module.write("config/state/deep/x", "x");
    let absolute = module.path("srv/wiki").display().to_string();
    module.instance.include = strings(["state/deep", "volumes/wiki-*/b"]);
    module.instance.include.push(absolute.clone());
    module.write("volumes/wiki-conf/b", "x");
    module.write("volumes/wiki-data/b", "x");
    let expected = [
        "files".to_owned() + &absolute,
        "state/deep".into(),
        "state/environment".into(),
        "volumes/wiki-conf/b".into(),
        "volumes/wiki-data/b".into(),
    ];
    let tree = module.tree().await;
    assert_eq!(targets(&tree), expected);
    assert_eq!(fs::read_link(tree.dir.join("files")).unwrap(), Path::new("/"));
    let kinds: Vec<_> =
        tree.roots.iter().map(|r| (r.path.as_path().to_str().unwrap(), r.kind, r.whole)).collect();
    assert_eq!(
        kinds,
        [
            ("files", RootKind::Files, false),
            ("state", RootKind::State, false),
            ("volumes/wiki-conf", RootKind::Volume, false),
            ("volumes/wiki-data", RootKind::Volume, false),
        ]
    );
}

#[tokio::test]
async fn what_is_missing_is_listed_and_fails_only_when_strict() {
    let mut module = Module::wiki();
    fs::remove_dir_all(module.path("config/etc")).unwrap();
    module.instance.include = strings(["state/gone", "volumes/wiki-gone/x", "state/gone-*", "/no/such/file"]);
    let tree = module.tree().await;
    assert_eq!(targets(&tree), ["state/environment"]);
    assert_eq!(tree.missing.len(), 3, "{:?}", tree.missing);
    assert_eq!(tree.unmatched.len(), 1, "{:?}", tree.unmatched);
    module.instance.strict = true;
    let error = format!("{:#}", module.try_tree().await.unwrap_err());
    assert!(
        error.contains("strict") && error.contains("state/gone") && error.contains("/no/such/file"),
        "{error}"
    );
}

#[tokio::test]
async fn nothing_at_all_to_back_up_is_a_failure() {
    let mut module = Module::bare();
    assert!(format!("{:#}", module.try_tree().await.unwrap_err()).contains("nothing to back up"));
    module.instance.include = strings(["/no/such/file"]);
    let error = format!("{:#}", module.try_tree().await.unwrap_err());
    assert!(error.contains("nothing to back up") && error.contains("/no/such/file"), "{error}");
}

#[tokio::test]
async fn nothing_is_named_twice() {
    let mut module = Module::wiki();
    fs::remove_dir_all(module.path("config/etc")).unwrap();
    for file in ["state/a/b/c", "state/a-b", "state/a"] {
        if file != "state/a" {
            module.write(&format!("config/{file}"), "x");
        }
    }
    module.instance.include = strings(["state/a/b/c", "state/a", "./state//a/b/", "state/a*", "state/a-b"]);
    assert_eq!(targets(&module.tree().await), ["state/a", "state/a-b", "state/environment"]);
    module.instance.include = strings(["state", "state/a/b"]);
    let tree = module.tree().await;
    assert_eq!(targets(&tree), ["state/a", "state/a-b", "state/environment"]);
    assert_eq!(tree.includes, [TreePath("state".into())]);
}

#[tokio::test]
async fn an_empty_volume_is_remembered_with_owner_mode_and_time() {
    let mut module = Module::wiki();
    fs::remove_dir_all(module.path("config/etc")).unwrap();
    let volume = module.path("volumes/wiki-data");
    mode(&volume, 0o2751);
    module.instance.include = strings(["volumes/wiki-data"]);
    let mut tree = module.tree().await;
    let root =
        tree.roots.iter().find(|r| r.path.as_path() == Path::new("volumes/wiki-data")).unwrap().clone();
    assert!(root.whole && root.empty && root.mode == 0o2751, "{root:?}");
    let modified = fs::metadata(&volume).unwrap().modified().unwrap();
    assert_eq!(root.mtime, jiff::Timestamp::try_from(modified).unwrap());
    assert_eq!(root.uid, rustix::process::geteuid().as_raw());

    let back = module.path("back");
    fs::create_dir(&back).unwrap();
    root.put_on(&back).unwrap();
    let meta = fs::metadata(&back).unwrap();
    assert_eq!((meta.permissions().mode() & 0o7777, meta.modified().unwrap()), (0o2751, modified));

    let manifest = manifest(&tree);
    tree.commit(&manifest).unwrap();
    assert_eq!(targets(&tree).last().unwrap(), "manifest.json");
    let text = fs::read(tree.dir.join("manifest.json")).unwrap();
    assert_eq!(Manifest::from_json(&text).unwrap(), manifest);
}

pub(crate) fn manifest(tree: &Tree) -> Manifest {
    Manifest {
        format: holdfast::target::FORMAT,
        holdfast: "0.1.0".into(),
        set: "set".into(),
        time: jiff::Timestamp::UNIX_EPOCH,
        host: "h".into(),
        backup: "b".into(),
        instance: "wiki1".into(),
        module: None,
        uuid: "u".into(),
        user: "root".into(),
        version: None,
        includes: tree.includes.clone(),
        excludes: tree.excludes.clone(),
        roots: tree.roots.clone(),
        missing: tree.missing.clone(),
        definition: None,
        dumps: Vec::new(),
        users: [(0, "root".to_owned())].into(),
        groups: std::collections::BTreeMap::new(),
        imported: None,
    }
}

#[tokio::test]
async fn the_attributes_of_a_volume_are_remembered_and_put_back() {
    use rustix::fs::{XattrFlags, getxattr, setxattr};
    let mut module = Module::wiki();
    let volume = module.path("volumes/wiki-data");
    // user::rwx user:65534:r-x group::r-x mask::rwx other::--- as Linux stores it.
    let acl: Vec<u8> = [2u32.to_le_bytes().to_vec()]
        .into_iter()
        .chain(
            [(1u16, 7u16, u32::MAX), (2, 5, 65534), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)]
                .map(|(tag, permissions, id)| {
                    [tag.to_le_bytes().as_slice(), &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
                }),
        )
        .flatten()
        .collect();
    let names = ["system.posix_acl_access", "system.posix_acl_default"];
    for name in names {
        setxattr(&volume, name, &acl, XattrFlags::empty())
            .expect("the temporary directory needs a file system with ACLs");
    }
    module.instance.include = strings(["volumes/wiki-data"]);
    let tree = module.tree().await;
    let text = manifest(&tree).to_json().unwrap();
    let read = Manifest::from_json(&text).unwrap();
    let root = read.roots.iter().find(|r| r.path.as_path().ends_with("wiki-data")).unwrap();
    let back = module.path("back");
    fs::create_dir(&back).unwrap();
    root.put_on(&back).unwrap();
    for name in names {
        let mut value = vec![0; 1000];
        let length = getxattr(&back, name, &mut value).unwrap();
        assert_eq!(value[..length], acl, "{name}");
    }
}

#[tokio::test]
async fn the_whole_machine_is_included_without_what_the_kernel_makes_up() {
    let mut module = Module::bare();
    module.instance.include = strings(["/"]);
    let tree = module.tree().await;
    let targets = targets(&tree);
    assert!(targets.contains(&"files/etc".to_owned()), "{targets:?}");
    for made_up in ["files/proc", "files/sys", "files/dev", "files/run"] {
        assert!(!targets.contains(&made_up.to_owned()), "{made_up}");
    }
    let staging = module.path("staging").display().to_string();
    assert!(String::from_utf8(tree.exclude_text).unwrap().contains(&format!("/files{staging}\n")));
}

#[tokio::test]
async fn names_of_any_bytes_are_named_as_they_are() {
    let mut module = Module::wiki();
    fs::remove_dir_all(module.path("config/etc")).unwrap();
    let odd: [&[u8]; 6] = [b"\xff\xfe", b"new\nline", b"-dash", b"[x]*", b" space ", b"\\"];
    for name in odd {
        fs::write(module.path("volumes/wiki-data").join(OsStr::from_bytes(name)), "x").unwrap();
    }
    module.instance.include = strings(["volumes/wiki-data/?*"]);
    let tree = module.tree().await;
    for name in odd {
        let wanted = [b"volumes/wiki-data/".as_slice(), name, b"\0"].concat();
        let raw = tree.files_from_raw();
        assert!(raw.windows(wanted.len()).any(|part| part == wanted), "{name:?}");
    }
    assert_eq!(tree.targets.len(), odd.len() + 1);
}

#[tokio::test]
async fn a_pattern_that_is_none_is_an_error_with_its_place() {
    let mut module = Module::wiki();
    module.write("config/etc/state-exclude.conf", "ok\nbad[\n");
    let error = format!("{:#}", module.try_tree().await.unwrap_err());
    assert!(error.contains("state-exclude.conf:2") && error.contains("bad["), "{error}");
    module.write("config/etc/state-exclude.conf", "");
    module.instance.include = strings(["state/[x"]);
    assert!(module.refusal().await.contains("state/[x"));
}

#[tokio::test]
async fn a_line_of_the_include_file_outside_of_state_and_volumes_is_ignored_with_a_warning() {
    let module = Module::wiki();
    module.write("config/etc/state-include.conf", "/etc/shadow\nstate/../../x\n~/y\nfiles/etc\nstate/ä\n");
    let tree = module.tree().await;
    assert_eq!(targets(&tree), ["state/environment"]);
    let warned = tree.warnings.iter().filter(|w| w.contains("state-include.conf:")).count();
    assert_eq!(warned, 4, "{:?}", tree.warnings);
}

#[tokio::test]
async fn our_own_directories_are_left_out_and_never_included() {
    let mut module = Module::bare();
    module.write("srv/data/a", "x");
    module.write("srv/repo/config", "x");
    module.write("srv/nested/state/holdfast.db", "x");
    let repo = module.path("srv/repo");
    symlink(&repo, module.path("link-to-repo")).unwrap();
    let own = [module.path("link-to-repo"), module.path("srv/nested/state"), module.path("srv/not/yet")];
    module.instance.include = vec![module.path("srv").display().to_string() + "/*"];
    let error = Tree::build(&module.resolve().await, &module.staging().tree(), &own).unwrap_err();
    assert!(format!("{error:#}").contains("srv/repo"), "{error:#}");

    module.instance.include = vec![module.path("srv").display().to_string()];
    let tree = Tree::build(&module.resolve().await, &module.staging().tree(), &own).unwrap();
    let text = String::from_utf8(tree.exclude_text.clone()).unwrap();
    for dir in [&repo, &own[1], &own[2]] {
        let line = format!("{}/files{}\n", tree.dir.display(), dir.display());
        assert!(text.contains(&line), "{line} is not in {text}");
    }
    assert_eq!(tree.warnings.len(), 3, "{:?}", tree.warnings);
}

#[tokio::test]
async fn live_paths_stay_below_their_roots() {
    let module = Module::wiki();
    let place = module.resolve().await;
    let live = |path: &str| place.live_path(Path::new(path)).map_err(|e| e.to_string());
    assert_eq!(live("state/a/b").unwrap(), module.path("config/state/a/b"));
    assert_eq!(live("state").unwrap(), module.path("config/state"));
    assert_eq!(live("volumes/wiki-data/x").unwrap(), module.path("volumes/wiki-data/x"));
    assert_eq!(live("files/srv/wiki").unwrap(), Path::new("/srv/wiki"));
    for bad in [
        "",
        "/etc",
        "state/../x",
        "../state",
        "volumes",
        "volumes/other/x",
        "manifest.json",
        "etc/x",
        "volumes/../x",
    ] {
        assert!(live(bad).is_err(), "{bad:?} was taken");
    }
}
