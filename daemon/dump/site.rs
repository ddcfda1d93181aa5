//! Where a source is: whom its clients run as, in which container, how they log in.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::container::{self, Beside, Contained, Whose};
use super::far;
use super::lies::Lies;
use super::login::{self, Login};
use super::run::{self, Call};
use crate::definition::{Dump, Source};
use crate::process::{Account, Limits, Program, Sandbox, Stdin};
use crate::target::{Place, account, tied};

/// How long a short question may take.
pub(super) const QUESTION: Duration = Duration::from_secs(60);
/// The time between SIGINT, SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// Below the runtime directory: a directory per source at work, with what its clients read a password from.
const SCRATCH: &str = "dumps";

/// A data source, found and ready to be spoken to.
#[derive(Debug)]
pub struct Site {
    pub(super) dump: Dump,
    pub(super) place: Place,
    /// Whom local client programs run as.
    account: Account,
    pub(super) contained: Option<Contained>,
    pub(super) login: Login,
    /// For client programs' password files; only their user enters it.
    scratch: TempDir,
    pub(super) cancel: CancellationToken,
    /// What client programs have said of their versions.
    versions: Mutex<BTreeMap<String, String>>,
    /// Programs in its container end when we do.
    ties: bool,
}

impl Site {
    /// Finds a source: the user, the container, the password. `runtime` is the daemon's runtime directory.
    ///
    /// # Errors
    /// What is not there, or is not as it must be.
    pub async fn open(
        place: &Place,
        dump: &Dump,
        runtime: &Path,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let account = match dump.run_as.as_deref().filter(|_| dump.remote.is_none()) {
            None => place.account.clone(),
            Some(user) => account(Some(user)).context("`run_as`")?,
        };
        let (runtime, owner) = (runtime.to_owned(), account.clone());
        let scratch = tokio::task::spawn_blocking(move || scratch(&runtime, &owner)).await??;
        let contained = match &dump.container {
            None => None,
            Some(container) => {
                let user = dump.run_as.as_deref();
                let whose = Whose { account: &account, remote: dump.remote.as_ref(), user };
                Some(Contained::find(container, whose, cancel).await?)
            }
        };
        let (place, dump, cancel) = (place.clone(), dump.clone(), cancel.clone());
        let (login, versions) = (Login::default(), Mutex::default());
        let mut site =
            Self { dump, place, account, contained, login, scratch, cancel, versions, ties: false };
        // What is exchanged while the server is stopped can be restored into one that does not run.
        if !matches!(site.dump.source, Source::Openldap(_) | Source::Etcd(_)) {
            site.runs()?;
        }
        site.ties = site.has_shell().await;
        site.login = login::find(&site).await?;
        Ok(site)
    }

    /// The dump's name in its instance.
    pub fn name(&self) -> &str {
        &self.dump.name
    }

