//! From a [`Program`] to a running unit.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::pipe::PipeFlags;
use rustix::process::Signal;
use tokio::sync::{mpsc, oneshot};
use zbus::{Fd, Variant};

use super::super::program::Prepared;
use super::super::running::Pipes;
use super::super::{Error, How, Leftovers, Program, Stdin, Stdout};
use super::environment::EnvironmentFile;
use super::systemd::{ManagerProxy, ends};
use super::watch::{Followed, Running};
use super::{Host, service};

/// How long systemd may take to start a unit: it only has to fork.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where units of programs are (`units/holdfast.slice`).
const SLICE: &str = "holdfast.slice";

/// A unit's settings, by name.
type Settings<'a> = Vec<(&'a str, Variant<'a>)>;

/// A program's standard streams, the unit's side.
struct Streams {
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// Starts a program as a unit. Returns what is to be written into its standard input as well.
///
/// # Errors
/// As for any child; and when systemd refuses.
pub(in crate::process) async fn start(
    host: &Host,
    mut program: Program,
) -> Result<(Running, Option<Vec<u8>>), Error> {
    let name = program.name();
    let spawn = |source| Error::Spawn { program: name.clone(), source };
    let (pipes, streams, input) = connect(&mut program).map_err(spawn)?;
    // Looking at its paths may block: they may lie on a network.
    let prepared = tokio::task::spawn_blocking(move || program.prepared()).await;
    let prepared = prepared.map_err(|e| spawn(io::Error::other(e)))??;
    let unit = unit_name(host, &prepared);
    let environment = keep(host, &unit, &prepared).map_err(spawn)?;
    let heard = heard(&pipes).map_err(spawn)?;
    let (orders, taken) = mpsc::unbounded_channel();
    let (tell, started) = oneshot::channel();
    // In a task of its own: were it dropped half-way, a unit could run that nobody knows of.
    tokio::spawn(lead(unit, prepared, environment, (streams, heard), taken, tell));
    let started = started.await.map_err(|_| spawn(io::Error::other("the runtime is ending")))??;
    let Started { pid, cgroup, end, verdict } = started;
    Ok((Running { pipes, end, pid, cgroup, orders, verdict: Some(verdict) }, input))
}

/// What is known of a unit that runs.
struct Started {
    pid: i32,
    cgroup: String,
    end: OwnedFd,
    verdict: oneshot::Receiver<zbus::Result<How>>,
}

/// Starts a unit, tells of it, and follows it to its end.
async fn lead(
    unit: String,
    prepared: Prepared,
    environment: EnvironmentFile,
    (streams, heard): (Streams, Vec<OwnedFd>),
    orders: mpsc::UnboundedReceiver<Signal>,
    tell: oneshot::Sender<Result<Started, Error>>,
) {
    let refused = |failure: zbus::Error| Error::Spawn {
        program: prepared.program.clone(),
        source: io::Error::other(failure),
    };
    let followed = match begin_in_time(&unit, &prepared, environment, streams).await {
        Ok((followed, true)) => followed,
        Ok((followed, false)) => match refusal(&prepared, &followed, &heard).await {
            None => followed,
            Some(refusal) => return drop(tell.send(Err(refusal))),
        },
        Err(failure) => return drop(tell.send(Err(refused(failure)))),
    };
    let (say, verdict) = oneshot::channel();
    let (told, held) = match started(&followed, verdict).await {
        Ok((started, held)) => (Ok(started), Some(held)),
        Err(failure) => (Err(refused(failure)), None),
    };
    // Where nobody listens any more, or only to a failure, nobody is left to give orders: then the unit is killed.
    let _ = tell.send(told);
    let _ = say.send(followed.to_its_end(orders).await);
    drop(held);
}

/// The pipes between it and us.
fn connect(program: &mut Program) -> io::Result<(Pipes, Streams, Option<Vec<u8>>)> {
    let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC);
    let mut input = None;
    let (stdin, to) = match std::mem::replace(&mut program.stdin, Stdin::Null) {
        Stdin::Null | Stdin::Terminal => (None, None),
        Stdin::File(file) => (Some(file), None),
        Stdin::Bytes(bytes) | Stdin::Held(bytes) => {
            input = Some(bytes);
            let (read, write) = pipe()?;
            (Some(read), Some(write))
        }
    };
    let (stdout, from) = match std::mem::replace(&mut program.stdout, Stdout::Heard) {
        Stdout::File(file) => (file, None),
        Stdout::Heard | Stdout::Terminal => {
            let (read, write) = pipe()?;
            (write, Some(read))
        }
    };
    let (errors, stderr) = pipe()?;
    let pipes = Pipes { stdin: to, stdout: from, stderr: Some(errors) };
    Ok((pipes, Streams { stdin, stdout, stderr }, input))
}

