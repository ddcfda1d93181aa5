//! Volumes that only their engine reaches, on real engines: what the local driver mounts while a container uses it.
#![expect(clippy::disallowed_methods, reason = "tests start real programs themselves")]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::engine::Engine;
use crate::lab::{Ended, Lab, Setup, names};
use crate::support::stderr;

fn setup(engine: &Engine) -> Setup {
    let mut setup = Setup::new();
    engine.lend(&mut setup);
    let word = engine.word;
    // By name, or by the rule of names.
    let volumes = match word {
        "docker" => ["ram", "bound"].map(|name| format!("{name} = \"docker:app-{name}\"")).join(", "),
        _ => String::new(),
    };
    let volumes = if volumes.is_empty() { format!("\"{word}\"") } else { format!("{{ {volumes} }}") };
    setup.config(&format!(
        "[backup.b]\nrepositories = [\"local\"]\ninstances = [\"app\"]\nretry = {{ attempts = 0 }}\n\
         [instance.app]\nvolumes = {volumes}\ninclude = [\"volumes/ram\", \"volumes/bound\"]\n\
         exclude = [\"volumes/ram/cache\"]\n\
         [[instance.app.service]]\nmanager = \"{word}\"\ncontainers = [\"web\"]\n"
    ))
}

/// A volume in memory, and one that is a directory of the machine: both are there only while a container uses them.
fn volumes(engine: &Engine, machine: &Path) -> [PathBuf; 2] {
    engine.good(&[
        "volume",
        "create",
        "--label",
        "keep=me",
        "--opt",
        "type=tmpfs",
        "--opt",
        "device=tmpfs",
        "app-ram",
    ]);
    bind_volume(engine, machine);
    let place = |name: &str| engine.good(&["volume", "inspect", "--format", "{{.Mountpoint}}", name]).into();
    [place("app-ram"), machine.to_owned()]
}

/// A volume that is a directory of the machine.
fn bind_volume(engine: &Engine, at: &Path) {
    let device = format!("device={}", at.display());
    let options = ["--opt", "type=none", "--opt", "o=bind", "--opt", &device, "app-bound"];
    engine.good(&[&["volume", "create"][..], &options].concat());
}

/// Everything that a volume can hold of a file.
fn fill(dir: &Path, word: &str) {
    fs::create_dir_all(dir.join("deep/er")).unwrap();
    fs::create_dir_all(dir.join("cache")).unwrap();
    fs::write(dir.join("cache/page"), format!("{word}\n")).unwrap();
    fs::write(dir.join("file"), format!("{word}\n")).unwrap();
    fs::write(dir.join(word), "named\n").unwrap();
    fs::write(dir.join("deep/er/own"), "own\n").unwrap();
    chown(dir.join("deep/er/own"), Some(7), Some(100_008)).unwrap();
    fs::set_permissions(dir.join("deep/er/own"), Permissions::from_mode(0o2640)).unwrap();
    fs::hard_link(dir.join("file"), dir.join("deep/same")).unwrap();
    symlink("/etc/passwd", dir.join("deep/link")).unwrap();
    let holes = File::create(dir.join("holes")).unwrap();
    holes.set_len(20 << 20).unwrap();
    holes.write_all_at(b"x", 15 << 20).unwrap();
    let acl = Command::new("setfacl").args(["-m", "u:4711:rwx"]).arg(dir.join("deep")).output().unwrap();
    assert!(acl.status.success(), "{}", stderr(&acl));
    for old in ["deep/er/own", "deep/er", "deep"] {
        let touched =
            Command::new("touch").args(["-d", "2001-02-03 04:05:06.789"]).arg(dir.join(old)).status();
        assert!(touched.unwrap().success());
    }
    fs::set_permissions(dir, Permissions::from_mode(0o2771)).unwrap();
    chown(dir, Some(5), Some(6)).unwrap();
}

/// All that a directory holds, as one tar: owners, modes, times, links, attributes, data.
fn all(dir: &Path) -> Vec<u8> {
    let tar = Command::new("tar")
        .args(["--create", "--format=posix", "--pax-option=delete=atime,delete=ctime", "--sort=name"])
        .args([
            "--numeric-owner",
            "--acls",
            "--xattrs",
            "--exclude=./cache",
            "--exclude=./.holdfast-*",
            "--directory",
        ])
        .arg(dir)
        .arg(".")
        .output()
        .unwrap();
    assert!(tar.status.success(), "{}", stderr(&tar));
    tar.stdout
}

