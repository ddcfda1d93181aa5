//! etcd: a snapshot of its key space, with a checksum at its end that etcd made.
//!
//! A restore makes a new data directory from it, which takes the place of the live one while etcd is stopped. A cluster of
//! several members must be restored on all of them from one file, which cannot be done from here: it is refused.

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::bench::Bench;
use super::far;
use super::laid::{Laid, Owner};
use super::record::{self, Record};
use super::run;
use super::site::{Site, words};
use super::version::series;
use super::yard::Yard;
use super::{Ready, Taken};
use crate::definition::{Etcd, Tls};

/// The dump's file.
const FILE: &str = "snapshot.db";
/// The length of the checksum at its end.
const SUM: u64 = 32;

/// The member as it is to be made anew.
#[derive(Debug, Serialize, Deserialize)]
struct Details {
    members: usize,
    name: String,
    peer_urls: Vec<String>,
    owner: Owner,
}

/// Where `etcdctl` runs: beside the server, with our certificates and `dir`, into which it is to write.
fn bench<'s>(site: &'s Site, etcd: &Etcd, dir: Option<&Path>) -> Bench<'s> {
    let Tls { ca, own } = etcd.server.tls.clone().unwrap_or_default();
    let (cert, key) = own.unzip();
    let files = [ca, cert, key].into_iter().flatten();
    let all: Vec<_> = files.chain(dir.map(Path::to_owned)).collect();
    Bench::new(site, all.iter().map(|path| &**path))
}

