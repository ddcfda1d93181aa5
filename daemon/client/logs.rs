//! `holdfast logs`: the journal of one job.

use std::ffi::OsString;
use std::path::Path;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::Context;
use super::failure::{Done, Exit, Failure};
use crate::process::{self, How, Program, Stdin, Stdout};

/// What of our environment journalctl and its pager need.
const PASSED_ON: [&str; 10] = [
    "TERM",
    "COLORTERM",
    "PAGER",
    "LESS",
    "LESSCHARSET",
    "NO_COLOR",
    "TZ",
    "SYSTEMD_PAGER",
    "SYSTEMD_LESS",
    "SYSTEMD_COLORS",
];

/// `holdfast logs`
#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    /// The job's id, as `holdfast history` shows it
    job: String,
    /// Go on with what is logged from now on
    #[arg(short, long)]
    follow: bool,
}

pub(super) async fn logs(context: &Context, args: LogsArgs) -> Done {
    let id = &args.job;
    if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(Failure::usage(format!("`{id}` is no job id")).hint("`holdfast history` shows the ids"));
    }
    if process::find(Path::new("journalctl")).is_err() {
        return Err(Failure::failed("there is no journalctl here, so there is no journal to search")
            .hint(elsewhere(id)));
    }
    if !args.follow && !known(id).await? {
        return Err(Failure::failed(format!("the journal holds no line of the job {id} that you may read"))
            .hint(elsewhere(id)));
    }
    let mut argv = query(id);
    argv.extend(["-o", if context.out.json { "json" } else { "short-precise" }].map(String::from));
    if args.follow {
        argv.push("--follow".to_owned());
    }
    let ended =
        process::run(on_terminal(argv), &CancellationToken::new(), |_, _| process::Sign::Nothing).await;
    match ended.map_err(|error| Failure::failed(format!("running journalctl: {error}")))?.how {
        How::Exited(0) => Ok(Exit::Done),
        How::Exited(code) => Err(Failure::failed(format!("journalctl ended with {code}"))),
        How::Signalled(_) => Ok(Exit::Cancelled),
    }
}

fn query(id: &str) -> Vec<String> {
    ["journalctl".to_owned(), "--quiet".to_owned(), format!("HOLDFAST_JOB={id}")].into()
}

fn elsewhere(id: &str) -> String {
    format!(
        "read it as root or as a member of the group systemd-journal; without journald holdfastd writes the same lines \
         to its standard error: search them for {id}"
    )
}

/// Whether the journal has any line of the job.
async fn known(id: &str) -> Result<bool, Failure> {
    let mut argv = query(id);
    argv.extend(["-n", "1", "-o", "cat", "--no-pager"].map(String::from));
    let found = process::capture(Program::new(argv), &CancellationToken::new(), 1 << 20).await;
    let found = found.map_err(|error| Failure::failed(format!("running journalctl: {error}")))?;
    Ok(!found.stdout.is_empty())
}

/// A program that has our terminal.
fn on_terminal(argv: Vec<String>) -> Program {
    let mut program = Program::new(argv);
    program.stdin = Stdin::Terminal;
    program.stdout = Stdout::Terminal;
    let value = |name: &str| Some((OsString::from(name), std::env::var_os(name)?));
    program.env = PASSED_ON.iter().filter_map(|name| value(name)).collect();
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::output::{Out, When};

    #[tokio::test]
    async fn an_id_that_is_none_never_reaches_journalctl() {
        let context = Context::for_test(Out::new(false, When::Never));
        for bad in ["", "--rotate", "j1 + _UID=0", "j1\n"] {
            let error = logs(&context, LogsArgs { job: bad.into(), follow: false }).await.unwrap_err();
            assert_eq!(error.exit, Exit::Usage, "{bad:?}");
        }
    }
}
