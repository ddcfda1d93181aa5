//! RabbitMQ: its definitions (users, virtual hosts, queues, exchanges, bindings, policies) by its management API, in a
//! container by `rabbitmqctl` there. Messages are not in them: [`messages`] saves those of a node that is stopped.
//!
//! A restore adds and changes, and removes nothing that came since: a queue's messages would go with it. What it added is
//! known by its path in the API, and goes when the restore is undone; queues with messages in them stay.

mod ctl;
pub(super) mod messages;
mod there;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tracing::warn;

use super::change::{Change, Databases};
use super::http::{self, Ask, Body, part};
use super::laid::Laid;
use super::record::{self, Record};
use super::run;
use super::site::Site;
use super::version::not_newer;
use super::yard::Yard;
use super::{Ready, Taken};
use crate::definition::{Rabbit, Server};

/// The dump's file.
const FILE: &str = "definitions.json";
/// The management API's usual port.
const PORT: u16 = 15672;

/// The kinds of things, in the order in which they are removed, and what a path to one is made of.
const KINDS: &[(&str, &str, &[&str])] = &[
    ("bindings", "bindings", &[]),
    ("topic_permissions", "topic-permissions", &["vhost", "user"]),
    ("permissions", "permissions", &["vhost", "user"]),
    ("policies", "policies", &["vhost", "name"]),
    ("parameters", "parameters", &["component", "vhost", "name"]),
    ("global_parameters", "global-parameters", &["name"]),
    ("queues", "queues", &["vhost", "name"]),
    ("exchanges", "exchanges", &["vhost", "name"]),
    ("users", "users", &["name"]),
    ("vhosts", "vhosts", &["name"]),
];

async fn get(site: &Site, server: &Server, path: &str) -> Result<Value> {
    let text = http::ask(site, server, PORT, Ask::get(path)).await?;
    serde_json::from_str(&text).with_context(|| format!("the answer to GET {path}"))
}

/// The definitions that live.
async fn definitions(site: &Site, server: &Server) -> Result<Value> {
    match site.contained {
        Some(_) => ctl::definitions(site).await,
        None => get(site, server, "/api/definitions").await,
    }
}

pub(super) async fn ready(site: &Site, rabbit: &Rabbit) -> Result<Ready> {
    match &rabbit.data_dir {
        Some(dir) => messages::ready(site, dir).await,
        None => listening(site, &rabbit.server).await,
    }
}

/// Whether definitions can be read and written.
async fn listening(site: &Site, server: &Server) -> Result<Ready> {
    if site.contained.is_some() {
        return Ok(Ready { server: ctl::version(site).await?, client: String::new() });
    }
    let asking = "asking RabbitMQ's management API (`curl` is needed, and the plugin rabbitmq_management)";
    let overview = get(site, server, "/api/overview").await.context(asking)?;
    let version = overview["rabbitmq_version"].as_str().context("RabbitMQ tells no version")?.to_owned();
    let who = get(site, server, "/api/whoami").await.context(asking)?;
    let tags = match &who["tags"] {
        // A text with commas before 3.9.
        Value::String(tags) => tags.split(',').map(str::to_owned).collect(),
        tags => tags
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|tag| tag.as_str().map(str::to_owned))
            .collect::<Vec<_>>(),
    };
    ensure!(
        tags.iter().any(|tag| tag.trim() == "administrator"),
        "the user {} of RabbitMQ has not the tag administrator, which reads and writes definitions",
        server.user.as_deref().unwrap_or("that logs in")
    );
    Ok(Ready { server: version, client: String::new() })
}

pub(super) async fn dump(site: &Site, rabbit: &Rabbit, dir: &Path) -> Result<Taken> {
    match &rabbit.data_dir {
        Some(data_dir) => messages::dump(site, data_dir, dir).await,
        None => saved(site, &rabbit.server, dir).await,
    }
}

async fn saved(site: &Site, server: &Server, dir: &Path) -> Result<Taken> {
    let ready = listening(site, server).await?;
    let path = dir.join(FILE);
    let call = match site.contained {
        Some(_) => ctl::export(site),
        None => http::call(site, server, PORT, Ask::get("/api/definitions"))?,
    };
    run::into_file(call, &path, &site.cancel).await?;
    read(&path).await?;
    let record = Record::of(&site.dump, &path).await?;
    let record = Record { version: ready.server, ..record };
    Ok(Taken { records: vec![record], warnings: Vec::new() })
}

