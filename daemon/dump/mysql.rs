//! MariaDB and MySQL: one SQL text per database, and the accounts.
//!
//! A database cannot be renamed, and a dump cannot be proved by loading it under another name: triggers and routines may
//! name their database, and then change the one that lives (measured: `CREATE TRIGGER wiki.t ON wiki.page` is kept as it
//! was written). So what lives is dumped before it is replaced, and loaded back when that fails. Of accounts only those are
//! made that are not there: `mysql.user` of another server locks everybody out.

mod accounts;
mod plain;
mod scan;

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use super::change::{Change, Databases};
use super::object::{self, Looks, Object, Objects};
use super::record::{self, Record, file_name};
use super::run::{self, Call};
use super::site::{Site, words};
use super::{Ready, Taken};
use crate::definition::{Server, Source};

/// How a dump begins, and what stands at its end.
const BEGIN: &[&str] = &["/*", "--"];
const END: &str = "-- Dump completed";
/// The accounts' file.
const ACCOUNTS: &str = "accounts.sql";
/// What every server has for itself.
const OWN: [&str; 4] = ["information_schema", "performance_schema", "mysql", "sys"];

/// How a database is to be made anew.
#[derive(Debug, Serialize, Deserialize)]
struct Details {
    charset: String,
    collation: String,
}

/// The programs of this engine, the likelier name first.
async fn program(site: &Site, kind: &str) -> Result<&'static str> {
    let names: [&'static str; 2] = match (kind, &site.dump.source) {
        ("dump", Source::Mysql(_)) => ["mysqldump", "mariadb-dump"],
        ("dump", _) => ["mariadb-dump", "mysqldump"],
        (_, Source::Mysql(_)) => ["mysql", "mariadb"],
        _ => ["mariadb", "mysql"],
    };
    for name in names {
        if site.has(name).await {
            return Ok(name);
        }
    }
    bail!("`{}` is needed (Debian: mariadb-client)", names[0])
}

/// A client program with how it reaches the server. The password goes by file, in a container by environment.
async fn client(site: &Site, kind: &str, more: Vec<OsString>, long: bool) -> Result<Call> {
    let mut argv: Vec<OsString> = vec![program(site, kind).await?.into()];
    let mut env = Vec::new();
    if let Some(password) = &site.login.password {
        let password = password.expose_secret();
        if site.apart() {
            env.push(("MYSQL_PWD", OsString::from(password)));
        } else {
            let quoted = password.replace('\\', "\\\\").replace('"', "\\\"");
            let path = site.secret_file("client.cnf", format!("[client]\npassword=\"{quoted}\"\n")).await?;
            let mut option = OsString::from("--defaults-extra-file=");
            option.push(path);
            argv.push(option);
        }
    }
    let default = Server::default();
    let server = site.dump.source.server().unwrap_or(&default);
    let option = |name: &str, value: OsString| {
        let mut option = OsString::from(format!("--{name}="));
        option.push(value);
        option
    };
    argv.extend(site.login.user.clone().map(|user| option("user", user.into())));
    argv.extend(server.host.clone().map(|host| option("host", host.into())));
    argv.extend(server.port.map(|port| option("port", port.to_string().into())));
    argv.extend(server.socket.clone().map(|socket| option("socket", socket.into())));
    argv.extend(more);
    Ok(if long { site.client(argv, &env) } else { site.question(argv, &env) })
}

async fn ask(site: &Site, sql: &str) -> Result<String> {
    let mut more = words(["--batch", "--skip-column-names", "--default-character-set=utf8mb4", "--execute"]);
    more.push(sql.into());
    run::ask(client(site, "client", more, false).await?, &site.cancel).await
}

