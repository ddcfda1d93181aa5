//! The host's key: shown, compared by a person, and only then known.

use std::fs;
use std::path::Path;

use super::super::failure::{Exit, Failure};
use super::super::{Context, ask};
use super::{Check, SetupArgs, capture, key::refused, words};
use crate::definition::Remote;
use crate::process::{Captured, Program};
use crate::state::durable;
use crate::state::lock::{LockFile, Mode};

/// What ssh is told to get the host's key and nothing else: it goes into a file of its own and nobody logs in.
const LOOK: [&str; 9] = [
    "BatchMode=yes",
    "StrictHostKeyChecking=accept-new",
    "GlobalKnownHostsFile=/dev/null",
    "HashKnownHosts=no",
    "UpdateHostKeys=no",
    "PreferredAuthentications=none",
    "ControlPath=none",
    "ConnectTimeout=15",
    "LogLevel=ERROR",
];

/// A host's key as it shows it.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    /// A line for a file of known hosts: names, kind, key.
    line: String,
    /// `SHA256:…`.
    fingerprint: String,
    /// `ED25519`.
    kind: String,
}

/// How the key that a host shows stands to what is known of it.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    Known,
    New,
    Changed,
}

/// Makes the host known, if a person says that it is the right one.
pub(super) async fn trust(context: &Context, args: &SetupArgs, remote: &Remote) -> Result<Check, Failure> {
    let shown = look(remote).await?;
    let file = &remote.known_hosts;
    let before = read(file)?;
    let standing = standing(&before, &shown.line);
    if let Some(given) = &args.host_key {
        compare(given, &shown, remote)?;
    } else if standing != Standing::Known {
        confirm(context, &shown, &standing, remote).await?;
    }
    let what = "the host's key";
    if standing == Standing::Known {
        return Ok(Check::good(remote, what, format!("known: {}", shown.fingerprint)));
    }
    keep(file, &shown.line)?;
    Ok(Check::good(remote, what, format!("known from now on: {}", shown.fingerprint)))
}

/// Asks the host for its key.
async fn look(remote: &Remote) -> Result<Shown, Failure> {
    let place = tempfile::Builder::new().prefix("holdfast-setup.").tempdir();
    let place = place.map_err(|error| Failure::failed(format!("making a private directory: {error}")))?;
    let file = place.path().join("known_hosts");
    let mut ssh = Program::new(["ssh", "-T"]);
    for option in LOOK {
        ssh.argv.extend(["-o".into(), option.into()]);
    }
    ssh.argv.extend(["-o".into(), format!("UserKnownHostsFile={}", file.display()).into()]);
    ssh.argv.extend(remote.port.into_iter().flat_map(|port| ["-p".into(), port.to_string().into()]));
    ssh.argv.extend(["--", &remote.login(), "true"].map(Into::into));
    let done = capture(ssh).await?;
    let line = fs::read_to_string(&file).unwrap_or_default().trim_end().to_owned();
    if line.is_empty() {
        return Err(unreachable(remote, &done));
    }
    let mut keygen = Program::new(["ssh-keygen", "-E", "sha256", "-lf"]);
    keygen.argv.push(file.into());
    let said = capture(keygen).await?;
    let text = String::from_utf8_lossy(&said.stdout).trim_end().to_owned();
    let (fingerprint, kind) = fingerprint(&text).ok_or_else(|| {
        Failure::failed(format!("ssh-keygen says nothing of the host's key: {}", words(&said)))
    })?;
    Ok(Shown { line, fingerprint, kind })
}

fn unreachable(remote: &Remote, done: &Captured) -> Failure {
    Failure::failed(format!("{} cannot be reached over ssh: {}", remote.login(), words(done)))
        .hint("look whether it runs, and whether sshd listens there on that port; nothing was changed")
}

/// `256 SHA256:… host (ED25519)`.
fn fingerprint(text: &str) -> Option<(String, String)> {
    let mut words = text.lines().next()?.split(' ');
    let print = words.nth(1).filter(|word| word.starts_with("SHA256:"))?;
    let kind = words.next_back()?.trim_matches(['(', ')']);
    Some((print.to_owned(), kind.to_owned()))
}

fn read(file: &Path) -> Result<String, Failure> {
    match fs::read_to_string(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|error| {
            refused(&anyhow::Error::new(error).context(format!("reading {}", file.display())))
        }),
    }
}

fn standing(known: &str, line: &str) -> Standing {
    let name = line.split(' ').next().unwrap_or_default();
    let same: Vec<&str> = known.lines().filter(|other| other.split(' ').next() == Some(name)).collect();
    match same.iter().any(|other| key(other) == key(line)) {
        true => Standing::Known,
        false if same.is_empty() => Standing::New,
        false => Standing::Changed,
    }
}

