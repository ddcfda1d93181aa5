//! Another host: a real sshd of the test's own user, with a host key, a home and authorised keys of its own.
//!
//! We listen ourselves and start one `sshd -i` per connection, so no port is chosen before it is held, and connections can
//! be counted, refused and cut. Every remote command goes through a gate that notes it and can be led astray.
#![expect(clippy::disallowed_methods, reason = "tests start real programs themselves")]

use std::fs::{self, Permissions};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tempfile::TempDir;

use crate::servers::{good, open_dir, postgres_program};

/// Notes each remote command, reads `on-remote`, a piece of shell that may exit or wait, then does what was asked. `$n` is
/// how many commands came before, and `$SSH_ORIGINAL_COMMAND` the command.
const GATE: &str = r#"#!/bin/bash
D='@DIR@'
exec 9>>"$D/remote-calls.lock"
flock 9
mapfile -t calls <"$D/remote-calls"
n=${#calls[@]}
printf '%s\n' "${SSH_ORIGINAL_COMMAND//$'\n'/\\n}" >>"$D/remote-calls"
exec 9>&-
unset SSH_CLIENT SSH_CONNECTION
[ ! -e "$D/on-remote" ] || . "$D/on-remote"
exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"
"#;

/// Gives what follows its own accounts, its own rules of sudo, and programs of its own that sudo finds first, `$1` being the
/// directory that they lie in.
const OWN_FILES: &str = "for name in passwd shadow group sudoers.d; do mount --bind \"$1/$name\" /etc/$name; done\nmount --bind \"$1/sbin\" /usr/local/sbin\nshift; exec \"$@\"";

/// What the listener does with connections.
#[derive(Default)]
struct Door {
    /// No more: the listener ends.
    closed: AtomicBool,
    /// Connections are closed at once.
    refuses: AtomicBool,
    connections: AtomicUsize,
    running: Mutex<Vec<(TcpStream, Child)>>,
}

impl Door {
    /// Forgets connections whose sshd has ended.
    fn prune(&self) {
        self.running.lock().unwrap().retain_mut(|(_, child)| !matches!(child.try_wait(), Ok(Some(_))));
    }
}

/// A host that is reached over ssh; ended on drop, with everything that was started on it.
pub(crate) struct Host {
    pub(crate) dir: TempDir,
    /// The port on 127.0.0.1.
    pub(crate) port: u16,
    account: String,
    door: Arc<Door>,
    listener: Option<JoinHandle<()>>,
}

impl Host {
    /// With a home at `home`, where one key may log in: [`Host::identity`].
    pub(crate) fn start() -> Self {
        Self::with_account(good(Command::new("id").arg("-un").output().unwrap()), false)
    }

    /// As root: with an account `vcap` that is only there, a `/etc/sudoers.d` of its own at `sudoers.d`, and a
    /// `/usr/local/sbin` at `sbin`.
    pub(crate) fn start_with_vcap() -> Self {
        Self::with_account("vcap".to_owned(), true)
    }

    fn with_account(account: String, own: bool) -> Self {
        let dir = open_dir();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("home/.ssh")).unwrap();
        // Accounts of servers that start here must get to their data.
        fs::set_permissions(at("home"), Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(at("home/.ssh"), Permissions::from_mode(0o700)).unwrap();
        for key in ["host_key", "login_key"] {
            make_key(&at(key));
        }
        fs::copy(at("login_key.pub"), at("home/.ssh/authorized_keys")).unwrap();
        for name in ["remote-calls", "remote-calls.lock"] {
            put(&at(name), "", 0o666);
        }
        put(&at("gate"), &GATE.replace("@DIR@", &dir.path().display().to_string()), 0o755);
        put(&at("sshd_config"), &config(dir.path()), 0o600);
        if own {
            add_vcap(dir.path());
        }
        if rustix::process::geteuid().is_root() {
            // Only sshd's own unit makes it, and without it root's sshd does not start.
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let door = Arc::new(Door::default());
        let listener = std::thread::spawn({
            let (door, home) = (Arc::clone(&door), dir.path().to_owned());
            move || listen(&socket, &door, &home, own)
        });
        let pruned = Arc::clone(&door);
        std::thread::spawn(move || {
            // A connection whose sshd is gone is closed: we hold it open as well, and the other side would wait.
            while !pruned.closed.load(Ordering::SeqCst) {
                pruned.prune();
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        let host = Self { dir, port, account, door, listener: Some(listener) };
        let said = host.ssh("echo here");
        assert_eq!(good(said), "here", "{}", host.text("sshd.log"));
        host.forget_calls();
        host
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Reads a text; empty when there is none.
    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Writes a file with `@DIR@` replaced.
    pub(crate) fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        put(&path, &text.replace("@DIR@", &self.dir.path().display().to_string()), mode);
        path
    }

    /// `user@127.0.0.1`.
    pub(crate) fn login(&self) -> String {
        format!("{}@127.0.0.1", self.account)
    }

    /// The private key that may log in from the beginning.
    pub(crate) fn identity(&self) -> PathBuf {
        self.path("login_key")
    }

    /// A line of a known_hosts file that says who this host is.
    pub(crate) fn known_hosts(&self) -> String {
        let key = self.text("host_key.pub");
        let words: Vec<&str> = key.split(' ').take(2).collect();
        format!("[127.0.0.1]:{} {}\n", self.port, words.join(" ").trim())
    }

    /// The fingerprint of its host key, as `ssh` shows it.
    pub(crate) fn fingerprint(&self) -> String {
        let said = Command::new("ssh-keygen").arg("-lf").arg(self.path("host_key.pub")).output().unwrap();
        good(said).split(' ').nth(1).unwrap().to_owned()
    }

    /// The keys that may log in.
    pub(crate) fn authorized_keys(&self) -> String {
        self.text("home/.ssh/authorized_keys")
    }

    /// Gives the host another key, as after a new installation, or when somebody else answers.
    pub(crate) fn change_host_key(&self) {
        for name in ["host_key", "host_key.pub"] {
            fs::remove_file(self.path(name)).unwrap();
        }
        make_key(&self.path("host_key"));
    }

    /// Runs a command there with the first key, and checks nothing.
    pub(crate) fn ssh(&self, command: &str) -> Output {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
        ssh.args(["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-T"]);
        ssh.arg("-i").arg(self.identity()).arg("-p").arg(self.port.to_string());
        ssh.arg(self.login()).arg(command).stdin(Stdio::null());
        ssh.output().expect("ssh runs (package openssh-client)")
    }

    /// The commands that came, oldest first.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.text("remote-calls").lines().map(str::to_owned).collect()
    }

    /// Forgets the commands that came.
    pub(crate) fn forget_calls(&self) {
        put(&self.path("remote-calls"), "", 0o666);
    }

    /// Leads remote commands astray with a piece of shell; see [`GATE`].
    pub(crate) fn on_remote(&self, shell: &str) {
        put(&self.path("on-remote"), &format!("{shell}\n"), 0o644);
    }

    /// Lets remote commands be.
    pub(crate) fn let_be(&self) {
        let _ = fs::remove_file(self.path("on-remote"));
    }

    /// Closes every connection that is there, and from now on each that comes; or lets them in again.
    pub(crate) fn refuse(&self, refuse: bool) {
        self.door.refuses.store(refuse, Ordering::SeqCst);
        if refuse {
            self.cut();
        }
    }

    /// Cuts every connection that is there.
    pub(crate) fn cut(&self) {
        for (socket, child) in self.door.running.lock().unwrap().iter_mut() {
            let _ = socket.shutdown(std::net::Shutdown::Both);
            let _ = child.kill();
        }
    }

    /// How many connections came.
    pub(crate) fn connections(&self) -> usize {
        self.door.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.door.closed.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
        self.cut();
        for (_, child) in self.door.running.lock().unwrap().iter_mut() {
            let _ = child.wait();
        }
        end_all_of(&self.path("home"));
    }
}

fn listen(socket: &TcpListener, door: &Door, dir: &Path, own: bool) {
    for connection in socket.incoming() {
        if door.closed.load(Ordering::SeqCst) {
            return;
        }
        let Ok(connection) = connection else { continue };
        door.connections.fetch_add(1, Ordering::SeqCst);
        let mut running = door.running.lock().unwrap();
        running.retain_mut(|(_, child)| !matches!(child.try_wait(), Ok(Some(_))));
        if !door.refuses.load(Ordering::SeqCst) {
            let child = serve(&connection, dir, own);
            running.push((connection, child));
        }
    }
}

fn serve(connection: &TcpStream, dir: &Path, own: bool) -> Child {
    let socket = |connection: &TcpStream| Stdio::from(OwnedFd::from(connection.try_clone().unwrap()));
    let mut sshd = Command::new(if own { "unshare" } else { "/usr/sbin/sshd" });
    if own {
        sshd.args(["--mount", "--propagation", "private", "sh", "-euc", OWN_FILES, "sh"]).arg(dir);
        sshd.arg("/usr/sbin/sshd");
    }
    sshd.arg("-i").arg("-f").arg(dir.join("sshd_config")).arg("-E").arg(dir.join("sshd.log"));
    sshd.stdin(socket(connection)).stdout(socket(connection)).stderr(Stdio::null());
    sshd.spawn().expect("sshd runs (package openssh-server)")
}

/// Copies of this machine's accounts with one more, whose home is `home`, and no rules of sudo.
fn add_vcap(dir: &Path) {
    let home = dir.join("home").display().to_string();
    let lines = [
        ("passwd", format!("vcap:x:64123:64123::{home}:/bin/bash\n"), 0o644),
        ("shadow", "vcap:*:19000:0:99999:7:::\n".to_owned(), 0o600),
        ("group", "vcap:x:64123:\n".to_owned(), 0o644),
    ];
    for (name, line, mode) in lines {
        let text = fs::read_to_string(Path::new("/etc").join(name)).unwrap();
        put(&dir.join(name), &(text + &line), mode);
    }
    for name in ["sudoers.d", "sbin"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    good(Command::new("chown").args(["-R", "64123:64123"]).arg(&home).output().unwrap());
}

fn config(dir: &Path) -> String {
    let dir = dir.display();
    let programs = Path::new(&postgres_program("psql")).parent().unwrap().display().to_string();
    format!(
        "HostKey {dir}/host_key\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\n\
         AuthorizedKeysFile {dir}/home/.ssh/authorized_keys\nForceCommand {dir}/gate\n\
         PermitUserEnvironment no\nMaxStartups 100\nLoginGraceTime 60\nKexAlgorithms curve25519-sha256\n\
         SetEnv HOME={dir}/home PATH={dir}/bin:{programs}:{}\n",
        std::env::var("PATH").unwrap()
    )
}

fn make_key(path: &Path) {
    let mut keygen = Command::new("ssh-keygen");
    good(keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]).arg(path).output().unwrap());
}

fn put(path: &Path, text: &str, mode: u32) {
    let new = path.with_extension("new-file");
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, Permissions::from_mode(mode)).unwrap();
    fs::rename(&new, path).unwrap();
}

/// Ends every process whose home is this one: whatever remote commands have left.
pub(crate) fn end_all_of(home: &Path) {
    let mark = format!("HOME={}", home.display()).into_bytes();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let pid = pid.and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid.filter(|_| environment.split(|byte| *byte == 0).any(|one| one == mark)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}
