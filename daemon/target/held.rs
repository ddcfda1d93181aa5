//! A volume whose data only its engine reaches: another driver, or a mount that is there only while a container uses it.
//!
//! A container that mounts it runs *our* `tar` over it, from this machine's `/usr`, so the image may be any: nothing of it
//! is run, and nothing is pulled. Measured with Docker 20.10 against `docker cp` of a container that was never started:
//! that keeps owners, modes, times and hard links, but loses ACLs and other extended attributes, fills holes, and can
//! empty nothing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::account::account;
use crate::process::{self, Account, Captured, Ended, Limits, Program, Sandbox};

/// How long one question to an engine may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most that an engine may answer, in bytes.
const MAX_ANSWER: usize = 8 << 20;
/// Where the helper sees the volume: no image has such a place, so none of its files get into a new volume.
const INSIDE: &str = "/holdfast-volume";
/// What our programs need of this machine, as far as it is there.
const PROGRAMS: [&str; 4] = ["/usr", "/bin", "/lib", "/lib64"];
/// All that a file has, by number.
const ALL: [&str; 4] = ["--numeric-owner", "--acls", "--xattrs", "--xattrs-include=*"];
/// Empties the volume, unpacks what comes, and has it written to the disk.
const FILL: &str = "find \"$1\" -mindepth 1 -delete && shift && \"$@\" && sync --file-system .";

/// A volume behind its engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// `docker` or `podman`.
    pub engine: String,
    /// The user whose podman it is.
    pub user: Option<String>,
    /// The instance that has it.
    pub instance: String,
    /// Its name in the tree.
    pub name: String,
    /// Its name for the engine.
    pub volume: String,
    /// It is in memory, and gone with the last container that uses it.
    #[serde(default)]
    pub in_memory: bool,
}

impl Held {
    /// For people.
    pub fn shown(&self) -> String {
        format!("volume {} of {}", self.volume, self.engine)
    }

    /// The container that reads or writes it; one that a dead job left is ended. To be called before each use.
    ///
    /// # Errors
    /// The engine does not answer, or has no image that a container could be made of.
    pub async fn image(&self, cancel: &CancellationToken) -> Result<String> {
        self.call(&["rm", "--force", &self.helper()], cancel).await?;
        let filter = format!("volume={}", self.volume);
        let using = self.answer(&["ps", "--all", "--quiet", "--filter", &filter], cancel).await?;
        for container in using.lines() {
            // A container may be gone by now, and its image with it.
            let asked = ["container", "inspect", "--format", "{{.Image}}", container];
            if let Ok(image) = self.answer(&asked, cancel).await {
                return Ok(image.trim().to_owned());
            }
        }
        let all = self.answer(&["image", "ls", "--quiet", "--no-trunc"], cancel).await?;
        let any = all.lines().next().map(|line| line.trim().to_owned());
        any.filter(|image| !image.is_empty()).ok_or_else(|| {
            let engine = &self.engine;
            anyhow!(
                "{engine} has no image that a container could be made of to reach it; load one, any will do"
            )
        })
    }

    /// Writes all of the volume as a tar to its standard output.
    ///
    /// # Errors
    /// There is no `tar` here; no such user.
    pub fn reader(&self, image: &str) -> Result<Program> {
        let mut inside = vec![tool("tar")?, "--create".into(), "--file=-".into(), directory(INSIDE)];
        inside.extend(["--format=posix", "--sparse"].into_iter().chain(ALL).map(OsString::from));
        inside.push(".".into());
        self.helper_program(image, ":ro", inside)
    }

    /// Empties the volume and unpacks a tar from its standard input into it.
    ///
    /// # Errors
    /// A tool is missing here; no such user.
    pub fn writer(&self, image: &str) -> Result<Program> {
        let mut inside: Vec<OsString> =
            vec![tool("sh")?, "-c".into(), FILL.into(), "fill".into(), INSIDE.into()];
        inside.extend([tool("tar")?, "--extract".into(), "--file=-".into(), "--totals".into()]);
        inside.extend(["--same-owner", "--preserve-permissions"].map(OsString::from));
        inside.extend(ALL.map(OsString::from));
        self.helper_program(image, "", inside)
    }

