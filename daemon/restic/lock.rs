//! Locks: who holds one, whether its holder lives, how ours are healed and others are waited for.
//!
//! restic never ignores a stale lock; only `unlock` removes it, and that also removes locks of *other* hosts older than
//! 30 minutes. So what is removed here by itself is only what a dead process of this host left.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::Instant;

use super::call::Call;
use super::{Access, Error, Restic, Terms};
use crate::process::Sign;

/// From which age restic's `unlock` removes a lock of another host.
const STALE_AFTER: Duration = Duration::from_secs(30 * 60);

/// How long a dying process is given before its lock is looked at again.
const HEAL_PAUSE: Duration = Duration::from_millis(200);

/// How long one question about locks may take.
const QUESTION: Duration = Duration::from_secs(120);

/// A lock in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockInfo {
    /// Its id: whole from a listing, 8 digits from a message.
    pub id: String,
    /// The host that made it, by its own name.
    pub host: String,
    /// The process that made it.
    pub pid: i32,
    /// When, if known.
    pub created: Option<Timestamp>,
    /// Whether it excludes everybody (forget, prune, check) or just those.
    pub exclusive: bool,
    /// Whether this host made it, and the process is gone.
    pub ours_and_dead: bool,
}

impl fmt::Display for LockInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}", self.pid, self.host)?;
        if let Some(created) = self.created {
            write!(f, " since {}", created.round(jiff::Unit::Second).unwrap_or(created))?;
        }
        f.write_str(if self.exclusive { " (exclusive)" } else { "" })?;
        f.write_str(if self.ours_and_dead { ", which is dead" } else { "" })
    }
}

#[derive(Deserialize)]
struct RawLock {
    time: Timestamp,
    #[serde(default)]
    exclusive: bool,
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    pid: i32,
}

impl LockInfo {
    /// Reads restic's message, the same since 0.14; its times are in UTC because we tell restic so.
    pub(super) fn from_message(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once("repository is already locked")?;
        let (what, rest) = rest.split_once("by PID ")?;
        let (pid, rest) = rest.split_once(" on ")?;
        let (host, rest) = rest.split_once(" by ")?;
        let created =
            rest.split_once("lock was created at ").and_then(|(_, r)| r.split_once(" (")).map(|(t, _)| t);
        let id =
            rest.split_once("storage ID ").and_then(|(_, r)| r.split_whitespace().next()).unwrap_or_default();
        let created = created.and_then(|t| format!("{}Z", t.trim().replace(' ', "T")).parse().ok());
        Some(Self::new(id, host, pid.trim().parse().ok()?, created, what.contains("exclusively")))
    }

    fn new(id: &str, host: &str, pid: i32, created: Option<Timestamp>, exclusive: bool) -> Self {
        let ours_and_dead = host == own_host() && !lives(pid, created);
        Self { id: id.into(), host: host.into(), pid, created, exclusive, ours_and_dead }
    }

    fn stale_for_restic(&self) -> bool {
        self.older_than(STALE_AFTER)
    }

    fn older_than(&self, age: Duration) -> bool {
        let passed = self.created.map(|created| Timestamp::now().duration_since(created));
        passed.is_some_and(|passed| {
            passed >= jiff::SignedDuration::try_from(age).unwrap_or(jiff::SignedDuration::MAX)
        })
    }
}

fn own_host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Whether the process that made a lock still lives. Process ids are reused: one that started after the lock was made
/// and is no restic is somebody else. (The time alone would not do: the clock may have been set.)
fn lives(pid: i32, created: Option<Timestamp>) -> bool {
    // /proc hides processes of others from a confined daemon (ProtectProc=): what cannot be seen there may live.
    let Some(process) = rustix::process::Pid::from_raw(pid.max(0)) else { return false };
    if rustix::process::test_kill_process(process) == Err(rustix::io::Errno::SRCH) {
        return false;
    }
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    let Some((name, fields)) = stat.split_once('(').and_then(|(_, r)| r.rsplit_once(')')) else {
        return true;
    };
    let mut fields = fields.split_ascii_whitespace();
    if fields.next() == Some("Z") {
        return false;
    }
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    if name.contains("restic") || exe.file_name().is_some_and(|n| n.to_string_lossy().contains("restic")) {
        return true;
    }
    let ticks = fields.nth(18).and_then(|t| t.parse::<i64>().ok());
    match (ticks.and_then(started), created) {
        (Some(started), Some(created)) => started <= created + jiff::SignedDuration::from_secs(2),
        _ => true,
    }
}

