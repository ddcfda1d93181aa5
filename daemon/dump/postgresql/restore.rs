//! Saved databases are loaded beside those that live, with the roles that they need.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use tracing::warn;

use super::sql::{About, about, ident, literal, statements};
use super::swap::{databases, names};
use super::{DATABASES, Database, GLOBALS, ask, client, conninfo, desk, environment, major, plain};
use crate::dump::run;
use crate::dump::site::words;
use crate::dump::{Change, Record, Site};

pub(in crate::dump) async fn plan_beside(
    site: &Site,
    tree: &Path,
    records: &[Record],
    job: &str,
) -> Result<Vec<Change>> {
    fits(site, records).await?;
    let (roles, _) = missing_roles(site, tree, records).await?;
    let roles = (!roles.is_empty()).then(|| Change::DropRoles { roles: roles.into_iter().collect() });
    let made =
        (0..databases(records).len()).map(|index| Change::DropDatabase { database: names(job, index).0 });
    Ok(roles.into_iter().chain(made).collect())
}

/// A dump of a newer server is not for an older one.
async fn fits(site: &Site, records: &[Record]) -> Result<()> {
    let present =
        ask(site, "postgres", "show server_version").await.context("asking the PostgreSQL server")?;
    for record in records {
        ensure!(
            major(&record.version) <= major(&present),
            "{} was taken from PostgreSQL {} and the server is {}: a newer dump does not fit into an older server",
            record.file,
            record.version,
            present.trim()
        );
    }
    Ok(())
}

pub(in crate::dump) async fn load_beside(
    site: &Site,
    tree: &Path,
    records: &[Record],
    job: &str,
) -> Result<()> {
    let (_, make) = missing_roles(site, tree, records).await?;
    if !make.is_empty() {
        make_roles(site, &make).await.context("making the roles that are missing")?;
    }
    let of_databases = records.iter().filter(|record| record.database.is_some());
    for (index, record) in of_databases.enumerate() {
        let shown = record.database.as_deref().unwrap_or_default();
        let loading = || format!("loading {} beside the database {shown:?}", record.file);
        one(site, tree, record, &names(job, index).0).await.with_context(loading)?;
    }
    Ok(())
}

async fn one(site: &Site, tree: &Path, record: &Record, new: &str) -> Result<()> {
    let database = match record.details["name"].is_null() {
        true => living(site, record).await?,
        false => serde_json::from_value(record.details.clone())
            .with_context(|| format!("the manifest does not say how {} was made", record.file))?,
    };
    create(site, &database, new).await?;
    let plain = plain::made(record);
    let mut argv = match plain {
        true => words([
            "psql",
            "-X",
            "-w",
            "-q",
            "-o",
            "/dev/null",
            "-v",
            "ON_ERROR_STOP=1",
            "-1",
            "-f",
            "-",
            "-d",
        ]),
        false => words(["pg_restore", "-w", "--exit-on-error", "--single-transaction", "-d"]),
    };
    argv.push(conninfo(new).into());
    run::from_file(client(site, argv).await?, &record.path(tree), &site.cancel).await?;
    for (head, tail) in &database.after {
        ask(site, "postgres", &format!("{head}{}{tail}", ident(new))).await?;
    }
    let listed = match record.details["tables"].as_u64().filter(|_| plain) {
        Some(tables) => usize::try_from(tables)?,
        None => listed(site, &record.path(tree)).await?,
    };
    compare(site, listed, new).await?;
    let mut argv = words(["psql", "-X", "-w", "-q", "-v", "ON_ERROR_STOP=1", "-c", "ANALYZE", "-d"]);
    argv.push(conninfo(new).into());
    run::ask(client(site, argv).await?, &site.cancel).await.map(drop)
}

/// A dump of another program does not say how its database is made: as the one that lives.
async fn living(site: &Site, record: &Record) -> Result<Database> {
    let text = ask(site, "postgres", DATABASES).await.context("asking for the databases")?;
    let all: Vec<Database> = serde_json::from_str(text.trim()).context("reading the list of databases")?;
    let found = all.into_iter().find(|database| Some(&database.name) == record.database.as_ref());
    found.with_context(|| {
        format!(
            "{} was made elsewhere and does not say how its database is made, and there is none of its name: make it with its \
             owner and encoding first, empty",
            record.file
        )
    })
}

