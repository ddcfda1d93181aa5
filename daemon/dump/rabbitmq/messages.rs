//! RabbitMQ with its messages: the data directory of a node, which is one piece only while the node is stopped.
//!
//! It holds users, virtual hosts, queues and messages, and fits only a node of the same name. A restore lays it beside the
//! live one and lets them change places while the node is stopped. The list of feature flags, a file beside the directory,
//! belongs to it: a node does not start on data that it has not the flags for.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::there;
use crate::definition::StopUntil;
use crate::dump::laid::{Laid, Owner, at_rest};
use crate::dump::record::{self, Record};
use crate::dump::run;
use crate::dump::site::{Site, words};
use crate::dump::version::not_newer;
use crate::dump::{Ready, Taken};
use crate::process::Sandbox;

/// The dump's file.
pub(super) const FILE: &str = "node.tar";
/// A tar file ends with at least so many bytes of zero.
const END: usize = 1024;
/// The most that the list of a cluster's nodes may hold, in bytes.
const LIST: u64 = 1 << 20;

/// The node as it was.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Details {
    pub(super) node: String,
    members: usize,
    /// The name of its directory, and in the file.
    pub(super) directory: String,
    pub(super) owner: Owner,
}

/// Whether a file is of a node's data, not of definitions.
pub(in crate::dump) fn is_data(record: &Record) -> bool {
    record.file.ends_with(&format!("/{FILE}"))
}

/// The version of what is installed, which runs when the node runs.
pub(in crate::dump) async fn answers(site: &Site) -> Result<Ready> {
    let mut call = site.question(["rabbitmqctl", "version"], &[]);
    // Debian's is a script that becomes the server's user.
    call.program.sandbox = Sandbox::None;
    let said = run::ask(call, &site.cancel).await;
    let said = said.context("`rabbitmqctl` is needed (Debian: rabbitmq-server)")?;
    let version = said.lines().last().unwrap_or_default().trim().to_owned();
    ensure!(version.starts_with(|c: char| c.is_ascii_digit()), "`rabbitmqctl version` says {said:?}");
    Ok(Ready { server: version.clone(), client: version })
}

/// At preflight the node may still run, if it will be stopped.
pub(in crate::dump) async fn ready(site: &Site, dir: &Path) -> Result<Ready> {
    if site.dump.remote.is_some() {
        there::look(site, dir).await?.with_context(|| absent(dir))?;
    } else {
        named(dir).await?;
    }
    let stops = |stop: StopUntil| matches!(stop, StopUntil::Dump | StopUntil::Snapshot);
    if !site.place.instance.services.iter().any(|service| stops(service.stop)) {
        match site.dump.remote {
            Some(_) => there::at_rest(site, dir, false).await.context(RUNS)?,
            None => stopped(dir).await?,
        }
    }
    answers(site).await
}

fn absent(dir: &Path) -> String {
    format!("`data_dir` {} is not there, or is not a directory", dir.display())
}

/// Makes sure that the node is not running, as far as that is seen from outside.
async fn stopped(dir: &Path) -> Result<()> {
    at_rest(vec![dir.to_owned()]).await.context(RUNS)
}

/// What is to be done about a node that runs.
const RUNS: &str = "messages are saved only while the node is stopped: name RabbitMQ as a service of the instance with stop = \"dump\"";

async fn dump_there(site: &Site, dir: &Path, path: &Path) -> Result<Details> {
    there::at_rest(site, dir, true).await.context(RUNS)?;
    let seen = there::look(site, dir).await?.with_context(|| absent(dir))?;
    let directory =
        dir.file_name().and_then(OsStr::to_str).context("`data_dir` has a name that is not UTF-8")?;
    there::pack(site, dir, &seen, path).await?;
    // One that was started meanwhile wrote into what was read.
    there::at_rest(site, dir, true).await.context(RUNS)?;
    Ok(Details { node: seen.node, members: seen.members, directory: directory.to_owned(), owner: seen.owner })
}

pub(in crate::dump) async fn dump(site: &Site, dir: &Path, to: &Path) -> Result<Taken> {
    let ready = answers(site).await?;
    let path = to.join(FILE);
    let details = match site.dump.remote {
        Some(_) => dump_there(site, dir, &path).await?,
        None => dump_here(site, dir, &path).await?,
    };
    check(&path, &details.directory).await?;
    let record = Record::of(&site.dump, &path).await?;
    let details = serde_json::to_value(details)?;
    let record = Record { version: ready.server, client_version: ready.client, details, ..record };
    Ok(Taken { records: vec![record], warnings: Vec::new() })
}

