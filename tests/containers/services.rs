//! Containers as services, and their volumes, with both engines.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use crate::engine::Engine;
use crate::lab::{Lab, Setup, names, text};

/// A repository, an instance `app` of one volume and three containers, and a backup `b` of it.
fn setup(engine: &Engine) -> Setup {
    let mut setup = Setup::new();
    engine.lend(&mut setup);
    let word = engine.word;
    setup.config(&format!(
        "[backup.b]\nrepositories = [\"local\"]\ninstances = [\"app\"]\nretry = {{ attempts = 0 }}\n\
         [instance.app]\nvolumes = \"{word}\"\ninclude = [\"volumes/data\"]\nrestore = {{ keep_previous = \"0s\" }}\n\
         [[instance.app.service]]\nmanager = \"{word}\"\ncontainers = [\"web\", \"cold\", \"frozen\"]\n"
    ))
}

/// One that runs with the volume, one that is stopped, one that is paused.
fn three(engine: &Engine) -> PathBuf {
    engine.good(&["volume", "create", "--label", "keep=me", "app-data"]);
    engine.run("web", &["--volume", "app-data:/data"]);
    engine.run("cold", &[]);
    engine.good(&["stop", "--time", "5", "cold"]);
    engine.run("frozen", &[]);
    engine.good(&["pause", "frozen"]);
    volume(engine, "app-data")
}

fn volume(engine: &Engine, name: &str) -> PathBuf {
    engine.good(&["volume", "inspect", "--format", "{{.Mountpoint}}", name]).into()
}

#[track_caller]
fn as_before(engine: &Engine, lab: &Lab, what: &str) {
    let states = ["web", "cold", "frozen"].map(|name| engine.state(name));
    assert_eq!(states, ["running", "exited", "paused"], "{what}\n{}", lab.daemon.log());
}

/// Writes how the containers stand when restic is called.
fn watch(engine: &Engine, lab: &Lab) {
    let ask = format!(
        "for c in web cold frozen; do \"$D/fake/{}\" container inspect --format '{{{{.State.Status}}}}' $c; done >\"$D/at-three\"",
        engine.word
    );
    lab.on("backup", &ask);
}

async fn services(engine: Engine) {
    let data = three(&engine);
    fs::write(data.join("file"), "one\n").unwrap();
    let mut lab = setup(&engine).start().await;
    watch(&engine, &lab);
    lab.good_backup("b").await;
    assert_eq!(lab.text("at-three"), "exited\nexited\nexited\n", "while it is read");
    as_before(&engine, &lab, "a backup");
    fs::write(data.join("file"), "two\n").unwrap();
    lab.good_restore("app").await;
    assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "one\n");
    as_before(&engine, &lab, "a restore");
    lab.assert_settled().await;
    lab.measure_downtime(engine.word, "b").await;
    killed(&engine, &mut lab).await;
    starts_and_dies(&engine, &lab, &data).await;
    renamed(&engine, &lab).await;
    removed(&engine, &lab).await;
}

async fn killed(engine: &Engine, lab: &mut Lab) {
    lab.hold("backup");
    lab.daemon.run_backup("b").await;
    lab.reached("backup").await;
    assert_eq!(engine.state("web"), "exited");
    lab.daemon.restart_after_kill().await;
    as_before(engine, lab, "a kill and a start");
    assert_eq!(text(&lab.history().await[0], "Outcome"), "interrupted");
    lab.assert_settled().await;
    let _ = fs::remove_file(lab.path("go-backup"));
    fs::remove_file(lab.path("at-backup")).unwrap();
}

async fn starts_and_dies(engine: &Engine, lab: &Lab, data: &Path) {
    lab.on("backup", &format!(": >'{}'", data.join("die").display()));
    let ended = lab.backup("b").await;
    assert_eq!(ended.outcome, "warning", "{ended:#?}\n{}", lab.daemon.log());
    assert!(ended.error.contains("service is down") && ended.error.contains("web"), "{}", ended.error);
    assert!(lab.daemon.log().contains("is down: it was stopped by us"), "{}", lab.daemon.log());
    assert_eq!(names(&lab.path("state/undo")).len(), 1, "it is written down until it runs");
    lab.remove("on-backup");
    fs::remove_file(data.join("die")).unwrap();
    lab.until("it is started later", || engine.state("web") == "running").await;
    lab.until("the undo step is closed", || names(&lab.path("state/undo")).is_empty()).await;
    as_before(engine, lab, "a container that died");
}

