//! Client programs on another machine.
//!
//! Nothing of ours lies there: dumps come by standard output, what is loaded and passwords go by standard input.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::definition::Remote;
use crate::process::{Program, Stdin};
use crate::target::{over_ssh, sudo};

/// Variables that hold a password: never words of a command line, not even there.
const SECRET: [&str; 2] = ["PGPASSWORD", "MYSQL_PWD"];

/// A client program there, as `user` if not as whom we log in as. What it reads comes after its password.
pub(super) fn program(
    remote: &Remote,
    user: Option<&str>,
    argv: Vec<OsString>,
    env: &[(&str, OsString)],
) -> Program {
    let mut all: Vec<OsString> = Vec::new();
    let secret = env.iter().find(|(key, _)| SECRET.contains(key));
    if let Some((key, _)) = secret {
        // `read` takes a byte at a time, so what follows the line is left for the program.
        let script = format!("IFS= read -r {key} && export {key} && exec \"$@\"");
        all.extend(["sh".into(), "-c".into(), script.into(), "sh".into()]);
    }
    let plain: Vec<_> = env.iter().filter(|(key, _)| !SECRET.contains(key)).collect();
    if !plain.is_empty() {
        all.push("env".into());
        all.extend(plain.iter().map(|(key, value)| variable(key, value)));
    }
    all.extend(argv);
    let argv = match user {
        Some(user) => sudo(remote, Some(user), all),
        None => all,
    };
    let mut program = Program::new(over_ssh(remote, argv));
    if let Some((_, value)) = secret {
        program.stdin = Stdin::Bytes([value.as_bytes(), b"\n"].concat());
    }
    program
}

fn variable(key: &str, value: &OsStr) -> OsString {
    let mut all = OsString::from(format!("{key}="));
    all.push(value);
    all
}
