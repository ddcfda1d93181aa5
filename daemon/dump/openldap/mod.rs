//! OpenLDAP: its configuration and each database as LDIF, which `slapcat` writes while slapd runs.
//!
//! `slapadd` writes into directories of its own; those take the place of the live ones while slapd is stopped. So a
//! database whose entries do not load never replaces one that lives.

mod ldif;
mod there;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::bench::Bench;
use super::far;
use super::laid::{Laid, Owner};
use super::record::{self, Record, file_name};
use super::run::{self, Call};
use super::site::{Site, words};
use super::{Ready, Taken};
use crate::definition::Openldap;
use crate::process;
use ldif::Database;
pub(super) use there::lay as lay_there;

/// The configuration's file.
const CONFIG: &str = "config.ldif";

/// Whose directory it was, and where it lay.
#[derive(Debug, Serialize, Deserialize)]
struct Details {
    directory: PathBuf,
    owner: Owner,
}

impl Details {
    async fn of(site: &Site, directory: &Path) -> Result<serde_json::Value> {
        let owner = match site.dump.remote {
            Some(_) => far::owner(site, directory).await?,
            None => site.lies(directory).await?.owner()?,
        };
        let details = Self { directory: directory.to_owned(), owner };
        Ok(serde_json::to_value(details)?)
    }

    fn read(record: &Record) -> Result<Self> {
        let read = serde_json::from_value(record.details.clone());
        read.with_context(|| format!("the manifest does not say where {} lay", record.file))
    }
}

/// Writes one database of a configuration as LDIF.
fn slapcat(site: &Site, config_dir: &Path, number: u32) -> Call {
    let mut argv = words(["slapcat", "-o", "ldif-wrap=no", "-n"]);
    argv.extend([number.to_string().into(), "-F".into(), config_dir.into()]);
    site.client(argv, &[])
}

/// Reads LDIF into a directory of ours, as ourselves: nobody else can enter it.
async fn slapadd(site: &Site, bench: &Bench<'_>, config_dir: &Path, number: u32, file: &Path) -> Result<()> {
    let mut argv: Vec<OsString> = words(["slapadd", "-q", "-n"]);
    argv.extend([number.to_string().into(), "-F".into(), bench.seen(config_dir).into()]);
    argv.extend(["-l".into(), bench.seen(file).into()]);
    run::ask(bench.call(argv, &[]), &site.cancel).await.map(drop)
}

/// What `slapd -VV` says of itself, on standard error.
async fn version(site: &Site) -> Result<String> {
    let mut call = site.question(["slapd", "-VV"], &[]);
    if site.runs().is_err() {
        call = Bench::new(site, []).question(words(["slapd", "-VV"]), &[], false);
    }
    let ended = process::capture(call.program, &site.cancel, 64 << 10).await;
    let ended = ended.context("`slapd`, `slapcat` and `slapadd` are needed (Debian: slapd)")?.ended;
    run::arrived(site.dump.remote.as_ref(), &ended)?;
    let said = ended.stderr_tail.split_once("slapd ").map_or("", |(_, rest)| rest);
    Ok(said.split_whitespace().next().unwrap_or_default().to_owned())
}

pub(super) async fn answers(site: &Site) -> Result<Ready> {
    let version = version(site).await?;
    Ok(Ready { server: version.clone(), client: version })
}

pub(super) async fn ready(site: &Site, ldap: &Openldap) -> Result<Ready> {
    site.runs()?;
    let ready = answers(site).await?;
    let config = run::ask(slapcat(site, &ldap.config_dir, 0), &site.cancel).await;
    let config =
        config.with_context(|| format!("reading the configuration in {}", ldap.config_dir.display()))?;
    site.lies(&ldap.config_dir).await?;
    for database in wanted(ldap, ldif::databases(&config)?)? {
        site.lies(&database.directory).await.with_context(|| format!("database {:?}", database.suffix))?;
    }
    Ok(ready)
}

