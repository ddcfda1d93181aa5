//! org.holdfast.Backup1(5): every object, method, property and signal, from the shipped introspection.

use roff::{Roff, bold, italic, roman};

use super::{head, item, section, see_also};

/// As the daemon answers; one tag a line (`tests/bus/introspection.rs` writes and compares it).
const INTROSPECTION: &str = include_str!("../../../units/org.holdfast.Backup1.xml");

const DESCRIPTION: [&str; 4] = [
    "holdfastd(8) answers on the system bus under the name org.holdfast.Backup1; /org/holdfast/Backup1 is its root \
     object, with an ObjectManager. Times are microseconds since the epoch, 0 for never. Calls that start something \
     return the object of the job at once; it stays for ten minutes after the job's end. Property changes are signalled.",
    "Only root and members of the group holdfast get through the bus. Root may do all; of members polkit decides by the \
     actions org.holdfast.backup1.view, run, cancel, restore and manage: as shipped they view and run at once, the rest \
     takes an administrator's password. A restore to a target, beside the instance (as, map) or of what only a repository \
     knows needs manage: no definition says that it may be there. allow_users and allow_groups of a backup or an instance grant members view, run \
     and cancel there without polkit. Where polkit does not answer, only root may.",
    "Errors are org.holdfast.Backup1.Error.NoSuchBackup, NoSuchRepository, NoSuchInstance, NoSuchSnapshot, NoSuchJob, \
     AlreadyExists, InUse, Disabled, Busy, InvalidArgument, InvalidDefinition, NotAuthorized, RepositoryUnavailable, \
     Failed; each with a sentence that says what to do.",
    "For example: busctl call org.holdfast.Backup1 /org/holdfast/Backup1 org.holdfast.Backup1.Manager RunBackup 'sa{sv}' \
     nightly 0",
];

/// The objects that carry an interface.
const OBJECTS: [(&str, &str); 5] = [
    ("Manager", "/org/holdfast/Backup1"),
    ("Backup", "/org/holdfast/Backup1/backup/NAME"),
    ("Repository", "/org/holdfast/Backup1/repository/NAME"),
    ("Instance", "/org/holdfast/Backup1/instance/NAME"),
    ("Job", "/org/holdfast/Backup1/job/ID"),
];

/// A method, property or signal.
#[derive(Debug, Default, PartialEq, Eq)]
struct Member {
    interface: String,
    /// method, property or signal.
    kind: String,
    name: String,
    about: String,
    /// Type and name of what goes in; of a property its type, of a signal what it carries.
    takes: Vec<(String, String)>,
    /// Type and name of what comes back.
    gives: Vec<(String, String)>,
}

pub(super) fn page() -> Roff {
    let synopsis = "busctl introspect org.holdfast.Backup1 /org/holdfast/Backup1";
    let mut page = head("org.holdfast.Backup1", "the D-Bus interface of holdfastd", synopsis, &DESCRIPTION);
    let members = members(INTROSPECTION);
    for (interface, path) in OBJECTS {
        section(&mut page, &format!("{} INTERFACE", interface.to_uppercase()));
        let at = [roman("Objects "), italic(path), roman(", interface "), bold(name(interface)), roman(".")];
        page.text(at);
        for (kind, title) in [("method", "Methods"), ("property", "Properties"), ("signal", "Signals")] {
            let mut listed =
                members.iter().filter(|m| m.interface == name(interface) && m.kind == kind).peekable();
            if listed.peek().is_some() {
                page.control("SS", [title]);
            }
            listed.for_each(|member| show(&mut page, member));
        }
    }
    see_also(&mut page, &["holdfast(1)", "holdfastd(8)", "holdfast.toml(5)", "busctl(1)"]);
    page
}

fn name(interface: &str) -> String {
    format!("org.holdfast.Backup1.{interface}")
}

fn show(page: &mut Roff, member: &Member) {
    let list = |arguments: &[(String, String)]| {
        let shown = arguments.iter().map(|(kind, name)| format!("{kind} {name}").trim_end().to_owned());
        shown.collect::<Vec<_>>().join(", ")
    };
    let takes = match member.kind.as_str() {
        "property" => format!(" {}", list(&member.takes)),
        _ => format!("({})", list(&member.takes)),
    };
    let gives = if member.gives.is_empty() { String::new() } else { format!(" -> {}", list(&member.gives)) };
    item(page, vec![bold(&*member.name), roman(takes), roman(gives)], &member.about);
}

/// All members in an introspection text of one tag a line, with the comment before each.
fn members(xml: &str) -> Vec<Member> {
    let (mut members, mut interface, mut about) = (Vec::<Member>::new(), String::new(), Vec::new());
    let mut comment = false;
    for line in xml.lines().map(str::trim) {
        if comment {
            comment = line != "-->";
            about.extend(comment.then_some(line));
            continue;
        }
        match line.trim_start_matches('<').split([' ', '>', '/']).next() {
            Some("!--") => {
                comment = !line.ends_with("-->");
                about.clear();
            }
            Some("interface") => interface = value(line, "name"),
            Some(kind @ ("method" | "property" | "signal")) => {
                let kind_of = value(line, "type");
                let takes = if kind_of.is_empty() { vec![] } else { vec![(kind_of, String::new())] };
                let (name, about) = (value(line, "name"), text(&about.split_off(0)));
                let (interface, kind) = (interface.clone(), kind.into());
                members.push(Member { interface, kind, name, about, takes, gives: vec![] });
            }
            Some("arg") => argument(members.last_mut(), line),
            _ => {}
        }
    }
    members
}

fn argument(member: Option<&mut Member>, line: &str) {
    let argument = (value(line, "type"), value(line, "name"));
    match member {
        Some(member) if value(line, "direction") == "out" => member.gives.push(argument),
        Some(member) => member.takes.push(argument),
        None => {}
    }
}

/// The value of an attribute, or empty.
fn value(line: &str, key: &str) -> String {
    let rest = line.split_once(&format!(" {key}=\"")).map(|(_, rest)| rest);
    rest.and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned()
}

fn text(lines: &[&str]) -> String {
    let escaped = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&amp;", "&")];
    escaped.iter().fold(lines.join(" "), |text, (code, mark)| text.replace(code, mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_of_the_introspection_is_on_the_page() {
        let page = page().to_roff();
        let tags = ["<method ", "<property ", "<signal "];
        let listed = INTROSPECTION.lines().filter(|line| tags.iter().any(|tag| line.trim().starts_with(tag)));
        let names: Vec<String> = listed.map(|line| value(line.trim(), "name")).collect();
        assert!(names.len() > 60, "{}", names.len());
        for name in names {
            assert!(page.contains(&format!("\\fB{name}\\fR")), "{name}");
        }
    }

    #[test]
    fn a_method_has_its_comment_and_its_arguments() {
        let all = members(INTROSPECTION);
        let run = all.iter().find(|member| member.name == "RunBackup").unwrap();
        assert_eq!(run.about, "Starts a backup. Options: instances (as) narrows it.");
        assert_eq!(run.takes, [("s".into(), "backup".into()), ("a{sv}".into(), "options".into())]);
        assert_eq!(run.gives, [("o".into(), "job".into())]);
        let resume = all.iter().find(|member| member.name == "Resume").unwrap();
        assert!(resume.takes.is_empty() && resume.gives.is_empty());
    }
}
