//! One child from its start to its certain end.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::unix::pipe;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::lines::{Lines, Tail};
use super::running::Running;
use super::{Error, Program, fate::Fate, spawner, unit};

/// Which of a child's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What a listener makes of a piece of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// The child makes progress: the stall limit starts anew.
    Life,
    /// It only talks: the stall limit goes on.
    Nothing,
    /// It is to be stopped now.
    Stop,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It exited with this code.
    Exited(i32),
    /// This signal ended it.
    Signalled(i32),
}

impl How {
    /// What somebody who did not end it should know of such an end; mostly nothing.
    pub const fn hint(self) -> &'static str {
        match self {
            Self::Signalled(9) => {
                " (the kernel does so where memory is short: `journalctl -k`; MemoryMax= of holdfast.slice is the limit)"
            }
            Self::Exited(_) | Self::Signalled(_) => "",
        }
    }
}

/// Why we stopped a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The token was cancelled.
    Cancelled,
    /// It ran longer than [`super::Limits::timeout`].
    TimedOut,
    /// It gave no sign of life for [`super::Limits::stall`].
    Stalled,
    /// The listener had enough: [`Sign::Stop`].
    Enough,
}

/// A child that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How it ended.
    pub how: How,
    /// Why we stopped it, if we did. It may have ended well all the same: look at `how` first.
    pub stopped: Option<Why>,
    /// The end of what it wrote to standard error: printable, at most [`super::MAX_TAIL`] bytes before escaping.
    pub stderr_tail: String,
    /// How long it ran.
    pub duration: Duration,
}

impl Ended {
    /// Whether it exited with 0.
    pub fn ok(&self) -> bool {
        self.how == How::Exited(0)
    }
}

/// Runs a program to its end and hears it line by line, without the newlines. The listener is called on the task that
/// awaits this; while it works the child's pipes fill and the child waits.
///
/// When the future is dropped, the child's group is killed.
///
/// # Errors
/// When the program could not be started or watched, or does not even end after SIGKILL. That it failed is no error.
pub async fn run(
    program: Program,
    cancel: &CancellationToken,
    mut on_line: impl FnMut(Source, &[u8]) -> Sign + Send,
) -> Result<Ended, Error> {
    let (mut out, mut err) = (Lines::default(), Lines::default());
    let ended = run_raw(program, cancel, |source, piece| {
        let lines = if source == Source::Stdout { &mut out } else { &mut err };
        let mut sign = Sign::Nothing;
        lines.feed(piece, |line| sign = sign.or(on_line(source, line)));
        sign
    })
    .await?;
    out.end(|line| _ = on_line(Source::Stdout, line));
    err.end(|line| _ = on_line(Source::Stderr, line));
    Ok(ended)
}

impl Sign {
    /// The stronger of two signs.
    pub const fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Stop, _) | (_, Self::Stop) => Self::Stop,
            (Self::Life, _) | (_, Self::Life) => Self::Life,
            _ => Self::Nothing,
        }
    }
}

/// Hears a child's output. While it works the child's pipes fill and the child waits; the stall limit waits with it.
pub trait Listener: Send {
    /// Whether much is expected: then the pipe and the pieces are larger, and everybody sleeps and wakes the less often.
    const BULK: bool = false;

    /// Takes a piece.
    fn hear(&mut self, source: Source, piece: &[u8]) -> impl Future<Output = Sign> + Send;
}

/// A listener that never waits.
struct AtOnce<F>(F);

impl<F: FnMut(Source, &[u8]) -> Sign + Send> Listener for AtOnce<F> {
    fn hear(&mut self, source: Source, piece: &[u8]) -> impl Future<Output = Sign> + Send {
        std::future::ready((self.0)(source, piece))
    }
}

/// Like [`run`], but hears the bytes as they come.
///
/// # Errors
/// As [`run`].
pub async fn run_raw(
    program: Program,
    cancel: &CancellationToken,
    on_output: impl FnMut(Source, &[u8]) -> Sign + Send,
) -> Result<Ended, Error> {
    run_heard(program, cancel, &mut AtOnce(on_output)).await
}

/// Like [`run_raw`], for a listener that may have to wait.
///
/// # Errors
/// As [`run`].
pub async fn run_heard<L: Listener>(
    program: Program,
    cancel: &CancellationToken,
    listener: &mut L,
) -> Result<Ended, Error> {
    let name = program.name();
    let watch = |source: io::Error| Error::Watch { program: name.clone(), source };
    let limits = program.limits;
    let held = matches!(program.stdin, super::Stdin::Held(_));
    let (mut running, mut streams) = start(program).await?;
    streams.held = held;
    streams.widen(L::BULK);
    let mut fate = Fate::new(limits, &running);
    let mut tail = Tail::default();
    while !(fate.ended() && streams.closed()) {
        match streams.next(cancel, &fate).await.map_err(watch)? {
            Event::Output(source, piece) => {
                if source == Source::Stderr {
                    tail.feed(piece);
                }
                let begin = Instant::now();
                let sign = listener.hear(source, piece).await;
                fate.wait(begin.elapsed());
                fate.heard(piece.len(), sign, &running);
            }
            Event::Quiet => {}
            Event::Ended => fate.note_end(),
            Event::Cancelled => fate.stop(Why::Cancelled, &running),
            Event::Tick if fate.ended() => break,
            Event::Tick => {
                fate.tick(&running).map_err(|pid| Error::Unkillable { program: name.clone(), pid })?
            }
        }
    }
    let how = running.reap().await.map_err(watch)?;
    let ended = Ended { how, stopped: fate.stopped(), stderr_tail: tail.text(), duration: fate.duration() };
    not_executed(&name, &ended).map_or(Ok(ended), Err)
}

