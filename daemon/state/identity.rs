//! Who an instance is: a uuid in a file, for a name may be given to another installation.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};
use uuid::Uuid;

use super::durable;
use crate::definition::Name;

/// The identity of an instance, read from the file `instances/NAME` below the state directory `dir`.
///
/// Where there is none it is made once: `suggested` (a definition's or a request's own uuid) or a random one. An existing
/// file wins over the suggestion. Blocks for as long as the disk takes.
///
/// # Errors
/// A damaged file: never silently a new identity, for then the instance's old sets would be lost to it. The disk's.
pub fn identity(dir: &Path, name: &Name, suggested: Option<Uuid>) -> Result<Uuid> {
    let dir = dir.join("instances");
    let path = dir.join(name.as_str());
    if let Some(known) = read(&path)? {
        return Ok(known);
    }
    durable::create_dir(&dir, 0o700)?;
    let uuid = suggested.unwrap_or_else(Uuid::new_v4);
    if durable::write_new(&path, 0o600, format!("{uuid}\n").as_bytes())? {
        return Ok(uuid);
    }
    read(&path)?.with_context(|| format!("{} was removed while it was being read", path.display()))
}

fn read(path: &Path) -> Result<Option<Uuid>> {
    let mut text = Vec::new();
    match File::open(path).and_then(|file| file.take(1024).read_to_end(&mut text)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.with_context(|| format!("reading the identity in {}", path.display()))?,
    };
    let uuid = std::str::from_utf8(&text).ok().and_then(|text| Uuid::try_parse(text.trim()).ok());
    match uuid {
        Some(uuid) if !uuid.is_nil() => Ok(Some(uuid)),
        _ => bail!(
            "{} holds no identity: put the instance's uuid into it again (its snapshots carry it as the tag uuid=…), \
             or remove the file to begin a new identity that does not see the old sets",
            path.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn name() -> Name {
        Name::parse("dokuwiki1").unwrap()
    }

    #[test]
    fn an_identity_stays_and_wins_over_a_suggestion() {
        let dir = tempfile::tempdir().unwrap();
        let first = identity(dir.path(), &name(), None).unwrap();
        assert_eq!(identity(dir.path(), &name(), Some(Uuid::new_v4())).unwrap(), first);
        let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("instances"), mode("instances/dokuwiki1")), (0o700, 0o600));
    }

    #[test]
    fn a_suggestion_is_taken_where_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let suggested = Uuid::new_v4();
        assert_eq!(identity(dir.path(), &name(), Some(suggested)).unwrap(), suggested);
        assert_eq!(identity(dir.path(), &name(), None).unwrap(), suggested);
    }

    #[test]
    fn a_damaged_identity_is_refused_with_advice_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("instances/dokuwiki1");
        fs::create_dir(dir.path().join("instances")).unwrap();
        let nil = Uuid::nil().to_string();
        for damaged in ["", "\n", "nonsense", "\u{0}\u{0}", "3f9a2c", nil.as_str(), &"x".repeat(5000)] {
            fs::write(&path, damaged).unwrap();
            let error = format!("{:#}", identity(dir.path(), &name(), Some(Uuid::new_v4())).unwrap_err());
            assert!(error.contains("instances/dokuwiki1") && error.contains("remove the file"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
        }
    }

    #[test]
    fn many_who_ask_at_once_are_told_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let ask = || identity(dir.path(), &name(), None).unwrap();
        let told: Vec<Uuid> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(told.iter().all(|uuid| *uuid == told[0]), "{told:?}");
    }
}