/// Kind and key of a line.
fn key(line: &str) -> Vec<&str> {
    line.split_whitespace().skip(1).take(2).collect()
}

fn compare(given: &str, shown: &Shown, remote: &Remote) -> Result<(), Failure> {
    let bare = |text: &str| text.trim().trim_start_matches("SHA256:").trim_end_matches('=').to_owned();
    if bare(given) == bare(&shown.fingerprint) {
        return Ok(());
    }
    let why = format!(
        "{} shows the {} key {}, and --host-key says {given}: it is not trusted, nothing was changed",
        remote.login(),
        shown.kind,
        shown.fingerprint
    );
    Err(Failure::failed(why).hint(format!("on the machine itself: {}", there(&shown.kind))))
}

/// What to run on the machine itself.
fn there(kind: &str) -> String {
    format!("`ssh-keygen -lf /etc/ssh/ssh_host_{}_key.pub`", kind.to_lowercase())
}

/// Lets a person compare.
async fn confirm(
    context: &Context,
    shown: &Shown,
    standing: &Standing,
    remote: &Remote,
) -> Result<(), Failure> {
    let login = remote.login();
    let changed = if *standing == Standing::Changed {
        format!(
            "{login} shows ANOTHER key than before: it was made anew, or somebody stands in between and would read \
             everything.\n"
        )
    } else {
        String::new()
    };
    let print = format!("{changed}{login} shows the {} key {}", shown.kind, shown.fingerprint);
    if context.out.json || !ask::possible() {
        let again = format!("--host-key {}", shown.fingerprint);
        let hint = format!(
            "compare it with {} on the machine itself; if it is the same: {again}",
            there(&shown.kind)
        );
        return Err(
            Failure::failed(format!("{print}; nobody has compared it, so it is not trusted")).hint(hint)
        );
    }
    context.out.note(format!("{print}\nOn the machine itself {} must print the same.", there(&shown.kind)));
    match ask::line(context, "Does it? Write yes or no:").await?.as_str() {
        "yes" => Ok(()),
        _ => Err(Failure::new(Exit::Failed, format!("{login} is not trusted, nothing was changed"))),
    }
}

/// Makes this the only key of the host that is known.
fn keep(file: &Path, line: &str) -> Result<(), Failure> {
    let lock = file.with_extension("lock");
    let locked = LockFile::open(&lock).map_err(|error| {
        refused(&anyhow::Error::new(error).context(format!("opening {}", lock.display())))
    })?;
    let alone = locked.try_lock(Mode::Alone);
    if !alone.map_err(|error| Failure::failed(format!("locking {}: {error}", lock.display())))? {
        return Err(Failure::failed(format!("another setup writes {} just now", file.display()))
            .hint("run this again"));
    }
    let name = line.split(' ').next().unwrap_or_default();
    let mut text = String::new();
    for other in read(file)?.lines().filter(|other| other.split(' ').next() != Some(name)) {
        text.push_str(other);
        text.push('\n');
    }
    text.push_str(line);
    text.push('\n');
    durable::write(file, 0o600, text.as_bytes()).map_err(|failure| refused(&failure))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "[h]:22 ssh-ed25519 AAAA1";

    #[test]
    fn a_host_is_new_known_or_another_one() {
        assert_eq!(standing("", ONE), Standing::New);
        assert_eq!(standing("other ssh-ed25519 AAAA1\n", ONE), Standing::New);
        assert_eq!(standing("[h]:22 ssh-ed25519 AAAA1 comment\n", ONE), Standing::Known);
        assert_eq!(standing("[h]:22 ssh-ed25519 AAAA2\n", ONE), Standing::Changed);
    }

    #[test]
    fn the_new_key_replaces_the_old_one_of_this_host_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("known_hosts");
        keep(&file, "a ssh-ed25519 AAAA0").unwrap();
        keep(&file, "[h]:22 ssh-ed25519 AAAA2").unwrap();
        keep(&file, ONE).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("a ssh-ed25519 AAAA0\n{ONE}\n"));
    }

    #[test]
    fn fingerprints_are_compared_without_their_decoration() {
        let (fingerprint, kind) = fingerprint("256 SHA256:abc [h]:22 (ED25519)\n").unwrap();
        let shown = Shown { line: ONE.into(), fingerprint, kind };
        assert_eq!((shown.fingerprint.as_str(), shown.kind.as_str()), ("SHA256:abc", "ED25519"));
        let host = crate::definition::Address::parse("u@h").unwrap();
        let nowhere = Path::new("/nowhere");
        let remote = Remote::new(&host, "i", nowhere, nowhere);
        assert!(compare("abc", &shown, &remote).is_ok() && compare("SHA256:abc=", &shown, &remote).is_ok());
        let refused = compare("SHA256:abd", &shown, &remote).unwrap_err();
        assert!(refused.hint.unwrap().contains("ssh_host_ed25519_key.pub"));
    }
}
