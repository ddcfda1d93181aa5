//! The very words with which rsync calls itself on another machine: what sudo over there is to let through.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio_util::sync::CancellationToken;

use super::rsync::{ALL, push_options};
use crate::process::{self, Limits, Program, Stdout};

/// In place of ssh: prints the words that it is given, and ends. rsync splits it as a shell would.
const PRINTER: &str = r#"sh -c 'printf "@%s\n" "$@" >&2; exit 1' sh"#;
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What rsync runs there to read its files for a mirror. It is asked of rsync itself, for each version has words of its own.
///
/// # Errors
/// rsync is not here, or says nothing.
pub async fn rsync_words() -> Result<Vec<String>> {
    let place = tempfile::Builder::new().prefix("holdfast-rsync.").tempdir()?;
    asked(["--".into(), "there:/".into(), place.path().into()]).await
}

/// What it runs there as root to write a restore to `to`, with what lives in `beside` to copy from.
///
/// # Errors
/// As [`rsync_words`].
pub async fn rsync_words_of_restores(beside: &Path, to: &Path) -> Result<Vec<String>> {
    let place = tempfile::Builder::new().prefix("holdfast-rsync.").tempdir()?;
    let mut there = OsString::from("there:");
    there.push(to);
    let options = push_options(true, beside);
    asked(options.into_iter().chain(["--".into(), place.path().into(), there])).await
}

async fn asked(more: impl IntoIterator<Item = OsString>) -> Result<Vec<String>> {
    let mut argv: Vec<OsString> = vec!["rsync".into()];
    argv.extend(ALL.map(OsString::from));
    argv.extend(["--rsh", PRINTER].map(OsString::from));
    argv.extend(more);
    let mut program = Program::new(argv);
    program.stdout = Stdout::Heard;
    program.limits = Limits::within(PATIENCE);
    let ended = process::run(program, &CancellationToken::new(), |_, _| process::Sign::Life).await?;
    let words = words(&ended.stderr_tail);
    ensure!(!words.is_empty(), "rsync does not say what it runs there: {}", ended.stderr_tail.trim());
    Ok(words)
}

/// The words behind the machine's name.
fn words(text: &str) -> Vec<String> {
    let words = text.lines().filter_map(|line| line.strip_prefix('@'));
    words.skip_while(|word| *word != "rsync").map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rsync_itself_says_what_it_runs_there() {
        let words = rsync_words().await.unwrap();
        assert_eq!(words[..3], ["rsync", "--server", "--sender"].map(str::to_owned), "{words:?}");
        assert_eq!(words[words.len() - 2..], [".", "/"].map(str::to_owned), "{words:?}");
        let words = rsync_words_of_restores(Path::new("/srv"), Path::new("/srv/new/")).await.unwrap();
        assert_eq!(words[words.len() - 2..], [".", "/srv/new/"].map(str::to_owned), "{words:?}");
        assert!(words.windows(2).any(|pair| pair == ["--copy-dest", "/srv"]), "{words:?}");
    }
}
