//! `redis-dump KEY` and `redis-restore KEY`: what NS8's modules find on their hooks' search path.
//!
//! The program `holdfast` called under one of these names (by a link). `redis-dump` writes to standard output one line
//! and then the server's DUMP payload as it is:
//!
//! ```text
//! holdfast-redis-key 1 ttl=MILLISECONDS     -1: for ever; the remaining time when it was dumped
//! holdfast-redis-key 1 absent               the key did not exist; nothing follows
//! ```
//!
//! `redis-restore` reads that, and also a bare payload as NS8's own program writes it. An existing key is replaced, also
//! its time to live. What was absent when it was dumped stays as it is now: nothing is removed, a line on standard error
//! says so, the exit code is 0. Empty input is an error: a dump that failed leaves an empty file.
//!
//! The server: `REDIS_URL` (`redis://`, `unix://`), else `REDIS_ADDRESS` (`host:port` or the path of a socket) with
//! `REDIS_USER` and `REDIS_PASSWORD`, else 127.0.0.1:6379. Passwords are only ever read from the environment.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use redis::{Client, Connection, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};

const MAGIC: &[u8] = b"holdfast-redis-key ";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The most time between two pieces of an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// The longest header line, in bytes.
const MAX_HEADER: usize = 100;

/// Runs as `redis-dump` or `redis-restore` if that is the name we were called by; `None`: we were not.
pub fn called_as(arguments: &[OsString]) -> Option<ExitCode> {
    let (program, arguments) = arguments.split_first()?;
    let name = Path::new(program).file_name()?.to_str()?;
    let done = match (name, arguments) {
        ("redis-dump", [key]) => dump(key, &std::env::vars_os().collect::<Vec<_>>(), &mut std::io::stdout()),
        ("redis-restore", [key]) => restore_here(key, None),
        ("redis-restore", [key, ttl]) => restore_here(key, Some(ttl)),
        ("redis-dump", _) => return Some(usage("usage: redis-dump KEY > FILE")),
        ("redis-restore", _) => return Some(usage("usage: redis-restore KEY [MILLISECONDS] < FILE")),
        _ => return None,
    };
    Some(done.map_or_else(
        |error| {
            complain(&format!("{name}: {error:#}"));
            ExitCode::from(1)
        },
        |()| ExitCode::SUCCESS,
    ))
}

fn restore_here(key: &OsStr, ttl: Option<&OsString>) -> Result<()> {
    let ttl = ttl.map(|ttl| milliseconds(ttl)).transpose()?;
    let environment: Vec<_> = std::env::vars_os().collect();
    if restore(key, ttl, &environment, &mut std::io::stdin())? == Restored::WasAbsent {
        complain(&format!(
            "redis-restore: key {key:?} did not exist when it was dumped; nothing was changed"
        ));
    }
    Ok(())
}

fn milliseconds(text: &OsStr) -> Result<u64> {
    let number = text.to_str().and_then(|text| text.parse().ok());
    number.ok_or_else(|| anyhow!("{text:?} is no number of milliseconds (0: for ever)"))
}

fn usage(text: &str) -> ExitCode {
    complain(text);
    ExitCode::from(2)
}

fn complain(text: &str) {
    // Standard error may be closed; there is nobody left to tell then.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// What [`restore`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored {
    /// The key is as it was dumped.
    Key,
    /// The key did not exist when it was dumped, and is left as it is.
    WasAbsent,
}

/// Writes a key's dump: header and payload, or the header that says that it is absent.
///
/// # Errors
/// The server is not reachable or refuses; nothing was written then. The output cannot be written.
pub fn dump(key: &OsStr, environment: &[(OsString, OsString)], out: &mut dyn Write) -> Result<()> {
    let mut server = connect(environment)?;
    let mut both = redis::pipe();
    both.atomic().cmd("DUMP").arg(key.as_bytes()).cmd("PTTL").arg(key.as_bytes());
    let (payload, ttl): (Option<Vec<u8>>, i64) =
        both.query(&mut server).map_err(|e| refused(&e)).with_context(|| format!("dumping key {key:?}"))?;
    let header = match payload {
        Some(_) => format!("ttl={}\n", ttl.max(-1)),
        None => "absent\n".to_owned(),
    };
    let mut text = [MAGIC, b"1 ", header.as_bytes()].concat();
    text.extend(payload.unwrap_or_default());
    out.write_all(&text).and_then(|()| out.flush()).context("writing the dump")
}

