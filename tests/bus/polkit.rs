//! Who may do what behind the bus policy: polkit, the definitions, root. The authority is a scripted one on the private
//! bus. What calls as others needs root.

use std::collections::HashMap;
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use zbus::wire::OwnedVariant;
use zbus::{Connection, interface};

use crate::support::{Bus, Daemon, NAME, ROOT, stderr, stdout};

const MANAGER: &str = "org.holdfast.Backup1.Manager";

/// What the authority says.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Says {
    Yes,
    No,
    Password,
    Never,
    /// Nothing until another answer is set.
    Held,
}

/// A question as it came: kind of subject, its name on the bus, action, object, flags.
type Question = (String, String, String, String, u32);

#[derive(Clone)]
pub(crate) struct Authority {
    says: Arc<Mutex<HashMap<&'static str, Says>>>,
    asked: Arc<Mutex<Vec<Question>>>,
    withdrawn: Arc<Mutex<Vec<String>>>,
}

#[interface(name = "org.freedesktop.PolicyKit1.Authority")]
impl Authority {
    async fn check_authorization(
        &self,
        subject: (String, HashMap<String, OwnedVariant>),
        action: String,
        details: HashMap<String, String>,
        flags: u32,
        _cancellation: String,
    ) -> ((bool, bool, HashMap<String, String>),) {
        let name: String = subject.1["name"].try_clone().unwrap().try_into().unwrap();
        let word = action.rsplit('.').next().unwrap().to_owned();
        self.asked.lock().unwrap().push((subject.0, name, action, details["object"].clone(), flags));
        let answer = || self.says.lock().unwrap().get(word.as_str()).copied().unwrap_or(Says::No);
        while answer() == Says::Held {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let says = answer();
        if says == Says::Never {
            std::future::pending::<()>().await;
        }
        ((says == Says::Yes, says == Says::Password, HashMap::new()),)
    }

    fn cancel_check_authorization(&self, cancellation: String) {
        self.withdrawn.lock().unwrap().push(cancellation);
    }
}

/// An authority on the bus that says this of each action, and no to the others.
pub(crate) async fn authority(bus: &Bus, says: &[(&'static str, Says)]) -> (Authority, Connection) {
    let says = Arc::new(Mutex::new(says.iter().copied().collect()));
    let authority = Authority { says, asked: Arc::default(), withdrawn: Arc::default() };
    let connection = bus.connect().await;
    let path = "/org/freedesktop/PolicyKit1/Authority";
    connection.object_server().at(path, authority.clone()).await.unwrap();
    connection.request_name("org.freedesktop.PolicyKit1").await.unwrap();
    (authority, connection)
}

/// `busctl` as nobody; interaction is not allowed.
fn as_nobody(bus: &Bus, arguments: &[&str]) -> Output {
    let mut setpriv = bus.command("setpriv");
    setpriv.args(["--reuid=65534", "--regid=65534", "--clear-groups", "busctl"]);
    setpriv.arg(format!("--address={}", bus.address)).arg("--allow-interactive-authorization=no");
    setpriv.args(arguments).output().unwrap()
}

fn manager(bus: &Bus, arguments: &[&str]) -> Output {
    as_nobody(bus, &[&["call", NAME, ROOT, MANAGER], arguments].concat())
}

fn run(bus: &Bus, backup: &str) -> Output {
    manager(bus, &["RunBackup", "sa{sv}", backup, "0"])
}

fn job_of(output: &Output) -> String {
    let text = stdout(output);
    text.split('"').nth(1).unwrap_or_else(|| panic!("no job in {text:?} {}", stderr(output))).to_owned()
}

/// B28: each action is asked for by its name, about the sender's name on the bus (never its process), and only a yes is one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs root: calls as other users"]
async fn system_polkit_is_asked_about_the_sender_and_only_a_yes_is_one() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let (authority, _connection) =
        authority(&bus, &[("run", Says::Yes), ("view", Says::Yes), ("restore", Says::Password)]).await;
    let job = job_of(&run(&bus, "mybackup"));
    assert_eq!(daemon.wait_for_job(&job).await, "succeeded");
    let restore = manager(&bus, &["Restore", "ssa{sv}", "app-1", "", "0"]);
    assert!(stderr(&restore).contains("needs an administrator's password"), "{}", stderr(&restore));
    let reload = manager(&bus, &["Reload"]);
    assert!(stderr(&reload).contains("polkit refuses org.holdfast.backup1.manage"), "{}", stderr(&reload));
    let cancel = as_nobody(&bus, &["call", NAME, &job, "org.holdfast.Backup1.Job", "Cancel"]);
    assert!(stderr(&cancel).contains("polkit refuses org.holdfast.backup1.cancel"), "{}", stderr(&cancel));
    let asked = authority.asked.lock().unwrap().clone();
    let (kind, name, action, object, flags) = asked[0].clone();
    assert_eq!((kind.as_str(), action.as_str()), ("system-bus-name", "org.holdfast.backup1.run"));
    assert_eq!((object.as_str(), flags), ("mybackup", 0));
    assert!(name.starts_with(":1."), "{name}");
    assert!(asked.iter().all(|question| question.4 == 0), "a dialog was allowed: {asked:?}");
    let jobs = daemon.call::<_, Vec<crate::support::Row>>("ListJobs", &(crate::support::Row::new(),)).await;
    assert_eq!(jobs.unwrap().len(), 1, "a refused call started something");
}

/// B27: a dialog is only allowed where the caller allows one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs root: calls as other users"]
async fn system_a_dialog_is_allowed_where_the_caller_allows_one() {
    let bus = Bus::start();
    let _daemon = crate::daemon(&bus).await;
    let (authority, _connection) = authority(&bus, &[("manage", Says::Yes)]).await;
    let mut setpriv = bus.command("setpriv");
    setpriv.args(["--reuid=65534", "--regid=65534", "--clear-groups", "busctl"]);
    setpriv.arg(format!("--address={}", bus.address)).args(["call", NAME, ROOT, MANAGER, "Reload"]);
    let reload = setpriv.arg("--allow-interactive-authorization=yes").output().unwrap();
    assert!(reload.status.success(), "{}", stderr(&reload));
    assert_eq!(authority.asked.lock().unwrap()[0].4, 1);
}

/// B25: without polkit only root may, and others are told what to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs root: calls as other users"]
async fn system_without_polkit_only_root_may() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let refused = run(&bus, "mybackup");
    assert!(stderr(&refused).contains("polkit did not answer, so only root may"), "{}", stderr(&refused));
    let seen = as_nobody(&bus, &["get-property", NAME, ROOT, MANAGER, "Version"]);
    assert!(stderr(&seen).contains("polkit did not answer"), "{}", stderr(&seen));
    let job = daemon.run_backup("mybackup").await;
    assert_eq!(daemon.wait_for_job(&job).await, "succeeded");
}

/// B26: polkit that never answers holds nobody else up; in the end it is a no, and the question is taken back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs root: calls as other users"]
async fn system_polkit_that_never_answers_is_a_no_and_holds_nobody_up() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let (authority, _connection) = authority(&bus, &[("run", Says::Never), ("view", Says::Never)]).await;
    let asking = std::thread::scope(|scope| {
        let asking = scope.spawn(|| run(&bus, "mybackup"));
        crate::support::until("the question", || !authority.asked.lock().unwrap().is_empty());
        let start = Instant::now();
        let seen = bus.busctl(&["call", NAME, ROOT, MANAGER, "Reload"]);
        assert!(seen.status.success() && start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        asking.join().unwrap()
    });
    assert!(stderr(&asking).contains("polkit did not answer"), "{}", stderr(&asking));
    let looked = Instant::now();
    let seen = as_nobody(&bus, &["get-property", NAME, ROOT, MANAGER, "Version"]);
    assert!(stderr(&seen).contains("polkit did not answer"), "{}", stderr(&seen));
    let again = as_nobody(&bus, &["get-property", NAME, ROOT, MANAGER, "Version"]);
    assert!(!again.status.success() && looked.elapsed() < Duration::from_secs(8), "{:?}", looked.elapsed());
    crate::support::until("the questions to be taken back", || {
        authority.withdrawn.lock().unwrap().len() >= 2
    });
    assert_no_jobs(&daemon).await;
}

async fn assert_no_jobs(daemon: &crate::support::Daemon) {
    let jobs = daemon.call::<_, Vec<crate::support::Row>>("ListJobs", &(crate::support::Row::new(),)).await;
    assert!(jobs.unwrap().is_empty());
}

/// B24: an authority that goes, or a caller that goes, while it is asked: no, and no job.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs root: calls as other users"]
async fn system_whoever_vanishes_while_polkit_is_asked_gets_a_no() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let (asked, connection) = authority(&bus, &[("run", Says::Never)]).await;
    let answer = std::thread::scope(|scope| {
        let asking = scope.spawn(|| run(&bus, "mybackup"));
        crate::support::until("the question", || !asked.asked.lock().unwrap().is_empty());
        drop(connection.graceful_shutdown());
        asking.join().unwrap()
    });
    assert!(stderr(&answer).contains("not authorised to run"), "{}", stderr(&answer));
    assert_no_jobs(&daemon).await;
}

