//! Redis: its whole data as RDB, which it sends as it would to a replica.
//!
//! A restore starts a second server on the saved file and lets the one that lives replicate from it for a moment: it
//! takes all keys over at once, with or without append-only file, without being stopped and wherever its directory is.
//! Placing the file would do nothing where an append-only file is in use: that is loaded instead.

mod contained;
mod second;

use std::ffi::OsString;
use std::io::{BufReader, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use redis::{Client, Connection, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo};
use secrecy::{ExposeSecret, SecretString};
use tokio_util::sync::CancellationToken;

use self::second::{Attempts, Running};
use super::crc::{step, table};
use super::record::{self, Record};
use super::run::{self, Call};
use super::site::{Site, words};
use super::{Ready, Taken};
use crate::definition::Server;
use crate::process::{Program, Stdin};

/// The dump's file.
const FILE: &str = "dump.rdb";
/// How an RDB file begins.
const MAGIC: &[u8] = b"REDIS";
/// The byte before the checksum at its end.
const LAST: u8 = 0xff;
/// The checksum's polynomial (CRC-64 of Jones), reflected.
const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;

/// The length of what marks the end of a transfer, in bytes.
const MARK: u64 = 40;

const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(60);
/// How often the two servers are looked at.
const STEP: Duration = Duration::from_millis(50);

fn client(site: &Site, more: &[&str], long: bool) -> Call {
    let mut argv = words(["redis-cli", "--no-auth-warning"]);
    let mut env = Vec::new();
    if let Some(server) = site.dump.source.server() {
        let mut option = |name: &str, value: Option<OsString>| {
            argv.extend(value.map(|value| [OsString::from(name), value]).into_iter().flatten());
        };
        option("-h", server.host.clone().map(Into::into));
        option("-p", server.port.map(|port| port.to_string().into()));
        option("-s", server.socket.clone().map(Into::into));
        option("--user", server.user.clone().map(Into::into));
    }
    if let Some(password) = &site.login.password {
        env.push(("REDISCLI_AUTH", OsString::from(password.expose_secret())));
    }
    argv.extend(more.iter().map(OsString::from));
    if long { site.client(argv, &env) } else { site.question(argv, &env) }
}

/// A line `name:value` of what INFO answers.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

pub(super) async fn ready(site: &Site) -> Result<Ready> {
    let said = run::ask(client(site, &["--version"], false), &site.cancel).await;
    let said = said.context("`redis-cli` is needed (Debian: redis-tools)")?;
    let client_version = said.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let info = run::ask(client(site, &["INFO", "server"], false), &site.cancel).await;
    let info = info.context("asking the Redis server")?;
    // It exits with 0 when the server refuses to answer.
    let Some(version) = field(&info, "redis_version") else {
        bail!("asking the Redis server: {}", info.trim());
    };
    Ok(Ready { server: version.to_owned(), client: client_version })
}

pub(super) async fn dump(site: &Site, dir: &Path) -> Result<Taken> {
    let ready = ready(site).await?;
    let path = dir.join(FILE);
    run::into_file(client(site, &["--rdb", "-"], true), &path, &site.cancel).await?;
    let at = path.clone();
    tokio::task::spawn_blocking(move || trim(&at)).await??;
    read_through(&path).await?;
    let record = Record::of(&site.dump, &path).await?;
    let record = Record { version: ready.server, client_version: ready.client, ..record };
    Ok(Taken { records: vec![record], warnings: Vec::new() })
}

/// A server that sends without a file of its own ends with forty random hexadecimal digits, which `redis-cli` leaves where
/// it writes to standard output (measured with 7.0). No RDB file ends so: its last nine bytes begin with 0xff.
fn trim(path: &Path) -> Result<()> {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path)?;
    let Some(end) = file.metadata()?.len().checked_sub(MARK) else { return Ok(()) };
    let mut mark = [0; MARK as usize];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut mark, end)?;
    if mark.iter().all(u8::is_ascii_hexdigit) {
        file.set_len(end).context("cutting off the end of the transfer")?;
    }
    Ok(())
}

pub(super) async fn verify(tree: &Path, records: &[Record]) -> Result<()> {
    for record in records {
        read_through(&record.path(tree)).await?;
    }
    Ok(())
}

async fn read_through(path: &Path) -> Result<()> {
    let at = path.to_owned();
    tokio::task::spawn_blocking(move || check(&at).with_context(|| at.display().to_string())).await?
}

