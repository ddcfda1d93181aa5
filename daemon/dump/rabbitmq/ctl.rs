//! RabbitMQ in a container: its own `rabbitmqctl`, which needs no login and no management API. Exchanges and bindings can be
//! removed by no command of it, so it is given terms of Erlang, in which every name is a list of bytes.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::dump::run::{self, Call};
use crate::dump::site::Site;

/// Whoever reads the server's events is told that it was us.
const WHO: &str = "holdfast";

fn call<'a>(site: &Site, words: impl IntoIterator<Item = &'a str>) -> Call {
    site.client(["rabbitmqctl", "--silent"].into_iter().chain(words), &[])
}

/// Prints the definitions.
pub(super) fn export(site: &Site) -> Call {
    call(site, ["export_definitions", "-"])
}

pub(super) async fn definitions(site: &Site) -> Result<Value> {
    let text = run::ask(export(site), &site.cancel).await.context("asking for the definitions")?;
    serde_json::from_str(&text).context("the definitions that rabbitmqctl printed")
}

pub(super) async fn version(site: &Site) -> Result<String> {
    let mut asking = call(site, ["eval", "rabbit_misc:version()."]);
    asking.program.limits = site.question(["rabbitmqctl"], &[]).program.limits;
    let said = run::ask(asking, &site.cancel).await.context("asking `rabbitmqctl` in the container")?;
    let version = said.trim().trim_matches('"');
    ensure!(version.starts_with(|c: char| c.is_ascii_digit()), "RabbitMQ tells no version: {version}");
    Ok(version.to_owned())
}

/// Reads definitions: they are added to what lives.
pub(super) async fn import(site: &Site, path: &Path) -> Result<()> {
    run::from_file(call(site, ["import_definitions"]), path, &site.cancel).await
}

/// Removes a thing; `path` is what the management API calls it.
pub(super) async fn delete(site: &Site, path: &str, thing: &Value) -> Result<()> {
    let (kind, text) = (path.split('/').next().unwrap_or_default(), |key: &str| thing[key].as_str());
    let host = text("vhost").unwrap_or_default();
    let (name, user) = (text("name").unwrap_or_default(), text("user").unwrap_or_default());
    let component = text("component").unwrap_or_default();
    let words: Vec<&str> = match kind {
        "bindings" => return told(site, &unbind(thing)).await.with_context(|| path.to_owned()),
        "exchanges" => {
            let term = format!(
                "rabbit_exchange:delete({}, false, {}).",
                resource(host, "exchange", name),
                bytes(WHO)
            );
            return told(site, &term).await.with_context(|| path.to_owned());
        }
        "topic-permissions" => vec!["clear_topic_permissions", "-p", host, "--", user],
        "permissions" => vec!["clear_permissions", "-p", host, "--", user],
        "policies" => vec!["clear_policy", "-p", host, "--", name],
        "parameters" => vec!["clear_parameter", "-p", host, "--", component, name],
        "global-parameters" => vec!["clear_global_parameter", "--", name],
        "queues" => vec!["delete_queue", "-p", host, "--if-empty", "--", name],
        "users" => vec!["delete_user", "--", name],
        "vhosts" => vec!["delete_vhost", "--", name],
        other => bail!("RabbitMQ has no {other}"),
    };
    run::ask(call(site, words), &site.cancel).await.map(drop).with_context(|| format!("removing {path}"))
}

/// A term that answers `ok`; whatever else it answers, rabbitmqctl exits with 0.
async fn told(site: &Site, term: &str) -> Result<()> {
    let said = run::ask(call(site, ["eval", term]), &site.cancel).await?;
    ensure!(said.trim() == "ok", "it was not removed: {}", said.trim());
    Ok(())
}

fn unbind(binding: &Value) -> String {
    let text = |key: &str| binding[key].as_str().unwrap_or_default();
    let kind = if binding["destination_type"] == "exchange" { "exchange" } else { "queue" };
    let arguments = match &binding["arguments"] {
        Value::Object(map) if !map.is_empty() => {
            let coded = bytes(&binding["arguments"].to_string());
            format!("rabbit_misc:to_amqp_table(rabbit_json:decode({coded}))")
        }
        _ => "[]".to_owned(),
    };
    format!(
        "rabbit_binding:remove({{binding, {}, {}, {}, {arguments}}}, {}).",
        resource(text("vhost"), "exchange", text("source")),
        bytes(text("routing_key")),
        resource(text("vhost"), kind, text("destination")),
        bytes(WHO)
    )
}

fn resource(host: &str, kind: &str, name: &str) -> String {
    format!("rabbit_misc:r({}, {kind}, {})", bytes(host), bytes(name))
}

/// A binary of Erlang: no byte of a name is ever a part of the term.
fn bytes(text: &str) -> String {
    let all: Vec<String> = text.bytes().map(|byte| byte.to_string()).collect();
    format!("<<{}>>", all.join(","))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_bytes_whatever_they_are() {
        assert_eq!(bytes(""), "<<>>");
        let binding = json!({"vhost": "/", "source": "\"a\">>).", "destination": "q", "destination_type": "queue",
            "routing_key": "k", "arguments": {}});
        assert_eq!(
            unbind(&binding),
            "rabbit_binding:remove({binding, rabbit_misc:r(<<47>>, exchange, <<34,97,34,62,62,41,46>>), <<107>>, \
             rabbit_misc:r(<<47>>, queue, <<113>>), []}, <<104,111,108,100,102,97,115,116>>)."
        );
        let with = json!({"arguments": {"k": 1}});
        assert!(
            unbind(&with).contains("rabbit_json:decode(<<123,34,107,34,58,49,125>>)"),
            "{}",
            unbind(&with)
        );
    }
}
