//! What a restore would do, as JSON. Reads the repository and looks at live data; touches nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::apply::Spot;
use super::survey::{self, Survey};
use super::{Request, anew, carry, choose, dumps, edited, far, fetch, held, rights, room, streams};
use crate::definition::{Instance, VersionMatch, VolumePlace, Volumes};
use crate::job::{Context, services, version};
use crate::queue::Caller;
use crate::restic::{Restic, Terms};
use crate::target::{Manifest, Place, Purpose, spelled};

/// How many names are listed; the others are counted.
const LISTED: usize = 1_000;

/// What the snapshot holds: paths with their sizes; none for directories.
#[derive(Default)]
struct Contents {
    sizes: BTreeMap<PathBuf, Option<u64>>,
    set_ids: Vec<PathBuf>,
    devices: Vec<PathBuf>,
}

/// The bits of set-user-id and set-group-id in what restic lists (Go's `FileMode`).
const SET_ID: u32 = 0b11 << 22;

/// Says what a restore would do.
///
/// # Errors
/// The repository cannot be read, or the instance is not as its definition says. What would make the restore refuse is
/// no error: it stands in `problems`.
pub async fn plan(context: Context, request: Arc<Request>) -> Result<Value> {
    let never = CancellationToken::new();
    let (mut manifest, contents) = read(&context, &request, &never).await?;
    let mut plan = head(&request);
    if let Some(target) = &request.target {
        plan["target"] = json!(target.to_string_lossy());
        let problem = fetch::check_target(target).err().map(|failure| format!("{failure:#}"));
        plan["problems"] = json!(problem.into_iter().collect::<Vec<_>>());
        plan["space"] = space(&request, target.parent().unwrap_or(Path::new("/")));
        return Ok(plan);
    }
    let volumes: Vec<String> = manifest.roots.iter().filter_map(|root| root.volume()).collect();
    let tools = context.dirs.tools();
    let purpose = if request.founding.is_some() { Purpose::Found } else { Purpose::Restore };
    let instance = without_user(&request, &volumes);
    let place = Place::resolve(&instance, purpose, &tools, &volumes, &never).await?;
    let (version, problem) = versions(&request, &place, &never).await;
    plan["version"] = version;
    plan["steps"] =
        json!(place.steps(&never).await?.steps.iter().map(|step| step.name.clone()).collect::<Vec<_>>());
    let mut problems: Vec<String> = problem.into_iter().collect();
    let given = Arc::clone(&request);
    let judged = tokio::task::spawn_blocking(move || (edited::planned(&given, &mut manifest), manifest));
    let (refused, manifest) = judged.await?;
    problems.extend(refused);
    if request.stop {
        match services::would_stop(&request.instance, &never).await {
            Ok(names) => {
                plan["start"] = if request.start { json!(names) } else { json!([]) };
                plan["stop"] = json!(names);
            }
            Err(failure) => problems.push(format!("{failure:#}")),
        }
    }
    problems.extend(far::problems(&request, &place, &manifest, &never).await?);
    problems.extend(dumps::plan::servers(&context, &request, &place, &manifest).await?);
    let looked =
        tokio::task::spawn_blocking(move || in_place(&context, &request, &place, &manifest, &contents, plan));
    let mut plan = looked.await??;
    if let Some(all) = plan["problems"].as_array_mut() {
        all.extend(problems.into_iter().map(Value::from));
    }
    Ok(plan)
}

/// The instance as it can be looked at while its user is still to be made: nothing is that user's yet.
fn without_user(request: &Request, volumes: &[String]) -> Arc<Instance> {
    let mut instance = Arc::clone(&request.instance);
    if request.new_user.is_some() {
        let changed = Arc::make_mut(&mut instance);
        changed.user = None;
        if changed.volumes == Volumes::Podman {
            let nowhere =
                |name: &String| (name.clone(), VolumePlace::Directory(Path::new("/nonexistent").join(name)));
            changed.volumes = Volumes::Table(volumes.iter().map(nowhere).collect());
        }
    }
    instance
}

