//! What to run: plain data, and how it becomes a command.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Error, Limits};

/// Where programs are looked for when neither the caller nor our own environment says it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whom a child runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Home directory.
    pub home: PathBuf,
}

/// What a child reads.
#[derive(Debug)]
pub enum Stdin {
    /// Nothing: `/dev/null`.
    Null,
    /// These bytes, then end of file.
    Bytes(Vec<u8>),
    /// These bytes, then nothing more: the end of file comes with the child's own end, or ours.
    Held(Vec<u8>),
    /// This file or pipe.
    File(OwnedFd),
    /// Our own standard input. The child then stays in our process group, as a terminal wants it.
    Terminal,
}

/// Where a child's standard output goes. Standard error is always heard, except with [`Stdout::Terminal`].
#[derive(Debug)]
pub enum Stdout {
    /// To us.
    Heard,
    /// Into this file or pipe.
    File(OwnedFd),
    /// To our own standard output and error.
    Terminal,
}

/// How much of the daemon's own sandbox a child lives in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sandbox {
    /// All of it: for our own tools.
    Ours,
    /// Nothing: for what users' definitions name. Where the daemon is a system service, as a transient unit of systemd;
    /// a plain child elsewhere.
    None,
}

/// What becomes of processes that a program leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftovers {
    /// They are ended with it.
    End,
    /// They live on, for it started what is to stay: a service.
    Stay,
}

/// What to run.
#[derive(Debug)]
pub struct Program {
    /// The program (absolute, relative to `dir` when it holds a slash, else found on PATH) and its arguments.
    pub argv: Vec<OsString>,
    /// Where it runs; none: in `/`.
    pub dir: Option<PathBuf>,
    /// Its environment, added to `PATH`, `LANG=C.UTF-8` and `HOME` (with `user` also `USER` and `LOGNAME`).
    pub env: Vec<(OsString, OsString)>,
    /// Whom it runs as; none: as ourselves.
    pub user: Option<Account>,
    /// What it reads.
    pub stdin: Stdin,
    /// Where its output goes.
    pub stdout: Stdout,
    /// How long it may take, and how it is ended.
    pub limits: Limits,
    /// Background work: lower CPU and disk priority, and the first to go when memory runs out.
    pub nice: bool,
    /// How confined it is.
    pub sandbox: Sandbox,
    /// What becomes of what it leaves behind.
    pub leftovers: Leftovers,
}

/// A program with all paths found, nothing left to decide.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The program itself.
    pub(super) program: PathBuf,
    /// What it sees as its arguments, its own name first.
    pub(super) argv: Vec<OsString>,
    /// Where it runs.
    pub(super) dir: PathBuf,
    /// Its environment; of two of one name the later counts.
    pub(super) environment: Vec<(OsString, OsString)>,
    /// Whom it runs as, if not as ourselves.
    pub(super) user: Option<Account>,
    /// How long its leftovers have.
    pub(super) drain: Duration,
    /// Background work.
    pub(super) nice: bool,
    /// What becomes of what it leaves behind.
    pub(super) leftovers: Leftovers,
}

