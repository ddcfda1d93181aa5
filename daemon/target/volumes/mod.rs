//! Where the volume `NAME` lies: asked from podman or docker, or read from a table.

mod reach;
mod there;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tokio_util::sync::CancellationToken;

use super::held::{Held, engine_program};
use super::{judge, over_ssh, sudo, walk};
use crate::definition::{Instance, Remote, VolumePlace, Volumes};
use crate::process::{self, Account, Limits, Program};
use reach::{Inspected, Reach};

pub use reach::Make;
pub use there::{FarVolume, volumes_there};

/// How long one question to an engine may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most that an engine may answer, in bytes.
const MAX_ANSWER: usize = 8 << 20;

/// Which volumes are wanted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// These.
    pub(super) names: Vec<String>,
    /// All that the instance has.
    pub(super) all: bool,
}

/// What was found of volumes.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Names and real places.
    pub(super) places: BTreeMap<String, PathBuf>,
    /// Names and places on the instance's other machine.
    pub(super) there: BTreeMap<String, PathBuf>,
    /// Those whose data only their engine reaches.
    pub(super) held: BTreeMap<String, Held>,
    /// How they could be made anew, where it is not as any volume is made.
    pub(super) makes: BTreeMap<String, Make>,
    pub(super) warnings: Vec<String>,
}

/// Who is asked for a volume, and under which name.
struct Asked {
    engine: &'static str,
    full: String,
}

/// Where a volume is.
pub(super) enum Lies {
    /// In this directory, free of links.
    Here(PathBuf),
    /// In this directory of the instance's other machine.
    There(PathBuf),
    /// Behind its engine.
    Held(Held),
}

/// Asks for the wanted volumes of an instance. Names that do not exist are simply not in the answer.
pub(super) struct Resolver<'a> {
    pub(super) instance: &'a Instance,
    pub(super) account: &'a Account,
    pub(super) tools: &'a Path,
    pub(super) cancel: &'a CancellationToken,
}