    /// A client program that asks something.
    pub(super) fn question<I>(&self, argv: I, env: &[(&str, OsString)]) -> Call
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        let mut call = self.client(argv, env);
        call.program.limits = Limits::within(QUESTION);
        call
    }

    /// A client program that may take long, as long as it makes progress.
    pub(super) fn client<I>(&self, argv: I, env: &[(&str, OsString)]) -> Call
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        let mut inner: Vec<OsString> = argv.into_iter().map(Into::into).collect();
        let name = inner.first().cloned().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(program) = inner.first_mut() {
            *program = self.placed(program);
        }
        if let Some(remote) = &self.dump.remote {
            let around = self.contained.as_ref().map(|inside| inside.exec(Vec::new(), std::iter::empty()));
            let user = self.dump.run_as.as_deref();
            let far::Far { tied, reads } = far::program(remote, user, (around, inner), env);
            let [program, reads] = [tied, reads].map(|program| Program { limits: self.long(), ..program });
            return Call { name, program, far: Some(remote.clone()), reads: Some(Box::new(reads)) };
        }
        let program = |argv: Vec<OsString>| {
            let mut program = Program::new(argv);
            program.env = variables(env);
            self.confine(&mut program);
            program.limits = self.long();
            program
        };
        let Some(contained) = &self.contained else { return Call::here(name, program(inner)) };
        let exec = |inner| program(contained.exec(inner, env.iter().map(|(key, _)| *key)));
        // What a script has begun would be left alone in the container when the script is ended.
        if !self.ties || name == "sh" || matches!(self.dump.source, Source::Command(_)) {
            return Call::here(name, exec(inner));
        }
        // Whoever ends the engine's program does not end what that began in the container; the end of its input does.
        let mut held = exec(tied(inner.clone()));
        held.stdin = Stdin::Held(Vec::new());
        Call { name, program: held, far: None, reads: Some(Box::new(exec(inner))) }
    }

    /// Whether there is a shell in the container that can tie a program to us.
    async fn has_shell(&self) -> bool {
        let shell = self.question(["sh", "-c", ":"], &[]);
        let runs = self.contained.as_ref().is_some_and(Contained::running) && self.dump.remote.is_none();
        runs && run::ask(shell, &self.cancel).await.is_ok()
    }

    /// A program in a throw-away container beside the server's; where there is none on the server's machine, here as
    /// ourselves.
    pub(super) fn beside(
        &self,
        argv: Vec<OsString>,
        env: &[(&str, OsString)],
        (binds, volume): (&[(PathBuf, PathBuf)], Option<&str>),
        named: bool,
        online: bool,
    ) -> Call {
        let name = argv.first().cloned().unwrap_or_default().to_string_lossy().into_owned();
        if self.dump.remote.is_some() {
            return self.client(argv, env);
        }
        let Some(contained) = &self.contained else {
            let mut call = self.ours(argv);
            call.program.env = variables(env);
            return call;
        };
        let own = self.own_name();
        let volume = volume.map(|there| (&*own, there));
        let beside = Beside { name: named.then_some(&own), binds, volume, online };
        let mut program = Program::new(contained.beside(argv, &beside, env.iter().map(|(key, _)| *key)));
        program.env = variables(env);
        self.confine(&mut program);
        // Whether what is inside makes progress cannot be seen from here.
        program.limits = match named {
            true => Limits { grace: GRACE, ..Limits::within(self.place.instance.hook_timeout) },
            false => Limits::within(QUESTION),
        };
        Call::here(name, program)
    }

    /// Whether its container is of a podman without root, whose user may not enter our directories.
    pub(super) fn foreign(&self) -> bool {
        self.contained.as_ref().is_some_and(Contained::foreign)
    }

    /// A short call of the engine of its container.
    pub(super) fn engine<I>(&self, argv: I) -> Call
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        let word = self.contained.as_ref().map_or("podman", |contained| contained.engine().word());
        let mut program =
            Program::new(std::iter::once(OsString::from(word)).chain(argv.into_iter().map(Into::into)));
        self.confine(&mut program);
        program.limits = Limits::within(QUESTION);
        Call::here(word.to_owned(), program)
    }

    /// The name of our own container, and of our own volume.
    pub(super) fn own_name(&self) -> String {
        format!("holdfast-{}-{}", self.place.instance.name, self.dump.name)
    }

    /// What tells whether it is there, and what removes it.
    pub(super) fn own_container(&self) -> Option<(Call, Call)> {
        let (contained, name) = (self.contained.as_ref()?, self.own_name());
        if self.dump.remote.is_some() {
            return None;
        }
        Some((self.engine(contained.list(&name)), self.engine(contained.remove(&name))))
    }

    /// Where a directory of the server lies on this machine.
    pub(super) async fn lies(&self, inside: &Path) -> Result<Lies> {
        match &self.contained {
            None => Ok(Lies::ours(inside)),
            Some(contained) => contained.lies(inside, &self.account, &self.cancel).await,
        }
    }

    /// Makes sure that the server's container runs, where it is in one.
    pub(super) fn runs(&self) -> Result<()> {
        let stopped = self.contained.as_ref().is_some_and(|contained| !contained.running());
        let name = self.dump.container.as_ref().map_or("", |container| &container.name);
        ensure!(!stopped, "the container {name} is not running; start it");
        Ok(())
    }

    /// A client program in the directory that the definition names.
    fn placed(&self, program: &OsStr) -> OsString {
        let dir = self.dump.source.server().and_then(|server| server.client.as_ref());
        match dir {
            Some(dir) if !program.as_encoded_bytes().contains(&b'/') => dir.join(program).into(),
            _ => program.to_owned(),
        }
    }

    /// Whether client programs cannot read files of ours, so that a password reaches them by their environment.
    pub(super) fn apart(&self) -> bool {
        self.contained.is_some() || self.dump.remote.is_some()
    }

    /// A program that runs as ourselves, whoever the clients run as: it works in directories that only we enter.
    pub(super) fn ours(&self, argv: Vec<OsString>) -> Call {
        let name = argv.first().cloned().unwrap_or_default().to_string_lossy().into_owned();
        let mut program = Program::new(argv);
        program.limits = self.long();
        Call::here(name, program)
    }

    /// The limits of what may take long.
    pub(super) fn long(&self) -> Limits {
        let stall = Some(self.place.instance.stall_timeout);
        Limits { stall, work_counts: true, grace: GRACE, ..Limits::NONE }
    }

    /// As which user, and whether in the daemon's own sandbox.
    fn confine(&self, program: &mut Program) {
        let own = rustix::process::geteuid().as_raw() == self.account.uid;
        match &self.contained {
            Some(contained) => container::confine(program, contained.engine(), &self.account),
            None if own => {}
            None => {
                program.user = Some(self.account.clone());
                program.sandbox = Sandbox::None;
            }
        }
    }

    /// Writes a file that only the client programs' user can read.
    pub(super) async fn secret_file(&self, name: &str, text: String) -> Result<PathBuf> {
        let (path, owner) = (self.scratch.path().join(name), self.account.clone());
        tokio::task::spawn_blocking(move || {
            use std::io::Write;
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all(text.as_bytes())?;
            give(&path, &owner)?;
            anyhow::Ok(path)
        })
        .await?
        .context("writing a client program's password file")
    }

    /// A directory for sockets and files of programs that we start ourselves.
    pub(super) fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Whether a client program is there, where it would run.
    pub(super) async fn has(&self, program: &str) -> bool {
        match self.apart() {
            false => crate::process::find(Path::new(&self.placed(program.as_ref()))).is_ok(),
            true => self.version(program).await.is_ok(),
        }
    }

    /// What a client program says of its version; asked once, for in a container that takes its time.
    pub(super) async fn version(&self, program: &str) -> Result<String> {
        let known = self.versions.lock().unwrap_or_else(PoisonError::into_inner).get(program).cloned();
        if let Some(said) = known {
            return Ok(said);
        }
        let said = run::ask(self.question([program, "--version"], &[]), &self.cancel).await?;
        let mut known = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(known.entry(program.to_owned()).or_insert(said).clone())
    }
}