/// Puts a key back from what [`dump`] wrote, or from a bare payload. A time to live that is given (0: for ever) wins over
/// the one that was dumped.
///
/// # Errors
/// Input that is no dump, a server that is not reachable or refuses; the key is as it was.
pub fn restore(
    key: &OsStr,
    ttl: Option<u64>,
    environment: &[(OsString, OsString)],
    input: &mut dyn Read,
) -> Result<Restored> {
    let mut text = Vec::new();
    input.read_to_end(&mut text).context("reading the dump from standard input")?;
    let Dump::Key { ttl: dumped, payload } = parse(&text)? else { return Ok(Restored::WasAbsent) };
    let mut server = connect(environment)?;
    let mut command = redis::cmd("RESTORE");
    command.arg(key.as_bytes()).arg(ttl.unwrap_or(dumped)).arg(payload).arg("REPLACE");
    let answer: redis::RedisResult<()> = command.query(&mut server);
    answer.map_err(|e| refused(&e)).with_context(|| format!("restoring key {key:?}"))?;
    Ok(Restored::Key)
}

#[derive(Debug, PartialEq, Eq)]
enum Dump<'a> {
    Key { ttl: u64, payload: &'a [u8] },
    Absent,
}

fn parse(text: &[u8]) -> Result<Dump<'_>> {
    if text.is_empty() {
        bail!(
            "the input is empty: the dump failed or was cut off (the dump of a missing key says so and is not empty)"
        );
    }
    let Some(rest) = text.strip_prefix(MAGIC) else {
        return Ok(Dump::Key { ttl: 0, payload: text });
    };
    let end = rest.iter().take(MAX_HEADER).position(|b| *b == b'\n');
    let end = end.ok_or_else(|| anyhow!("the input has a damaged header line"))?;
    let payload = &rest[end + 1..];
    match std::str::from_utf8(&rest[..end]).unwrap_or_default().split_once(' ') {
        Some(("1", "absent")) if payload.is_empty() => Ok(Dump::Absent),
        Some(("1", header)) if header.starts_with("ttl=") && !payload.is_empty() => {
            let ttl: i64 = header[4..].parse().context("the input has a damaged time to live")?;
            // 0 means "for ever" to RESTORE; a key in its last millisecond must not live on.
            Ok(Dump::Key { ttl: if ttl < 0 { 0 } else { ttl.unsigned_abs().max(1) }, payload })
        }
        Some((version, _)) if version != "1" && version.bytes().all(|b| b.is_ascii_digit()) => {
            bail!("the input was written by a newer Holdfast (format {version}); install that one")
        }
        _ => bail!("the input is damaged or cut off"),
    }
}

fn connect(environment: &[(OsString, OsString)]) -> Result<Connection> {
    let (info, shown) = server(environment)?;
    let failed = || format!("connecting to the Redis server at {shown}");
    let client = Client::open(info).map_err(|e| refused(&e)).with_context(failed)?;
    let server =
        client.get_connection_with_timeout(CONNECT_TIMEOUT).map_err(|e| refused(&e)).with_context(failed)?;
    server
        .set_read_timeout(Some(ANSWER_TIMEOUT))
        .and(server.set_write_timeout(Some(ANSWER_TIMEOUT)))
        .with_context(failed)?;
    Ok(server)
}

/// Where the server is, and how it may be shown.
fn server(environment: &[(OsString, OsString)]) -> Result<(ConnectionInfo, String)> {
    let get = |name: &str| {
        let value = environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        value.filter(|value| !value.is_empty())
    };
    let text = |name: &str| -> Result<Option<String>> {
        get(name).map(|v| v.into_string().map_err(|_| anyhow!("{name} is not UTF-8"))).transpose()
    };
    if let Some(url) = text("REDIS_URL")? {
        // The parser's own message could hold the URL, and that the password.
        let info = url.into_connection_info().map_err(|_| {
            anyhow!("REDIS_URL is not understood; write redis://USER:PASSWORD@HOST:PORT/DB or unix:///PATH")
        })?;
        let shown = info.addr().to_string();
        let settings = info.redis_settings().clone().set_skip_set_lib_name();
        return Ok((info.set_redis_settings(settings), shown));
    }
    let address = text("REDIS_ADDRESS")?.unwrap_or_else(|| "127.0.0.1:6379".to_owned());
    let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some(password) = text("REDIS_PASSWORD")? {
        settings = settings.set_password(password);
        if let Some(user) = text("REDIS_USER")? {
            settings = settings.set_username(user);
        }
    }
    let info = place(&address)?.into_connection_info().map_err(|e| refused(&e))?;
    Ok((info.set_redis_settings(settings), address))
}

