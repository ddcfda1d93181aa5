//! Client programs on another machine.
//!
//! Nothing of ours lies there: dumps come by standard output, what is loaded and passwords go by standard input.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::definition::Remote;
use crate::process::{Program, Stdin};
use crate::target::{over_ssh, sudo, tied};

/// Variables that hold a password: never words of a command line, not even there.
const SECRET: [&str; 2] = ["PGPASSWORD", "MYSQL_PWD"];

/// A client program there, in both ways that it may be run.
pub(super) struct Far {
    /// With nothing to read but its password: it ends with the connection.
    pub(super) tied: Program,
    /// With something to read, after its password.
    pub(super) reads: Program,
}

/// A client program there, as `user` if not as whom we log in as.
pub(super) fn program(
    remote: &Remote,
    user: Option<&str>,
    argv: Vec<OsString>,
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
        // That is what the sudoers file of `holdfast setup` lets through.
        if user.is_some() && all.first().is_some_and(|word| word != "env") {
            all.insert(0, "env".into());
        }
        Program::new(over_ssh(remote, if user.is_some() { sudo(remote, user, all) } else { all }))
    };
    // sudo's child is not ours to end: it ends when it writes.
    let held = if user.is_some() { inner.clone() } else { tied(inner.clone()) };
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
