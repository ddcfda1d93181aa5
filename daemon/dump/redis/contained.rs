//! Loading into a server in a container or on another machine: the second server runs beside it, in the same place, and both
//! are spoken to through `redis-cli` there. Needs `redis-server`, `sh`, `cat`, `kill` and `rm` in that place.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::second::{Attempts, Running};
use super::{Second, client, counted, field, random};
use crate::dump::run::{self, Call};
use crate::dump::site::Site;

/// How often the two servers are looked at.
const STEP: Duration = Duration::from_millis(100);
/// Takes the saved file in; `$1` is a directory of our own.
const PUT: &str = r#"umask 077 && mkdir -- "$1" && cat >"$1/dump.rdb""#;
/// Ends the second server and removes the directory. Ending what runs the server from outside would not end it. A directory
/// of somebody else names no server of ours.
const CLEAR: &str = r#"[ -e "$1" ] || [ -L "$1" ] || exit 0
[ -O "$1" ] && [ ! -L "$1" ] || { echo "$1 is of somebody else" >&2; exit 1; }
[ ! -e "$1/pid" ] || kill -9 "$(cat "$1/pid")" 2>/dev/null; rm -rf -- "$1""#;

/// Replaces all keys by those of the file.
pub(super) async fn replicate(site: &Site, path: &Path) -> Result<()> {
    let dir = directory(site);
    clear(site, &dir).await.context("clearing what an earlier job left there")?;
    let loaded = load(site, &dir, path).await;
    let cleared = clear(site, &dir).await.context("ending the second Redis server");
    loaded.and(cleared)
}

/// Always the same, so that what a job left that died is found by it, and no other daemon's.
fn directory(site: &Site) -> String {
    let mut whose = Sha256::new();
    whose.update(rustix::system::uname().nodename().to_bytes());
    whose.update(site.scratch().parent().unwrap_or(site.scratch()).as_os_str().as_bytes());
    let whose: String = whose.finalize().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("/tmp/holdfast-{}-{}-{whose}", site.place.instance.name, site.dump.name)
}

/// Below the ports that systems give to whoever connects (Linux: from 32,768).
fn port() -> Result<u16> {
    let mut bytes = [0; 2];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(20_000 + u16::from_le_bytes(bytes) % 12_000)
}

fn shell(site: &Site, script: &str, dir: &str) -> Call {
    site.client(["sh", "-c", script, "sh", dir], &[])
}

async fn clear(site: &Site, dir: &str) -> Result<()> {
    // Goes on although the job is cancelled.
    let never = CancellationToken::new();
    run::ask(shell(site, CLEAR, dir), &never).await.map(drop)
}

async fn load(site: &Site, dir: &str, path: &Path) -> Result<()> {
    run::from_file(shell(site, PUT, dir), path, &site.cancel)
        .await
        .context("copying the saved file to the server")?;
    let mut attempts = Attempts::default();
    loop {
        let loaded = serve(site, dir).await;
        if !attempts.another(&loaded) {
            return loaded;
        }
    }
}

async fn serve(site: &Site, dir: &str) -> Result<()> {
    let second = Second { port: port()?, password: SecretString::from(random()?) };
    let call = site.client(["redis-server", "-"], &[]).told(&settings(dir, &second));
    let runs = Running::start(call.program, second.port, call.far, &site.cancel);
    let ended = runs.gone.clone();
    let taken = tokio::select! {
        begun = begin(site, &second) => match begun {
            Ok(()) => take_over(site, &second).await,
            failed => failed,
        },
        () = ended.cancelled() => Err(anyhow!("it was cancelled")),
    };
    runs.end(taken).await
}

/// Waits until the second server has loaded its file.
async fn begin(site: &Site, second: &Second) -> Result<()> {
    let watch = Watch::new(site);
    while !started(site, second).await {
        watch.wait(site, "the second Redis server (`redis-server` there) does not answer").await?;
    }
    Ok(())
}

fn settings(dir: &str, Second { port, password }: &Second) -> String {
    format!(
        "bind 127.0.0.1\nport {port}\nrequirepass {}\ndir \"{dir}\"\ndbfilename dump.rdb\npidfile \"{dir}/pid\"\n\
         save \"\"\nappendonly no\ndaemonize no\nrepl-diskless-sync yes\nrepl-diskless-sync-delay 0\n",
        password.expose_secret()
    )
}

