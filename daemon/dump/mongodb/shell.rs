//! Questions that only `mongosh` can ask. It reads a script in a file that only its user reads, in a container from its
//! standard input: the password stands in it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::archive::Collection;
use crate::definition::{Mongo, Tls};
use crate::dump::far;
use crate::dump::http::part;
use crate::dump::run;
use crate::dump::site::Site;
use crate::process::Stdin;
use crate::target::read_secret;

/// The usual port.
pub(super) const PORT: u16 = 27017;
/// What stands before an answer, for the shell may print more.
const MARK: &str = "holdfast-answer ";

/// Certificate and key in one file, as MongoDB's programs want them.
pub(super) async fn own_pem(site: &Site, tls: &Tls) -> Result<Option<PathBuf>> {
    let Some((cert, key)) = tls.own.clone() else { return Ok(None) };
    let texts = tokio::task::spawn_blocking(move || {
        let cert = std::fs::read_to_string(&cert).with_context(|| format!("reading {}", cert.display()))?;
        anyhow::Ok(format!("{cert}\n{}", read_secret(&key).context("`key_file`")?))
    });
    site.secret_file("client.pem", texts.await??).await.map(Some)
}

/// The server's address as MongoDB writes it, with the password.
async fn address(site: &Site, mongo: &Mongo) -> Result<String> {
    let server = &mongo.server;
    let host = server.host.as_deref().unwrap_or("127.0.0.1");
    let login = match (&site.login.user, &site.login.password) {
        (Some(user), Some(password)) => format!("{}:{}@", part(user), part(password.expose_secret())),
        (Some(user), None) => format!("{}@", part(user)),
        _ => String::new(),
    };
    let mut options = format!("directConnection=true&authSource={}", part(&mongo.auth_database));
    if let Some(tls) = &server.tls {
        options.push_str("&tls=true");
        let own = own_pem(site, tls).await?;
        for (name, file) in [("tlsCAFile", tls.ca.clone()), ("tlsCertificateKeyFile", own)] {
            let Some(file) = file else { continue };
            let file = file.to_str().context("a file's name is not UTF-8")?.to_owned();
            options.push_str(&format!("&{name}={}", part(&file)));
        }
    }
    Ok(format!("mongodb://{login}{host}:{}/?{options}", server.port.unwrap_or(PORT)))
}

/// Runs a function of the server's shell with arguments; its answer.
async fn call<T: DeserializeOwned>(
    site: &Site,
    mongo: &Mongo,
    verb: &str,
    body: &str,
    given: Value,
) -> Result<T> {
    let address = json!(address(site, mongo).await?);
    let script = format!(
        "// {verb}\nconst server = connect({address});\nconst given = {given};\n\
         const answer = (() => {{ {body} }})();\nprint({} + JSON.stringify(answer));\n",
        json!(MARK)
    );
    let argv = ["mongosh", "--quiet", "--norc", "--nodb"].map(std::ffi::OsString::from);
    let call = match site.apart() {
        true if site.dump.remote.is_some() => {
            far::piped(site, argv.into_iter().chain(["/dev/stdin".into()]).collect(), &script)
        }
        true => {
            let mut call = site.question(argv.into_iter().chain(["/dev/stdin".into()]), &[]).that_reads();
            call.program.stdin = Stdin::Bytes(script.into_bytes());
            call
        }
        false => {
            let file = site.secret_file("ask.js", script).await?;
            let home = site.scratch().as_os_str().to_owned();
            site.question(argv.into_iter().chain([file.into()]), &[("HOME", home)])
        }
    };
    let said = run::ask(call, &site.cancel).await?;
    let answer = said.lines().find_map(|line| line.strip_prefix(MARK)).context("mongosh gave no answer")?;
    serde_json::from_str(answer).with_context(|| format!("mongosh's answer to {verb}"))
}

pub(super) async fn version(site: &Site, mongo: &Mongo) -> Result<String> {
    call(site, mongo, "version", "return server.version();", Value::Null).await
}

pub(super) async fn databases(site: &Site, mongo: &Mongo) -> Result<Vec<String>> {
    let body = "const all = server.getSiblingDB('admin').runCommand({ listDatabases: 1, nameOnly: true }); \
        if (!all.ok) { throw new Error(all.errmsg); } return all.databases.map((one) => one.name);";
    call(site, mongo, "databases", body, Value::Null).await.context("asking for the databases")
}

/// Removes a database; one that is not there is gone.
pub(in crate::dump) async fn drop_database(site: &Site, mongo: &Mongo, name: &str) -> Result<()> {
    let body = "const done = server.getSiblingDB(given.database).dropDatabase(); \
        if (!done.ok) { throw new Error(done.errmsg); } return true;";
    let _: bool = call(site, mongo, "drop-database", body, json!({ "database": name }))
        .await
        .with_context(|| format!("removing the database {name:?}"))?;
    Ok(())
}

/// Removes the collections that an archive does not hold. Views and what the server keeps for itself stay.
pub(super) async fn drop_others(site: &Site, mongo: &Mongo, name: &str, held: &[Collection]) -> Result<()> {
    let keep: Vec<&str> = held.iter().map(|collection| collection.name.as_str()).collect();
    let body = "const db = server.getSiblingDB(given.database); const gone = db.getCollectionInfos({ type: 'collection' })\
        .map((one) => one.name).filter((one) => !one.startsWith('system.') && !given.keep.includes(one)); \
        gone.forEach((one) => { if (!db.getCollection(one).drop()) { throw new Error('dropping ' + one); } }); return gone;";
    let _: Vec<String> = call(site, mongo, "drop-others", body, json!({ "database": name, "keep": keep }))
        .await
        .context("removing the collections that came since")?;
    Ok(())
}

/// How many documents each collection has.
pub(super) async fn counts(site: &Site, mongo: &Mongo, name: &str) -> Result<BTreeMap<String, u64>> {
    let body = "const db = server.getSiblingDB(given.database); const all = {}; \
        db.getCollectionInfos({ type: 'collection' }).forEach((one) => { \
        if (!one.name.startsWith('system.')) { all[one.name] = Number(db.getCollection(one.name).countDocuments({})); } }); \
        return all;";
    call(site, mongo, "counts", body, json!({ "database": name })).await.context("counting what was loaded")
}
