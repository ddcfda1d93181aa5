//! MongoDB: an archive per database by `mongodump`, or one of the whole server at one moment (`oplog`).
//!
//! `mongorestore` replaces collection after collection and cannot rename databases, so what lives is dumped before it is
//! replaced, and loaded back when that fails. It leaves collections alone that the archive does not hold: those are removed
//! afterwards, by `mongosh`, which also lists and counts. The users (database `admin`) are saved, and loaded only with `oplog`.

mod archive;
mod shell;

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub(super) use shell::drop_database;

use super::change::{Change, Databases};
use super::far;
use super::record::{Record, file_name};
use super::run::{self, Call};
use super::site::{Site, words};
use super::version::not_newer;
use super::{Ready, Taken};
use crate::definition::Mongo;
use crate::process::Stdin;
use archive::Collection;

/// What each server has for itself.
const OWN: [&str; 3] = ["admin", "config", "local"];
/// The file with the users.
const ACCOUNTS: &str = "admin.archive";
/// The file of the whole server.
const ALL: &str = "all.archive";

/// What is in an archive.
#[derive(Debug, Serialize, Deserialize)]
struct Details {
    collections: Vec<Collection>,
    /// Whether it is of the whole server, with what was written meanwhile.
    oplog: bool,
}

impl Details {
    fn of(record: &Record) -> Result<Self> {
        serde_json::from_value(record.details.clone())
            .with_context(|| format!("the manifest does not say what is in {}", record.file))
    }
}

/// Lets a program in a container read its configuration from a pipe: what it is to read besides comes by standard input,
/// behind that one line. `read` takes a byte at a time there.
const CONFIGURED: &str = "IFS= read -r line || exit 1\nexec 3<<END\n$line\nEND\nexec \"$@\"";

/// One of MongoDB's tools with how it reaches the server. The password goes by a file of its configuration.
async fn tool(site: &Site, mongo: &Mongo, name: &str, more: Vec<OsString>) -> Result<Call> {
    let mut argv = words([name]);
    let (mut first, mut env) = (None, Vec::new());
    let option = |name: &str, value: OsString| {
        let mut option = OsString::from(format!("--{name}="));
        option.push(value);
        option
    };
    if let Some(password) = &site.login.password {
        // A string of JSON is one of YAML.
        let text = format!("password: {}\n", json!(password.expose_secret()));
        if site.dump.remote.is_some() {
            argv.push(option("config", "/dev/fd/3".into()));
            env.push((far::CONFIGURATION, text.trim_end().into()));
        } else if site.apart() {
            argv.push(option("config", "/dev/fd/3".into()));
            argv.splice(0..0, words(["sh", "-c", CONFIGURED, "sh"]));
            first = Some(text.into_bytes());
        } else {
            argv.push(option("config", site.secret_file("tools.yaml", text).await?.into()));
        }
    }
    let server = &mongo.server;
    argv.push(option("host", server.host.clone().unwrap_or_else(|| "127.0.0.1".into()).into()));
    argv.push(option("port", server.port.unwrap_or(shell::PORT).to_string().into()));
    if let Some(user) = &site.login.user {
        argv.push(option("username", user.into()));
        argv.push(option("authenticationDatabase", mongo.auth_database.clone().into()));
    }
    if let Some(tls) = &server.tls {
        argv.push("--ssl".into());
        argv.extend(tls.ca.clone().map(|ca| option("sslCAFile", ca.into())));
        argv.extend(shell::own_pem(site, tls).await?.map(|pem| option("sslPEMKeyFile", pem.into())));
    }
    argv.extend(more);
    if !env.is_empty() {
        argv = far::configured(argv);
    }
    let mut call = site.client(argv, &env);
    call.name = name.to_owned();
    if let Some(first) = first {
        call = call.that_reads();
        call.program.stdin = Stdin::Bytes(first);
    }
    Ok(call)
}

