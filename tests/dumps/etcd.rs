//! etcd.
#![expect(clippy::disallowed_methods, reason = "tests start real programs themselves")]

use std::process::{Command, Output};

use super::certificates::Certificates;
use super::scripted::{Scripted, free_port};
use super::servers::good;
use super::*;
use crate::support::until;

/// etcd with a password for root, on ports of its own.
pub(super) struct Etcd {
    pub(super) server: Scripted,
    port: u16,
    tls: Option<Certificates>,
}

impl Etcd {
    pub(super) fn start(value: &str) -> Self {
        Self::start_with(value, None)
    }

    /// With certificates: whoever has none of this authority is not let in.
    pub(super) fn start_with(value: &str, tls: Option<Certificates>) -> Self {
        let (port, peer) = (free_port(), free_port());
        let (scheme, more) = match &tls {
            None => ("http", String::new()),
            Some(tls) => (
                "https",
                format!(
                    "--client-cert-auth --trusted-ca-file '{}' --cert-file '{}' --key-file '{}'",
                    tls.path("ca.pem"),
                    tls.path("own.pem"),
                    tls.path("own.key")
                ),
            ),
        };
        let run = format!(
            "setsid etcd --name one --data-dir \"$D/data\" --unsafe-no-fsync --logger zap --log-level error \
             --listen-client-urls {scheme}://127.0.0.1:{port} --advertise-client-urls {scheme}://127.0.0.1:{port} {more} \
             --listen-peer-urls http://127.0.0.1:{peer} --initial-advertise-peer-urls http://127.0.0.1:{peer} \
             --initial-cluster one=http://127.0.0.1:{peer} >>\"$D/log\" 2>&1 </dev/null &\necho $! >\"$D/pid\""
        );
        let server = Self { server: Scripted::new(&run), port, tls };
        server.server.run("start");
        until("etcd answers", || server.etcdctl(None, &["put", "/app/a", value]).status.success());
        good(server.etcdctl(None, &["user", "add", &format!("root:{}", servers::PASSWORD)]));
        good(server.etcdctl(None, &["user", "grant-role", "root", "root"]));
        good(server.etcdctl(None, &["auth", "enable"]));
        server
    }

    fn etcdctl(&self, password: Option<&str>, words: &[&str]) -> Output {
        let mut command = Command::new("etcdctl");
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        command.env("ETCDCTL_API", "3").arg(format!("--endpoints={scheme}://127.0.0.1:{}", self.port));
        if let Some(tls) = &self.tls {
            command.arg(format!("--cacert={}", tls.path("ca.pem")));
            command
                .arg(format!("--cert={}", tls.path("own.pem")))
                .arg(format!("--key={}", tls.path("own.key")));
        }
        if let Some(password) = password {
            command.env("ETCDCTL_USER", "root").env("ETCDCTL_PASSWORD", password);
        }
        command.args(words).output().expect("etcdctl runs (package etcd-client)")
    }

    #[track_caller]
    fn ask(&self, words: &[&str]) -> String {
        until("etcd answers", || self.etcdctl(Some(servers::PASSWORD), &["get", "/"]).status.success());
        good(self.etcdctl(Some(servers::PASSWORD), words))
    }

    pub(super) fn state(&self) -> String {
        self.ask(&["get", "--prefix", "/app/"])
    }

    pub(super) fn change(&self) {
        self.ask(&["put", "/app/a", "changed"]);
        self.ask(&["put", "/app/late", "x"]);
    }

    pub(super) fn definition(&self) -> String {
        let data = self.server.path("data");
        format!(
            "source = \"etcd\"\nport = {}\nuser = \"root\"\npassword_file = \"{PASSWORD_FILE}\"\ndata_dir = \"{}\"\n{}{}",
            self.port,
            data.display(),
            self.tls.as_ref().map_or_else(String::new, |tls| tls.keys("ca.pem")),
            self.server.service()
        )
    }
}

