//! What restic of each supported version makes of a tree.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use holdfast::process::Program;
use holdfast::target::{Manifest, Tree};

use crate::setup::{Module, mode, restics, run_well};
use crate::tree::manifest;

/// Runs a test with each restic that is supported, side by side.
async fn with_each<F: Future<Output = ()> + Send + 'static>(test: impl Fn(PathBuf) -> F) {
    let mut running: tokio::task::JoinSet<()> = restics().into_iter().map(test).collect();
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
}

struct Repository {
    restic: PathBuf,
    dir: tempfile::TempDir,
}

impl Repository {
    async fn new(restic: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("password"), "x").unwrap();
        let repository = Self { restic: restic.to_owned(), dir };
        run_well(repository.command(&["init"], Path::new("/"))).await;
        repository
    }

    fn command(&self, arguments: &[&str], cwd: &Path) -> Program {
        let place = |name: &str| self.dir.path().join(name).into_os_string();
        let mut argv = vec![
            self.restic.clone().into_os_string(),
            "-r".into(),
            place("r"),
            "--password-file".into(),
            place("password"),
        ];
        argv.extend(["--cache-dir".into(), place("cache")]);
        argv.extend(arguments.iter().map(OsString::from));
        let mut program = Program::new(argv);
        program.dir = Some(cwd.to_owned());
        program
    }

    /// Backs a tree up as the job does.
    async fn backup(&self, tree: &Tree) {
        let (list, excludes) = (self.dir.path().join("list"), self.dir.path().join("excludes"));
        fs::write(&list, tree.files_from_raw()).unwrap();
        fs::write(&excludes, &tree.exclude_text).unwrap();
        let (list, excludes) = (list.display().to_string(), excludes.display().to_string());
        let arguments = ["backup", "--files-from-raw", &list, "--exclude-file", &excludes];
        run_well(self.command(&arguments, &tree.dir)).await;
    }

    /// Every path in the latest snapshot that is no directory.
    async fn files(&self) -> BTreeSet<String> {
        let printed = run_well(self.command(&["ls", "--json", "latest"], Path::new("/"))).await;
        let rows = printed.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let files = rows.filter(|row| row["struct_type"] == "node" && row["type"] != "dir");
        files
            .filter_map(|row| row["path"].as_str().map(|path| path.trim_start_matches('/').to_owned()))
            .collect()
    }

    async fn restore(&self) -> PathBuf {
        let target = self.dir.path().join("restored");
        let text = target.display().to_string();
        run_well(self.command(&["restore", "latest", "--target", &text], Path::new("/"))).await;
        target
    }
}

