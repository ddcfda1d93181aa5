//! The container that a server runs in: its client programs, what it was started with, and where its directories lie here.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::lies::{Lies, Theirs};
use super::run::{self, Call};
use crate::definition::{Container, Engine, Remote};
use crate::process::{Account, Limits, Program, Sandbox};
use crate::target::{over_ssh, session, sudo};

/// A container.
#[derive(Debug)]
pub(super) struct Contained {
    engine: Engine,
    /// Its full id: whoever is given its name meanwhile is not meant. Its name where sudo is to let it through: what is made
    /// anew has another id.
    id: String,
    /// The id of its image.
    image: String,
    /// Whether it runs.
    running: bool,
    /// What it was started with.
    environment: Vec<(String, String)>,
    mounts: Vec<Mount>,
    /// Whether it is of an engine without root, whose user may not enter our directories.
    foreign: bool,
    /// Whether it is on another machine.
    far: bool,
}

/// Whose engine is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whose<'a> {
    /// The user here.
    pub(super) account: &'a Account,
    /// The machine; none: this one.
    pub(super) remote: Option<&'a Remote>,
    /// The user there, if not whom we log in as.
    pub(super) user: Option<&'a str>,
}

impl Whose<'_> {
    /// Whether root is had by sudo, whose rules name containers.
    fn by_name(&self) -> bool {
        self.user.is_none() && self.remote.is_some_and(|remote| remote.sudo)
    }
}

/// A directory of this machine that is seen in it.
#[derive(Debug)]
struct Mount {
    /// The volume; none: a directory that somebody named.
    volume: Option<String>,
    /// Who keeps the volume.
    driver: String,
    source: PathBuf,
    destination: PathBuf,
}

/// Our own throw-away container beside it.
pub(super) struct Beside<'a> {
    /// Its name, always the same, so that what a dead job left is found by it; none: it ends at once anyway.
    pub(super) name: Option<&'a str>,
    /// Directories and files of ours, and where it sees them.
    pub(super) binds: &'a [(PathBuf, PathBuf)],
    /// A volume of ours by name, and where it sees that.
    pub(super) volume: Option<(&'a str, &'a str)>,
    /// Whether it is on the network of the one that it is beside.
    pub(super) online: bool,
}

impl Contained {
    /// Finds a container.
    ///
    /// # Errors
    /// There is none of this name, or the engine does not answer.
    pub(super) async fn find(
        container: &Container,
        whose: Whose<'_>,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let engine = container.engine;
        let looking = || format!("looking for the container {}", container.name);
        let name = match container.name.strip_prefix("label:") {
            Some(label) => labelled(engine, label, whose, cancel).await.with_context(looking)?,
            None => container.name.clone(),
        };
        let argv = ["inspect", "--type", "container", "--format", "{{json .}}", &name];
        let text = ask(engine, &argv, whose, cancel).await.with_context(looking)?;
        let found: Value = serde_json::from_str(text.trim()).with_context(looking)?;
        let found = found.as_array().and_then(|all| all.first()).unwrap_or(&found);
        let word = |value: &Value, what: &str| -> Result<String> {
            let word = value.as_str().map(str::to_owned);
            word.ok_or_else(|| anyhow!("{} tells no {what} of {}", engine.word(), container.name))
        };
        let environment = found["Config"]["Env"].as_array().into_iter().flatten();
        let environment = environment.filter_map(|entry| entry.as_str()?.split_once('='));
        Ok(Self {
            engine,
            id: match whose.by_name() {
                true => word(&found["Name"], "name")?.trim_start_matches('/').to_owned(),
                false => word(&found["Id"], "id")?,
            },
            image: found["Image"].as_str().unwrap_or_default().to_owned(),
            running: found["State"]["Running"] == true,
            environment: environment.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            mounts: found["Mounts"].as_array().into_iter().flatten().map(mount).collect(),
            foreign: engine == Engine::Podman
                && whose.remote.is_none()
                && rustix::process::geteuid().as_raw() != whose.account.uid,
            far: whose.remote.is_some(),
        })
    }