#[tokio::test]
async fn all_keys_are_restored_into_their_own_server_and_rolled_back() {
    let (server, other) = (Etcd::start("first"), Etcd::start("other"));
    let lab = setup("", &[server.definition()]).start().await;
    lab.good_backup("b").await;
    assert_eq!(server.server.done(), "start ", "a backup leaves it running");
    let dumps = manifest(&lab)["dumps"].clone();
    assert_eq!(dumps[0]["file"], "dumps/etcd/snapshot.db");
    assert!(dumps[0]["version"].as_str().unwrap().starts_with("3."), "{dumps:#}");
    server.change();
    let late = server.state();
    lab.good_restore("app").await;
    assert_eq!(server.state(), "/app/a\nfirst", "{}", lab.daemon.log());
    assert_eq!(server.server.done(), "start stop start ");
    assert_eq!(other.state(), "/app/a\nother", "the other server was touched");
    roll_back(&lab).await;
    assert_eq!(server.state(), late);
    assert_no_canary(&lab);
    lab.assert_settled().await;
}

#[tokio::test]
async fn a_snapshot_that_is_cut_off_or_changed_is_none_and_a_failed_restore_leaves_the_old_keys() {
    let server = Etcd::start("first");
    let mut setup = setup(HEALTH, &[server.definition()]);
    fake(&mut setup, "etcdctl", "[ ! -e \"$D/on-etcdctl\" ] || . \"$D/on-etcdctl\"\nexec \"$real\" \"$@\"");
    setup.write("health", "0\n", 0o644);
    let lab = setup.start().await;
    let saved = "\"$real\" \"$@\"; f=${@: -1}";
    for (shell, word) in [
        ("exit 1".to_owned(), "exited with 1"),
        ("exit 0".to_owned(), "opening"),
        (": >\"${@: -1}\"; exit 0".to_owned(), "too short"),
        (format!("{saved}; truncate -s -40 \"$f\"; exit 0"), "checksum is wrong"),
        (
            format!("{saved}; printf X | dd of=\"$f\" bs=1 seek=9000 conv=notrunc 2>&-; exit 0"),
            "checksum is wrong",
        ),
        ("kill -9 $$".to_owned(), "signal 9"),
    ] {
        lab.on("etcdctl", &format!("case \"$*\" in *'snapshot save'*) {shell};; esac"));
        refused(&lab, &lab.backup("b").await, word);
    }
    lab.remove("on-etcdctl");
    lab.write(&format!("config/{PASSWORD_FILE}"), "wrong\n", 0o600);
    refused(&lab, &lab.backup("b").await, "authentication failed");
    lab.write(&format!("config/{PASSWORD_FILE}"), &format!("{}\n", servers::PASSWORD), 0o600);
    lab.on(
        "etcdctl",
        "case \"$*\" in *'member list'*) \"$real\" \"$@\" | sed 's/\"members\":\\[/&{},/'; exit 0;; esac",
    );
    lab.good_backup("b").await;
    lab.remove("on-etcdctl");
    not_restored(&lab, &lab.restore("app", "", &[]).await, "cluster of 2 members");
    lab.good_backup("b").await;
    server.change();
    let late = server.state();
    lab.on("etcdctl", "case \"$*\" in *'snapshot restore'*) echo no room >&2; exit 1;; esac");
    not_restored(&lab, &lab.restore("app", "", &[]).await, "no room");
    assert_eq!(server.server.done(), "start ", "nothing was stopped for what could not be loaded");
    lab.remove("on-etcdctl");
    let no = zbus::wire::Variant::from(false);
    not_restored(&lab, &lab.restore("app", "", &[("stop", no)]).await, "a server has");
    lab.write("health", "1\n", 0o644);
    not_restored(&lab, &lab.restore("app", "", &[]).await, "the old data is back");
    assert_eq!(server.state(), late);
    server.server.run("stop");
    assert_eq!(lab.backup("b").await.outcome, "failed", "a server that is down is not dumped");
    assert_no_canary(&lab);
    lab.assert_settled().await;
}