/// Magic, end and checksum; a checksum of 0 says that the server makes none.
fn check(path: &Path) -> Result<()> {
    let file = record::open(path)?;
    let size = file.metadata()?.len();
    ensure!(size > 18, "it is too short to be an RDB file");
    let mut file = BufReader::with_capacity(256 << 10, file);
    let mut head = [0; 5];
    file.read_exact(&mut head)?;
    ensure!(head == MAGIC, "it is no RDB file");
    let table = table(POLYNOMIAL);
    let mut sum = head.iter().fold(0, |sum, byte| step(&table, sum, *byte));
    let (mut last, mut left) = (0, size - 13);
    let mut buffer = vec![0; 256 << 10];
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        file.read_exact(&mut buffer[..wanted])?;
        sum = buffer[..wanted].iter().fold(sum, |sum, byte| step(&table, sum, *byte));
        last = buffer[wanted - 1];
        left -= wanted as u64;
    }
    let mut saved = [0; 8];
    file.read_exact(&mut saved)?;
    let saved = u64::from_le_bytes(saved);
    ensure!(last == LAST, "its end marker is missing: it was cut off");
    ensure!(saved == 0 || saved == sum, "its checksum is wrong: it was changed or cut off");
    Ok(())
}

/// Replaces all keys by those of the file.
pub(super) async fn load(site: &Site, server: &Server, tree: &Path, records: &[Record]) -> Result<()> {
    for record in records {
        let path = record.path(tree);
        read_through(&path).await?;
        let loaded = match site.apart() {
            true => contained::replicate(site, &path).await,
            false => replicate(site, server, &path).await,
        };
        loaded.with_context(|| format!("loading {}", record.file))?;
    }
    Ok(())
}

/// The second server: a port on the loopback that only its password opens.
struct Second {
    port: u16,
    password: SecretString,
}

async fn replicate(site: &Site, server: &Server, path: &Path) -> Result<()> {
    let mut attempts = Attempts::default();
    loop {
        let loaded = replicate_once(site, server, path).await;
        if !attempts.another(&loaded) {
            return loaded;
        }
    }
}

async fn replicate_once(site: &Site, server: &Server, path: &Path) -> Result<()> {
    let target = target(site, server)?;
    let second = Second { port: free_port()?, password: SecretString::from(random()?) };
    let runs = Running::start(second_server(site, path, &second)?, second.port, None, &site.cancel);
    let (gone, patience) = (runs.gone.clone(), site.place.instance.stall_timeout);
    let taken = tokio::task::spawn_blocking(move || take_over(&target, &second, patience, &gone)).await;
    runs.end(taken.context("a defect in the daemon").flatten()).await
}

fn second_server(site: &Site, path: &Path, second: &Second) -> Result<Program> {
    let dir = path.parent().context("a dump has no directory")?.to_string_lossy().into_owned();
    let name = path.file_name().context("a dump has no name")?.to_string_lossy().into_owned();
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let config = format!(
        "bind 127.0.0.1\nport {}\nrequirepass {}\ndir {}\ndbfilename {}\nsave \"\"\nappendonly no\ndaemonize no\n\
         repl-diskless-sync yes\nrepl-diskless-sync-delay 0\n",
        second.port,
        second.password.expose_secret(),
        quoted(&dir),
        quoted(&name),
    );
    let mut program = Program::new(["redis-server", "-"]);
    program.stdin = Stdin::Bytes(config.into_bytes());
    program.dir = Some(site.scratch().to_owned()).filter(|_| rustix::process::geteuid().is_root());
    Ok(program)
}

fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("looking for a free port")?;
    Ok(listener.local_addr()?.port())
}

fn random() -> Result<String> {
    let mut bytes = [0_u8; 32];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn target(site: &Site, server: &Server) -> Result<Client> {
    let address = match &server.socket {
        Some(socket) => ConnectionAddr::Unix(socket.clone()),
        None => {
            let host = server.host.clone().unwrap_or_else(|| "127.0.0.1".into());
            ConnectionAddr::Tcp(host, server.port.unwrap_or(6379))
        }
    };
    open(address, server.user.as_deref(), site.login.password.as_ref())
}

fn open(address: ConnectionAddr, user: Option<&str>, password: Option<&SecretString>) -> Result<Client> {
    let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some(password) = password {
        settings = settings.set_password(password.expose_secret());
    }
    if let Some(user) = user {
        settings = settings.set_username(user);
    }
    let info = address.into_connection_info().map_err(|e| refused(&e))?;
    Client::open(info.set_redis_settings(settings)).map_err(|e| refused(&e))
}

/// The server's own words; they never hold what we sent.
fn refused(error: &redis::RedisError) -> anyhow::Error {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => anyhow!("{code} {detail}"),
        _ => anyhow!("{error}"),
    }
}