fn place(address: &str) -> Result<ConnectionAddr> {
    if address.starts_with('/') {
        return Ok(ConnectionAddr::Unix(address.into()));
    }
    let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) =
        parts.ok_or_else(|| anyhow!("REDIS_ADDRESS {address:?} is neither host:port nor a socket's path"))?;
    Ok(ConnectionAddr::Tcp(host.trim_matches(['[', ']']).to_owned(), port))
}

/// The server's own words; they never hold what we sent.
fn refused(error: &redis::RedisError) -> anyhow::Error {
    let words = match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    };
    let hint = match error.code() {
        _ if error.kind() == redis::ErrorKind::AuthenticationFailed || error.code() == Some("NOAUTH") => {
            "; set REDIS_USER and REDIS_PASSWORD, or REDIS_URL"
        }
        Some("NOPERM") => "; this Redis user needs the commands MULTI, EXEC, DUMP, PTTL, RESTORE on this key",
        _ if words.contains("payload version or checksum") => {
            "; the dump is damaged, or comes from a newer Redis than this server"
        }
        _ => "",
    };
    anyhow!("{words}{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(k, v)| (k.into(), v.into())).collect()
    }

    #[test]
    fn an_empty_file_an_absent_key_and_a_bare_payload_are_told_apart() {
        assert!(parse(b"").unwrap_err().to_string().contains("empty"));
        assert_eq!(parse(b"holdfast-redis-key 1 absent\n").unwrap(), Dump::Absent);
        assert_eq!(parse(b"\0\x01a\x0b\0").unwrap(), Dump::Key { ttl: 0, payload: b"\0\x01a\x0b\0" });
        assert_eq!(
            parse(b"holdfast-redis-key 1 ttl=-1\nX\n").unwrap(),
            Dump::Key { ttl: 0, payload: b"X\n" }
        );
        assert_eq!(parse(b"holdfast-redis-key 1 ttl=0\nX").unwrap(), Dump::Key { ttl: 1, payload: b"X" });
    }

    #[test]
    fn damaged_input_is_refused() {
        for bad in [
            "holdfast-redis-key 1 ttl=-1\n",
            "holdfast-redis-key 1 ttl=x\nX",
            "holdfast-redis-key ",
            "holdfast-redis-key 1 absent\nX",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?} was taken");
        }
        assert!(parse(b"holdfast-redis-key 2 x\nX").unwrap_err().to_string().contains("newer"));
    }

    #[test]
    fn the_server_comes_from_the_environment_and_its_password_is_never_shown() {
        let (info, shown) = server(&environment(&[])).unwrap();
        assert_eq!((info.addr().to_string().as_str(), shown.as_str()), ("127.0.0.1:6379", "127.0.0.1:6379"));
        let ns8 = [
            ("REDIS_ADDRESS", "10.5.4.1:6379"),
            ("REDIS_USER", "module/mail1"),
            ("REDIS_PASSWORD", "canary"),
        ];
        let (info, shown) = server(&environment(&ns8)).unwrap();
        assert_eq!(info.redis_settings().username(), Some("module/mail1"));
        assert_eq!(info.redis_settings().password(), Some("canary"));
        assert_eq!(shown, "10.5.4.1:6379");
        let (info, shown) =
            server(&environment(&[("REDIS_URL", "redis://u:canary@h:7/3"), ("REDIS_ADDRESS", "x:1")]))
                .unwrap();
        assert_eq!((info.addr().to_string().as_str(), info.redis_settings().db()), ("h:7", 3));
        assert!(!shown.contains("canary"));
        for bad in
            [("REDIS_URL", "canary://u:canary@h"), ("REDIS_ADDRESS", "nowhere"), ("REDIS_ADDRESS", "h:99999")]
        {
            let error = format!("{:#}", server(&environment(&[bad])).unwrap_err());
            assert!(error.contains(bad.0) && !error.contains("canary"), "{error}");
        }
    }
}
