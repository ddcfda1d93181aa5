//! Hostile calls: each gets an error, no child is started, and the daemon goes on. Numbers: the list of hostile calls in the
//! project's research.

use std::collections::HashMap;

use zbus::wire::{OwnedVariant, Variant};

use crate::support::{Bus, Daemon, NAME, ROOT, Row};

type Options<'a> = HashMap<&'a str, Variant<'a>>;

pub(super) async fn error_of<B: serde::Serialize + zbus::wire::DynamicType>(
    daemon: &Daemon,
    method: &str,
    body: &B,
) -> (String, String) {
    let answer = daemon.proxy(ROOT, "Manager").await.call_method(method, body).await;
    crate::support::error_of(answer).unwrap_or_else(|other| panic!("{method} was not refused: {other:?}"))
}

pub(super) async fn alive(daemon: &Daemon) {
    let version: String = daemon.property(ROOT, "Manager", "Version").await;
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
}

/// B04–B12, B15: names and snapshots that are paths, flags, control characters, no hex, too long, or empty.
#[tokio::test]
async fn what_is_no_name_is_an_invalid_argument_everywhere() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let long = "a".repeat(255);
    let none = Options::new();
    for bad in [
        "../../etc/x",
        "/etc/x",
        "",
        &long,
        "a\nb",
        "a\u{1b}[2J",
        "-a",
        "--password-command=id",
        "-o sftp.command=id",
        "latest:/etc",
    ] {
        let answers = [
            error_of(&daemon, "RunBackup", &(bad, &none)).await,
            error_of(&daemon, "Restore", &(bad, "", &none)).await,
            error_of(&daemon, "ListSnapshots", &(bad,)).await,
            error_of(&daemon, "ListContents", &(bad,)).await,
            error_of(&daemon, "Prune", &(bad,)).await,
            error_of(&daemon, "Check", &(bad, &none)).await,
            error_of(&daemon, "AddBackup", &(bad, &none)).await,
            error_of(&daemon, "AlterBackup", &(bad, &none)).await,
            error_of(&daemon, "RemoveBackup", &(bad,)).await,
            error_of(&daemon, "AddRepository", &(bad, &none)).await,
            error_of(&daemon, "RemoveRepository", &(bad,)).await,
            error_of(&daemon, "Recover", &(bad, &none)).await,
            error_of(&daemon, "Rollback", &(bad,)).await,
            error_of(&daemon, "Pin", &(bad, "00ff00ff")).await,
            error_of(&daemon, "Unpin", &(bad, "00ff00ff")).await,
            error_of(&daemon, "Drill", &(bad, &none)).await,
            error_of(&daemon, "Plan", &(bad, "", &none)).await,
        ];
        for (name, text) in answers {
            assert_eq!(name, "org.holdfast.Backup1.Error.InvalidArgument", "{bad:?}: {text}");
            assert!(!text.contains(char::is_control), "{text:?}");
        }
    }
    for bad in ["latest:/etc", "--tag", "xyz", "abc", "../aa", "ABCD"] {
        let restore = error_of(&daemon, "Restore", &("app-1", bad, &none)).await;
        for (name, text) in [restore, error_of(&daemon, "Pin", &("app-1", bad)).await] {
            assert_eq!(name, "org.holdfast.Backup1.Error.InvalidArgument", "{bad:?}: {text}");
        }
    }
    let log = daemon.log();
    assert!(!log.contains("\u{1b}[2J") && !log.contains("a\nb"), "{log}");
    assert!(daemon.call::<_, Vec<Row>>("ListJobs", &(Row::new(),)).await.unwrap().is_empty());
}

/// B21: file descriptors where none is expected.
#[tokio::test]
async fn file_descriptors_are_refused_and_closed() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let open = || std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    let before = open();
    let file = std::fs::File::open("/dev/null").unwrap();
    for _ in 0..500 {
        let options: Options<'_> = [("schedule", zbus::wire::Fd::from(&file).into())].into();
        let (name, text) = error_of(&daemon, "AddBackup", &("new", options)).await;
        assert_eq!(name, "org.holdfast.Backup1.Error.InvalidArgument", "{text}");
    }
    crate::support::until("descriptors to be closed", || open() < before + 20);
}