async fn dump_here(site: &Site, dir: &Path, path: &Path) -> Result<Details> {
    stopped(dir).await?;
    let at = dir.to_owned();
    let details =
        tokio::task::spawn_blocking(move || ended_well(&at).and_then(|()| described(&at))).await??;
    let above = dir.parent().context("`data_dir` is not a directory of a node")?;
    let mut argv =
        words(["tar", "--create", "--format=gnu", "--sort=name", "--numeric-owner", "--directory"]);
    argv.extend([above.into(), "--".into(), member(&details.directory)]);
    let flags = flags(dir);
    if tokio::fs::try_exists(&flags).await.with_context(|| format!("looking for {}", flags.display()))? {
        argv.push(member(&flags.file_name().unwrap_or_default().to_string_lossy()));
    }
    run::into_file(site.ours(argv), path, &site.cancel).await?;
    // One that was started meanwhile wrote into what was read.
    stopped(dir).await?;
    let at = dir.to_owned();
    tokio::task::spawn_blocking(move || ended_well(&at)).await??;
    Ok(details)
}

/// A name that tar cannot take for an option.
pub(super) fn member(name: &str) -> OsString {
    format!("./{name}").into()
}

/// The list of feature flags that belongs to a node's directory.
pub(super) fn flags(dir: &Path) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push("-feature_flags");
    name.into()
}

/// A node that ends in order says so in each of its message stores; when it starts, it takes that back first.
fn ended_well(dir: &Path) -> Result<()> {
    let hosts = dir.join("msg_stores/vhosts");
    let all = std::fs::read_dir(&hosts).with_context(|| format!("looking into {}", hosts.display()))?;
    for host in all {
        let store = host?.path().join("msg_store_persistent");
        let well = !store.is_dir() || store.join("clean.dot").is_file();
        ensure!(
            well,
            "the node of {} runs, or was killed: {} says that it has not ended in order; start it and let it stop, for its \
             messages are one piece only then",
            dir.display(),
            store.display()
        );
    }
    Ok(())
}

async fn named(dir: &Path) -> Result<(String, usize)> {
    let dir = dir.to_owned();
    tokio::task::spawn_blocking(move || node_of(&dir)).await?
}

/// The node's name, and how many nodes its cluster has.
fn node_of(dir: &Path) -> Result<(String, usize)> {
    let meta = std::fs::metadata(dir).with_context(|| format!("`data_dir` {}", dir.display()))?;
    ensure!(meta.is_dir(), "`data_dir` {} is not a directory", dir.display());
    let members = members(dir)?;
    Ok((name_of(dir, &members)?, members.len().max(1)))
}

/// Whose data it is, by its list of nodes or its own name.
pub(super) fn name_of(dir: &Path, members: &[String]) -> Result<String> {
    let name = dir.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
    Ok(match members {
        [only] => only.clone(),
        _ if name.contains('@') => name.into_owned(),
        _ => bail!(
            "{} does not say whose data it is; `data_dir` is the directory of one node, as in …/mnesia/rabbit@HOST",
            dir.display()
        ),
    })
}

/// The nodes that `cluster_nodes.config` lists: `{[a@x,'b@y-z'],[…]}.`; none: there is no such file.
fn members(dir: &Path) -> Result<Vec<String>> {
    let path = dir.join("cluster_nodes.config");
    let mut text = String::new();
    match File::open(&path) {
        Err(failure) if failure.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened.and_then(|file| file.take(LIST).read_to_string(&mut text)),
    }
    .with_context(|| format!("reading {}", path.display()))?;
    Ok(members_in(&text))
}

pub(super) fn members_in(text: &str) -> Vec<String> {
    let list = text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("", |(list, _)| list);
    let names = list.split(',').map(|name| name.trim().trim_matches('\'').to_owned());
    names.filter(|name| !name.is_empty()).collect()
}

fn described(dir: &Path) -> Result<Details> {
    let (node, members) = node_of(dir)?;
    let directory =
        dir.file_name().and_then(OsStr::to_str).context("`data_dir` has a name that is not UTF-8")?;
    Ok(Details { node, members, directory: directory.to_owned(), owner: Owner::of(dir)? })
}

pub(super) fn details(record: &Record) -> Result<Details> {
    let details: Details = serde_json::from_value(record.details.clone())
        .with_context(|| format!("the manifest does not say of which node {} is", record.file))?;
    ensure!(
        details.members == 1,
        "{} is of a cluster of {} nodes, which must all be stopped and made anew at once: give it out with --target on \
         each of them",
        record.file,
        details.members
    );
    Ok(details)
}

pub(in crate::dump) async fn verify(tree: &Path, record: &Record) -> Result<()> {
    check(&record.path(tree), &details(record)?.directory).await
}

/// Reads a file to its end: nothing but files and directories, all of one node, and a tar file's end.
async fn check(path: &Path, directory: &str) -> Result<()> {
    let (path, directory) = (path.to_owned(), directory.to_owned());
    tokio::task::spawn_blocking(move || {
        look(&path, &directory).with_context(|| format!("{} is no node's data", path.display()))
    })
    .await?
}