impl Resolver<'_> {
    /// Names, real places and labels of the volumes, and warnings.
    ///
    /// # Errors
    /// Nobody knows volumes, the engine fails, or a volume lies where it may not.
    pub(super) async fn resolve(&self, wanted: &Wanted) -> Result<Found> {
        let mut found = Found::default();
        if let Volumes::None = self.instance.volumes {
            let nobody = "volumes/… is included, but nobody knows where volumes lie; set `volumes` to \"podman\", \"docker\" or a table";
            ensure!(wanted.names.is_empty() && !wanted.all, nobody);
            return Ok(found);
        }
        let mut names = wanted.names.clone();
        match &self.instance.volumes {
            Volumes::Table(table) => {
                for (name, place) in table {
                    match place {
                        VolumePlace::Directory(place) => {
                            let far = self.instance.remote.is_some();
                            let list = if far { &mut found.there } else { &mut found.places };
                            drop(list.insert(name.clone(), place.clone()))
                        }
                        VolumePlace::Of(..) if wanted.all => names.push(name.clone()),
                        VolumePlace::Of(..) => {}
                    }
                }
                names.retain(|name| matches!(table.get(name), Some(VolumePlace::Of(..))));
            }
            _ if wanted.all => names.extend(self.list().await?),
            _ => {}
        }
        names.sort();
        names.dedup();
        for name in names {
            let Some(asked) = self.asked(&name).await? else { continue };
            if let Some(volume) = self.inspect(&asked).await? {
                found.warnings.extend(in_memory(&name, &volume));
                match self.lies(&name, &asked, &volume)? {
                    Lies::Here(place) => drop(found.places.insert(name.clone(), place)),
                    Lies::There(place) => drop(found.there.insert(name.clone(), place)),
                    Lies::Held(held) => drop(found.held.insert(name.clone(), held)),
                }
                found.makes.extend(volume.make().map(|make| (name, make)));
            }
        }
        Ok(found)
    }

    /// Makes a volume as it was, as NS8 does before it restores into it. That it exists already is no error.
    ///
    /// # Errors
    /// The engine's words; a table cannot make volumes; what [`Make::check`] refuses.
    pub(super) async fn create(&self, name: &str, make: &Make) -> Result<Lies> {
        let Some(asked) = self.asked(name).await? else {
            bail!("volume {name:?} is not in the table `volumes`; add it there")
        };
        let Asked { engine, full } = &asked;
        if let Some(volume) = self.inspect(&asked).await? {
            return self.lies(name, &asked, &volume);
        }
        make.check(full)?;
        let arguments = make.arguments(full);
        let answer = self.ask(engine, &arguments.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        answer.with_context(|| format!("creating volume {full}"))?;
        let volume = self.inspect(&asked).await?;
        let volume = volume.ok_or_else(|| anyhow!("{engine} made volume {full}, but does not know it"))?;
        self.lies(name, &asked, &volume)
    }

    /// Who is asked for a volume, and under which name; none: nobody.
    async fn asked(&self, name: &str) -> Result<Option<Asked>> {
        let (engine, full) = match &self.instance.volumes {
            Volumes::None => return Ok(None),
            Volumes::Podman => ("podman", self.full_name(name).await?),
            Volumes::Docker => ("docker", self.full_name(name).await?),
            Volumes::Table(table) => match table.get(name) {
                Some(VolumePlace::Of(engine, full)) => (engine.word(), full.clone()),
                Some(VolumePlace::Directory(_)) | None => return Ok(None),
            },
        };
        Ok(Some(Asked { engine, full }))
    }

    /// `NAME` for an instance with its own user, `<instance>-NAME` for one that runs as root.
    async fn full_name(&self, name: &str) -> Result<String> {
        let root = match &self.instance.remote {
            None => self.account.uid == 0,
            Some(remote) => remote.sudo || self.logs_in_as_root(remote).await?,
        };
        Ok(if root { format!("{}-{name}", self.instance.name) } else { name.to_owned() })
    }

    async fn logs_in_as_root(&self, remote: &Remote) -> Result<bool> {
        let mut program = Program::new(over_ssh(remote, ["id", "-u"]));
        program.limits = Limits::within(PATIENCE);
        let captured = process::capture(program, self.cancel, MAX_ANSWER).await?;
        judge(remote, &captured.ended)?;
        ensure!(
            captured.ended.ok(),
            "`id -u` failed on {}: {}",
            remote.login(),
            captured.ended.stderr_tail.trim()
        );
        Ok(captured.stdout.trim_ascii() == b"0")
    }

    async fn list(&self) -> Result<Vec<String>> {
        let engine = if self.instance.volumes == Volumes::Podman { "podman" } else { "docker" };
        let answer = self.ask(engine, &["volume", "ls", "--format", "{{.Name}}"]).await?;
        let answer = answer.with_context(|| format!("listing the volumes of {engine}"))?;
        let names = String::from_utf8_lossy(&answer).lines().map(|l| l.trim().to_owned()).collect::<Vec<_>>();
        let prefix = self.full_name("").await?;
        let own = names.iter().filter_map(|name| name.strip_prefix(&prefix));
        Ok(own.filter(|name| valid(name) && !name.starts_with("restic-")).map(str::to_owned).collect())
    }

    async fn inspect(&self, Asked { engine, full }: &Asked) -> Result<Option<Inspected>> {
        if !valid(full) {
            return Ok(None);
        }
        let answer = match self.ask(engine, &["volume", "inspect", full]).await? {
            Ok(answer) => answer,
            Err(error) if error.to_string().to_lowercase().contains("no such volume") => return Ok(None),
            Err(error) => return Err(error.context(format!("asking {engine} for volume {full}"))),
        };
        let mut list: Vec<Inspected> = serde_json::from_slice(&answer)
            .with_context(|| format!("reading what `{engine} volume inspect {full}` printed"))?;
        if list.len() != 1 {
            bail!("`{engine} volume inspect {full}` described {} volumes instead of one", list.len());
        }
        Ok(list.pop())
    }

    /// Runs an engine. The outer error: it could not be run; the inner one: it failed, with its own words.
    async fn ask(&self, engine: &str, arguments: &[&str]) -> Result<Result<Vec<u8>>> {
        let mut program = self.program(engine, arguments.iter().map(Into::into).collect());
        program.limits = Limits::within(PATIENCE);
        let shown = arguments.join(" ");
        let captured = process::capture(program, self.cancel, MAX_ANSWER).await;
        let captured = captured.with_context(|| format!("running `{engine} {shown}`"))?;
        if let Some(remote) = &self.instance.remote {
            judge(remote, &captured.ended)
                .with_context(|| format!("running `{engine} {shown}` on {}", remote.login()))?;
        }
        if captured.ended.ok() {
            return Ok(Ok(captured.stdout));
        }
        let said = captured.ended.stderr_tail.trim();
        let how = captured
            .ended
            .stopped
            .map_or_else(|| format!("{:?}", captured.ended.how), |why| format!("{why:?}"));
        Ok(Err(anyhow!("`{engine} {shown}` failed ({how}): {said}")))
    }

    /// An engine: of the instance's other machine, if it is on one.
    fn program(&self, engine: &str, arguments: Vec<OsString>) -> Program {
        if let Some(remote) = &self.instance.remote {
            let argv = std::iter::once(OsString::from(engine)).chain(arguments);
            return Program::new(over_ssh(remote, sudo(remote, None, argv)));
        }
        let user = (engine == "podman").then_some(self.account);
        let mut program = engine_program(engine, user, arguments);
        program.env.push(("PATH".into(), self.path()));
        program
    }

    /// Our own tools, then our own search path; never a directory of the instance.
    fn path(&self) -> OsString {
        let mut path = self.tools.as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_else(|| super::hooks::SYSTEM_PATH.into()));
        path
    }

    fn lies(&self, name: &str, Asked { engine, full }: &Asked, volume: &Inspected) -> Result<Lies> {
        if let Some(remote) = &self.instance.remote {
            return lies_there(name, engine, remote, volume).map(Lies::There);
        }
        if let Reach::Here(place) = volume.reach() {
            return self.real(name, engine, place).map(Lies::Here);
        }
        ensure!(
            rustix::process::geteuid().is_root(),
            "the data of volume {name:?} comes through {engine} only, and only root keeps its owners; run holdfastd as root"
        );
        Ok(Lies::Held(Held {
            engine: (*engine).to_owned(),
            user: (*engine == "podman").then(|| self.account.name.clone()),
            instance: self.instance.name.to_string(),
            name: name.to_owned(),
            volume: full.clone(),
            in_memory: volume.is_in_memory(),
        }))
    }

    /// A directory without links. What an instance's own user tells us about its volumes may only be what is its own:
    /// otherwise it could have us read, and later overwrite, any directory of the machine.
    fn real(&self, name: &str, engine: &str, mountpoint: &Path) -> Result<PathBuf> {
        let dir = walk::open(mountpoint).with_context(|| format!("volume {name:?}"))?;
        let shown = mountpoint.display();
        let dir =
            dir.ok_or_else(|| anyhow!("volume {name:?} should lie at {shown}, but there is no directory"))?;
        let told_by_user = engine == "podman" && self.account.uid != 0;
        if told_by_user {
            let parent = dir.real.parent().map(walk::open).transpose()?.flatten();
            let owner = parent.map(|p| p.stat()).transpose()?.map(|s| s.st_uid);
            if owner != Some(self.account.uid) {
                bail!(
                    "volume {name:?} should lie at {shown}, which is not in a directory of user {}",
                    self.account.name
                );
            }
        }
        Ok(dir.real)
    }
}