/// Where the databases of a configuration lie, as `slapcat -o ldif-wrap=no` writes it.
///
/// # Errors
/// It is no such configuration.
pub fn directories(config: &str) -> Result<Vec<PathBuf>> {
    Ok(ldif::databases(config)?.into_iter().map(|database| database.directory).collect())
}

/// The databases that are to be dumped.
fn wanted(ldap: &Openldap, all: Vec<Database>) -> Result<Vec<Database>> {
    if let Some(missing) = ldap.suffixes.iter().find(|name| !all.iter().any(|d| d.suffix == **name)) {
        let there: Vec<&str> = all.iter().map(|database| &*database.suffix).collect();
        bail!("there is no database {missing:?} on the server; there are {}", there.join(", "));
    }
    let asked = |name: &String| ldap.suffixes.is_empty() || ldap.suffixes.contains(name);
    Ok(all.into_iter().filter(|d| asked(&d.suffix) && !ldap.exclude.contains(&d.suffix)).collect())
}

pub(super) async fn dump(site: &Site, ldap: &Openldap, dir: &Path) -> Result<Taken> {
    let version = version(site).await?;
    let path = dir.join(CONFIG);
    run::into_file(slapcat(site, &ldap.config_dir, 0), &path, &site.cancel).await?;
    let config = read(&path).await?;
    let mut taken = Taken { records: vec![one(site, &path, &ldap.config_dir).await?], warnings: Vec::new() };
    for database in wanted(ldap, ldif::databases(&config)?)? {
        let path = dir.join(file_name(&database.suffix, "ldif"));
        let dumping = || format!("database {:?}", database.suffix);
        let call = slapcat(site, &ldap.config_dir, database.number);
        run::into_file(call, &path, &site.cancel).await.with_context(dumping)?;
        if entries(&path).await? == 0 {
            tokio::fs::remove_file(&path).await.context("removing an empty dump")?;
            taken
                .warnings
                .push(format!("the database {:?} has no entries and is not in the dump", database.suffix));
            continue;
        }
        let record = one(site, &path, &database.directory).await.with_context(dumping)?;
        taken.records.push(Record { database: Some(database.suffix), ..record });
    }
    for record in &mut taken.records {
        (record.version, record.client_version) = (version.clone(), version.clone());
    }
    Ok(taken)
}

async fn one(site: &Site, path: &Path, lies: &Path) -> Result<Record> {
    entries(path).await?;
    let record = Record::of(&site.dump, path).await?;
    Ok(Record { details: Details::of(site, lies).await?, ..record })
}

async fn entries(path: &Path) -> Result<u64> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || ldif::entries(&path)).await?
}

async fn read(path: &Path) -> Result<String> {
    let path = path.to_owned();
    let read = move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut record::open(&path)?, &mut text)?;
        anyhow::Ok(text)
    };
    tokio::task::spawn_blocking(read).await?.context("reading the saved configuration")
}

pub(super) async fn verify(tree: &Path, records: &[Record]) -> Result<()> {
    for record in records {
        entries(&record.path(tree)).await?;
    }
    Ok(())
}

/// Makes directories that hold what the files say, in `made`. Nothing live is touched.
pub(super) async fn lay(
    site: &Site,
    ldap: &Openldap,
    tree: &Path,
    records: &[Record],
    made: &Path,
) -> Result<Vec<Laid>> {
    let dumps = tree.join("dumps").join(site.name());
    let bench = Bench::new(site, [made, &*dumps]);
    bench.clear().await?;
    let laid = lay_on(site, &bench, ldap, tree, records, made).await;
    if laid.is_err() || site.foreign() {
        bench.clear().await?;
    }
    laid
}

/// The configuration that was saved; where none was, the live one.
async fn configuration(site: &Site, ldap: &Openldap, tree: &Path, saved: Option<&Record>) -> Result<String> {
    match saved {
        Some(record) => read(&record.path(tree)).await,
        None => run::ask(slapcat(site, &ldap.config_dir, 0), &site.cancel)
            .await
            .context("reading the live configuration"),
    }
}

