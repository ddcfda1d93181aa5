//! Making us forget: values by prefix, and that a repository's list of sets was read.

use anyhow::Result;
use rusqlite::params;

use super::Database;

impl Database {
    /// Removes the values whose keys begin so.
    ///
    /// # Errors
    /// The database's; then they all stand.
    pub async fn remove_meta(&self, prefix: &str) -> Result<()> {
        let prefix = prefix.to_owned();
        self.ask("removing values", move |connection| {
            let sql = "DELETE FROM meta WHERE substr(key, 1, length(?1)) = ?1";
            connection.prepare_cached(sql)?.execute(params![prefix]).map(drop)
        })
        .await
    }

    /// Forgets which slot of a schedule was decided last: it counts anew.
    ///
    /// # Errors
    /// The database's.
    pub async fn forget_decided(&self, key: &str) -> Result<()> {
        let key = key.to_owned();
        self.ask("forgetting a slot", move |connection| {
            connection.prepare_cached("DELETE FROM slot WHERE key = ?1")?.execute(params![key]).map(drop)
        })
        .await
    }

    /// Forgets that a repository's own list of sets was read, so that it is read again at its next use: a job that died
    /// may have stored a set that it could not remember.
    ///
    /// # Errors
    /// The database's.
    pub async fn forget_sync(&self, repository: &str, location: &str) -> Result<()> {
        let (repository, location) = (repository.to_owned(), location.to_owned());
        self.ask("forgetting that sets were read", move |connection| {
            let sql = "DELETE FROM synced WHERE repository = ?1 AND location = ?2";
            connection.prepare_cached(sql)?.execute(params![repository, location]).map(drop)
        })
        .await
    }
}