/// Where a volume lies on another machine. It is mirrored from there, so it must lie in a directory at any time.
fn lies_there(name: &str, engine: &str, remote: &Remote, volume: &Inspected) -> Result<PathBuf> {
    let login = remote.login();
    let Reach::Here(place) = volume.reach() else {
        bail!(
            "volume {name:?} on {login} is there only while a container uses it, or is kept by another driver: only volumes \
             of {engine}'s local driver without a device are mirrored from another machine; save it with a dump \
             (source = \"command\") there"
        );
    };
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::RootDir);
    let sound = place.is_absolute() && place.parent().is_some() && place.components().all(plain);
    let text = place.to_str().filter(|text| sound && !text.contains(['\n', '\0']));
    ensure!(text.is_some(), "{engine} on {login} says that volume {name:?} lies at {}", place.display());
    Ok(place.to_owned())
}

/// Names that both engines accept; nothing else is ever passed to them.
fn valid(name: &str) -> bool {
    let fits = |b: &u8| b.is_ascii_alphanumeric() || b"_.-".contains(b);
    name.as_bytes().iter().all(fits) && name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
}

fn in_memory(name: &str, volume: &Inspected) -> Option<String> {
    volume.is_in_memory().then(|| {
        format!(
            "volume {name:?} is in memory: its data is gone when the last container that uses it stops; let one run meanwhile \
             (stop = \"never\")"
        )
    })
}

/// The volumes, of those that `volume inspect` described, that are not to be read at their mountpoint: their names.
///
/// # Errors
/// It is no such description.
pub fn not_at_their_mountpoints(described: &[u8]) -> Result<BTreeSet<String>> {
    let all: Vec<Inspected> =
        serde_json::from_slice(described).context("reading what `volume inspect` printed")?;
    let elsewhere = all.into_iter().filter(|volume| volume.reach() != Reach::Here(&volume.mountpoint));
    Ok(elsewhere.map(|volume| volume.name).collect())
}

/// The volumes that an include names, from the first component below `volumes/`.
pub(super) fn wanted_by(step: Option<&super::include::Step>, wanted: &mut Wanted) {
    match step {
        Some(super::include::Step::Name(name)) => {
            if let Some(name) = std::ffi::OsStr::from_bytes(name).to_str() {
                wanted.names.push(name.to_owned());
            }
        }
        Some(super::include::Step::Glob(_)) | None => wanted.all = true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_volumes_name_is_passed_to_an_engine() {
        for bad in ["", "-f", "--all", "a/b", "a b", "..", ".x", "a\n", "ä"] {
            assert!(!valid(bad), "{bad:?} was taken");
        }
        assert!(valid("dokuwiki-data") && valid("a.b_c-1"));
    }
}
