//! rsync between this machine and another one, and what its end means.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use crate::definition::Remote;
use crate::process::{self, Ended, How, Limits, Program, Sign, Source, Why};
use crate::restic;
use crate::target::{SshError, asks_for_a_password, of_connection, rsync_shell};

/// Everything that a file has, by number; for owners see [`stands_in`].
pub(super) const ALL: [&str; 7] = ["-rlptgoD", "-H", "-A", "-X", "--numeric-ids", "--sparse", "--stats"];
/// How a restore writes: files that live `beside` unchanged are copied there, by their content. Paths go over the wire by
/// themselves, or as words of the command where sudo is to see them.
pub(super) fn push_options(sudo: bool, beside: &Path) -> Vec<OsString> {
    let mut copied = OsString::from("--copy-dest=");
    copied.push(beside);
    let own: Option<OsString> = (!sudo).then(|| "--protect-args".into());
    own.into_iter().chain(["--checksum".into(), copied]).collect()
}

/// How many lines of what was left out are told.
const TOLD: usize = 5;

/// What came of a transfer that did its work.
#[derive(Debug, Default)]
pub(super) struct Transferred {
    /// What could not be read or written, in rsync's words.
    pub(super) left_out: Vec<String>,
    /// What else was noticed.
    pub(super) warnings: Vec<String>,
    /// rsync's own account, a line each.
    pub(super) stats: Vec<String>,
}

/// Where what is transferred is written, and so which disk may be full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Toward {
    /// Into the cache of this machine.
    Here,
    /// Onto the other machine.
    There,
}

/// Transfers what `more` says (options, source, target). `near` is the directory here.
///
/// # Errors
/// The connection, the disk, or rsync; what was transferred by then stays.
pub(super) async fn transfer(
    remote: &Remote,
    (toward, near): (Toward, &Path),
    more: Vec<OsString>,
    stall: Duration,
    cancel: &CancellationToken,
) -> Result<Transferred> {
    let mut argv: Vec<OsString> = vec!["rsync".into()];
    argv.extend(ALL.map(OsString::from));
    argv.extend(["--rsh".into(), rsync_shell(remote)]);
    if remote.sudo {
        argv.extend(["--rsync-path".into(), "sudo -n rsync".into()]);
    }
    let mut told = Transferred::default();
    argv.extend(stands_in(near, &mut told));
    argv.extend(more);
    let mut program = Program::new(argv);
    program.limits = Limits { stall: Some(stall), work_counts: true, grace: GRACE, ..Limits::NONE };
    let mut said: Vec<String> = Vec::new();
    let listen = |source: Source, line: &[u8]| {
        let line = process::printable(line).trim().to_owned();
        match source {
            Source::Stdout if STATS.iter().any(|known| line.starts_with(known)) => told.stats.push(line),
            Source::Stderr if !line.is_empty() && said.len() < 1_000 => said.push(line),
            _ => {}
        }
        Sign::Life
    };
    let ended = process::run(program, cancel, listen).await?;
    told.left_out.extend(judge(remote, (toward, near), &ended, &said)?);
    Ok(told)
}

/// The time between two steps of ending it.
const GRACE: Duration = Duration::from_secs(5);

/// What of rsync's account is worth keeping.
const STATS: [&str; 4] = [
    "Number of files:",
    "Number of created files:",
    "Number of deleted files:",
    "Total transferred file size:",
];

/// Only root gives files to others. Without, rsync keeps owners and device numbers in an attribute of each file, where
/// the file system here has such.
fn stands_in(near: &Path, told: &mut Transferred) -> Option<OsString> {
    if rustix::process::geteuid().is_root() {
        return None;
    }
    let name = "user.holdfast.tried";
    let set = rustix::fs::setxattr(near, name, b"1", XattrFlags::empty());
    if let Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS) = set {
        let text = "owners of files are not kept: this is not root, and the disk of the cache has no user attributes";
        told.warnings.push(text.to_owned());
        return None;
    }
    let _ = rustix::fs::removexattr(near, name);
    Some("--fake-super".into())
}

/// The mirror did not fit.
pub(super) fn full_cache(near: &Path, said: &str) -> anyhow::Error {
    let disk = mount_point(near);
    let free = rustix::fs::statvfs(near).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    anyhow!(
        "the disk of the cache is full: {} lies on {}, where {free} bytes are free: {said}; make room there, or let the \
         cache directory lie on a larger disk: a mirror is as large as what is included. What was mirrored stays, and the \
         next run goes on from there",
        near.display(),
        disk.display()
    )
}

/// Where the file system of a directory begins.
fn mount_point(dir: &Path) -> PathBuf {
    let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev()).ok();
    let own = device(dir);
    let same = dir.ancestors().take_while(|above| device(above) == own);
    same.last().unwrap_or(dir).to_owned()
}

/// What its end means; answers with what was left out.
fn judge(
    remote: &Remote,
    (toward, near): (Toward, &Path),
    ended: &Ended,
    said: &[String],
) -> Result<Vec<String>> {
    let words = |lines: &[String]| {
        let own = |line: &&String| !line.starts_with("rsync error:") && !line.starts_with("rsync warning:");
        lines.iter().filter(own).take(TOLD).cloned().collect::<Vec<_>>().join("; ")
    };
    let text = said.join("\n");
    match (ended.stopped, ended.how) {
        (Some(Why::Cancelled), _) => return Err(restic::Error::Cancelled.into()),
        (Some(Why::Stalled), _) => {
            let said = format!("rsync made no progress for {:?}", ended.duration);
            return Err(SshError::Unreachable { login: remote.login(), said }.into());
        }
        (Some(why), _) => bail!("rsync was ended ({why:?}): {}", words(said)),
        (None, How::Signalled(signal)) => bail!("rsync was killed by signal {signal}"),
        (None, How::Exited(0)) => return Ok(Vec::new()),
        // What vanished meanwhile is no failing of anybody.
        (None, How::Exited(24)) => return Ok(Vec::new()),
        (None, How::Exited(_)) => {}
    }
    if ["No space left on device", "Disk quota exceeded"].iter().any(|full| text.contains(full)) {
        return Err(match toward {
            Toward::Here => full_cache(near, &words(said)),
            Toward::There => anyhow!(
                "a disk of {} is full: {}; make room there: what is restored lies beside what lives until both change places",
                remote.login(),
                words(said)
            ),
        });
    }
    match ended.how {
        How::Exited(23) => Ok(vec![format!("not everything could be transferred: {}", words(said))]),
        _ if asks_for_a_password(&text) => {
            let said = said.iter().find(|line| line.contains("sudo")).cloned().unwrap_or_default();
            Err(SshError::Sudo { login: remote.login(), said }.into())
        }
        _ if text.contains("not found") => {
            Err(anyhow!("rsync is needed on {} as well: {}; install it there", remote.login(), words(said)))
        }
        How::Exited(5 | 10 | 12 | 30 | 35 | 255) => Err(of_connection(remote, &words(said)).into()),
        _ => bail!("rsync failed ({:?}): {}", ended.how, words(said)),
    }
}