impl Program {
    /// A program with arguments, as ourselves in `/`, with nothing to read and no limits.
    pub fn new<I>(argv: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            dir: None,
            env: Vec::new(),
            user: None,
            stdin: Stdin::Null,
            stdout: Stdout::Heard,
            limits: Limits::NONE,
            nice: false,
            sandbox: Sandbox::Ours,
            leftovers: Leftovers::End,
        }
    }

    /// The program's name, for messages.
    pub(super) fn name(&self) -> PathBuf {
        self.argv.first().map(PathBuf::from).unwrap_or_default()
    }

    /// The command for it, its standard streams still unset.
    pub(super) fn command(&self, group: bool) -> Result<Command, Error> {
        let dir = self.dir.as_deref().unwrap_or(Path::new("/"));
        self.check_dir(dir)?;
        let program = self.resolve(dir)?;
        let mut command = Command::from_argv(&self.wrapped(program)?);
        command.env_clear().envs(self.environment()).current_dir(dir);
        if group {
            command.process_group(0);
        }
        Ok(command)
    }

    /// What is needed to have another run it.
    pub(super) fn prepared(&self) -> Result<Prepared, Error> {
        let dir = self.dir.clone().unwrap_or_else(|| "/".into());
        self.check_dir(&dir)?;
        let program = self.resolve(&dir)?;
        let mut argv = self.argv.clone();
        if let Some(name) = argv.first_mut() {
            *name = program.clone().into();
        }
        let (environment, user) = (self.environment(), self.other_user()?.cloned());
        let (drain, nice, leftovers) = (self.limits.drain, self.nice, self.leftovers);
        Ok(Prepared { program, argv, dir, environment, user, drain, nice, leftovers })
    }

    /// Its environment; of two of one name the later counts.
    fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut all: Vec<(OsString, OsString)> =
            vec![("PATH".into(), self.path()), ("LANG".into(), "C.UTF-8".into())];
        match &self.user {
            Some(user) => {
                all.push(("HOME".into(), user.home.clone().into()));
                all.extend(["USER", "LOGNAME"].map(|key| (key.into(), user.name.clone().into())));
            }
            None => all.push(("HOME".into(), std::env::var_os("HOME").unwrap_or_else(|| "/".into()))),
        }
        all.extend(self.env.iter().cloned());
        all.extend(super::orphans::mark().filter(|_| self.is_bound()));
        all
    }

    /// Whether it must not live without us: our own tools. What users' definitions name may start what is to stay.
    const fn is_bound(&self) -> bool {
        matches!(self.sandbox, Sandbox::Ours) && matches!(self.leftovers, Leftovers::End)
    }

    /// Whether it is to be free, and does not need what only a child of ours can have: our terminal.
    pub(super) const fn may_leave(&self) -> bool {
        matches!(self.sandbox, Sandbox::None)
            && !matches!(self.stdin, Stdin::Terminal)
            && !matches!(self.stdout, Stdout::Terminal)
    }

    /// Whether it shares our terminal and therefore our process group.
    pub(super) const fn on_terminal(&self) -> bool {
        matches!(self.stdin, Stdin::Terminal)
    }

    /// Programs and arguments in the order in which they execute each other, the wanted one last.
    fn wrapped(&self, program: PathBuf) -> Result<Vec<OsString>, Error> {
        let mut argv: Vec<OsString> = Vec::with_capacity(self.argv.len() + 12);
        if self.nice {
            argv.extend(["nice", "-n", "10", "--"].map(OsString::from));
        }
        argv.push(setpriv()?.into());
        argv.extend(["--pdeathsig", "KILL"].map(OsString::from));
        if let Some(user) = self.other_user()? {
            argv.extend(["--reuid".into(), user.uid.to_string().into()]);
            argv.extend(["--regid".into(), user.gid.to_string().into(), "--init-groups".into()]);
        }
        argv.push("--".into());
        argv.push(program.into());
        argv.extend(self.argv.iter().skip(1).cloned());
        Ok(argv)
    }

    /// The user to become, if it is not ourselves.
    fn other_user(&self) -> Result<Option<&Account>, Error> {
        let Some(user) = &self.user else { return Ok(None) };
        let own = rustix::process::geteuid();
        if own.is_root() {
            return Ok((user.uid != 0).then_some(user));
        }
        if own.as_raw() == user.uid {
            return Ok(None);
        }
        Err(Error::OtherUser { program: self.name(), user: user.name.clone() })
    }

    fn check_dir(&self, dir: &Path) -> Result<(), Error> {
        let failed = |source| Error::Directory { program: self.name(), dir: dir.into(), source };
        match std::fs::metadata(dir) {
            Ok(meta) if meta.is_dir() => Ok(()),
            Ok(_) => Err(failed(io::ErrorKind::NotADirectory.into())),
            Err(source) => Err(failed(source)),
        }
    }

    /// The search path: what the caller gave, else our own, else the usual one.
    fn path(&self) -> OsString {
        let given = self.env.iter().rev().find(|(k, _)| k == "PATH").map(|(_, v)| v.clone());
        given.or_else(|| std::env::var_os("PATH")).unwrap_or_else(|| DEFAULT_PATH.into())
    }

    fn resolve(&self, dir: &Path) -> Result<PathBuf, Error> {
        let name = self.argv.first().filter(|n| !n.is_empty()).ok_or_else(|| Error::NotFound("".into()))?;
        search(name, dir, &self.path())
    }
}