/// Reads a file through to its end.
async fn read(path: &Path) -> Result<Value> {
    let at = path.to_owned();
    let value = tokio::task::spawn_blocking(move || {
        let file = std::io::BufReader::new(record::open(&at)?);
        anyhow::Ok(serde_json::from_reader::<_, Value>(file))
    });
    let value =
        value.await??.with_context(|| format!("{} is no whole list of definitions", path.display()))?;
    let whole = ["vhosts", "users", "queues"].iter().all(|key| value[key].is_array());
    ensure!(whole, "{} is no list of definitions of all virtual hosts", path.display());
    Ok(value)
}

pub(super) async fn verify(tree: &Path, records: &[Record]) -> Result<()> {
    for record in records {
        match messages::is_data(record) {
            true => messages::verify(tree, record).await?,
            false => drop(read(&record.path(tree)).await?),
        }
    }
    Ok(())
}

/// Makes data directories of nodes beside the live ones; definitions are loaded later.
pub(super) async fn lay(
    site: &Site,
    rabbit: &Rabbit,
    tree: &Path,
    records: &[Record],
    made: &Path,
) -> Result<Vec<Laid>> {
    let mut all = Vec::new();
    for record in records.iter().filter(|record| messages::is_data(record)) {
        let laid = messages::lay(site, rabbit.data_dir.as_deref(), tree, record, made).await;
        all.extend(laid.with_context(|| record.file.clone())?);
    }
    Ok(all)
}

/// Likewise on another machine.
pub(super) async fn lay_there(
    site: &Site,
    rabbit: &Rabbit,
    tree: &Path,
    records: &[Record],
    yard: &Yard<'_>,
) -> Result<Vec<Laid>> {
    let mut all = Vec::new();
    for record in records.iter().filter(|record| messages::is_data(record)) {
        let laid = there::lay(site, rabbit.data_dir.as_deref(), tree, record, yard).await;
        all.extend(laid.with_context(|| record.file.clone())?);
    }
    Ok(all)
}

/// Things by their path in the API. A binding has no name: what it is stands behind its path.
fn things(definitions: &Value) -> BTreeMap<String, &Value> {
    let mut all = BTreeMap::new();
    for (key, path, parts) in KINDS {
        for thing in definitions[key].as_array().into_iter().flatten() {
            let text = |name: &str| part(thing[name].as_str().unwrap_or_default());
            let path = match parts {
                [] => binding(thing),
                _ => parts.iter().fold((*path).to_owned(), |path, name| format!("{path}/{}", text(name))),
            };
            all.insert(path, thing);
        }
    }
    all
}

fn binding(thing: &Value) -> String {
    let text = |name: &str| part(thing[name].as_str().unwrap_or_default());
    let kind = if thing["destination_type"] == "exchange" { "e" } else { "q" };
    let (vhost, source, destination) = (text("vhost"), text("source"), text("destination"));
    let rest = serde_json::json!([thing["routing_key"], thing["arguments"]]);
    format!("bindings/{vhost}/e/{source}/{kind}/{destination}?{rest}")
}

pub(super) async fn plan_apply(
    site: &Site,
    server: &Server,
    tree: &Path,
    records: &[Record],
    safety: &Path,
) -> Result<Change> {
    let live = listening(site, server).await?.server;
    let now = definitions(site, server).await?;
    let there = things(&now);
    let mut made = Vec::new();
    for record in records {
        not_newer(record, "RabbitMQ", &live, "newer definitions do")?;
        let saved = read(&record.path(tree)).await?;
        let saved = things(&saved);
        clash(&saved, &there)?;
        made.extend(saved.into_keys().filter(|path| !there.contains_key(path)));
    }
    site.safety(safety, Databases { here: Vec::new(), made })
        .await
        .context("saving the definitions that live now")
}

/// A queue or an exchange keeps the properties that it was declared with: an import says nothing and changes nothing.
fn clash(saved: &BTreeMap<String, &Value>, there: &BTreeMap<String, &Value>) -> Result<()> {
    for (path, thing) in
        saved.iter().filter(|(path, _)| path.starts_with("queues/") || path.starts_with("exchanges/"))
    {
        if let Some(other) = there.get(path).filter(|other| *other != thing) {
            bail!(
                "{path} is {other} on the server and {thing} in the dump; delete it on the server, then restore again"
            );
        }
    }
    Ok(())
}