/// B22: what was authorised is judged as it is when it begins: gone or switched off meanwhile, nothing runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs root: calls as other users"]
async fn system_what_changes_while_polkit_is_asked_is_not_run_as_it_was() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let (authority, _connection) = authority(&bus, &[("run", Says::Held)]).await;
    for (change, expected) in [
        (
            &[
                "call",
                NAME,
                "/org/holdfast/Backup1/backup/mybackup",
                "org.holdfast.Backup1.Backup",
                "Disable",
            ][..],
            "disabled",
        ),
        (&["call", NAME, ROOT, MANAGER, "RemoveBackup", "s", "mybackup"], "mybackup"),
    ] {
        authority.asked.lock().unwrap().clear();
        authority.says.lock().unwrap().insert("run", Says::Held);
        let answer = std::thread::scope(|scope| {
            let asking = scope.spawn(|| run(&bus, "mybackup"));
            crate::support::until("the question", || !authority.asked.lock().unwrap().is_empty());
            let changed = bus.busctl(change);
            assert!(changed.status.success(), "{}", stderr(&changed));
            authority.says.lock().unwrap().insert("run", Says::Yes);
            asking.join().unwrap()
        });
        assert!(!answer.status.success() && stderr(&answer).contains(expected), "{}", stderr(&answer));
    }
    let jobs = daemon.call::<_, Vec<crate::support::Row>>("ListJobs", &(crate::support::Row::new(),)).await;
    assert!(jobs.unwrap().is_empty(), "what was refused began a job");
}

