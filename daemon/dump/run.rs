//! Client programs: their output into a file, a file into them, and a verdict on how they ended.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use tokio_util::sync::CancellationToken;

use super::record;
use crate::definition::Remote;
use crate::process::{self, Captured, Ended, How, Program, Sign, Stdin, Stdout, Why};
use crate::target;

/// The most that a question may be answered with, in bytes.
const ANSWER: usize = 64 << 20;

/// A program and its end, for people.
pub(super) fn judge(name: &str, ended: &Ended) -> Result<()> {
    let said = match ended.stderr_tail.trim() {
        "" => String::new(),
        tail => format!(": {tail}"),
    };
    match (ended.stopped, ended.how) {
        (Some(Why::Cancelled), _) => bail!("{name} was cancelled"),
        (Some(Why::TimedOut), _) => bail!("{name} did not answer within {:?}{said}", ended.duration),
        (Some(Why::Stalled), _) => {
            bail!("{name} made no progress and was ended after {:?}{said}", ended.duration)
        }
        (Some(Why::Enough), _) => bail!("{name} was ended{said}"),
        (None, How::Exited(0)) => Ok(()),
        (None, How::Exited(code)) => bail!("{name} exited with {code}{said}"),
        (None, how @ How::Signalled(signal)) => {
            bail!("{name} was killed by signal {signal}{}{said}", how.hint())
        }
    }
}

/// A client program that is ready to be run, and what to call it.
#[derive(Debug)]
pub(super) struct Call {
    /// The program's name, also where a container's engine stands before it.
    pub(super) name: String,
    pub(super) program: Program,
    /// The machine that it runs on; none: this one.
    pub(super) far: Option<Remote>,
    /// The program as it is when it reads something; none: the same.
    pub(super) reads: Option<Box<Program>>,
}

impl Call {
    /// A program of this machine.
    pub(super) fn here(name: String, program: Program) -> Self {
        Self { name, program, far: None, reads: None }
    }

    /// The same, with this file to read.
    pub(super) fn reading(self, file: File) -> Result<Self> {
        let mut call = self.that_reads();
        call.program.stdin = match std::mem::replace(&mut call.program.stdin, Stdin::Null) {
            Stdin::Bytes(first) if !first.is_empty() => Stdin::File(fed(first, file)?),
            _ => Stdin::File(file.into()),
        };
        Ok(call)
    }

    /// The same, with this text to read.
    pub(super) fn told(self, text: &str) -> Self {
        let mut call = self.that_reads();
        let mut all = match std::mem::replace(&mut call.program.stdin, Stdin::Null) {
            Stdin::Bytes(first) => first,
            _ => Vec::new(),
        };
        all.extend_from_slice(text.as_bytes());
        call.program.stdin = Stdin::Bytes(all);
        call
    }

    /// On another machine, and in a container, a program that reads is not tied to what leads to it: what it reads ends with
    /// that.
    pub(super) fn that_reads(mut self) -> Self {
        if let Some(reads) = self.reads.take() {
            self.program = Program { limits: self.program.limits, ..*reads };
        }
        self
    }
}

/// What a program prints.
pub(super) async fn ask(call: Call, cancel: &CancellationToken) -> Result<String> {
    let Call { name, program, far, .. } = call;
    let Captured { stdout, ended } = process::capture(program, cancel, ANSWER).await?;
    arrived(far.as_ref(), &ended)?;
    judge(&name, &ended)?;
    String::from_utf8(stdout).map_err(|_| anyhow!("{name} answered with text that is not UTF-8"))
}

/// Runs a program whose standard output becomes a new file, 0600.
pub(super) async fn into_file(call: Call, path: &Path, cancel: &CancellationToken) -> Result<()> {
    let Call { name, mut program, far, .. } = call;
    let file = new_file(path).await?;
    program.stdout = Stdout::File(file.into());
    let ended = process::run(program, cancel, |_, _| Sign::Life).await?;
    let remote = far.as_ref();
    arrived(remote, &ended).with_context(|| format!("dumping to {}", path.display()))?;
    judge(&name, &ended).with_context(|| format!("dumping to {}", path.display()))
}

/// Runs a program that reads a file.
pub(super) async fn from_file(call: Call, path: &Path, cancel: &CancellationToken) -> Result<()> {
    let from = path.to_owned();
    let file = tokio::task::spawn_blocking(move || record::open(&from)).await??;
    let Call { name, program, far, .. } = call.reading(file)?;
    let ended = process::run(program, cancel, |_, _| Sign::Life).await?;
    arrived(far.as_ref(), &ended)?;
    judge(&name, &ended)
}

/// A pipe that gives some bytes, then a file.
pub(super) fn fed(first: Vec<u8>, mut file: File) -> Result<OwnedFd> {
    let (reader, mut writer) = std::io::pipe().context("making a pipe")?;
    // It ends with the reader: whoever stops reading is judged by its own end.
    std::thread::spawn(move || {
        let _ = writer.write_all(&first).and_then(|()| std::io::copy(&mut file, &mut writer).map(drop));
    });
    Ok(reader.into())
}

/// Whether the connection to another machine lasted.
pub(super) fn arrived(remote: Option<&Remote>, ended: &Ended) -> Result<()> {
    remote.map_or(Ok(()), |remote| Ok(target::judge(remote, ended)?))
}

async fn new_file(path: &Path) -> Result<File> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        file.with_context(|| format!("creating {}", path.display()))
    })
    .await?
}

/// Makes a directory for ourselves, 0700, and those above it.
pub(super) async fn private_dir(path: &Path) -> Result<()> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.with_context(|| format!("making {}", path.display()))
    })
    .await?
}

/// Removes what a failed dump left of its file.
pub(super) async fn remove_half(path: &Path) -> Result<()> {
    match tokio::fs::remove_file(path).await {
        Err(failure) if failure.kind() != std::io::ErrorKind::NotFound => {
            Err(failure).context("removing half a dump")
        }
        _ => Ok(()),
    }
}