async fn read(
    context: &Context,
    request: &Request,
    never: &CancellationToken,
) -> Result<(Manifest, Contents)> {
    let (opened, snapshot) = (&request.opened, &request.set.snapshot);
    let terms = Terms { stall: Some(request.instance.stall_timeout), ..Terms::new(never) };
    let manifest = choose::manifest(context, &request.definitions, opened, snapshot, &terms).await?;
    let caller = Caller { label: format!("plan of {}", request.instance.name), cancel: never.clone() };
    let _share = context.queue.share(&opened.key, &opened.repository.name, &caller, |_| ()).await?;
    let _permit = context.queue.permit(&caller, |_| ()).await?;
    let restic = Restic::probe(&request.definitions.daemon.restic).await?;
    let mut contents = Contents::default();
    let note = |entry: crate::restic::Entry| {
        let path = PathBuf::from(entry.path.trim_start_matches('/'));
        match &*entry.kind {
            "file" if entry.mode & SET_ID != 0 => contents.set_ids.push(path.clone()),
            "dev" | "chardev" => contents.devices.push(path.clone()),
            _ => {}
        }
        contents.sizes.insert(path, (entry.kind != "dir").then_some(entry.size));
    };
    restic.ls(&opened.access, snapshot, &terms, note).await.context("listing the snapshot")?;
    contents.sizes.extend(streams::contents(&manifest)?);
    Ok((manifest, contents))
}

fn head(request: &Request) -> Value {
    let set = &request.set;
    json!({
        "instance": request.instance.name.as_str(),
        "repository": set.repository,
        "snapshot": set.snapshot,
        "set": set.set,
        "time": set.time.as_microsecond(),
        "host": set.host,
        "backup": set.backup,
        "target": "",
        "define": request.founding.as_ref().map(|founding| shown(&founding.file)).unwrap_or_default(),
        "stop": [],
        "start": [],
        "steps": [],
        "create": [],
        "replace": [],
        "delete": [],
        "delete_count": 0,
        "carry_over": [],
        "create_volumes": [],
        "fill_volumes": [],
        "create_user": request.new_user.as_ref().map(|new| json!({ "name": new.name, "uid": new.uid })),
        "dumps": [],
        "keep_previous_seconds": request.instance.restore.keep_previous.as_secs(),
        "problems": [],
        "warnings": [],
    })
}

/// What is saved, what is here, and why they do not fit.
async fn versions(request: &Request, place: &Place, never: &CancellationToken) -> (Value, Option<String>) {
    let (wanted, saved) = (request.instance.version_match, &request.set.version);
    let present = version::ask(place, never).await;
    let shown = present.as_deref().unwrap_or_default().to_owned();
    let fits = match &present {
        _ if request.force_version || wanted == VersionMatch::Any => Ok(()),
        Ok(present) => version::check(wanted, saved, present),
        Err(failure) => Err(anyhow::anyhow!("{failure:#}")),
    };
    let told = json!({ "saved": saved, "present": shown, "match": wanted.word(), "fits": fits.is_ok() });
    (told, fits.err().map(|failure| format!("{failure:#}")))
}

fn space(request: &Request, place: &Path) -> Value {
    let there = place.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    let free = rustix::fs::statvfs(there).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    let needed = fetch::needed(request);
    json!([{ "place": there.to_string_lossy(), "needed": needed, "free": free, "fits": needed <= free }])
}