/// One caller cannot fill the queue; root still gets through.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs root: calls as other users"]
async fn system_one_caller_has_so_many_jobs_and_no_more() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let (_authority, _connection) = authority(&bus, &[("run", Says::Yes)]).await;
    daemon.write("data/hold", "");
    // Each waits for the repository, which is held as long as a lock of ours stands.
    let definitions: String = (0..25)
        .map(|n| format!("[instance.i{n}]\ninclude = [\"@DIR@/data\"]\n[backup.b{n}]\nrepositories = [\"local\"]\ninstances = [\"i{n}\"]\n"))
        .collect();
    let slow = "[daemon]\nmax_parallel = 1\nrestic = \"@DIR@/slow-restic\"\n";
    daemon.write("config/conf.d/many.toml", &definitions);
    let script = "#!/bin/sh\n[ \"$1\" = version ] || while [ -e @DIR@/data/hold ]; do sleep 0.1; done\nexec restic \"$@\"\n";
    let script = daemon.write("slow-restic", script);
    std::fs::set_permissions(script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let config = daemon.read("config/holdfast.toml").replacen("[daemon]\n", slow, 1);
    daemon.write("config/holdfast.toml", &config);
    let reload = bus.busctl(&["call", NAME, ROOT, MANAGER, "Reload"]);
    assert!(stdout(&reload).starts_with("as 0"), "{}{}", stdout(&reload), stderr(&reload));
    let mut open = Vec::new();
    for n in 0..20 {
        let answer = run(&bus, &format!("b{n}"));
        assert!(answer.status.success(), "{n}: {}", stderr(&answer));
        open.extend(stdout(&answer).split('"').nth(1).map(str::to_owned));
    }
    let refused = run(&bus, "b20");
    assert!(stderr(&refused).contains("20 is the most"), "{}", stderr(&refused));
    let job = daemon.run_backup("b21").await;
    std::fs::remove_file(daemon.dir.path().join("data/hold")).unwrap();
    assert_eq!(daemon.wait_for_job(&job).await, "succeeded", "{}", daemon.log());
    // Of twenty that take turns, root's may be the first to end.
    daemon.wait_for_job(&open[0]).await;
    let again = run(&bus, "b20");
    assert!(again.status.success(), "{}", stderr(&again));
}

