//! Each bad call gets the error of the contract, by name, with a sentence; nothing is started.

use zbus::wire::Variant;

use crate::support::{Bus, Daemon, ROOT, Row, stderr};

type Options<'a> = std::collections::HashMap<&'a str, Variant<'a>>;

/// The name (last part) and the text of the error that a call of the Manager answers.
async fn refused<B: serde::Serialize + zbus::wire::DynamicType>(
    daemon: &Daemon,
    method: &str,
    body: &B,
) -> (String, String) {
    named(daemon.proxy(ROOT, "Manager").await.call_method(method, body).await.map(drop), method)
}

fn named(answer: zbus::Result<()>, what: &str) -> (String, String) {
    let (name, text) =
        crate::support::error_of(answer).unwrap_or_else(|other| panic!("{what} was not refused: {other:?}"));
    let short = name.strip_prefix("org.holdfast.Backup1.Error.").unwrap_or(&name);
    (short.to_owned(), text)
}

#[tokio::test]
async fn what_is_not_defined_is_named_by_its_kind() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let none = Options::new();
    let calls = [
        ("NoSuchBackup", refused(&daemon, "RunBackup", &("nosuch", &none)).await),
        ("NoSuchBackup", refused(&daemon, "AlterBackup", &("nosuch", &none)).await),
        ("NoSuchBackup", refused(&daemon, "RemoveBackup", &("nosuch",)).await),
        ("NoSuchRepository", refused(&daemon, "Prune", &("nosuch",)).await),
        ("NoSuchRepository", refused(&daemon, "Check", &("nosuch", &none)).await),
        ("NoSuchRepository", refused(&daemon, "ListContents", &("nosuch",)).await),
        ("NoSuchRepository", refused(&daemon, "RemoveRepository", &("nosuch",)).await),
        ("NoSuchInstance", refused(&daemon, "ListSnapshots", &("nosuch",)).await),
        ("NoSuchInstance", refused(&daemon, "Restore", &("nosuch", "", &none)).await),
    ];
    for (expected, (name, text)) in calls {
        assert_eq!(name, expected, "{text}");
        assert!(text.contains("nosuch"), "{name}: {text}");
    }
    assert_eq!(
        daemon.call::<_, Vec<Row>>("ListJobs", &(Row::new(),)).await.unwrap().len(),
        0,
        "a job was started"
    );
}

#[tokio::test]
async fn what_cannot_be_done_now_says_why() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let none = Options::new();
    let (name, text) = refused(&daemon, "RunBackup", &("off", &none)).await;
    assert_eq!(name, "Disabled", "{text}");
    let (name, text) = refused(&daemon, "RemoveRepository", &("local",)).await;
    assert_eq!(name, "InUse", "{text}");
    let given: Options<'_> =
        [("repositories", vec!["local"].into()), ("instances", vec!["app-1"].into())].into();
    let (name, text) = refused(&daemon, "AddBackup", &("mybackup", &given)).await;
    assert_eq!(name, "AlreadyExists", "{text}");
    let url: Options<'_> = [("url", "/nowhere".into())].into();
    let (name, text) = refused(&daemon, "AddRepository", &("local", &url)).await;
    assert_eq!(name, "AlreadyExists", "{text}");
    let (name, text) = refused(&daemon, "Restore", &("app-1", "0123abcd", &none)).await;
    assert_eq!(name, "NoSuchSnapshot", "{text}");
    let bad: Options<'_> = [("schedule", "every blue moon".into())].into();
    let (name, text) = refused(&daemon, "AlterBackup", &("mybackup", &bad)).await;
    assert_eq!(name, "InvalidDefinition", "{text}");
    let dangling: Options<'_> = [("repositories", vec!["nosuch"].into())].into();
    let (name, text) = refused(&daemon, "AlterBackup", &("mybackup", &dangling)).await;
    assert_eq!(name, "InvalidDefinition", "{text}");
}

