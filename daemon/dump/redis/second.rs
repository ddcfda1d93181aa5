//! The second Redis server, that the one that lives replicates from for a moment: how it is run and what it said.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Error, Result};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::definition::Remote;
use crate::dump::run;
use crate::process::{self, Ended, Limits, Program, Sign};

/// How many ports are tried: another program may take one between our choice and the server's start.
const TRIES: u32 = 5;
/// How many of its last lines are told when it failed.
const LINES: usize = 3;
/// What Redis and Valkey say where the port is in use, at their start.
const IN_USE: [&str; 2] = ["Failed listening on port", "Address already in use"];

/// Another program listens on the port.
#[derive(Debug, thiserror::Error)]
#[error("no second Redis server could be started: port {0} is in use, and others that were tried")]
struct Taken(u16);

/// How often a second server was started.
#[derive(Default)]
pub(super) struct Attempts(u32);

impl Attempts {
    /// Whether to try it once more, with another port: the last one was in use.
    pub(super) fn another(&mut self, last: &Result<()>) -> bool {
        self.0 += 1;
        self.0 < TRIES && last.as_ref().is_err_and(Error::is::<Taken>)
    }
}

/// A second server that was started.
pub(super) struct Running {
    port: u16,
    far: Option<Remote>,
    over: CancellationToken,
    /// Cancelled with the job, and when the server has ended.
    pub(super) gone: CancellationToken,
    task: JoinHandle<Result<Ended, process::Error>>,
    said: Arc<Mutex<Vec<String>>>,
}

impl Running {
    pub(super) fn start(
        mut program: Program,
        port: u16,
        far: Option<Remote>,
        cancel: &CancellationToken,
    ) -> Self {
        program.limits = Limits { grace: Duration::from_secs(5), ..Limits::NONE };
        let (over, gone) = (CancellationToken::new(), cancel.child_token());
        let said = Arc::<Mutex<Vec<String>>>::default();
        let (ends, ended, lines) = (over.clone(), gone.clone().drop_guard(), Arc::clone(&said));
        let task = tokio::spawn(async move {
            let _ended = ended;
            process::run(program, &ends, |_, line| hear(&lines, line)).await
        });
        Self { port, far, over, gone, task, said }
    }

    /// Ends it. What was made of it, or, where it ended by itself meanwhile, why.
    pub(super) async fn end(self, made: Result<()>) -> Result<()> {
        self.over.cancel();
        let ended = self.task.await.context("a defect in the daemon ended the second Redis server")?;
        let ended = ended.context("starting a second Redis server (`redis-server` is needed)")?;
        let Err(failure) = made else { return Ok(()) };
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.stopped.is_some() {
            return Err(failure.context(format!("the second Redis server said: {}", said.join("; "))));
        }
        Err(why(self.port, self.far.as_ref(), &ended, &said))
    }
}

/// Redis says everything on standard output; of an error in its settings it speaks on the other.
fn hear(lines: &Mutex<Vec<String>>, line: &[u8]) -> Sign {
    let text = String::from_utf8_lossy(line).trim().to_owned();
    let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
    // What it is told on standard input has its password: it repeats a line of that where it does not know it.
    if !text.is_empty() && !text.contains("requirepass") {
        if lines.len() == LINES {
            lines.remove(0);
        }
        lines.push(text);
    }
    Sign::Life
}

/// Why it ended by itself.
fn why(port: u16, far: Option<&Remote>, ended: &Ended, said: &[String]) -> Error {
    if said.iter().any(|line| IN_USE.iter().any(|words| line.contains(words))) {
        return Taken(port).into();
    }
    let judged = run::arrived(far, ended).and_then(|()| run::judge("redis-server", ended));
    let failure = judged.err().unwrap_or_else(|| anyhow::anyhow!("redis-server ended at once"));
    failure.context(format!("starting a second Redis server beside it, which said: {}", said.join("; ")))
}
