//! Options of single calls, as `control` takes them.

use std::path::{Component, PathBuf};

use super::argument::{self, shown};
use super::authorise::Action;
use super::error::{Error, Result};
use super::options::{Given, Options};
use crate::control::{Database, Edited, ImportOptions, JobQuery, RecoverOptions, RestoreOptions};
use crate::definition::Owners;
use crate::state::{Kind, Outcome};

/// What is said where a time is expected.
const TIME: &str = "a time (t, microseconds since the epoch)";

/// Options of `RunBackup`: the instances that it is narrowed to.
pub(super) fn run(given: Given) -> Result<Option<Vec<String>>> {
    let instances = Options::of(given, &["instances"], &[])?.texts("instances")?;
    for instance in instances.iter().flatten() {
        argument::name("instance", instance)?;
    }
    Ok(instances)
}

/// Options of `Recover`.
pub(super) fn recover(given: Given) -> Result<RecoverOptions> {
    let mut options = Options::of(given, &["save_failed", "start", "acknowledge"], &[])?;
    Ok(RecoverOptions {
        save_failed: options.choice("save_failed")?,
        no_start: options.choice("start")? == Some(false),
        acknowledge: options.flag("acknowledge")?,
    })
}

/// What a `Restore` or `Plan` needs: more than the usual where it is of something, or goes somewhere, that no definition
/// names, for only those who may define choose that.
pub(super) fn action(subject: &str, given: &Given, usual: Action) -> Action {
    let beyond = subject.contains(':')
        || ["target", "as", "map", "create_user"].iter().any(|key| given.contains_key(*key));
    if beyond { Action::Manage } else { usual }
}

/// Options of `Restore` and `Plan`.
pub(super) fn restore(given: Given) -> Result<RestoreOptions> {
    let known = [
        "repository",
        "before",
        "include",
        "database",
        "dump",
        "target",
        "as",
        "map",
        "stop",
        "start",
        "force_foreign",
        "force_version",
        "create_user",
        "owners",
        "setuid",
        "devices",
    ];
    let mut options = Options::of(given, &known, &[])?;
    let repository = options.text("repository")?;
    if let Some(repository) = &repository {
        argument::name("repository", repository)?;
    }
    let new_name = options.text("as")?;
    if let Some(name) = &new_name {
        argument::name("instance", name)?;
    }
    let before = options.number("before", TIME)?;
    let map = options.texts("map")?.unwrap_or_default();
    Ok(RestoreOptions {
        new_name,
        map: map.iter().map(|pair| moved(pair)).collect::<Result<_>>()?,
        repository,
        before: before.map(|at| argument::time("before", at)).transpose()?,
        include: options.texts("include")?.unwrap_or_default(),
        databases: options
            .texts("database")?
            .unwrap_or_default()
            .iter()
            .map(|text| database(text))
            .collect::<Result<_>>()?,
        dumps: edited(&mut options)?,
        target: options.text("target")?.map(target).transpose()?,
        force_foreign: options.flag("force_foreign")?,
        force_version: options.flag("force_version")?,
        create_user: options.flag("create_user")?,
        no_stop: options.choice("stop")? == Some(false),
        no_start: options.choice("start")? == Some(false),
        owners: word(&mut options, "owners", Owners::WORDS.iter().map(|(word, _)| *word))?
            .and_then(|word| Owners::of_word(&word)),
        setuid: options.choice("setuid")?,
        devices: options.choice("devices")?,
    })
}

/// Options of `Import`.
pub(super) fn import(given: Given) -> Result<ImportOptions> {
    let known = ["repository", "map", "exclude", "time", "version", "standing"];
    let mut options = Options::of(given, &known, &[])?;
    let repository = options.text("repository")?;
    if let Some(repository) = &repository {
        argument::name("repository", repository)?;
    }
    let pair = |pair: &String| match pair.split_once('=') {
        Some((from, to)) => Ok((from.to_owned(), to.to_owned())),
        None => Err(Error::argument(format!("map {} is not FROM=TO", shown(pair)))),
    };
    let time = options.number("time", TIME)?;
    Ok(ImportOptions {
        repository,
        map: options.texts("map")?.unwrap_or_default().iter().map(pair).collect::<Result<_>>()?,
        exclude: options.texts("exclude")?.unwrap_or_default(),
        time: time.map(|at| argument::time("time", at)).transpose()?,
        version: options.text("version")?,
        standing: word(&mut options, "standing", ["restored", "failed"].into_iter())?,
    })
}

/// `{NAME: file}`: files that the caller opened.
fn edited(options: &mut Options) -> Result<Vec<Edited>> {
    let mut all = Vec::new();
    for (name, file) in options.files("dump")? {
        all.push(Edited::new(name, file).map_err(|failure| Error::argument(format!("{failure:#}")))?);
    }
    Ok(all)
}