/// Sends the definitions, and looks whether all of them are there.
pub(super) async fn load(site: &Site, server: &Server, tree: &Path, records: &[Record]) -> Result<()> {
    for record in records {
        let path = record.path(tree);
        let saved = read(&path).await?;
        send(site, server, &path).await.with_context(|| format!("loading {}", record.file))?;
        let now = definitions(site, server).await?;
        let there = things(&now);
        if let Some(missing) = things(&saved).into_keys().find(|path| !there.contains_key(path)) {
            bail!("the server took {} and has no {missing} now", record.file);
        }
    }
    Ok(())
}

async fn send(site: &Site, server: &Server, path: &Path) -> Result<()> {
    if site.contained.is_some() {
        return ctl::import(site, path).await;
    }
    let ask = Ask { method: "POST", path: "/api/definitions", body: Body::File(path) };
    http::ask(site, server, PORT, ask).await.map(drop)
}

/// Removes what a restore added; a queue only if it is empty, and its virtual host only if no queue stays in it. What is gone
/// already is gone.
pub(super) async fn remove(site: &Site, server: &Server, made: &[String]) -> Result<()> {
    let rank = |path: &String| KINDS.iter().position(|(_, kind, _)| path.split('/').next() == Some(kind));
    let mut made: Vec<&String> = made.iter().collect();
    made.sort_by_key(|path| rank(path));
    let now = definitions(site, server).await?;
    let there = things(&now);
    let hosts: BTreeSet<&str> = made.iter().filter_map(|path| path.strip_prefix("vhosts/")).collect();
    let mut kept = BTreeSet::new();
    for (path, thing) in made.into_iter().filter_map(|path| Some((path, *there.get(path)?))) {
        let host = host_of(path);
        if path.starts_with("queues/") {
            if let Err(failure) = delete_queue(site, server, path, thing).await {
                warn!("{path}, which a restore made, was left: {failure:#}");
                kept.extend(host);
            }
        } else if path.strip_prefix("vhosts/").is_some_and(|host| kept.contains(host)) {
            warn!("{path}, which a restore made, was left with its queues");
        } else if host.is_none_or(|host| !hosts.contains(host)) {
            // What is in a virtual host that was made goes with it.
            delete_plain(site, server, path, thing).await?;
        }
    }
    Ok(())
}

async fn delete_queue(site: &Site, server: &Server, path: &str, thing: &Value) -> Result<()> {
    match site.contained {
        Some(_) => ctl::delete(site, path, thing).await,
        None => delete(site, server, &format!("/api/{path}?if-empty=true")).await,
    }
}

async fn delete_plain(site: &Site, server: &Server, path: &str, thing: &Value) -> Result<()> {
    if site.contained.is_some() {
        return ctl::delete(site, path, thing).await;
    }
    let target = match path.split_once('?') {
        Some((plain, what)) => binding_path(site, server, plain, what).await?,
        None => format!("/api/{path}"),
    };
    delete(site, server, &target).await
}

async fn delete(site: &Site, server: &Server, target: &str) -> Result<()> {
    http::ask(site, server, PORT, Ask { method: "DELETE", path: target, body: Body::None }).await.map(drop)
}

/// The virtual host that a thing is in; users, global parameters and virtual hosts themselves are in none.
fn host_of(path: &str) -> Option<&str> {
    let mut parts = path.split(['/', '?']);
    match parts.next()? {
        "users" | "vhosts" | "global-parameters" => None,
        "parameters" => parts.nth(1),
        _ => parts.next(),
    }
}

/// A binding's own path: the server gives each a key.
async fn binding_path(site: &Site, server: &Server, plain: &str, what: &str) -> Result<String> {
    let all = get(site, server, &format!("/api/{plain}")).await?;
    let same = |one: &&Value| {
        let text = serde_json::json!([one["routing_key"], one["arguments"]]).to_string();
        text == what
    };
    let found = all.as_array().into_iter().flatten().find(same);
    let key = found
        .and_then(|one| one["properties_key"].as_str())
        .with_context(|| format!("{plain} has no key"))?;
    Ok(format!("/api/{plain}/{}", part(key)))
}
