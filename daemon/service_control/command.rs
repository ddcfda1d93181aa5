//! Services that three programs of the definition start, stop and ask.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio_util::sync::CancellationToken;

use super::call::{Caller, PATIENCE};
use super::{Seen, State};
use crate::definition::Ran;
use crate::process::Leftovers;

/// Asks the program `status`. Exit codes are those of init scripts: 0 runs; 1 and 2 died, 3 does not run. Anything else
/// says nothing (LSB 5.0, "Init Script Actions").
pub(super) async fn look(
    caller: &Caller,
    name: &str,
    start: &[String],
    status: &[String],
    cancel: &CancellationToken,
) -> Result<Seen> {
    let said = caller.ask(status, PATIENCE, Leftovers::End, cancel).await?;
    let state = match said.code() {
        Some(0) => State::Running,
        Some(1..=3) => State::Stopped,
        _ => {
            bail!(said.failure().context("the program `status` of the service does not say whether it runs"))
        }
    };
    let sick = (state == State::Stopped).then(|| "it does not run".to_owned());
    let part = Ran { name: name.to_owned(), id: start.join(" "), paused: false };
    Ok(Seen { called: name.to_owned(), part, state, sick, starting: false, life: String::new(), wave: None })
}

/// Runs `start` or `stop`.
pub(super) async fn run(
    caller: &Caller,
    what: &str,
    argv: &[String],
    limit: Duration,
    cancel: &CancellationToken,
) -> Result<()> {
    let leftovers = if what == "start" { Leftovers::Stay } else { Leftovers::End };
    caller.ask(argv, limit, leftovers, cancel).await?.good().map(drop)
}
