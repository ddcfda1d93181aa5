//! Our own key for an instance: made once, never shown, never replaced.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::super::failure::{Exit, Failure};
use super::capture;
use crate::definition::{Name, Remote};
use crate::process::Program;
use crate::state::durable;

/// How the directories begin that a key is made in.
const MAKING: &str = ".holdfast-key.";

/// Our key's public half.
#[derive(Debug)]
pub(super) struct Own {
    /// `ssh-ed25519 AAAA… holdfast:NAME`.
    pub(super) public: String,
    file: PathBuf,
    made: bool,
}

impl Own {
    pub(super) fn told(&self) -> String {
        format!("{} {}", if self.made { "made:" } else { "there:" }, self.file.display())
    }

    /// What tells it from other keys.
    pub(super) fn blob(&self) -> &str {
        self.public.split(' ').nth(1).unwrap_or_default()
    }
}

/// The key of an instance; made where there is none.
pub(super) async fn own(remote: &Remote, name: &Name) -> Result<Own, Failure> {
    let file = remote.key.clone();
    let dir = file.parent().unwrap_or(Path::new("/"));
    durable::create_dir(dir, 0o700).map_err(|failure| refused(&failure))?;
    let made = match fs::metadata(&file) {
        Ok(found) if found.permissions().mode() & 0o077 != 0 => {
            let why = format!("others can read our private key {}, so it proves nothing", file.display());
            return Err(Failure::failed(why).hint(
                "remove it, and its line from authorized_keys of the other machine; then run this again",
            ));
        }
        Ok(_) => false,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => make(dir, &file, name).await?,
        Err(error) => return Err(refused(&anyhow::anyhow!("reading {}: {error}", file.display()))),
    };
    let public = public(&file, name).await?;
    // Beside it for people: what to put into authorized_keys by hand.
    let beside = PathBuf::from(format!("{}.pub", file.display()));
    durable::write(&beside, 0o644, format!("{public}\n").as_bytes()).map_err(|failure| refused(&failure))?;
    Ok(Own { public, file, made })
}

/// Makes it beside its place and moves it there whole; whoever was first wins.
async fn make(dir: &Path, file: &Path, name: &Name) -> Result<bool, Failure> {
    let place = tempfile::Builder::new().prefix(MAKING).tempdir_in(dir);
    let place = place.map_err(|error| refused(&anyhow::anyhow!("writing to {}: {error}", dir.display())))?;
    let new = place.path().join("key");
    let comment = format!("holdfast:{name}");
    let mut keygen = Program::new(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", &comment, "-f"]);
    keygen.argv.push(new.clone().into());
    let done = capture(keygen).await?;
    if !done.ended.ok() {
        return Err(Failure::failed(format!("ssh-keygen made no key: {}", super::words(&done))));
    }
    let content = fs::read(&new).map_err(|error| Failure::failed(format!("reading the new key: {error}")))?;
    durable::write_new(file, 0o600, &content).map_err(|failure| refused(&failure))
}

/// The public half, from the private one itself: what lies beside it may be another's.
async fn public(file: &Path, name: &Name) -> Result<String, Failure> {
    let mut keygen = Program::new(["ssh-keygen", "-y", "-P", "", "-f"]);
    keygen.argv.push(file.into());
    let done = capture(keygen).await?;
    let text = String::from_utf8_lossy(&done.stdout);
    let words: Vec<&str> = text.split_whitespace().take(2).collect();
    if !done.ended.ok() || words.len() != 2 {
        let why =
            format!("{} is no private key without a passphrase: {}", file.display(), super::words(&done));
        return Err(Failure::failed(why)
            .hint("nobody can type a passphrase in when a backup runs: `ssh-keygen -p` takes it off, or name another `ssh_key`"));
    }
    Ok(format!("{} holdfast:{name}", words.join(" ")))
}

/// What could not be written in the state directory.
pub(super) fn refused(failure: &anyhow::Error) -> Failure {
    let denied = failure.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    let denied = denied.into_iter().any(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
    if !denied {
        return Failure::failed(format!("{failure:#}"));
    }
    Failure::new(Exit::NotAuthorized, format!("{failure:#}"))
        .hint("keys are the daemon's: use sudo, or say where its state is with --state")
}
