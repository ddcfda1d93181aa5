//! The snapshots of a set: its tree, which commits it, and streams beside it. They are known by their tags.

use std::collections::BTreeSet;

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};

use super::Context;
use super::repository::Opened;
use crate::restic::Snapshot;
use crate::state::SetRecord;

/// How old a stream without a tree must be before it is forgotten: whoever makes it may still be at work.
const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// The value of a tag `NAME=VALUE`.
pub(super) fn tag<'s>(snapshot: &'s Snapshot, name: &str) -> Option<&'s str> {
    snapshot.tags.iter().find_map(|tag| tag.strip_prefix(name)?.strip_prefix('='))
}

/// Whether it is a stream, part of a set or of what was to be one.
pub(super) fn is_stream(snapshot: &Snapshot) -> bool {
    tag(snapshot, "kind") == Some("stream")
}

/// The set that it belongs to.
fn key(snapshot: &Snapshot) -> Option<(&str, &str)> {
    Some((tag(snapshot, "uuid")?, tag(snapshot, "set")?))
}

/// The committed sets among snapshots of one repository.
pub(super) fn committed(opened: &Opened, all: &[Snapshot]) -> Vec<SetRecord> {
    let sets = all.iter().filter(|snapshot| tag(snapshot, "kind") == Some("tree"));
    sets.filter_map(|tree| {
        let mut set = of(opened, tree)?;
        let streams = all.iter().filter(|other| is_stream(other) && key(other) == key(tree));
        for summary in streams.filter_map(|stream| stream.summary.as_ref()) {
            set.size += summary.total_bytes_processed;
            set.files += summary.total_files_processed;
        }
        Some(set)
    })
    .collect()
}

/// A tree as a committed set; none for one that is not ours.
pub(super) fn of(opened: &Opened, tree: &Snapshot) -> Option<SetRecord> {
    let tag = |name: &str| tag(tree, name).map(str::to_owned);
    Some(SetRecord {
        repository: opened.repository.name.to_string(),
        location: opened.location.clone(),
        set: tag("set")?,
        snapshot: tree.id.clone(),
        instance: tag("instance")?,
        uuid: tag("uuid")?,
        backup: tag("backup")?,
        host: tree.hostname.clone(),
        time: tree.time,
        size: tree.summary.as_ref().map_or(0, |s| s.total_bytes_processed),
        files: tree.summary.as_ref().map_or(0, |s| s.total_files_processed),
        version: tag("version").unwrap_or_default(),
        outcome: None,
    })
}

/// The streams that go: those of sets whose trees go, and those that no tree ever committed, once nobody can be at work
/// on them: made by this host, a day ago or more, by none of the jobs that are alive.
pub(super) fn doomed_streams(
    all: &[Snapshot],
    doomed: &[String],
    host: &str,
    alive: &[String],
    now: Timestamp,
) -> Vec<String> {
    let trees = || all.iter().filter(|snapshot| tag(snapshot, "kind") == Some("tree"));
    let stays: BTreeSet<_> = trees().filter(|tree| !doomed.contains(&tree.id)).filter_map(key).collect();
    let goes: BTreeSet<_> = trees().filter(|tree| doomed.contains(&tree.id)).filter_map(key).collect();
    let abandoned = |stream: &Snapshot, set: &str| {
        let old = now.duration_since(stream.time) >= FORGOTTEN_AFTER;
        stream.hostname == host && old && !alive.iter().any(|job| job == set)
    };
    let streams = all.iter().filter(|snapshot| is_stream(snapshot));
    let going = streams.filter(|stream| {
        let Some(key) = key(stream) else { return false };
        !stays.contains(&key) && (goes.contains(&key) || abandoned(stream, key.1))
    });
    going.map(|stream| stream.id.clone()).collect()
}

fn note(repository: &str, location: &str) -> String {
    format!("streams/{repository}/{location}")
}

/// Remembers that streams lie, or may lie, there: only then does retention ask for them.
pub(super) async fn note_streams(context: &Context, repository: &str, location: &str) -> Result<()> {
    if has_streams(context, repository, location).await? {
        return Ok(());
    }
    context.database.set_meta(&note(repository, location), "1").await
}

/// Whether streams may lie there.
pub(super) async fn has_streams(context: &Context, repository: &str, location: &str) -> Result<bool> {
    Ok(context.database.meta(&note(repository, location)).await?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-05-10T12:00:00Z";

    fn snapshot(id: &str, kind: &str, set: &str, host: &str, time: &str) -> Snapshot {
        let tags = ["holdfast".into(), format!("kind={kind}"), format!("set={set}"), "uuid=u".into()];
        serde_json::from_value(serde_json::json!({
            "id": id, "time": time, "hostname": host, "tags": tags, "paths": [], "tree": "t",
        }))
        .unwrap()
    }

    fn doomed(all: &[Snapshot], trees: &[&str], alive: &[&str]) -> Vec<String> {
        let strings = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        doomed_streams(all, &strings(trees), "here", &strings(alive), NOW.parse().unwrap())
    }

    #[test]
    fn streams_go_with_their_tree_and_not_before() {
        let (old, new) = ("2026-05-01T00:00:00Z", "2026-05-09T00:00:00Z");
        let all = [
            snapshot("s1", "stream", "j1", "here", old),
            snapshot("t1", "tree", "j1", "here", old),
            snapshot("s2", "stream", "j2", "here", new),
            snapshot("s3", "stream", "j2", "here", new),
            snapshot("t2", "tree", "j2", "here", new),
        ];
        assert_eq!(doomed(&all, &[], &[]), [""; 0]);
        assert_eq!(doomed(&all, &["t1"], &[]), ["s1"]);
        assert_eq!(doomed(&all, &["t1", "t2"], &[]), ["s1", "s2", "s3"]);
    }

    #[test]
    fn streams_that_nothing_committed_go_after_a_day_if_they_are_ours_and_nobody_is_at_work_on_them() {
        let all = [
            snapshot("young", "stream", "j1", "here", "2026-05-09T12:00:01Z"),
            snapshot("old", "stream", "j2", "here", "2026-05-09T12:00:00Z"),
            snapshot("theirs", "stream", "j3", "there", "2026-05-01T00:00:00Z"),
            snapshot("busy", "stream", "j4", "here", "2026-05-01T00:00:00Z"),
            snapshot("future", "stream", "j5", "here", "2026-06-01T00:00:00Z"),
        ];
        assert_eq!(doomed(&all, &[], &["j4"]), ["old"]);
    }
}