fn listed(tar: &[u8]) -> Vec<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), tar).unwrap();
    let mut list = Command::new("tar");
    list.args(["-tvv", "--acls", "--xattrs", "--full-time", "--numeric-owner", "-f"]);
    String::from_utf8(list.arg(file.path()).output().unwrap().stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[track_caller]
fn assert_same(before: &[u8], dir: &Path, what: &str) {
    let now = all(dir);
    assert_eq!(listed(before), listed(&now), "{what}: {}", dir.display());
    assert!(before == now, "{what}: {} differs in what a list does not show", dir.display());
}

async fn roll_back(lab: &Lab) -> Ended {
    let job: zbus::OwnedObjectPath = lab.daemon.call("Rollback", &("app",)).await.unwrap();
    lab.ended(&job).await
}

async fn round_trip(engine: Engine) {
    let machine = tempfile::tempdir().unwrap();
    let places = volumes(&engine, machine.path());
    // Holds the mounts, and is no service of the instance.
    engine.run("keeper", &["--volume", "app-ram:/data", "--volume", "app-bound:/bound"]);
    engine.run("web", &["--volume", "app-ram:/data"]);
    places.iter().for_each(|place| fill(place, "one"));
    let first = places.each_ref().map(|place| all(place));
    let mut lab = setup(&engine).start().await;
    let backed_up = lab.backup("b").await;
    assert!(backed_up.error.contains("in memory"), "{backed_up:?}");
    assert_eq!((backed_up.outcome.as_str(), engine.state("web")), ("warning", "running".to_owned()));
    for place in &places {
        fs::remove_file(place.join("one")).unwrap();
        fs::remove_dir_all(place.join("deep")).unwrap();
        fill(place, "two");
    }
    let second = places.each_ref().map(|place| all(place));
    let plan: String = lab.daemon.call("Plan", &("app", "", crate::support::Row::new())).await.unwrap();
    assert!(plan.contains("\"fill_volumes\":[\"volume app-ram of"), "{plan}");
    let restored = lab.restore("app", "", &[("setuid", true.into())]).await;
    assert_eq!(restored.outcome, "warning", "{restored:?}\n{}", lab.daemon.log());
    for (place, first) in places.iter().zip(&first) {
        assert_same(first, place, "restored");
    }
    let page = fs::read_to_string(places[0].join("cache/page")).unwrap();
    assert_eq!(page, "two\n", "what the backup left out is carried over");
    assert_eq!(engine.good(&["exec", "web", "/bin/cat", "/data/file"]), "one", "the container sees it");
    let rolled = roll_back(&lab).await;
    assert_eq!(rolled.outcome, "succeeded", "{rolled:?}\n{}", lab.daemon.log());
    places.iter().zip(&second).for_each(|(place, second)| assert_same(second, place, "rolled back"));
    let rolled = roll_back(&lab).await;
    assert_eq!(rolled.outcome, "succeeded", "{rolled:?}\n{}", lab.daemon.log());
    places.iter().zip(&first).for_each(|(place, first)| assert_same(first, place, "rolled back again"));
    lab.assert_settled().await;
    killed(&engine, &mut lab, &places[0]).await;
    gone(&engine, &lab, &places[1]).await;
}

/// Killed while the volume is filled: it is half new, and its old data comes back at the next start.
async fn killed(engine: &Engine, lab: &mut Lab, ram: &Path) {
    let program = lab.text(&format!("fake/{}", engine.word));
    // It waits for the daemon's end, and no longer.
    let hold = "#!/bin/sh\ncase \"$*\" in *--extract*) { head -c 30000; : >'@DIR@/at-fill'; \
        while kill -0 $PPID 2>/dev/null; do sleep 0.05; done; } |\n";
    let exec = program.lines().last().unwrap().replacen("exec ", "", 1);
    lab.write(&format!("fake/{}", engine.word), &format!("{hold}{exec}; exit;; esac\nexec {exec}\n"), 0o755);
    fs::write(ram.join("since"), "new\n").unwrap();
    let before = all(ram);
    lab.start_restore("app", "", &[]).await;
    lab.reached("fill").await;
    lab.until("the volume is half new", || ram.join("deep/er/own").exists() && !ram.join("since").exists())
        .await;
    lab.write(&format!("fake/{}", engine.word), &program, 0o755);
    lab.daemon.restart_after_kill().await;
    lab.until("the undo steps are closed", || names(&lab.path("state/undo")).is_empty()).await;
    assert_same(&before, ram, "killed and started");
    assert_eq!(engine.state("web"), "running");
    lab.assert_settled().await;
    let left = engine.good(&["ps", "--all", "--format", "{{.Names}}"]);
    assert!(!left.contains("holdfast-"), "{left}");
}

/// Volumes that are gone are made anew as they were, but not out of a directory that a snapshot names.
async fn gone(engine: &Engine, lab: &Lab, bound: &Path) {
    engine.good(&["rm", "--force", "web", "keeper"]);
    engine.good(&["volume", "rm", "app-ram", "app-bound"]);
    engine.run("web", &[]);
    let refused = lab.restore("app", "", &[]).await;
    assert_eq!(refused.outcome, "failed", "{refused:?}");
    assert!(refused.error.contains("app-bound") && refused.error.contains("create it"), "{refused:?}");
    bind_volume(engine, bound);
    let made = lab.restore("app", "", &[]).await;
    assert_eq!(made.outcome, "warning", "{made:?}\n{}", lab.daemon.log());
    assert!(made.error.contains("stays while a container uses it"), "{made:?}");
    let format = "{{.Options.type}} {{.Labels.keep}}";
    assert_eq!(engine.good(&["volume", "inspect", "--format", format, "app-ram"]), "tmpfs me");
    assert_eq!(fs::metadata(bound.join("deep/er/own")).unwrap().uid(), 7);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: a Docker engine"]
async fn system_a_volume_that_only_docker_reaches_is_saved_restored_and_rolled_back() {
    round_trip(Engine::docker()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: podman with containers"]
async fn system_a_volume_that_only_podman_reaches_is_saved_restored_and_rolled_back() {
    round_trip(Engine::podman()).await;
}
