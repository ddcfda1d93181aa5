//! Bad input, each line of it: the live data stays as it was, nothing is left, and the words say what to do. What is
//! about services stands in `tests/daemon/services.rs`, about dumps in `tests/dumps`, about mounts in `system.rs`.

use zbus::wire::OwnedObjectPath;

use super::support::{Row, error_of};
use super::{House, Options, option};

async fn snapshots(house: &House, instance: &str) -> Vec<String> {
    let rows: Vec<Row> = house.daemon.call("ListSnapshots", &(instance,)).await.unwrap();
    rows.iter().map(|row| String::try_from(row["id"].try_clone().unwrap()).unwrap()).collect()
}

/// The refusal of a call, or the end of the job; live data as it was.
async fn refused(house: &House, snapshot: &str, options: &Options) -> (String, String) {
    let before = house.live();
    let called = house.daemon.call::<_, OwnedObjectPath>("Restore", &("app1", snapshot, options)).await;
    let said = match called {
        Ok(job) => house.ended(&job).await,
        refused => error_of(refused).unwrap(),
    };
    before.assert_same(&house.live(), &said.1);
    house.assert_clean();
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_that_could_mean_any_snapshot_is_refused() {
    let house = House::build("").await;
    house.back_up().await;
    let id = snapshots(&house, "app1").await.remove(0);
    let (name, text) = refused(&house, &id[..3], &Options::new()).await;
    assert!(name.ends_with("InvalidArgument") && text.contains("4 to 64"), "{name}: {text}");
    // One that means two is refused by what looks for it: `job/restore/choose.rs`.
    let job: OwnedObjectPath =
        house.daemon.call("Restore", &("app1", &id[..8], Options::new())).await.unwrap();
    assert_eq!(house.ended(&job).await.0, "succeeded", "{}", house.daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_that_means_two_snapshots_is_refused_until_more_of_it_is_said() {
    let house = House::build("").await;
    house.back_up().await;
    let id = snapshots(&house, "app1").await.remove(0);
    // Nobody can wait for two ids of restic's that begin alike: the history is told of one.
    let twin = format!("{}{}", &id[..8], "0".repeat(56));
    let history = rusqlite::Connection::open(house.path("state/holdfast.db")).unwrap();
    let sql = "insert into committed_set select repository, location, ?1, job, instance, uuid, backup, host, time - 1, \
        size, files, version, outcome, saved from committed_set where snapshot = ?2";
    assert_eq!(history.execute(sql, [&twin, &id]).unwrap(), 1);
    drop(history);
    let (name, text) = refused(&house, &id[..6], &Options::new()).await;
    assert!(name.ends_with("InvalidArgument") && text.contains("2 snapshots begin with"), "{name}: {text}");
    let job: OwnedObjectPath =
        house.daemon.call("Restore", &("app1", &id[..12], Options::new())).await.unwrap();
    assert_eq!(house.ended(&job).await.0, "succeeded", "{}", house.daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_another_instance_is_refused_unless_it_is_forced() {
    let house = House::build("[instance.other]\ninclude = [\"@DIR@/outside/beside\"]").await;
    house.back_up().await;
    let id = snapshots(&house, "other").await.remove(0);
    let (name, text) = refused(&house, &id, &Options::new()).await;
    assert!(name.ends_with("NoSuchSnapshot"), "{name}: {text}");
    assert!(text.contains("of the instance other") && text.contains("force_foreign"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_password_a_repository_gives_nothing_and_says_which_file_is_missing() {
    let house = House::build("").await;
    house.back_up().await;
    let find = std::process::Command::new("find")
        .arg(house.daemon.dir.path())
        .args(["-name", "local*password*", "-type", "f"])
        .output();
    let found = super::support::stdout(&find.unwrap());
    let password = found.lines().next().expect("a generated password").to_owned();
    let kept = std::fs::read(&password).unwrap();
    std::fs::remove_file(&password).unwrap();
    let (name, text) = refused(&house, "", &Options::new()).await;
    assert!(name.ends_with("RepositoryUnavailable") || name == "failed", "{name}: {text}");
    assert!(text.contains("password") && !text.contains("Created"), "{text}");
    std::fs::write(&password, kept).unwrap();
    std::fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(house.restore(&Options::new()).await.0, "succeeded", "{}", house.daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_are_none_of_a_tree_are_refused() {
    let house = House::build("").await;
    house.back_up().await;
    for (path, word) in [
        ("state/*", "patterns are not known"),
        ("state/../x", "path of the tree"),
        ("/etc/passwd", "path of the tree"),
        ("state/a\\q", "backslash"),
        ("state/\\x00", "path of the tree"),
        ("state/none", "holds no state/none"),
    ] {
        let (_, text) = refused(&house, "", &option("include", vec![path.to_owned()])).await;
        assert!(text.contains(word), "{path}: {text}");
    }
}

/// A restore need not ask for a manifest that was made here; it is compared with the one that came all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_remembered_of_a_set_is_compared_with_what_came() {
    let house = House::build("").await;
    house.back_up().await;
    let id = snapshots(&house, "app1").await.remove(0);
    let remembered = house.path("cache/manifests").join(&id);
    let text = std::fs::read_to_string(&remembered).unwrap();
    std::fs::write(&remembered, format!("{text} ")).unwrap();
    let (outcome, error) = refused(&house, "", &Options::new()).await;
    assert!(outcome == "failed" && error.contains("it is forgotten now, restore again"), "{error}");
    assert!(!remembered.exists());
    let job: OwnedObjectPath = house.daemon.call("Restore", &("app1", "", Options::new())).await.unwrap();
    assert_eq!(house.ended(&job).await.0, "succeeded", "{}", house.daemon.log());
    assert_eq!(std::fs::read_to_string(&remembered).unwrap(), text, "it is remembered anew");
    // What a loss of power may leave of it.
    std::fs::write(&remembered, "").unwrap();
    let job: OwnedObjectPath = house.daemon.call("Restore", &("app1", "", Options::new())).await.unwrap();
    assert_eq!(house.ended(&job).await.0, "succeeded", "{}", house.daemon.log());
    assert_eq!(std::fs::read_to_string(&remembered).unwrap(), text, "it is read from the repository");
}
