//! The programs of a module: which they are, whether they may be run, and their environment.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::geteuid;

use super::Place;
use super::environment::Environment;
use super::ssh::over_ssh;
use crate::definition::Remote;
use crate::process::{Account, Limits, Program, Sandbox, Stdin};

/// Where hooks find the system's programs.
pub(super) const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The time between SIGINT, SIGTERM and SIGKILL: both fit into a drain, with room for the cleanup after them.
const GRACE: Duration = Duration::from_secs(5);

/// One step of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its place in the order; files and volumes are restored at 10.
    pub number: u32,
    /// Its file name.
    pub name: String,
    /// The program.
    pub path: PathBuf,
}

/// The steps of a restore in order, and what was ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Steps {
    /// By number, then by name.
    pub steps: Vec<Step>,
    /// Files that are no steps.
    pub warnings: Vec<String>,
}

impl Place {
    /// The program that prepares the instance's data for this backup; `None`: it has none.
    pub fn dump_hook(&self, backup: &str) -> Option<Program> {
        self.dump.as_deref().map(|argv| self.hook(argv, backup))
    }

    /// The program that clears up after [`Place::dump_hook`]; `None`: it has none.
    pub fn cleanup_hook(&self, backup: &str) -> Option<Program> {
        self.cleanup.as_deref().map(|argv| self.hook(argv, backup))
    }

    /// What runs around a restore: the executables `NNname` of the steps' directory.
    ///
    /// # Errors
    /// A step that cannot or must not be executed; an explicit directory that is missing.
    pub fn restore_steps(&self) -> Result<Steps> {
        let Some(dir) = self.steps_dir()? else { return Ok(Steps::default()) };
        let reading = || format!("reading the restore steps in {}", dir.display());
        let mut found = Steps::default();
        for entry in fs::read_dir(&dir).with_context(reading)? {
            let entry = entry.with_context(reading)?;
            self.take_step(&entry.path(), &mut found)?;
        }
        found.steps.sort_by(|a, b| (a.number, &a.name).cmp(&(b.number, &b.name)));
        found.warnings.sort();
        Ok(found)
    }

    /// A restore step with its request on standard input. `state/environment` is read anew, for steps may change it.
    ///
    /// # Errors
    /// The file `state/environment` cannot be read.
    pub fn step_program(&self, step: &Step, request: Vec<u8>) -> Result<Program> {
        let environment = self.read_environment()?;
        let mut program = self.program(&[step.path.clone().into_os_string()], &environment);
        match &self.instance.remote {
            Some(remote) => {
                program = Program { limits: program.limits, ..self.step_there(remote, step, request) };
            }
            None => program.stdin = Stdin::Bytes(request),
        }
        Ok(program)
    }

    /// A program of the definition (its version command, say) in the same surroundings as a hook.
    ///
    /// # Errors
    /// It is missing, or cannot or must not be executed.
    pub fn command(&self, key: &str, argv: &[String]) -> Result<Program> {
        let argv = self.explicit(key, argv)?.ok_or_else(|| anyhow!("`{key}` is empty"))?;
        Ok(self.program(&argv, &self.environment))
    }

    fn hook(&self, argv: &[OsString], backup: &str) -> Program {
        let mut argv = argv.to_vec();
        argv.insert(1, backup.into());
        self.program(&argv, &self.environment)
    }

    fn program(&self, argv: &[OsString], environment: &Environment) -> Program {
        let mut program = match &self.instance.remote {
            Some(remote) => self.over_there(remote, argv),
            None => self.here(argv, environment),
        };
        program.limits = Limits {
            timeout: Some(self.instance.hook_timeout),
            stall: Some(self.instance.stall_timeout),
            work_counts: true,
            grace: GRACE,
            ..Limits::NONE
        };
        program
    }

    /// As the instance's user, free of our sandbox.
    fn here(&self, argv: &[OsString], environment: &Environment) -> Program {
        let mut program = Program::new(argv.iter().cloned());
        program.dir = Some(self.working_dir());
        program.env = self.variables(environment);
        program.user = Some(self.account.clone());
        program.sandbox = Sandbox::None;
        program
    }

    /// On the machine that the instance is on, in the home of whom we log in as.
    fn over_there(&self, remote: &Remote, argv: &[OsString]) -> Program {
        let mut all: Vec<OsString> = vec!["env".into(), format!("MODULE_ID={}", self.instance.name).into()];
        all.extend_from_slice(argv);
        Program::new(over_ssh(remote, all))
    }

    fn working_dir(&self) -> PathBuf {
        let home = || Some(self.account.home.clone()).filter(|home| home.is_dir());
        self.state_dir.clone().or_else(home).unwrap_or_else(|| "/".into())
    }

    fn variables(&self, environment: &Environment) -> Vec<(OsString, OsString)> {
        let mut own: Vec<(OsString, OsString)> = vec![
            ("MODULE_ID".into(), self.instance.name.as_str().into()),
            ("PATH".into(), self.path()),
            ("HOME".into(), self.account.home.clone().into()),
            ("USER".into(), self.account.name.clone().into()),
            ("LOGNAME".into(), self.account.name.clone().into()),
        ];
        if let (Some(install), Some(state)) = (&self.install_dir, &self.state_dir) {
            own.push(("AGENT_INSTALL_DIR".into(), install.clone().into()));
            own.push(("AGENT_STATE_DIR".into(), state.clone().into()));
        }
        own.extend(session(&self.account));
        let given = environment.variables.iter().map(|(name, value)| (OsString::from(name), value.clone()));
        let mut all: Vec<_> = given.filter(|(name, _)| !own.iter().any(|(known, _)| known == name)).collect();
        all.extend(own);
        all
    }