/// A `Command` that runs a whole vector.
trait FromArgv {
    fn from_argv(argv: &[OsString]) -> Self;
}

impl FromArgv for Command {
    #[expect(clippy::disallowed_methods, reason = "this is the room that spawns")]
    fn from_argv(argv: &[OsString]) -> Self {
        let mut command = Self::new(argv.first().map_or(OsStr::new(""), OsString::as_os_str));
        command.args(argv.iter().skip(1));
        command
    }
}

/// Finds a program by absolute path, or by bare name on our own PATH.
///
/// # Errors
/// [`Error::NotFound`], or [`Error::NotExecutable`] when there is a file that cannot be executed.
pub fn find(name: &Path) -> Result<PathBuf, Error> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    search(name.as_os_str(), Path::new("/"), &path)
}

/// Where `setpriv` is.
pub(super) fn setpriv() -> Result<PathBuf, Error> {
    static FOUND: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    if let Some(path) = FOUND.get() {
        return Ok(path.clone());
    }
    let own = std::env::var_os("PATH").unwrap_or_default();
    let path = search(OsStr::new("setpriv"), Path::new("/"), &own)
        .or_else(|_| search(OsStr::new("setpriv"), Path::new("/"), OsStr::new(DEFAULT_PATH)))
        .map_err(|_| Error::NoSetpriv)?;
    Ok(FOUND.get_or_init(|| path).clone())
}

fn search(name: &OsStr, dir: &Path, path: &OsStr) -> Result<PathBuf, Error> {
    if name.as_encoded_bytes().contains(&b'/') {
        return executable(&dir.join(name));
    }
    let mut refused = None;
    for place in std::env::split_paths(path).filter(|p| p.is_absolute()) {
        match executable(&place.join(name)) {
            Ok(found) => return Ok(found),
            Err(error @ Error::NotExecutable { .. }) => refused = Some(error),
            Err(_) => {}
        }
    }
    Err(refused.unwrap_or_else(|| Error::NotFound(name.into())))
}

fn executable(path: &Path) -> Result<PathBuf, Error> {
    let refused = |reason: &str| Error::NotExecutable { program: path.into(), reason: reason.into() };
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::NotFound(path.into())),
        Err(error) => return Err(refused(&error.to_string())),
    };
    if !meta.is_file() {
        return Err(refused("it is not a file"));
    }
    if meta.permissions().mode() & 0o111 == 0 {
        return Err(refused("its mode has no x; chmod +x it"));
    }
    Ok(path.into())
}

impl Stdin {
    /// What the child gets, and what is to be written into it.
    pub(super) fn split(self) -> (Stdio, Option<Vec<u8>>) {
        match self {
            Self::Null => (Stdio::null(), None),
            Self::Bytes(bytes) | Self::Held(bytes) => (Stdio::piped(), Some(bytes)),
            Self::File(fd) => (fd.into(), None),
            Self::Terminal => (Stdio::inherit(), None),
        }
    }
}

impl Stdout {
    /// What the child gets as standard output and error.
    pub(super) fn split(self) -> (Stdio, Stdio) {
        match self {
            Self::Heard => (Stdio::piped(), Stdio::piped()),
            Self::File(fd) => (fd.into(), Stdio::piped()),
            Self::Terminal => (Stdio::inherit(), Stdio::inherit()),
        }
    }
}
