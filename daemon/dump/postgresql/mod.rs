//! PostgreSQL: roles as SQL, one archive in custom format per database.
//!
//! Measured with 15.18: `pg_restore --list` of an archive that was cut off exits with 0, only a full read finds it;
//! `pg_dumpall --clean` replayed while an application is connected exits with 0 and restores nothing. So archives are read
//! to their end, and a restore loads into a new database that then takes the name (`swap`).

pub(super) mod plain;
pub(super) mod restore;
mod sql;
pub(super) mod swap;

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use super::Ready;
use super::object::{self, Looks, Object, Objects, Proof};
use super::record::{self, Record, file_name};
use super::run::{self, Call};
use super::site::{Site, words};
use crate::definition::Server;
use sql::{conninfo, literal};

/// The roles' file.
const GLOBALS: &str = "globals.sql";
/// How it ends.
const GLOBALS_END: &str = "-- PostgreSQL database cluster dump complete";
/// How an archive begins.
const MAGIC: &[u8] = b"PGDMP";

/// A database as it is to be made anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Database {
    name: String,
    owner: String,
    encoding: String,
    collate: String,
    ctype: String,
    /// `c` or `i`: whose rules sort.
    provider: Option<String>,
    locale: Option<String>,
    /// Statements about the database itself, in two parts: its name stands between them.
    after: Vec<(String, String)>,
}

/// Everything about the databases that one could connect to.
const DATABASES: &str = r"
select coalesce(json_agg(json_build_object(
  'name', d.datname, 'owner', pg_get_userbyid(d.datdba), 'encoding', pg_encoding_to_char(d.encoding),
  'collate', d.datcollate, 'ctype', d.datctype, 'provider', to_jsonb(d) ->> 'datlocprovider',
  'locale', coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'),
  'after', (select coalesce(json_agg(json_build_array(s.head, s.tail) order by s.rank), '[]') from (
    select 1 as rank, 'REVOKE ALL ON DATABASE ' as head, ' FROM PUBLIC' as tail where d.datacl is not null
    union all
    select 2, 'GRANT ' || a.privilege_type || ' ON DATABASE ',
      ' TO ' || case a.grantee when 0 then 'PUBLIC' else quote_ident(pg_get_userbyid(a.grantee)) end
      || case when a.is_grantable then ' WITH GRANT OPTION' else '' end
      from aclexplode(d.datacl) a
    union all
    select 3, case s.setrole when 0 then 'ALTER DATABASE '
        else 'ALTER ROLE ' || quote_ident(pg_get_userbyid(s.setrole)) || ' IN DATABASE ' end,
      ' SET ' || quote_ident(split_part(c, '=', 1)) || ' TO ' || case
        when substr(c, strpos(c, '=') + 1) = '' then ''''''
        when split_part(c, '=', 1) in ('local_preload_libraries', 'search_path', 'session_preload_libraries',
          'shared_preload_libraries', 'temp_tablespaces', 'unix_socket_directories') then substr(c, strpos(c, '=') + 1)
        else quote_literal(substr(c, strpos(c, '=') + 1)) end
      from pg_db_role_setting s, unnest(s.setconfig) c where s.setdatabase = d.oid
    union all
    select 4, 'ALTER DATABASE ', ' CONNECTION LIMIT ' || d.datconnlimit where d.datconnlimit <> -1
    union all
    select 5, 'COMMENT ON DATABASE ', ' IS ' || quote_literal(t.c) from (select shobj_description(d.oid, 'pg_database') as c) t
      where t.c is not null
  ) s)
) order by d.datname), '[]') from pg_database d where d.datallowconn and not d.datistemplate";

/// What every client program is told by its environment.
async fn environment(site: &Site) -> Result<Vec<(&'static str, OsString)>> {
    let mut env: Vec<(&str, OsString)> =
        vec![("PGCONNECT_TIMEOUT", "15".into()), ("PGAPPNAME", "holdfast".into())];
    if let Some(server) = site.dump.source.server() {
        let host = server.host.clone().map(OsString::from);
        env.extend(host.or_else(|| server.socket.clone().map(Into::into)).map(|host| ("PGHOST", host)));
        env.extend(server.port.map(|port| ("PGPORT", port.to_string().into())));
    }
    env.extend(site.login.user.clone().map(|user| ("PGUSER", user.into())));
    let Some(password) = &site.login.password else { return Ok(env) };
    let password = password.expose_secret();
    if site.apart() {
        env.push(("PGPASSWORD", password.into()));
        return Ok(env);
    }
    let escaped = password.replace('\\', "\\\\").replace(':', "\\:");
    let path = site.secret_file("pgpass", format!("*:*:*:*:{escaped}\n")).await?;
    env.push(("PGPASSFILE", path.into()));
    Ok(env)
}

/// A client program that may take long.
async fn client(site: &Site, argv: Vec<OsString>) -> Result<Call> {
    Ok(site.client(argv, &environment(site).await?))
}

