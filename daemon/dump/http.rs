//! Servers that are asked over HTTP, by `curl`: it is told what to ask and with which password on its standard input. On
//! another machine curl runs there, and what is sent along follows on its standard input.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result, bail};
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;

use super::record;
use super::run::{self, Call};
use super::site::{Site, words};
use crate::definition::{Server, Tls};
use crate::process::{self, Captured, Stdin};

/// The most that an answer may hold, in bytes.
const ANSWER: usize = 64 << 20;

/// Gives curl the first `$1` bytes to read what to ask, and leaves the rest as what is sent along. `dd` takes one byte at a
/// time, so none of the rest.
const SPLIT: &str =
    r#"c=$(dd bs=1 count="$1" 2>/dev/null) && shift && exec 3<&0 && printf '%s\n' "$c" | "$@""#;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    /// GET, POST, PUT, DELETE.
    pub(super) method: &'a str,
    /// Behind the server's address; begins with a slash.
    pub(super) path: &'a str,
    /// What is sent along.
    pub(super) body: Body<'a>,
}

/// JSON that is sent along.
#[derive(Debug, Clone, Copy)]
pub(super) enum Body<'a> {
    None,
    File(&'a Path),
    Text(&'a str),
}

impl<'a> Ask<'a> {
    pub(super) fn get(path: &'a str) -> Self {
        Self { method: "GET", path, body: Body::None }
    }
}

/// A value of curl's configuration.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\r', "\\r");
    format!("\"{escaped}\"")
}

/// A part of a path: every byte other than letters, digits, `-`, `_` and `.` as `%` and two hex digits.
pub(super) fn part(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte {
            b if b.is_ascii_alphanumeric() || b"-_.".contains(&b) => text.push(char::from(b)),
            b => text.push_str(&format!("%{b:02X}")),
        }
    }
    text
}

/// The call of curl; its answer goes to standard output.
pub(super) fn call(site: &Site, server: &Server, port: u16, ask: Ask<'_>) -> Result<Call> {
    let Ask { method, path, body } = ask;
    let scheme = if server.tls.is_some() { "https" } else { "http" };
    let host = server.host.as_deref().unwrap_or("127.0.0.1");
    let url = format!("{scheme}://{host}:{}{path}", server.port.unwrap_or(port));
    let mut lines = vec![("url", quoted(&url)), ("request", quoted(method))];
    if let Some(user) = &server.user {
        let password = site.login.password.as_ref().map_or("", |word| word.expose_secret());
        lines.push(("user", quoted(&format!("{user}:{password}"))));
    }
    let file = |path: &Path| path.to_str().map(quoted).context("a file's name is not UTF-8");
    if let Some(key) = &site.login.api_key {
        lines.push(("header", quoted(&format!("Authorization: ApiKey {}", key.expose_secret()))));
    }
    let sent = match body {
        Body::None => None,
        Body::File(_) if site.dump.remote.is_some() => Some("@/dev/fd/3".to_owned()),
        Body::File(path) => Some(format!("@{}", path.to_str().context("a file's name is not UTF-8")?)),
        Body::Text(text) => Some(text.to_owned()),
    };
    if let Some(sent) = sent {
        lines.push(("header", quoted("Content-Type: application/json")));
        lines.push(("data-binary", quoted(&sent)));
    }
    let Tls { ca, own } = server.tls.clone().unwrap_or_default();
    if let Some(ca) = ca {
        lines.push(("cacert", file(&ca)?));
    }
    if let Some((cert, key)) = own {
        lines.extend([("cert", file(&cert)?), ("key", file(&key)?)]);
    }
    let config: String = lines.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
    let argv = words([
        "curl",
        "-q",
        "--silent",
        "--show-error",
        "--fail-with-body",
        "--globoff",
        "--connect-timeout",
    ]);
    let argv = argv.into_iter().chain(words(["15", "--noproxy", "*", "--config", "-"]));
    let file = match body {
        Body::File(path) => Some(path),
        _ => None,
    };
    if site.dump.remote.is_some() {
        return there(site, argv.collect(), config, file);
    }
    let mut call = site.ours(argv.collect());
    call.program.stdin = Stdin::Bytes(config.into_bytes());
    Ok(call)
}

/// curl on another machine.
fn there(site: &Site, argv: Vec<OsString>, config: String, file: Option<&Path>) -> Result<Call> {
    let Some(file) = file else { return Ok(site.client(argv, &[]).told(&config)) };
    let head = words(["sh", "-c", SPLIT, "sh"]).into_iter().chain([config.len().to_string().into()]);
    let mut call = site.client(head.chain(argv), &[]).that_reads();
    call.name = "curl".to_owned();
    call.program.stdin = Stdin::File(run::fed(config.into_bytes(), record::open(file)?)?);
    Ok(call)
}

/// Asks, and takes the answer; what the server says of a failure is in the error.
pub(super) async fn ask(site: &Site, server: &Server, port: u16, ask: Ask<'_>) -> Result<String> {
    ask_until(site, server, port, ask, &site.cancel).await
}

/// Likewise; only `cancel` ends it before its time.
pub(super) async fn ask_until(
    site: &Site,
    server: &Server,
    port: u16,
    ask: Ask<'_>,
    cancel: &CancellationToken,
) -> Result<String> {
    let about = format!("{} {}", ask.method, ask.path);
    let call = call(site, server, port, ask)?;
    let Captured { stdout, ended } = process::capture(call.program, cancel, ANSWER).await?;
    run::arrived(call.far.as_ref(), &ended)?;
    let said = String::from_utf8(stdout).context("an answer that is not UTF-8")?;
    if let Err(failure) = run::judge(&call.name, &ended) {
        let said: String = said.trim().chars().take(600).collect();
        bail!("{about}: {failure}{}{said}", if said.is_empty() { "" } else { ": " });
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_one_part_of_a_path_and_values_one_line() {
        assert_eq!(part("/a b%"), "%2Fa%20b%25");
        assert_eq!(quoted("a\"b\\c\nurl"), "\"a\\\"b\\\\c\\nurl\"");
    }
}