fn in_place(
    context: &Context,
    request: &Request,
    place: &Place,
    manifest: &Manifest,
    contents: &Contents,
    mut plan: Value,
) -> Result<Value> {
    let absent: Vec<String> = manifest
        .roots
        .iter()
        .filter_map(|root| root.volume())
        .filter(|name| !place.volumes.contains_key(name) && !place.held.contains_key(name))
        .filter(|name| !place.there.contains_key(name))
        .collect();
    let mut place = place.clone();
    for name in absent.iter().chain(place.held.clone().keys()) {
        // A volume that is to be created holds nothing; any place without anything stands for it here.
        let far = place.instance.remote.is_some();
        let list = if far { &mut place.there } else { &mut place.volumes };
        list.insert(name.clone(), PathBuf::from(far::TO_BE_MADE).join(name));
    }
    let there = |path: &Path| contents.holds(path);
    let children = |root: &Path| Ok(contents.children(root, place.live_path(root).ok()));
    let survey = survey::look(request, &place, manifest, there, children)?;
    let (existing, coming) = split(&survey);
    let mut problems = survey::problems(context, request, &existing);
    if let Some(founding) = &request.founding {
        problems.extend(anew::refused(context, &request.instance.name, founding));
    }
    plan["space"] = match request.founding {
        Some(_) => space(request, &request.definitions.daemon.staging_dir),
        None => room::rows(request, &place, manifest)?,
    };
    if plan["space"].as_array().is_some_and(|rows| rows.iter().any(|row| row["fits"] == json!(false))) {
        problems.push("there is not enough free space; see space".into());
    }
    for item in request.include.iter().filter(|item| !there(item)) {
        problems.push(format!("the snapshot holds no {}", spelled(item)));
    }
    let mut warnings: Vec<String> = survey
        .missing
        .iter()
        .map(|item| format!("{} is not in the snapshot and stays as it is", item.display()))
        .collect();
    warnings.extend(place.warnings.iter().cloned());
    warnings.extend(rights_left(request, contents));
    warnings.extend(request.founding.iter().flat_map(|founding| founding.notes.clone()));
    let (dumped, more) = dumps::plan::rows(request, &place, manifest)?;
    problems.extend(more);
    plan["dumps"] = json!(dumped);
    plan["create_volumes"] = json!(absent);
    plan["fill_volumes"] = json!(held::rows(request, &place));
    let held = |item: &Path| held::of(&place, item);
    changes(&mut plan, request, manifest, contents, &existing, &coming, held)?;
    (plan["problems"], plan["warnings"]) = (json!(problems), json!(warnings));
    Ok(plan)
}

/// What has a root already, and what comes with a root that is made.
fn split(survey: &Survey) -> (Survey, Vec<(PathBuf, Spot)>) {
    let (existing, coming) = survey.items.iter().cloned().partition(|(_, spot)| spot.root().is_dir());
    let far = survey.far.clone();
    let removed = survey.removed.clone();
    (Survey { items: existing, removed, far, ..Survey::default() }, coming)
}

fn changes(
    plan: &mut Value,
    request: &Request,
    manifest: &Manifest,
    contents: &Contents,
    existing: &Survey,
    coming: &[(PathBuf, Spot)],
    held: impl Fn(&Path) -> Option<String>,
) -> Result<()> {
    let excludes = survey::excludes(manifest)?;
    let (mut create, mut replace, mut carried, mut gone) = (vec![], vec![], vec![], vec![]);
    for (item, spot) in existing.items.iter().chain(coming) {
        let live = spot.path();
        let (files, bytes) = inside(contents, item);
        let mut row = json!({ "path": shown(item), "live": shown(&live), "files": files, "bytes": bytes });
        if let Some(volume) = held(item) {
            row["live"] = volume.into();
            replace.push(row);
            continue;
        }
        if live.symlink_metadata().is_err() {
            create.push(row);
            continue;
        }
        row["live_bytes"] = survey::size_of(&live)?.into();
        replace.push(row);
        let Some(dir) = open(&live)? else { continue };
        for left in carry::left_out(&dir, item, &excludes)? {
            carried.extend(left.names.iter().map(|name| item.join(&left.dir).join(name)));
        }
        deleted(&live, item, contents, &carried, &mut gone)?;
    }
    let second = request.founding.as_ref().is_some_and(|founding| founding.second);
    let coming = far::rows(request, existing, |item| inside(contents, item));
    if second { &mut create } else { &mut replace }.extend(coming);
    gone.extend(existing.removed.iter().map(|(item, _)| item.clone()));
    let list = |paths: &[PathBuf]| paths.iter().take(LISTED).map(|path| shown(path)).collect::<Vec<_>>();
    plan["delete_count"] = gone.len().into();
    plan["carry_over_count"] = carried.len().into();
    (plan["delete"], plan["carry_over"]) = (json!(list(&gone)), json!(list(&carried)));
    (plan["create"], plan["replace"]) = (json!(create), json!(replace));
    Ok(())
}