/// `NAME`, or `NEW=OLD`: the saved database OLD under the name NEW.
fn database(text: &str) -> Result<Database> {
    Database::parse(text).map_err(Error::argument)
}

/// `FROM=TO`, two absolute paths.
fn moved(pair: &str) -> Result<(PathBuf, PathBuf)> {
    let plain = |text: &str| {
        let path = PathBuf::from(text);
        let good = path.is_absolute() && path.parent().is_some();
        (good && !path.components().any(|c| c == Component::ParentDir)).then_some(path)
    };
    let found = pair.split_once('=').and_then(|(from, to)| Some((plain(from)?, plain(to)?)));
    found.ok_or_else(|| {
        Error::argument(format!("map {} is not FROM=TO with two absolute paths without '..'", shown(pair)))
    })
}

/// A directory to restore into: absolute, without `..`.
fn target(text: String) -> Result<PathBuf> {
    let path = PathBuf::from(text);
    if path.is_absolute() && !path.components().any(|c| c == Component::ParentDir) {
        return Ok(path);
    }
    let text = path.to_string_lossy();
    Err(Error::argument(format!("the target {} is not an absolute path without '..'", shown(&text))))
}

/// The filter of `ListJobs`.
pub(super) fn jobs(given: Given) -> Result<JobQuery> {
    let known = ["kind", "subject", "instance", "outcome", "since", "limit"];
    let mut options = Options::of(given, &known, &[])?;
    let since = options.number("since", TIME)?;
    let limit = options.number("limit", "a number (u)")?.unwrap_or(0);
    Ok(JobQuery {
        kind: word(&mut options, "kind", Kind::ALL.iter().map(|k| k.word()))?,
        subject: options.text("subject")?,
        instance: options.text("instance")?,
        outcome: word(&mut options, "outcome", Outcome::ALL.iter().map(|o| o.word()))?,
        since: since.map(|at| argument::time("since", at)).transpose()?,
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
    })
}

/// A string that is one of some words.
fn word<'a>(
    options: &mut Options,
    key: &str,
    words: impl Iterator<Item = &'a str> + Clone,
) -> Result<Option<String>> {
    let Some(word) = options.text(key)? else { return Ok(None) };
    if words.clone().any(|known| known == word) {
        return Ok(Some(word));
    }
    let words: Vec<&str> = words.collect();
    Err(Error::argument(format!("there is no {key} {}; known are: {}", shown(&word), words.join(", "))))
}

#[cfg(test)]
mod tests {
    use zbus::wire::{OwnedVariant, Variant};

    use super::*;

    fn given<const N: usize>(pairs: [(&str, Variant<'static>); N]) -> Given {
        pairs.into_iter().map(|(k, v)| (k.to_owned(), OwnedVariant::try_from(v).unwrap())).collect()
    }

    #[test]
    fn a_target_is_absolute_and_does_not_climb() {
        for bad in ["relative", "", "/srv/../etc", "./x"] {
            assert!(restore(given([("target", bad.into())])).is_err(), "{bad:?} was taken");
        }
        let taken = restore(given([("target", "/srv/out".into()), ("before", 5_u64.into())])).unwrap();
        assert!(!taken.no_stop && !taken.no_start);
        let told = restore(given([("stop", false.into()), ("start", true.into())])).unwrap();
        assert!(told.no_stop && !told.no_start);
        assert_eq!(taken.target.unwrap().to_str(), Some("/srv/out"));
        assert_eq!(taken.before.unwrap().as_microsecond(), 5);
    }

    #[test]
    fn a_new_name_is_a_name_and_a_map_has_two_absolute_paths() {
        let map = |pair: &str| restore(given([("map", vec![pair.to_owned()].into())]));
        for bad in ["/a", "/a=b", "a=/b", "/a=/../b", "/=/x", ""] {
            assert!(map(bad).is_err(), "{bad:?} was taken");
        }
        assert_eq!(map("/a=/b/c").unwrap().map, [("/a".into(), "/b/c".into())]);
        assert!(restore(given([("as", "../x".into())])).is_err());
        assert_eq!(restore(given([("as", "x2".into())])).unwrap().new_name.as_deref(), Some("x2"));
    }

    #[test]
    fn a_filter_names_kinds_and_outcomes_that_exist() {
        let Err(Error::InvalidArgument(message)) = jobs(given([("outcome", "ok".into())])) else {
            panic!("taken")
        };
        assert!(message.contains("succeeded"), "{message}");
        let query = jobs(given([("kind", "backup".into()), ("limit", 5_u32.into())])).unwrap();
        assert_eq!((query.kind.as_deref(), query.limit), (Some("backup"), 5));
    }

    #[test]
    fn instances_of_a_run_are_names() {
        let list = |name: &str| given([("instances", vec![name.to_owned()].into())]);
        assert!(run(list("../x")).is_err());
        assert_eq!(run(list("a1")).unwrap().unwrap(), ["a1"]);
    }
}