/// The instant that a process start, in hundredths of a second since boot, means.
fn started(ticks: i64) -> Option<Timestamp> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let boot = stat.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()?;
    Timestamp::from_second(boot)
        .ok()?
        .checked_add(jiff::SignedDuration::from_millis(ticks.saturating_mul(10)))
        .ok()
}

/// How much longer a call waits for a lock, and whether it has healed one.
pub(super) struct Patience {
    until: Instant,
    pause: Duration,
    healed: bool,
    outlived: bool,
}

impl Patience {
    pub(super) fn new(wait: Duration) -> Self {
        Self { until: Instant::now() + wait, pause: Duration::from_secs(1), healed: false, outlived: false }
    }

    /// Returns when the call should be made again; fails when it should not.
    pub(super) async fn consider(
        &mut self,
        restic: &Restic,
        access: &Access,
        terms: &Terms,
        holder: Option<Box<LockInfo>>,
    ) -> Result<(), Error> {
        let ours = holder.as_ref().is_none_or(|h| h.ours_and_dead);
        if ours && !self.healed {
            self.healed = true;
            if restic.remove_own_dead_locks(access, terms).await? {
                return Ok(());
            }
        }
        if !self.outlived && restic.remove_old_locks(access, terms).await? {
            self.outlived = true;
            return Ok(());
        }
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::Locked { holder });
        }
        let pause = self.pause.min(left);
        self.pause = (self.pause * 2).min(Duration::from_secs(15));
        tokio::select! {
            () = terms.cancel.cancelled() => Err(Error::Cancelled),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }
}

impl Restic {
    /// All locks, as far as they can be read.
    ///
    /// # Errors
    /// As any call; nothing is locked for it.
    pub async fn locks(&self, access: &Access, terms: &Terms) -> Result<Vec<LockInfo>, Error> {
        let terms = terms.question(QUESTION);
        let list = self.text(access, &terms, &Call::unlocked(["list", "locks"])).await?;
        let mut locks = Vec::new();
        for id in list.lines().map(str::trim).filter(|l| is_id(l)) {
            let cat = self.text(access, &terms, &Call::unlocked(["cat", "lock", id])).await;
            match cat {
                // It was removed meanwhile, or is empty: a crash can leave it so, and it locks nothing.
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                Err(_) => {}
                Ok(text) => {
                    if let Ok(raw) = serde_json::from_str::<RawLock>(&text) {
                        locks.push(LockInfo::new(id, &raw.hostname, raw.pid, Some(raw.time), raw.exclusive));
                    }
                }
            }
        }
        Ok(locks)
    }

    /// Removes locks: those that restic calls stale (dead here, or older than 30 minutes), or with `all` every one.
    ///
    /// # Errors
    /// As any call.
    pub async fn unlock(&self, access: &Access, terms: &Terms, all: bool) -> Result<(), Error> {
        let mut args: Vec<OsString> = vec!["unlock".into()];
        args.extend(all.then(|| "--remove-all".into()));
        self.call(access, &terms.question(QUESTION), &Call::new(args), &mut |_| Sign::Life).await.map(|_| ())
    }

    /// Removes what dead processes of this host left, and nothing else. One that is about to die is waited for: a process
    /// that was killed still counts as alive until the system has taken it apart.
    ///
    /// # Errors
    /// As any call.
    pub async fn heal_own_locks(
        &self,
        access: &Access,
        terms: &Terms,
        patience: Duration,
    ) -> Result<(), Error> {
        let end = Instant::now() + patience;
        loop {
            self.remove_own_dead_locks(access, terms).await?;
            let own = own_host();
            if Instant::now() >= end || !self.locks(access, terms).await?.iter().any(|lock| lock.host == own)
            {
                return Ok(());
            }
            tokio::select! {
                () = terms.cancel.cancelled() => return Err(Error::Cancelled),
                () = tokio::time::sleep(HEAL_PAUSE) => {}
            }
        }
    }

