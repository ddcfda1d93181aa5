//! The program that the daemon calls in restic's place: runs the real one and writes down from when to when.
//!
//! The daemon pins the environment of its children, so everything is found beside the link that it was called by:
//! `real`, a link to restic, and `calls`, the list.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result};

/// One call of restic.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// The subcommand.
    pub(crate) command: String,
    /// From its start to its end.
    pub(crate) took: Duration,
}

/// Puts the stopwatch into a directory; the daemon is to be told to call `restic` there.
///
/// # Errors
/// The directory cannot be written.
pub(crate) fn install(dir: &Path, real: &Path) -> Result<Stopwatch> {
    std::fs::create_dir_all(dir)?;
    std::os::unix::fs::symlink(real, dir.join("real"))?;
    std::os::unix::fs::symlink(std::env::current_exe()?, dir.join("restic"))?;
    Ok(Stopwatch { dir: dir.into() })
}

/// A stopwatch that was put somewhere.
pub(crate) struct Stopwatch {
    dir: PathBuf,
}

impl Stopwatch {
    /// What the daemon is to call.
    pub(crate) fn restic(&self) -> PathBuf {
        self.dir.join("restic")
    }

    /// The calls since the last time that this was asked. `restic version`, asked once per daemon, does not count.
    ///
    /// # Errors
    /// The list cannot be read.
    pub(crate) fn take(&self) -> Result<Vec<Call>> {
        let path = self.dir.join("calls");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        File::create(&path)?;
        let calls: Result<Vec<Call>> =
            text.lines().map(|line| parse(line).context(line.to_owned())).collect();
        Ok(calls?.into_iter().filter(|call| call.command != "version").collect())
    }
}

fn parse(line: &str) -> Result<Call> {
    let (nanos, command) = line.split_once(' ').context("a call without a subcommand")?;
    Ok(Call { command: command.to_owned(), took: Duration::from_nanos(nanos.parse()?) })
}

/// Does the stopwatch's work if that is what this program was called for.
pub(crate) fn called() -> Option<ExitCode> {
    let begin = std::time::Instant::now();
    let name = PathBuf::from(std::env::args_os().next()?);
    if name.file_name()? != "restic" {
        return None;
    }
    let dir = name.parent()?;
    let mut arguments = std::env::args_os().skip(1);
    let command = std::env::args().nth(1).unwrap_or_default();
    let status = Command::new(dir.join("real")).args(&mut arguments).status();
    let line = format!("{} {command}\n", begin.elapsed().as_nanos());
    let list = OpenOptions::new().create(true).append(true).open(dir.join("calls"));
    let written = list.and_then(|mut list| list.write_all(line.as_bytes()));
    match (status, written) {
        (Ok(status), Ok(())) => {
            let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            Some(ExitCode::from(u8::try_from(code).unwrap_or(255)))
        }
        (Err(failure), _) | (_, Err(failure)) => {
            eprintln!("the bench's stopwatch: {failure}");
            Some(ExitCode::from(255))
        }
    }
}