#[tokio::test]
async fn a_tree_is_stored_as_plain_directories_and_comes_back_byte_by_byte() {
    with_each(|restic| async move {
        let mut module = Module::wiki();
        module.write("config/etc/state-include.conf", "volumes/wiki-data\nvolumes/wiki-conf/local/users");
        module.write("config/etc/state-exclude.conf", "*.json\n");
        module.write("volumes/wiki-data/pages/a", "page");
        module.write("volumes/wiki-conf/local/users", "users");
        module.write("srv/wiki/notes", "notes");
        let odd: [&[u8]; 4] = [b"\xff\xfe", b"new\nline", b"-dash", b"[x]*"];
        for name in odd {
            fs::write(module.path("volumes/wiki-data").join(OsStr::from_bytes(name)), name).unwrap();
        }
        symlink("/etc/passwd", module.path("volumes/wiki-data/link")).unwrap();
        mode(&module.path("volumes/wiki-conf/local"), 0o710);
        module.instance.include = vec![module.path("srv/wiki").display().to_string()];

        let mut tree = module.tree().await;
        fs::create_dir(tree.dir.join("dumps")).unwrap();
        fs::write(tree.dir.join("dumps/pg.json"), "dump").unwrap();
        tree.commit(&manifest(&tree)).unwrap();
        let repository = Repository::new(&restic).await;
        repository.backup(&tree).await;

        let back = repository.restore().await;
        let read = |path: &str| fs::read(back.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(read("volumes/wiki-data/pages/a"), b"page");
        assert_eq!(read("volumes/wiki-conf/local/users"), b"users");
        assert_eq!(read(&format!("files{}/notes", module.path("srv/wiki").display())), b"notes");
        assert_eq!(read("dumps/pg.json"), b"dump");
        assert_eq!(Manifest::from_json(&read("manifest.json")).unwrap(), manifest(&tree));
        for name in odd {
            assert_eq!(fs::read(back.join("volumes/wiki-data").join(OsStr::from_bytes(name))).unwrap(), name);
        }
        assert_eq!(fs::read_link(back.join("volumes/wiki-data/link")).unwrap(), Path::new("/etc/passwd"));
        let kept = fs::symlink_metadata(back.join("volumes/wiki-conf/local")).unwrap();
        assert_eq!((kept.mode() & 0o7777, kept.is_dir()), (0o710, true));
        for dir in ["state", "volumes/wiki-data", "volumes/wiki-conf", "files"] {
            assert!(fs::symlink_metadata(back.join(dir)).unwrap().is_dir(), "{dir} came back as a link");
        }
    })
    .await;
}

/// Each set of patterns is tried on files that we name ourselves and on the same files deeper down, where restic decides:
/// both must agree, in every version.
#[tokio::test]
async fn our_excludes_and_restics_agree() {
    with_each(|restic| async move { agree(&restic).await }).await;
}

async fn agree(restic: &Path) {
    let sets: [&[&str]; 3] = [
        &["*.tmp", "!keep.tmp", "cache", "!cache/keep", "#hash"],
        &["cache/*", "!cache/keep", "**/deep/*", "[a-c]?", "\\[x\\]", "end "],
        // Names that stand in the path of the tree itself must not leave everything out.
        &["tmp", "staging", "tree", "srv", "home", "wiki-*/**/index*", "!wiki-*/**/index.keep*", "$lit"],
    ];
    let files = [
        "a.tmp",
        "keep.tmp",
        "cache/x",
        "cache/keep",
        "sub/deep/x",
        "deep/x",
        "b1",
        "d1",
        "[x]",
        "end ",
        "end",
        "tmp",
        "srv/x",
        "index",
        "sub/index.keep",
        "sub/index.x",
        "$lit",
        "lit",
        "#hash",
        "!bang",
    ];
    let repository = Repository::new(restic).await;
    for patterns in sets {
        let mut module = Module::wiki();
        fs::remove_dir_all(module.path("config/etc")).unwrap();
        for file in files {
            module.write(&format!("volumes/wiki-data/{file}"), "x");
            module.write(&format!("volumes/wiki-conf/nest/{file}"), "x");
        }
        module.instance.include = vec!["volumes/wiki-data".into(), "volumes/wiki-conf".into()];
        module.instance.exclude = patterns.iter().map(ToString::to_string).collect();
        let mut tree = module.tree().await;
        tree.commit(&manifest(&tree)).unwrap();
        repository.backup(&tree).await;
        let stored = repository.files().await;
        let below =
            |root: &str| -> BTreeSet<&str> { stored.iter().filter_map(|f| f.strip_prefix(root)).collect() };
        let (named, deep) = (below("volumes/wiki-data/"), below("volumes/wiki-conf/nest/"));
        assert_eq!(named, deep, "{patterns:?} in {}", restic.display());
        let left = files.len() - named.len();
        assert!((4..10).contains(&left), "{patterns:?} left {left} out: {named:?}");
        assert!(stored.contains("manifest.json") && stored.contains("state/environment"), "{stored:?}");
    }
}

#[tokio::test]
async fn a_repository_inside_of_an_include_is_not_stored_in_itself() {
    with_each(|restic| async move {
        let mut module = Module::bare();
        let repository = Repository::new(&restic).await;
        fs::write(repository.dir.path().join("data"), "x").unwrap();
        let top = repository.dir.path().canonicalize().unwrap();
        module.instance.include = vec![top.display().to_string()];
        let tree = Tree::build(
            &module.resolve().await,
            &module.staging().tree(),
            &[top.join("r"), top.join("cache")],
        );
        repository.backup(&tree.unwrap()).await;
        let stored = repository.files().await;
        let names: BTreeSet<_> = stored.iter().filter_map(|f| Path::new(f).file_name()?.to_str()).collect();
        assert_eq!(names, BTreeSet::from(["data", "excludes", "list", "password"]));
    })
    .await;
}
