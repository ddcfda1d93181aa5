//! A dump: one data source of an instance, exported before each snapshot and loaded again by a restore.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Name, Remote};

/// A data source as defined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dump {
    /// Its name, one of a kind in its instance: it lies at `dumps/NAME` in the tree.
    pub name: Name,
    /// What is dumped, and how it is reached.
    pub source: Source,
    /// The container that the server runs in; none: it is reached from here.
    pub container: Option<Container>,
    /// The machine that its client programs run on; none: this one.
    pub remote: Option<Remote>,
    /// The user of that machine that client programs run as; none: the instance's.
    pub run_as: Option<String>,
    /// It goes into the repositories while it comes, and is never staged.
    pub stream: bool,
    /// Warn when a dump has less than this percentage of the last good one's size; 0: never.
    pub shrink_limit: u8,
}

/// What is dumped, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// Databases of a PostgreSQL server, and its roles.
    Postgresql(Server),
    /// Databases of a MariaDB server.
    Mariadb(Server),
    /// Databases of a MySQL server.
    Mysql(Server),
    /// All keys of a Redis server.
    Redis(Server),
    /// The configuration and the databases of an OpenLDAP server.
    Openldap(Openldap),
    /// All keys of an etcd server.
    Etcd(Etcd),
    /// A RabbitMQ server: its definitions, or a stopped node with its messages.
    Rabbitmq(Rabbit),
    /// Indices of an OpenSearch server, by its snapshots.
    Opensearch(Search),
    /// Indices of an Elasticsearch server, by its snapshots.
    Elasticsearch(Search),
    /// Databases of a MongoDB server.
    Mongodb(Mongo),
    /// Files of SQLite: `state/…`, `volumes/NAME/…`, or absolute.
    Sqlite(Vec<String>),
    /// Whatever a program prints.
    Command(Command),
}

/// A server and what of it is dumped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its host; none: a socket of this machine.
    pub host: Option<String>,
    /// Its port; none: the usual one.
    pub port: Option<u16>,
    /// Its socket: for PostgreSQL the directory, else the file.
    pub socket: Option<PathBuf>,
    /// The user that logs in.
    pub user: Option<String>,
    /// The file with that user's password.
    pub password_file: Option<PathBuf>,
    /// The databases; empty: all.
    pub databases: Vec<String>,
    /// Databases that are left out of all.
    pub exclude: Vec<String>,
    /// How it is reached over TLS; none: in the clear.
    pub tls: Option<Tls>,
    /// The directory that client programs lie in; none: they are found on PATH.
    pub client: Option<PathBuf>,
}

/// Files for a connection over TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// The authorities that the server's certificate is checked against.
    pub ca: Option<PathBuf>,
    /// Our own certificate and its key.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// An OpenLDAP server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Openldap {
    /// Where its configuration lies.
    pub config_dir: PathBuf,
    /// The suffixes of the databases; empty: all.
    pub suffixes: Vec<String>,
    /// Suffixes that are left out of all.
    pub exclude: Vec<String>,
}

/// An etcd server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Etcd {
    /// How it is reached.
    pub server: Server,
    /// Where its data lies: a restore swaps it.
    pub data_dir: PathBuf,
}

/// A RabbitMQ server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rabbit {
    /// Its management API, which definitions are read from.
    pub server: Server,
    /// Where its node's data lies, which is saved with all messages while the node is stopped; none: just its definitions
    /// are saved.
    pub data_dir: Option<PathBuf>,
}

/// An OpenSearch or Elasticsearch server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Search {
    /// How it is reached; its databases are indices, and may hold `*`.
    pub server: Server,
    /// A file with a key for its API, in place of a user.
    pub api_key_file: Option<PathBuf>,
    /// A directory where the server may write snapshots, as we see it.
    pub snapshot_dir: PathBuf,
    /// The same directory as the server sees it.
    pub server_dir: PathBuf,
    /// Whether settings and templates of the whole cluster are saved and restored too.
    pub global_state: bool,
}

/// A MongoDB server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mongo {
    /// How it is reached.
    pub server: Server,
    /// The database that knows the user.
    pub auth_database: String,
    /// Whether the whole server is dumped as it was at one moment; only members of a replica set can.
    pub oplog: bool,
}

/// A program whose standard output is the dump, and one that takes it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Prints the dump, argv.
    pub dump: Vec<String>,
    /// Reads it from standard input, argv; none: a restore leaves the dump to be loaded by hand.
    pub restore: Option<Vec<String>>,
}

/// A container by name, id or label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Who runs it.
    pub engine: Engine,
    /// Its name or id; or `label:KEY=VALUE`, which one container has.
    pub name: String,
}

/// Who runs containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Engine {
    /// Docker.
    Docker,
    /// Podman, as the user that client programs run as.
    Podman,
}

impl Engine {
    /// Its program.
    pub fn word(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }
}

impl Source {
    /// Its word in a definition and in manifests.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Postgresql(_) => "postgresql",
            Self::Mariadb(_) => "mariadb",
            Self::Mysql(_) => "mysql",
            Self::Redis(_) => "redis",
            Self::Openldap(_) => "openldap",
            Self::Etcd(_) => "etcd",
            Self::Rabbitmq(_) => "rabbitmq",
            Self::Opensearch(_) => "opensearch",
            Self::Elasticsearch(_) => "elasticsearch",
            Self::Mongodb(_) => "mongodb",
            Self::Sqlite(_) => "sqlite",
            Self::Command(_) => "command",
        }
    }

    /// Whether its data is files that change places while its server is stopped.
    pub fn is_files(&self) -> bool {
        match self {
            Self::Openldap(_) | Self::Etcd(_) | Self::Sqlite(_) => true,
            Self::Rabbitmq(rabbit) => rabbit.data_dir.is_some(),
            _ => false,
        }
    }

    /// The server, where there is one.
    pub fn server(&self) -> Option<&Server> {
        match self {
            Self::Postgresql(server) | Self::Mariadb(server) | Self::Mysql(server) | Self::Redis(server) => {
                Some(server)
            }
            Self::Rabbitmq(rabbit) => Some(&rabbit.server),
            Self::Etcd(etcd) => Some(&etcd.server),
            Self::Opensearch(search) | Self::Elasticsearch(search) => Some(&search.server),
            Self::Mongodb(mongo) => Some(&mongo.server),
            Self::Openldap(_) | Self::Sqlite(_) | Self::Command(_) => None,
        }
    }
}