/// The client's words and variables.
fn client(
    site: &Site,
    bench: &Bench<'_>,
    etcd: &Etcd,
    more: &[OsString],
) -> (Vec<OsString>, Vec<(&'static str, OsString)>) {
    let server = &etcd.server;
    let scheme = if server.tls.is_some() { "https" } else { "http" };
    let host = server.host.as_deref().unwrap_or("127.0.0.1");
    let mut argv = words(["etcdctl", "--dial-timeout=15s"]);
    argv.push(format!("--endpoints={scheme}://{host}:{}", server.port.unwrap_or(2379)).into());
    let Tls { ca, own } = server.tls.clone().unwrap_or_default();
    let (cert, key) = own.unzip();
    for (name, file) in [("--cacert", ca), ("--cert", cert), ("--key", key)] {
        argv.extend(file.map(|file| [name.into(), bench.seen(&file).into()]).into_iter().flatten());
    }
    argv.extend_from_slice(more);
    let mut env = vec![("ETCDCTL_API", OsString::from("3"))];
    env.extend(server.user.clone().map(|user| ("ETCDCTL_USER", user.into())));
    env.extend(site.login.password.as_ref().map(|word| ("ETCDCTL_PASSWORD", word.expose_secret().into())));
    (argv, env)
}

/// The definition with certificates where programs beside the server can read them: a podman without root may not enter
/// our directories.
async fn reachable(site: &Site, etcd: &Etcd) -> Result<Etcd> {
    let mut etcd = etcd.clone();
    if let Some(Tls { ca, own }) = etcd.server.tls.as_mut().filter(|_| site.foreign()) {
        let files = ca.iter_mut().chain(own.iter_mut().flat_map(|(cert, key)| [cert, key]));
        for (number, file) in files.enumerate() {
            let text = tokio::fs::read_to_string(&*file).await;
            let text = text.with_context(|| format!("reading {}", file.display()))?;
            *file = site.secret_file(&format!("etcd-{number}.pem"), text).await?;
        }
    }
    Ok(etcd)
}

async fn ask(site: &Site, etcd: &Etcd, more: &[&str]) -> Result<String> {
    let more: Vec<OsString> = more.iter().map(OsString::from).collect();
    let bench = bench(site, etcd, None);
    let (argv, env) = client(site, &bench, etcd, &more);
    run::ask(bench.question(argv, &env, true), &site.cancel).await
}

async fn answer(site: &Site, etcd: &Etcd, more: &[&str]) -> Result<serde_json::Value> {
    // etcdctl says nothing of why a connection over TLS does not come about.
    let asking = match etcd.server.tls {
        Some(_) => {
            "asking the etcd server over TLS (its certificate must be of ca_file, ours one that it lets in)"
        }
        None => "asking the etcd server",
    };
    let text = ask(site, etcd, more).await.context(asking)?;
    serde_json::from_str(text.trim()).context("reading etcd's answer")
}

/// No server is asked.
async fn client_version(site: &Site) -> Result<String> {
    let argv = words(["etcdctl", "version"]);
    let call = Bench::new(site, []).question(argv, &[("ETCDCTL_API", "3".into())], false);
    let said = run::ask(call, &site.cancel).await;
    let said = said.context("`etcdctl` is needed (Debian: etcd-client)")?;
    Ok(said.lines().next().and_then(|line| line.split(": ").nth(1)).unwrap_or_default().to_owned())
}

/// Whether it can be restored: the server is stopped for that, so nobody is asked.
pub(super) async fn answers(site: &Site) -> Result<Ready> {
    Ok(Ready { server: String::new(), client: client_version(site).await? })
}

pub(super) async fn ready(site: &Site, etcd: &Etcd) -> Result<Ready> {
    site.runs()?;
    site.lies(&etcd.data_dir).await?;
    let client = client_version(site).await?;
    let etcd = &reachable(site, etcd).await?;
    let status = answer(site, etcd, &["endpoint", "status", "-w", "json"]).await?;
    let server =
        status[0]["Status"]["version"].as_str().context("the etcd server tells no version")?.to_owned();
    ensure!(
        series(&server) <= series(&client),
        "the server is etcd {server} and etcdctl is {client}: install the server's client programs"
    );
    Ok(Ready { server, client })
}

pub(super) async fn dump(site: &Site, etcd: &Etcd, dir: &Path) -> Result<Taken> {
    let ready = ready(site, etcd).await?;
    let etcd = &reachable(site, etcd).await?;
    let members = answer(site, etcd, &["member", "list", "-w", "json"]).await?;
    let path = dir.join(FILE);
    save(site, etcd, dir, &path).await?;
    read_through(&path).await?;
    let owner = match site.dump.remote {
        Some(_) => far::owner(site, &etcd.data_dir).await?,
        None => site.lies(&etcd.data_dir).await?.owner()?,
    };
    let details = serde_json::to_value(described(&members, owner)?)?;
    let record = Record::of(&site.dump, &path).await?;
    let record = Record { version: ready.server, client_version: ready.client, details, ..record };
    Ok(Taken { records: vec![record], warnings: Vec::new() })
}

/// etcdctl writes into a file and nowhere else.
async fn save(site: &Site, etcd: &Etcd, dir: &Path, path: &Path) -> Result<()> {
    let bench = bench(site, etcd, Some(dir));
    if site.dump.remote.is_some() {
        let (argv, env) = client(site, &bench, etcd, &["snapshot".into(), "save".into()]);
        return run::into_file(far::spooled(site, argv, &env), path, &site.cancel).await;
    }
    let more = ["snapshot".into(), "save".into(), bench.seen(path).into()];
    let (argv, env) = client(site, &bench, etcd, &more);
    bench.clear().await?;
    let saved = async {
        bench.send().await?;
        run::ask(bench.online(argv, &env), &site.cancel).await?;
        bench.fetch(dir).await
    };
    let saved = saved.await;
    if saved.is_err() || site.foreign() {
        bench.clear().await?;
    }
    saved
}

/// The member that answered.
fn described(list: &serde_json::Value, owner: Owner) -> Result<Details> {
    let members = list["members"].as_array().context("etcd's list of members")?;
    let mine = members.iter().find(|member| member["ID"] == list["header"]["member_id"]);
    let mine = mine.context("etcd's list of members does not have the member that answered")?;
    let urls = mine["peerURLs"].as_array().into_iter().flatten();
    Ok(Details {
        members: members.len(),
        name: mine["name"].as_str().unwrap_or_default().to_owned(),
        peer_urls: urls.filter_map(|url| url.as_str().map(str::to_owned)).collect(),
        owner,
    })
}

async fn read_through(path: &Path) -> Result<()> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || check(&path).with_context(|| path.display().to_string())).await?
}

