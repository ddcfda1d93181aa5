//! An unpacked archive becomes a tree with its manifest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;

use super::arrange::{Arranged, Placed, Yard, leave_out};
use super::layout::{self, Form, Layout};
use super::{IMPORTED, Part, Wishes, Work, cover};
use crate::archive::Unpacked;
use crate::dump::{self, Record};
use crate::target::{FORMAT, MANIFEST, Manifest, Root, Staging, Tree, TreePath, left_out};

/// A tree that restic can read, and what is known of it.
pub(super) struct Composed {
    pub(super) tree: Tree,
    pub(super) time: Timestamp,
    pub(super) version: String,
    pub(super) notes: Vec<String>,
    /// Of the archive; none: it is a directory.
    pub(super) sha256: Option<String>,
    /// The time that somebody told: the caller, or the archive.
    pub(super) told: Option<Timestamp>,
}

pub(super) async fn compose(work: &Work, staging: &Staging, unpacked: Unpacked) -> Result<Composed> {
    let (raw, tree) = (staging.beside("raw"), staging.tree());
    let (name, wishes) = (work.request.name.clone(), work.request.wishes.clone());
    let (instance, cover) = (work.request.instance.clone(), cover(work)?);
    let zone = work.request.definitions.daemon.timezone.clone();
    let mut notes: Vec<String> = unpacked.left_out.iter().map(|what| format!("left out: {what}")).collect();
    let sha256 = Some(unpacked.sha256);
    let arranging = tokio::task::spawn_blocking(move || {
        leave_out(&raw, &wishes.exclude)?;
        let layout = layout::of(&raw, &name, &cover, &zone)?;
        let wishes = Wishes { map: in_archive(&layout, wishes.map.clone()), ..wishes };
        let yard = Yard { raw: &raw, tree: &tree, cover: &cover, implied: unpacked.implied };
        let mut arranged = yard.arrange(&layout, &wishes, &instance)?;
        if let Some(manifest) = &layout.manifest {
            as_exported(&mut arranged, manifest, &wishes, &cover)?;
        }
        anyhow::Ok((layout, arranged))
    });
    let (layout, arranged) = arranging.await??;
    let records = records(work, &staging.tree(), &layout, &arranged, &mut notes).await?;
    let told = work.request.wishes.time.or(layout.time);
    let time = time(work, layout.time, &mut notes)?;
    let version = work.request.wishes.version.clone().or(layout.version).unwrap_or_default();
    let from = format!("{} ({})", work.request.name, layout.kind);
    let said = Said { time, version: version.clone(), from, records };
    let manifest = manifest(work, &arranged, layout.manifest, said)?;
    let targets = targets(&staging.tree(), &arranged.includes);
    ensure!(
        !targets.is_empty() || !manifest.dumps.is_empty() || !arranged.roots.is_empty(),
        "the archive holds nothing"
    );
    let tree = commit(staging.tree(), targets, manifest).await?;
    Ok(Composed { tree, time, version, notes, sha256, told })
}

/// An export names absolute paths as its tree does; other archives begin at `/`.
fn in_archive(layout: &Layout, map: Vec<(Part, PathBuf)>) -> Vec<(Part, PathBuf)> {
    let below = |part: Part| match (part.0.strip_prefix("/"), layout.kind) {
        (Ok(below), "export") => Part(Path::new("files").join(below)),
        (Ok(below), _) => Part(below.to_owned()),
        (Err(_), _) => part,
    };
    map.into_iter().map(|(from, to)| (below(from), to)).collect()
}