/// B13, B14: a snapshot is only had under the instance that it is of, and by an id that is one snapshot's.
#[tokio::test]
async fn a_snapshot_of_another_instance_or_an_ambiguous_one_is_refused() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    daemon.write(
        "config/conf.d/other.toml",
        "[instance.other]\ninclude = [\"@DIR@/elsewhere\"]\n[backup.other]\nrepositories = [\"local\"]\ninstances = [\"other\"]\n",
    );
    daemon.write("elsewhere/secret", "not yours\n");
    let _: Vec<String> = daemon.call("Reload", &()).await.unwrap();
    for backup in ["mybackup", "other"] {
        let job = daemon.run_backup(backup).await;
        assert_eq!(daemon.wait_for_job(&job).await, "succeeded", "{}", daemon.log());
    }
    let rows: Vec<Row> = daemon.call("ListSnapshots", &("other",)).await.unwrap();
    let id: String = rows[0]["id"].try_clone().unwrap().try_into().unwrap();
    let target = daemon.dir.path().join("stolen").display().to_string();
    for snapshot in [id.as_str(), &id[..8]] {
        let options: Options<'_> = [("target", target.as_str().into())].into();
        let (name, text) = match daemon
            .call::<_, zbus::wire::OwnedObjectPath>("Restore", &("app-1", snapshot, options))
            .await
        {
            Ok(job) => {
                assert_eq!(daemon.wait_for_job(&job).await, "failed", "{}", daemon.log());
                continue;
            }
            Err(zbus::Error::MethodError(name, text, _)) => (name.to_string(), text.unwrap_or_default()),
            Err(other) => panic!("{other}"),
        };
        assert_eq!(name, "org.holdfast.Backup1.Error.NoSuchSnapshot", "{text}");
    }
    assert!(!daemon.dir.path().join("stolen/files").exists(), "something was restored");
    for ambiguous in [&id[..1], &id[..3], "0", ""] {
        if ambiguous.is_empty() {
            continue;
        }
        let (name, text) = error_of(&daemon, "Restore", &("other", ambiguous, Options::new())).await;
        assert_eq!(name, "org.holdfast.Backup1.Error.InvalidArgument", "{ambiguous:?}: {text}");
    }
}

/// B23: of calls that want the same name at once, one has it.
#[tokio::test(flavor = "multi_thread")]
async fn of_racing_definitions_one_wins() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let proxy = daemon.proxy(ROOT, "Manager").await;
    let racers = (0..8).map(|n| {
        let proxy = proxy.clone();
        tokio::spawn(async move {
            let keys: Options<'_> = [
                ("repositories", vec!["local"].into()),
                ("instances", vec!["app-1"].into()),
                ("retention", (n + 1_u32).into()),
            ]
            .into();
            proxy.call_method("AddBackup", &("raced", keys)).await
        })
    });
    let (mut won, mut lost) = (0, 0);
    for racer in racers.collect::<Vec<_>>() {
        match racer.await.unwrap() {
            Ok(_) => won += 1,
            Err(zbus::Error::MethodError(name, ..)) => {
                assert_eq!(name.as_str(), "org.holdfast.Backup1.Error.AlreadyExists");
                lost += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((won, lost), (1, 7));
    assert_eq!(daemon.read("config/conf.d/raced.toml").matches("[backup.raced]").count(), 1);
}

/// B37, B38: signals from another name, and replies to no question of ours, change nothing.
#[tokio::test]
async fn forged_signals_and_replies_are_ignored() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let stranger = bus.connect().await;
    let bodies =
        [("org.freedesktop.DBus", "NameOwnerChanged"), ("org.freedesktop.systemd1.Manager", "JobRemoved")];
    for (interface, member) in bodies {
        let body = (NAME, daemon.bus.unique_name().unwrap().as_str(), "");
        let forged = zbus::Message::signal("/org/freedesktop/DBus", interface, member);
        stranger.send(&forged.build(&body).unwrap()).await.unwrap();
    }
    let proxy = zbus::fdo::DBusProxy::new(&stranger).await.unwrap();
    let owner = proxy.get_name_owner(NAME.try_into().unwrap()).await.unwrap();
    let question = zbus::Message::method_call(ROOT, "Reload").sender(owner.as_str()).build(&()).unwrap();
    for _ in 0..100 {
        let reply = zbus::Message::method_return(&question.header()).destination(owner.as_str());
        // The bus may close the connection of one who does so.
        let _ = stranger.send(&reply.build(&("forged",)).unwrap()).await;
    }
    alive(&daemon).await;
    let job = daemon.run_backup("mybackup").await;
    assert_eq!(daemon.wait_for_job(&job).await, "succeeded", "{}", daemon.log());
}

/// B31: arguments of megabytes.
#[tokio::test]
async fn huge_arguments_are_refused() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let huge = "a".repeat(30 << 20);
    let (name, text) = error_of(&daemon, "ListSnapshots", &(huge.as_str(),)).await;
    assert_eq!(name, "org.holdfast.Backup1.Error.InvalidArgument");
    assert!(text.len() < 300, "{} bytes of text", text.len());
    let options: Options<'_> = [("schedule", huge.as_str().into())].into();
    let (name, _) = error_of(&daemon, "AddBackup", &("new", options)).await;
    assert_eq!(name, "org.holdfast.Backup1.Error.InvalidArgument");
    let options: Options<'_> = [("instances", vec!["a"; 100_000].into())].into();
    let (name, _) = error_of(&daemon, "AddBackup", &("new", options)).await;
    assert_eq!(name, "org.holdfast.Backup1.Error.InvalidArgument");
    let options: Options<'_> = [("instances", vec!["a"; 100_000].into())].into();
    let (name, _) = error_of(&daemon, "RunBackup", &("mybackup", options)).await;
    assert_eq!(name, "org.holdfast.Backup1.Error.InvalidArgument");
    alive(&daemon).await;
}

