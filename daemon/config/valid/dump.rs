//! A data source's table to a dump.

use std::collections::BTreeSet;

use toml::Spanned;

use super::super::raw::{RawDump, RawModule};
use super::super::value::{AbsolutePath, Database, FilePath, Reader, SourceWord, Table};
use crate::definition::{
    Address, Command, Container, Dump, Engine, Etcd, Mongo, Name, Openldap, Rabbit, Remote, Search, Server,
    Source, Tls,
};

/// A dump that has less than this part of the last good one, in percent, is worth a warning.
const SHRINK_LIMIT: u8 = 50;
/// Where Debian has slapd's configuration.
const CONFIG_DIR: &str = "/etc/ldap/slapd.d";
/// Where Debian has etcd's data.
const DATA_DIR: &str = "/var/lib/etcd/default";

/// Notes what does not fit together in the dumps of one table.
pub(super) fn check(raw: &RawModule, reader: &mut Reader<'_>) {
    let mut names = BTreeSet::new();
    for dump in raw.dump.iter().flat_map(|dumps| dumps.get_ref()) {
        let Some(source) = &dump.get_ref().source else {
            let help = "write source = \"postgresql\", \"mariadb\", \"mysql\", \"redis\", \"openldap\", \"etcd\", \
                \"rabbitmq\", \"opensearch\", \"elasticsearch\", \"mongodb\", \"sqlite\" or \"command\"";
            reader.error(&dump.span(), "a dump needs `source`", Some(help.into()));
            continue;
        };
        one(dump.get_ref(), *source.get_ref(), &source.span(), reader);
        let name = name_of(dump.get_ref(), *source.get_ref());
        if !names.insert(name.clone()) {
            let span = dump.get_ref().name.as_ref().map_or(source.span(), Spanned::span);
            let help = "give each its own: name = \"…\"";
            reader.error(&span, format!("two dumps are called {name:?}"), Some(help.into()));
        }
    }
}

fn one(dump: &RawDump, source: SourceWord, span: &std::ops::Range<usize>, reader: &mut Reader<'_>) {
    known_keys(dump, source, reader);
    contained(dump, source, reader);
    if dump.cert_file.is_some() != dump.key_file.is_some() {
        let help = "write both: the certificate and its key";
        reader.error(span, "`cert_file` and `key_file` belong together", Some(help.into()));
    }
    let choice = dump.databases.is_some() || dump.exclude.is_some();
    let files = dump.databases.as_ref().map(Spanned::get_ref);
    match source {
        SourceWord::Sqlite if files.is_none_or(Vec::is_empty) => {
            let help = "write databases = [\"state/app.db\"]";
            reader.error(
                span,
                "source = \"sqlite\" needs `databases`, the paths of its files",
                Some(help.into()),
            );
        }
        SourceWord::Sqlite => {
            for file in files.into_iter().flatten().filter(|file| !is_path(&file.get_ref().0)) {
                let message = format!("{:?} is not the path of a file", file.get_ref().0);
                let help = "write \"state/…\", \"volumes/NAME/…\" or an absolute path";
                reader.error(&file.span(), message, Some(help.into()));
            }
        }
        SourceWord::Opensearch | SourceWord::Elasticsearch if dump.snapshot_dir.is_none() => {
            let message = format!("source = {:?} needs `snapshot_dir`", source.word());
            let help =
                "write snapshot_dir = \"/DIR\", a directory that path.repo in the server's settings names";
            reader.error(span, message, Some(help.into()));
        }
        SourceWord::Opensearch | SourceWord::Elasticsearch
            if dump.api_key_file.is_some() && dump.user.is_some() =>
        {
            let help = "leave one of them out";
            reader.error(span, "both `api_key_file` and `user` say who logs in", Some(help.into()));
        }
        SourceWord::Mongodb if dump.oplog.as_ref().is_some_and(|oplog| *oplog.get_ref()) && choice => {
            let help = "leave out `oplog`, or `databases` and `exclude`";
            reader.error(span, "`oplog` is of the whole server, not of some databases", Some(help.into()));
        }
        SourceWord::Rabbitmq if told(&dump.messages) && dump.data_dir.is_none() => {
            let help = "write data_dir = \"/var/lib/rabbitmq/mnesia/rabbit@HOST\", the directory of the node; \
                `rabbitmqctl eval 'rabbit_mnesia:dir().'` shows it";
            reader.error(span, "`messages` needs `data_dir`", Some(help.into()));
        }
        SourceWord::Rabbitmq if !told(&dump.messages) => node_keys(dump, reader),
        SourceWord::Command if dump.command.is_none() => {
            let help = "write command = [\"program\", \"argument\"]: what it prints is the dump";
            reader.error(span, "source = \"command\" needs `command`", Some(help.into()));
        }
        _ => {}
    }
}