/// What one of our own exports says of itself counts, where `map` does not say otherwise.
fn as_exported(
    arranged: &mut Arranged,
    manifest: &Manifest,
    wishes: &Wishes,
    cover: &crate::target::Cover,
) -> Result<()> {
    let includes: Vec<TreePath> =
        manifest.includes.iter().map(|path| TreePath(moved(wishes, &path.0))).collect();
    for include in &includes {
        ensure!(
            cover.holds(&include.0).is_some(),
            "the export holds {}, and no include of the instance does; add it to the instance's `include`, or say where it \
             belongs with --map",
            include.0.display()
        );
    }
    let said = manifest
        .roots
        .iter()
        .map(|root| Root { path: TreePath(moved(wishes, &root.path.0)), ..root.clone() });
    let said: Vec<Root> = said.collect();
    arranged.roots.retain(|root| said.iter().all(|other| other.path != root.path));
    arranged.roots.extend(said);
    arranged.roots.sort_by(|a, b| a.path.cmp(&b.path));
    arranged.includes = includes;
    Ok(())
}

/// Where a path of an export's tree lies now.
fn moved(wishes: &Wishes, path: &Path) -> PathBuf {
    let fitting = wishes.map.iter().filter(|(from, _)| path.starts_with(&from.0));
    let Some((from, to)) = fitting.max_by_key(|(from, _)| from.0.components().count()) else {
        return path.to_owned();
    };
    let rest = path.strip_prefix(&from.0).unwrap_or(Path::new(""));
    if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) }
}

/// The dumps in it: those of an export compared with its manifest, others judged by their ends.
async fn records(
    work: &Work,
    tree: &Path,
    layout: &Layout,
    arranged: &Arranged,
    notes: &mut Vec<String>,
) -> Result<Vec<serde_json::Value>> {
    let mut records: Vec<Record> = Vec::new();
    if let Some(manifest) = &layout.manifest {
        for value in &manifest.dumps {
            records.push(serde_json::from_value(value.clone()).context("the manifest's list of dumps")?);
        }
        records = lying(tree, records).await?;
        dump::check(tree, &records).await?;
        relocate(&mut records, &work.request.wishes);
        undefined(work, &records, notes);
    }
    for placed in &arranged.dumps {
        records.extend(judged(tree, placed, notes).await?);
    }
    records.iter().map(|record| serde_json::to_value(record).context("describing a dump")).collect()
}

/// What was streamed lies in the archive as if it had been staged. Each repository had a stream of its own: the one that
/// was exported is meant.
async fn lying(tree: &Path, records: Vec<Record>) -> Result<Vec<Record>> {
    let mut found: Vec<Record> = Vec::new();
    for (number, record) in records.iter().enumerate() {
        if record.stream.is_some() {
            let known = found.iter().any(|other| other.file == record.file);
            let last = !records[number + 1..].iter().any(|other| other.file == record.file);
            let fits = !known && dump::check(tree, std::slice::from_ref(record)).await.is_ok();
            if known || !(fits || last) {
                continue;
            }
        }
        found.push(Record { stream: None, ..record.clone() });
    }
    Ok(found)
}

/// A dump of SQLite is known by its file's path in the tree.
fn relocate(records: &mut [Record], wishes: &Wishes) {
    for record in records.iter_mut().filter(|record| record.source == "sqlite") {
        if let Some(path) = &mut record.database {
            *path = moved(wishes, Path::new(path.as_str())).to_string_lossy().into_owned();
        }
    }
}

fn undefined(work: &Work, records: &[Record], notes: &mut Vec<String>) {
    let mut names: Vec<&str> = records.iter().map(|record| record.dump.as_str()).collect();
    names.dedup();
    let defined = |name: &str| work.request.instance.dumps.iter().any(|dump| *dump.name == *name);
    for name in names.into_iter().filter(|name| !defined(name)) {
        notes.push(format!(
            "the instance defines no dump {name}: define it before this set is restored in place"
        ));
    }
}

async fn judged(tree: &Path, placed: &Placed, notes: &mut Vec<String>) -> Result<Option<Record>> {
    let (path, shown) = (tree.join(&placed.path), placed.path.display().to_string());
    let whole = match placed.form {
        Form::PgArchive => dump::check_pg_archive(&path).await,
        Form::PgSql => dump::check_sql(&path, false).await,
        Form::MariaSql => dump::check_sql(&path, true).await,
    };
    whole.with_context(|| format!("{shown} is no whole dump; leave it out with --exclude"))?;
    match &placed.dump {
        Some(dump) => Ok(Some(dump::foreign(dump, &path, placed.database.clone()).await?)),
        None => {
            let how = match placed.form {
                Form::PgArchive | Form::PgSql => "source = \"postgresql\"",
                Form::MariaSql => "source = \"mariadb\"",
            };
            notes.push(format!(
                "{shown} is kept as a file, for no dump of the instance can load it: define one ({how}) and import it \
                 again, or restore the file with --target"
            ));
            Ok(None)
        }
    }
}