fn look(path: &Path, directory: &str) -> Result<()> {
    let mut archive = tar::Archive::new(BufReader::new(record::open(path)?));
    let mut stores = false;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.into_owned();
        stores |= ours(&name, entry.header().entry_type(), directory)?.starts_with("msg_stores");
        std::io::copy(&mut entry, &mut std::io::sink())?;
    }
    ensure!(stores, "it has no message stores of {directory}");
    let mut file = record::open(path)?;
    file.seek(SeekFrom::End(-i64::try_from(END)?))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    ensure!(end.iter().all(|byte| *byte == 0), "it was cut off");
    Ok(())
}

/// A path in the file as it is below the node's directory, or nothing for the list beside it; nothing else may be there.
fn ours(name: &Path, kind: tar::EntryType, directory: &str) -> Result<PathBuf> {
    ensure!(kind.is_file() || kind.is_dir(), "{} is neither a file nor a directory", name.display());
    let inside = name.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    ensure!(inside, "{} leads out of it", name.display());
    let plain: PathBuf = name.components().filter(|part| *part != Component::CurDir).collect();
    if plain == flags(Path::new(directory)) {
        return Ok(PathBuf::new());
    }
    let below = plain.strip_prefix(directory);
    Ok(below.with_context(|| format!("{} is not of {directory}", name.display()))?.to_owned())
}

/// Makes a data directory of the file, in `made`. Nothing live is touched.
pub(in crate::dump) async fn lay(
    site: &Site,
    dir: Option<&Path>,
    tree: &Path,
    record: &Record,
    made: &Path,
) -> Result<Vec<Laid>> {
    let live = dir.with_context(|| unfit(record))?;
    let saved = details(record)?;
    let name = match tokio::fs::try_exists(live).await? {
        true => named(live).await?.0,
        false => live.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    };
    same_node(site, record, &saved, live, &name).await?;
    let Details { directory, owner, .. } = saved;
    let (from, to) = (record.path(tree), made.to_owned());
    tokio::task::spawn_blocking(move || unpack(&from, &to)).await?.context("laying the node's data")?;
    let mut all = vec![(live.to_owned(), made.join(&directory), owner.clone())];
    let list = flags(&made.join(&directory));
    if tokio::fs::try_exists(&list).await? {
        all.push((flags(live), list, owner.of_a_file()));
    }
    let lay = |(to, made, owner): (PathBuf, PathBuf, Owner)| {
        let laid = Laid { live: to, made, rests: vec![live.to_owned()], within: false, owner: None };
        laid.give(&owner, None).map(|()| laid)
    };
    all.into_iter().map(lay).collect()
}

pub(super) fn unfit(record: &Record) -> String {
    format!("{} holds a node's messages: say messages = true and where its data_dir lies", record.file)
}

/// A node finds no data but its own, and none of a newer one.
pub(super) async fn same_node(
    site: &Site,
    record: &Record,
    saved: &Details,
    live: &Path,
    name: &str,
) -> Result<()> {
    not_newer(record, "RabbitMQ", &answers(site).await?.server, "the data of a newer node does")?;
    ensure!(
        name == saved.node || !name.contains('@'),
        "{} is of the node {}, and {} is of {name}: a node finds no data but its own; give this one that name \
         (NODENAME in rabbitmq-env.conf), or restore definitions alone",
        record.file,
        saved.node,
        live.display()
    );
    Ok(())
}

/// Into a directory of ours that nobody else enters; what is in the file was looked at.
fn unpack(path: &Path, made: &Path) -> Result<()> {
    let mut archive = tar::Archive::new(BufReader::new(record::open(path)?));
    archive.set_preserve_permissions(true);
    archive.set_preserve_mtime(true);
    for entry in archive.entries()? {
        let mut entry = entry?;
        ensure!(entry.unpack_in(made)?, "{} leads out of it", entry.path()?.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_told_by_its_list_and_names_with_a_dash_are_quoted_there() {
        let dir = tempfile::tempdir().unwrap();
        let list = |text: &str| std::fs::write(dir.path().join("cluster_nodes.config"), text).unwrap();
        list("{['rabbit@my-host'],['rabbit@my-host']}.\n");
        assert_eq!(node_of(dir.path()).unwrap(), ("rabbit@my-host".to_owned(), 1));
        list("{[a@x, b@y],[a@x]}.");
        assert_eq!(members(dir.path()).unwrap(), ["a@x", "b@y"]);
        assert!(node_of(dir.path()).is_err(), "which of the two it is stands nowhere");
    }

    #[test]
    fn nothing_but_the_node_is_taken_out_of_a_file() {
        let file = tar::EntryType::Regular;
        let of = |name: &str, kind| ours(Path::new(name), kind, "a@x").map(|path| path.display().to_string());
        assert_eq!(of("./a@x/msg_stores/b", file).unwrap(), "msg_stores/b");
        assert_eq!(of("a@x-feature_flags", file).unwrap(), "");
        for bad in ["../x", "/a@x/y", "a@x/../y", "other/y"] {
            assert!(of(bad, file).is_err(), "{bad}");
        }
        assert!(of("a@x/l", tar::EntryType::Symlink).is_err());
    }
}
