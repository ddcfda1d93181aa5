//! That nothing is shown or done without the one place that decides, and what is shipped for it.

use crate::authority::{as_nobody, authority};
use crate::support::{Bus, NAME, ROOT, stderr, stdout};

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