/// One statement, or several in one transaction; what the server answers.
async fn ask(site: &Site, database: &str, sql: &str) -> Result<String> {
    let mut argv = words(["psql", "-X", "-w", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d"]);
    argv.extend([conninfo(database).into(), "-c".into(), sql.into()]);
    let call = site.question(argv, &environment(site).await?);
    run::ask(call, &site.cancel).await
}

/// Where statements about databases are sent from: not from one that they speak of.
fn desk(about: &[&str]) -> &'static str {
    if about.contains(&"postgres") { "template1" } else { "postgres" }
}

/// A version's first number.
fn major(version: &str) -> u32 {
    version.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

async fn client_version(site: &Site, program: &str) -> Result<String> {
    let said = site.version(program).await;
    let said = said.with_context(|| format!("`{program}` is needed (Debian: postgresql-client)"))?;
    let version = said.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    Ok(version.unwrap_or_default().to_owned())
}

pub(super) async fn ready(site: &Site, server: &Server) -> Result<Ready> {
    let ready = answers(site).await?;
    databases(site, server).await?;
    Ok(ready)
}

/// The versions, where both sides are there.
pub(super) async fn answers(site: &Site) -> Result<Ready> {
    let client = client_version(site, "pg_dump").await?;
    let version =
        ask(site, "postgres", "show server_version").await.context("asking the PostgreSQL server")?;
    let version = version.split_whitespace().next().unwrap_or_default().to_owned();
    ensure!(
        major(&version) <= major(&client),
        "the server is PostgreSQL {version} and pg_dump is {client}: install the server's client programs"
    );
    Ok(Ready { server: version, client })
}

/// The databases that are wanted.
async fn databases(site: &Site, server: &Server) -> Result<Vec<Database>> {
    let text = ask(site, "postgres", DATABASES).await.context("asking for the databases")?;
    let all: Vec<Database> = serde_json::from_str(text.trim()).context("reading the list of databases")?;
    let has = |name: &String| all.iter().any(|database| database.name == *name);
    if let Some(missing) = server.databases.iter().find(|name| !has(name)) {
        let there: Vec<&str> = all.iter().map(|database| database.name.as_str()).collect();
        anyhow::bail!("there is no database {missing:?} on the server; there are {}", there.join(", "));
    }
    let asked = |name: &String| server.databases.is_empty() || server.databases.contains(name);
    Ok(all.into_iter().filter(|d| asked(&d.name) && !server.exclude.contains(&d.name)).collect())
}

pub(super) async fn objects(site: &Site, server: &Server) -> Result<Objects> {
    let ready = answers(site).await?;
    let mut list = vec![globals(site).await.context("dumping the roles")?];
    for database in databases(site, server).await? {
        list.push(one(site, database).await?);
    }
    for object in &mut list {
        let record = &mut object.record;
        (record.version, record.client_version) = (ready.server.clone(), ready.client.clone());
    }
    Ok(Objects { list, warnings: Vec::new() })
}

/// Only a superuser sees the roles' passwords; without, roles are dumped without.
async fn globals(site: &Site) -> Result<Object> {
    let sees = ask(site, "postgres", "select rolsuper from pg_roles where rolname = current_user").await?;
    let mut argv = words(["pg_dumpall", "-w", "--globals-only", "-l", "postgres"]);
    if sees.trim() != "t" {
        argv.push("--no-role-passwords".into());
    }
    Ok(Object {
        what: "the roles".into(),
        optional: false,
        record: Record::named(&site.dump, GLOBALS),
        call: client(site, argv).await?,
        proof: Looks::Ends { begins: &["--"], end: GLOBALS_END }.into(),
    })
}

async fn one(site: &Site, database: Database) -> Result<Object> {
    let name = database.name.clone();
    let mut argv = words(["pg_dump", "-w", "--format=custom", "--compress=0", "-d"]);
    argv.push(conninfo(&name).into());
    let details = serde_json::to_value(&database)?;
    let record = Record::named(&site.dump, &file_name(&name, "dump"));
    Ok(Object {
        what: format!("database {name:?}"),
        optional: false,
        record: Record { database: Some(name), details, ..record },
        call: client(site, argv).await?,
        proof: Proof { looks: Looks::Begins(MAGIC), reader: Some(reader(site)) },
    })
}

/// A truncated archive may end anywhere, so all of it is read; what it would restore goes nowhere.
/// For another machine's the own program does it, where there is one.
fn reader(site: &Site) -> Call {
    let ours = site.dump.remote.is_some() && crate::process::find(Path::new("pg_restore")).is_ok();
    if ours { site.ours(reading()) } else { site.client(reading(), &[]) }
}

fn reading() -> Vec<OsString> {
    words(["pg_restore", "-f", "/dev/null"])
}

/// Reads an archive to its end.
async fn read_through(site: &Site, path: &Path) -> Result<()> {
    record::check_magic(path, MAGIC).await?;
    let read = object::read_through(reader(site), path, &site.cancel).await;
    if site.dump.remote.is_none() || read.is_ok() || site.cancel.is_cancelled() {
        return read;
    }
    // Ours may be too old for it; then the other machine's is asked, which costs the way there.
    object::read_through(site.client(reading(), &[]), path, &site.cancel).await
}

pub(super) async fn verify(site: &Site, tree: &Path, records: &[Record]) -> Result<()> {
    for record in records {
        let path = record.path(tree);
        match record.database {
            // Taken out of a text that was read to its end.
            _ if plain::made(record) => {}
            None => record::check_ends(&path, &["--"], GLOBALS_END).await?,
            Some(_) => read_through(site, &path).await?,
        }
    }
    Ok(())
}

/// Databases by their numbers, with the names that they have now.
async fn numbers(site: &Site, desk: &str) -> Result<Vec<(u32, String)>> {
    let sql = "select coalesce(json_agg(json_build_array(oid::int8, datname)), '[]') from pg_database";
    let text = ask(site, desk, sql).await.context("asking for the databases")?;
    serde_json::from_str(text.trim()).context("reading the list of databases")
}

/// Whether a database of this name is there.
pub(super) async fn has_database(site: &Site, name: &str) -> Result<bool> {
    Ok(numbers(site, "postgres").await?.iter().any(|(_, known)| known == name))
}

/// A condition on a column that holds names.
fn one_of(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| literal(name)).collect();
    format!("in ({})", names.join(", "))
}
