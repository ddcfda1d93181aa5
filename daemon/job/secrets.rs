//! Passwords and credentials as restic takes them: files that only we can read, an environment for that one child.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::definition::{Password, Repository};
use crate::process::{self, Limits, Program};
use crate::state::durable;
use crate::target::{MAX_SECRET, read_secret};

/// How long a password command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// The file that holds a repository's password.
///
/// A generated password is made once; when the repository was seen before and its password file is gone, nothing new
/// is made up, for it would open nothing.
pub(super) async fn password_file(
    repository: &Repository,
    place: &Path,
    seen_before: bool,
    cancel: &CancellationToken,
) -> anyhow::Result<PathBuf> {
    match &repository.password {
        Password::File(path) => checked(path.clone()).await,
        Password::Credential(name) => checked(credential(name)?).await,
        Password::Command(argv) => from_command(argv, place, cancel).await,
        Password::Generated(path) => generated(path.clone(), seen_before).await,
    }
}

fn credential(name: &str) -> anyhow::Result<PathBuf> {
    let Some(dir) = std::env::var_os("CREDENTIALS_DIRECTORY") else {
        bail!("systemd handed no credentials to this daemon; add LoadCredential={name}:FILE to its unit");
    };
    Ok(Path::new(&dir).join(name))
}

/// A secret file that exists, is a regular file, is not empty and is not readable by everybody.
async fn checked(path: PathBuf) -> anyhow::Result<PathBuf> {
    tokio::task::spawn_blocking(move || {
        read_secret(&path)?;
        Ok(path)
    })
    .await?
}

async fn from_command(argv: &[String], place: &Path, cancel: &CancellationToken) -> anyhow::Result<PathBuf> {
    let argv: Vec<OsString> = argv.iter().map(OsString::from).collect();
    let limits = Limits::within(COMMAND_LIMIT);
    let program = Program { limits, sandbox: process::Sandbox::None, ..Program::new(argv) };
    let output = process::capture(program, cancel, MAX_SECRET).await;
    let output = output.context("running password_command")?;
    ensure!(output.ended.ok(), "password_command failed: {}", output.ended.stderr_tail);
    let output = output.stdout;
    ensure!(!output.trim_ascii().is_empty(), "password_command printed nothing");
    let path = place.join("password");
    let (dir, target) = (place.to_owned(), path.clone());
    tokio::task::spawn_blocking(move || {
        durable::create_dir(&dir, 0o700)?;
        durable::write(&target, 0o600, &output)
    })
    .await??;
    Ok(path)
}

async fn generated(path: PathBuf, seen_before: bool) -> anyhow::Result<PathBuf> {
    tokio::task::spawn_blocking(move || {
        if path.exists() {
            read_secret(&path)?;
            return Ok(path);
        }
        ensure!(
            !seen_before,
            "the generated password {} is gone, and the repository cannot be opened without it; put the saved key back there",
            path.display()
        );
        if let Some(dir) = path.parent() {
            durable::create_dir(dir, 0o700)?;
        }
        let mut bytes = [0_u8; 32];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        durable::write(&path, 0o600, format!("{text}\n").as_bytes())?;
        Ok(path)
    })
    .await?
}

/// The backend's credentials: `NAME=value` lines of the environment file.
pub(super) async fn environment(repository: &Repository) -> anyhow::Result<Vec<(String, SecretString)>> {
    let Some(path) = repository.environment_file.clone() else { return Ok(Vec::new()) };
    let name = repository.name.clone();
    tokio::task::spawn_blocking(move || {
        let text = read_secret(&path).with_context(|| format!("the credentials of repository {name}"))?;
        parse_environment(&text).with_context(|| path.display().to_string())
    })
    .await?
}

fn parse_environment(text: &str) -> anyhow::Result<Vec<(String, SecretString)>> {
    let mut variables = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            bail!("line {}: NAME=value is wanted", index + 1);
        };
        let name = name.trim();
        ensure!(
            !name.starts_with("LD_") && !matches!(name, "RESTIC_PASSWORD" | "RESTIC_REPOSITORY" | "PATH"),
            "line {}: {name} may not be set here",
            index + 1
        );
        let value = value.trim();
        let quoted = ['"', '\''].iter().find_map(|q| value.strip_prefix(*q)?.strip_suffix(*q));
        variables.push((name.to_owned(), SecretString::from(quoted.unwrap_or(value))));
    }
    Ok(variables)
}