/// An identifier, quoted.
fn ident(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// What stands at the end of `mariadb-dump  Ver 10.19 Distrib 10.11.19-MariaDB, for …` and of `mysqldump  Ver 8.0.36 for …`.
fn version_in(text: &str) -> String {
    let after = |word: &str| text.split_once(word).map(|(_, rest)| rest);
    let rest = after("Distrib ").or_else(|| after("from ")).or_else(|| after("Ver ")).unwrap_or_default();
    rest.split([' ', ',']).next().unwrap_or_default().to_owned()
}

fn major(version: &str) -> u32 {
    version.split('.').next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

pub(super) async fn ready(site: &Site) -> Result<Ready> {
    let name = program(site, "dump").await?;
    let client = version_in(&site.version(name).await?);
    let server = ask(site, "select version()").await.context("asking the server")?.trim().to_owned();
    let same = server.contains("MariaDB") == client.contains("MariaDB");
    ensure!(
        !same || major(&server) <= major(&client),
        "the server is {server} and {name} is {client}: install the server's client programs"
    );
    Ok(Ready { server, client })
}

/// All databases with how they are made; the server writes names as hexadecimal digits, for they may hold anything.
async fn databases(site: &Site) -> Result<Vec<(String, Details)>> {
    let sql = "select hex(schema_name), default_character_set_name, default_collation_name \
        from information_schema.schemata order by schema_name";
    let text = ask(site, sql).await.context("asking for the databases")?;
    let mut all = Vec::new();
    for line in text.lines() {
        let mut fields = line.split('\t');
        let (Some(name), Some(charset), Some(collation)) = (fields.next(), fields.next(), fields.next())
        else {
            bail!("the list of databases makes no sense: {line:?}");
        };
        let name = from_hex(name)?;
        if !OWN.contains(&name.to_ascii_lowercase().as_str()) {
            all.push((name, Details { charset: charset.into(), collation: collation.into() }));
        }
    }
    Ok(all)
}

fn from_hex(digits: &str) -> Result<String> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap_or("?"), 16);
    let bytes: Result<Vec<u8>, _> = digits.as_bytes().chunks(2).map(byte).collect();
    String::from_utf8(bytes.context("reading a database's name")?).context("a database's name is not UTF-8")
}

pub(super) async fn objects(site: &Site, server: &Server) -> Result<Objects> {
    let there: Vec<String> = databases(site).await?.into_iter().map(|(name, _)| name).collect();
    if let Some(missing) = server.databases.iter().find(|name| !there.contains(name)) {
        bail!("there is no database {missing:?} on the server; there are {}", there.join(", "));
    }
    let all = server.databases.is_empty();
    let asked = |name: &String| (all || server.databases.contains(name)) && !server.exclude.contains(name);
    let wanted: Vec<String> = there.into_iter().filter(asked).collect();
    let mut objects = only(site, &wanted).await?;
    if all || accounts::readable(site).await {
        objects.list.push(accounts(site).await?);
    }
    Ok(objects)
}

pub(super) use accounts::{make as make_accounts, plan as plan_accounts, remove as drop_accounts};
pub(super) use plain::{names_in, prepare};

/// Dumps just these.
pub(super) async fn dump_only(site: &Site, wanted: &[String], dir: &Path) -> Result<Taken> {
    object::stage(site, only(site, wanted).await?, dir).await
}

async fn only(site: &Site, wanted: &[String]) -> Result<Objects> {
    let ready = ready(site).await?;
    let mut objects = Objects::default();
    for (name, details) in databases(site).await?.into_iter().filter(|(name, _)| wanted.contains(name)) {
        objects.warnings.extend(without_transactions(site, &name).await?);
        let mut object = one(site, &ready, &name).await?;
        let (version, client_version) = (ready.server.clone(), ready.client.clone());
        let details = serde_json::to_value(details)?;
        object.record = Record { version, client_version, database: Some(name), details, ..object.record };
        objects.list.push(object);
    }
    Ok(objects)
}

async fn one(site: &Site, ready: &Ready, name: &str) -> Result<Object> {
    let mut more = words([
        "--single-transaction",
        "--quick",
        "--routines",
        "--events",
        "--triggers",
        "--hex-blob",
        "--no-tablespaces",
        "--default-character-set=utf8mb4",
    ]);
    let mysql = matches!(site.dump.source, Source::Mysql(_)) && !ready.client.contains("MariaDB");
    if mysql && program(site, "dump").await? == "mysqldump" {
        more.push("--set-gtid-purged=OFF".into());
        if major(&ready.client) >= 8 && major(&ready.server) < 8 {
            // Only servers from 8 on have the table that it would ask for.
            more.push("--column-statistics=0".into());
        }
    }
    more.extend(["--".into(), name.into()]);
    Ok(Object {
        what: format!("database {name:?}"),
        optional: false,
        record: Record::named(&site.dump, &file_name(name, "sql")),
        call: client(site, "dump", more, true).await?,
        proof: Looks::Ends { begins: BEGIN, end: END }.into(),
    })
}