    /// Who runs it.
    pub(super) fn engine(&self) -> Engine {
        self.engine
    }

    /// Whether it is of a podman without root, of another user than ourselves.
    pub(super) fn foreign(&self) -> bool {
        self.foreign
    }

    /// Whether it runs.
    pub(super) fn running(&self) -> bool {
        self.running
    }

    /// A variable of its environment.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The engine's program around one that runs inside; variables by name only, their values stay out of argv.
    pub(super) fn exec<'k>(
        &self,
        inner: Vec<OsString>,
        variables: impl Iterator<Item = &'k str>,
    ) -> Vec<OsString> {
        let mut argv: Vec<OsString> = [self.engine.word(), "exec", "-i"].map(OsString::from).to_vec();
        argv.extend(told(variables));
        argv.push(self.id.clone().into());
        argv.extend(inner);
        argv
    }

    /// The engine's program around one that runs in a container of its own: of the same image, so that nothing is pulled
    /// and versions fit, as ourselves, so that what it makes is ours, with the volumes of the real one to be looked at.
    pub(super) fn beside<'k>(
        &self,
        inner: Vec<OsString>,
        beside: &Beside<'_>,
        variables: impl Iterator<Item = &'k str>,
    ) -> Vec<OsString> {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let network = if beside.online { format!("container:{}", self.id) } else { "none".to_owned() };
        // What it prints may be data: the engine is not to keep it.
        let mut argv: Vec<OsString> =
            [self.engine.word(), "run", "--rm", "--interactive", "--log-driver", "none"]
                .map(OsString::from)
                .to_vec();
        argv.extend(beside.name.into_iter().flat_map(|name| ["--name".into(), name.into()]));
        argv.extend(["--network".into(), network.into(), "--user".into(), format!("{uid}:{gid}").into()]);
        argv.extend(["--volumes-from".into(), format!("{}:ro", self.id).into()]);
        argv.extend(["--security-opt", "label=disable"].map(OsString::from));
        for (here, there) in beside.binds {
            argv.extend(["--mount".into(), bound(here, there)]);
        }
        if let Some((name, there)) = beside.volume {
            argv.extend(["--volume".into(), format!("{name}:{there}").into()]);
        }
        argv.extend(told(variables));
        let mut inner = inner.into_iter();
        argv.extend(inner.next().into_iter().flat_map(|program| ["--entrypoint".into(), program]));
        argv.push(self.image.clone().into());
        argv.extend(inner);
        argv
    }

    /// Removes our own container.
    pub(super) fn remove(&self, name: &str) -> Vec<OsString> {
        ["rm", "--force", name].map(OsString::from).to_vec()
    }

    /// Whether there is one of this name: those that have it, one a line.
    pub(super) fn list(&self, name: &str) -> Vec<OsString> {
        let filter = format!("name=^/?{name}$");
        ["ps", "--all", "--quiet", "--filter", &filter].map(OsString::from).to_vec()
    }

    /// Where one of its directories lies on this machine: in a volume, or in a directory that is mounted there.
    ///
    /// # Errors
    /// It goes with the container, or is kept elsewhere.
    pub(super) async fn lies(
        &self,
        inside: &Path,
        account: &Account,
        cancel: &CancellationToken,
    ) -> Result<Lies> {
        let shown = inside.display();
        ensure!(
            !self.far,
            "{shown} is in a container of another machine, where directories are not exchanged"
        );
        let found = self.mounts.iter().filter(|mount| inside.starts_with(&mount.destination));
        let Some(mount) = found.max_by_key(|mount| mount.destination.components().count()) else {
            bail!(
                "{shown} of the container lies in no volume and no directory of this machine, so it goes with the container \
                 and a restore could not exchange it; put it into a volume"
            );
        };
        if let Some(volume) = &mount.volume {
            self.kept_here(volume, &mount.driver, account, cancel).await?;
        }
        let source = mount.source.clone();
        let source = tokio::task::spawn_blocking(move || std::fs::canonicalize(&source)).await?;
        let source = source.with_context(|| format!("looking at {}", mount.source.display()))?;
        let rest = inside.strip_prefix(&mount.destination).unwrap_or(Path::new(""));
        let root = rest.as_os_str().is_empty();
        let theirs = if self.foreign { Some(Theirs::of(account)?) } else { None };
        let lies = Lies { path: if root { source } else { source.join(rest) }, root, theirs };
        lies.check().with_context(|| format!("{shown} of the container"))?;
        Ok(lies)
    }

    /// A volume with options is something that is mounted while it is used: beneath that lies nothing.
    async fn kept_here(
        &self,
        volume: &str,
        driver: &str,
        account: &Account,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let argv = ["volume", "inspect", "--format", "{{json .Options}}", volume];
        let whose = Whose { account, remote: None, user: None };
        let options = ask(self.engine, &argv, whose, cancel).await;
        let options = options.with_context(|| format!("looking at the volume {volume}"))?;
        let here = (driver.is_empty() || driver == "local") && matches!(options.trim(), "null" | "{}");
        ensure!(here, "the volume {volume} keeps its data elsewhere, where a restore could not exchange it");
        Ok(())
    }
}