/// Removes what dead jobs left of password files. To be called at start.
///
/// # Errors
/// The disk's.
pub fn sweep(runtime: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(runtime.join(SCRATCH)) {
        Err(failure) if failure.kind() != std::io::ErrorKind::NotFound => Err(failure),
        _ => Ok(()),
    }
}

fn scratch(runtime: &Path, owner: &Account) -> Result<TempDir> {
    let all = runtime.join(SCRATCH);
    std::fs::create_dir_all(&all).with_context(|| format!("making {}", all.display()))?;
    // Others may walk through it to their own, not list it.
    std::fs::set_permissions(&all, std::fs::Permissions::from_mode(0o711))?;
    let dir =
        tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o700)).tempdir_in(&all)?;
    give(dir.path(), owner)?;
    Ok(dir)
}

fn give(path: &Path, owner: &Account) -> Result<()> {
    if rustix::process::geteuid().is_root() && owner.uid != 0 {
        std::os::unix::fs::lchown(path, Some(owner.uid), Some(owner.gid))?;
    }
    Ok(())
}

fn variables(env: &[(&str, OsString)]) -> Vec<(OsString, OsString)> {
    env.iter().map(|(key, value)| (OsString::from(key), value.clone())).collect()
}

/// Words for a command line.
pub(super) fn words<const N: usize>(words: [&str; N]) -> Vec<OsString> {
    words.iter().map(|word| OsStr::new(word).to_owned()).collect()
}