/// Keys that mean nothing to the source.
fn known_keys(dump: &RawDump, source: SourceWord, reader: &mut Reader<'_>) {
    let known = allowed(source);
    for (key, span) in dump.given().into_iter().filter(|(key, _)| !known.contains(key)) {
        let (message, help) = if key == "stream" {
            (
                format!("source = {:?} cannot be streamed", source.word()),
                "its dump is made as files, not printed by one program; leave it out: it is staged"
                    .to_owned(),
            )
        } else {
            (
                format!("`{key}` means nothing to source = {:?}", source.word()),
                format!("leave it out; known here: {}", known.join(", ")),
            )
        };
        reader.error(&span, message, Some(help));
    }
}

/// Keys that are about a node's own files.
fn node_keys(dump: &RawDump, reader: &mut Reader<'_>) {
    for (key, span) in
        dump.given().into_iter().filter(|(key, _)| ["data_dir", "client", "run_as"].contains(key))
    {
        let help = "write messages = true, or leave it out: definitions are read from the management API";
        reader.error(&span, format!("`{key}` of rabbitmq needs `messages`"), Some(help.into()));
    }
}

/// What cannot reach a client program in a container.
fn contained(dump: &RawDump, source: SourceWord, reader: &mut Reader<'_>) {
    const TLS: [&str; 3] = ["ca_file", "cert_file", "key_file"];
    const RABBITMQ: [&str; 8] =
        ["host", "port", "user", "password_file", "ca_file", "cert_file", "key_file", "messages"];
    if dump.container.is_none() {
        return;
    }
    let (keys, help): (&[&str], _) = match source {
        SourceWord::Rabbitmq => (&RABBITMQ, "leave it out: rabbitmqctl in the container needs no login"),
        SourceWord::Mongodb => {
            (&TLS, "leave it out: it is a file of this machine, and mongodump runs in the container")
        }
        _ => return,
    };
    for (key, span) in dump.given().into_iter().filter(|(key, _)| keys.contains(key)) {
        let message = format!("`{key}` means nothing to source = {:?} in a container", source.word());
        reader.error(&span, message, Some(help.into()));
    }
}

fn is_path(text: &str) -> bool {
    let rooted = text.starts_with('/')
        || text.strip_prefix("state/").is_some_and(|rest| !rest.is_empty())
        || text
            .strip_prefix("volumes/")
            .is_some_and(|rest| rest.split_once('/').is_some_and(|(_, p)| !p.is_empty()));
    rooted && !text.ends_with('/') && !text.split('/').any(|part| part == ".." || part == ".")
}

/// The keys of a table that mean something to its source.
fn allowed(source: SourceWord) -> Vec<&'static str> {
    const LOGIN: [&str; 4] = ["host", "port", "user", "password_file"];
    const TLS: [&str; 3] = ["ca_file", "cert_file", "key_file"];
    const CHOICE: [&str; 2] = ["databases", "exclude"];
    const CLIENT: [&str; 3] = ["socket", "container", "run_as"];
    const NODE: [&str; 4] = ["messages", "data_dir", "client", "run_as"];
    const INDEX: [&str; 4] = ["api_key_file", "snapshot_dir", "server_dir", "global_state"];
    let own: &[&[&'static str]] = match source {
        SourceWord::Postgresql | SourceWord::Mariadb | SourceWord::Mysql => {
            &[&CHOICE, &LOGIN, &CLIENT, &["ssh", "client", "stream"]]
        }
        SourceWord::Redis => &[&LOGIN, &CLIENT, &["ssh"]],
        SourceWord::Openldap => &[&CHOICE, &["config_dir", "container", "run_as", "ssh"]],
        SourceWord::Etcd => &[&LOGIN, &TLS, &["container", "data_dir", "ssh"]],
        SourceWord::Rabbitmq => &[&LOGIN, &TLS, &NODE, &["container", "ssh"]],
        SourceWord::Opensearch | SourceWord::Elasticsearch => {
            &[&CHOICE, &LOGIN, &TLS, &INDEX, &["ssh", "run_as"]]
        }
        SourceWord::Mongodb => {
            &[&CHOICE, &LOGIN, &TLS, &["auth_database", "container", "oplog", "run_as", "ssh"]]
        }
        SourceWord::Sqlite => &[&["databases", "ssh", "run_as"]],
        SourceWord::Command => &[&["command", "restore", "container", "ssh", "run_as", "stream"]],
    };
    let mut keys = vec!["source", "name", "shrink_limit"];
    keys.extend(own.iter().copied().flatten());
    keys
}

/// The dumps, in order. What is wrong in them was noted before; such a file is not used.
pub(super) fn dumps(
    raw: &[Spanned<RawDump>],
    engine: Engine,
    far: impl Fn(Option<&Address>) -> Option<Remote>,
) -> Vec<Dump> {
    raw.iter().filter_map(|dump| self::dump(dump.get_ref(), engine, &far)).collect()
}