/// `setpriv` stands between us and the program, so that a failed `exec` reaches us as its exit code and message.
fn not_executed(program: &Path, ended: &Ended) -> Option<Error> {
    if !matches!(ended.how, How::Exited(126 | 127)) {
        return None;
    }
    let reason = ended.stderr_tail.strip_prefix("setpriv: failed to execute ")?;
    let reason = reason.rsplit_once(": ").map_or(reason, |(_, r)| r).to_owned();
    Some(match reason.as_str() {
        "No such file or directory" if !program.exists() => Error::NotFound(program.into()),
        _ => Error::NotExecutable { program: program.into(), reason },
    })
}

async fn start(program: Program) -> Result<(Running, Streams), Error> {
    let name = program.name();
    let (mut running, input) = match unit::host().filter(|_| program.may_leave()) {
        Some(host) => unit::start(host, program).await.map(|(unit, input)| (Running::Unit(unit), input))?,
        None => child(program).await?,
    };
    let streams = Streams::of(&mut running, input);
    streams.map(|streams| (running, streams)).map_err(|source| Error::Watch { program: name, source })
}

async fn child(mut program: Program) -> Result<(Running, Option<Vec<u8>>), Error> {
    let name = program.name();
    let spawn = |source| Error::Spawn { program: name.clone(), source };
    let (group, yields) = (!program.on_terminal(), program.nice);
    let spares = program.leftovers == super::Leftovers::Stay;
    let (stdin, input) = std::mem::replace(&mut program.stdin, super::Stdin::Null).split();
    let (stdout, stderr) = std::mem::replace(&mut program.stdout, super::Stdout::Heard).split();
    // Looking at its paths may block: they may lie on a network.
    let built = tokio::task::spawn_blocking(move || program.command(group)).await;
    let mut command = built.map_err(|e| spawn(io::Error::other(e)))??;
    command.stdin(stdin).stdout(stdout).stderr(stderr);
    let running = spawner::spawn(command, spawner::Terms { group, yields, spares }).await.map_err(spawn)?;
    Ok((Running::Child(running), input))
}

/// A child's pipes and its end, as events.
struct Streams {
    end: AsyncFd<OwnedFd>,
    /// Standard input stays open when all is written.
    held: bool,
    stdin: Option<(pipe::Sender, Vec<u8>, usize)>,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    out: Box<[u8]>,
    err: Box<[u8]>,
}

enum Event<'a> {
    Output(Source, &'a [u8]),
    /// A pipe moved or closed, nothing to hear.
    Quiet,
    Ended,
    Cancelled,
    Tick,
}

impl Streams {
    fn of(running: &mut Running, input: Option<Vec<u8>>) -> io::Result<Self> {
        let reader = |fd: OwnedFd| pipe::Receiver::from_owned_fd(fd);
        let writer = |fd: OwnedFd| pipe::Sender::from_owned_fd(fd);
        let pipes = running.pipes();
        let stdin = pipes.stdin.map(writer).transpose()?;
        Ok(Self {
            end: readable(running.end()?)?,
            held: false,
            stdin: stdin.zip(input).map(|(pipe, bytes)| (pipe, bytes, 0)),
            stdout: pipes.stdout.map(reader).transpose()?,
            stderr: pipes.stderr.map(reader).transpose()?,
            out: vec![0; 64 << 10].into(),
            err: vec![0; 8 << 10].into(),
        })
    }

    /// As large as a pipe may be without rights (pipe(7)); where that is refused too, it stays as it is.
    fn widen(&mut self, bulk: bool) {
        if let Some(stdout) = self.stdout.as_ref().filter(|_| bulk) {
            let _ = rustix::pipe::fcntl_setpipe_size(stdout, 1 << 20);
            self.out = vec![0; 256 << 10].into();
        }
    }

    fn closed(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    async fn next(&mut self, cancel: &CancellationToken, fate: &Fate) -> io::Result<Event<'_>> {
        tokio::select! {
            n = read(self.stdout.as_mut(), &mut self.out) => Ok(match n {
                0 => { self.stdout = None; Event::Quiet }
                n => Event::Output(Source::Stdout, &self.out[..n]),
            }),
            n = read(self.stderr.as_mut(), &mut self.err) => Ok(match n {
                0 => { self.stderr = None; Event::Quiet }
                n => Event::Output(Source::Stderr, &self.err[..n]),
            }),
            more = write(self.stdin.as_mut(), self.held) => {
                if !more { self.stdin = None; }
                Ok(Event::Quiet)
            }
            ready = self.end.readable(), if !fate.ended() => ready.map(|_| Event::Ended),
            () = cancel.cancelled(), if fate.may_stop() => Ok(Event::Cancelled),
            () = at(fate.next_look()) => Ok(Event::Tick),
        }
    }
}

#[expect(
    deprecated,
    reason = "the replacement is unsafe; an OwnedFd keeps its descriptor open, which is all it asks"
)]
fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

/// Reads a piece; 0 at the end of the stream. A broken pipe is its end.
async fn read(pipe: Option<&mut pipe::Receiver>, buffer: &mut [u8]) -> usize {
    match pipe {
        Some(pipe) => pipe.read(buffer).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}

/// Writes a piece; false when all is written or the child does not want it.
async fn write(stdin: Option<&mut (pipe::Sender, Vec<u8>, usize)>, held: bool) -> bool {
    let Some((pipe, bytes, done)) = stdin else { return std::future::pending().await };
    if *done == bytes.len() && held {
        return std::future::pending().await;
    }
    if *done == bytes.len() {
        return false;
    }
    pipe.write(&bytes[*done..]).await.is_ok_and(|n| {
        *done += n;
        n > 0
    })
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