fn connect(client: &Client) -> Result<Connection> {
    let connection = client.get_connection_with_timeout(CONNECT).map_err(|e| refused(&e))?;
    connection.set_read_timeout(Some(ANSWER)).map_err(|e| refused(&e))?;
    connection.set_write_timeout(Some(ANSWER)).map_err(|e| refused(&e))?;
    Ok(connection)
}

fn tell<T: redis::FromRedisValue>(server: &mut Connection, words: &[&str]) -> Result<T> {
    let mut command = redis::cmd(words.first().copied().unwrap_or_default());
    for word in words.iter().skip(1) {
        command.arg(*word);
    }
    command
        .query(server)
        .map_err(|e| refused(&e))
        .with_context(|| words.first().copied().unwrap_or_default().to_owned())
}

/// The server that lives becomes a replica of the second one, and is its own master again whatever comes of it.
fn take_over(target: &Client, second: &Second, patience: Duration, cancel: &CancellationToken) -> Result<()> {
    let mut live = connect(target).context("connecting to the Redis server")?;
    let role: String = tell(&mut live, &["INFO", "replication"])?;
    let ours = field(&role, "master_host") == Some("127.0.0.1") && field(&role, "role") == Some("slave");
    ensure!(
        field(&role, "role") == Some("master") || ours,
        "this Redis server is a replica; restore its master instead"
    );
    let address = ConnectionAddr::Tcp("127.0.0.1".into(), second.port);
    let saved = open(address, None, Some(&second.password))?;
    let mut saved =
        loaded(&saved, patience, cancel).context("loading the saved file into a second Redis server")?;
    let before: Vec<String> = tell(&mut live, &["CONFIG", "GET", "masterauth"])?;
    let user: Vec<String> = tell(&mut live, &["CONFIG", "GET", "masteruser"])?;
    let result = follow(&mut live, &mut saved, second, patience, cancel);
    let alone = tell::<()>(&mut live, &["REPLICAOF", "NO", "ONE"]);
    for (key, value) in [("masterauth", before), ("masteruser", user)] {
        let value = value.get(1).map_or("", String::as_str);
        tell::<()>(&mut live, &["CONFIG", "SET", key, value])?;
    }
    result?;
    alone
}

/// Waits until the second server has loaded its file.
fn loaded(client: &Client, patience: Duration, cancel: &CancellationToken) -> Result<Connection> {
    wait("it does not answer", patience, cancel, || {
        let Ok(mut connection) = connect(client) else { return Ok(None) };
        match tell::<String>(&mut connection, &["INFO", "persistence"]) {
            Ok(info) if field(&info, "loading") == Some("0") => Ok(Some(connection)),
            _ => Ok(None),
        }
    })
}

fn follow(
    live: &mut Connection,
    saved: &mut Connection,
    second: &Second,
    patience: Duration,
    cancel: &CancellationToken,
) -> Result<()> {
    tell::<()>(live, &["CONFIG", "SET", "masteruser", ""])?;
    tell::<()>(live, &["CONFIG", "SET", "masterauth", second.password.expose_secret()])?;
    tell::<()>(live, &["REPLICAOF", "127.0.0.1", &second.port.to_string()])?;
    wait("the server did not take the keys over", patience, cancel, || {
        let Ok(info) = tell::<String>(live, &["INFO", "replication"]) else { return Ok(None) };
        let linked = field(&info, "master_link_status") == Some("up")
            && field(&info, "master_sync_in_progress") == Some("0");
        if !linked {
            return Ok(None);
        }
        let (here, there) = (keys(live)?, keys(saved)?);
        Ok((here == there).then_some(()))
    })
}

/// How many keys each database has.
fn keys(server: &mut Connection) -> Result<Vec<(String, String)>> {
    let info: String = tell(server, &["INFO", "keyspace"])?;
    Ok(counted(&info))
}

fn counted(info: &str) -> Vec<(String, String)> {
    let databases = info.lines().filter_map(|line| line.strip_prefix("db")?.split_once(":keys="));
    databases
        .map(|(db, rest)| (db.to_owned(), rest.split(',').next().unwrap_or_default().to_owned()))
        .collect()
}

fn wait<T>(
    what: &str,
    patience: Duration,
    cancel: &CancellationToken,
    mut ready: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = ready()? {
            return Ok(found);
        }
        ensure!(!cancel.is_cancelled(), "it was cancelled");
        ensure!(Instant::now() < end, "{what} for {patience:?}");
        std::thread::sleep(STEP);
    }
}