/// A container that got another name while it is stopped is still the one that ran.
async fn renamed(engine: &Engine, lab: &Lab) {
    let rename = |from: &str, to: &str| format!("\"$D/fake/{}\" rename {from} {to}", engine.word);
    lab.on("backup", &rename("web", "other"));
    lab.good_backup("b").await;
    lab.remove("on-backup");
    assert_eq!(engine.state("other"), "running", "{}", lab.daemon.log());
    engine.good(&["rename", "other", "web"]);
    as_before(engine, lab, "a container that was renamed meanwhile");
}

/// Whoever takes a container away while it is stopped is told that it is gone, and nothing else is left undone.
async fn removed(engine: &Engine, lab: &Lab) {
    lab.hold("backup");
    let job = lab.daemon.run_backup("b").await;
    lab.reached("backup").await;
    engine.good(&["rm", "--force", "web"]);
    lab.go("backup");
    let ended = lab.ended(&job).await;
    assert_eq!(ended.outcome, "warning", "{ended:#?}");
    assert!(ended.error.contains("web is there no more"), "{}", ended.error);
    assert_eq!(["cold", "frozen"].map(|name| engine.state(name)), ["exited", "paused"]);
    lab.assert_settled().await;
    let ended = lab.backup("b").await;
    assert_eq!(ended.outcome, "failed");
    assert!(ended.error.contains("knows no container web"), "{}", ended.error);
    as_before_but_web(engine);
}

fn as_before_but_web(engine: &Engine) {
    assert_eq!(["cold", "frozen"].map(|name| engine.state(name)), ["exited", "paused"]);
}

/// A volume that is gone is made again by a restore, with its labels; owners and modes are those that were saved.
async fn volumes(engine: Engine) {
    engine.good(&["volume", "create", "--label", "keep=me", "--label", "and=this one", "app-data"]);
    let data = volume(&engine, "app-data");
    fs::write(data.join("file"), "one\n").unwrap();
    chown(data.join("file"), Some(1234), Some(2345)).unwrap();
    chown(&data, Some(1234), Some(1234)).unwrap();
    let services = setup(&engine);
    let word = engine.word;
    let lab = services
        .replace(
            &format!("[[instance.app.service]]\nmanager = \"{word}\"\ncontainers = [\"web\", \"cold\", \"frozen\"]\n"),
            "",
        )
        .start()
        .await;
    lab.good_backup("b").await;
    engine.good(&["volume", "rm", "app-data"]);
    assert!(!data.exists());
    lab.good_restore("app").await;
    let data = volume(&engine, "app-data");
    assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "one\n");
    let owner = |path: &Path| fs::metadata(path).map(|meta| (meta.uid(), meta.gid())).unwrap();
    assert_eq!((owner(&data.join("file")), owner(&data)), ((1234, 2345), (1234, 1234)));
    let labels = engine.good(&["volume", "inspect", "--format", "{{json .Labels}}", "app-data"]);
    let labels: serde_json::Value = serde_json::from_str(&labels).unwrap();
    assert_eq!((&labels["keep"], &labels["and"]), (&"me".into(), &"this one".into()), "{labels}");
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: runs a Docker engine"]
async fn system_containers_of_docker_are_as_before_whatever_happens() {
    services(Engine::docker()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: runs podman"]
async fn system_containers_of_podman_are_as_before_whatever_happens() {
    services(Engine::podman()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: runs a Docker engine"]
async fn system_volumes_of_docker_come_back_with_owners_and_labels() {
    volumes(Engine::docker()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: runs podman"]
async fn system_volumes_of_podman_come_back_with_owners_and_labels() {
    volumes(Engine::podman()).await;
}
