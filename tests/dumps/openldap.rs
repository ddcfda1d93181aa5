//! OpenLDAP.
#![expect(clippy::disallowed_methods, reason = "tests start real programs themselves")]

use std::io::Write;
use std::process::{Command, Stdio};

use super::scripted::Scripted;
use super::servers::good;
use super::*;
use crate::support::until;

/// slapd with two databases, on a socket; entries below `dc=one` and `dc=two` change as told.
pub(super) struct Slapd(pub(super) Scripted);

impl Slapd {
    pub(super) fn start(first: &str) -> Self {
        let server = Scripted::new(
            "slapd -F \"$D/conf\" -h \"ldapi://${D//\\//%2f}%2fsocket\"; while ! [ -s \"$D/pid\" ]; do sleep 0.02; done",
        );
        for dir in ["conf", "db-one", "db-two"] {
            std::fs::create_dir(server.path(dir)).unwrap();
        }
        let at = server.dir.path().display();
        let database = |name: &str| {
            format!(
                "dn: olcDatabase=mdb,cn=config\nobjectClass: olcMdbConfig\nolcDatabase: mdb\nolcSuffix: dc={name}\n\
                 olcDbDirectory: {at}/db-{name}\nolcRootDN: cn=admin,dc={name}\nolcRootPW: secret\n\n"
            )
        };
        let config = format!(
            "dn: cn=config\nobjectClass: olcGlobal\ncn: config\nolcPidFile: {at}/pid\n\n\
             dn: cn=module,cn=config\nobjectClass: olcModuleList\ncn: module\nolcModulePath: /usr/lib/ldap\nolcModuleLoad: back_mdb\n\n\
             dn: cn=schema,cn=config\nobjectClass: olcSchemaConfig\ncn: schema\n\n\
             include: file:///etc/ldap/schema/core.ldif\n\n{}{}",
            database("one"),
            database("two")
        );
        let server = Self(server);
        server.add("0", &config);
        for (number, name) in [("1", "one"), ("2", "two")] {
            let text = format!(
                "dn: dc={name}\nobjectClass: dcObject\nobjectClass: organization\ndc: {name}\no: {first}\n\n\
                 dn: o=more,dc={name}\nobjectClass: organization\no: more\n\n"
            );
            server.add(number, &text);
        }
        server.0.run("start");
        server.answers();
        server
    }

    pub(super) fn answers(&self) {
        until("slapd answers", || self.search("dc=one").status.success());
    }

    /// Loads entries while it is stopped.
    fn add(&self, number: &str, text: &str) {
        let mut slapadd = Command::new("slapadd");
        slapadd.args(["-n", number, "-F"]).arg(self.0.path("conf"));
        let mut child = slapadd.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        good(child.wait_with_output().unwrap());
    }

    fn url(&self) -> String {
        format!("ldapi://{}", self.0.path("socket").display().to_string().replace('/', "%2f"))
    }

    fn search(&self, base: &str) -> std::process::Output {
        let mut search = Command::new("ldapsearch");
        search.args([
            "-LLL",
            "-x",
            "-o",
            "ldif-wrap=no",
            "-H",
            &self.url(),
            "-b",
            base,
            "(objectClass=*)",
            "dn",
            "o",
        ]);
        search.output().unwrap()
    }

    /// All entries of both databases.
    pub(super) fn state(&self) -> String {
        format!("{}\n{}", good(self.search("dc=one")), good(self.search("dc=two")))
    }

    fn modify(&self, suffix: &str, text: &str) {
        let mut modify = Command::new("ldapmodify");
        modify.args(["-x", "-H", &self.url(), "-D", &format!("cn=admin,{suffix}"), "-w", "secret"]);
        let mut child = modify.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        good(child.wait_with_output().unwrap());
    }

    /// One entry more, one that is another one.
    pub(super) fn change(&self) {
        self.modify("dc=one", "dn: o=späte,dc=one\nchangetype: add\nobjectClass: organization\no: späte\n");
        self.modify("dc=two", "dn: dc=two\nchangetype: modify\nreplace: o\no: changed\n");
    }

    pub(super) fn definition(&self) -> String {
        format!(
            "source = \"openldap\"\nconfig_dir = \"{}\"\n{}",
            self.0.path("conf").display(),
            self.0.service()
        )
    }
}