/// The one container with a label; those that do not run count too.
async fn labelled(
    engine: Engine,
    label: &str,
    whose: Whose<'_>,
    cancel: &CancellationToken,
) -> Result<String> {
    let filter = format!("label={label}");
    let argv = ["ps", "--all", "--no-trunc", "--filter", &filter, "--format", "{{.ID}} {{.Names}}"];
    let found = ask(engine, &argv, whose, cancel).await?;
    let found: Vec<&str> = found.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match found[..] {
        [one] if whose.by_name() => Ok(own_name(one).to_owned()),
        [one] => Ok(one.split(' ').next().unwrap_or_default().to_owned()),
        [] => bail!("no container has the label {label}"),
        _ => {
            bail!("{} containers have the label {label}, and one is meant: {}", found.len(), found.join(", "))
        }
    }
}

/// Its own name in a line that begins with its id: those of links hold the names of others.
pub fn own_name(line: &str) -> &str {
    let names = line.split_once(' ').map_or("", |(_, names)| names);
    names.split(',').map(str::trim).find(|name| !name.contains('/')).unwrap_or_default()
}

fn mount(found: &Value) -> Mount {
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Mount {
        volume: (text("Type") == "volume").then(|| text("Name")),
        driver: text("Driver"),
        source: text("Source").into(),
        destination: text("Destination").into(),
    }
}

fn told<'k>(variables: impl Iterator<Item = &'k str>) -> impl Iterator<Item = OsString> {
    variables.flat_map(|variable| ["-e".into(), variable.into()])
}

fn bound(here: &Path, there: &Path) -> OsString {
    let mut mount = OsString::from("type=bind,source=");
    mount.push(here);
    mount.push(OsStr::new(",target="));
    mount.push(there);
    mount
}

/// Asks an engine. Docker is spoken to as ourselves; podman as whoever has the containers, and never in our sandbox: it
/// enters their namespaces.
async fn ask(engine: Engine, argv: &[&str], whose: Whose<'_>, cancel: &CancellationToken) -> Result<String> {
    let words = std::iter::once(engine.word()).chain(argv.iter().copied());
    let limits = Limits::within(super::site::QUESTION);
    if let Some(remote) = whose.remote {
        let program = Program::new(over_ssh(remote, sudo(remote, whose.user, words)));
        let call = Call::here(engine.word().to_owned(), Program { limits, ..program });
        return run::ask(Call { far: Some(remote.clone()), ..call }, cancel).await;
    }
    let mut program = Program::new(words);
    program.limits = limits;
    confine(&mut program, engine, whose.account);
    run::ask(Call::here(engine.word().to_owned(), program), cancel).await
}

