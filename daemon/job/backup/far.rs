//! An instance on another machine: waited for while nothing is touched, and mirrored here for restic to read it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Shared;
use super::instance::Ready;
use crate::definition::{Instance, Remote};
use crate::job::rsync::{self, Toward};
use crate::process::{self, Limits, Program};
use crate::restic;
use crate::state::durable;
use crate::target::{SshError, judge, over_ssh, rsync_path};

/// How long a machine may take to say that it is there.
const ANSWER: Duration = Duration::from_secs(60);
/// Below a mirror: what rsync is told to fetch.
pub(in crate::job) const RULES: &str = "rules";

/// Whether all machines of an instance answer, tried again where that may pass: now, while the services still run.
pub(super) async fn reachable(shared: &Shared, instance: &Instance) -> Result<()> {
    let mut remotes: Vec<&Remote> = instance.remote.iter().collect();
    remotes.extend(instance.dumps.iter().filter_map(|dump| dump.remote.as_ref()));
    remotes.dedup();
    for remote in remotes {
        patiently(shared, instance, remote).await?;
    }
    Ok(())
}

async fn patiently(shared: &Shared, instance: &Instance, remote: &Remote) -> Result<()> {
    let (live, retry) = (&shared.live, shared.request.backup.retry);
    let mut pause = retry.delay;
    for left in (0..=retry.attempts).rev() {
        let Err(failure) = answers(remote, live.cancelled()).await else { return Ok(()) };
        let passing = failure.downcast_ref::<SshError>().is_some_and(SshError::retryable);
        if !passing || left == 0 || live.cancelled().is_cancelled() {
            return Err(failure);
        }
        warn!(holdfast_instance = %instance.name, "tried again in {pause:?}: {failure:#}");
        live.waits(&instance.name, Some(format!("tries again in {pause:?}: {failure}")));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = live.cancelled().cancelled() => {}
        }
        live.waits(&instance.name, None);
        pause = pause.saturating_mul(2);
    }
    Ok(())
}

/// Whether a machine lets us in and runs something.
async fn answers(remote: &Remote, cancel: &CancellationToken) -> Result<()> {
    let mut program = Program::new(over_ssh(remote, ["true"]));
    program.limits = Limits::within(ANSWER);
    let ended = process::run(program, cancel, |_, _| process::Sign::Life).await?;
    ensure!(!cancel.is_cancelled(), restic::Error::Cancelled);
    judge(remote, &ended)?;
    if ended.stopped.is_some() {
        let said = format!("no answer within {ANSWER:?}");
        return Err(SshError::Unreachable { login: remote.login(), said }.into());
    }
    ensure!(ended.ok(), "{} runs no command for us: {}", remote.login(), ended.stderr_tail.trim());
    Ok(())
}

/// Brings the mirror up to date: afterwards it holds what the includes name, and nothing else. Answers with what could not
/// be read there.
///
/// # Errors
/// The connection, or a disk; the mirror is in between then, and no snapshot may be taken of it.
pub(super) async fn mirror(shared: &Shared, ready: &Ready) -> Result<Vec<String>> {
    let Some(remote) = &ready.instance.remote else { return Ok(Vec::new()) };
    let place = ready.place.clone();
    let rules = tokio::task::spawn_blocking(move || place.rsync_rules()).await??;
    let to = remote.clone();
    let lists = rules.is_some();
    let made = tokio::task::spawn_blocking(move || make(&to, &rules.unwrap_or_default())).await?;
    made.map_err(|failure| match is_full(&failure) {
        true => rsync::full_cache(&remote.mirror, &format!("{failure:#}")),
        false => failure,
    })?;
    let mut told = Vec::new();
    if lists {
        told.extend(fetched(shared, ready, remote, fetch(remote), &remote.login()).await?);
    }
    told.extend(volumes(shared, ready, remote).await?);
    Ok(told)
}

