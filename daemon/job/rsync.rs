//! rsync between this machine and another one, and what its end means.

use std::ffi::OsString;
use std::path::Path;
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

/// Transfers what `more` says (options, source, target). `near` is the directory here.
///
/// # Errors
/// The connection, the disk, or rsync; what was transferred by then stays.
pub(super) async fn transfer(
    remote: &Remote,
    near: &Path,
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
    told.left_out.extend(judge(remote, near, &ended, &said)?);
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

/// What its end means; answers with what was left out.
fn judge(remote: &Remote, near: &Path, ended: &Ended, said: &[String]) -> Result<Vec<String>> {
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
    if text.contains("No space left on device") || text.contains("Disk quota exceeded") {
        bail!(
            "a disk is full, here ({}) or on {}: {}; make room there",
            near.display(),
            remote.login(),
            words(said)
        );
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
