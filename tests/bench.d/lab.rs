//! A private bus, a daemon on it, and instances to back up.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::StreamExt;
use tempfile::TempDir;
use zbus::wire::{OwnedObjectPath, OwnedVariant};
use zbus::{Connection, MatchRule, MessageStream, Proxy};

use super::stopwatch::{self, Stopwatch};

/// The optimised daemon.
pub(crate) const DAEMON: &str = env!("CARGO_BIN_EXE_holdfastd");
/// The optimised client.
pub(crate) const CLIENT: &str = env!("CARGO_BIN_EXE_holdfast");
/// The name on the bus.
pub(crate) const NAME: &str = "org.holdfast.Backup1";
/// The Manager's object.
pub(crate) const ROOT: &str = "/org/holdfast/Backup1";
/// Nothing here takes as long.
const DEADLINE: Duration = Duration::from_secs(300);
/// How long the bus may need to be there.
const BUS: Duration = Duration::from_secs(10);

/// `a{sv}`.
pub(crate) type Row = HashMap<String, OwnedVariant>;

/// The real restic.
///
/// # Errors
/// It is not installed.
pub(crate) fn restic() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("restic")).find(|file| file.is_file());
    found.context("restic is not on PATH")
}

/// Ends a program when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Everything of one measurement; ended and removed when dropped.
pub(crate) struct Lab {
    daemon: Option<Running>,
    _bus: Running,
    /// Counts and times the daemon's calls of restic.
    pub(crate) stopwatch: Stopwatch,
    /// A connection of the bench's own.
    pub(crate) connection: Connection,
    address: String,
    dir: TempDir,
}

