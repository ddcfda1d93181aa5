//! Servers of the tests' own: on a socket in a directory of their own, as an ordinary user, ended with the test.
#![expect(clippy::disallowed_methods, reason = "tests start real programs themselves")]

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use crate::support::{stderr, stdout, until};

/// The password of every server's superuser; searched for where it must not be.
pub(crate) const PASSWORD: &str = "canary:pass\\word-9184";

/// A directory that other users can enter.
pub(crate) fn open_dir() -> TempDir {
    let dir = tempfile::Builder::new().prefix("hf").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// A command as the user that a server runs as: servers refuse to be root.
fn as_user(user: &str, program: &str) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user, "--clear-groups", "--", program]);
    command.current_dir("/");
    command
}

pub(crate) fn own(user: &str, path: &Path) {
    if rustix::process::geteuid().is_root() {
        let done = Command::new("chown").args(["-R", &format!("{user}:{user}")]).arg(path).status().unwrap();
        assert!(done.success());
    }
}

pub(crate) fn good(output: Output) -> String {
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    stdout(&output).trim_end().to_owned()
}

/// A program of PostgreSQL that is not on PATH.
pub(crate) fn postgres_program(name: &str) -> String {
    let versions =
        std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed (package postgresql)");
    let mut found: Vec<PathBuf> =
        versions.map(|v| v.unwrap().path().join("bin").join(name)).filter(|p| p.is_file()).collect();
    found.sort();
    found.pop().expect("PostgreSQL is installed (package postgresql)").display().to_string()
}

/// A data directory that is made once for all tests, to be copied: each may be a process of its own. `kind` names all that
/// it depends on.
fn template(kind: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("servers");
    std::fs::create_dir_all(&home).unwrap();
    let kind = format!("{kind}-{}", rustix::process::geteuid().as_raw());
    let lock = std::fs::File::create(home.join(format!("{kind}.lock"))).unwrap();
    lock.lock().unwrap();
    let (made, part) = (home.join(&kind), home.join(format!("{kind}.part")));
    if !made.exists() {
        let dir = open_dir();
        make(dir.path());
        let _ = std::fs::remove_dir_all(&part);
        copy(&dir.path().join("data"), &part);
        std::fs::rename(&part, &made).unwrap();
    }
    made
}

