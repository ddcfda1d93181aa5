//! The verb that imports.

use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, OFlags};

use super::run::ticket;
use super::{Control, Error, ErrorKind, ImportOptions, Result};
use crate::definition::{Instance, Repository};
use crate::job::import::{self, Part, Standing, Wishes};
use crate::state::Kind;

impl Control {
    /// Starts an import of what the caller opened: a file, the end of a pipe, or a directory of MicroShift.
    ///
    /// # Errors
    /// The instance or the repository is not defined, an option is malformed, what was opened cannot be read. Nothing
    /// was started then.
    pub async fn import(
        &self,
        name: &str,
        called: String,
        data: OwnedFd,
        options: ImportOptions,
        cause: &str,
    ) -> Result<String> {
        let instance = self.known_instance(name)?;
        readable(&data)?;
        let request = import::Request {
            definitions: self.definitions(),
            uuid: self.identity_of(&instance).await?,
            repository: self.repository_for(&instance, options.repository.as_deref())?,
            instance,
            data,
            name: called,
            wishes: wishes(options)?,
        };
        let context = self.0.context.clone();
        let work = |live| import::run(context, live, request);
        Ok(self.0.jobs.start(ticket(Kind::Import, name, cause), work).await?)
    }

    /// The one that was named, the first of the backups that cover the instance, or the only one that there is.
    fn repository_for(&self, instance: &Instance, named: Option<&str>) -> Result<Arc<Repository>> {
        if let Some(name) = named {
            return self.known_repository(name);
        }
        let definitions = self.definitions();
        let covers =
            |backup: &&Arc<crate::definition::Backup>| backup.instances.iter().any(|s| s.matches(instance));
        let first = definitions.backups.values().find(covers).and_then(|backup| backup.repositories.first());
        let only = definitions.repositories.values().next().filter(|_| definitions.repositories.len() == 1);
        let found = first.and_then(|name| definitions.repositories.get(name)).or(only);
        found.cloned().ok_or_else(|| {
            let text = format!("no backup covers {}, so say which repository the set is for", instance.name);
            Error::new(ErrorKind::InvalidArgument, text)
        })
    }
}

fn bad(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, text)
}

/// What comes must be open for reading, and of a kind that ends.
fn readable(data: &OwnedFd) -> Result<()> {
    let stat = rustix::fs::fstat(data)
        .map_err(|error| bad(format!("what was opened cannot be looked at: {error}")))?;
    let flags = rustix::fs::fcntl_getfl(data).map_err(|error| bad(format!("what was opened: {error}")))?;
    let writes_only = flags.contains(OFlags::WRONLY) || flags.contains(OFlags::PATH);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Fifo | FileType::Directory | FileType::Socket if !writes_only => {
            Ok(())
        }
        _ => Err(bad("open a file, a directory or the end of a pipe for reading")),
    }
}

fn wishes(options: ImportOptions) -> Result<Wishes> {
    let pair = |(from, to): (String, String)| Ok((part(&from, true)?, place(&to)?));
    Ok(Wishes {
        map: options.map.into_iter().map(pair).collect::<Result<_>>()?,
        exclude: options.exclude.iter().map(|from| part(from, false)).collect::<Result<_>>()?,
        time: options.time,
        version: options.version,
        standing: match options.standing.as_deref() {
            Some("restored") => Some(Standing::Restored),
            Some("failed") => Some(Standing::Failed),
            _ => None,
        },
    })
}

/// A path in an archive, without what means nothing. An absolute one stays so where the tree decides what it means.
fn part(text: &str, absolute: bool) -> Result<Part> {
    let mut clean = PathBuf::new();
    for component in Path::new(text).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::RootDir if absolute => clean.push("/"),
            Component::RootDir | Component::CurDir => {}
            _ => return Err(bad(format!("{text:?} climbs with '..': name a path of the archive"))),
        }
    }
    if text.is_empty() || (!absolute && clean.as_os_str().is_empty()) {
        return Err(bad(format!("{text:?} names no part of the archive")));
    }
    Ok(Part(clean))
}

/// `state/…`, `volumes/NAME[/…]` or an absolute path, as a path of the tree.
fn place(text: &str) -> Result<PathBuf> {
    let path = Path::new(text);
    let wrong = || bad(format!("{text:?} is no place: write state/…, volumes/NAME/… or an absolute path"));
    let below = match path.strip_prefix("/") {
        Ok(below) if below.as_os_str().is_empty() => return Err(wrong()),
        Ok(below) => Path::new("files").join(below),
        Err(_) => path.to_owned(),
    };
    let names: Vec<_> = below.components().collect();
    let plain = names.iter().all(|name| matches!(name, Component::Normal(_)));
    let rooted = match names.first().and_then(|first| first.as_os_str().to_str()) {
        Some("files") => path.is_absolute(),
        Some("state") => true,
        Some("volumes") => names.len() > 1,
        _ => false,
    };
    if plain && rooted { Ok(below.components().collect()) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_path_of_a_tree() {
        for bad in ["", "/", "x", "files/x", "volumes", "../x", "/a/../b", "dumps/x"] {
            assert!(place(bad).is_err(), "{bad:?} was taken");
        }
        assert_eq!(place("/srv//data/").unwrap(), Path::new("files/srv/data"));
        assert_eq!(place("volumes/data/x").unwrap(), Path::new("volumes/data/x"));
    }

    #[test]
    fn a_part_of_an_archive_does_not_climb() {
        for bad in ["", "..", "a/../b"] {
            assert!(part(bad, true).is_err(), "{bad:?} was taken");
        }
        assert!(part(".", false).is_err());
        assert_eq!(part("./a/./b/", true).unwrap().0, Path::new("a/b"));
        assert_eq!(part(".", true).unwrap().0, Path::new(""));
        assert_eq!((part("/a", true).unwrap().0, part("/a", false).unwrap().0), ("/a".into(), "a".into()));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let writes = std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap();
        let device = std::fs::File::open("/dev/zero").unwrap();
        let path = rustix::fs::open("/", OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
        assert!(
            readable(&writes.into()).is_err()
                && readable(&device.into()).is_err()
                && readable(&path).is_err()
        );
        assert!(readable(&std::fs::File::open("/").unwrap().into()).is_ok());
    }
}