impl Lab {
    /// A bus and an empty directory. The daemon comes with [`Lab::start`].
    ///
    /// # Errors
    /// The bus does not start.
    pub(crate) async fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("holdfast-bench.").tempdir()?;
        let address = format!("unix:path={}", dir.path().join("bus").display());
        let bus = start_bus(dir.path(), &address)?;
        let stopwatch = stopwatch::install(&dir.path().join("bin"), &restic()?)?;
        let connection = connect(&address).await?;
        let lab = Self { daemon: None, _bus: bus, stopwatch, connection, address, dir };
        for name in ["config/conf.d", "repositories"] {
            std::fs::create_dir_all(lab.path(name))?;
        }
        lab.write("password", "a password for the bench, of no worth")?;
        let restic = lab.stopwatch.restic();
        lab.write("config/holdfast.toml", &format!("[daemon]\nhost = \"bench\"\nrestic = {restic:?}\n"))?;
        Ok(lab)
    }

    /// A path below its directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file below its directory.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().context("a path without a directory")?)?;
        std::fs::write(&path, text).with_context(|| name.to_owned())?;
        // Definitions that others can write are refused.
        Ok(std::fs::set_permissions(&path, Permissions::from_mode(0o600))?)
    }

    /// Definitions of a shared local repository.
    pub(crate) fn repository(&self, name: &str) -> String {
        let (url, password) = (self.path("repositories").join(name), self.path("password"));
        format!("[repository.{name}]\nurl = {url:?}\npassword_file = {password:?}\nlayout = \"shared\"\n")
    }

    /// Definition of an instance, and its files if they are not there.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn instance(&self, name: &str, files: usize) -> Result<String> {
        let live = self.path("live").join(name);
        if !live.exists() {
            std::fs::create_dir_all(&live)?;
            for number in 0..files {
                std::fs::write(live.join(format!("file-{number}")), noise(4096 + number * 61, name, number))?;
            }
        }
        Ok(format!("[instance.{name}]\ninclude = [{live:?}]\n"))
    }

    /// Changes one file of an instance.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn change(&self, instance: &str, round: usize) -> Result<()> {
        let file = self.path("live").join(instance).join("changing");
        Ok(std::fs::write(file, noise(20_000, instance, 1_000_000 + round))?)
    }

    /// Starts the daemon and waits until it has its name; how long that took.
    ///
    /// # Errors
    /// It ends, or does not get its name.
    pub(crate) async fn start(&mut self) -> Result<Duration> {
        drop(self.daemon.take());
        let mut owners =
            zbus::fdo::DBusProxy::new(&self.connection).await?.receive_name_owner_changed().await?;
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("log"))?;
        let mut command = Command::new(DAEMON);
        for name in ["config", "state", "cache", "runtime", "library"] {
            command.arg(format!("--{name}")).arg(self.path(name));
        }
        command.args(["--bus", &self.address]).env_remove("JOURNAL_STREAM").env_remove("NOTIFY_SOCKET");
        let begin = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
        self.daemon = Some(Running(child));
        let named = async {
            while let Some(change) = owners.next().await {
                let change = change.args()?;
                if change.name() == NAME && change.new_owner().is_some() {
                    return anyhow::Ok(());
                }
            }
            bail!("the bus is gone")
        };
        tokio::time::timeout(DEADLINE, named).await.with_context(|| self.log())??;
        Ok(begin.elapsed())
    }

    /// The daemon's process.
    ///
    /// # Errors
    /// It was not started.
    pub(crate) fn pid(&self) -> Result<u32> {
        Ok(self.daemon.as_ref().context("no daemon")?.0.id())
    }

    /// What the daemon has said, its end.
    pub(crate) fn log(&self) -> String {
        let text = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(15).collect();
        lines.into_iter().rev().fold("the daemon's log ends with\n".to_owned(), |mut all, line| {
            let _ = writeln!(all, "    {line}");
            all
        })
    }

    /// The client, for this daemon.
    pub(crate) fn client(&self, arguments: &[&str]) -> Command {
        let mut client = Command::new(CLIENT);
        client.args(["--bus", &self.address]).args(arguments).stdin(Stdio::null());
        client
    }

    /// A proxy of the Manager on a connection.
    ///
    /// # Errors
    /// The bus's.
    pub(crate) async fn manager(&self) -> Result<Proxy<'static>> {
        let builder = zbus::proxy::Builder::<Proxy<'_>>::new(&self.connection);
        let builder = builder.destination(NAME).path(ROOT).interface(format!("{NAME}.Manager"));
        Ok(builder.cache_properties(zbus::proxy::CacheProperties::No).build().await?)
    }

    /// Starts backups and waits until all have succeeded; how long that took, seen from the bus.
    ///
    /// # Errors
    /// One cannot be started or does not succeed.
    pub(crate) async fn run(&self, backups: &[&str]) -> Result<Duration> {
        let mut ends = self.ends().await?;
        let manager = self.manager().await?;
        let begin = Instant::now();
        for name in backups {
            let options: HashMap<&str, zbus::Variant<'_>> = HashMap::new();
            let _: OwnedObjectPath =
                manager.call("RunBackup", &(name, options)).await.with_context(|| self.log())?;
        }
        for _ in backups {
            self.succeeded(&mut ends).await?;
        }
        Ok(begin.elapsed())
    }

    /// Restores the latest set of an instance, in place or into a directory; how long that took, seen from the bus.
    ///
    /// # Errors
    /// It cannot be started or does not succeed.
    pub(crate) async fn restore(&self, instance: &str, target: Option<&Path>) -> Result<Duration> {
        let mut options: HashMap<&str, zbus::Variant<'_>> = HashMap::new();
        if let Some(target) = target {
            options.insert("target", target.display().to_string().into());
        }
        let mut ends = self.ends().await?;
        let begin = Instant::now();
        let manager = self.manager().await?;
        let _: OwnedObjectPath =
            manager.call("Restore", &(instance, "", options)).await.with_context(|| self.log())?;
        self.succeeded(&mut ends).await?;
        Ok(begin.elapsed())
    }

    /// The signals that tell the ends of jobs.
    async fn ends(&self) -> Result<MessageStream> {
        let rule = MatchRule::builder().msg_type(zbus::message::Type::Signal).sender(NAME);
        let rule = rule.member("JobRemoved").build();
        let room = std::num::NonZero::new(10_000);
        Ok(MessageStream::for_match_rule(rule?, &self.connection, room).await?)
    }

    /// Waits for the end of one job.
    async fn succeeded(&self, ends: &mut MessageStream) -> Result<()> {
        let end = tokio::time::timeout(DEADLINE, ends.next()).await.with_context(|| self.log())?;
        let end = end.context("the bus is gone")??;
        let (_, outcome): (OwnedObjectPath, String) = end.body().deserialize()?;
        ensure!(outcome == "succeeded", "a job ended with {outcome}; {}", self.log());
        Ok(())
    }

    /// Copies a repository. Two that restic makes have keys that cost different times to open: it fits them to how fast
    /// the machine is at that moment.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn copy_repository(&self, from: &str, to: &str) -> Result<()> {
        let repositories = self.path("repositories");
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(repositories.join(from)).arg(repositories.join(to));
        ensure!(copy.status()?.success(), "copying the repository {from} failed");
        Ok(())
    }

    /// The real restic on one of the repositories, with a cache of its own.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) fn bare(&self, repository: &str) -> Result<Command> {
        let mut bare = Command::new("nice");
        bare.args(["-n", "10"]).arg(restic()?);
        self.opening(&mut bare, repository);
        Ok(bare)
    }

    fn opening(&self, bare: &mut Command, repository: &str) {
        bare.arg("--repo").arg(self.path("repositories").join(repository));
        bare.arg("--password-file").arg(self.path("password"));
        bare.arg("--cache-dir").arg(self.path("bare-cache"));
    }

    /// The real restic on one of the repositories, with a cache of its own; how long it took. As nice as the daemon's:
    /// on a busy machine two priorities would be compared otherwise. A restore yields to nobody.
    ///
    /// # Errors
    /// It fails.
    pub(crate) fn bare_restic(&self, repository: &str, arguments: &[&str]) -> Result<Duration> {
        let mut bare = self.bare(repository)?;
        if let ["restore", ..] = arguments {
            bare = Command::new(restic()?);
            self.opening(&mut bare, repository);
        }
        bare.arg("--quiet").args(arguments);
        let begin = Instant::now();
        let done = bare.stdin(Stdio::null()).output()?;
        let took = begin.elapsed();
        let error = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "restic {} failed: {error}", arguments.join(" "));
        Ok(took)
    }
}