/// A program's own words on its version, fit for a file's name.
fn version(program: &str) -> String {
    let said = good(Command::new(program).arg("--version").output().unwrap());
    said.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

/// A server and its directory; killed on drop.
pub(crate) struct Server {
    pub(crate) dir: TempDir,
    child: Child,
}

impl Server {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends it under everybody's feet.
    pub(crate) fn kill(&mut self) {
        self.signal(rustix::process::Signal::QUIT);
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGQUIT is PostgreSQL's immediate end, with its children; the others just end.
        for signal in [rustix::process::Signal::CONT, rustix::process::Signal::QUIT] {
            let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal);
        }
        for _ in 0..500 {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(command: &mut Command, log: &Path) -> Child {
    let log = std::fs::File::create(log).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// The data of a new PostgreSQL with a password for everybody, to be copied.
fn postgres_template() -> PathBuf {
    template(&version(&postgres_program("initdb")), |dir| {
        let password = dir.join("password");
        std::fs::write(&password, format!("{PASSWORD}\n")).unwrap();
        own("postgres", dir);
        let initdb = postgres_program("initdb");
        let mut initdb = as_user("postgres", &initdb);
        initdb.args(["-A", "scram-sha-256", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]);
        good(initdb.arg("--pwfile").arg(password).arg("-D").arg(dir.join("data")).output().unwrap());
    })
}

/// The data of a new PostgreSQL at a place, where whoever comes by its socket is let in.
pub(crate) fn postgres_data(to: &Path) {
    copy(&postgres_template(), to);
    std::fs::write(to.join("pg_hba.conf"), "local all all trust\n").unwrap();
    own("postgres", to);
}

/// PostgreSQL with a password for everybody.
pub(crate) struct Postgres(pub(crate) Server);

impl Postgres {
    pub(crate) fn start() -> Self {
        let template = postgres_template();
        let dir = open_dir();
        copy(&template, &dir.path().join("data"));
        own("postgres", dir.path());
        let program = postgres_program("postgres");
        let mut command = as_user("postgres", &program);
        command.arg("-D").arg(dir.path().join("data")).arg("-k").arg(dir.path());
        command.args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=40"]);
        let child = spawn(&mut command, &dir.path().join("log"));
        let server = Self(Server { dir, child });
        until("PostgreSQL answers", || server.psql("postgres", "select 1").status.success());
        server
    }

    pub(crate) fn client(&self, program: &str) -> Command {
        // Debian's own `psql` is a script that looks for the version first.
        let mut command = Command::new(postgres_program(program));
        command.env("PGHOST", self.0.dir.path()).env("PGUSER", "postgres").env("PGPASSWORD", PASSWORD);
        command
    }

    pub(crate) fn psql(&self, database: &str, sql: &str) -> Output {
        let mut psql = self.client("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]).env("PGDATABASE", database);
        psql.output().expect("psql runs (package postgresql-client)")
    }

    /// The answer of a statement that must succeed.
    #[track_caller]
    pub(crate) fn ask(&self, database: &str, sql: &str) -> String {
        good(self.psql(database, sql))
    }

    /// A session that stays open on a statement, which has begun when this returns.
    pub(crate) fn session(&self, database: &str, sql: &str) -> Child {
        let mut psql = self.client("psql");
        psql.args(["-X", "-q"]).env("PGDATABASE", database).env("PGAPPNAME", "application");
        let mut child =
            psql.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        writeln!(child.stdin.as_mut().unwrap(), "{sql}").unwrap();
        let begun =
            "select count(*) from pg_stat_activity where application_name = 'application' and query <> ''";
        until("the session is there", || self.ask("postgres", begun) != "0");
        child
    }

    /// What a definition says of it.
    pub(crate) fn definition(&self) -> String {
        format!(
            "source = \"postgresql\"\nsocket = \"{}\"\nuser = \"postgres\"\n",
            self.0.dir.path().display()
        )
    }

    pub(crate) fn databases(&self) -> Vec<String> {
        let sql =
            "select datname from pg_database where not datistemplate and datname <> 'postgres' order by 1";
        self.ask("postgres", sql).lines().map(str::to_owned).collect()
    }
}

/// MariaDB with a password for root.
pub(crate) struct Mariadb(pub(crate) Server);

impl Mariadb {
    pub(crate) fn start() -> Self {
        let template = template(&version("mariadbd"), |dir| {
            own("mysql", dir);
            let mut install = as_user("mysql", "mariadb-install-db");
            install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
            good(install.arg(format!("--datadir={}", dir.join("data").display())).output().unwrap());
        });
        let dir = open_dir();
        copy(&template, &dir.path().join("data"));
        own("mysql", dir.path());
        let mut command = as_user("mysql", "mariadbd");
        command.args(["--no-defaults", "--skip-networking", "--innodb-flush-log-at-trx-commit=0"]);
        for (option, name) in [("datadir", "data"), ("socket", "socket"), ("pid-file", "pid"), ("tmpdir", "")]
        {
            command.arg(format!("--{option}={}", dir.path().join(name).display()));
        }
        let child = spawn(&mut command, &dir.path().join("log"));
        let server = Self(Server { dir, child });
        let sql = format!("alter user root@localhost identified by '{}'", PASSWORD.replace('\\', "\\\\"));
        until("MariaDB answers", || server.client("").args(["-e", &sql]).output().unwrap().status.success());
        server
    }

    fn client(&self, password: &str) -> Command {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "-uroot", "-N", "-B"]);
        command.arg(format!("--socket={}", self.0.path("socket").display())).env("MYSQL_PWD", password);
        command
    }

    /// What `mariadb-dump` prints.
    pub(crate) fn dump(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("mariadb-dump");
        command.args(["--no-defaults", "-uroot", "--routines", "--events"]).env("MYSQL_PWD", PASSWORD);
        command.arg(format!("--socket={}", self.0.path("socket").display())).args(arguments);
        good(command.output().unwrap()) + "\n"
    }

    #[track_caller]
    pub(crate) fn ask(&self, sql: &str) -> String {
        good(self.client(PASSWORD).args(["-e", sql]).output().unwrap())
    }

    pub(crate) fn definition(&self) -> String {
        format!("source = \"mariadb\"\nsocket = \"{}\"\nuser = \"root\"\n", self.0.path("socket").display())
    }
}

/// A real MySQL with a password for root; its programs are where `HOLDFAST_MYSQL` says (tests/deps/mysql gets them).
pub(crate) struct Mysql(pub(crate) Server);

impl Mysql {
    /// The directory of its programs.
    pub(crate) fn programs() -> PathBuf {
        let dir =
            std::env::var_os("HOLDFAST_MYSQL").expect("HOLDFAST_MYSQL names a directory (tests/deps/mysql)");
        std::fs::canonicalize(dir).unwrap()
    }

    pub(crate) fn start() -> Self {
        let dir = open_dir();
        let mysqld = || {
            let mut command = Command::new(Self::programs().join("mysqld"));
            command.arg("--no-defaults").arg(format!("--datadir={}", dir.path().join("data").display()));
            if rustix::process::geteuid().is_root() {
                command.arg("--user=root");
            }
            command
        };
        good(mysqld().args(["--initialize-insecure", "--skip-log-bin"]).output().unwrap());
        let mut command = mysqld();
        command.args([
            "--skip-networking",
            "--skip-log-bin",
            "--mysqlx=OFF",
            // Else a directory that only a package makes must be there.
            "--secure-file-priv=NULL",
            "--innodb-flush-log-at-trx-commit=0",
        ]);
        for (option, name) in [("socket", "socket"), ("pid-file", "pid"), ("tmpdir", "")] {
            command.arg(format!("--{option}={}", dir.path().join(name).display()));
        }
        let child = spawn(&mut command, &dir.path().join("log"));
        let server = Self(Server { dir, child });
        let sql = format!("alter user root@localhost identified by '{}'", PASSWORD.replace('\\', "\\\\"));
        until("MySQL answers", || server.client("").args(["-e", &sql]).output().unwrap().status.success());
        server
    }

    fn client(&self, password: &str) -> Command {
        let mut command = Command::new(Self::programs().join("mysql"));
        command.args(["--no-defaults", "-uroot", "-N", "-B"]);
        command.arg(format!("--socket={}", self.0.path("socket").display())).env("MYSQL_PWD", password);
        command
    }

    #[track_caller]
    pub(crate) fn ask(&self, sql: &str) -> String {
        good(self.client(PASSWORD).args(["-e", sql]).output().unwrap())
    }

    pub(crate) fn definition(&self) -> String {
        format!(
            "source = \"mysql\"\nsocket = \"{}\"\nuser = \"root\"\nclient = \"{}\"\n",
            self.0.path("socket").display(),
            Self::programs().display()
        )
    }
}

/// Redis with a password, with or without append-only file.
pub(crate) struct Redis(pub(crate) Server);

impl Redis {
    pub(crate) fn start(append_only: bool) -> Self {
        let dir = open_dir();
        let config = format!(
            "port 0\nunixsocket {0}/socket\nunixsocketperm 777\ndir {0}\nsave \"\"\nrepl-diskless-sync-delay 0\nappendonly {1}\nrequirepass \"{2}\"\n",
            dir.path().display(),
            if append_only { "yes" } else { "no" },
            PASSWORD.replace('\\', "\\\\")
        );
        std::fs::write(dir.path().join("conf"), config).unwrap();
        let mut command = Command::new("redis-server");
        command.arg(dir.path().join("conf"));
        let child = spawn(&mut command, &dir.path().join("log"));
        let server = Self(Server { dir, child });
        until("Redis answers", || server.output(&["PING"]).contains("PONG"));
        server
    }

    fn output(&self, words: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        command.arg("-s").arg(self.0.path("socket")).env("REDISCLI_AUTH", PASSWORD);
        stdout(&command.args(["--no-auth-warning"]).args(words).output().unwrap()).trim_end().to_owned()
    }

    pub(crate) fn ask(&self, words: &[&str]) -> String {
        self.output(words)
    }

    pub(crate) fn definition(&self) -> String {
        format!("source = \"redis\"\nsocket = \"{}\"\n", self.0.path("socket").display())
    }
}
