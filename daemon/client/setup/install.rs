//! Our key among those that may log in over there, brought by a login that works already.

use super::super::failure::Failure;
use super::super::{Context, ask};
use super::key::Own;
use super::{Check, PATIENCE, SetupArgs, argv, capture, over, words};
use crate::definition::Remote;
use crate::process::{Limits, Program, Stdin};
use crate::target;

/// What our key may do there: run commands, and nothing around it. Old servers know these words, and not `restrict`.
const OPTIONS: &str = "no-pty,no-port-forwarding,no-agent-forwarding,no-X11-forwarding";

/// Adds a line to authorized_keys, unless the key is there: `$1` is the key, `$2` the line. Other lines are left alone.
const ADD: &str = r#"set -eu
umask 077
dir=$HOME/.ssh
file=$dir/authorized_keys
[ -d "$dir" ] || mkdir "$dir"
[ -e "$file" ] || : >"$file"
if grep -qF -e "$1" "$file"; then exit 0; fi
if [ -n "$(tail -c 1 "$file")" ]; then echo >>"$file"; fi
printf '%s\n' "$2" >>"$file"
if command -v restorecon >/dev/null 2>&1; then restorecon -RF "$dir" || :; fi"#;

/// How long a person may take to type in a password.
const TYPING: std::time::Duration = std::time::Duration::from_secs(300);

/// Sees to it that our key may log in.
pub(super) async fn key(
    context: &Context,
    args: &SetupArgs,
    remote: &Remote,
    own: &Own,
) -> Result<Check, Failure> {
    let what = "login with our key";
    if over(remote, &argv(["true"])).await?.is_ok() {
        return Ok(Check::good(remote, what, "was there already"));
    }
    let line = format!("{OPTIONS} {}", own.public);
    let add = argv(["sh", "-c", ADD, "sh", own.blob(), &line]);
    let by_hand = format!("add this line to ~/.ssh/authorized_keys of {}: {line}", remote.login());
    if let Err(said) = by_other_login(context, args, remote, &add).await? {
        let why = format!(
            "no other login works to bring it ({said}); --identity names a key that may, or {by_hand}"
        );
        return Ok(Check::bad(remote, what, why));
    }
    Ok(match over(remote, &argv(["true"])).await? {
        Ok(_) => Check::good(remote, what, "brought by another login"),
        Err(said) => {
            let more = "its sshd reads another file (AuthorizedKeysFile), or takes no such keys";
            Check::bad(remote, what, format!("the key was added, yet is not taken: {said}; {more}"))
        }
    })
}

/// Runs a command by a login that works already: of a key that was named, of an agent, or of a password that a person
/// types in, which goes from the terminal to ssh and to nobody else.
async fn by_other_login(
    context: &Context,
    args: &SetupArgs,
    remote: &Remote,
    command: &[String],
) -> Result<Result<(), String>, Failure> {
    let person = !context.out.json && ask::possible();
    let mut ssh = Program::new(["ssh", "-T"]);
    ssh.argv.extend(other_login(args, remote, person));
    ssh.argv.extend(["--".into(), remote.login().into(), target::command_line(command)]);
    ssh.env.extend(std::env::var_os("SSH_AUTH_SOCK").map(|agent| ("SSH_AUTH_SOCK".into(), agent)));
    ssh.limits = Limits::within(if person { TYPING } else { PATIENCE });
    if person {
        ssh.stdin = Stdin::Terminal;
        context.out.note(format!("Logging in to {} as you do, to bring our key:", remote.login()));
    }
    let done = capture(ssh).await?;
    Ok(if done.ended.ok() { Ok(()) } else { Err(words(&done)) })
}

/// ssh's options for a login that is not ours. The host's key is known by now, and no other is taken.
pub(super) fn other_login(args: &SetupArgs, remote: &Remote, person: bool) -> Vec<std::ffi::OsString> {
    let mut options = vec![
        format!("BatchMode={}", if person { "no" } else { "yes" }),
        format!(
            "UserKnownHostsFile={}",
            target::file_option(remote.known_hosts.as_os_str()).to_string_lossy()
        ),
    ];
    options.extend(
        ["StrictHostKeyChecking=yes", "UpdateHostKeys=no", "ClearAllForwardings=yes", "ControlPath=none"]
            .map(str::to_owned),
    );
    options.push("ConnectTimeout=15".into());
    let mut all: Vec<std::ffi::OsString> = Vec::new();
    for option in options {
        all.extend(["-o".into(), option.into()]);
    }
    if let Some(identity) = &args.identity {
        all.extend(["-o".into(), "IdentitiesOnly=yes".into(), "-i".into(), identity.into()]);
    }
    all.extend(remote.port.into_iter().flat_map(|port| ["-p".into(), port.to_string().into()]));
    all
}