/// `holdfastd-run-<our process>-<number>-<program>.service`.
fn unit_name(host: &Host, prepared: &Prepared) -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let fits = |c: &char| c.is_ascii_alphanumeric() || "_.".contains(*c);
    let program = prepared.program.file_name().unwrap_or_default().to_string_lossy();
    let label: String = program.replace('-', "_").chars().filter(fits).take(60).collect();
    format!("{}{}-{number}-{label}.service", host.prefix, std::process::id())
}

fn keep(host: &Host, unit: &str, prepared: &Prepared) -> io::Result<EnvironmentFile> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&host.dir)?;
    EnvironmentFile::write(host.dir.join(unit), &prepared.environment)
}

/// As [`begin`]. A unit that does not get ready is not left behind.
async fn begin_in_time(
    name: &str,
    prepared: &Prepared,
    environment: EnvironmentFile,
    streams: Streams,
) -> zbus::Result<(Followed, bool)> {
    let begun = tokio::time::timeout(PATIENCE, begin(name, prepared, &environment, streams)).await;
    let failure = match begun {
        Ok(Ok(begun)) => return Ok(begun),
        Ok(Err(failure)) => failure,
        Err(_) => zbus::Error::Failure(format!("systemd did not start it within {PATIENCE:?}")),
    };
    let bus = zbus::Connection::system().await?;
    // Mostly there is none.
    let _ = ManagerProxy::new(&bus).await?.stop_unit(name, "replace").await;
    Err(failure)
}

/// Asks systemd to start it, and waits until it has executed the program or given up: true or false. The environment
/// has been read then.
async fn begin(
    name: &str,
    prepared: &Prepared,
    environment: &EnvironmentFile,
    streams: Streams,
) -> zbus::Result<(Followed, bool)> {
    // A connection of its own: systemd keeps what is known of the unit for as long as it lives.
    let bus = zbus::Connection::system().await?;
    let manager = ManagerProxy::new(&bus).await?;
    let mut ends = ends(&manager).await?;
    let settings = settings(prepared, environment, streams)?;
    let job = manager.start_transient_unit(name, "fail", &settings, &[]).await?;
    let result = ends.of(&job).await?.ok_or(zbus::Error::InterfaceNotFound)?;
    let path = manager.get_unit(name).await?;
    Ok((Followed { bus, name: name.to_owned(), path }, result == "done"))
}