async fn create(site: &Site, database: &Database, new: &str) -> Result<()> {
    let Database { name: _, owner, encoding, collate, ctype, provider, locale, after: _ } = database;
    let mut sql = format!(
        "CREATE DATABASE {} TEMPLATE template0 {} ENCODING {} LC_COLLATE {} LC_CTYPE {}",
        ident(new),
        if owner.is_empty() { String::new() } else { format!("OWNER {}", ident(owner)) },
        literal(encoding),
        literal(collate),
        literal(ctype)
    );
    if let (Some("i"), Some(locale)) = (provider.as_deref(), locale) {
        sql.push_str(&format!(" LOCALE_PROVIDER icu ICU_LOCALE {}", literal(locale)));
    }
    ask(site, desk(&[]), &sql).await.context("creating a database").map(drop)
}

/// How many tables an archive lists.
async fn listed(site: &Site, archive: &Path) -> Result<usize> {
    let call = site.client(words(["pg_restore", "--list"]), &[]);
    let at = archive.to_owned();
    let file = tokio::task::spawn_blocking(move || crate::dump::record::open(&at)).await??;
    let list = run::ask(call.reading(file)?, &site.cancel).await?;
    let table = |line: &&str| {
        let mut words = line.split(' ').skip(3);
        words.next() == Some("TABLE") && words.next() != Some("DATA")
    };
    Ok(list.lines().filter(table).count())
}

/// Whether all tables came.
async fn compare(site: &Site, listed: usize, new: &str) -> Result<()> {
    let sql = "select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace \
        where c.relkind in ('r', 'p') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema' and not exists \
        (select 1 from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')";
    let loaded: usize = ask(site, new, sql).await?.trim().parse().context("counting the tables")?;
    ensure!(loaded >= listed, "{listed} tables are in the dump and {loaded} were loaded");
    Ok(())
}

/// The roles that the dump has and the server has not, and the statements that make them. Those that are there stay as
/// they are: their passwords may have changed since.
async fn missing_roles(
    site: &Site,
    tree: &Path,
    records: &[Record],
) -> Result<(BTreeSet<String>, Vec<String>)> {
    let Some(globals) = records.iter().find(|record| record.file.ends_with(&format!("/{GLOBALS}"))) else {
        return Ok((BTreeSet::new(), Vec::new()));
    };
    let path = globals.path(tree);
    let text = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut crate::dump::record::open(&path)?, &mut text)?;
        anyhow::Ok(text)
    });
    let text = text.await?.context("reading the saved roles")?;
    let present = ask(site, "postgres", "select coalesce(json_agg(rolname), '[]') from pg_roles").await?;
    let present: BTreeSet<String> =
        serde_json::from_str(present.trim()).context("reading the list of roles")?;
    let all = statements(&text);
    let made = all.iter().filter_map(|statement| match about(statement) {
        About::Make(role) if !present.contains(&role) => Some(role),
        _ => None,
    });
    let made: BTreeSet<String> = made.collect();
    let kept = all.into_iter().filter(|statement| match about(statement) {
        About::Make(role) | About::Role(role) => made.contains(&role),
        About::Member(role, member) => made.contains(&role) || made.contains(&member),
        About::Other => false,
    });
    Ok((made.clone(), kept.collect()))
}

/// All or none; by standard input, for there are passwords in it.
async fn make_roles(site: &Site, statements: &[String]) -> Result<()> {
    let argv = words([
        "psql",
        "-X",
        "-w",
        "-q",
        "-v",
        "ON_ERROR_STOP=1",
        "--single-transaction",
        "-d",
        "postgres",
        "-f",
        "-",
    ]);
    let call = site.question(argv, &environment(site).await?);
    let text: String = statements.iter().map(|statement| format!("{statement};\n")).collect();
    run::ask(call.told(&text), &site.cancel).await.map(drop)
}

/// Roles that own something by now stay.
pub(in crate::dump) async fn drop_roles(site: &Site, roles: &[String]) -> Result<()> {
    for role in roles {
        if let Err(failure) = ask(site, "postgres", &format!("DROP ROLE IF EXISTS {}", ident(role))).await {
            warn!("the role {role:?}, which a restore made, was left: {failure:#}");
        }
    }
    Ok(())
}