pub(super) async fn ready(site: &Site, mongo: &Mongo) -> Result<Ready> {
    for program in ["mongodump", "mongorestore", "mongosh"] {
        ensure!(
            site.has(program).await,
            "`{program}` is needed (MongoDB's packages database-tools and mongosh)"
        );
    }
    let said = run::ask(site.question(["mongodump", "--version"], &[]), &site.cancel).await?;
    let client =
        said.lines().next().and_then(|line| line.split(": ").nth(1)).unwrap_or_default().trim().to_owned();
    let server = shell::version(site, mongo).await.context("asking the MongoDB server")?;
    Ok(Ready { server, client })
}

pub(super) async fn has_database(site: &Site, mongo: &Mongo, name: &str) -> Result<bool> {
    Ok(shell::databases(site, mongo).await?.iter().any(|there| there == name))
}

pub(super) async fn dump(site: &Site, mongo: &Mongo, dir: &Path) -> Result<Taken> {
    if mongo.oplog {
        let ready = ready(site, mongo).await?;
        let record = one(site, mongo, &ready, vec!["--oplog".into()], &dir.join(ALL), true).await?;
        return Ok(Taken { records: vec![record], warnings: Vec::new() });
    }
    let there = shell::databases(site, mongo).await?;
    let server = &mongo.server;
    if let Some(missing) = server.databases.iter().find(|name| !there.contains(name)) {
        bail!("there is no database {missing:?} on the server; there are {}", there.join(", "));
    }
    let all = server.databases.is_empty();
    let asked = |name: &String| match all {
        true => !OWN.contains(&name.as_str()) && !server.exclude.contains(name),
        false => server.databases.contains(name) && !server.exclude.contains(name),
    };
    let wanted: Vec<String> = there.into_iter().filter(asked).collect();
    let mut taken = dump_only(site, mongo, &wanted, dir).await?;
    if all {
        match accounts(site, mongo, dir).await {
            Ok(record) => taken.records.push(record),
            Err(failure) => taken.warnings.push(format!("the users are not in the dump: {failure:#}")),
        }
    }
    Ok(taken)
}

/// Dumps just these.
pub(super) async fn dump_only(site: &Site, mongo: &Mongo, wanted: &[String], dir: &Path) -> Result<Taken> {
    let ready = ready(site, mongo).await?;
    let mut taken = Taken::default();
    for name in wanted {
        let path = dir.join(file_name(name, "archive"));
        let record = one(site, mongo, &ready, vec![of_database(name)], &path, false).await;
        let record = record.with_context(|| format!("database {name:?}"))?;
        taken.records.push(Record { database: Some(name.clone()), ..record });
    }
    Ok(taken)
}

fn of_database(name: &str) -> OsString {
    format!("--db={name}").into()
}

async fn accounts(site: &Site, mongo: &Mongo, dir: &Path) -> Result<Record> {
    let (ready, path) = (ready(site, mongo).await?, dir.join(ACCOUNTS));
    let dumped = one(site, mongo, &ready, vec![of_database("admin")], &path, false).await;
    if dumped.is_err() {
        tokio::fs::remove_file(&path).await.context("removing half a dump")?;
    }
    dumped
}

async fn one(
    site: &Site,
    mongo: &Mongo,
    ready: &Ready,
    mut more: Vec<OsString>,
    path: &Path,
    oplog: bool,
) -> Result<Record> {
    more.push("--archive".into());
    run::into_file(tool(site, mongo, "mongodump", more).await?, path, &site.cancel).await?;
    let collections = archive::read(path).await?;
    let details = serde_json::to_value(Details { collections, oplog })?;
    let record = Record::of(&site.dump, path).await?;
    Ok(Record { version: ready.server.clone(), client_version: ready.client.clone(), details, ..record })
}

pub(super) async fn verify(tree: &Path, records: &[Record]) -> Result<()> {
    for record in records {
        let found = archive::read(&record.path(tree)).await?;
        ensure!(
            found == Details::of(record)?.collections,
            "{} does not hold what the manifest says",
            record.file
        );
    }
    Ok(())
}