fn settings<'a>(
    prepared: &Prepared,
    environment: &EnvironmentFile,
    streams: Streams,
) -> zbus::Result<Settings<'a>> {
    let argv = prepared.argv.iter().map(|word| text(word)).collect::<zbus::Result<Vec<_>>>()?;
    let program = text(prepared.program.as_os_str())?;
    let mut settings: Settings<'a> = vec![
        ("Description", format!("{program} for the backup daemon").into()),
        ("Type", "exec".into()),
        // The limits of all of them together; its file says which.
        ("Slice", SLICE.into()),
        // Held by our connection until we know how it ended.
        ("AddRef", true.into()),
        ("CollectMode", "inactive-or-failed".into()),
        // No default dependencies: at shutdown it is ours to end it in order.
        ("DefaultDependencies", false.into()),
        ("ExecStartEx", vec![(program, argv, vec!["no-env-expand".to_owned()])].into()),
        ("WorkingDirectory", text(prepared.dir.as_os_str())?.into()),
        ("EnvironmentFiles", vec![(text(environment.path().as_os_str())?, false)].into()),
        ("IgnoreSIGPIPE", false.into()),
        // A silent program that computes is not stalled.
        ("CPUAccounting", true.into()),
        ("TimeoutStopUSec", u64::try_from(prepared.drain.as_micros()).unwrap_or(u64::MAX).into()),
        ("StandardOutputFileDescriptor", Fd::from(streams.stdout).into()),
        ("StandardErrorFileDescriptor", Fd::from(streams.stderr).into()),
    ];
    settings.extend(streams.stdin.map(|fd| ("StandardInputFileDescriptor", Fd::from(fd).into())));
    if let Some(user) = &prepared.user {
        settings.push(("User", user.uid.to_string().into()));
        settings.push(("Group", user.gid.to_string().into()));
    }
    if prepared.leftovers == Leftovers::Stay {
        settings.push(("KillMode", "process".into()));
    }
    if prepared.nice {
        settings.extend([("Nice", 10_i32.into()), ("OOMScoreAdjust", 500_i32.into())]);
    }
    Ok(settings)
}

/// D-Bus takes text only.
fn text(word: &OsStr) -> zbus::Result<String> {
    let refused = || zbus::Error::Failure(format!("{word:?} is not UTF-8, and systemd takes nothing else"));
    word.to_str().map(str::to_owned).ok_or_else(refused)
}

/// What there is to tell of it, and the end of a pipe that is to be held until it has ended.
async fn started(
    followed: &Followed,
    verdict: oneshot::Receiver<zbus::Result<How>>,
) -> zbus::Result<(Started, OwnedFd)> {
    let service = service(&followed.bus, &followed.path).await?;
    // Of one that has ended already there is neither; it will not be looked at.
    let pid = i32::try_from(service.main_pid().await?).unwrap_or(0);
    let cgroup = service.control_group().await?;
    let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
    let (end, held) = rustix::pipe::pipe_with(flags).map_err(io::Error::from)?;
    Ok((Started { pid, cgroup, end, verdict }, held))
}

/// Our ends of its output once more, to see whether it wrote anything.
fn heard(pipes: &Pipes) -> io::Result<Vec<OwnedFd>> {
    pipes.stdout.iter().chain(&pipes.stderr).map(OwnedFd::try_clone).collect()
}

/// Why it never began, by systemd's own exit codes (`systemd.exec(5)`, "Process Exit Codes").
///
/// None of a program that did begin: one that fails at once can have ended before systemd saw that it was executed
/// (systemd 252, measured), and such a code may be its own. It is taken for systemd's only if nothing was written.
async fn refusal(prepared: &Prepared, followed: &Followed, heard: &[OwnedFd]) -> Option<Error> {
    let (program, dir) = (prepared.program.clone(), prepared.dir.clone());
    let user = prepared.user.as_ref().map_or("root", |user| &user.name);
    let because = |reason: String| Some(Error::NotExecutable { program: program.clone(), reason });
    let wrote = heard.iter().any(|end| rustix::io::ioctl_fionread(end).is_ok_and(|bytes| bytes > 0));
    match followed.how().await {
        Ok(How::Exited(200)) if !wrote => {
            let source = io::Error::other(format!("user {user} may not enter it"));
            Some(Error::Directory { program, dir, source })
        }
        Ok(How::Exited(203)) if !wrote => {
            because(format!("its interpreter is missing, or user {user} may not execute it"))
        }
        Ok(How::Exited(status)) if wrote || !(200..=255).contains(&status) => None,
        Ok(How::Signalled(_)) => None,
        how => because(format!(
            "systemd could not start it ({how:?}); `journalctl -u {}` says more",
            followed.name
        )),
    }
}