fn dump(raw: &RawDump, engine: Engine, far: impl Fn(Option<&Address>) -> Option<Remote>) -> Option<Dump> {
    let word = *raw.source.as_ref()?.get_ref();
    Some(Dump {
        name: Name::parse(&name_of(raw, word)).ok()?,
        source: source_of(raw, word, server_of(raw))?,
        container: raw.container.as_ref().map(|name| container_of(&name.get_ref().0, engine)),
        remote: far(raw.ssh.as_ref().map(|address| &address.get_ref().0)),
        run_as: raw.run_as.as_ref().map(|user| user.get_ref().0.clone()),
        stream: told(&raw.stream),
        shrink_limit: raw.shrink_limit.as_ref().map_or(SHRINK_LIMIT, |limit| limit.get_ref().0),
    })
}

fn server_of(raw: &RawDump) -> Server {
    let tls = Tls { ca: file(&raw.ca_file), own: file(&raw.cert_file).zip(file(&raw.key_file)) };
    Server {
        host: raw.host.as_ref().map(|host| host.get_ref().0.clone()),
        port: raw.port.as_ref().map(|port| port.get_ref().0),
        socket: raw.socket.as_ref().map(|socket| socket.get_ref().0.clone()),
        user: raw.user.as_ref().map(|user| user.get_ref().0.clone()),
        password_file: file(&raw.password_file),
        databases: names(&raw.databases),
        exclude: names(&raw.exclude),
        tls: (tls != Tls::default()).then_some(tls),
        client: raw.client.as_ref().map(|dir| dir.get_ref().0.clone()),
    }
}

fn source_of(raw: &RawDump, word: SourceWord, server: Server) -> Option<Source> {
    Some(match word {
        SourceWord::Postgresql => Source::Postgresql(server),
        SourceWord::Mariadb => Source::Mariadb(server),
        SourceWord::Mysql => Source::Mysql(server),
        SourceWord::Redis => Source::Redis(server),
        SourceWord::Openldap => Source::Openldap(Openldap {
            config_dir: dir(&raw.config_dir, CONFIG_DIR),
            suffixes: server.databases,
            exclude: server.exclude,
        }),
        SourceWord::Etcd => Source::Etcd(Etcd { server, data_dir: dir(&raw.data_dir, DATA_DIR) }),
        SourceWord::Rabbitmq => {
            let data_dir = raw.data_dir.as_ref().map(|dir| dir.get_ref().0.clone());
            Source::Rabbitmq(Rabbit { server, data_dir: data_dir.filter(|_| told(&raw.messages)) })
        }
        SourceWord::Opensearch => Source::Opensearch(search_of(raw, server)?),
        SourceWord::Elasticsearch => Source::Elasticsearch(search_of(raw, server)?),
        SourceWord::Mongodb => Source::Mongodb(Mongo {
            server,
            auth_database: raw
                .auth_database
                .as_ref()
                .map_or_else(|| "admin".into(), |name| name.get_ref().0.clone()),
            oplog: told(&raw.oplog),
        }),
        SourceWord::Sqlite => Source::Sqlite(server.databases),
        SourceWord::Command => Source::Command(Command {
            dump: raw.command.as_ref()?.get_ref().0.clone(),
            restore: raw.restore.as_ref().map(|argv| argv.get_ref().0.clone()),
        }),
    })
}

fn search_of(raw: &RawDump, server: Server) -> Option<Search> {
    let snapshot_dir = raw.snapshot_dir.as_ref()?.get_ref().0.clone();
    Some(Search {
        server,
        api_key_file: file(&raw.api_key_file),
        server_dir: raw
            .server_dir
            .as_ref()
            .map_or_else(|| snapshot_dir.clone(), |dir| dir.get_ref().0.clone()),
        snapshot_dir,
        global_state: told(&raw.global_state),
    })
}

fn told(given: &Option<Spanned<bool>>) -> bool {
    given.as_ref().is_some_and(|given| *given.get_ref())
}

fn file(given: &Option<Spanned<FilePath>>) -> Option<std::path::PathBuf> {
    given.as_ref().map(|file| file.get_ref().0.clone())
}

fn dir(given: &Option<Spanned<AbsolutePath>>, default: &str) -> std::path::PathBuf {
    given.as_ref().map_or_else(|| default.into(), |dir| dir.get_ref().0.clone())
}

fn names(given: &Option<Spanned<Vec<Spanned<Database>>>>) -> Vec<String> {
    given.iter().flat_map(|names| names.get_ref()).map(|name| name.get_ref().0.clone()).collect()
}

fn name_of(raw: &RawDump, word: SourceWord) -> String {
    raw.name.as_ref().map_or_else(|| word.word().to_owned(), |name| name.get_ref().to_string())
}

fn container_of(text: &str, default: Engine) -> Container {
    let (engine, name) = match text.split_once(':') {
        Some(("podman", name)) => (Engine::Podman, name),
        Some(("docker", name)) => (Engine::Docker, name),
        _ => (default, text),
    };
    Container { engine, name: name.to_owned() }
}