/// B46, B50: root in a namespace of one's own is nobody to the bus, also through its socket mounted elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs root: calls as other users"]
async fn system_root_of_a_user_namespace_is_not_root() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let socket = bus.address.trim_start_matches("unix:path=").to_owned();
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let elsewhere = dir.path().join("bus");
    std::fs::write(&elsewhere, "").unwrap();
    let script = format!(
        "id -u; mount --bind {socket} {at} && dbus-send --bus=unix:path={at} --print-reply --dest={NAME} {ROOT} \
         {MANAGER}.RunBackup string:mybackup dict:string:string:",
        at = elsewhere.display()
    );
    let mut setpriv = bus.command("setpriv");
    setpriv.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
    ]);
    let answer = setpriv.args(["sh", "-c", &script]).output().unwrap();
    assert!(stdout(&answer).starts_with("0\n"), "no namespace: {}{}", stdout(&answer), stderr(&answer));
    let said = stderr(&answer);
    assert!(!answer.status.success(), "{}", stdout(&answer));
    assert!(
        said.contains("NotAuthorized")
            || said.contains("AccessDenied")
            || said.contains("NoReply")
            || said.contains("Failed to open connection")
            // What it says of itself does not fit what the kernel says of it.
            || said.contains("Failed to register on connection"),
        "{said}"
    );
    let jobs = daemon.call::<_, Vec<crate::support::Row>>("ListJobs", &(crate::support::Row::new(),)).await;
    assert!(jobs.unwrap().is_empty(), "a job was begun");
}

/// Those whom a definition names see, run and cancel it without polkit, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs root: calls as other users"]
async fn system_those_named_in_a_definition_run_and_cancel_it_and_no_more() {
    let bus = Bus::start();
    let named = crate::CONFIG[0].1.replace("schedule = \"daily\"", "allow_users = [\"nobody\"]");
    let named = named.replace("[instance.app-1]", "[instance.app-1]\nallow_groups = [\"nogroup\"]");
    let daemon = Daemon::start(&bus, &[("holdfast.toml", &named)]).await;
    daemon.write("data/file", "one\n");
    let job = job_of(&run(&bus, "mybackup"));
    let seen = as_nobody(&bus, &["get-property", NAME, &job, "org.holdfast.Backup1.Job", "Kind"]);
    assert_eq!(stdout(&seen).trim(), "s \"backup\"", "{}", stderr(&seen));
    let cancel = as_nobody(&bus, &["call", NAME, &job, "org.holdfast.Backup1.Job", "Cancel"]);
    assert!(!stderr(&cancel).contains("not authorised"), "{}", stderr(&cancel));
    daemon.wait_for_job(&job).await;
    let sets = manager(&bus, &["ListSnapshots", "s", "app-1"]);
    assert!(sets.status.success(), "{}", stderr(&sets));
    for refused in [
        run(&bus, "off"),
        manager(&bus, &["Restore", "ssa{sv}", "app-1", "", "0"]),
        manager(&bus, &["RemoveBackup", "s", "mybackup"]),
        manager(&bus, &["Prune", "s", "local"]),
        manager(&bus, &["ListJobs", "a{sv}", "0"]),
        as_nobody(&bus, &["get-property", NAME, ROOT, MANAGER, "Version"]),
    ] {
        assert!(stderr(&refused).contains("not authorised to"), "{} {}", stdout(&refused), stderr(&refused));
    }
}

/// A set is what a restore puts in place as root: polkit cannot hand on that somebody brings one in.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs root: calls as other users"]
async fn system_only_root_imports_whatever_polkit_says() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let (authority, _connection) =
        authority(&bus, &[("run", Says::Yes), ("restore", Says::Yes), ("manage", Says::Yes)]).await;
    let import = manager(&bus, &["Import", "ssha{sv}", "app-1", "x.tar", "0", "0"]);
    assert!(stderr(&import).contains("not authorised to import: only root"), "{}", stderr(&import));
    assert_eq!(authority.asked.lock().unwrap().len(), 0);
    let jobs = daemon.call::<_, Vec<crate::support::Row>>("ListJobs", &(crate::support::Row::new(),)).await;
    assert_eq!(jobs.unwrap().len(), 0, "a refused call started something");
}