/// Bytes that do not compress and are the same each time.
pub(crate) fn noise(length: usize, name: &str, number: usize) -> Vec<u8> {
    let seed =
        name.bytes().fold(number as u64 + 1, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    std::iter::repeat_with(&mut next).take(length).collect()
}

fn start_bus(dir: &Path, address: &str) -> Result<Running> {
    let config = dir.join("bus.conf");
    let text = format!(
        "<busconfig><type>session</type><listen>{address}</listen><auth>EXTERNAL</auth>\
         <policy context=\"default\"><allow send_destination=\"*\" eavesdrop=\"true\"/>\
         <allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>"
    );
    std::fs::write(&config, text)?;
    let mut command = Command::new("dbus-daemon");
    command
        .args(["--nofork", "--nopidfile", "--nosyslog"])
        .arg(format!("--config-file={}", config.display()));
    Ok(Running(command.stdin(Stdio::null()).spawn().context("starting dbus-daemon")?))
}

async fn connect(address: &str) -> Result<Connection> {
    let begin = Instant::now();
    loop {
        // Its socket comes a moment after it.
        match zbus::connection::Builder::address(address).method_timeout(DEADLINE).build().await {
            Ok(connection) => return Ok(connection),
            Err(failure) if begin.elapsed() > BUS => {
                return Err(failure).context("connecting to the bus");
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}
