//! Calls as users write them.

use std::collections::{BTreeSet, HashMap};

use zbus::wire::{OwnedObjectPath, Variant};

use crate::support::{Bus, NAME, ROOT, Row, stderr, stdout};

const MANAGER: &str = "org.holdfast.Backup1.Manager";

#[tokio::test]
async fn busctl_starts_a_backup_and_follows_it_to_its_end() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let called = bus.busctl(&["call", NAME, ROOT, MANAGER, "RunBackup", "sa{sv}", "mybackup", "0"]);
    assert!(called.status.success(), "{}\n{}", stderr(&called), daemon.log());
    let path = stdout(&called).trim().trim_start_matches("o \"").trim_end_matches('"').to_owned();
    assert!(path.starts_with("/org/holdfast/Backup1/job/j"), "{path}");
    assert_eq!(daemon.wait_for_job(&path).await, "succeeded", "{}", daemon.log());

    let get =
        |name: &str| stdout(&bus.busctl(&["get-property", NAME, &path, "org.holdfast.Backup1.Job", name]));
    let id = path.rsplit('/').next().unwrap();
    assert_eq!(get("Id").trim(), format!("s \"{id}\""));
    assert_eq!(get("Kind").trim(), "s \"backup\"");
    assert_eq!(get("Subject").trim(), "s \"mybackup\"");
    assert_eq!(get("State").trim(), "s \"finished\"");
    assert_eq!(get("Cause").trim(), format!("s \"uid {}\"", rustix::process::getuid().as_raw()));
    assert!(get("Units").contains("\"app-1\""), "{}", get("Units"));
}

#[tokio::test]
async fn a_narrowed_run_and_the_run_of_a_backup_object_start_jobs() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let narrowed = bus.busctl(&[
        "call",
        NAME,
        ROOT,
        MANAGER,
        "RunBackup",
        "sa{sv}",
        "mybackup",
        "1",
        "instances",
        "as",
        "1",
        "app-1",
    ]);
    assert!(narrowed.status.success(), "{}", stderr(&narrowed));
    let path = stdout(&narrowed).trim().trim_start_matches("o \"").trim_end_matches('"').to_owned();
    assert_eq!(daemon.wait_for_job(&path).await, "succeeded", "{}", daemon.log());
    let backup = daemon.proxy(&format!("{ROOT}/backup/mybackup"), "Backup").await;
    let job: OwnedObjectPath = backup.call("Run", &()).await.unwrap();
    assert_eq!(daemon.wait_for_job(&job).await, "succeeded", "{}", daemon.log());
}

#[tokio::test]
async fn snapshots_contents_and_history_are_listed_with_the_keys_of_the_contract() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let job = daemon.run_backup("mybackup").await;
    assert_eq!(daemon.wait_for_job(&job).await, "succeeded", "{}", daemon.log());

    let sets: Vec<Row> = daemon.call("ListSnapshots", &("app-1",)).await.unwrap();
    assert_eq!(sets.len(), 1);
    let keys =
        "id time name set instance uuid backup host kind size files version standing repository outcome";
    assert_eq!(names(&sets[0]), keys.split(' ').collect());
    let text = |row: &Row, key: &str| String::try_from(row[key].try_clone().unwrap()).unwrap();
    assert_eq!(text(&sets[0], "host"), "testhost");
    assert_eq!(text(&sets[0], "standing"), "latest");
    let instance = format!("{ROOT}/instance/app_2d1");
    let last: String = daemon.property(&instance, "Instance", "LastSnapshot").await;
    assert_eq!(text(&sets[0], "id"), last);

    let contents: Vec<Row> = daemon.call("ListContents", &("local",)).await.unwrap();
    assert_eq!(names(&contents[0]), "module name uuid host last_set size defined_here".split(' ').collect());

    let jobs: Vec<Row> = daemon.call("ListJobs", &(Row::new(),)).await.unwrap();
    let properties = daemon.proxy(&job, "Job").await;
    let all: Row = zbus::fdo::PropertiesProxy::builder(&daemon.bus)
        .destination(NAME)
        .path(properties.path().to_owned())
        .build()
        .await
        .unwrap()
        .get_all("org.holdfast.Backup1.Job".try_into().unwrap())
        .await
        .unwrap();
    assert_eq!(jobs[0], all, "a row of the history is the job's properties");
    let filter: HashMap<&str, Variant<'_>> = [("outcome", "failed".into())].into();
    let failed: Vec<Row> = daemon.call("ListJobs", &(filter,)).await.unwrap();
    assert!(failed.is_empty());
}

#[tokio::test]
async fn a_restore_into_a_directory_brings_the_files_back() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let job = daemon.run_backup("mybackup").await;
    assert_eq!(daemon.wait_for_job(&job).await, "succeeded", "{}", daemon.log());
    let target = daemon.dir.path().join("out");
    let target = target.to_str().unwrap();
    let called = bus.busctl(&[
        "call", NAME, ROOT, MANAGER, "Restore", "ssa{sv}", "app-1", "", "1", "target", "s", target,
    ]);
    assert!(called.status.success(), "{}", stderr(&called));
    let path = stdout(&called).trim().trim_start_matches("o \"").trim_end_matches('"').to_owned();
    assert_eq!(daemon.wait_for_job(&path).await, "succeeded", "{}", daemon.log());
    let restored = walk(daemon.dir.path().join("out").as_path());
    assert!(restored.iter().any(|(name, text)| name == "other" && text == "two\n"), "{restored:?}");
}

#[tokio::test]
async fn the_object_manager_shows_every_object_with_its_properties() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let job = daemon.run_backup("mybackup").await;
    let objects = zbus::fdo::ObjectManagerProxy::builder(&daemon.bus)
        .destination(NAME)
        .path(ROOT)
        .build()
        .await
        .unwrap()
        .get_managed_objects()
        .await
        .unwrap();
    for (path, interface) in [
        (format!("{ROOT}/backup/mybackup"), "Backup"),
        (format!("{ROOT}/backup/off"), "Backup"),
        (format!("{ROOT}/repository/local"), "Repository"),
        (format!("{ROOT}/instance/app_2d1"), "Instance"),
        (job.to_string(), "Job"),
    ] {
        let object = objects.iter().find(|(p, _)| p.as_str() == path);
        let (_, interfaces) = object.unwrap_or_else(|| panic!("{path} is not there: {:?}", objects.keys()));
        let ours = interfaces.iter().find(|(name, _)| name.as_str() == format!("{NAME}.{interface}"));
        assert!(ours.is_some_and(|(_, properties)| !properties.is_empty()), "{path}");
    }
    daemon.wait_for_job(&job).await;
}

#[tokio::test]
async fn versions_are_shown() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let version: String = daemon.property(ROOT, "Manager", "Version").await;
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    let restic: String = daemon.property(ROOT, "Manager", "ResticVersion").await;
    assert!(restic.starts_with("0."), "{restic:?}");
}

fn names(row: &Row) -> BTreeSet<&str> {
    row.keys().map(String::as_str).collect()
}

/// Names and texts of all files below a directory.
fn walk(dir: &std::path::Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            files.extend(walk(&entry.path()));
        } else if let Ok(text) = std::fs::read_to_string(entry.path()) {
            files.push((entry.file_name().to_string_lossy().into_owned(), text));
        }
    }
    files
}