/// B32: variants nested as deep as the bus lets through.
#[tokio::test]
async fn deep_variants_are_refused_without_harm() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    for depth in [10, 30, 60, 100] {
        let mut value = Variant::from("no retention");
        for _ in 0..depth {
            value = Variant::Variant(Box::new(value));
        }
        let options: Options<'_> = [("retention", value)].into();
        let answer = daemon.call::<_, ()>("AddBackup", &("deep", options)).await;
        println!("{depth}: {answer:?}");
        assert!(answer.is_err(), "{depth}");
    }
    alive(&daemon).await;
}

/// B33: arguments of the wrong signature.
#[tokio::test]
async fn a_wrong_signature_is_an_error() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    for (name, text) in [
        error_of(&daemon, "RunBackup", &("mybackup",)).await,
        error_of(&daemon, "RunBackup", &(5_u32,)).await,
        error_of(&daemon, "RunBackup", &()).await,
        error_of(&daemon, "Pause", &("1",)).await,
        error_of(&daemon, "ListJobs", &("all",)).await,
    ] {
        assert!(name.starts_with("org.freedesktop.DBus.Error."), "{name}: {text}");
    }
    alive(&daemon).await;
}

/// B34: no property can be set.
#[tokio::test]
async fn properties_cannot_be_set() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let objects = [
        (ROOT.to_owned(), "Manager"),
        (format!("{ROOT}/backup/mybackup"), "Backup"),
        (format!("{ROOT}/repository/local"), "Repository"),
        (format!("{ROOT}/instance/app_2d1"), "Instance"),
    ];
    for (path, interface) in objects {
        let interface = format!("{NAME}.{interface}");
        let properties = zbus::fdo::PropertiesProxy::builder(&daemon.bus)
            .destination(NAME)
            .path(path)
            .build()
            .await
            .unwrap();
        let all = properties.get_all(interface.as_str().try_into().unwrap()).await.unwrap();
        for (name, value) in all {
            let value: Variant<'_> = OwnedVariant::into(value);
            let set = properties.set(interface.as_str().try_into().unwrap(), &name, &value).await;
            assert!(set.is_err(), "{interface}.{name} was set");
        }
    }
}

/// B47–B49: paths, interfaces and methods that are not.
#[tokio::test]
async fn unknown_objects_interfaces_and_methods_are_standard_errors() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let call = async |path: &str, interface: Option<&str>, method: &str| {
        let answer = daemon.bus.call_method(Some(NAME), path, interface, method, &()).await;
        crate::support::error_of(answer).unwrap_or_else(|other| panic!("{path} {method}: {other:?}")).0
    };
    let manager = Some("org.holdfast.Backup1.Manager");
    let unknown = "org.freedesktop.DBus.Error.Unknown";
    assert_eq!(call("/etc/passwd", manager, "Resume").await, format!("{unknown}Object"));
    assert_eq!(call(&format!("{ROOT}/backup/nosuch"), manager, "Resume").await, format!("{unknown}Object"));
    assert_eq!(call(ROOT, Some("org.holdfast.Backup1.Root"), "Resume").await, format!("{unknown}Interface"));
    assert_eq!(call(ROOT, manager, "Shell").await, format!("{unknown}Method"));
    assert!(call(ROOT, None, "Resume").await.starts_with("org.freedesktop.DBus.Error."));
    let invalid = bus.busctl(&["call", NAME, "/org//holdfast", "org.holdfast.Backup1.Manager", "Resume"]);
    assert!(!invalid.status.success());
    alive(&daemon).await;
}
