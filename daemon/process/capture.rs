//! A child's whole output, bounded.

use tokio_util::sync::CancellationToken;

use super::{Ended, Error, Program, Sign, Source, run_raw};

/// A child's output and end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// How it ended.
    pub ended: Ended,
}

/// Runs a program and takes its whole standard output, at most `limit` bytes.
///
/// # Errors
/// As [`super::run()`], and [`Error::TooMuchOutput`]; the child is then stopped.
pub async fn capture(program: Program, cancel: &CancellationToken, limit: usize) -> Result<Captured, Error> {
    let name = program.name();
    let (mut stdout, mut too_much) = (Vec::new(), false);
    let ended = run_raw(program, cancel, |source, piece| {
        if source == Source::Stdout {
            too_much |= stdout.len() + piece.len() > limit;
            if too_much {
                return Sign::Stop;
            }
            stdout.extend_from_slice(piece);
        }
        Sign::Life
    })
    .await?;
    if too_much {
        return Err(Error::TooMuchOutput { program: name, limit });
    }
    Ok(Captured { stdout, ended })
}
