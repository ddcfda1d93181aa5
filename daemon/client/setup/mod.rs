//! `holdfast setup`: makes the machine of an instance reachable. Asks no daemon, so that no password ever passes it.
//!
//! In this order: our own key; the host's key, trusted only when a person has compared it; our key among those that may log
//! in there; a sudoers file for exactly what will be run; then everything is tried. Each step looks first whether it is
//! done, so that all of it can be run again, also after it was killed.

mod checks;
mod contained;
mod engines;
mod host;
mod install;
mod key;
mod needs;
mod restores;
mod spots;
mod sudoers;
mod volumes;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::failure::{Done, Exit, Failure};
use super::output::{Grid, Text, Tone};
use super::{Context, local};
use crate::definition::{Instance, Name, Remote};
use crate::job::rsync_words;
use crate::process::{self, Captured, Limits, Program};
use crate::target;
use needs::Site;

/// How long one question to the other machine may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most that is read of an answer, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// `holdfast setup`
#[derive(Debug, Args)]
pub(super) struct SetupArgs {
    /// The instance's name; its definition has `ssh`, or a dump of it has
    instance: String,
    /// The fingerprint of the host's key, as compared on the machine itself: SHA256:…; default: it is asked
    #[arg(long, value_name = "FINGERPRINT")]
    host_key: Option<String>,
    /// A private key that may log in there already; default: what ssh finds by itself, or a password typed in
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Let sudo through what restores run there as well, in a sudoers file of its own: they write as root
    #[arg(long)]
    restore: bool,
    /// Write no sudoers file there, only print it
    #[arg(long)]
    print_sudoers: bool,
}

/// What was looked at, and how it stands.
#[derive(Debug)]
struct Check {
    host: String,
    what: String,
    /// Why it is not well; none: it is.
    wrong: Option<String>,
    /// More about it.
    note: String,
}

impl Check {
    fn good(host: &Remote, what: impl Into<String>, note: impl Into<String>) -> Self {
        Self { host: host.login(), what: what.into(), wrong: None, note: note.into() }
    }

    fn bad(host: &Remote, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { host: host.login(), what: what.into(), wrong: Some(why.into()), note: String::new() }
    }
}

pub(super) async fn setup(context: &Context, args: SetupArgs) -> Done {
    let loaded = local::definitions(context)?;
    let instance = known(&loaded.definitions.instances, &args.instance)?;
    let mut sites = needs::sites(instance);
    if sites.is_empty() {
        let why = format!("{} is on this machine: neither it nor a dump of it has `ssh`", instance.name);
        return Err(Failure::failed(why).hint("write ssh = \"user@host\" into its definition"));
    }
    for site in sites.iter_mut().filter(|site| site.mirrored && site.remote.sudo) {
        let words = rsync_words().await.map_err(|failure| Failure::failed(format!("{failure:#}")))?;
        site.rsync(&words, instance.include.iter().any(|include| include.starts_with('/')));
    }
    let mut checks = Vec::new();
    for site in &sites {
        checks.extend(one(context, &args, instance, site).await?);
    }
    Ok(told(context, &args, instance, &sites, &checks))
}

fn known<'a>(
    instances: &'a std::collections::BTreeMap<Name, std::sync::Arc<Instance>>,
    name: &str,
) -> Result<&'a Instance, Failure> {
    instances.get(name).map(AsRef::as_ref).ok_or_else(|| {
        let known: Vec<&str> = instances.keys().map(Name::as_str).collect();
        Failure::failed(format!("no instance `{name}` is defined"))
            .hint(format!("there are: {}; `holdfast config check` tells of bad ones", known.join(", ")))
    })
}

/// One machine, from our key to the table of what was tried.
async fn one(
    context: &Context,
    args: &SetupArgs,
    instance: &Instance,
    site: &Site,
) -> Result<Vec<Check>, Failure> {
    let remote = &site.remote;
    let own = key::own(remote, &instance.name).await?;
    let mut checks = vec![Check::good(remote, "our key", own.told())];
    checks.push(host::trust(context, args, remote).await?);
    let door = install::key(context, args, remote, &own).await?;
    let open = door.wrong.is_none();
    checks.push(door);
    if !open {
        return Ok(checks);
    }
    let there = checks::there(remote, site).await?;
    checks.extend(sudoers::bring(context, args, instance, site, &there).await?);
    checks.extend(checks::all(site, &there).await?);
    if args.restore {
        checks.extend(restores(context, args, instance, site).await?);
    }
    Ok(checks)
}

