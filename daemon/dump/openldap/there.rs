//! OpenLDAP on another machine: its own `slapadd` makes the new directories there.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::ldif::{self, Database};
use super::{CONFIG, Details, configuration, entries};
use crate::definition::Openldap;
use crate::dump::laid::Laid;
use crate::dump::record::Record;
use crate::dump::run;
use crate::dump::site::{Site, words};
use crate::dump::yard::Yard;

/// The files of a configuration that say where a database lies, each after its name.
const FILES: &str = "cd -- \"$1\" && for f in olcDatabase=*.ldif; do ! grep -q '^olcDbDirectory:' \"$f\" || echo \"$f\"; done";

/// Makes directories there that hold what the files say. Nothing live is touched.
pub(in crate::dump) async fn lay(
    site: &Site,
    ldap: &Openldap,
    tree: &Path,
    records: &[Record],
    yard: &Yard<'_>,
) -> Result<Vec<Laid>> {
    let saved = records.iter().find(|record| record.database.is_none());
    let config = configuration(site, ldap, tree, saved).await?;
    let databases = ldif::databases(&config)?;
    let work = Work { site, yard, config_dir: yard.at("config"), databases };
    work.begin(&config).await?;
    let mut all = Vec::new();
    for record in records.iter().filter(|record| record.database.is_some()) {
        all.push(work.database(tree, record).await.with_context(|| format!("loading {}", record.file))?);
    }
    if let Some(record) = saved {
        work.put_directories().await?;
        let (live, made) = (ldap.config_dir.clone(), work.config_dir.clone());
        let owner = yard.give(&made, &live, &Details::read(record)?.owner).await?;
        all.push(Laid { live, made, rests: Vec::new(), within: false, owner });
    }
    Ok(all)
}

/// A configuration that is being made, and its databases.
struct Work<'w> {
    site: &'w Site,
    yard: &'w Yard<'w>,
    config_dir: PathBuf,
    databases: Vec<Database>,
}

impl Work<'_> {
    /// Where a database is made.
    fn made(&self, database: &Database) -> PathBuf {
        self.yard.at(&format!("db-{}", database.number))
    }

    /// Loads the configuration, with all databases in directories of ours: slapadd writes to every one that it names.
    async fn begin(&self, config: &str) -> Result<()> {
        for database in &self.databases {
            self.yard.make(&self.made(database)).await?;
        }
        self.yard.make(&self.config_dir).await?;
        let to = |from: &Path| self.databases.iter().find(|d| d.directory == from).map(|d| self.made(d));
        let text = self.yard.at(CONFIG);
        self.yard.write(&ldif::moved(config, to)?, &text).await?;
        self.slapadd(0, &text).await.context("loading the configuration beside the live one")
    }

    async fn slapadd(&self, number: u32, file: &Path) -> Result<()> {
        let mut argv = words(["slapadd", "-q", "-n"]);
        argv.extend([number.to_string().into(), "-F".into(), self.config_dir.clone().into()]);
        argv.extend(["-l".into(), OsString::from(file)]);
        self.yard.ask(argv, &[]).await.map(drop)
    }

    /// Loads a database and counts whether all of it came.
    async fn database(&self, tree: &Path, record: &Record) -> Result<Laid> {
        let suffix = record.database.as_deref().unwrap_or_default();
        let Some(database) = self.databases.iter().find(|database| database.suffix == suffix) else {
            bail!("the configuration knows no database {suffix:?}");
        };
        let file = record.path(tree);
        let there = self.yard.put(&file, &format!("{}.ldif", database.number)).await?;
        self.slapadd(database.number, &there).await?;
        let mut argv = words(["slapcat", "-o", "ldif-wrap=no", "-n"]);
        argv.extend([database.number.to_string().into(), "-F".into(), self.config_dir.clone().into()]);
        let check = self.site.scratch().join("check.ldif");
        run::into_file(self.yard.call(argv, &[]), &check, &self.site.cancel).await?;
        let (saved, loaded) = (entries(&file).await?, entries(&check).await?);
        tokio::fs::remove_file(&check).await.context("removing what was only for a check")?;
        ensure!(saved == loaded, "{saved} entries are in the dump and {loaded} were loaded");
        let (live, made) = (database.directory.clone(), self.made(database));
        let owner = self.yard.give(&made, &live, &Details::read(record)?.owner).await?;
        Ok(Laid { live, made, rests: Vec::new(), within: false, owner })
    }

    /// Lets the new configuration name the places where its databases will live.
    async fn put_directories(&self) -> Result<()> {
        let dir = self.config_dir.join("cn=config");
        let mut argv = words(["sh", "-c", FILES, "sh"]);
        argv.push(dir.clone().into());
        let names = self.yard.ask(argv, &[]).await.context("slapadd left no configuration there")?;
        let to =
            |from: &Path| self.databases.iter().find(|d| self.made(d) == from).map(|d| d.directory.clone());
        for name in names.lines() {
            let path = dir.join(name);
            let text = self.yard.ask(vec!["cat".into(), "--".into(), path.clone().into()], &[]).await?;
            let text = ldif::moved_file(&text, to).with_context(|| name.to_owned())?;
            self.yard.write(&text, &path).await?;
        }
        Ok(())
    }
}
