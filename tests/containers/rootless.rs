//! A podman without root, of the instance's own user: its containers and volumes are that user's, and the daemon is root.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use crate::engine::{Engine, NOBODY};
use crate::lab::{Lab, Setup, text};

fn setup(engine: &Engine) -> Setup {
    let mut setup = Setup::new();
    engine.lend(&mut setup);
    // The user has to reach what stands in for podman.
    fs::set_permissions(setup.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    setup.config(
        "[backup.b]\nrepositories = [\"local\"]\ninstances = [\"app\"]\nretry = { attempts = 0 }\n\
         [instance.app]\nuser = \"nobody\"\nvolumes = \"podman\"\ninclude = [\"volumes/data\"]\n\
         restore = { keep_previous = \"0s\" }\n\
         [[instance.app.service]]\nmanager = \"podman\"\ncontainers = [\"web\", \"cold\"]\n",
    )
}

fn volume(engine: &Engine) -> PathBuf {
    engine.good(&["volume", "inspect", "--format", "{{.Mountpoint}}", "data"]).into()
}

#[track_caller]
fn as_before(engine: &Engine, lab: &Lab, what: &str) {
    let states = ["web", "cold"].map(|name| engine.state(name));
    assert_eq!(states, ["running", "exited"], "{what}\n{}", lab.daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: the daemon has to become another user"]
async fn system_a_podman_without_root_is_stopped_saved_and_restored_as_its_user() {
    let engine = Engine::rootless_podman();
    engine.good(&["volume", "create", "--label", "keep=me", "data"]);
    engine.run("web", &["--volume", "data:/data"]);
    engine.run("cold", &[]);
    engine.good(&["stop", "--time", "5", "cold"]);
    engine.good(&["exec", "web", "/bin/sh", "-c", "echo one >/data/file"]);
    let file = volume(&engine).join("file");
    let mut lab = setup(&engine).start().await;
    // Not where restic is: the user may not look there, and podman does.
    let ask = "(cd /; for c in web cold; do setpriv --reuid nobody --regid nogroup --clear-groups -- \"$D/fake/podman\" \
               container inspect --format '{{.State.Status}}' $c; done) >\"$D/at-two\"";
    lab.on("backup", ask);
    lab.good_backup("b").await;
    assert_eq!(lab.text("at-two"), "exited\nexited\n", "while it is read");
    as_before(&engine, &lab, "a backup");
    engine.good(&["exec", "web", "/bin/sh", "-c", "echo two >/data/file"]);
    lab.good_restore("app").await;
    assert_eq!(fs::read_to_string(&file).unwrap(), "one\n");
    assert_eq!(fs::metadata(&file).unwrap().uid(), NOBODY);
    as_before(&engine, &lab, "a restore");
    assert_eq!(engine.good(&["exec", "web", "/bin/cat", "/data/file"]), "one", "the container sees it");
    // The volume is gone: it is made anew, with its label, as the user's own.
    engine.good(&["rm", "--force", "--time", "1", "web"]);
    engine.good(&["volume", "rm", "data"]);
    engine.good(&["volume", "create", "other"]);
    let volumes = lab.restore("app", "", &[("stop", false.into()), ("start", false.into())]).await;
    assert_eq!(volumes.outcome, "succeeded", "{volumes:?}\n{}", lab.daemon.log());
    assert_eq!(fs::read_to_string(volume(&engine).join("file")).unwrap(), "one\n");
    assert_eq!(engine.good(&["volume", "inspect", "--format", "{{.Labels.keep}}", "data"]), "me");
    engine.run("web", &["--volume", "data:/data"]);
    lab.remove("on-backup");
    lab.hold("backup");
    lab.daemon.run_backup("b").await;
    lab.reached("backup").await;
    assert_eq!(engine.state("web"), "exited");
    lab.daemon.restart_after_kill().await;
    as_before(&engine, &lab, "a kill and a start");
    assert_eq!(text(&lab.history().await[0], "Outcome"), "interrupted");
}