    fn path(&self) -> OsString {
        let mut path = self.tools.clone().into_os_string();
        if let Some(install) = &self.install_dir {
            path.push(":");
            path.push(install.join("bin"));
        }
        path.push(":");
        path.push(SYSTEM_PATH);
        path
    }

    /// A hook as given by its key, or NS8's default if that file is there.
    pub(super) fn find_hook(
        &self,
        key: &str,
        given: Option<&[String]>,
        default: &str,
    ) -> Result<Option<Vec<OsString>>> {
        if let Some(argv) = given {
            return self.explicit(key, argv);
        }
        let Some(path) = self.install_dir.as_ref().map(|dir| dir.join(default)) else { return Ok(None) };
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            _ => self.check_executable(&path).map(|()| Some(vec![path.into()])),
        }
    }

    fn explicit(&self, key: &str, argv: &[String]) -> Result<Option<Vec<OsString>>> {
        let Some((name, arguments)) = argv.split_first() else { return Ok(None) };
        if self.instance.remote.is_some() {
            return Ok(Some(argv.iter().map(OsString::from).collect()));
        }
        let path = self.find_program(name).with_context(|| format!("`{key}`"))?;
        self.check_executable(&path).with_context(|| format!("`{key}`"))?;
        Ok(Some(std::iter::once(path.into()).chain(arguments.iter().map(OsString::from)).collect()))
    }

    /// Absolute; with a slash in it: below the install dir; a bare name: on the hooks' search path.
    fn find_program(&self, name: &str) -> Result<PathBuf> {
        if name.starts_with('/') {
            return Ok(name.into());
        }
        if name.contains('/') {
            let install = self.install_dir.as_ref();
            let install =
                install.ok_or_else(|| anyhow!("{name:?} is relative, but there is no `install_dir`"))?;
            return Ok(install.join(name));
        }
        let path = self.path();
        let mut places = std::env::split_paths(&path).map(|dir| dir.join(name));
        places
            .find(|path| path.is_file())
            .ok_or_else(|| anyhow!("program {name:?} is not on the hooks' PATH"))
    }

    /// A program that the instance's user will run must be executable, and nobody else may be able to change it.
    fn check_executable(&self, path: &Path) -> Result<()> {
        let shown = path.display();
        let meta = match fs::metadata(path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => bail!("program {shown} is missing"),
            Err(error) => return Err(error).with_context(|| format!("looking at program {shown}")),
        };
        if !meta.is_file() {
            bail!("program {shown} is not a file");
        }
        if meta.mode() & 0o111 == 0 {
            bail!("program {shown} is not executable; chmod +x it");
        }
        self.check_unshared(path, &meta, 0o022)?;
        let real = path.canonicalize().with_context(|| format!("resolving program {shown}"))?;
        for dir in real.ancestors().skip(1) {
            let meta = fs::metadata(dir).with_context(|| format!("looking at {}", dir.display()))?;
            // In a directory like /tmp others may have entries of their own but cannot touch ours; /usr/local is
            // writable by a group of administrators.
            let sticky = meta.mode() & 0o1000 != 0;
            self.check_unshared(dir, &meta, if sticky { 0 } else { 0o002 })?;
        }
        Ok(())
    }

    fn check_unshared(&self, path: &Path, meta: &fs::Metadata, forbidden: u32) -> Result<()> {
        let (shown, user) = (path.display(), &self.account.name);
        if ![0, self.account.uid, geteuid().as_raw()].contains(&meta.uid()) {
            bail!("{shown} belongs to neither root nor {user}, who would run what lies there; chown it");
        }
        if meta.mode() & forbidden != 0 {
            bail!("{shown} can be changed by others than its owner, and {user} would run it; chmod go-w it");
        }
        Ok(())
    }

    fn steps_dir(&self) -> Result<Option<PathBuf>> {
        let given = self.instance.restore.steps.as_deref();
        let relative = given.unwrap_or(Path::new("actions/restore-module"));
        if relative.is_relative() && self.install_dir.is_none() {
            return given.map_or(Ok(None), |dir| {
                bail!("`restore.steps` {} is relative, but there is no `install_dir`", dir.display())
            });
        }
        let dir = self.install_dir.as_deref().unwrap_or(Path::new("/")).join(relative);
        match (dir.is_dir(), given) {
            (true, _) => Ok(Some(dir)),
            (false, None) => Ok(None),
            (false, Some(_)) => bail!("`restore.steps`: there is no directory {}", dir.display()),
        }
    }

    fn take_step(&self, path: &Path, found: &mut Steps) -> Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let digits = name.bytes().take_while(u8::is_ascii_digit).count();
        match name[..digits].parse() {
            _ if path.is_dir() || name.starts_with("validate-") => {}
            Ok(number) => {
                self.check_executable(path).context("restore step")?;
                found.steps.push(Step { number, name, path: path.to_owned() });
            }
            Err(_) => {
                found.warnings.push(format!("{} is no restore step: its name has no number", path.display()))
            }
        }
        Ok(())
    }
}

/// The session of a user that is logged in or lingers; without one there is nothing to name.
pub fn session(account: &Account) -> Option<(OsString, OsString)> {
    let dir = PathBuf::from(format!("/run/user/{}", account.uid));
    (account.uid != 0 && dir.is_dir()).then(|| ("XDG_RUNTIME_DIR".into(), dir.into()))
}
