//! Messages of RabbitMQ: a real node with its queue, saved while it is stopped.

use serde_json::{Value, json};
use zbus::wire::Variant;

use super::rabbitmq::Rabbit;
use super::servers::good;
use super::*;

/// An answer about health: the exit code in a file, or none as long as there is a file `hang`.
const ASKED: &str = "restore = { health = { command = [\"sh\", \"-c\", \
    \"[ ! -e @DIR@/hang ] || { : >@DIR@/at-health; exec sleep 60; }; exit $(cat @DIR@/health)\"], timeout = \"60s\" } }";

impl Rabbit {
    pub(super) fn publish(&self, text: &str) {
        let message = json!({"properties": {"delivery_mode": 2}, "routing_key": "orders", "payload": text,
            "payload_encoding": "string"});
        let said = self.tell("POST", "exchanges/%2f/amq.default/publish", message);
        assert!(said.contains("true"), "{said}");
    }

    /// What waits in the queue.
    pub(super) fn messages(&self) -> Vec<String> {
        assert!(self.up(), "the node does not answer");
        let ask = json!({"count": 99, "ackmode": "ack_requeue_true", "encoding": "auto"});
        let said: Value = serde_json::from_str(&self.tell("POST", "queues/%2f/orders/get", ask)).unwrap();
        said.as_array().unwrap().iter().map(|one| one["payload"].as_str().unwrap().to_owned()).collect()
    }

    pub(super) fn node(&self) -> String {
        let service = self.server.service();
        let dir = self.server.path("mnesia/one@localhost");
        format!(
            "source = \"rabbitmq\"\nmessages = true\nclient = \"/usr/lib/rabbitmq/bin\"\ndata_dir = \"{}\"\n{service}",
            dir.display()
        )
    }
}

async fn with(lab: &Lab, from: &str, to: &str) {
    let text = lab.text("config/holdfast.toml");
    assert!(text.contains(from), "{from} is not in {text}");
    lab.write("config/holdfast.toml", &text.replace(from, to), 0o600);
    let said: Vec<String> = lab.daemon.call("Reload", &()).await.unwrap();
    assert_eq!(said, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_saved_while_the_node_is_stopped_and_come_back_and_go_again() {
    let server = Rabbit::begin().wait();
    server.tell("PUT", "queues/%2f/orders", json!({"durable": true}));
    ["one", "two"].iter().for_each(|text| server.publish(text));
    let setup = setup(ASKED, &[server.node()]);
    setup.write("health", "0\n", 0o644);
    let mut lab = setup.start().await;

    // Nobody would stop it: refused before anything is touched.
    let ended = lab.backup("b").await;
    refused(&lab, &ended, "messages are saved only while the node is stopped");
    assert!(ended.units[0].error.contains("nothing was touched"), "{ended:#?}");
    with(&lab, "until = \"restore\"", "until = \"dump\"").await;
    lab.good_backup("b").await;
    assert_eq!(server.server.done(), "start stop start ");
    let dumps = manifest(&lab)["dumps"].clone();
    assert_eq!(dumps[0]["file"], "dumps/rabbitmq/node.tar");
    assert_eq!(dumps[0]["details"]["node"], "one@localhost");
    assert!(dumps[0]["version"].as_str().unwrap().starts_with(['3', '4']), "{dumps:#}");
    assert_eq!(server.messages(), ["one", "two"], "{}", lab.daemon.log());

    good(server.call("DELETE", "queues/%2f/orders/contents", None));
    server.publish("late");
    let running = lab.restore("app", "", &[("stop", Variant::from(false))]).await;
    not_restored(&lab, &running, "a server has");
    lab.good_restore("app").await;
    assert_eq!(server.messages(), ["one", "two"], "{}", lab.daemon.log());
    roll_back(&lab).await;
    assert_eq!(server.messages(), ["late"]);

    // Killed when the restored node runs already.
    lab.write("hang", "", 0o644);
    lab.start_restore("app", "", &[]).await;
    lab.reached("health").await;
    assert_eq!(server.messages(), ["one", "two"], "the restored messages are there already");
    lab.remove("hang");
    lab.daemon.restart_after_kill().await;
    assert_eq!(server.messages(), ["late"], "{}", lab.daemon.log());

    another_node(&lab, &server).await;
    // A node that was killed keeps no promise about its files.
    server.kill();
    let ended = lab.backup("b").await;
    assert_eq!(ended.outcome, "failed");
    assert!(ended.units[0].error.contains("was killed"), "{ended:#?}");
    lab.assert_settled().await;
}

/// A node finds no data but its own.
async fn another_node(lab: &Lab, server: &Rabbit) {
    let done = server.server.done();
    std::fs::create_dir(server.server.path("mnesia/two@localhost")).unwrap();
    with(lab, "one@localhost", "two@localhost").await;
    not_restored(lab, &lab.restore("app", "", &[]).await, "is of the node one@localhost");
    assert_eq!(server.server.done(), done, "nothing was stopped for it");
    with(lab, "two@localhost", "one@localhost").await;
}