#[tokio::test]
async fn options_are_known_and_of_their_type() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let one = |key: &'static str, value: Variant<'static>| -> Options<'static> { [(key, value)].into() };
    let calls = [
        ("instances", refused(&daemon, "RunBackup", &("mybackup", one("instance", "x".into()))).await),
        ("(as)", refused(&daemon, "RunBackup", &("mybackup", one("instances", "app-1".into()))).await),
        ("target", refused(&daemon, "Restore", &("app-1", "", one("to", "/x".into()))).await),
        ("(s)", refused(&daemon, "Restore", &("app-1", "", one("target", 5_u32.into()))).await),
        ("absolute", refused(&daemon, "Restore", &("app-1", "", one("target", "../x".into()))).await),
        ("(t,", refused(&daemon, "Restore", &("app-1", "", one("before", "now".into()))).await),
        ("read_data", refused(&daemon, "Check", &("local", one("flags", "-v".into()))).await),
        ("kind", refused(&daemon, "ListJobs", &(one("state", "x".into()),)).await),
        ("succeeded", refused(&daemon, "ListJobs", &(one("outcome", "fine".into()),)).await),
        ("schedule", refused(&daemon, "AddBackup", &("new", one("cron", "x".into()))).await),
        ("(b)", refused(&daemon, "AddBackup", &("new", one("enabled", "yes".into()))).await),
        (
            "url",
            refused(&daemon, "AddRepository", &("new", one("password_command", vec!["id"].into()))).await,
        ),
        ("too long", refused(&daemon, "Pause", &(u64::MAX,)).await),
    ];
    for (expected, (name, text)) in calls {
        assert_eq!(name, "InvalidArgument", "{text}");
        assert!(text.contains(expected), "{expected:?} is not in: {text}");
    }
}

#[tokio::test]
async fn what_this_version_cannot_do_says_so_and_starts_nothing() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let none = Options::new();
    let answer = refused(&daemon, "Drill", &("app-1", &none)).await;
    assert_eq!(answer.0, "Failed", "{}", answer.1);
    assert!(answer.1.contains("not supported yet"), "{}", answer.1);
    let answer = refused(&daemon, "Recover", &("app-1", &none)).await;
    assert_eq!(answer.0, "InvalidArgument", "{}", answer.1);
    assert!(answer.1.contains("has no [recovery]"), "{}", answer.1);
    assert_eq!(daemon.call::<_, Vec<Row>>("ListJobs", &(Row::new(),)).await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_job_that_has_ended_cannot_be_cancelled() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let job = daemon.run_backup("mybackup").await;
    daemon.wait_for_job(&job).await;
    let cancelled = daemon.proxy(&job, "Job").await.call_method("Cancel", &()).await.map(drop);
    let (name, text) = named(cancelled, "Cancel");
    assert!(name == "NoSuchJob" || name == "Failed", "{name}: {text}");
}

const SLOW: &[(&str, &str)] = &[(
    "holdfast.toml",
    r#"
[daemon]
staging_dir = "@DIR@/staging"
[repository.local]
url = "@DIR@/repository"
[backup.slow]
repositories = ["local"]
instances = ["sleeper"]
[instance.sleeper]
include = ["@DIR@/config"]
dump_state = ["/usr/bin/tail", "-f", "/dev/null"]
"#,
)];

#[tokio::test]
async fn a_backup_at_work_is_busy_until_it_is_cancelled() {
    let bus = Bus::start();
    let daemon = Daemon::start(&bus, SLOW).await;
    let job = daemon.run_backup("slow").await;
    let (name, text) = refused(&daemon, "RunBackup", &("slow", Options::new())).await;
    assert_eq!(name, "Busy", "{text}");
    let mut signals = daemon.signals().await;
    let cancelled: zbus::Result<()> = daemon.proxy(&job, "Job").await.call("Cancel", &()).await;
    cancelled.unwrap_or_else(|refused| panic!("{refused}\n{}", daemon.log()));
    signals.wait("JobRemoved", |s| s.member == "JobRemoved").await;
    assert_eq!(daemon.wait_for_job(&job).await, "cancelled", "{}", daemon.log());
}

#[tokio::test]
async fn a_repository_that_does_not_open_is_unavailable() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    daemon.write("file", "");
    let url = daemon.dir.path().join("file/repository");
    let options: Options<'_> = [("url", url.to_str().unwrap().into()), ("layout", "shared".into())].into();
    let () = daemon.call("AddRepository", &("broken", options)).await.unwrap();
    let object = daemon.proxy(&format!("{ROOT}/repository/broken"), "Repository").await;
    let (name, text) = named(object.call_method("Test", &()).await.map(drop), "Test");
    assert_eq!(name, "RepositoryUnavailable", "{text}");
}

#[tokio::test]
async fn dbus_send_shows_the_error_name() {
    let bus = Bus::start();
    let _daemon = crate::daemon(&bus).await;
    let sent = bus
        .command("dbus-send")
        .args(["--system", "--print-reply", "--dest=org.holdfast.Backup1", ROOT])
        .args(["org.holdfast.Backup1.Manager.ListSnapshots", "string:nosuch"])
        .output()
        .unwrap();
    assert!(
        stderr(&sent).starts_with("Error org.holdfast.Backup1.Error.NoSuchInstance:"),
        "{}",
        stderr(&sent)
    );
}
