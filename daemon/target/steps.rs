//! Restore steps of an instance on another machine: they lie and run there, as its other programs do.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio_util::sync::CancellationToken;

use super::{Place, Step, Steps, judge, over_ssh};
use crate::definition::Remote;
use crate::process::{self, Limits, Program, Stdin};

/// How long the list may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most that may be listed, in bytes.
const MAX_LIST: usize = 1 << 20;

/// Lists what is no directory in `$1`: `x` before what can be executed.
const LIST: &str = r#"cd -- "$1" || exit
for f in *; do
    if [ -d "$f" ] || ! [ -e "$f" ]; then continue; fi
    if [ -x "$f" ]; then printf 'x%s\0' "$f"; else printf -- '-%s\0' "$f"; fi
done"#;

/// Runs a step with the line that comes first, and no longer than the connection lasts: its end is the end of our input.
const STEP: &str = "exec 3<&0; IFS= read -r r || exit 1; printf '%s\\n' \"$r\" | \"$@\" 3<&- & c=$!; \
    { IFS= read -r x <&3; kill $c; } >/dev/null 2>&1 & w=$!; \
    wait $c; s=$?; kill $w 2>/dev/null; exit $s";

impl Place {
    /// What runs around a restore, wherever the instance is.
    ///
    /// # Errors
    /// As [`Place::restore_steps`]; the other machine does not answer.
    pub async fn steps(&self, cancel: &CancellationToken) -> Result<Steps> {
        match (&self.instance.remote, &self.instance.restore.steps) {
            (None, _) => self.restore_steps(),
            (Some(_), None) => Ok(Steps::default()),
            (Some(remote), Some(dir)) => steps_there(remote, dir, cancel).await,
        }
    }

    /// A step there, in the home of whom we log in as.
    pub(super) fn step_there(&self, remote: &Remote, step: &Step, mut request: Vec<u8>) -> Program {
        let name = format!("MODULE_ID={}", self.instance.name);
        let mut argv: Vec<OsString> =
            ["sh", "-c", STEP, "sh", "env", name.as_str()].map(OsString::from).to_vec();
        argv.push(step.path.clone().into());
        let mut program = Program::new(over_ssh(remote, argv));
        request.push(b'\n');
        program.stdin = Stdin::Held(request);
        program
    }
}

async fn steps_there(remote: &Remote, dir: &Path, cancel: &CancellationToken) -> Result<Steps> {
    let (shown, login) = (dir.display(), remote.login());
    let reading = || format!("reading the restore steps in {shown} on {login}");
    let argv = ["sh".into(), "-c".into(), LIST.into(), "sh".into(), OsString::from(dir)];
    let mut program = Program::new(over_ssh(remote, argv));
    program.limits = Limits::within(PATIENCE);
    let captured = process::capture(program, cancel, MAX_LIST).await.with_context(reading)?;
    judge(remote, &captured.ended).with_context(reading)?;
    ensure!(captured.ended.ok(), "`restore.steps`: {login} says: {}", captured.ended.stderr_tail.trim());
    let mut found = Steps::default();
    for entry in captured.stdout.split(|byte| *byte == 0) {
        let Some((mark, name)) = entry.split_first() else { continue };
        take(dir, &login, (*mark == b'x', name), &mut found)?;
    }
    found.steps.sort_by(|a, b| (a.number, &a.name).cmp(&(b.number, &b.name)));
    Ok(found)
}

fn take(dir: &Path, login: &str, (runs, name): (bool, &[u8]), found: &mut Steps) -> Result<()> {
    let path: PathBuf = dir.join(OsString::from_vec(name.to_vec()));
    let name = String::from_utf8_lossy(name).into_owned();
    let digits = name.bytes().take_while(u8::is_ascii_digit).count();
    match name[..digits].parse() {
        _ if name.starts_with("validate-") => {}
        Ok(_) if !runs => {
            bail!("restore step: {login} may not execute {}; chmod +x it there", path.display())
        }
        Ok(number) => found.steps.push(Step { number, name, path }),
        Err(_) => {
            found.warnings.push(format!("{} is no restore step: its name has no number", path.display()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a step reads, how it ends, and what ends it.
    #[expect(clippy::disallowed_methods, reason = "a shell is the judge of what it runs")]
    #[test]
    fn a_step_reads_its_request_and_goes_when_our_input_ends() {
        use std::io::Write as _;
        use std::process::{Command, Stdio};
        let run = |script: &str| {
            let mut sh = Command::new("sh");
            sh.args(["-c", STEP, "sh", "sh", "-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
            sh.spawn().unwrap()
        };
        let mut child = run("cat; exit 7");
        let mut feed = child.stdin.take().unwrap();
        feed.write_all(b" {\"a\": \"\\\\n\"} \n").unwrap();
        let out = child.wait_with_output().unwrap();
        assert_eq!((out.status.code(), &*out.stdout), (Some(7), &b" {\"a\": \"\\\\n\"} \n"[..]));
        drop(feed);
        let mut child = run("exec sleep 98764");
        child.stdin.take().unwrap().write_all(b"{}\n").unwrap();
        assert!(!child.wait().unwrap().success());
    }
}
