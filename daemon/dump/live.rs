//! What lives in a server: replaced by files, removed, cleared away, or dumped to be loaded back.

use std::path::Path;

use anyhow::Result;

use super::bench::Bench;
use super::change::{Change, Databases};
use super::record::Record;
use super::site::Site;
use super::{command, mongodb, mysql, rabbitmq, redis, run, search};
use crate::definition::Source;
use crate::state::durable;
use crate::target::TreePath;

impl Site {
    /// Replaces what lives by what the files hold.
    pub(super) async fn load(&self, tree: &Path, records: &[Record]) -> Result<()> {
        match &self.dump.source {
            Source::Mariadb(_) | Source::Mysql(_) => mysql::load(self, tree, records, &[]).await,
            Source::Redis(server) => redis::load(self, server, tree, records).await,
            Source::Rabbitmq(rabbit) => rabbitmq::load(self, &rabbit.server, tree, records).await,
            Source::Opensearch(search) | Source::Elasticsearch(search) => {
                search::load(self, search, tree, records).await
            }
            Source::Mongodb(mongo) => mongodb::load(self, mongo, tree, records).await,
            Source::Command(command) => command::load(self, command, tree, records).await,
            Source::Postgresql(_) | Source::Openldap(_) | Source::Etcd(_) | Source::Sqlite(_) => Ok(()),
        }
    }

    /// Removes what a restore made and what was not there before.
    pub(super) async fn remove(&self, made: &[String]) -> Result<()> {
        match &self.dump.source {
            Source::Rabbitmq(rabbit) => return rabbitmq::remove(self, &rabbit.server, made).await,
            Source::Opensearch(search) | Source::Elasticsearch(search) => {
                return search::remove(self, search, made).await;
            }
            _ => {}
        }
        for database in made {
            match &self.dump.source {
                Source::Mongodb(mongo) => mongodb::drop_database(self, mongo, database).await?,
                _ => mysql::drop_database(self, database).await?,
            }
        }
        Ok(())
    }

    /// Removes what a dump or a restore made on the server, or in its engine, to work with.
    pub(super) async fn clear(&self) -> Result<()> {
        match &self.dump.source {
            Source::Opensearch(search) | Source::Elasticsearch(search) => search::clear(self, search).await,
            Source::Openldap(_) | Source::Etcd(_) => Bench::new(self, []).clear().await,
            _ => Ok(()),
        }
    }

    /// Dumps what lives now, to be loaded back if need be.
    pub(super) async fn safety(&self, safety: &Path, databases: Databases) -> Result<Change> {
        let dir = safety.join("dumps").join(self.dump.name.as_str());
        run::private_dir(&dir).await?;
        let taken = match &self.dump.source {
            Source::Mariadb(_) | Source::Mysql(_) => mysql::dump_only(self, &databases.here, &dir).await?,
            Source::Opensearch(search) | Source::Elasticsearch(search) => {
                search::dump_only(self, search, &databases.here, &dir).await?
            }
            Source::Mongodb(mongo) if !mongo.oplog => {
                mongodb::dump_only(self, mongo, &databases.here, &dir).await?
            }
            _ => self.dump(&dir).await?,
        };
        // What lives is removed next: from then on this is all that is left of it.
        tokio::task::spawn_blocking(move || durable::settle(&dir)).await??;
        Ok(Change::Reload { dir: TreePath(safety.to_owned()), records: taken.records, databases })
    }
}