pub(super) fn shown(path: &Path) -> String {
    spelled(path)
}

/// How restic lists a path: what is no UTF-8 in it is replaced.
fn listed(path: &Path) -> PathBuf {
    PathBuf::from(&*path.to_string_lossy())
}

impl Contents {
    fn holds(&self, path: &Path) -> bool {
        self.sizes.contains_key(&listed(path))
    }

    /// What lies in a directory of the tree, by the names that it has in the live one where restic's list has lost them.
    fn children(&self, root: &Path, live: Option<PathBuf>) -> Vec<PathBuf> {
        let lost = |path: &Path| path.as_os_str().to_string_lossy().contains('\u{fffd}');
        let mut children: Vec<PathBuf> =
            self.sizes.keys().filter(|path| path.parent() == Some(root)).cloned().collect();
        if !children.iter().any(|path| lost(path)) {
            return children;
        }
        let living = live.and_then(|live| survey::names_in(&live, root).ok()).unwrap_or_default();
        for child in children.iter_mut().filter(|path| lost(path)) {
            if let Some(name) = living.iter().find(|name| listed(name) == **child) {
                *child = name.clone();
            }
        }
        children
    }
}

/// What will not come because nobody asked for it.
fn rights_left(request: &Request, contents: &Contents) -> Vec<String> {
    let wanted = |paths: &[PathBuf]| -> Vec<PathBuf> {
        let inside = |path: &&PathBuf| request.include.iter().any(|item| path.starts_with(listed(item)));
        paths.iter().filter(|path| request.include.is_empty() || inside(path)).cloned().collect()
    };
    let set_ids = rights::some(&wanted(&contents.set_ids)).filter(|_| !request.setuid());
    let devices = rights::some(&wanted(&contents.devices)).filter(|_| !request.devices());
    let set_ids =
        set_ids.map(|names| format!("set-uid and set-gid bits are taken off {names} unless setuid is said"));
    let devices = devices.map(|names| format!("device files are left out unless devices is said: {names}"));
    set_ids.into_iter().chain(devices).collect()
}

/// A live directory, opened through no link; none: it is none.
pub(super) fn open(path: &Path) -> Result<Option<std::os::fd::OwnedFd>> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
    let (parent, _) = super::swap::parent_of(dir, Path::new(name))?;
    super::swap::directory(&parent, name)
}

fn inside(contents: &Contents, item: &Path) -> (u64, u64) {
    let item = listed(item);
    let below = contents.sizes.range(item.clone()..).take_while(|(path, _)| path.starts_with(&item));
    below.filter_map(|(_, size)| *size).fold((0, 0), |(files, bytes), size| (files + 1, bytes + size))
}

/// What lives, is not in the snapshot, and is not carried over; a directory stands for all below it.
fn deleted(
    live: &Path,
    item: &Path,
    contents: &Contents,
    carried: &[PathBuf],
    gone: &mut Vec<PathBuf>,
) -> Result<()> {
    let mut todo = vec![(live.to_owned(), item.to_owned())];
    while let Some((dir, path)) = todo.pop() {
        let entries = std::fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))?;
        for entry in entries {
            let entry = entry?;
            let path = path.join(entry.file_name());
            if carried.contains(&path) {
                continue;
            }
            let holds_carried = carried.iter().any(|kept| kept.starts_with(&path));
            if !contents.holds(&path) && !holds_carried {
                gone.push(path);
            } else if entry.file_type()?.is_dir() {
                todo.push((entry.path(), path));
            }
        }
    }
    Ok(())
}