/// Says a command to the server that lives. By standard input: passwords are in some of them.
async fn live(site: &Site, command: &str) -> Result<String> {
    live_until(site, command, &site.cancel).await
}

async fn live_until(site: &Site, command: &str, cancel: &CancellationToken) -> Result<String> {
    run::ask(client(site, &[], false).told(&format!("{command}\n")), cancel).await
}

async fn saved(site: &Site, second: &Second, command: &str) -> Result<String> {
    let password = second.password.expose_secret().into();
    let port = second.port.to_string();
    let argv = ["redis-cli", "--no-auth-warning", "-h", "127.0.0.1", "-p", &port];
    let call = site.question(argv, &[("REDISCLI_AUTH", password)]);
    run::ask(call.told(&format!("{command}\n")), &site.cancel).await
}

/// A command that answers OK; the first word alone stands in errors.
async fn tell(site: &Site, command: &str, cancel: &CancellationToken) -> Result<()> {
    let said = live_until(site, command, cancel).await?;
    ensure!(said.trim() == "OK", "{}: {}", command.split(' ').next().unwrap_or_default(), said.trim());
    Ok(())
}

/// A setting's value, as a word that redis-cli takes.
async fn setting(site: &Site, name: &str) -> Result<String> {
    let said = live(site, &format!("CONFIG GET {name}")).await?;
    let value = said.lines().nth(1).unwrap_or_default();
    Ok(format!("\"{}\"", value.bytes().map(|byte| format!("\\x{byte:02x}")).collect::<String>()))
}

async fn take_over(site: &Site, second: &Second) -> Result<()> {
    let role = live(site, "INFO replication").await?;
    let ours = field(&role, "master_host") == Some("127.0.0.1") && field(&role, "role") == Some("slave");
    ensure!(
        field(&role, "role") == Some("master") || ours,
        "this Redis server is a replica; restore its master instead"
    );
    let before = (setting(site, "masterauth").await?, setting(site, "masteruser").await?);
    let followed = follow(site, second).await;
    // Its own master again whatever comes of it, also when the job is cancelled.
    let never = CancellationToken::new();
    let alone = tell(site, "REPLICAOF NO ONE", &never).await;
    tell(site, &format!("CONFIG SET masterauth {}", before.0), &never).await?;
    tell(site, &format!("CONFIG SET masteruser {}", before.1), &never).await?;
    followed?;
    alone
}

async fn follow(site: &Site, second: &Second) -> Result<()> {
    tell(site, "CONFIG SET masteruser \"\"", &site.cancel).await?;
    tell(site, &format!("CONFIG SET masterauth {}", second.password.expose_secret()), &site.cancel).await?;
    tell(site, &format!("REPLICAOF 127.0.0.1 {}", second.port), &site.cancel).await?;
    let watch = Watch::new(site);
    while !linked(site, second).await? {
        watch.wait(site, "the server did not take the keys over").await?;
    }
    Ok(())
}

/// Whether the second server has loaded its file.
async fn started(site: &Site, second: &Second) -> bool {
    let said = saved(site, second, "INFO persistence").await.unwrap_or_default();
    field(&said, "loading") == Some("0")
}

/// Whether the server that lives has all keys of the second one.
async fn linked(site: &Site, second: &Second) -> Result<bool> {
    let info = live(site, "INFO replication").await?;
    if field(&info, "master_link_status") != Some("up")
        || field(&info, "master_sync_in_progress") != Some("0")
    {
        return Ok(false);
    }
    let here = live(site, "INFO keyspace").await?;
    let there = saved(site, second, "INFO keyspace").await?;
    Ok(counted(&here) == counted(&there))
}

/// How long the servers have for a step.
struct Watch {
    end: Instant,
    patience: Duration,
}

impl Watch {
    fn new(site: &Site) -> Self {
        let patience = site.place.instance.stall_timeout;
        Self { end: Instant::now() + patience, patience }
    }

    async fn wait(&self, site: &Site, what: &str) -> Result<()> {
        ensure!(!site.cancel.is_cancelled(), "it was cancelled");
        ensure!(Instant::now() < self.end, "{what} for {:?}", self.patience);
        tokio::time::sleep(STEP).await;
        Ok(())
    }
}
