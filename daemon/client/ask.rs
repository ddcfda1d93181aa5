//! Questions to a person.

use std::io::{self, BufRead, IsTerminal};

use super::Context;
use super::failure::{Exit, Failure};

/// Whether there is anybody to ask.
pub(super) fn possible() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks, and takes a line; its end by Ctrl-D ends the command.
pub(super) async fn line(context: &Context, question: &str) -> Result<String, Failure> {
    context.out.ask(question);
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map(|length| (length > 0).then(|| line.trim().to_owned()))
    });
    let answer = answer.await.map_err(|e| Failure::failed(format!("waiting for the answer: {e}")))?;
    let answer = answer.map_err(|e| Failure::failed(format!("reading the answer: {e}")))?;
    answer.ok_or_else(|| Failure::new(Exit::Cancelled, "nothing was done"))
}

/// The same; an empty answer is the default, which is shown.
pub(super) async fn or(context: &Context, question: &str, default: &str) -> Result<String, Failure> {
    let answer = line(context, &format!("{question} [{default}]:")).await?;
    Ok(if answer.is_empty() { default.to_owned() } else { answer })
}
