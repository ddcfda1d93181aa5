//! RabbitMQ. Its servers take long to start, so one test has them both and does all that needs them.
#![expect(clippy::disallowed_methods, reason = "tests start real programs themselves")]

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::certificates::Certificates;
use super::scripted::{Scripted, free_port};
use super::servers::good;
use super::*;

pub(super) struct Rabbit {
    pub(super) server: Scripted,
    epmd: Child,
    port: u16,
    /// The same API for those with a certificate.
    tls_port: u16,
    tls: Certificates,
}

impl Rabbit {
    /// Starts it, and does not wait.
    pub(super) fn begin() -> Self {
        let (names, nodes, amqp, port) = (free_port(), free_port(), free_port(), free_port());
        let tls_port = free_port();
        let run = format!(
            "export HOME=$D ERL_EPMD_PORT={names} ERL_EPMD_ADDRESS=127.0.0.1 RABBITMQ_NODENAME=one@localhost \
             RABBITMQ_DIST_PORT={nodes} RABBITMQ_MNESIA_BASE=$D/mnesia RABBITMQ_LOG_BASE=$D/log \
             RABBITMQ_CONFIG_FILE=$D/rabbitmq.conf RABBITMQ_ENABLED_PLUGINS_FILE=$D/plugins RABBITMQ_PID_FILE=$D/own-pid \
             RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_GENERATED_CONFIG_DIR=$D/generated \
             RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='+S 1:1 +sbwt none'\n\
             setsid /usr/lib/rabbitmq/bin/rabbitmq-server >\"$D/out\" 2>&1 </dev/null &\necho $! >\"$D/pid\""
        );
        let server = Scripted::new(&run);
        let tls = Certificates::make(&server.path("tls"));
        let (ca, own, key) = (tls.path("ca.pem"), tls.path("own.pem"), tls.path("own.key"));
        let config = format!(
            "management.ssl.ip = 127.0.0.1\nmanagement.ssl.port = {tls_port}\nmanagement.ssl.cacertfile = {ca}\n\
             management.ssl.certfile = {own}\nmanagement.ssl.keyfile = {key}\nmanagement.ssl.verify = verify_peer\n\
             management.ssl.fail_if_no_peer_cert = true\nlisteners.tcp.local = 127.0.0.1:{amqp}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {port}\n\
             default_user = admin\ndefault_pass = {}\n",
            servers::PASSWORD
        );
        std::fs::write(server.path("rabbitmq.conf"), config).unwrap();
        std::fs::write(server.path("plugins"), "[rabbitmq_management].\n").unwrap();
        let mut epmd = Command::new("epmd");
        epmd.args(["-address", "127.0.0.1", "-port", &names.to_string()]);
        let epmd = epmd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        server.run("start");
        Self { server, epmd, port, tls_port, tls }
    }

    pub(super) fn wait(self) -> Self {
        assert!(self.up(), "{}", std::fs::read_to_string(self.server.path("out")).unwrap_or_default());
        self
    }

