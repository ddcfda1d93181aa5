//! What introspection shows is what is shipped, and what the contract says.

use std::collections::BTreeMap;

use crate::support::{Bus, Daemon, NAME, ROOT};

const SHIPPED: &str = include_str!("../../units/org.holdfast.Backup1.xml");

/// The objects that carry our interfaces.
const OBJECTS: [(&str, &str); 4] = [
    ("Manager", ""),
    ("Backup", "/backup/mybackup"),
    ("Repository", "/repository/local"),
    ("Instance", "/instance/app_2d1"),
];

/// Members of the contract: interface, member, signature in, signature out (a property has no in).
const CONTRACT: &str = "
Manager ListContents(s) aa{sv}
Manager RunBackup(sa{sv}) o
Manager Restore(ssa{sv}) o
Manager Recover(sa{sv}) o
Manager Rollback(s) o
Manager Import(ssha{sv}) o
Manager Prune(s) o
Manager Check(sa{sv}) o
Manager Drill(sa{sv}) o
Manager Plan(ssa{sv}) s
Manager ListSnapshots(s) aa{sv}
Manager ListJobs(a{sv}) aa{sv}
Manager AddRepository(sa{sv})
Manager AddBackup(sa{sv})
Manager AlterBackup(sa{sv})
Manager RemoveBackup(s)
Manager RemoveRepository(s)
Manager Reload() as
Manager Pause(t)
Manager Resume()
Manager .Version s
Manager .ResticVersion s
Manager .Paused b
Manager .ActiveJobs u
Manager !JobNew(o)
Manager !JobRemoved(os)
Manager !DefinitionsChanged()
Backup Run() o
Backup Enable()
Backup Disable()
Backup .Name s
Backup .Schedule s
Backup .Enabled b
Backup .Instances as
Backup .Repositories as
Backup .NextRun t
Backup .LastRun t
Backup .LastSuccess t
Backup .LastOutcome s
Backup .Waiting s
Repository Test()
Repository Unlock()
Repository .Name s
Repository .Url s
Repository .Layout s
Repository .LastCheck t
Repository .LastPrune t
Repository .Damaged b
Instance .Name s
Instance .Module s
Instance .LastSuccess t
Instance .LastSnapshot s
Instance .LastProven t
Job Cancel()
Job .Id s
Job .Kind s
Job .Subject s
Job .State s
Job .Phase s
Job .Progress d
Job .BytesDone t
Job .BytesTotal t
Job .FilesDone t
Job .Started t
Job .Finished t
Job .Outcome s
Job .Error s
Job .Waiting s
Job .Units aa{sv}
";

#[tokio::test]
async fn the_shipped_introspection_is_that_of_the_running_daemon() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let job = daemon.run_backup("mybackup").await;
    let mut running = BTreeMap::new();
    for (interface, path) in OBJECTS {
        running.insert(interface, introspect(&daemon, &format!("{ROOT}{path}"), interface).await);
    }
    running.insert("Job", introspect(&daemon, job.as_str(), "Job").await);
    if std::env::var_os("UPDATE_XML").is_some() {
        std::fs::write(
            concat!(env!("CARGO_MANIFEST_DIR"), "/units/org.holdfast.Backup1.xml"),
            shipped(&running),
        )
        .unwrap();
        return;
    }
    for (interface, xml) in &running {
        let shipped = interface_of(SHIPPED, interface);
        assert_eq!(&shipped, xml, "{interface}: run the test with UPDATE_XML=1 and look at the difference");
    }
}

#[test]
fn the_shipped_introspection_is_the_contract() {
    for line in CONTRACT.trim().lines() {
        let (interface, member) = line.split_once(' ').unwrap();
        let xml = interface_of(SHIPPED, interface);
        let found = members(&xml);
        assert!(found.contains(&member.to_owned()), "{line} is not in {found:#?}");
    }
}

async fn introspect(daemon: &Daemon, path: &str, interface: &str) -> String {
    let proxy = zbus::fdo::IntrospectableProxy::builder(&daemon.bus)
        .destination(NAME)
        .path(path.to_owned())
        .build()
        .await
        .unwrap();
    interface_of(&proxy.introspect().await.unwrap(), interface)
}

/// One interface of an introspection document, each line trimmed.
fn interface_of(xml: &str, interface: &str) -> String {
    let start = format!("<interface name=\"{NAME}.{interface}\">");
    let from = xml.find(&start).unwrap_or_else(|| panic!("{start} is not there"));
    let end = from + xml[from..].find("</interface>").unwrap();
    let mut lines: Vec<&str> = xml[from..end].lines().map(str::trim).collect();
    lines.push("</interface>");
    lines.retain(|line| !line.is_empty());
    lines.join("\n")
}

/// Members of one interface, as in [`CONTRACT`].
fn members(xml: &str) -> Vec<String> {
    let (mut members, mut open) = (Vec::new(), None);
    for line in xml.lines() {
        let value = |key: &str| {
            line.split_once(&format!("{key}=\"")).map(|(_, rest)| rest.split('"').next().unwrap().to_owned())
        };
        if line.starts_with("<property ") {
            members.push(format!(".{} {}", value("name").unwrap(), value("type").unwrap()));
        } else if line.starts_with("<method ") || line.starts_with("<signal ") {
            let mark = if line.starts_with("<signal ") { "!" } else { "" };
            open = Some((format!("{mark}{}(", value("name").unwrap()), String::new()));
        } else if line.starts_with("<arg ") {
            let (ins, outs) = open.as_mut().unwrap();
            let out = value("direction").as_deref() == Some("out");
            (if out { outs } else { ins }).push_str(&value("type").unwrap());
        }
        if line.starts_with("</method>")
            || line.starts_with("</signal>")
            || line.ends_with("/>")
                && open.is_some()
                && !line.starts_with("<arg")
                && !line.starts_with("<annotation")
        {
            let (ins, outs) = open.take().unwrap();
            members.push(format!("{ins}) {outs}").trim_end().to_owned());
        }
    }
    members
}

fn shipped(interfaces: &BTreeMap<&str, String>) -> String {
    let mut text = String::from(
        "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n \
         \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n\
         <!-- As the running daemon answers; tests/bus/introspection.rs compares. Times are microseconds since the epoch. -->\n<node>\n",
    );
    for name in ["Manager", "Backup", "Repository", "Instance", "Job"] {
        let mut depth = 1;
        let mut comment = false;
        for line in interfaces[name].lines() {
            depth -= usize::from(line.starts_with("</"));
            let extra = usize::from(comment && line != "-->");
            text.push_str(&format!("{}{line}\n", "  ".repeat(depth + extra)));
            comment = (comment || line == "<!--") && line != "-->";
            let opens = line.starts_with('<') && !line.starts_with("<!") && !line.starts_with("</");
            depth += usize::from(opens && !line.ends_with("/>"));
        }
    }
    text.push_str("</node>\n");
    text
}
