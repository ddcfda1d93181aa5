//! Streamed dumps in a restore: found by their tags, fetched each from the snapshot of its own to where it would lie had
//! it been staged. From then on there is no difference.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Work, dumps};
use crate::dump::{self, Record, Stream};
use crate::job::repository;
use crate::job::sets::tag;
use crate::restic::{Access, Restic, Snapshot, Terms, same_snapshot};
use crate::state::durable;
use crate::target::Manifest;

/// A streamed dump of a set, for whoever looks into the set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Streamed {
    /// Where it would lie in the tree.
    pub file: String,
    /// The snapshot that it is in.
    pub snapshot: String,
    /// Its name there.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
}

/// The streams of a set, of a manifest that was read with `read_manifest`.
///
/// # Errors
/// The manifest makes no sense, or one of them is not there any more.
pub fn streamed(manifest: &Manifest) -> Result<Vec<Streamed>> {
    let records = dumps::records(manifest)?.into_iter().filter(|record| record.stream.is_some());
    let streamed = records.map(|record| {
        dump::check_name(&record)?;
        if let Some(why) = lost(&record) {
            bail!(why);
        }
        let name = record.name().to_owned();
        let Record { file, size, sha256, stream, .. } = record;
        let snapshot = stream.map(|stream| stream.snapshot).unwrap_or_default();
        Ok(Streamed { file, snapshot, name, size, sha256 })
    });
    streamed.collect()
}

/// Leaves of the manifest's dumps those that lie in this repository, each once. A manifest names the streams of all
/// repositories that the set went into; where its snapshots were copied to, they have other ids but the same tags.
pub(super) async fn settle(
    restic: &Restic,
    access: &Access,
    manifest: &mut Manifest,
    terms: &Terms,
) -> Result<()> {
    let records = dumps::records(manifest)?;
    if records.iter().all(|record| record.stream.is_none()) {
        return Ok(());
    }
    let (set, uuid) = (format!("set={}", manifest.set), format!("uuid={}", manifest.uuid));
    let streams = restic.snapshots(access, &["holdfast", "kind=stream", &set, &uuid], terms).await?;
    let settled = here(records, &streams.list);
    let value = |record| serde_json::to_value(record).context("describing a dump");
    manifest.dumps = settled.iter().map(value).collect::<Result<_>>()?;
    Ok(())
}

/// One record of each file; of a streamed one that of a stream that is there.
fn here(records: Vec<Record>, streams: &[Snapshot]) -> Vec<Record> {
    let mut all: Vec<Record> = Vec::new();
    for mut record in records {
        let known = all.iter().position(|known| known.file == record.file);
        if let Some(stream) = &mut record.stream {
            let found = found(&record.file, stream, streams);
            stream.snapshot = found.map(|snapshot| snapshot.id.clone()).unwrap_or_default();
        }
        match known {
            None => all.push(record),
            Some(at) if lost(&all[at]).is_some() => all[at] = record,
            Some(_) => {}
        }
    }
    all
}

/// Why it cannot be had, if so.
pub(super) fn lost(record: &Record) -> Option<String> {
    record.stream.as_ref().filter(|stream| stream.snapshot.is_empty()).map(|_| {
        format!(
            "the stream of {} is not in the repository any more; restore what else is wanted with include, or another set",
            record.file
        )
    })
}

/// The stream that the manifest means: by its id, else the newest with its tags.
fn found<'s>(file: &str, stream: &Stream, streams: &'s [Snapshot]) -> Option<&'s Snapshot> {
    let fits = |snapshot: &&Snapshot| {
        tag(snapshot, "file") == Some(file) && tag(snapshot, "repository") == Some(&stream.repository)
    };
    let named = streams.iter().filter(fits).find(|s| same_snapshot(&s.id, &stream.snapshot));
    named.or_else(|| streams.iter().rfind(fits))
}

