//! `holdfast setup`: from a host that nobody knows to one that backups reach, and every way in which that goes wrong.
#![expect(clippy::disallowed_methods, reason = "tests start real programs themselves")]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::director::Director;
use crate::host::Host;
use crate::support::{stderr, stdout};

/// The machine that backups are made on: definitions and a state, no daemon.
struct Here(TempDir);

impl Here {
    /// With an instance `bosh` on that host.
    fn with(host: &Host, more: &str) -> Self {
        let here = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(here.path("config")).unwrap();
        let text = format!(
            "[instance.bosh]\nssh = \"{}:{}\"\ninclude = [\"{}\"]\n{more}",
            host.login(),
            host.port,
            host.path("store").display()
        );
        std::fs::write(here.path("config/holdfast.toml"), text).unwrap();
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(here.path("config/holdfast.toml"), mode).unwrap();
        here
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn setup(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("HOME", self.0.path()).env("HOLDFAST_STATE", self.path("state"));
        command.env("HOLDFAST_CONFIG", self.path("config")).stdin(Stdio::null());
        command.args(["setup", "bosh"]).args(arguments).output().unwrap()
    }

    /// Everything is made ready.
    #[track_caller]
    fn good(&self, host: &Host, more: &[&str]) -> String {
        let (print, identity) = (host.fingerprint(), host.identity().display().to_string());
        let mut arguments = vec!["--host-key", &print, "--identity", &identity];
        arguments.extend(more);
        let done = self.setup(&arguments);
        assert_eq!(
            done.status.code(),
            Some(0),
            "{}\n{}{}",
            stdout(&done),
            stderr(&done),
            host.text("sshd.log")
        );
        stdout(&done)
    }

    /// It must end with 1 and these words.
    #[track_caller]
    fn bad(&self, arguments: &[&str], words: &[&str]) -> String {
        let done = self.setup(arguments);
        let said = stdout(&done) + &stderr(&done);
        assert_eq!(done.status.code(), Some(1), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        for word in words {
            assert!(said.contains(word), "{word:?} is not in:\n{said}");
        }
        said
    }
}

/// The services of a director, and its database.
fn services(director: &Director) -> String {
    let (monit, agent) = (director.monit_path(), director.agent_path());
    format!(
        "[[instance.bosh.service]]\nmanager = \"monit\"\nbinary = \"{monit}\"\nstart_for_dump = [\"postgres\"]\n\
         [[instance.bosh.service]]\nmanager = \"command\"\nname = \"agent\"\nstart = [\"{agent}\", \"start\"]\n\
         stop = [\"{agent}\", \"stop\"]\nstatus = [\"{agent}\", \"status\"]\n\
         [[instance.bosh.dump]]\nsource = \"postgresql\"\nsocket = \"{}\"\nuser = \"postgres\"\n",
        director.host.path("run").display()
    )
}

#[test]
fn a_host_is_trusted_only_when_somebody_compared_its_key_and_then_lets_us_in() {
    let host = Host::start();
    let here = Here::with(&host, "");
    let print = host.fingerprint();
    here.bad(&[], &[&print, "nobody has compared it", "--host-key"]);
    here.bad(&["--json"], &[&print]);
    here.bad(
        &["--host-key", "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"],
        &[&print, "nothing was changed"],
    );
    assert_eq!(here.text("state/ssh/known_hosts"), "");
    assert_eq!(host.calls(), [""; 0], "nobody logged in");
    // Known, but our key may not log in, and no other may either.
    let said = here.bad(&["--host-key", &print], &["no other login works", "add this line"]);
    let public = here.text("state/ssh/bosh.pub");
    assert!(said.contains(public.trim()), "{said}");
    assert_eq!(here.text("state/ssh/known_hosts"), host.known_hosts());
    let mode = std::fs::metadata(here.path("state/ssh/bosh")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert!(!said.contains(here.text("state/ssh/bosh").lines().nth(1).unwrap()), "the private key is shown");
    let before = host.authorized_keys();
    here.good(&host, &[]);
    let line = format!("no-pty,no-port-forwarding,no-agent-forwarding,no-X11-forwarding {public}");
    assert_eq!(host.authorized_keys(), before + &line);
    // Again, and the other login is not needed any more.
    let done = here.setup(&["--json"]);
    let said: Value = serde_json::from_str(&stdout(&done)).unwrap();
    assert_eq!((done.status.code(), &said["good"]), (Some(0), &Value::Bool(true)), "{said:#}");
    let checks: Vec<&str> =
        said["checks"].as_array().unwrap().iter().map(|c| c["check"].as_str().unwrap()).collect();
    assert_eq!(checks, ["our key", "the host's key", "login with our key", "rsync"]);
    assert_eq!(host.authorized_keys().matches("holdfast:bosh").count(), 1);
    assert_eq!(here.text("state/ssh/bosh.pub"), public);
}

#[test]
fn another_host_key_is_not_taken_silently() {
    let host = Host::start();
    let here = Here::with(&host, "");
    here.good(&host, &[]);
    let known = here.text("state/ssh/known_hosts");
    let before = host.fingerprint();
    host.change_host_key();
    host.forget_calls();
    here.bad(&[], &["ANOTHER key", &host.fingerprint()]);
    here.bad(&["--host-key", &before], &[&host.fingerprint(), "nothing was changed"]);
    assert_eq!((here.text("state/ssh/known_hosts"), host.calls().len()), (known, 0));
    here.good(&host, &[]);
    assert_eq!(here.text("state/ssh/known_hosts"), host.known_hosts());
}

#[test]
fn a_person_compares_on_a_terminal() {
    let host = Host::start();
    let here = Here::with(&host, "");
    let asked = |answer: &str| {
        let line = format!(
            "{} --config {} --state {} setup bosh --identity {}",
            env!("CARGO_BIN_EXE_holdfast"),
            here.path("config").display(),
            here.path("state").display(),
            host.identity().display()
        );
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).env("HOME", here.0.path()).stdin(Stdio::piped());
        let mut child = script.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), format!("{answer}\n").as_bytes())
            .unwrap();
        child.wait_with_output().unwrap()
    };
    let refused = asked("no");
    assert_eq!(refused.status.code(), Some(1), "{}", stdout(&refused));
    assert!(stdout(&refused).contains(&host.fingerprint()) && stdout(&refused).contains("is not trusted"));
    assert_eq!(here.text("state/ssh/known_hosts"), "");
    let taken = asked("yes");
    assert_eq!(taken.status.code(), Some(0), "{}", stdout(&taken));
    assert_eq!(here.text("state/ssh/known_hosts"), host.known_hosts());
}