/// Each volume has a mirror of its own: what its engine calls its place may lie behind links there.
async fn volumes(shared: &Shared, ready: &Ready, remote: &Remote) -> Result<Vec<String>> {
    let place = &ready.place;
    let (dir, named) = (remote.volumes(), place.there.keys().cloned().collect());
    tokio::task::spawn_blocking(move || only(&dir, &named)).await??;
    let mut told = Vec::new();
    for (name, from) in &place.there {
        let known = place.clone();
        let of = name.clone();
        let Some(rules) = tokio::task::spawn_blocking(move || known.volume_rules(&of)).await?? else {
            continue;
        };
        let to = remote.volume(name);
        let made = to.clone();
        tokio::task::spawn_blocking(move || private(&made)).await??;
        let shown = format!("volume {name} of {}", remote.login());
        let notes = fetched(shared, ready, remote, fetch_volume(remote, rules, from, &to), &shown).await?;
        // Without the place all that was mirrored before would be taken for it.
        let gone = notes.iter().find(|note| note.contains("change_dir"));
        ensure!(
            gone.is_none(),
            "mirroring {shown}: {}, so no snapshot was taken",
            gone.map_or("", |note| note)
        );
        told.extend(notes);
    }
    Ok(told)
}

/// Brings a mirror up to date; answers with what was noticed.
async fn fetched(
    shared: &Shared,
    ready: &Ready,
    remote: &Remote,
    argv: Vec<OsString>,
    shown: &str,
) -> Result<Vec<String>> {
    let begun = tokio::time::Instant::now();
    let (stall, cancel) = (ready.instance.stall_timeout, shared.live.cancelled());
    let done = rsync::transfer(remote, (Toward::Here, &remote.mirror), argv, stall, cancel).await;
    let done = done.with_context(|| format!("mirroring {shown}, so no snapshot was taken"))?;
    let text = format!("mirrored {shown} in {:.1?}: {}", begun.elapsed(), done.stats.join(", "));
    info!("{text}");
    ready.log.note(&text);
    Ok(done.left_out.into_iter().chain(done.warnings).collect())
}

/// Removes mirrors of volumes that are no longer wanted.
fn only(dir: &Path, named: &BTreeSet<String>) -> Result<()> {
    if named.is_empty() && !dir.is_dir() {
        return Ok(());
    }
    private(dir)?;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(|name| named.contains(name)) {
            std::fs::remove_dir_all(entry.path())
                .with_context(|| format!("removing {}, which is not wanted", entry.path().display()))?;
        }
    }
    Ok(())
}

/// What is fetched of a volume, as rsync's options.
fn fetch_volume(remote: &Remote, rules: Vec<OsString>, from: &Path, to: &Path) -> Vec<OsString> {
    let slashed = |path: &Path| {
        let mut text = path.as_os_str().to_owned();
        text.push("/");
        text
    };
    let mut argv: Vec<OsString> = vec!["--delete".into(), "--delete-excluded".into()];
    // sudo is to see the path.
    argv.extend((!remote.sudo).then(|| OsString::from("--protect-args")));
    argv.extend(rules.into_iter().map(|rule| {
        let mut option = OsString::from("--filter=");
        option.push(rule);
        option
    }));
    argv.extend(["--".into(), rsync_path(remote, &slashed(from)), slashed(to)]);
    argv
}

/// Whether a disk had no room.
fn is_full(failure: &anyhow::Error) -> bool {
    let kind =
        failure.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    matches!(kind, Some(std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded))
}

/// What is fetched, as rsync's options.
fn fetch(remote: &Remote) -> Vec<OsString> {
    let mut rules = OsString::from("--filter=merge ");
    rules.push(remote.mirror.join(RULES));
    let mut to = remote.root().into_os_string();
    to.push("/");
    let from = rsync_path(remote, "/".as_ref());
    vec!["--delete".into(), "--delete-excluded".into(), rules, "--".into(), from, to]
}

fn private(dir: &Path) -> Result<()> {
    if !dir.is_dir() {
        durable::create_dir(dir, 0o700)?;
    }
    Ok(())
}

fn make(remote: &Remote, rules: &[u8]) -> Result<()> {
    private(&remote.mirror)?;
    let meta = std::fs::symlink_metadata(&remote.mirror)?;
    let own = meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw();
    ensure!(own, "{} is not a directory of ours; remove it", remote.mirror.display());
    std::fs::set_permissions(&remote.mirror, std::fs::Permissions::from_mode(0o700))?;
    private(&remote.root())?;
    ensure!(
        !remote.mirror.as_os_str().as_bytes().contains(&b'\n'),
        "the cache directory's path holds a line break"
    );
    durable::write(&remote.mirror.join(RULES), 0o600, rules)
}