/// As which user an engine's program runs, and whether in the daemon's own sandbox.
pub(super) fn confine(program: &mut Program, engine: Engine, account: &Account) {
    if engine == Engine::Podman {
        let own = rustix::process::geteuid().as_raw() == account.uid;
        program.user = (!own).then(|| account.clone());
        program.sandbox = Sandbox::None;
        program.env.extend(session(account).filter(|_| !own));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contained(mounts: &[(&str, &Path)]) -> Contained {
        let mounts = mounts.iter().map(|(destination, source)| Mount {
            volume: None,
            driver: String::new(),
            source: source.to_path_buf(),
            destination: destination.into(),
        });
        Contained {
            engine: Engine::Docker,
            id: "0123".into(),
            image: "sha256:4567".into(),
            running: true,
            environment: Vec::new(),
            mounts: mounts.collect(),
            foreign: false,
            far: false,
        }
    }

    #[tokio::test]
    async fn a_directory_lies_in_the_innermost_mount_or_goes_with_the_container() {
        let dir = tempfile::tempdir().unwrap();
        let (outer, inner) = (dir.path().join("outer"), dir.path().join("inner"));
        std::fs::create_dir(&outer).unwrap();
        std::fs::create_dir(&inner).unwrap();
        std::os::unix::fs::symlink(&inner, dir.path().join("link")).unwrap();
        let all = contained(&[("/data", &outer), ("/data/db", &dir.path().join("link"))]);
        let account = crate::target::account(None).unwrap();
        let never = CancellationToken::new();
        let lies = async |inside: &str| all.lies(Path::new(inside), &account, &never).await;
        assert_eq!(lies("/data/db").await.unwrap(), Lies { path: inner.clone(), root: true, theirs: None });
        assert_eq!(
            lies("/data/db/one").await.unwrap(),
            Lies { path: inner.join("one"), root: false, theirs: None }
        );
        assert_eq!(
            lies("/data/other").await.unwrap(),
            Lies { path: outer.join("other"), root: false, theirs: None }
        );
        assert!(lies("/database").await.unwrap_err().to_string().contains("lies in no volume"));
        let foreign =
            Contained { foreign: true, ..contained(&[("/data", Path::new("/")), ("/own", &outer)]) };
        let other = Account { name: "ann".into(), uid: account.uid + 1, ..account.clone() };
        let refused = foreign.lies(Path::new("/own"), &other, &never).await.unwrap_err();
        assert!(format!("{refused:#}").contains("podman without root"), "{refused:#}");
        assert!(foreign.lies(Path::new("/own"), &account, &never).await.unwrap().theirs.is_some());
    }

    #[test]
    fn values_of_variables_are_no_words_of_a_command_line() {
        let all = contained(&[]);
        let binds = [(PathBuf::from("/staging/x"), PathBuf::from("/holdfast/0"))];
        let beside = Beside {
            name: Some("holdfast-a-b"),
            binds: &binds,
            volume: Some(("holdfast-a-b", "/holdfast")),
            online: true,
        };
        let inner = ["etcdctl", "version"].map(OsString::from).to_vec();
        let argv = all.beside(inner, &beside, ["ETCDCTL_PASSWORD"].into_iter());
        let argv: Vec<_> = argv.iter().map(|word| word.to_str().unwrap()).collect();
        let shown = argv.join(" ");
        assert!(shown.contains("--name holdfast-a-b --network container:0123 "), "{shown}");
        assert!(
            shown.contains("--mount type=bind,source=/staging/x,target=/holdfast/0 --volume holdfast-a-b:/holdfast -e ETCDCTL_PASSWORD "),
            "{shown}"
        );
        assert!(shown.ends_with("--entrypoint etcdctl sha256:4567 version"), "{shown}");
    }
}
