//! Data sources: how each is dumped, judged, loaded again, and put back when that was wrong.
//!
//! One file per engine with the same verbs. A dump is files below `dumps/NAME/` with a [`Record`] each. A restore goes in
//! steps, so that what must be undone can be written down before it is done: [`Site::plan_beside`] and
//! [`Site::load_beside`] put new data beside the live data, [`Site::plan_apply`] and [`Site::apply`] let it live,
//! [`Site::undo`] takes back either, [`Site::mirror`] says how an undoing is undone.
//!
//! Sources of facts: the engines' manuals, and what was measured with PostgreSQL 15, MariaDB 10.11, Redis 7.0.

mod bench;
mod change;
mod command;
mod container;
mod crc;
mod etcd;
mod far;
mod given;
mod http;
mod judge;
mod laid;
mod lies;
mod live;
mod login;
mod method;
mod mongodb;
mod mysql;
mod object;
mod openldap;
mod postgresql;
mod rabbitmq;
mod record;
mod redis;
mod run;
mod search;
mod shelf;
mod site;
mod sqlite;
mod version;
mod yard;

use std::path::Path;

use anyhow::{Result, bail};

use crate::definition::{Rabbit, Source};
use yard::Yard;

pub use change::{Change, Databases, Pair};
pub use container::own_name as container_name;
pub use given::{check_given, details_given, names_given};
pub use laid::{Laid, at_rest};
pub use method::method;
pub use object::{Object, Objects, missing};
pub use openldap::directories as openldap_directories;
pub use record::{Record, Stream, check, check_name, check_pg_archive, check_sql, foreign};
pub use site::{Site, sweep};
pub use sqlite::{companions, lay as lay_sqlite};
pub use yard::ABOVE as MADE_ABOVE;

/// Below a staged tree: directories that were made of dumps.
const MADE: &str = ".made";

/// What answered when a source was asked whether it can be dumped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ready {
    /// The server's version; empty: it has none.
    pub server: String,
    /// The client programs' version; empty: there are none.
    pub client: String,
}

/// What was dumped.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Taken {
    /// One for each file.
    pub records: Vec<Record>,
    /// What was noticed and is no failure.
    pub warnings: Vec<String>,
}

impl Site {
    /// Asks whether it can be restored: client programs, the server's answer, versions. Changes nothing.
    ///
    /// # Errors
    /// What is missing, does not answer, or does not fit.
    pub async fn answers(&self) -> Result<Ready> {
        match &self.dump.source {
            Source::Postgresql(_) => postgresql::answers(self).await,
            Source::Openldap(_) => openldap::answers(self).await,
            Source::Etcd(_) => etcd::answers(self).await,
            Source::Rabbitmq(rabbit) if rabbit.data_dir.is_some() => rabbitmq::messages::answers(self).await,
            Source::Sqlite(_) | Source::Command(_) => Ok(Ready::default()),
            _ => self.ready().await,
        }
    }