    fn helper_program(&self, image: &str, access: &str, inside: Vec<OsString>) -> Result<Program> {
        let mut argv: Vec<OsString> = [
            "run",
            "--rm",
            "--interactive",
            "--pull=never",
            "--network=none",
            // What it prints is the volume's data, and would be kept.
            "--log-driver=none",
            "--no-healthcheck",
            // Else it may not read what is labelled for others.
            "--security-opt=label=disable",
            "--user=0:0",
            // What an image says for its own programs is not for ours.
            "--env=LD_PRELOAD=",
            "--env=LD_LIBRARY_PATH=",
            "--env=TAR_OPTIONS=",
            "--env=LC_ALL=C",
            "--env=PATH=/usr/bin:/bin",
        ]
        .map(OsString::from)
        .to_vec();
        argv.push(format!("--name={}", self.helper()).into());
        argv.push(format!("--workdir={INSIDE}").into());
        argv.push(format!("--volume={}:{INSIDE}{access}", self.volume).into());
        for dir in PROGRAMS.into_iter().filter(|dir| Path::new(dir).is_dir()) {
            argv.push(format!("--volume={dir}:{dir}:ro").into());
        }
        let mut inside = inside.into_iter();
        let mut entry = OsString::from("--entrypoint=");
        entry.push(inside.next().context("nothing to run")?);
        argv.extend([entry, image.into()]);
        argv.extend(inside);
        self.program(argv)
    }

    /// The helper's name: one for each volume of an instance, so that the next one finds what a dead job left.
    fn helper(&self) -> String {
        format!("holdfast-{}-{}", self.instance, self.name)
    }

    fn program(&self, arguments: Vec<OsString>) -> Result<Program> {
        let user = self.user.as_deref().map(|name| account(Some(name))).transpose()?;
        Ok(engine_program(&self.engine, user.as_ref(), arguments))
    }

    async fn call(&self, arguments: &[&str], cancel: &CancellationToken) -> Result<Captured> {
        let mut program = self.program(arguments.iter().map(OsString::from).collect())?;
        program.limits = Limits::within(PATIENCE);
        let captured = process::capture(program, cancel, MAX_ANSWER).await;
        captured.with_context(|| format!("running `{} {}`", self.engine, arguments.join(" ")))
    }

    async fn answer(&self, arguments: &[&str], cancel: &CancellationToken) -> Result<String> {
        let Captured { stdout, ended } = self.call(arguments, cancel).await?;
        if !ended.ok() {
            let said = ended.stderr_tail.trim();
            bail!("`{} {}` failed: {said}", self.engine, arguments.join(" "));
        }
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }
}

/// The program of an engine; podman as the user whose it is, and free, for what it starts is.
pub(super) fn engine_program(engine: &str, user: Option<&Account>, arguments: Vec<OsString>) -> Program {
    let mut program = Program::new(std::iter::once(OsString::from(engine)).chain(arguments));
    if let Some(user) = user {
        program.dir = Some(user.home.clone()).filter(|home| home.is_dir());
        program.env.extend(super::hooks::session(user));
        program.user = Some(user.clone());
        program.sandbox = Sandbox::None;
    }
    program
}

/// The bytes that tar, with `--totals`, says it wrote or read.
pub fn tar_bytes(ended: &Ended) -> Option<u64> {
    let line = ended.stderr_tail.lines().find(|line| line.starts_with("Total bytes "))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// Packs a directory as a tar to its standard output, but for names that are ours.
///
/// # Errors
/// There is no `tar` here.
pub fn packer(from: &Path, but: &str) -> Result<Program> {
    let mut argv = vec![tool("tar")?, "--create".into(), "--file=-".into(), "--totals".into()];
    argv.push(directory(from));
    argv.extend(["--format=posix", "--sparse"].into_iter().chain(ALL).map(OsString::from));
    argv.extend([format!("--exclude={but}").into(), ".".into()]);
    Ok(Program::new(argv))
}

fn directory(dir: impl AsRef<Path>) -> OsString {
    let mut option = OsString::from("--directory=");
    option.push(dir.as_ref());
    option
}

/// One of our own programs, by the path that it really has.
fn tool(name: &str) -> Result<OsString> {
    let found: PathBuf = process::find(Path::new(name))?;
    let dir = found.parent().map(Path::canonicalize).transpose();
    let dir = dir.with_context(|| found.display().to_string())?.unwrap_or_default();
    Ok(dir.join(name).into())
}