#[test]
fn what_backups_need_over_there_is_looked_for_and_tried() {
    let director = Director::start();
    let here = Here::with(&director.host, &services(&director));
    let said = here.good(&director.host, &[]);
    let status = format!("{} status", director.monit_path());
    for word in ["rsync", "pg_dump", "pg_restore", "psql", status.as_str(), "answers"] {
        assert!(said.contains(word), "{word:?} is not in:\n{said}");
    }
    assert_eq!(director.did(), [""; 0], "nothing was started or stopped");
    // What is missing is named, and what does not answer.
    let bad = Here::with(&director.host, &services(&director).replace("/bin/agent", "/bin/agnt"));
    let (print, identity) = (director.host.fingerprint(), director.host.identity().display().to_string());
    bad.bad(&["--host-key", &print, "--identity", &identity], &["agnt", "is not there", "is not ready"]);
    director.monit(&["quit"]);
    crate::support::until("monit is gone", || !director.process("monit"));
    here.bad(&[], &[&status, "wrong"]);
}

#[test]
fn whichever_call_fails_it_is_told_and_the_next_run_mends_it() {
    let director = Director::start();
    let host = &director.host;
    let mut failed = 0;
    let clean = host.authorized_keys();
    for n in 0..100 {
        let here = Here::with(host, &services(&director));
        std::fs::write(host.path("home/.ssh/authorized_keys"), &clean).unwrap();
        host.forget_calls();
        host.on_remote(&format!("[ $n != {n} ] || {{ echo led astray >&2; exit 9; }}"));
        let print = host.fingerprint();
        let done = here.setup(&["--host-key", &print, "--identity", &host.identity().display().to_string()]);
        let calls = host.calls().len();
        host.let_be();
        if calls <= n {
            assert_eq!(done.status.code(), Some(0), "{}{}", stdout(&done), stderr(&done));
            break;
        }
        let said = stdout(&done) + &stderr(&done);
        assert_eq!(done.status.code(), Some(1), "call {n}: {said}");
        assert!(said.contains("led astray"), "call {n}: {said}");
        failed += 1;
        here.good(host, &[]);
        assert_eq!(host.authorized_keys().matches("holdfast:bosh").count(), 1, "call {n}");
    }
    assert!(failed >= 4, "{failed}");
    host.refuse(true);
    Here::with(host, "").bad(&[], &["cannot be reached", "nothing was changed"]);
}

