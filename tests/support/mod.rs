//! What integration tests share: a private bus, a daemon on it in a directory of its own, and ways to ask it.
//!
//! Everything is ended when its value is dropped. Nothing waits for a time to pass: every wait is for a condition, with a
//! deadline that fails the test and shows the daemon's log.
#![expect(clippy::disallowed_methods, reason = "tests start real programs themselves")]

use std::collections::HashMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use zbus::wire::{OwnedObjectPath, OwnedVariant};
use zbus::{Connection, DBusError, MatchRule, MessageStream, Proxy};

pub mod mount;
pub mod rows;
pub mod signals;
use signals::Signals;

/// The name on the bus.
pub const NAME: &str = "org.holdfast.Backup1";
/// The Manager's object.
pub const ROOT: &str = "/org/holdfast/Backup1";
/// The deadline of every wait: far beyond what anything takes, even on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// A policy for [`Bus::with_policies`] where everybody may do everything.
pub const OPEN: &str =
    "<policy context=\"default\"><allow own=\"*\"/><allow send_type=\"method_call\"/></policy>";

/// Rows as the bus carries them.
pub type Row = HashMap<String, OwnedVariant>;

/// A private bus; ended on drop.
pub struct Bus {
    /// Its address.
    pub address: String,
    child: Child,
    // Last: the socket goes after its daemon.
    _dir: TempDir,
}

impl Bus {
    /// A bus where everybody may do everything.
    pub fn start() -> Self {
        Self::with_policies(
            "<policy context=\"default\"><allow own=\"*\"/><allow send_type=\"method_call\"/></policy>",
        )
    }

    /// A bus of type system with further policies, as XML.
    pub fn with_policies(policies: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Other users must reach the socket.
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let socket = dir.path().join("bus");
        let config = dir.path().join("bus.conf");
        std::fs::write(&config, bus_config(&socket, policies)).unwrap();
        let child = Command::new("dbus-daemon")
            .args(["--nofork", "--nopidfile", "--nosyslog"])
            .arg(format!("--config-file={}", config.display()))
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .expect("dbus-daemon runs (package dbus-daemon)");
        let bus = Self { address: format!("unix:path={}", socket.display()), child, _dir: dir };
        until("the bus's socket", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
        bus
    }

    /// A connection of ours.
    pub async fn connect(&self) -> Connection {
        let builder = zbus::connection::Builder::address(self.address.as_str());
        // A test that asks in vain fails, and does not hang.
        builder.method_timeout(5 * DEADLINE).build().await.unwrap()
    }

    /// Runs `busctl` on this bus.
    pub fn busctl(&self, arguments: &[&str]) -> Output {
        let address = format!("--address={}", self.address);
        let mut busctl = Command::new("busctl");
        busctl.arg(address).args(arguments).stdin(Stdio::null());
        busctl.output().expect("busctl runs (package systemd)")
    }

    /// Runs a program with `DBUS_SYSTEM_BUS_ADDRESS` of this bus.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("DBUS_SYSTEM_BUS_ADDRESS", &self.address).stdin(Stdio::null());
        command
    }

    /// Ends the bus under everybody's feet.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.kill();
    }
}

fn bus_config(socket: &Path, policies: &str) -> String {
    format!(
        "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
         \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n\
         <busconfig><type>system</type><listen>unix:path={}</listen>\
         <policy context=\"default\"><allow user=\"*\"/><deny own=\"*\"/><deny send_type=\"method_call\"/>\
         <allow send_type=\"signal\"/><allow send_requested_reply=\"true\" send_type=\"method_return\"/>\
         <allow send_requested_reply=\"true\" send_type=\"error\"/><allow receive_type=\"method_call\"/>\
         <allow receive_type=\"method_return\"/><allow receive_type=\"error\"/><allow receive_type=\"signal\"/>\
         <allow send_destination=\"org.freedesktop.DBus\"/></policy>{policies}</busconfig>",
        socket.display()
    )
}

/// A running `holdfastd` with directories of its own; killed on drop.
pub struct Daemon {
    /// A connection of the test's own to its bus.
    pub bus: Connection,
    /// Where everything of it lies: `config/`, `state/`, `cache/`, `runtime/`, and whatever the test puts there.
    pub dir: TempDir,
    address: String,
    environment: Vec<(String, String)>,
    child: Child,
}

impl Daemon {
    /// Starts a daemon whose configuration directory holds these files (path, text); in the text `@DIR@` is [`Daemon::dir`].
    /// Returns when it has its name.
    pub async fn start(bus: &Bus, config: &[(&str, &str)]) -> Self {
        let mut daemon = Self::spawn(bus, config).await;
        daemon.wait_for_name().await;
        daemon
    }

    /// Starts one with further environment variables, and waits.
    pub async fn start_in(bus: &Bus, config: &[(&str, &str)], environment: &[(&str, &str)]) -> Self {
        let mut daemon = Self::spawn_with(bus, config, environment).await;
        daemon.wait_for_name().await;
        daemon
    }

    /// Starts one and does not wait.
    pub async fn spawn(bus: &Bus, config: &[(&str, &str)]) -> Self {
        Self::spawn_with(bus, config, &[]).await
    }

    async fn spawn_with(bus: &Bus, config: &[(&str, &str)], environment: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in config {
            write(dir.path(), &format!("config/{path}"), text);
        }
        Self::spawn_in(bus, dir, owned(environment)).await
    }

    /// Starts one in a directory that was made ready, with more in its environment, and does not wait.
    pub async fn spawn_in(bus: &Bus, dir: TempDir, environment: Vec<(String, String)>) -> Self {
        std::fs::create_dir_all(dir.path().join("config")).unwrap();
        let child = launch(dir.path(), &bus.address, &environment);
        Self { bus: bus.connect().await, dir, address: bus.address.clone(), environment, child }
    }

