//! A repository's table to a repository.

use std::sync::Arc;

use toml::Spanned;

use super::super::Environment;
use super::super::raw::{Entry, RawCheck, RawPrune, RawRepository};
use super::super::value::{Argv, FilePath, Reader, Switch, UserName};
use crate::calendar::Schedule;
use crate::definition::{Check, Layout, Name, Password, Prune, Repository};

/// A lock that its holder has not renewed for so long is dead for restic (its own rule).
const LEAST_LOCK_AGE: std::time::Duration = std::time::Duration::from_secs(30 * 60);

/// The repository; `None` when a key is missing or contradicts another, which was noted.
pub(super) fn repository(
    entry: &Entry<RawRepository>,
    env: &Environment,
    reader: &mut Reader<'_>,
) -> Option<Repository> {
    let RawRepository {
        url,
        password_file,
        password_credential,
        password_command,
        environment_file,
        layout,
        append_only,
        prune,
        check,
        unlock_foreign_after,
    } = &entry.raw;
    let password = password(&entry.name, password_file, password_credential, password_command, env, reader);
    let append_only_value = append_only.as_ref().is_some_and(|value| *value.get_ref());
    let url = match url {
        Some(url) => url,
        None => {
            if entry.sound {
                let help = "write url = \"/path\", or an address as for `restic -r`";
                reader.error(
                    &entry.span,
                    format!("the repository `{}` needs `url`", entry.name),
                    Some(help.into()),
                );
            }
            return None;
        }
    };
    let repository = Repository {
        name: entry.name.clone(),
        url: url.get_ref().0.clone(),
        password: password?,
        environment_file: environment_file.as_ref().map(|file| file.get_ref().0.clone()),
        layout: layout.as_ref().map_or(Layout::PerInstance, |layout| *layout.get_ref()),
        append_only: append_only_value,
        prune: prune_of(prune.as_ref(), append_only_value, reader)?,
        check: check_of(check.as_ref()),
        unlock_foreign_after: unlock_foreign_after.as_ref().map(|limit| limit.get_ref().0),
    };
    if let Some(age) = unlock_foreign_after.as_ref().filter(|age| age.get_ref().0 < LEAST_LOCK_AGE) {
        let help = "write 30m or more: restic renews the lock of a living process every 5 minutes, and drops none younger";
        reader.error(
            &age.span(),
            "`unlock_foreign_after` is too short to tell a dead lock",
            Some(help.into()),
        );
        return None;
    }
    if reader.source.public && repository.shown_url() != repository.url {
        let help = "chmod 0600 the file, or give the password in `environment_file`";
        reader.warning(
            &url.span(),
            "`url` holds a password, and others can read this file",
            Some(help.into()),
        );
    }
    Some(repository)
}

fn password(
    name: &Name,
    file: &Option<Spanned<FilePath>>,
    credential: &Option<Spanned<UserName>>,
    command: &Option<Spanned<Argv>>,
    env: &Environment,
    reader: &mut Reader<'_>,
) -> Option<Password> {
    let mut ways = Vec::new();
    ways.extend(file.as_ref().map(|file| (file.span(), Password::File(file.get_ref().0.clone()))));
    ways.extend(
        credential.as_ref().map(|name| (name.span(), Password::Credential(name.get_ref().0.clone()))),
    );
    ways.extend(command.as_ref().map(|argv| (argv.span(), Password::Command(argv.get_ref().0.clone()))));
    if let [_, (span, _), ..] = ways.as_slice() {
        let help = "keep one of `password_file`, `password_credential`, `password_command`";
        reader.error(
            span,
            format!("the repository `{name}` gets its password in two ways"),
            Some(help.into()),
        );
        return None;
    }
    Some(ways.pop().map_or_else(|| generated(name, env), |(_, password)| password))
}

/// `None`: refused, which was noted. `Some(None)`: never by itself.
#[expect(clippy::option_option, reason = "the outer one says whether it was refused, as everywhere here")]
fn prune_of(
    given: Option<&Spanned<Switch<RawPrune>>>,
    append_only: bool,
    reader: &mut Reader<'_>,
) -> Option<Option<Prune>> {
    let raw = match given.map(Spanned::get_ref) {
        Some(Switch::Off) => return Some(None),
        None if append_only => return Some(None),
        None => None,
        Some(Switch::On(raw)) => Some(raw),
    };
    if let (true, Some(given)) = (append_only, given) {
        let help = "an append-only repository is never pruned; remove `prune`";
        reader.error(&given.span(), "`prune` and `append_only` contradict each other", Some(help.into()));
        return None;
    }
    let (when, unused) =
        raw.map_or((&None, &None), |RawPrune { schedule, max_unused }| (schedule, max_unused));
    let max_unused = unused.as_ref().map_or_else(|| MAX_UNUSED.into(), |text| text.get_ref().0.clone());
    Some(schedule(when, "weekly").map(|schedule| Prune { schedule, max_unused }))
}

fn check_of(given: Option<&Spanned<Switch<RawCheck>>>) -> Option<Check> {
    let raw = match given.map(Spanned::get_ref) {
        Some(Switch::Off) => return None,
        Some(Switch::On(raw)) => Some(raw),
        None => None,
    };
    let (when, part) = raw.map_or((&None, &None), |RawCheck { schedule, read_data }| (schedule, read_data));
    let read_data = part.as_ref().map(|text| text.get_ref().0.clone());
    schedule(when, "monthly").map(|schedule| Check { schedule, read_data })
}

fn schedule(given: &Option<Spanned<Schedule>>, default: &str) -> Option<Schedule> {
    given.as_ref().map(|given| given.get_ref().clone()).or_else(|| Schedule::parse(default).ok())
}

/// The repository that is there when none is defined.
pub(super) fn embedded(env: &Environment) -> Option<(Name, Arc<Repository>)> {
    let name = Name::parse("local").ok()?;
    let repository = Repository {
        name: name.clone(),
        url: env.state_dir.join("repository").to_string_lossy().into_owned(),
        password: generated(&name, env),
        environment_file: None,
        layout: Layout::PerInstance,
        append_only: false,
        prune: schedule(&None, "weekly").map(|schedule| Prune { schedule, max_unused: MAX_UNUSED.into() }),
        check: check_of(None),
        unlock_foreign_after: None,
    };
    Some((name, Arc::new(repository)))
}

/// How much unused data may stay by default.
const MAX_UNUSED: &str = "10%";

/// The password that is made when none is given.
fn generated(name: &Name, env: &Environment) -> Password {
    Password::Generated(env.state_dir.join("secrets").join(format!("{name}.password")))
}