    /// Removes what dead processes of this host left, and nothing else. False when there is nothing of that kind, or
    /// no way to remove only that.
    pub(super) async fn remove_own_dead_locks(&self, access: &Access, terms: &Terms) -> Result<bool, Error> {
        let locks = Box::pin(self.locks(access, terms)).await?;
        let (dead, others): (Vec<_>, Vec<_>) = locks.into_iter().partition(|l| l.ours_and_dead);
        if dead.is_empty() {
            return Ok(false);
        }
        tracing::info!(locks = dead.len(), "removing locks that dead processes of this host left");
        if let Some(repository) = &access.local_path {
            return Ok(dead.iter().all(|lock| remove_file(repository, &lock.id)));
        }
        if others.iter().any(LockInfo::stale_for_restic) {
            return Ok(false);
        }
        Box::pin(self.unlock(access, terms, false)).await?;
        Ok(true)
    }
}

impl Restic {
    /// Removes locks of other hosts that are as old as the definition wants them to be; false when there are none. Only
    /// restic itself does it, and only to locks that it calls stale, so a living holder is never robbed.
    async fn remove_old_locks(&self, access: &Access, terms: &Terms) -> Result<bool, Error> {
        let Some(age) = access.unlock_foreign_after else { return Ok(false) };
        let old =
            |lock: &LockInfo| lock.host != own_host() && lock.stale_for_restic() && lock.older_than(age);
        let locks = Box::pin(self.locks(access, terms)).await?;
        let Some(lock) = locks.iter().find(|lock| old(lock)) else { return Ok(false) };
        tracing::warn!("removing the lock of {lock}, as unlock_foreign_after allows");
        Box::pin(self.unlock(access, terms, false)).await?;
        Ok(true)
    }
}

fn remove_file(repository: &Path, id: &str) -> bool {
    match std::fs::remove_file(repository.join("locks").join(id)) {
        Ok(()) => true,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_read_from_the_message() {
        let text = "unable to create lock in backend: repository is already locked exclusively by PID 1110 on some host by root (UID 0, GID 0)\nlock was created at 2026-11-21 08:15:01 (25.02s ago)\nstorage ID d2d9085d\nthe `unlock` command";
        let lock = LockInfo::from_message(text).unwrap();
        assert_eq!(
            (lock.pid, lock.host.as_str(), lock.exclusive, lock.id.as_str()),
            (1110, "some host", true, "d2d9085d")
        );
        assert_eq!(lock.created.unwrap().to_string(), "2026-11-21T08:15:01Z");
        assert!(!lock.ours_and_dead);
        assert_eq!(lock.to_string(), "process 1110 on some host since 2026-11-21T08:15:01Z (exclusive)");
        assert!(LockInfo::from_message("repository is already locked, somehow").is_none());
    }

    #[test]
    fn a_lock_is_dead_when_its_process_is_gone_or_another_one() {
        let own = i32::try_from(std::process::id()).unwrap();
        let now = Timestamp::now();
        assert!(lives(own, Some(now)));
        assert!(!lives(i32::MAX, Some(now)));
        // This process started long after such a lock was made; its name decides whether it could have made it.
        let long_ago = Some(now - jiff::SignedDuration::from_hours(24 * 365 * 30));
        let looks_like_restic = std::env::current_exe().unwrap().to_string_lossy().contains("restic");
        assert_eq!(lives(own, long_ago), looks_like_restic && own_name().contains("restic"));
        assert!(LockInfo::new("x", &own_host(), i32::MAX, Some(now), false).ours_and_dead);
        assert!(!LockInfo::new("x", "elsewhere", i32::MAX, Some(now), false).ours_and_dead);
    }

    fn own_name() -> String {
        std::env::current_exe().unwrap().file_name().unwrap().to_string_lossy().into_owned()
    }
}
