//! What the backup left out stays: it is copied into what comes, over there.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::{Coming, push_all};
use crate::definition::Remote;
use crate::job::far::{self, Far};
use crate::job::restore::Work;
use crate::process::{self, Limits, Program, Sign};
use crate::target::{Manifest, judge, over_ssh, sudo};

/// Excludes other than what keeps our own directories out.
fn excludes(manifest: &Manifest) -> Vec<&str> {
    let own = |pattern: &&str| !pattern.starts_with(".holdfast-j");
    manifest.excludes.iter().map(String::as_str).filter(own).collect()
}

/// Files that the backup left out are copied over there, from what lives: to be called while nothing writes them.
pub(in crate::job::restore) async fn carry(
    work: &Work,
    far: &Far,
    coming: &[Coming],
    staging: &Path,
    manifest: &Manifest,
) -> Result<()> {
    let patterns = excludes(manifest);
    for item in far.items.iter().filter(|item| item.was && item.comes) {
        let Some(one) = coming.iter().find(|one| one.live == item.live.0) else { continue };
        let filters: Vec<String> = patterns.iter().filter_map(|pattern| inside(pattern, &one.item)).collect();
        if filters.is_empty() || !staging.join(&one.item).is_dir() {
            continue;
        }
        let new = item.annex.0.join("new").join(item.live.0.file_name().unwrap_or_default());
        copy_there(work, &far.remote, &filters, &item.live.0, &new).await?;
        // That gave directories what the live ones have; what was saved counts.
        push_all(work, &far.remote, staging, std::slice::from_ref(one)).await?;
    }
    Ok(())
}

/// A pattern over the tree as one of rsync's, below an item; none: it takes back in, or is not about what lies inside. One
/// that fits too much only keeps a file that could go.
fn inside(pattern: &str, item: &Path) -> Option<String> {
    if pattern.starts_with('!') {
        return None;
    }
    let Some(path) = pattern.strip_prefix('/') else { return Some(pattern.to_owned()) };
    let names: Vec<&str> = path.split('/').collect();
    let depth = item.components().count();
    match names.iter().take(depth).position(|name| *name == "**") {
        Some(at) => Some(names[at + 1..].join("/")).filter(|rest| !rest.is_empty()),
        None if names.first().copied() != item.iter().next().and_then(OsStr::to_str) => None,
        None if names.len() <= depth => None,
        None => Some(format!("/{}", names[depth..].join("/"))),
    }
}

async fn copy_there(work: &Work, remote: &Remote, filters: &[String], from: &Path, to: &Path) -> Result<()> {
    let mut argv = ["rsync", "-aHAX", "--numeric-ids", "--ignore-existing", "--prune-empty-dirs"]
        .map(OsString::from)
        .to_vec();
    for filter in filters {
        argv.push(format!("--include={filter}").into());
        argv.push(format!("--include={filter}/**").into());
    }
    argv.extend(["--include=*/", "--exclude=*", "--"].map(OsString::from));
    for dir in [from, to] {
        let mut dir = dir.as_os_str().to_owned();
        dir.push("/");
        argv.push(dir);
    }
    let mut program = Program::new(over_ssh(remote, sudo(remote, None, argv)));
    program.limits =
        Limits { stall: Some(work.request.instance.stall_timeout), work_counts: true, ..Limits::NONE };
    let ended = process::run(program, work.live.cancelled(), |_, _| Sign::Life).await?;
    let carrying = || format!("copying what the backup left out of {} on {}", from.display(), remote.login());
    let judged = judge(remote, &ended).map_err(|failure| far::sudo_lacks(failure.into(), "rsync -aHAX"));
    judged.with_context(carrying)?;
    ensure!(ended.ok(), "{}: {}", carrying(), ended.stderr_tail.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_out_is_found_below_what_comes() {
        let of = |pattern: &str| inside(pattern, Path::new("files/srv/app"));
        assert_eq!(of("*.tmp").as_deref(), Some("*.tmp"));
        assert_eq!(of("/files/srv/app/cache/*").as_deref(), Some("/cache/*"));
        assert_eq!(of("/files/**/logs").as_deref(), Some("logs"));
        for none in ["/files/srv/app", "/files/srv", "!*.tmp", "/local/etc/x/y"] {
            assert_eq!(of(none), None, "{none}");
        }
        let of = |pattern: &str| inside(pattern, Path::new("volumes/data/app"));
        assert_eq!(of("/volumes/data/app/cache").as_deref(), Some("/cache"));
        assert_eq!(of("/files/data/app/cache"), None);
    }
}