/// When the data was saved: as the caller says, as the archive says, as its file says.
pub(super) fn time(work: &Work, said: Option<Timestamp>, notes: &mut Vec<String>) -> Result<Timestamp> {
    let stat = rustix::fs::fstat(&work.request.data)?;
    let is_file = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
    let of_file = is_file.then(|| Timestamp::from_second(stat.st_mtime).ok()).flatten();
    let now = Timestamp::now();
    let time = work.request.wishes.time.or(said).or(of_file).unwrap_or(now);
    // restic keeps whole seconds, and a set of the future would be the latest for ever.
    let whole = |time: Timestamp| Timestamp::from_second(time.as_second()).context("a time that is none");
    if time > now {
        notes.push(format!(
            "it claims to be of {time}, which is to come: now is taken; --time says another one"
        ));
        return whole(now);
    }
    whole(time)
}

/// What a manifest says besides the tree.
pub(super) struct Said {
    pub(super) time: Timestamp,
    pub(super) version: String,
    pub(super) from: String,
    pub(super) records: Vec<serde_json::Value>,
}

pub(super) fn manifest(
    work: &Work,
    arranged: &Arranged,
    exported: Option<Manifest>,
    said: Said,
) -> Result<Manifest> {
    let (request, place) = (&work.request, &work.place);
    // An archive's numbers have the names that its own manifest says, else none: then owners stay numbers.
    let (excludes, missing, users, groups) = match exported {
        Some(manifest) => (manifest.excludes, manifest.missing, manifest.users, manifest.groups),
        None => (left_out(place)?, Vec::new(), BTreeMap::new(), BTreeMap::new()),
    };
    Ok(Manifest {
        format: FORMAT,
        holdfast: env!("CARGO_PKG_VERSION").to_owned(),
        set: work.live.id().to_owned(),
        time: said.time,
        host: request.definitions.daemon.host.clone(),
        backup: IMPORTED.to_owned(),
        instance: request.instance.name.to_string(),
        module: request.instance.module.as_ref().map(ToString::to_string),
        uuid: request.uuid.to_string(),
        user: place.account.name.clone(),
        version: Some(said.version).filter(|version| !version.is_empty()),
        includes: arranged.includes.clone(),
        excludes,
        roots: arranged.roots.clone(),
        missing,
        definition: Some((*request.instance.written).clone()),
        dumps: said.records,
        users,
        groups,
        imported: Some(said.from),
    })
}

/// What restic is named: what is there of the includes.
fn targets(tree: &Path, includes: &[TreePath]) -> Vec<PathBuf> {
    let there = |path: &&TreePath| tree.join(&path.0).symlink_metadata().is_ok();
    includes.iter().filter(there).map(|path| path.0.clone()).collect()
}

/// The tree with its manifest, which commits it.
pub(super) async fn commit(dir: PathBuf, targets: Vec<PathBuf>, manifest: Manifest) -> Result<Tree> {
    let mut tree = Tree {
        dir,
        targets,
        exclude_text: Vec::new(),
        includes: manifest.includes.clone(),
        excludes: manifest.excludes.clone(),
        missing: Vec::new(),
        unmatched: Vec::new(),
        roots: manifest.roots.clone(),
        warnings: Vec::new(),
    };
    tokio::task::spawn_blocking(move || {
        debug_assert!(
            tree.dir.join(MANIFEST).symlink_metadata().is_err(),
            "an export's own manifest is gone"
        );
        tree.commit(&manifest)?;
        Ok(tree)
    })
    .await?
}