/// The last bytes are the SHA-256 of all before them.
fn check(path: &Path) -> Result<()> {
    let file = record::open(path)?;
    let size = file.metadata()?.len();
    let Some(left) = size.checked_sub(SUM).filter(|left| *left > 0) else {
        bail!("it is too short to be a snapshot of etcd")
    };
    let mut content = file.take(left);
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match content.read(&mut buffer)? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    let mut saved = Vec::new();
    content.into_inner().take(SUM).read_to_end(&mut saved)?;
    ensure!(saved == hash.finalize().as_slice(), "its checksum is wrong: it was changed or cut off");
    Ok(())
}

fn details(record: &Record) -> Result<Details> {
    let details: Details = serde_json::from_value(record.details.clone())
        .with_context(|| format!("the manifest does not say of which member {} is", record.file))?;
    ensure!(
        details.members == 1,
        "{} is of a cluster of {} members, which must all be made anew from it at once: give it out with --target and \
         use `etcdutl snapshot restore` on each of them",
        record.file,
        details.members
    );
    Ok(details)
}

pub(super) async fn verify(tree: &Path, records: &[Record]) -> Result<()> {
    for record in records {
        details(record)?;
        read_through(&record.path(tree)).await?;
    }
    Ok(())
}

/// Makes a data directory of what the file says, in `made`. Nothing live is touched.
pub(super) async fn lay(
    site: &Site,
    etcd: &Etcd,
    tree: &Path,
    records: &[Record],
    made: &Path,
) -> Result<Vec<Laid>> {
    let mut all = Vec::new();
    for record in records {
        let details = details(record)?;
        let (data, file) = (made.join("data"), record.path(tree));
        let dumps = file.parent().context("a dump without a directory")?;
        let bench = Bench::new(site, [made, dumps]);
        let argv = restoring(program(site).await, &details, &bench.seen(&file), &bench.seen(&data));
        bench.clear().await?;
        let loaded = async {
            bench.send().await?;
            run::ask(bench.call(argv, &[("ETCDCTL_API", "3".into())]), &site.cancel).await?;
            bench.fetch(made).await
        };
        let loaded = loaded.await;
        if loaded.is_err() || site.foreign() {
            bench.clear().await?;
        }
        loaded.with_context(|| format!("loading {}", record.file))?;
        let live = site.lies(&etcd.data_dir).await?;
        let rests = vec![live.path.clone()];
        all.push(live.laid(data, rests, &details.owner)?);
    }
    Ok(all)
}

/// Likewise on another machine, by its programs.
pub(super) async fn lay_there(
    site: &Site,
    etcd: &Etcd,
    tree: &Path,
    records: &[Record],
    yard: &Yard<'_>,
) -> Result<Vec<Laid>> {
    let mut all = Vec::new();
    for record in records {
        let details = details(record)?;
        let (file, data) = (yard.put(&record.path(tree), FILE).await?, yard.at("data"));
        let argv = restoring(program(site).await, &details, &file, &data);
        let loaded = yard.ask(argv, &[("ETCDCTL_API", "3".into())]).await;
        loaded.with_context(|| format!("loading {}", record.file))?;
        let owner = yard.give(&data, &etcd.data_dir, &details.owner).await?;
        let live = etcd.data_dir.clone();
        all.push(Laid { live, made: data, rests: Vec::new(), within: false, owner });
    }
    Ok(all)
}

/// What makes a data directory of a snapshot.
fn restoring(program: &str, details: &Details, file: &Path, data: &Path) -> Vec<OsString> {
    let Details { name, peer_urls, .. } = details;
    let cluster: Vec<String> = peer_urls.iter().map(|url| format!("{name}={url}")).collect();
    let mut argv = words([program, "snapshot", "restore"]);
    argv.extend([file.into(), "--data-dir".into(), data.into()]);
    argv.extend(["--name".into(), name.into(), "--initial-cluster".into(), cluster.join(",").into()]);
    argv.extend(["--initial-advertise-peer-urls".into(), peer_urls.join(",").into()]);
    argv
}

/// Restoring moved to a program of its own with 3.5, and only that one has it from 3.6 on.
async fn program(site: &Site) -> &'static str {
    let there = match site.apart() {
        false => site.has("etcdutl").await,
        true => {
            let call = Bench::new(site, []).question(words(["etcdutl", "version"]), &[], false);
            run::ask(call, &site.cancel).await.is_ok()
        }
    };
    if there { "etcdutl" } else { "etcdctl" }
}