    /// Whether the server has a database of this name; only engines that can load under another one are asked.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn has_database(&self, name: &str) -> Result<bool> {
        match &self.dump.source {
            Source::Postgresql(_) => postgresql::has_database(self, name).await,
            Source::Mariadb(_) | Source::Mysql(_) => mysql::has_database(self, name).await,
            Source::Mongodb(mongo) => mongodb::has_database(self, mongo, name).await,
            _ => Ok(false),
        }
    }

    /// Asks whether it can be dumped: client programs, the server's answer, versions. Changes nothing.
    ///
    /// # Errors
    /// What is missing, does not answer, or does not fit.
    pub async fn ready(&self) -> Result<Ready> {
        match &self.dump.source {
            Source::Postgresql(server) => postgresql::ready(self, server).await,
            Source::Mariadb(_) | Source::Mysql(_) => mysql::ready(self).await,
            Source::Redis(_) => redis::ready(self).await,
            Source::Openldap(ldap) => openldap::ready(self, ldap).await,
            Source::Etcd(etcd) => etcd::ready(self, etcd).await,
            Source::Rabbitmq(rabbit) => rabbitmq::ready(self, rabbit).await,
            Source::Opensearch(search) | Source::Elasticsearch(search) => search::ready(self, search).await,
            Source::Mongodb(mongo) => mongodb::ready(self, mongo).await,
            Source::Sqlite(files) => sqlite::ready(self, files).await,
            Source::Command(command) => command::ready(self, command),
        }
    }

    /// What a dump makes on the server while it works, so that it can be written down first.
    pub fn plan_dump(&self) -> Option<Change> {
        let makes = match &self.dump.source {
            Source::Opensearch(_) | Source::Elasticsearch(_) => true,
            Source::Etcd(_) => self.foreign(),
            _ => false,
        };
        makes.then_some(Change::Leftovers)
    }

    /// What is to be streamed, each printed by a program of its own.
    ///
    /// # Errors
    /// The server does not answer; or the source's dump is no stream.
    pub async fn objects(&self) -> Result<Objects> {
        match &self.dump.source {
            Source::Postgresql(server) => postgresql::objects(self, server).await,
            Source::Mariadb(server) | Source::Mysql(server) => mysql::objects(self, server).await,
            Source::Command(command) => command::objects(self, command),
            other => bail!("source = {:?} cannot be streamed", other.word()),
        }
    }

    /// Dumps into `dir`, which exists, is empty and only ours, and judges what came.
    ///
    /// # Errors
    /// Anything that leaves a doubt whether the dump is whole.
    pub async fn dump(&self, dir: &Path) -> Result<Taken> {
        match &self.dump.source {
            Source::Postgresql(_) | Source::Mariadb(_) | Source::Mysql(_) | Source::Command(_) => {
                object::stage(self, self.objects().await?, dir).await
            }
            Source::Redis(_) => redis::dump(self, dir).await,
            Source::Openldap(ldap) => openldap::dump(self, ldap, dir).await,
            Source::Etcd(etcd) => etcd::dump(self, etcd, dir).await,
            Source::Rabbitmq(rabbit) => rabbitmq::dump(self, rabbit, dir).await,
            Source::Opensearch(search) | Source::Elasticsearch(search) => {
                search::dump(self, search, dir).await
            }
            Source::Mongodb(mongo) => mongodb::dump(self, mongo, dir).await,
            Source::Sqlite(files) => sqlite::dump(self, files, dir).await,
        }
    }

    /// Takes texts apart that hold several databases or were made elsewhere, and judges those that are to live under another
    /// name. `wanted` are the databases that were asked for, all by default; `lives` pairs names in the dump with those that
    /// they are to have. What is answered stands for `records` from now on.
    ///
    /// # Errors
    /// A text that is no whole dump, or holds what it must not.
    pub async fn prepare(
        &self,
        tree: &Path,
        records: Vec<Record>,
        wanted: &[String],
        lives: &[(String, String)],
    ) -> Result<Vec<Record>> {
        match &self.dump.source {
            Source::Postgresql(_) => postgresql::plain::prepare(self, tree, records, wanted).await,
            Source::Mariadb(_) | Source::Mysql(_) => mysql::prepare(self, tree, records, wanted, lives).await,
            _ => Ok(records),
        }
    }

    /// Reads saved files through to their end, besides what [`check`] compares. `tree` is where `dumps/` lies.
    ///
    /// # Errors
    /// A file that is no whole dump of this engine, or one that this server cannot take.
    pub async fn verify(&self, tree: &Path, records: &[Record]) -> Result<()> {
        match &self.dump.source {
            Source::Postgresql(_) => postgresql::verify(self, tree, records).await,
            Source::Mariadb(_) | Source::Mysql(_) => mysql::verify(tree, records).await,
            Source::Redis(_) => redis::verify(tree, records).await,
            Source::Openldap(_) => openldap::verify(tree, records).await,
            Source::Etcd(_) => etcd::verify(tree, records).await,
            Source::Rabbitmq(_) => rabbitmq::verify(tree, records).await,
            Source::Opensearch(_) | Source::Elasticsearch(_) => search::verify(tree, records).await,
            Source::Mongodb(_) => mongodb::verify(tree, records).await,
            Source::Sqlite(_) => sqlite::verify(tree, records).await,
            Source::Command(_) => Ok(()),
        }
    }

    /// What [`Site::load_beside`] will make, so that it can be written down first.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn plan_beside(&self, tree: &Path, records: &[Record], job: &str) -> Result<Vec<Change>> {
        match &self.dump.source {
            Source::Postgresql(_) => postgresql::restore::plan_beside(self, tree, records, job).await,
            Source::Mariadb(_) | Source::Mysql(_) => mysql::plan_accounts(self, tree, records).await,
            Source::Openldap(_) if self.foreign() => Ok(vec![Change::Leftovers]),
            _ => Ok(self.plan_dump().into_iter().collect()),
        }
    }

    /// Loads beside what lives, and looks whether it came whole. What takes the place of live directories while the
    /// server is stopped is answered.
    ///
    /// # Errors
    /// The server's words; what lives was not touched.
    pub async fn load_beside(&self, tree: &Path, records: &[Record], job: &str) -> Result<Vec<Laid>> {
        if let Some(yard) = Yard::open(self, job).await? {
            return self.load_there(tree, records, &yard).await;
        }
        let made = tree.join(MADE).join(self.dump.name.as_str());
        match &self.dump.source {
            Source::Postgresql(_) => {
                postgresql::restore::load_beside(self, tree, records, job).await?;
                Ok(Vec::new())
            }
            Source::Mariadb(_) | Source::Mysql(_) => {
                mysql::make_accounts(self, tree, records).await?;
                Ok(Vec::new())
            }
            Source::Openldap(ldap) => {
                run::private_dir(&made).await?;
                openldap::lay(self, ldap, tree, records, &made).await
            }
            Source::Etcd(etcd) => {
                run::private_dir(&made).await?;
                etcd::lay(self, etcd, tree, records, &made).await
            }
            Source::Rabbitmq(rabbit) => {
                run::private_dir(&made).await?;
                rabbitmq::lay(self, rabbit, tree, records, &made).await
            }
            Source::Opensearch(search) | Source::Elasticsearch(search) => {
                search::prove(self, search, tree, records).await.map(|()| Vec::new())
            }
            Source::Mongodb(mongo) => mongodb::fits(self, mongo, records).await.map(|()| Vec::new()),
            _ => Ok(Vec::new()),
        }
    }

    async fn load_there(&self, tree: &Path, records: &[Record], yard: &Yard<'_>) -> Result<Vec<Laid>> {
        match &self.dump.source {
            Source::Openldap(ldap) => openldap::lay_there(self, ldap, tree, records, yard).await,
            Source::Etcd(etcd) => etcd::lay_there(self, etcd, tree, records, yard).await,
            Source::Rabbitmq(rabbit) => rabbitmq::lay_there(self, rabbit, tree, records, yard).await,
            Source::Sqlite(_) => sqlite::lay_there(tree, records, yard).await,
            other => bail!("source = {:?} is not made on another machine", other.word()),
        }
    }

    /// What [`Site::apply`] will do, so that it can be written down first. Where the engine cannot swap, what lives is
    /// dumped into `safety`, a new directory of ours. None: there is nothing to be done here.
    ///
    /// # Errors
    /// The server's words; what lives was not touched.
    pub async fn plan_apply(
        &self,
        tree: &Path,
        records: &[Record],
        job: &str,
        safety: &Path,
    ) -> Result<Option<Change>> {
        match &self.dump.source {
            Source::Postgresql(_) => postgresql::swap::plan(self, records, job).await.map(Some),
            Source::Mariadb(_) | Source::Mysql(_) => mysql::plan_apply(self, records, safety).await.map(Some),
            Source::Redis(_) => self.safety(safety, Databases::default()).await.map(Some),
            Source::Rabbitmq(Rabbit { server, .. }) => {
                rabbitmq::plan_apply(self, server, tree, records, safety).await.map(Some)
            }
            Source::Opensearch(search) | Source::Elasticsearch(search) => {
                search::plan_apply(self, search, records, safety).await.map(Some)
            }
            Source::Mongodb(mongo) => mongodb::plan_apply(self, mongo, records, safety).await.map(Some),
            Source::Command(command) if command.restore.is_some() => {
                self.safety(safety, Databases::default()).await.map(Some)
            }
            Source::Openldap(_) | Source::Etcd(_) | Source::Sqlite(_) | Source::Command(_) => Ok(None),
        }
    }

    /// Lets the new data live.
    ///
    /// # Errors
    /// The server's words; then [`Site::undo`] of `change` is due.
    pub async fn apply(&self, change: &Change, tree: &Path, records: &[Record]) -> Result<()> {
        match (change, &self.dump.source) {
            (Change::Swapped { pairs }, _) => postgresql::swap::make_live(self, pairs, true).await,
            (Change::Reload { databases, .. }, Source::Mariadb(_) | Source::Mysql(_)) => {
                mysql::load(self, tree, records, &databases.made).await
            }
            _ => self.load(tree, records).await,
        }
    }

    /// Takes a change back, as far as it was done; safe to repeat.
    ///
    /// # Errors
    /// The server's words: then it is to be tried again.
    pub async fn undo(&self, change: &Change) -> Result<()> {
        match change {
            Change::DropDatabase { database } => postgresql::swap::drop_database(self, database, None).await,
            Change::DropRoles { roles } => match &self.dump.source {
                Source::Postgresql(_) => postgresql::restore::drop_roles(self, roles).await,
                _ => mysql::drop_accounts(self, roles).await,
            },
            Change::Swapped { pairs } => postgresql::swap::make_live(self, pairs, false).await,
            Change::Leftovers => self.clear().await,
            Change::Reload { dir, records, databases } => {
                self.verify(&dir.0, records).await?;
                self.remove(&databases.made).await?;
                if self.plan_dump().is_some() {
                    // Whoever is being loaded into them by a job that died ends with them.
                    self.remove(&databases.here).await?;
                }
                self.load(&dir.0, records).await
            }
        }
    }

    /// What undoes the undoing of a change: a rollback writes it down first. Where the engine cannot swap, what lives is
    /// dumped into `safety`.
    ///
    /// # Errors
    /// The server's words; nothing was changed.
    pub async fn mirror(&self, change: &Change, safety: &Path) -> Result<Change> {
        match change {
            Change::Swapped { pairs } => {
                Ok(Change::Swapped { pairs: pairs.iter().map(Pair::mirrored).collect() })
            }
            Change::Reload { databases, .. } => {
                let here = databases.here.iter().chain(&databases.made).cloned().collect();
                self.safety(safety, Databases { here, made: Vec::new() }).await
            }
            other => Ok(other.clone()),
        }
    }

    /// Removes what a change kept.
    ///
    /// # Errors
    /// The server's words.
    pub async fn discard(&self, change: &Change) -> Result<()> {
        let Change::Swapped { pairs } = change else { return Ok(()) };
        for pair in pairs.iter().filter(|pair| pair.old.is_some()) {
            postgresql::swap::drop_database(self, &pair.old_name, pair.old).await?;
        }
        Ok(())
    }
}