#[tokio::test]
async fn configuration_and_data_are_restored_into_their_own_server_and_rolled_back() {
    let (server, other) = (Slapd::start("first"), Slapd::start("other"));
    let lab = setup("", &[server.definition()]).start().await;
    let (before, wrong) = (server.state(), other.state());
    lab.good_backup("b").await;
    assert_eq!(server.0.done(), "start ", "a backup leaves it running");
    let dumps = manifest(&lab)["dumps"].clone();
    let files: Vec<&str> = dumps.as_array().unwrap().iter().map(|d| d["file"].as_str().unwrap()).collect();
    assert_eq!(files, ["config", "dc%3done", "dc%3dtwo"].map(|name| format!("dumps/openldap/{name}.ldif")));
    assert!(dumps[1]["version"].as_str().unwrap().starts_with("2."), "{dumps:#}");
    server.change();
    let late = server.state();
    assert_ne!(late, before);
    lab.good_restore("app").await;
    server.answers();
    assert_eq!(server.state(), before, "{}", lab.daemon.log());
    assert_eq!(server.0.done(), "start stop start ");
    assert_eq!(other.state(), wrong, "the other server was touched");
    let config = std::fs::read_to_string(server.0.path("conf/cn=config/olcDatabase={1}mdb.ldif")).unwrap();
    assert!(config.contains(&format!("olcDbDirectory: {}", server.0.path("db-one").display())), "{config}");
    server.change();
    roll_back(&lab).await;
    server.answers();
    assert_eq!(server.state(), late);
    // One database of the two.
    let include = vec!["dumps/openldap/dc%3dtwo.ldif"];
    let ended = lab.restore("app", "", &[("include", zbus::wire::Variant::from(include))]).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", lab.daemon.log());
    server.answers();
    let now = server.state();
    assert!(now.contains("o: first") && !now.contains("changed") && now.contains("dn:: "), "{now}");
    lab.assert_settled().await;
}

#[tokio::test]
async fn a_dump_that_is_cut_off_takes_no_snapshot_and_a_server_that_runs_is_not_restored_beneath() {
    let server = Slapd::start("first");
    let mut setup = setup(HEALTH, &[server.definition()]);
    for program in ["slapcat", "slapadd"] {
        fake(&mut setup, program, "[ ! -e \"$D/on-slap\" ] || . \"$D/on-slap\"\nexec \"$real\" \"$@\"");
    }
    setup.write("health", "0\n", 0o644);
    let lab = setup.start().await;
    for (shell, word) in [
        ("exit 1", "exited with 1"),
        ("\"$real\" \"$@\" | head -c -30; exit 0", "cut off"),
        ("\"$real\" \"$@\" | head -n -1; exit 0", "cut off"),
        ("\"$real\" \"$@\" | head -c 9; exit 0", "cut off"),
        ("echo slapcat: no such thing; exit 0", "is no LDIF"),
        ("\"$real\" \"$@\" | head -c 90; kill -9 $$", "signal 9"),
    ] {
        lab.on("slap", &format!("case \"$*\" in *'-n 1'*) {shell};; esac"));
        refused(&lab, &lab.backup("b").await, word);
    }
    lab.remove("on-slap");
    lab.good_backup("b").await;
    server.change();
    let late = server.state();
    // Half of the entries, and it says that all is well.
    lab.on(
        "slap",
        "case \"$0 $*\" in *slapadd*'-n 1'*) f=${@: -1}; sed '/^$/q' \"$f\" >\"$f.half\"; \
         \"$real\" \"${@:1:$#-1}\" \"$f.half\"; exit 0;; esac",
    );
    not_restored(&lab, &lab.restore("app", "", &[]).await, "2 entries are in the dump and 1 were loaded");
    lab.on("slap", "case \"$0 $*\" in *slapadd*'-n 2'*) echo no room >&2; exit 1;; esac");
    not_restored(&lab, &lab.restore("app", "", &[]).await, "no room");
    assert_eq!(server.0.done(), "start ", "nothing was stopped for what could not be loaded");
    lab.remove("on-slap");
    let no = zbus::wire::Variant::from(false);
    not_restored(&lab, &lab.restore("app", "", &[("stop", no)]).await, "a server has");
    assert_eq!(server.state(), late);
    lab.write("health", "1\n", 0o644);
    not_restored(&lab, &lab.restore("app", "", &[]).await, "the old data is back");
    server.answers();
    assert_eq!(server.state(), late);
    lab.assert_settled().await;
}

#[tokio::test]
async fn killed_after_the_swap_the_old_directories_live_after_the_next_start() {
    let server = Slapd::start("first");
    let mut lab = setup(NO_ANSWER, &[server.definition()]).start().await;
    let before = server.state();
    lab.good_backup("b").await;
    server.change();
    let late = server.state();
    lab.start_restore("app", "", &[]).await;
    lab.reached("health").await;
    server.answers();
    assert_eq!(server.state(), before, "the restored data lives already");
    lab.daemon.restart_after_kill().await;
    lab.assert_settled().await;
    server.answers();
    assert_eq!(server.state(), late, "{}", lab.daemon.log());
}