/// A snapshot in one transaction says nothing of tables that know none.
async fn without_transactions(site: &Site, name: &str) -> Result<Option<String>> {
    let quoted = name.replace('\\', "\\\\").replace('\'', "''");
    let sql = format!(
        "select count(*) from information_schema.tables where table_schema = '{quoted}' and table_type = 'BASE TABLE' \
         and engine not in ('InnoDB', 'RocksDB', 'TokuDB')"
    );
    let count = ask(site, &sql).await?;
    let some = count.trim() != "0";
    Ok(some
        .then(|| format!("{} tables of {name:?} know no transactions; their dump may be torn", count.trim())))
}

async fn accounts(site: &Site) -> Result<Object> {
    let call = match &site.dump.source {
        Source::Mariadb(_) => client(site, "dump", words(["--system=users"]), true).await?,
        _ => accounts::printed(site).await?,
    };
    Ok(Object {
        what: "the accounts".into(),
        optional: true,
        record: Record::named(&site.dump, ACCOUNTS),
        call,
        proof: Looks::Ends { begins: BEGIN, end: END }.into(),
    })
}

pub(super) async fn verify(tree: &Path, records: &[Record]) -> Result<()> {
    for record in records.iter().filter(|record| !plain::made(record)) {
        record::check_ends(&record.path(tree), BEGIN, END).await?;
    }
    Ok(())
}

pub(super) async fn plan_apply(site: &Site, records: &[Record], safety: &Path) -> Result<Change> {
    let there: Vec<String> = databases(site).await?.into_iter().map(|(name, _)| name).collect();
    let wanted = records.iter().filter_map(|record| record.database.clone());
    let (here, made) = wanted.partition(|name| there.contains(name));
    site.safety(safety, Databases { here, made }).await.context("dumping what lives now")
}

/// Whether a database of this name is there.
pub(super) async fn has_database(site: &Site, name: &str) -> Result<bool> {
    Ok(databases(site).await?.iter().any(|(known, _)| known == name))
}

/// Replaces the databases by what the files hold. Those of them that were not there are made: what appeared meanwhile is
/// not replaced.
pub(super) async fn load(site: &Site, tree: &Path, records: &[Record], made: &[String]) -> Result<()> {
    for record in records {
        let Some(name) = record.database.as_deref() else { continue };
        if !made.iter().any(|made| made == name) {
            drop_database(site, name).await?;
        }
        load_as(site, tree, record, name).await.with_context(|| format!("loading {}", record.file))?;
    }
    Ok(())
}

async fn load_as(site: &Site, tree: &Path, record: &Record, name: &str) -> Result<()> {
    let mut create = format!("CREATE DATABASE {}", ident(name));
    if !(record.details["charset"].is_null() && plain::made(record)) {
        let details: Details = serde_json::from_value(record.details.clone())
            .with_context(|| format!("the manifest does not say how {} was made", record.file))?;
        let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        ensure!(
            plain(&details.charset) && plain(&details.collation),
            "the manifest names an odd character set"
        );
        create.push_str(&format!(" CHARACTER SET {}", details.charset));
        if !details.collation.is_empty() {
            create.push_str(&format!(" COLLATE {}", details.collation));
        }
    }
    ask(site, &create).await.context("creating a database")?;
    let mut option = OsString::from("--database=");
    option.push(name);
    let more = vec![option, "--default-character-set=utf8mb4".into()];
    run::from_file(client(site, "client", more, true).await?, &record.path(tree), &site.cancel).await?;
    let Some(tables) = record.details["tables"].as_u64() else { return Ok(()) };
    let quoted = name.replace('\\', "\\\\").replace('\'', "''");
    let sql = format!("select count(*) from information_schema.tables where table_schema = '{quoted}'");
    let loaded: u64 = ask(site, &sql).await?.trim().parse().context("counting the tables")?;
    ensure!(loaded >= tables, "{tables} tables are in the dump and {loaded} were loaded");
    Ok(())
}

/// Removes a database, if it is there.
pub(super) async fn drop_database(site: &Site, name: &str) -> Result<()> {
    ask(site, &format!("DROP DATABASE IF EXISTS {}", ident(name)))
        .await
        .context("removing a database")
        .map(drop)
}
