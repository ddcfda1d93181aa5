//! Any restic command, on the caller's terminal.

use std::ffi::OsString;

use super::call::Call;
use super::{Access, Error, Restic, Terms};
use crate::process::{self, How, Limits, Program, Sign, Stdin, Stdout};

impl Restic {
    /// Runs restic with these arguments on our own standard streams, the repository and its secrets prepared.
    /// Returns its exit code, or 128 and the signal.
    ///
    /// # Errors
    /// Only when it could not be run.
    pub async fn raw(&self, access: &Access, args: Vec<OsString>, terms: &Terms) -> Result<i32, Error> {
        let mut program = self.program(access, terms, &Call { args, ..Call::default() });
        program.env.retain(|(name, _)| name != "TZ");
        program.env.extend(["TERM", "TZ"].into_iter().filter_map(|n| Some((n.into(), std::env::var_os(n)?))));
        let program = Program {
            dir: std::env::current_dir().ok(),
            stdin: Stdin::Terminal,
            stdout: Stdout::Terminal,
            limits: Limits { grace: terms.grace, ..Limits::NONE },
            nice: false,
            ..program
        };
        let ended = process::run_raw(program, &terms.cancel, |_, _| Sign::Life).await?;
        Ok(match ended.how {
            How::Exited(code) => code,
            How::Signalled(signal) => 128 + signal,
        })
    }
}
