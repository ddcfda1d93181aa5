//! A data source as a table.

use std::path::PathBuf;

use toml_edit::Value;

use super::{list, path, table};
use crate::definition::{Command, Dump, Remote, Server, Source, Tls};

/// The table that would define it.
pub(super) fn dump(dump: &Dump) -> Value {
    let Dump { name, source, container, remote, run_as, stream, shrink_limit } = dump;
    let none = Server::default();
    let server = source.server().unwrap_or(&none);
    let Server { host, port, socket, user, password_file, databases, exclude, tls, client } = server;
    let (databases, exclude) = match source {
        Source::Sqlite(files) => (files, exclude),
        Source::Openldap(ldap) => (&ldap.suffixes, &ldap.exclude),
        _ => (databases, exclude),
    };
    let Tls { ca, own } = tls.clone().unwrap_or_default();
    let (cert, key) = own.unzip();
    let file = |file: &Option<PathBuf>| file.as_deref().map(|file| path(file).into());
    let (config_dir, data_dir) = dirs(source);
    let (command, restore) = match source {
        Source::Command(Command { dump, restore }) => (Some(list(dump)), restore.as_ref().map(list)),
        _ => (None, None),
    };
    let search = match source {
        Source::Opensearch(search) | Source::Elasticsearch(search) => Some(search),
        _ => None,
    };
    let mongo = match source {
        Source::Mongodb(mongo) => Some(mongo),
        _ => None,
    };
    let messages = matches!(source, Source::Rabbitmq(rabbit) if rabbit.data_dir.is_some());
    let some = |list_of: &Vec<String>| (!list_of.is_empty()).then(|| list(list_of));
    table([
        ("source", Some(source.word().into())),
        ("name", Some(name.as_str().into())),
        ("databases", some(databases)),
        ("exclude", some(exclude)),
        ("host", host.as_deref().map(Value::from)),
        ("port", port.map(|port| i64::from(port).into())),
        ("socket", socket.as_deref().map(|socket| path(socket).into())),
        ("user", user.as_deref().map(Value::from)),
        ("password_file", file(password_file)),
        ("api_key_file", search.and_then(|search| file(&search.api_key_file))),
        ("auth_database", mongo.map(|mongo| mongo.auth_database.as_str().into())),
        ("ca_file", file(&ca)),
        ("cert_file", file(&cert)),
        ("key_file", file(&key)),
        ("config_dir", config_dir),
        ("messages", messages.then(|| true.into())),
        ("data_dir", data_dir),
        ("snapshot_dir", search.map(|search| path(&search.snapshot_dir).into())),
        ("server_dir", search.map(|search| path(&search.server_dir).into())),
        ("global_state", search.map(|search| search.global_state.into())),
        ("oplog", mongo.map(|mongo| mongo.oplog.into())),
        ("container", container.as_ref().map(|c| format!("{}:{}", c.engine.word(), c.name).into())),
        ("ssh", remote.as_ref().map(|remote| address(remote).into())),
        ("client", client.as_deref().map(|dir| path(dir).into())),
        ("run_as", run_as.as_deref().map(Value::from)),
        ("command", command),
        ("restore", restore),
        ("stream", stream.then(|| true.into())),
        ("shrink_limit", Some(format!("{shrink_limit}%").into())),
    ])
}

/// `config_dir` and `data_dir`.
fn dirs(source: &Source) -> (Option<Value>, Option<Value>) {
    match source {
        Source::Openldap(ldap) => (Some(path(&ldap.config_dir).into()), None),
        Source::Etcd(etcd) => (None, Some(path(&etcd.data_dir).into())),
        Source::Rabbitmq(rabbit) => (None, rabbit.data_dir.as_deref().map(|dir| path(dir).into())),
        _ => (None, None),
    }
}

/// A machine as it is written.
pub(super) fn address(remote: &Remote) -> String {
    let host = if remote.host.contains(':') { format!("[{}]", remote.host) } else { remote.host.clone() };
    let user = remote.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
    let port = remote.port.map(|port| format!(":{port}")).unwrap_or_default();
    format!("{user}{host}{port}")
}