#[tokio::test]
async fn killed_after_the_swap_the_old_data_lives_after_the_next_start() {
    let server = Etcd::start("first");
    let mut lab = setup(NO_ANSWER, &[server.definition()]).start().await;
    lab.good_backup("b").await;
    server.change();
    let late = server.state();
    lab.start_restore("app", "", &[]).await;
    lab.reached("health").await;
    assert_eq!(server.state(), "/app/a\nfirst", "the restored data lives already");
    lab.daemon.restart_after_kill().await;
    lab.assert_settled().await;
    assert_eq!(server.state(), late, "{}", lab.daemon.log());
}

#[tokio::test]
async fn over_tls_the_server_is_checked_and_lets_only_those_in_that_have_a_certificate() {
    let dir = servers::open_dir();
    let server = Etcd::start_with("first", Some(Certificates::make(dir.path())));
    let other = server.definition().replace("/ca.pem", "/other.pem");
    let lab = setup("", &[other]).start().await;
    refused(&lab, &lab.backup("b").await, "certificate");
    drop(lab);
    let without: String = server
        .definition()
        .lines()
        .filter(|line| !line.contains("own."))
        .map(|line| format!("{line}\n"))
        .collect();
    let lab = setup("", &[without]).start().await;
    refused(&lab, &lab.backup("b").await, "certificate");
    drop(lab);
    let lab = setup("", &[server.definition()]).start().await;
    lab.good_backup("b").await;
    server.change();
    lab.good_restore("app").await;
    assert_eq!(server.state(), "/app/a\nfirst", "{}", lab.daemon.log());
    lab.assert_settled().await;
}

/// The container is pretended, etcd is real; see `tests/containers` for real ones.
#[tokio::test]
async fn in_a_container_a_restore_that_fails_at_any_call_leaves_the_old_keys() {
    let server = Etcd::start("first");
    let data = format!("data_dir = \"{}\"", server.server.path("data").display());
    let keys = server.definition().replace(&data, "container = \"kv\"\ndata_dir = \"/var/etcd/data\"");
    let mut setup = setup(HEALTH, &[keys]);
    let mounts = format!(
        "\"Mounts\":[{{\"Type\":\"bind\",\"Source\":\"{}\",\"Destination\":\"/var/etcd\"}}]",
        server.server.dir.path().display()
    );
    container(&mut setup, "kv", &mounts, "LANG=C");
    setup.write("health", "0\n", 0o644);
    let lab = setup.start().await;
    lab.good_backup("b").await;
    server.change();
    let late = server.state();
    let shell =
        "n=$(($(cat \"$D/n\") - 1)); echo $n >\"$D/n\"; [ $n != 0 ] || { echo half-way >&2; exit 1; }";
    let (mut call, mut failed) = (0, 0);
    loop {
        call += 1;
        lab.write("n", &format!("{call}\n"), 0o644);
        lab.on("docker", shell);
        let ended = lab.restore("app", "", &[]).await;
        lab.remove("on-docker");
        if ended.outcome == "failed" {
            failed += 1;
            assert_eq!(server.state(), late, "call {call}: {}", lab.daemon.log());
            continue;
        }
        assert_eq!(ended.outcome, "succeeded", "call {call}: {ended:#?}");
        assert_eq!(server.state(), "/app/a\nfirst", "call {call}: {}", lab.daemon.log());
        if lab.text("n").trim().parse::<i32>().unwrap() > 0 {
            break;
        }
        // One of another version of etcd is asked whether it is there, and is not.
        roll_back(&lab).await;
    }
    assert!(failed > 3, "{failed} of {call} calls\n{}", lab.text("engine-calls"));
    assert!(!lab.text("engine-calls").contains("canary"));
    assert_no_canary(&lab);
    lab.assert_settled().await;
}
