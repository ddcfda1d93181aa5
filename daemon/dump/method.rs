//! What a plan says of each source.

use super::Record;
use super::rabbitmq::messages;
use crate::definition::Source;

/// How a restore of a source's file goes about it, for plans.
pub fn method(source: &Source, record: &Record) -> &'static str {
    match source {
        Source::Mariadb(_) | Source::Mysql(_) if record.database.is_none() && record.details.is_null() => {
            "accounts that the server does not have are made, with their rights; those that it has stay as they are"
        }
        Source::Postgresql(_) if record.database.is_none() && record.details.is_null() => {
            "roles that the server does not have are made; those that it has stay as they are"
        }
        Source::Postgresql(_) => {
            "loaded into a new database, which then takes the name; applications are disconnected, the old one is kept"
        }
        Source::Mariadb(_) | Source::Mysql(_) => {
            "what lives is dumped first; then its databases are replaced, and loaded back on failure"
        }
        Source::Redis(_) => {
            "what lives is dumped; then all keys are replaced at once, and loaded back on failure"
        }
        Source::Openldap(_) => {
            "loaded into new directories, which are swapped in while slapd is stopped; the old ones are kept"
        }
        Source::Etcd(_) => {
            "made into a new data directory, which is swapped in while etcd is stopped; the old one is kept"
        }
        Source::Rabbitmq(_) if messages::is_data(record) => {
            "made into a new data directory, which is swapped in while the node is stopped; the old one is kept"
        }
        Source::Rabbitmq(_) => {
            "the definitions that live are saved; then the dump's are added to them or replace them, nothing is removed"
        }
        Source::Opensearch(_) | Source::Elasticsearch(_) => {
            "loaded beside what lives, to prove it; then what lives is dumped and its indices are replaced, and loaded back \
             on failure"
        }
        Source::Mongodb(_) if record.database.is_none() && record.details["oplog"] != true => {
            "not loaded: the users of another server would lock everybody out; get the file with target"
        }
        Source::Mongodb(_) => {
            "what lives is dumped first; then its collections are replaced, and loaded back on failure"
        }
        Source::Sqlite(_) => "the file is swapped, with its -wal, -shm and -journal; the old one is kept",
        Source::Command(command) if command.restore.is_some() => {
            "what lives is dumped; then the restore program reads the dump, and the old one on failure"
        }
        Source::Command(_) => "not loaded: the definition names no restore program",
    }
}