/// Fetches the streams that are wanted into `staging`, where the tree lies already.
pub(super) async fn fetch(work: &Work, staging: &Path, manifest: &Manifest) -> Result<()> {
    let (request, live) = (&work.request, &work.live);
    for record in dumps::selected(request, manifest)? {
        let Some(stream) = &record.stream else { continue };
        if let Some(why) = lost(&record) {
            bail!("{why}; nothing was touched");
        }
        let wait = |reason| live.waits(&request.instance.name, reason);
        let _permit = work.context.queue.permit(&live.caller(), wait).await?;
        let (dir, place) = (staging.to_owned(), record.clone());
        let file = tokio::task::spawn_blocking(move || new_file(&dir, &place)).await??;
        let terms = live.terms(request.instance.stall_timeout);
        let opened = &request.opened;
        let fetched = work.restic.dump_into(&opened.access, &stream.snapshot, record.name(), file, &terms);
        let fetched = repository::healed(&work.restic, opened, fetched.await).await;
        fetched.with_context(|| format!("fetching {} from snapshot {}", record.file, stream.snapshot))?;
    }
    Ok(())
}

/// Makes the file that a stream is to be written to; no link that a snapshot holds leads it elsewhere.
fn new_file(staging: &Path, record: &Record) -> Result<File> {
    dump::check_name(record)?;
    let path = record.path(staging);
    for dir in [staging.join("dumps"), staging.join("dumps").join(&record.dump)] {
        match std::fs::symlink_metadata(&dir) {
            Ok(meta) => ensure!(meta.is_dir(), "the snapshot has something else at {}", dir.display()),
            Err(_) => durable::create_dir(&dir, 0o700)?,
        }
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    file.with_context(|| format!("creating {}", path.display()))
}

/// What of a set lies in streams: paths of the tree with their sizes, and the directories above them.
pub(super) fn contents(manifest: &Manifest) -> Result<Vec<(PathBuf, Option<u64>)>> {
    let mut all = Vec::new();
    for record in dumps::records(manifest)?.into_iter().filter(|record| record.stream.is_some()) {
        let path = PathBuf::from(&record.file);
        all.extend(
            path.ancestors().skip(1).filter(|dir| *dir != Path::new("")).map(|dir| (dir.into(), None)),
        );
        all.push((path, Some(record.size)));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(file: &str, repository: &str, snapshot: &str, sha256: &str) -> Record {
        let value = serde_json::json!({
            "dump": "pg", "source": "postgresql", "file": file, "size": 1, "sha256": sha256,
            "stream": {"repository": repository, "snapshot": snapshot},
        });
        serde_json::from_value(value).unwrap()
    }

    fn snapshot(id: &str, file: &str, repository: &str, time: &str) -> Snapshot {
        let tags = [format!("file={file}"), format!("repository={repository}")];
        serde_json::from_value(serde_json::json!({ "id": id, "time": time, "tags": tags, "tree": "t" }))
            .unwrap()
    }

    #[test]
    fn each_repository_has_a_stream_of_its_own_and_a_copy_keeps_what_it_was() {
        let file = "dumps/pg/shop.dump";
        let records =
            vec![record(file, "one", "11111111aaaa", "first"), record(file, "two", "22222222bbbb", "second")];
        let time = "2026-01-01T00:00:00Z";
        let second = [
            snapshot("33333333", file, "two", time),
            snapshot("22222222bbbb", file, "two", time),
            snapshot("44444444", "dumps/pg/other.dump", "one", time),
        ];
        let settled = here(records.clone(), &second);
        assert_eq!((settled.len(), &*settled[0].sha256), (1, "second"));
        assert_eq!(settled[0].stream.as_ref().unwrap().snapshot, "22222222bbbb");
        let copied = [snapshot("99999999", file, "one", time)];
        let settled = here(records.clone(), &copied);
        assert_eq!(
            (&*settled[0].sha256, &*settled[0].stream.as_ref().unwrap().snapshot),
            ("first", "99999999")
        );
        let gone = here(records, &[]);
        assert_eq!(gone.len(), 1);
        assert!(lost(&gone[0]).unwrap().contains("is not in the repository any more"), "{gone:?}");
    }
}