/// B01, B34: whatever the introspection shows, a no stops it: a method or property that is added without asking fails here.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs root: calls as other users"]
async fn system_every_method_and_property_passes_the_one_place_that_decides() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let job = daemon.run_backup("mybackup").await.to_string();
    daemon.wait_for_job(&job).await;
    let (_authority, _connection) = authority(&bus, &[]).await;
    let objects =
        ["", "/backup/mybackup", "/repository/local", "/instance/app_2d1"].map(|p| format!("{ROOT}{p}"));
    let (mut methods, mut properties) = (0, 0);
    for path in objects.into_iter().chain([job]) {
        let xml = bus.busctl(&["introspect", "--xml-interface", NAME, &path]);
        for member in members(&stdout(&xml)) {
            let (kind, interface, name, signature) = member;
            let answer = if kind == "property" {
                properties += 1;
                as_nobody(&bus, &["get-property", NAME, &path, &interface, &name])
            } else {
                methods += 1;
                let values = values(&signature);
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                let call = ["call", NAME, &path, &interface, &name];
                let signature = if signature.is_empty() { vec![] } else { vec![signature.as_str()] };
                as_nobody(&bus, &[&call[..], &signature, &values].concat())
            };
            assert!(
                stderr(&answer).contains("not authorised to"),
                "{path} {interface}.{name} was not refused: {}{}",
                stdout(&answer),
                stderr(&answer)
            );
        }
        for interface in ["Manager", "Backup", "Repository", "Instance", "Job"] {
            let interface = format!("{NAME}.{interface}");
            let call = ["call", NAME, &path, "org.freedesktop.DBus.Properties", "GetAll", "s", &interface];
            assert_eq!(stdout(&as_nobody(&bus, &call)), "", "{path} {interface}");
        }
    }
    assert!(methods > 20 && properties > 40, "{methods} methods, {properties} properties");
}

/// Methods and properties of ours and of the object manager: kind, interface, name, signature in.
fn members(xml: &str) -> Vec<(&'static str, String, String, String)> {
    let (mut found, mut interface, mut depth) = (Vec::new(), String::new(), 0);
    for line in xml.lines().map(str::trim) {
        // Objects below have their own turn.
        depth += i32::from(line.starts_with("<node") && !line.ends_with("/>")) - i32::from(line == "</node>");
        if depth > 1 {
            continue;
        }
        let value = |key: &str| {
            let rest = line.split_once(&format!(" {key}=\"")).map(|(_, rest)| rest);
            rest.and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned()
        };
        if line.starts_with("<interface ") {
            interface = value("name");
        }
        if !interface.starts_with(NAME) && interface != "org.freedesktop.DBus.ObjectManager" {
            continue;
        }
        if line.starts_with("<method ") {
            found.push(("method", interface.clone(), value("name"), String::new()));
        } else if line.starts_with("<property ") {
            found.push(("property", interface.clone(), value("name"), String::new()));
        } else if line.starts_with("<signal ") {
            // Its arguments are nobody's.
            found.push(("signal", interface.clone(), value("name"), String::new()));
        } else if line.starts_with("<arg ") && value("direction") == "in" {
            found.last_mut().unwrap().3.push_str(&value("type"));
        }
    }
    found.retain(|member| member.0 != "signal");
    found
}

/// Something for each argument of a signature.
fn values(signature: &str) -> Vec<String> {
    let mut rest = signature;
    let mut values = Vec::new();
    while !rest.is_empty() {
        let (value, taken) = match rest {
            _ if rest.starts_with("a{sv}") => ("0", 5),
            _ if rest.starts_with('s') => ("mybackup", 1),
            _ if rest.starts_with('t') => ("1", 1),
            _ if rest.starts_with('h') => ("0", 1),
            other => panic!("no value for {other}"),
        };
        values.push(value.to_owned());
        rest = &rest[taken..];
    }
    values
}

/// The shipped actions: each takes an administrator's password, every time; the rules let the group view and run.
#[test]
fn the_shipped_actions_never_keep_a_password() {
    let actions = include_str!("../../units/org.holdfast.backup1.policy");
    for action in ["view", "run", "cancel", "restore", "manage"] {
        let from = actions.find(&format!("<action id=\"org.holdfast.backup1.{action}\">")).unwrap();
        let text = actions[from..].split("</action>").next().unwrap();
        assert_eq!(text.matches(">auth_admin<").count(), 3, "{action}");
    }
    assert!(!actions.contains("keep<"), "a password is for one call");
    let rules = include_str!("../../units/org.holdfast.backup1.rules");
    for (action, granted) in
        [("view", true), ("run", true), ("cancel", false), ("restore", false), ("manage", false)]
    {
        assert_eq!(rules.contains(&format!("\"org.holdfast.backup1.{action}\"")), granted, "{action}");
    }
}
