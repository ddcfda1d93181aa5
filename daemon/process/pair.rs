//! Two programs, of which one reads what the other prints.

use std::io;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio_util::sync::CancellationToken;

use super::{Ended, Error, Program, Sign, Stdin, Stdout, run};

/// Runs both to their ends: how the one that prints ended, then the one that reads. Where the first fails the second is ended
/// too: cut off between two files of an archive, what came would be taken for whole.
///
/// # Errors
/// No pipe could be made; nothing was started then.
pub async fn pair(
    mut prints: Program,
    mut reads: Program,
    cancel: &CancellationToken,
) -> io::Result<(Result<Ended, Error>, Result<Ended, Error>)> {
    let (out, into) = pipe_with(PipeFlags::CLOEXEC)?;
    (prints.stdout, reads.stdin) = (Stdout::File(into), Stdin::File(out));
    let stop = cancel.child_token();
    let printing = async {
        let printed = run(prints, &stop, |_, _| Sign::Life).await;
        if !printed.as_ref().is_ok_and(Ended::ok) {
            stop.cancel();
        }
        printed
    };
    Ok(tokio::join!(printing, run(reads, &stop, |_, _| Sign::Life)))
}