/// What restores need beyond backups.
async fn restores(
    context: &Context,
    args: &SetupArgs,
    instance: &Instance,
    site: &Site,
) -> Result<Vec<Check>, Failure> {
    let what = "the sudoers file for restores";
    let site = match restores::site(instance, site).await {
        Ok(Some(site)) => site,
        Ok(None) => {
            return Ok(vec![Check::good(&site.remote, what, "none is needed: no files are read as root")]);
        }
        Err(why) => return Ok(vec![Check::bad(&site.remote, what, why)]),
    };
    let there = checks::there(&site.remote, &site).await?;
    let mut checks = sudoers::bring(context, args, instance, &site, &there).await?;
    checks.extend(checks::all(&site, &there).await?);
    Ok(checks)
}

/// The table, and whether all is well.
fn told(context: &Context, args: &SetupArgs, instance: &Instance, sites: &[Site], checks: &[Check]) -> Exit {
    let good = checks.iter().all(|check| check.wrong.is_none());
    if context.out.json {
        let row = |check: &Check| {
            json!({
                "host": check.host, "check": check.what, "good": check.wrong.is_none(),
                "note": check.wrong.as_ref().unwrap_or(&check.note),
            })
        };
        let rows: Vec<_> = checks.iter().map(row).collect();
        context.out.value(&json!({ "instance": instance.name.as_str(), "good": good, "checks": rows }));
    } else {
        let mut grid = Grid::new(&["HOST", "CHECK", "RESULT", ""]);
        for check in checks {
            let result = match check.wrong {
                None => Text("good".into(), Tone::Good),
                Some(_) => Text("wrong".into(), Tone::Bad),
            };
            let note = check.wrong.as_ref().unwrap_or(&check.note).clone();
            grid.row([check.host.clone().into(), check.what.clone().into(), result, note.into()]);
        }
        context.out.grid(&grid);
        let name = &instance.name;
        let writes = |site: &Site| site.mirrored || !site.files.is_empty();
        let as_root = sites.iter().any(|site| site.remote.sudo && writes(site));
        if as_root && !args.restore {
            context.out.note(format!(
                "\nThe sudoers file is for backups. A restore writes there as root: `holdfast setup {name} --restore` lets that \
                 through."
            ));
        }
        if as_root && args.restore {
            context.out.note(format!(
                "\nRestores may write what {name} includes as root there. To take that back: remove \
                 /etc/sudoers.d/{}-restore.",
                sudoers::file_name(name.as_str())
            ));
        }
        let open = sites.iter().filter(|site| site.remote.sudo).flat_map(Site::open_containers);
        let open: Vec<String> = open.collect();
        if !open.is_empty() {
            context.out.note(format!(
                "\nFor dumps the sudoers file lets anything run in these containers, as their own users: {}. Who is root in one \
                 that is privileged is root there.",
                open.join(", ")
            ));
        }
        context.out.note(if good {
            format!("\n{name} is ready: `holdfast run` its backup.")
        } else {
            format!("\n{name} is not ready. What is good stays; mend the rest and run `holdfast setup {name}` again.")
        });
    }
    if good { Exit::Done } else { Exit::Failed }
}

/// Runs a program of this machine and takes what it prints.
async fn capture(mut program: Program) -> Result<Captured, Failure> {
    let name = program.argv.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if program.limits.timeout.is_none() {
        program.limits = Limits::within(PATIENCE);
    }
    let captured = process::capture(program, &CancellationToken::new(), MAX_ANSWER).await;
    captured.map_err(|failure| match failure {
        process::Error::NotFound(_) => Failure::failed(format!("{name} is not installed here"))
            .hint("install OpenSSH's client: `apt install openssh-client`"),
        failure => Failure::failed(failure.to_string()),
    })
}

/// What a program on the other machine printed; or why not: the connection, the key, or its own words.
async fn over(remote: &Remote, argv: &[String]) -> Result<Result<String, String>, Failure> {
    let done = capture(Program::new(target::over_ssh(remote, argv))).await?;
    if let Err(failure) = target::judge(remote, &done.ended) {
        return Ok(Err(failure.to_string()));
    }
    let text = String::from_utf8_lossy(&done.stdout).trim_end().to_owned();
    Ok(if done.ended.ok() { Ok(text) } else { Err(words(&done)) })
}

/// The last line of a complaint, or how it ended.
fn words(done: &Captured) -> String {
    match done.ended.stderr_tail.trim().lines().next_back() {
        Some(line) => line.to_owned(),
        None => format!("{:?}", done.ended.how).to_lowercase(),
    }
}

fn argv<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}