    /// Whether it answers in the end.
    pub(super) fn up(&self) -> bool {
        // Two of them take longer on a loaded machine than anything else that the tests wait for.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(240);
        while std::time::Instant::now() < end {
            if self.call("GET", "overview", None).status.success() {
                return true;
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        false
    }

    /// Ends it with all that belongs to it.
    pub(super) fn kill(&self) {
        // What asks for the disk and the memory lies in the server's group.
        let pid = std::fs::read_to_string(self.server.path("pid")).unwrap_or_default();
        let _ = Command::new("kill").args(["-9", "--", &format!("-{}", pid.trim())]).status();
    }

    pub(super) fn call(&self, method: &str, path: &str, body: Option<Value>) -> std::process::Output {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail-with-body", "-X", method, "-u", &format!("admin:{}", servers::PASSWORD)]);
        if let Some(body) = body {
            curl.args(["-H", "Content-Type: application/json", "-d", &body.to_string()]);
        }
        curl.arg(format!("http://127.0.0.1:{}/api/{path}", self.port))
            .output()
            .expect("curl runs (package curl)")
    }

    #[track_caller]
    pub(super) fn tell(&self, method: &str, path: &str, body: Value) -> String {
        good(self.call(method, path, Some(body)))
    }

    pub(super) fn state(&self) -> Value {
        serde_json::from_str(&good(self.call("GET", "definitions", None))).unwrap()
    }

    pub(super) fn definition(&self) -> String {
        format!(
            "source = \"rabbitmq\"\nport = {}\nuser = \"admin\"\npassword_file = \"{PASSWORD_FILE}\"\n",
            self.port
        )
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        self.kill();
        let _ = self.epmd.kill();
        let _ = self.epmd.wait();
    }
}

fn fill(server: &Rabbit) {
    server.tell("PUT", "vhosts/shop%2f%3B", json!({}));
    server.tell("PUT", "users/app", json!({"password": "x", "tags": "monitoring"}));
    server.tell("PUT", "permissions/shop%2f%3B/app", json!({"configure": "^a", "write": ".*", "read": ".*"}));
    server.tell(
        "PUT",
        "queues/shop%2f%3B/orders",
        json!({"durable": true, "arguments": {"x-max-length": 9}}),
    );
    server.tell("PUT", "exchanges/shop%2f%3B/events", json!({"type": "topic", "durable": true}));
    server.tell(
        "POST",
        "bindings/shop%2f%3B/e/events/q/orders",
        json!({"routing_key": "a.#", "arguments": {"k": "v"}}),
    );
    server.tell(
        "PUT",
        "policies/shop%2f%3B/limit",
        json!({"pattern": "^o", "definition": {"max-length": 5}}),
    );
}

/// Whatever the client does that is not the whole list, there is no set.
async fn half_of_them_are_none(lab: &Lab) {
    for (shell, word) in [
        ("exit 7", "exited with 7"),
        ("exit 0", "no whole list"),
        ("\"$real\" \"$@\" <\"$D/asked.$$\" | head -c 400; exit 0", "no whole list"),
        ("echo '{}'; exit 0", "all virtual hosts"),
        ("\"$real\" \"$@\" <\"$D/asked.$$\" | head -c 400; kill -9 $$", "signal 9"),
    ] {
        lab.on("curl", &format!("if grep -q /api/definitions \"$D/asked.$$\"; then trap 'rm -f \"$D/asked.$$\"' EXIT; {shell}; fi"));
        refused(lab, &lab.backup("b").await, word);
    }
    lab.remove("on-curl");
    lab.write(&format!("config/{PASSWORD_FILE}"), "wrong\n", 0o600);
    refused(lab, &lab.backup("b").await, "401");
    lab.write(&format!("config/{PASSWORD_FILE}"), &format!("{}\n", servers::PASSWORD), 0o600);
}

/// The server is checked, and lets only those in that have a certificate.
async fn over_tls(lab: &Lab, server: &Rabbit) {
    let plain = lab.text("config/holdfast.toml");
    let with = |keys: &str| {
        let port = format!("port = {}\n", server.port);
        plain.replace(&port, &format!("port = {}\n{keys}", server.tls_port))
    };
    let only_ca: String = server.tls.keys("ca.pem").lines().take(1).map(|line| format!("{line}\n")).collect();
    for (keys, word) in [(server.tls.keys("other.pem"), "certificate"), (only_ca, "certificate")] {
        lab.write("config/holdfast.toml", &with(&keys), 0o600);
        let _: Vec<String> = lab.daemon.call("Reload", &()).await.unwrap();
        refused(lab, &lab.backup("b").await, word);
    }
    lab.write("config/holdfast.toml", &with(&server.tls.keys("ca.pem")), 0o600);
    let _: Vec<String> = lab.daemon.call("Reload", &()).await.unwrap();
    lab.good_backup("b").await;
    lab.write("config/holdfast.toml", &plain, 0o600);
    let _: Vec<String> = lab.daemon.call("Reload", &()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_are_restored_into_their_own_server_undone_and_rolled_back_and_half_of_them_are_none() {
    let (server, other) = (Rabbit::begin(), Rabbit::begin());
    let (server, other) = (server.wait(), other.wait());
    fill(&server);
    let mut setup = setup(HEALTH, &[server.definition()]);
    fake(
        &mut setup,
        "curl",
        "cat >\"$D/asked.$$\"; [ ! -e \"$D/on-curl\" ] || . \"$D/on-curl\"\n\"$real\" \"$@\" <\"$D/asked.$$\"; rc=$?; rm \"$D/asked.$$\"; exit $rc",
    );
    setup.write("health", "0\n", 0o644);
    let mut lab = setup.start().await;
    let (before, wrong) = (server.state(), other.state());
    half_of_them_are_none(&lab).await;
    over_tls(&lab, &server).await;
    lab.good_backup("b").await;

    // What is gone comes back, what was changed is as it was, what came since stays.
    server.tell("DELETE", "vhosts/shop%2f%3B", json!({}));
    server.tell("DELETE", "users/app", json!({}));
    server.tell("PUT", "users/late", json!({"password": "x", "tags": ""}));
    let late = server.state();
    lab.good_restore("app").await;
    let mut wanted = before.clone();
    let now = server.state();
    assert!(now["users"].as_array().unwrap().iter().any(|user| user["name"] == "late"), "{now:#}");
    for key in ["vhosts", "queues", "exchanges", "bindings", "policies"] {
        assert_eq!(sorted(&now[key]), sorted(&wanted[key].take()), "{key}");
    }
    assert_eq!(other.state(), wrong, "the other server was touched");
    roll_back(&lab).await;
    assert_eq!(sorted_all(&server.state()), sorted_all(&late), "what the restore made is gone");

    lab.write("health", "1\n", 0o644);
    not_restored(&lab, &lab.restore("app", "", &[]).await, "the old data is back");
    assert_eq!(sorted_all(&server.state()), sorted_all(&late));

    // Killed when the restored definitions live already.
    lab.write("health", "0\n", 0o644);
    lab.on("curl", "if grep -q POST \"$D/asked.$$\"; then \"$real\" \"$@\" <\"$D/asked.$$\"; rm -f \"$D/asked.$$\"; : >\"$D/at-loaded\"; exec sleep 60; fi");
    lab.start_restore("app", "", &[]).await;
    lab.reached("loaded").await;
    assert_ne!(sorted_all(&server.state()), sorted_all(&late));
    lab.remove("on-curl");
    lab.daemon.restart_after_kill().await;
    assert_eq!(sorted_all(&server.state()), sorted_all(&late), "{}", lab.daemon.log());

    // A queue that lives with other properties is not silently left as it is.
    server.tell("PUT", "vhosts/shop%2f%3B", json!({}));
    server.tell(
        "PUT",
        "permissions/shop%2f%3B/admin",
        json!({"configure": ".*", "write": ".*", "read": ".*"}),
    );
    server.tell("PUT", "queues/shop%2f%3B/orders", json!({"durable": true}));
    let late = server.state();
    not_restored(&lab, &lab.restore("app", "", &[]).await, "delete it on the server");
    assert_eq!(sorted_all(&server.state()), sorted_all(&late));
    assert_no_canary(&lab);
    lab.assert_settled().await;
}

/// The server gives lists in no order.
fn sorted(list: &Value) -> Vec<String> {
    let mut all: Vec<String> = list.as_array().into_iter().flatten().map(Value::to_string).collect();
    all.sort();
    all
}

fn sorted_all(definitions: &Value) -> Vec<String> {
    definitions.as_object().unwrap().iter().map(|(key, value)| format!("{key} {:?}", sorted(value))).collect()
}
