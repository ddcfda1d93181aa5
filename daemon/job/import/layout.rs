//! What an unpacked archive is, by its content and its name, and where its parts belong in a tree.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::fs::{Mode, OFlags};

use super::names;
use crate::target::{Cover, MANIFEST, Manifest};

/// The largest manifest, and other text, that is read.
const TEXT: u64 = 64 << 20;

/// What an archive is.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// Who made it, in a word.
    pub(super) kind: &'static str,
    /// What belongs where.
    pub(super) moves: Vec<Move>,
    /// Dumps of databases.
    pub(super) dumps: Vec<Dumped>,
    /// What is of the tool and no data.
    pub(super) dropped: Vec<PathBuf>,
    /// Of our own exports.
    pub(super) manifest: Option<Manifest>,
    pub(super) time: Option<Timestamp>,
    pub(super) version: Option<String>,
}

/// A part of the archive and its place in the tree.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) from: PathBuf,
    pub(super) to: PathBuf,
    /// Whom all of it belongs to, where the tool lost that.
    pub(super) owner: Option<u32>,
}

/// A dump of a database in the archive.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dumped {
    pub(super) from: PathBuf,
    /// What it was dumped from.
    pub(super) service: String,
    pub(super) form: Form,
    /// Its name, where the dump is of one database.
    pub(super) database: Option<String>,
}

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// An archive of `pg_dump -Fc`.
    PgArchive,
    /// SQL of pg_dump or pg_dumpall.
    PgSql,
    /// SQL of mariadb-dump.
    MariaSql,
}

/// Looks at what was unpacked into `raw`; `name` is what the archive is called.
pub(super) fn of(raw: &Path, name: &str, cover: &Cover, zone: &TimeZone) -> Result<Layout> {
    let top = children(raw)?;
    let has = |name: &str| top.iter().any(|child| child == Path::new(name));
    if has(MANIFEST)
        && let Some(layout) = export(raw, &top)?
    {
        return Ok(layout);
    }
    if has("config") && (has("db") || has("volumes")) && (has("version.json") || names::hoss(name).is_some())
    {
        return hoss(raw, name, cover);
    }
    if has("vcap") && (has("dbs") || has("_date.control")) {
        return microbosh(raw, zone);
    }
    match is_sidecar(raw, &top)? {
        true => sidecar(raw, &top, name, cover),
        false => Ok(Layout { kind: "tar", moves: plain(&top), ..Layout::default() }),
    }
}

/// One of our own exports, if the file of that name is a manifest and all else is a tree.
fn export(raw: &Path, top: &[PathBuf]) -> Result<Option<Layout>> {
    let is_tree = |child: &PathBuf| {
        ["state", "volumes", "files", "dumps", MANIFEST].iter().any(|n| child == Path::new(n))
    };
    if !top.iter().all(is_tree) {
        return Ok(None);
    }
    let manifest = Manifest::from_json(&text(&raw.join(MANIFEST))?)?;
    let moves = top.iter().filter(|child| *child != Path::new(MANIFEST));
    let moves = moves.map(|child| Move { from: child.clone(), to: child.clone(), owner: None }).collect();
    let (time, version) = (Some(manifest.time), manifest.version.clone());
    let dropped = vec![MANIFEST.into()];
    Ok(Some(Layout {
        kind: "export",
        moves,
        dropped,
        manifest: Some(manifest),
        time,
        version,
        ..Layout::default()
    }))
}

/// As if it had been packed at `/`.
fn plain(top: &[PathBuf]) -> Vec<Move> {
    top.iter()
        .map(|child| Move { from: child.clone(), to: Path::new("files").join(child), owner: None })
        .collect()
}

/// Of the compose sidecar: `SERVICE/{database,mariadb_dump,volumes}` and nothing else.
fn is_sidecar(raw: &Path, top: &[PathBuf]) -> Result<bool> {
    let mut some = false;
    for service in top {
        if !is_dir(&raw.join(service)) {
            return Ok(false);
        }
        for child in children(&raw.join(service))? {
            if !["database", "mariadb_dump", "volumes"].iter().any(|name| child == Path::new(name)) {
                return Ok(false);
            }
            some = true;
        }
    }
    Ok(some)
}

fn sidecar(raw: &Path, top: &[PathBuf], name: &str, cover: &Cover) -> Result<Layout> {
    let told = names::sidecar(name).unwrap_or_default();
    let mut layout = Layout { kind: "compose", time: told.time, ..Layout::default() };
    for service in top {
        for (dir, file, form) in
            [("database", "pg_dumpall", Form::PgSql), ("mariadb_dump", "all_databases", Form::MariaSql)]
        {
            let dir = service.join(dir);
            if is_dir(&raw.join(&dir)) {
                layout.dumps.push(sidecar_dump(raw, service, &dir, file, form)?);
                layout.dropped.push(dir);
            }
        }
        let volumes = service.join("volumes");
        if is_dir(&raw.join(&volumes)) {
            for name in children(&raw.join(&volumes))? {
                let compose = told.project.as_ref().map(|project| format!("{project}_{}", name.display()));
                let to = volume(cover, [Some(name.display().to_string()), compose]);
                layout.moves.push(Move { from: volumes.join(name), to, owner: None });
            }
        }
        layout.dropped.push(service.clone());
    }
    Ok(layout)
}