#[test]
fn what_is_no_instance_over_ssh_is_refused() {
    let host = Host::start();
    let here = Here::with(&host, "");
    let text = here.text("config/holdfast.toml").replace("ssh = ", "#");
    std::fs::write(here.path("config/holdfast.toml"), text).unwrap();
    here.bad(&[], &["on this machine", "ssh ="]);
    let text = here.text("config/holdfast.toml").replace("instance.bosh", "instance.other");
    std::fs::write(here.path("config/holdfast.toml"), text).unwrap();
    here.bad(&[], &["no instance `bosh`", "other"]);
    assert!(!here.path("state/ssh").exists());
}

/// The rules of sudo on the other host, without those of its administrator.
fn rules(host: &Host) -> String {
    host.text("sudoers.d/holdfast-bosh")
}

/// What the administrator of the other host lets people do; nothing: no such file.
pub(crate) fn admin(host: &Host, text: &str) {
    let path = host.write("sudoers.d/10-admin", text, 0o440);
    if text.is_empty() {
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
#[ignore = "needs root: an account of its own, and sudo"]
fn system_sudo_lets_through_exactly_what_is_needed() {
    let director = Director::on(Host::start_with_vcap());
    let host = &director.host;
    let here = Here::with(host, &format!("sudo = true\n{}", services(&director)));
    let (print, identity) = (host.fingerprint(), host.identity().display().to_string());
    // Nobody may bring it: it is printed for an administrator, and nothing is there.
    let said = here.bad(&["--host-key", &print, "--identity", &identity], &["visudo", "as root there"]);
    assert!(said.contains(&format!("vcap ALL=(root) NOPASSWD: {} status", director.monit_path())), "{said}");
    assert_eq!(rules(host), "");
    admin(host, "vcap ALL=(ALL) NOPASSWD: ALL\n");
    here.good(host, &[]);
    let text = rules(host);
    for service in crate::director::SERVICES {
        assert!(text.contains(&format!("{} stop {service}\n", director.monit_path())), "{text}");
    }
    assert!(!text.contains('*') && !text.contains("ALL\n"), "{text}");
    let mode = std::fs::metadata(host.path("sudoers.d/holdfast-bosh")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o440);
    // Now without the administrator's own rule.
    admin(host, "");
    here.good(host, &[]);
    assert_eq!(rules(host), text);
    let monit = director.monit_path();
    for (command, lets) in [
        (format!("sudo -n {monit} status"), true),
        (format!("sudo -n {monit} stop postgres -c /tmp/x"), false),
        (format!("sudo -n {monit} stop all"), false),
        (format!("sudo -n {monit}"), false),
        ("sudo -n sh -c id".to_owned(), false),
        ("sudo -n rsync --version".to_owned(), false),
    ] {
        let done = host.ssh(&command);
        assert_eq!(done.status.success(), lets, "{command}: {}", stderr(&done));
    }
    let left = std::fs::read_dir(host.path("sudoers.d")).unwrap().count();
    assert_eq!(left, 1, "nothing else is left there");
}

#[test]
#[ignore = "needs root: an account of its own, and sudo"]
fn system_a_file_that_sudo_refuses_is_never_left_there() {
    let director = Director::on(Host::start_with_vcap());
    let host = &director.host;
    admin(host, "vcap ALL=(ALL) NOPASSWD: ALL\n");
    let here = Here::with(host, &format!("sudo = true\n{}", services(&director)));
    let (print, identity) = (host.fingerprint(), host.identity().display().to_string());
    let arguments = ["--host-key", &print, "--identity", &identity];
    let bad = host.write("sudoers.d/20-bad", "no rule at all(\n", 0o440);
    here.bad(&arguments, &["what was there before is back", "as root there"]);
    assert_eq!(rules(host), "");
    host.write("sudoers.d/holdfast-bosh", "# older\n", 0o440);
    here.bad(&arguments, &["what was there before is back"]);
    assert_eq!(rules(host), "# older\n");
    std::fs::remove_file(bad).unwrap();
    here.good(host, &[]);
    assert!(rules(host).contains("NOPASSWD"));
    assert_eq!(std::fs::read_dir(host.path("sudoers.d")).unwrap().count(), 2, "nothing else is left there");
    // What sudoers cannot name is not made wider, it is refused.
    let odd = services(&director).replace("\"stop\"]", "\"stop it; all\"]");
    let odd = Here::with(host, &format!("sudo = true\n{odd}"));
    odd.bad(&arguments, &["sudoers cannot name", "stop it; all"]);
}
