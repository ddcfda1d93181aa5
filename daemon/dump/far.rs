//! Client programs on another machine.
//!
//! Nothing of ours stays there: dumps come by standard output, what is loaded and passwords go by standard input. Programs that
//! write only into files do so in a directory of their own, which goes with them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::laid::Owner;
use super::run::{self, Call};
use super::site::Site;
use crate::definition::Remote;
use crate::process::{Program, Stdin};
use crate::target::{over_ssh, sudo, tied};

/// Variables that hold a password: never words of a command line, not even there.
const SECRET: [&str; 5] = ["PGPASSWORD", "MYSQL_PWD", "REDISCLI_AUTH", "ETCDCTL_PASSWORD", CONFIGURATION];

/// A line of a configuration that a program is to read from its descriptor 3; see [`configured`].
pub(super) const CONFIGURATION: &str = "HOLDFAST_CONFIGURATION";

/// Runs a program that writes the file `$d/out`, and prints that. What the program says goes to standard error. Whatever ends
/// it, the directory goes.
const SPOOL: &str = r#"umask 077; d=
trap 'rm -rf -- "$d"' EXIT; trap 'exit 143' HUP INT TERM PIPE
d=$(mktemp -d) || exit 1"#;

/// A program there whose last word is to be the path of a file that it makes; the file is printed.
pub(super) fn spooled(site: &Site, argv: Vec<OsString>, env: &[(&str, OsString)]) -> Call {
    let name = argv.first().cloned().unwrap_or_default();
    scripted(site, r#""$@" "$d/out" >&2"#, name, argv, env)
}

/// A file of SQLite there, as it is at one moment. Its place is `$1`.
pub(super) fn sqlite(site: &Site, path: &Path) -> Call {
    let make = r#"sqlite3 -readonly -bail -cmd '.timeout 60000' "$1" "vacuum into '$d/out'" >&2"#;
    scripted(site, make, "sqlite3".into(), vec![path.into()], &[])
}

/// A program that reads one line of configuration at `/dev/fd/3`: what [`CONFIGURATION`] holds, which it does not inherit.
pub(super) fn configured(argv: Vec<OsString>) -> Vec<OsString> {
    let script = format!("exec 3<<END\n${CONFIGURATION}\nEND\nunset {CONFIGURATION}\nexec \"$@\"");
    let head = ["sh".into(), "-c".into(), script.into(), "sh".into()];
    head.into_iter().chain(argv).collect()
}

/// A program that opens `/dev/stdin`: what sshd gives is a socket, and no socket can be opened. It has a home of its own,
/// which goes with it.
pub(super) fn piped(site: &Site, argv: Vec<OsString>, told: &str) -> Call {
    let name = argv.first().cloned().unwrap_or_default().to_string_lossy().into_owned();
    let script = format!("{SPOOL}\ncat | HOME=$d \"$@\"");
    let head = ["sh".into(), "-c".into(), script.into(), "sh".into()];
    let call = site.question(head.into_iter().chain(argv), &[]).told(told);
    Call { name, ..call }
}

fn scripted(site: &Site, make: &str, name: OsString, argv: Vec<OsString>, env: &[(&str, OsString)]) -> Call {
    let script = format!("{SPOOL}\n{make} || exit\ncat -- \"$d/out\"");
    let head = ["sh".into(), "-c".into(), script.into(), "sh".into()];
    let mut call = site.client(head.into_iter().chain(argv), env);
    call.name = name.to_string_lossy().into_owned();
    call
}

/// Whose a file or a directory there is.
pub(super) async fn owner(site: &Site, path: &Path) -> Result<Owner> {
    let argv =
        ["stat".into(), "-L".into(), "-c".into(), "%a %u %g".into(), "--".into(), OsString::from(path)];
    let said = run::ask(site.question(argv, &[]), &site.cancel).await;
    let said = said.with_context(|| format!("looking at {} there", path.display()))?;
    Owner::told(&said).with_context(|| format!("stat says {said:?} of {}", path.display()))
}

/// A client program there, in both ways that it may be run.
pub(super) struct Far {
    /// With nothing to read but its password: it ends with the connection.
    pub(super) tied: Program,
    /// With something to read, after its password.
    pub(super) reads: Program,
}

/// A client program there, as `user` if not as whom we log in as. `around` is what runs it in a container: then its
/// password is read, and its connection watched, inside. Ending an engine's `exec` would not end what runs in it.
pub(super) fn program(
    remote: &Remote,
    user: Option<&str>,
    (around, argv): (Option<Vec<OsString>>, Vec<OsString>),
    env: &[(&str, OsString)],
) -> Far {
    let secret = env.iter().find(|(key, _)| SECRET.contains(key));
    let plain: Vec<_> = env.iter().filter(|(key, _)| !SECRET.contains(key)).collect();
    let mut inner: Vec<OsString> = Vec::new();
    if !plain.is_empty() {
        inner.push("env".into());
        inner.extend(plain.iter().map(|(key, value)| variable(key, value)));
    }
    inner.extend(argv);
    let first = secret.map(|(_, value)| [value.as_bytes(), b"\n"].concat()).unwrap_or_default();
    let whole = |inner: Vec<OsString>| {
        let mut all: Vec<OsString> = Vec::new();
        if let Some((key, _)) = secret {
            // `read` takes a byte at a time, so what follows the line is left for the program.
            let script = format!("IFS= read -r {key} && export {key} && exec \"$@\"");
            all.extend(["sh".into(), "-c".into(), script.into(), "sh".into()]);
        }
        all.extend(inner);
        if let Some(around) = &around {
            let all = around.iter().cloned().chain(all);
            return Program::new(over_ssh(remote, sudo(remote, user, all)));
        }
        // That is what the sudoers file of `holdfast setup` lets through.
        if user.is_some() && all.first().is_some_and(|word| word != "env") {
            all.insert(0, "env".into());
        }
        Program::new(over_ssh(remote, if user.is_some() { sudo(remote, user, all) } else { all }))
    };
    // sudo's child is not ours to end: it ends when it writes.
    let held = if user.is_some() && around.is_none() { inner.clone() } else { tied(inner.clone()) };
    let (mut tied, mut reads) = (whole(held), whole(inner));
    tied.stdin = Stdin::Held(first.clone());
    reads.stdin = Stdin::Bytes(first);
    Far { tied, reads }
}

fn variable(key: &str, value: &OsStr) -> OsString {
    let mut all = OsString::from(format!("{key}="));
    all.push(value);
    all
}