/// What is in an archive that somebody gives for a saved one.
pub(super) fn details_given(saved: &Record, file: std::fs::File) -> Result<serde_json::Value> {
    let collections = archive::of(file)?;
    let oplog = saved.details["oplog"] == true;
    let mut databases: Vec<&str> = collections.iter().map(|one| one.database.as_str()).collect();
    databases.dedup();
    ensure!(
        !oplog || databases.contains(&""),
        "it holds nothing of what was written meanwhile, and the saved one does; dump it with --oplog"
    );
    ensure!(
        oplog || databases.len() <= 1,
        "it holds several databases ({}); dump one with --db",
        databases.join(", ")
    );
    Ok(serde_json::to_value(Details { collections, oplog })?)
}

/// Whether the server is not older than the one that was dumped.
pub(super) async fn fits(site: &Site, mongo: &Mongo, records: &[Record]) -> Result<()> {
    let live = ready(site, mongo).await?.server;
    for record in records {
        not_newer(record, "MongoDB", &live, "a newer dump does")?;
    }
    Ok(())
}

pub(super) async fn plan_apply(
    site: &Site,
    mongo: &Mongo,
    records: &[Record],
    safety: &Path,
) -> Result<Change> {
    let there = shell::databases(site, mongo).await?;
    let mut wanted: Vec<String> = records.iter().filter_map(|record| record.database.clone()).collect();
    for record in records {
        let details = Details::of(record)?;
        let all = details.collections.into_iter().map(|collection| collection.database);
        wanted.extend(all.filter(|name| details.oplog && !name.is_empty() && !OWN.contains(&name.as_str())));
    }
    wanted.sort();
    wanted.dedup();
    let (here, made) = wanted.into_iter().partition(|name| there.contains(name));
    site.safety(safety, Databases { here, made }).await.context("dumping what lives now")
}

/// Replaces the databases by what the files hold.
pub(super) async fn load(site: &Site, mongo: &Mongo, tree: &Path, records: &[Record]) -> Result<()> {
    for record in records {
        let details = Details::of(record)?;
        let loading = || format!("loading {}", record.file);
        if details.oplog {
            let more = words(["--archive", "--drop", "--stopOnError", "--oplogReplay"]);
            feed(site, mongo, more, tree, record).await.with_context(loading)?;
        } else if let Some(name) = &record.database {
            load_as(site, mongo, tree, record, &details, name).await.with_context(loading)?;
        }
    }
    Ok(())
}

async fn feed(site: &Site, mongo: &Mongo, more: Vec<OsString>, tree: &Path, record: &Record) -> Result<()> {
    run::from_file(tool(site, mongo, "mongorestore", more).await?, &record.path(tree), &site.cancel).await
}

async fn load_as(
    site: &Site,
    mongo: &Mongo,
    tree: &Path,
    record: &Record,
    details: &Details,
    name: &str,
) -> Result<()> {
    let saved = details.collections.first().map_or(name, |collection| collection.database.as_str());
    let all = |name: &str| format!("{}.*", pattern(name));
    let mut more = words(["--archive", "--drop", "--stopOnError"]);
    more.push(format!("--nsInclude={}", all(saved)).into());
    if saved != name {
        more.push(format!("--nsFrom={}", all(saved)).into());
        more.push(format!("--nsTo={}", all(name)).into());
    }
    feed(site, mongo, more, tree, record).await?;
    shell::drop_others(site, mongo, name, &details.collections).await?;
    let there = shell::counts(site, mongo, name).await?;
    for collection in &details.collections {
        let found = there.get(&collection.name).copied();
        let wanted = collection.documents;
        ensure!(
            found == Some(wanted) || collection.name.starts_with("system."),
            "{}.{} has {} documents now, the saved one had {wanted}",
            name,
            collection.name,
            found.unwrap_or_default()
        );
    }
    Ok(())
}

/// A name in a pattern of MongoDB's tools.
fn pattern(name: &str) -> String {
    name.replace('\\', "\\\\").replace('*', "\\*").replace('$', "\\$")
}
