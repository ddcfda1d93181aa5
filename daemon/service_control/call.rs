//! Programs of managers: run as whom, heard how.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tokio_util::sync::CancellationToken;

use crate::definition::Remote;
use crate::process::{self, Account, Ended, How, Leftovers, Limits, Program, Sandbox, Stdin, Why};
use crate::target::{self, judge, over_ssh, sudo, tied};

/// How long a question may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// The most that a manager may answer, in bytes.
const MAX_ANSWER: usize = 8 << 20;
/// The time between two steps of ending a program that takes too long.
const GRACE: Duration = Duration::from_secs(2);

/// Whom programs run as.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) account: Account,
    /// Where; none: here.
    pub(super) remote: Option<Remote>,
}

/// What a program said, and how it ended.
pub(super) struct Said {
    pub(super) stdout: Vec<u8>,
    pub(super) ended: Ended,
    shown: String,
}

impl Caller {
    /// Runs a program as the caller, and takes what it prints. What it starts lives on where `leftovers` says so.
    pub(super) async fn ask(
        &self,
        argv: &[String],
        limit: Duration,
        leftovers: Leftovers,
        cancel: &CancellationToken,
    ) -> Result<Said> {
        let shown = match &self.remote {
            Some(remote) => format!("{} on {}", argv.join(" "), remote.login()),
            None => argv.join(" "),
        };
        let mut program = match &self.remote {
            Some(remote) => there(remote, argv, leftovers),
            None => self.here(argv),
        };
        program.limits = Limits { grace: GRACE, ..Limits::within(limit) };
        program.leftovers = leftovers;
        let captured = process::capture(program, cancel, MAX_ANSWER).await;
        let captured = captured.with_context(|| format!("running `{shown}`"))?;
        if let Some(remote) = &self.remote {
            judge(remote, &captured.ended).with_context(|| format!("running `{shown}`"))?;
        }
        Ok(Said { stdout: captured.stdout, ended: captured.ended, shown })
    }
}

impl Caller {
    /// The same without `sudo`, for what everybody may ask.
    pub(super) fn without_root(&self) -> Self {
        let mut caller = self.clone();
        caller.remote.iter_mut().for_each(|remote| remote.sudo = false);
        caller
    }

    fn here(&self, argv: &[String]) -> Program {
        let mut program = Program::new(argv);
        program.dir = Some(self.account.home.clone()).filter(|home| home.is_dir());
        program.env.extend(target::session(&self.account));
        program.user = Some(self.account.clone());
        program.sandbox = Sandbox::None;
        program
    }
}

/// What is started to stay keeps its output open, and ssh would wait for that to end: so it gets none.
const DETACHED: &str = "exec \"$@\" </dev/null >/dev/null 2>&1";

fn there(remote: &Remote, argv: &[String], leftovers: Leftovers) -> Program {
    let argv = sudo(remote, None, argv);
    match leftovers {
        // A stop that goes on when nobody waits for it any more would come after the start that undoes it.
        Leftovers::End => {
            let mut program = Program::new(over_ssh(remote, tied(argv)));
            program.stdin = Stdin::Held(Vec::new());
            program
        }
        Leftovers::Stay => {
            let shell = ["sh", "-c", DETACHED, "sh"].map(OsString::from);
            Program::new(over_ssh(remote, shell.into_iter().chain(argv)))
        }
    }
}

impl Said {
    /// Whether it ended well.
    pub(super) fn ok(&self) -> bool {
        self.ended.ok() && self.ended.stopped.is_none()
    }

    /// The code that it exited with by itself.
    pub(super) fn code(&self) -> Option<i32> {
        match (self.ended.how, self.ended.stopped) {
            (How::Exited(code), None) => Some(code),
            _ => None,
        }
    }

    /// What it complained, in small letters.
    pub(super) fn complaint(&self) -> String {
        self.ended.stderr_tail.to_lowercase()
    }

    /// How it failed, in its own words.
    pub(super) fn failure(&self) -> anyhow::Error {
        let (shown, said) = (&self.shown, self.ended.stderr_tail.trim());
        let how = match (self.ended.stopped, self.ended.how) {
            (Some(Why::TimedOut), _) => format!("was ended after {:?}", self.ended.duration),
            (Some(Why::Cancelled), _) => "was cancelled".to_owned(),
            (Some(why), _) => format!("was ended: {why:?}"),
            (None, How::Exited(code)) => format!("exited with {code}"),
            (None, How::Signalled(signal)) => format!("was killed by signal {signal}"),
        };
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        anyhow!("`{shown}` {how}{said}")
    }

    /// What it printed, if it ended well.
    pub(super) fn good(self) -> Result<Vec<u8>> {
        if self.ok() { Ok(self.stdout) } else { Err(self.failure()) }
    }
}
