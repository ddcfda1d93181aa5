//! A real Docker and a real podman that are reached over ssh: services, volumes and a dump in a container, as of another machine.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::engine::Engine;
use crate::host::Host;
use crate::lab::{Lab, Setup, names};

/// An instance `app` on `host`: two containers that stop, one volume, and what a third container prints, staged and streamed.
fn setup(host: &Host, word: &str) -> Setup {
    let setup = Setup::new();
    setup.write("state/ssh/app", &fs::read_to_string(host.identity()).unwrap(), 0o600);
    setup.write("state/ssh/known_hosts", &host.known_hosts(), 0o644);
    setup.config(&format!(
        "[backup.b]\nrepositories = [\"local\"]\ninstances = [\"app\"]\nretry = {{ attempts = 0 }}\n\
         [instance.app]\nssh = \"{}:{}\"\nvolumes = \"{word}\"\ninclude = [\"volumes/data\"]\n\
         [[instance.app.service]]\nmanager = \"{word}\"\ncontainers = [\"web\", \"cold\"]\n\
         [[instance.app.dump]]\nsource = \"command\"\nname = \"staged\"\ncontainer = \"db\"\n\
         command = [\"cat\", \"/data/table\"]\nrestore = [\"sh\", \"-c\", \"cat >/data/table\"]\n\
         [[instance.app.dump]]\nsource = \"command\"\nname = \"streamed\"\ncontainer = \"label:org.example.db=1\"\n\
         stream = true\ncommand = [\"cat\", \"/data/table\"]\n",
        host.login(),
        host.port
    ))
}

fn volume(engine: &Engine, name: &str) -> PathBuf {
    engine.good(&["volume", "inspect", "--format", "{{.Mountpoint}}", name]).into()
}

fn table(engine: &Engine) -> String {
    engine.good(&["exec", "db", "cat", "/data/table"])
}

fn marks(path: &Path) -> (u32, u32, u32) {
    let meta = fs::metadata(path).unwrap();
    (meta.uid(), meta.gid(), meta.mode() & 0o7777)
}

#[track_caller]
fn as_before(engine: &Engine, lab: &Lab) {
    let states = ["web", "cold", "db"].map(|name| engine.state(name));
    assert_eq!(states, ["running", "exited", "running"], "{}", lab.daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: runs a Docker engine"]
async fn system_a_docker_over_ssh_has_its_services_volumes_and_dumps_saved_and_restored() {
    saved_and_restored(Engine::docker()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: runs podman"]
async fn system_a_podman_over_ssh_has_its_services_volumes_and_dumps_saved_and_restored() {
    saved_and_restored(Engine::podman()).await;
}

async fn saved_and_restored(engine: Engine) {
    let (host, word) = (Host::start(), engine.word);
    host.write(&format!("bin/{word}"), &engine.script(), 0o755);
    engine.good(&["volume", "create", "--label", "keep=me", "app-data"]);
    engine.run("web", &["--volume", "app-data:/data"]);
    engine.run("cold", &[]);
    engine.good(&["stop", "--time", "5", "cold"]);
    engine.run("db", &["--label", "org.example.db=1"]);
    engine.good(&["exec", "db", "sh", "-c", "echo saved >/data/table"]);
    let data = volume(&engine, "app-data");
    fs::create_dir(data.join("deep")).unwrap();
    fs::write(data.join("deep/file"), "one\n").unwrap();
    chown(data.join("deep/file"), Some(1234), Some(4321)).unwrap();
    chown(&data, Some(1234), Some(4321)).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o750)).unwrap();
    let mut lab = setup(&host, word).start().await;
    // While it is mirrored the container is stopped, and it runs again before restic reads.
    host.on_remote(&format!(
        "case $SSH_ORIGINAL_COMMAND in *'rsync --server'*) \
         {word} container inspect --format '{{{{.State.Status}}}}' web >>\"$D/while-mirrored\" ;; esac",
    ));
    lab.good_backup("b").await;
    host.let_be();
    assert_eq!(host.text("while-mirrored"), "exited\n");
    as_before(&engine, &lab);
    fs::write(data.join("deep/file"), "two\n").unwrap();
    fs::write(data.join("new"), "new\n").unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    engine.good(&["exec", "db", "sh", "-c", "echo newer >/data/table"]);
    let ended = lab.restore("app", "", &[]).await;
    // The stream has no program that takes it back.
    assert_eq!(ended.outcome, "warning", "{ended:?}\n{}", lab.daemon.log());
    as_before(&engine, &lab);
    assert_eq!(fs::read_to_string(data.join("deep/file")).unwrap(), "one\n");
    assert!(!data.join("new").exists());
    assert_eq!((marks(&data), marks(&data.join("deep/file")).0), ((1234, 4321, 0o750), 1234));
    assert_eq!(table(&engine), "saved");
    // The volume is gone: it is made again, with its label.
    engine.good(&["rm", "--force", "web"]);
    engine.good(&["volume", "rm", "app-data"]);
    engine.run("web", &[]);
    let ended = lab.restore("app", "", &[]).await;
    assert_eq!(ended.outcome, "warning", "{ended:?}\n{}", lab.daemon.log());
    let data = volume(&engine, "app-data");
    assert_eq!(engine.good(&["volume", "inspect", "--format", "{{.Labels.keep}}", "app-data"]), "me");
    assert_eq!(fs::read_to_string(data.join("deep/file")).unwrap(), "one\n");
    assert_eq!(marks(&data), (1234, 4321, 0o750));
    cut_or_killed(&engine, &host, &mut lab).await;
}

/// A container that ends in its dump, a connection that does, and a daemon that is killed meanwhile.
async fn cut_or_killed(engine: &Engine, host: &Host, lab: &mut Lab) {
    let sets = lab.sets("app").await.len();
    let dies = format!("{} kill db >/dev/null", engine.word);
    host.on_remote(&format!("case $SSH_ORIGINAL_COMMAND in *'exec -i'*cat*) {dies} ;; esac"));
    assert_eq!(lab.backup("b").await.outcome, "failed");
    host.let_be();
    engine.good(&["start", "db"]);
    host.on_remote("case $SSH_ORIGINAL_COMMAND in *'exec -i'*cat*) kill -9 $PPID ;; esac");
    assert_eq!(lab.backup("b").await.outcome, "failed");
    host.let_be();
    lab.until("all run", || engine.state("web") == "running").await;
    // What runs in the container ends with its connection.
    host.on_remote(
        "case $SSH_ORIGINAL_COMMAND in *'exec -i'*cat*) \
         SSH_ORIGINAL_COMMAND=${SSH_ORIGINAL_COMMAND//cat \\/data\\/table/sleep 98762}; : >\"$D/at\" ;; esac",
    );
    lab.daemon.run_backup("b").await;
    let sleeps = || engine.good(&["top", "db"]).contains("98762");
    lab.until("the dump runs", sleeps).await;
    lab.daemon.restart_after_kill().await;
    host.let_be();
    lab.until("the dump is gone", || !sleeps()).await;
    lab.until("all is undone", || names(&lab.path("state/undo")).is_empty()).await;
    as_before(engine, lab);
    assert_eq!(lab.sets("app").await.len(), sets);
    lab.assert_settled().await;
}