    /// Writes a file below [`Daemon::dir`], `@DIR@` replaced.
    pub fn write(&self, path: &str, text: &str) -> PathBuf {
        write(self.dir.path(), path, text)
    }

    /// Reads a file below [`Daemon::dir`].
    pub fn read(&self, path: &str) -> String {
        let path = self.dir.path().join(path);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.read("log")
    }

    /// Waits until it has its name.
    pub async fn wait_for_name(&mut self) {
        let proxy = zbus::fdo::DBusProxy::new(&self.bus).await.unwrap();
        let start = Instant::now();
        // By process: the bus may not have noticed yet that a killed one is gone.
        while proxy.get_connection_unix_process_id(NAME.try_into().unwrap()).await.ok() != Some(self.pid()) {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("holdfastd ended with {status} before it was ready:\n{}", self.log());
            }
            assert!(start.elapsed() < DEADLINE, "holdfastd is not ready:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Asks it to end (SIGTERM) and waits; its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        self.wait_for_exit()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits until it has ended by itself; its exit code.
    pub fn wait_for_exit(&mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < DEADLINE, "holdfastd does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it without warning and starts it again on the same directories.
    pub async fn restart_after_kill(&mut self) {
        self.kill();
        self.start_again().await;
    }

    /// The same with other variables in its environment.
    pub async fn restart_in(&mut self, environment: &[(&str, &str)]) {
        self.environment = owned(environment);
        self.restart_after_kill().await;
    }

    /// Ends it without warning.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on the same directories, after it has ended.
    pub async fn start_again(&mut self) {
        self.launch_again();
        self.wait_for_name().await;
    }

    /// Starts it again and does not wait.
    pub fn launch_again(&mut self) {
        self.child = launch(self.dir.path(), &self.address, &self.environment);
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A proxy of an object: `interface` is the last part of its name.
    pub async fn proxy(&self, path: &str, interface: &str) -> Proxy<'static> {
        zbus::proxy::Builder::<Proxy<'_>>::new(&self.bus)
            .destination(NAME)
            .path(path.to_owned())
            .interface(format!("{NAME}.{interface}"))
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()
            .await
            .unwrap()
    }

    /// Calls a method of the Manager.
    pub async fn call<B, R>(&self, method: &str, body: &B) -> zbus::Result<R>
    where
        B: serde::Serialize + zbus::wire::DynamicType,
        R: for<'d> zbus::wire::DynamicDeserialize<'d>,
    {
        self.proxy(ROOT, "Manager").await.call(method, body).await
    }

    /// Starts a backup without options; its job.
    pub async fn run_backup(&self, backup: &str) -> OwnedObjectPath {
        let called = self.call("RunBackup", &(backup, Row::new())).await;
        called.unwrap_or_else(|e| panic!("RunBackup {backup}: {e}\n{}", self.log()))
    }

    /// A property of an object, `interface` as for [`Daemon::proxy`].
    pub async fn property<T>(&self, path: &str, interface: &str, name: &str) -> T
    where
        T: serde::de::DeserializeOwned + zbus::wire::Type,
    {
        let proxy = self.proxy(path, interface).await;
        proxy.get_property(name).await.unwrap_or_else(|e| panic!("{path} {name}: {e}\n{}", self.log()))
    }

    /// Waits until a job has ended; its outcome.
    pub async fn wait_for_job(&self, path: &str) -> String {
        let start = Instant::now();
        // What moves gibibytes takes its time, the more so with programs that were not optimised.
        let most = if std::env::var_os("HOLDFAST_SOAK").is_some() { 10 * DEADLINE } else { DEADLINE };
        loop {
            let outcome: String = self.property(path, "Job", "Outcome").await;
            if !outcome.is_empty() {
                return outcome;
            }
            assert!(start.elapsed() < most, "{path} does not end:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Everything that it signals from now on.
    pub async fn signals(&self) -> Signals {
        let rule = MatchRule::builder().msg_type(zbus::message::Type::Signal).sender(NAME).build().unwrap();
        let stream =
            MessageStream::for_match_rule(rule, &self.bus, std::num::NonZero::new(10_000)).await.unwrap();
        Signals::new(stream)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

fn write(dir: &Path, path: &str, text: &str) -> PathBuf {
    let path = dir.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text.replace("@DIR@", &dir.display().to_string())).unwrap();
    // Definitions that others can write are refused.
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

fn owned(environment: &[(&str, &str)]) -> Vec<(String, String)> {
    environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn launch(dir: &Path, address: &str, environment: &[(String, String)]) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfastd"));
    for name in ["config", "state", "cache", "runtime"] {
        command.arg(format!("--{name}")).arg(dir.join(name));
    }
    command.args(["--bus", address]).env_remove("JOURNAL_STREAM").env_remove("NOTIFY_SOCKET");
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

/// The name and the text of an error reply; anything else is given back.
pub fn error_of<T>(answer: zbus::Result<T>) -> Result<(String, String), zbus::Result<T>> {
    match answer {
        Err(zbus::Error::MethodError(name, text, _)) => Ok((name.to_string(), text.unwrap_or_default())),
        // zbus knows the standard ones by type.
        Err(zbus::Error::FDO(error)) => {
            Ok((error.name().to_string(), error.description().unwrap_or_default().to_owned()))
        }
        other => Err(other),
    }
}

/// Waits until a condition holds.
pub fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a program printed, for comparisons.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a program complained of.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