/// That tool uploads an archive although a dump failed: what it wrote beside the dump tells.
fn sidecar_dump(raw: &Path, service: &Path, dir: &Path, file: &str, form: Form) -> Result<Dumped> {
    let from = dir.join(format!("{file}.sql"));
    for child in children(&raw.join(dir))? {
        ensure!(
            child.extension().is_none_or(|ending| ending != "errors"),
            "the dump of {} failed when the archive was made ({} is in it); leave it out with --exclude {}",
            service.display(),
            child.display(),
            dir.display()
        );
    }
    let is = fs::symlink_metadata(raw.join(&from)).is_ok_and(|meta| meta.is_file());
    ensure!(
        is,
        "{} is not in the archive; leave the dump out with --exclude {}",
        from.display(),
        dir.display()
    );
    Ok(Dumped { from, service: service.display().to_string(), form, database: None })
}

/// The first volume of these that an include holds, or the first.
fn volume(cover: &Cover, names: [Option<String>; 2]) -> PathBuf {
    let paths: Vec<PathBuf> =
        names.into_iter().flatten().map(|name| Path::new("volumes").join(name)).collect();
    let held = paths.iter().find(|path| cover.holds(path).is_some() || cover.reaches_below(path));
    held.or(paths.first()).cloned().unwrap_or_default()
}

/// Of Hoss: `config`, `db`, `volumes`, `search`, `version.json`. Owners of volumes are those that its restore gives them.
fn hoss(raw: &Path, name: &str, cover: &Cover) -> Result<Layout> {
    let mut layout = Layout { kind: "hoss", time: names::hoss(name), ..Layout::default() };
    let home = cover.literal().into_iter().find(|path| path.ends_with(".hoss"));
    let home = home.unwrap_or_else(|| "files/config".into());
    layout.moves.push(Move { from: "config".into(), to: home, owner: None });
    for (name, real, owner) in [
        ("auth", "server_auth-secrets", 1001),
        ("ldap-vol0", "server_ldap-vol0", 911),
        ("ldap-vol1", "server_ldap-vol1", 911),
    ] {
        let from = Path::new("volumes").join(name);
        if is_dir(&raw.join(&from)) {
            let to = volume(cover, [Some(real.to_owned()), Some(name.to_owned())]);
            layout.moves.push(Move { from, to, owner: Some(owner) });
        }
    }
    if is_dir(&raw.join("db")) {
        for file in children(&raw.join("db"))? {
            let name = file.to_string_lossy().into_owned();
            let database = name.strip_prefix("postgres-").and_then(|rest| rest.strip_suffix("-backup.dump"));
            let Some(database) = database else { continue };
            layout.dumps.push(Dumped {
                from: Path::new("db").join(&file),
                service: "db".into(),
                form: Form::PgArchive,
                database: Some(database.to_owned()),
            });
        }
    }
    if let Ok(json) = text(&raw.join("version.json")) {
        let said: serde_json::Value = serde_json::from_slice(&json).context("reading version.json")?;
        layout.version = said["version"].as_str().map(str::to_owned);
    }
    layout.dropped = vec!["version.json".into(), "db".into(), "volumes".into()];
    let rest = Path::new("search");
    if raw.join(rest).symlink_metadata().is_ok() {
        layout.moves.push(Move { from: rest.into(), to: "files/search".into(), owner: None });
    }
    Ok(layout)
}

/// Of microBOSH: `vcap`, `dbs`, `_date.control`, logs, and files that were beside the remote ones.
fn microbosh(raw: &Path, zone: &TimeZone) -> Result<Layout> {
    let mut layout = Layout { kind: "microbosh", ..Layout::default() };
    layout.moves.push(Move { from: "vcap".into(), to: "files/var/vcap".into(), owner: None });
    if is_dir(&raw.join("dbs")) {
        for file in children(&raw.join("dbs"))? {
            let name = file.to_string_lossy().into_owned();
            let Some(database) = names::microbosh_dump(&name) else { continue };
            let database = (database != "all").then(|| database.to_owned());
            let (from, service) = (Path::new("dbs").join(&file), "postgres".into());
            layout.dumps.push(Dumped { from, service, form: Form::PgSql, database });
        }
        layout.dropped.push("dbs".into());
    }
    if let Ok(control) = text(&raw.join("_date.control")) {
        layout.time = names::control_date(&String::from_utf8_lossy(&control), zone);
    }
    for child in children(raw)? {
        if child == Path::new("_date.control") || child.extension().is_some_and(|ending| ending == "log") {
            layout.dropped.push(child);
        } else if child != Path::new("vcap") && child != Path::new("dbs") {
            layout.moves.extend(plain(std::slice::from_ref(&child)));
        }
    }
    Ok(layout)
}

pub(super) fn is_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

/// The names in a directory, in order.
pub(super) fn children(dir: &Path) -> Result<Vec<PathBuf>> {
    let reading = || format!("reading {}", dir.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(reading)? {
        names.push(PathBuf::from(entry.with_context(reading)?.file_name()));
    }
    names.sort();
    Ok(names)
}

/// A file of the archive, through no link.
fn text(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let name = path.file_name().unwrap_or_default().display();
    let file = rustix::fs::open(path, flags, Mode::empty()).with_context(|| format!("opening {name}"))?;
    let file = fs::File::from(file);
    ensure!(file.metadata()?.is_file(), "{name} is no file");
    let mut text = Vec::new();
    file.take(TEXT + 1).read_to_end(&mut text)?;
    ensure!(text.len() as u64 <= TEXT, "{name} is larger than {TEXT} bytes");
    Ok(text)
}
