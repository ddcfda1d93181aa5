//! Definitions changed over the bus: written as TOML, comments kept, shown at once.

use std::collections::HashMap;

use zbus::wire::Variant;

use crate::support::{Bus, Daemon, ROOT, stderr};

type Options<'a> = HashMap<&'a str, Variant<'a>>;

fn new_backup() -> Options<'static> {
    [
        ("repositories", vec!["local"].into()),
        ("instances", vec!["*"].into()),
        ("schedule", "Mon..Fri 02:30".into()),
        ("retention", HashMap::from([("last", Variant::from(3_u32)), ("daily", 7_u32.into())]).into()),
    ]
    .into()
}

#[tokio::test]
async fn an_added_backup_is_a_file_of_its_own_an_object_and_runs() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let mut signals = daemon.signals().await;
    let () = daemon.call("AddBackup", &("nightly", new_backup())).await.unwrap();
    // No wait: the object stands when the call returns.
    let path = format!("{ROOT}/backup/nightly");
    assert_eq!(daemon.property::<String>(&path, "Backup", "Schedule").await, "Mon..Fri 02:30");
    assert_eq!(daemon.property::<Vec<String>>(&path, "Backup", "Instances").await, ["app-1"]);
    assert!(daemon.property::<u64>(&path, "Backup", "NextRun").await > 0);
    let text = daemon.read("config/conf.d/nightly.toml");
    assert!(text.contains("[backup.nightly]") && text.contains("Mon..Fri 02:30"), "{text}");
    signals.wait("InterfacesAdded", |s| s.member == "InterfacesAdded").await;
    signals.wait("DefinitionsChanged", |s| s.member == "DefinitionsChanged").await;
    let job = daemon.run_backup("nightly").await;
    assert_eq!(daemon.wait_for_job(&job).await, "succeeded", "{}", daemon.log());
}

#[tokio::test]
async fn busctl_adds_a_repository_and_a_backup() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let url = daemon.dir.path().join("second").display().to_string();
    let manager = ["call", "org.holdfast.Backup1", ROOT, "org.holdfast.Backup1.Manager"];
    let call = |arguments: &[&str]| bus.busctl(&[&manager, arguments].concat());
    let added = call(&["AddRepository", "sa{sv}", "second", "2", "url", "s", &url, "layout", "s", "shared"]);
    assert!(added.status.success(), "{}", stderr(&added));
    let added = call(&[
        "AddBackup",
        "sa{sv}",
        "two",
        "3",
        "repositories",
        "as",
        "2",
        "local",
        "second",
        "instances",
        "as",
        "1",
        "app-1",
        "retention",
        "u",
        "3",
    ]);
    assert!(added.status.success(), "{}", stderr(&added));
    let job = daemon.run_backup("two").await;
    assert_eq!(daemon.wait_for_job(&job).await, "succeeded", "{}", daemon.log());
    assert_eq!(
        daemon.property::<String>(&format!("{ROOT}/repository/second"), "Repository", "Layout").await,
        "shared"
    );
}

#[tokio::test]
async fn altering_a_backup_keeps_comments_and_order() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let before = daemon.read("config/holdfast.toml");
    let weekly: Options<'_> = [("schedule", "weekly".into())].into();
    let () = daemon.call("AlterBackup", &("mybackup", weekly)).await.unwrap();
    let after = daemon.read("config/holdfast.toml");
    assert_eq!(after, before.replace("\"daily\"", "\"weekly\""));
    let path = format!("{ROOT}/backup/mybackup");
    assert_eq!(daemon.property::<String>(&path, "Backup", "Schedule").await, "weekly");
}

#[tokio::test]
async fn a_refused_change_leaves_the_files_as_they_were() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let before = daemon.read("config/holdfast.toml");
    let bad: Options<'_> = [("schedule", "never ever".into())].into();
    assert!(daemon.call::<_, ()>("AlterBackup", &("mybackup", bad)).await.is_err());
    let dangling: Options<'_> =
        [("repositories", vec!["nosuch"].into()), ("instances", vec!["*"].into())].into();
    assert!(daemon.call::<_, ()>("AddBackup", &("bad", dangling)).await.is_err());
    assert_eq!(daemon.read("config/holdfast.toml"), before);
    assert!(!daemon.dir.path().join("config/conf.d/bad.toml").exists());
}

#[tokio::test]
async fn enable_and_disable_are_shown_when_they_return() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let path = format!("{ROOT}/backup/off");
    let off = daemon.proxy(&path, "Backup").await;
    let () = off.call("Enable", &()).await.unwrap();
    assert!(daemon.property::<bool>(&path, "Backup", "Enabled").await);
    let () = off.call("Disable", &()).await.unwrap();
    assert!(!daemon.property::<bool>(&path, "Backup", "Enabled").await);
    assert!(daemon.read("config/holdfast.toml").contains("# kept: about mybackup"));
}

#[tokio::test]
async fn removing_a_backup_and_a_repository_takes_their_objects_and_keeps_data() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let job = daemon.run_backup("mybackup").await;
    daemon.wait_for_job(&job).await;
    for backup in ["mybackup", "off"] {
        let () = daemon.call("RemoveBackup", &(backup,)).await.unwrap();
        let name: zbus::Result<String> =
            daemon.proxy(&format!("{ROOT}/backup/{backup}"), "Backup").await.get_property("Name").await;
        assert!(name.is_err(), "{backup} still stands");
    }
    let () = daemon.call("RemoveRepository", &("local",)).await.unwrap();
    assert!(daemon.dir.path().join("repository").exists());
}

#[tokio::test]
async fn a_password_is_written_where_only_we_read_it_and_shown_nowhere() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let url = daemon.dir.path().join("secret").display().to_string();
    let environment = HashMap::from([("B2_ACCOUNT_KEY", "canary-environment")]);
    let options: Options<'_> = [
        ("url", url.as_str().into()),
        ("password", "canary-password".into()),
        ("environment", environment.into()),
    ]
    .into();
    let () = daemon.call("AddRepository", &("vault", options)).await.unwrap();
    let backup: Options<'_> =
        [("repositories", vec!["vault"].into()), ("instances", vec!["*"].into())].into();
    let () = daemon.call("AddBackup", &("tovault", backup)).await.unwrap();
    let job = daemon.run_backup("tovault").await;
    assert_eq!(daemon.wait_for_job(&job).await, "succeeded", "{}", daemon.log());
    let shown = everything_shown(&daemon).await;
    for text in [shown, daemon.log()] {
        assert!(!text.contains("canary"), "{text}");
    }
    assert_eq!(modes_of_files_with(daemon.dir.path(), "canary"), [0o600, 0o600]);
}

/// All that the bus shows to anybody.
async fn everything_shown(daemon: &Daemon) -> String {
    let objects = zbus::fdo::ObjectManagerProxy::builder(&daemon.bus)
        .destination("org.holdfast.Backup1")
        .path(ROOT)
        .build()
        .await
        .unwrap()
        .get_managed_objects()
        .await
        .unwrap();
    format!("{objects:?}")
}

/// Permission bits of files whose text holds a word.
fn modes_of_files_with(dir: &std::path::Path, word: &str) -> Vec<u32> {
    use std::os::unix::fs::PermissionsExt;
    let mut modes = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            modes.extend(modes_of_files_with(&path, word));
        } else if std::fs::read(&path).is_ok_and(|text| String::from_utf8_lossy(&text).contains(word)) {
            modes.push(path.metadata().unwrap().permissions().mode() & 0o777);
        }
    }
    modes
}