async fn lay_on(
    site: &Site,
    bench: &Bench<'_>,
    ldap: &Openldap,
    tree: &Path,
    records: &[Record],
    made: &Path,
) -> Result<Vec<Laid>> {
    let saved = records.iter().find(|record| record.database.is_none());
    let config = configuration(site, ldap, tree, saved).await?;
    let databases = ldif::databases(&config)?;
    let there = |database: &Database| made.join(format!("db-{}", database.number));
    // While slapadd runs all databases lie here: it writes to every directory that the configuration names.
    for database in &databases {
        run::private_dir(&there(database)).await?;
    }
    let to = |from: &Path| databases.iter().find(|d| d.directory == from).map(|d| bench.seen(&there(d)));
    let (config_dir, text) = (made.join("config"), made.join(CONFIG));
    run::private_dir(&config_dir).await?;
    tokio::fs::write(&text, ldif::moved(&config, to)?).await.context("writing the configuration")?;
    bench.send().await?;
    slapadd(site, bench, &config_dir, 0, &text)
        .await
        .context("loading the configuration beside the live one")?;
    let mut loaded = Vec::new();
    for record in records.iter().filter(|record| record.database.is_some()) {
        let suffix = record.database.as_deref().unwrap_or_default();
        let Some(database) = databases.iter().find(|database| database.suffix == suffix) else {
            bail!("the configuration knows no database {suffix:?}, which {} is of", record.file);
        };
        load(site, bench, &config_dir, database, &record.path(tree))
            .await
            .with_context(|| format!("loading {}", record.file))?;
        loaded.push((record, database));
    }
    bench.fetch(made).await?;
    let mut all = Vec::new();
    for (record, database) in loaded {
        let live = site.lies(&database.directory).await?;
        let rests = vec![live.path.clone()];
        all.push(live.laid(there(database), rests, &Details::read(record)?.owner)?);
    }
    if let Some(record) = saved {
        let of = |from: &Path| databases.iter().find(|d| bench.seen(&there(d)) == from);
        put_directories(&config_dir, |from| of(from).map(|d| d.directory.clone()))?;
        let mut rests = Vec::new();
        for database in &databases {
            rests.push(site.lies(&database.directory).await?.path);
        }
        let live = site.lies(&ldap.config_dir).await?;
        all.push(live.laid(config_dir, rests, &Details::read(record)?.owner)?);
    }
    Ok(all)
}

/// Loads a database and counts whether all of it came.
async fn load(
    site: &Site,
    bench: &Bench<'_>,
    config_dir: &Path,
    database: &Database,
    file: &Path,
) -> Result<()> {
    slapadd(site, bench, config_dir, database.number, file).await?;
    let mut argv = words(["slapcat", "-o", "ldif-wrap=no", "-n"]);
    argv.extend([database.number.to_string().into(), "-F".into(), bench.seen(config_dir).into()]);
    let check = config_dir.with_file_name("check.ldif");
    run::into_file(bench.call(argv, &[]), &check, &site.cancel).await?;
    let (saved, loaded) = (entries(file).await?, entries(&check).await?);
    tokio::fs::remove_file(&check).await.context("removing what was only for a check")?;
    ensure!(saved == loaded, "{saved} entries are in the dump and {loaded} were loaded");
    Ok(())
}

/// Lets a configuration that was loaded here name the places where its databases will live.
fn put_directories(config_dir: &Path, to: impl Fn(&Path) -> Option<PathBuf>) -> Result<()> {
    let files = std::fs::read_dir(config_dir.join("cn=config")).context("slapadd left no configuration")?;
    for file in files {
        let path = file?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with("olcDatabase=") || !name.ends_with(".ldif") {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        if text.contains("\nolcDbDirectory:") {
            let text = ldif::moved_file(&text, &to).with_context(|| name.clone())?;
            std::fs::write(&path, text).with_context(|| format!("writing {name}"))?;
        }
    }
    Ok(())
}
