//! Who may do what: the shipped bus policy, and what the daemon itself decides behind it. Both need root, to call as others,
//! and the group of `units/holdfast.sysusers`.

use crate::authority::{Says, authority, gid};
use crate::support::{Bus, Daemon, NAME, ROOT, stderr, stdout};

/// nobody, on Debian and elsewhere.
const NOBODY: &str = "65534";

/// The bus as it is installed.
fn installed() -> Bus {
    let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/units/org.holdfast.Backup1.conf");
    Bus::with_policies(&format!("<include>{policy}</include>"))
}

/// The same, with room for an authority of ours.
pub(crate) fn installed_with_polkit() -> Bus {
    let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/units/org.holdfast.Backup1.conf");
    Bus::with_policies(&format!(
        "<include>{policy}</include><policy user=\"root\"><allow own=\"org.freedesktop.PolicyKit1\"/>\
         <allow send_destination=\"org.freedesktop.PolicyKit1\"/></policy>"
    ))
}

/// What `dbus-send` complains of when nobody, in a group, calls a method.
fn as_nobody(bus: &Bus, group: &str, path: &str, method: &str, arguments: &[&str]) -> String {
    let mut setpriv = bus.command("setpriv");
    setpriv.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), &format!("--groups={group}")]);
    setpriv.args(["dbus-send", "--system", "--print-reply", "--dest=org.holdfast.Backup1", path, method]);
    stderr(&setpriv.args(arguments).output().unwrap())
}

/// B01, B35: nobody reaches no method and no property.
#[tokio::test]
#[ignore = "needs root: calls as other users"]
async fn system_the_shipped_policy_keeps_others_out() {
    let bus = installed();
    let daemon = crate::daemon(&bus).await;
    let denied = "Error org.freedesktop.DBus.Error.AccessDenied:";
    for (path, interface, method) in methods(&daemon).await {
        let answer = as_nobody(&bus, NOBODY, &path, &format!("{interface}.{method}"), &[]);
        assert!(answer.starts_with(denied), "{path} {interface}.{method}: {answer}");
    }
    let version: String = daemon.property(ROOT, "Manager", "Version").await;
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
}

/// B02, B03: others cannot own the name, whether it is free, theirs to wait for, or to be replaced.
#[tokio::test]
#[ignore = "needs root: calls as other users"]
async fn system_b02_b03_the_shipped_policy_keeps_the_name_for_root() {
    let bus = installed();
    let request = |group: &str, flags: u32| {
        let mut setpriv = bus.command("setpriv");
        setpriv.args([
            &format!("--reuid={NOBODY}"),
            &format!("--regid={NOBODY}"),
            &format!("--groups={group}"),
        ]);
        setpriv.args(["dbus-send", "--system", "--print-reply", "--dest=org.freedesktop.DBus"]);
        setpriv.args([
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus.RequestName",
            &format!("string:{NAME}"),
        ]);
        stderr(&setpriv.arg(format!("uint32:{flags}")).output().unwrap())
    };
    let all_are_refused = |when: &str| {
        // Allow replacement, replace the existing one, do not queue; none: queue.
        for (group, flags) in
            [NOBODY, &gid()].iter().flat_map(|group| (0..8).map(move |flags| (*group, flags)))
        {
            let answer = request(group, flags);
            let refused = answer.starts_with("Error org.freedesktop.DBus.Error.AccessDenied:");
            assert!(refused, "{when}, group {group}, flags {flags}: {answer}");
        }
    };
    all_are_refused("free");
    let daemon = crate::daemon(&bus).await;
    all_are_refused("owned");
    let version: String = daemon.property(ROOT, "Manager", "Version").await;
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
}

/// A member of the group gets through the shipped policy, and as the shipped rules have it looks and runs, and does no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs root: calls as other users, and the group holdfast"]
async fn system_members_of_the_group_look_and_run_and_do_no_more() {
    let bus = installed_with_polkit();
    let daemon = crate::daemon(&bus).await;
    let (_authority, _connection) = authority(&bus, &[("view", Says::Yes), ("run", Says::Yes)]).await;
    let job = daemon.run_backup("mybackup").await;
    let call = |method: &str, arguments: &[&str]| {
        as_nobody(&bus, &gid(), ROOT, &format!("{NAME}.Manager.{method}"), arguments)
    };
    for (method, arguments) in MANAGING {
        let answer = call(method, arguments);
        assert!(answer.starts_with("Error org.holdfast.Backup1.Error.NotAuthorized:"), "{method}: {answer}");
    }
    let cancel = as_nobody(&bus, &gid(), &job, &format!("{NAME}.Job.Cancel"), &[]);
    assert!(cancel.starts_with("Error org.holdfast.Backup1.Error.NotAuthorized:"), "{cancel}");
    for (method, arguments) in LOOKING {
        let answer = call(method, arguments);
        assert_eq!(answer, "", "{method}");
    }
    assert_eq!(daemon.wait_for_job(&job).await, "succeeded", "{}", daemon.log());
}

/// Behind an open bus the daemon decides alone: nobody may nothing, and learns nothing of what exists (B41).
#[tokio::test]
#[ignore = "needs root: calls as other users"]
async fn system_the_daemon_refuses_others_without_saying_what_exists() {
    let bus = Bus::start();
    let _daemon = crate::daemon(&bus).await;
    for (method, arguments) in MANAGING.iter().chain(LOOKING) {
        let answer = as_nobody(&bus, NOBODY, ROOT, &format!("{NAME}.Manager.{method}"), arguments);
        assert!(answer.starts_with("Error org.holdfast.Backup1.Error.NotAuthorized:"), "{method}: {answer}");
    }
    let list = |name: &str| {
        as_nobody(&bus, NOBODY, ROOT, &format!("{NAME}.Manager.ListSnapshots"), &[&format!("string:{name}")])
    };
    assert_eq!(list("app-1"), list("nosuch"));
}

const MANAGING: &[(&str, &[&str])] =
    &[("Reload", &[]), ("Resume", &[]), ("Pause", &["uint64:1"]), ("RemoveBackup", &["string:off"])];
const LOOKING: &[(&str, &[&str])] =
    &[("ListSnapshots", &["string:app-1"]), ("ListContents", &["string:local"])];

/// Every method of every object, the standard ones included.
async fn methods(daemon: &Daemon) -> Vec<(String, String, String)> {
    let mut methods = Vec::new();
    for path in
        ["", "/backup/mybackup", "/repository/local", "/instance/app_2d1"].map(|p| format!("{ROOT}{p}"))
    {
        let introspectable = zbus::fdo::IntrospectableProxy::builder(&daemon.bus).destination(NAME);
        let xml = introspectable.path(path.clone()).build().await.unwrap().introspect().await.unwrap();
        let mut interface = "";
        for line in xml.lines().map(str::trim) {
            let name = line.split('"').nth(1).unwrap_or_default();
            if line.starts_with("<interface ") {
                interface = name;
            } else if line.starts_with("<method ") && interface != "org.freedesktop.DBus.Peer" {
                methods.push((path.clone(), interface.to_owned(), name.to_owned()));
            }
        }
    }
    assert!(methods.len() > 30, "{methods:?}");
    methods
}

/// The daemon's own user is told from others by the bus, not by what it says of itself.
#[tokio::test]
async fn the_own_user_may_do_all() {
    let bus = Bus::start();
    let _daemon = crate::daemon(&bus).await;
    let called = bus.busctl(&["call", NAME, ROOT, "org.holdfast.Backup1.Manager", "Reload"]);
    assert_eq!(stdout(&called).trim(), "as 0", "{}", stderr(&called));
}
