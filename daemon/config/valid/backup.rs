//! A backup's table to a backup.

use std::collections::BTreeSet;
use std::time::Duration;

use toml::Spanned;

use super::super::diagnostic::Diagnostic;
use super::super::parse::Kind;
use super::super::raw::{Entry, RawBackup, RawRetry};
use super::super::value::{Reader, UserName, nearest};
use super::link::{Broken, Linked};
use crate::calendar::{Window, cover_the_week};
use crate::definition::{Allow, Backup, Name, Retry, Selector};

/// Notes keys that a backup cannot do without.
pub(super) fn required(entry: &Entry<RawBackup>, reader: &mut Reader<'_>) {
    let mut need = |missing: bool, key: &str, help: &str| {
        if missing && entry.sound {
            reader.error(
                &entry.span,
                format!("the backup `{}` needs `{key}`", entry.name),
                Some(help.into()),
            );
        }
    };
    let RawBackup { repositories, instances, .. } = &entry.raw;
    need(repositories.is_none(), "repositories", "write repositories = [\"NAME\"]");
    need(instances.is_none(), "instances", "write instances = [\"NAME\"], or [\"*\"] for all");
    for (empty, span) in [
        (
            repositories.as_ref().is_some_and(|r| r.get_ref().is_empty()),
            repositories.as_ref().map(Spanned::span),
        ),
        (instances.as_ref().is_some_and(|i| i.get_ref().is_empty()), instances.as_ref().map(Spanned::span)),
    ] {
        if let (true, Some(span)) = (empty, span) {
            reader.error(&span, "the list is empty", Some("name at least one".into()));
        }
    }
    timing(&entry.raw, reader);
}

/// What contradicts itself in when a backup runs.
fn timing(raw: &RawBackup, reader: &mut Reader<'_>) {
    if let (Some(after), Some(_)) = (&raw.after, &raw.schedule) {
        let help = "leave one of the two out: it runs by its own schedule, or after the other backup";
        reader.error(&after.span(), "`after` and `schedule` exclude each other", Some(help.into()));
    }
    if let Some(blackout) = raw.blackout.as_ref().filter(|_| cover_the_week(&windows(raw.blackout.as_ref())))
    {
        let help = "leave some time of the week free, or write enabled = false";
        reader.error(&blackout.span(), "`blackout` leaves no time to run", Some(help.into()));
    }
}

/// The backup with its references followed; otherwise why not.
pub(super) fn backup(
    entry: &Entry<RawBackup>,
    linked: &Linked,
    found: &mut Vec<Diagnostic>,
) -> Result<Backup, String> {
    let RawBackup {
        repositories,
        schedule,
        after,
        before,
        retention,
        instances,
        enabled,
        catch_up,
        random_delay,
        blackout,
        priority,
        max_duration,
        retry,
        allow_users,
        allow_groups,
    } = &entry.raw;
    let given = |flag: &Option<Spanned<bool>>| flag.as_ref().is_none_or(|flag| *flag.get_ref());
    let repositories = repositories.as_ref().map_or(&[][..], |list| list.get_ref());
    let selectors = instances.as_ref().map_or(&[][..], |list| list.get_ref());
    let broken = [
        follow_repositories(entry, repositories, linked, found),
        follow_instances(entry, selectors, linked, found),
    ];
    if let Some(reason) = broken.into_iter().flatten().next() {
        return Err(reason);
    }
    Ok(Backup {
        name: entry.name.clone(),
        repositories: repositories.iter().map(|name| name.get_ref().clone()).collect(),
        schedule: schedule.as_ref().map(|schedule| schedule.get_ref().clone()),
        after: after.as_ref().map(|after| after.get_ref().clone()),
        before_new_version: before.is_some(),
        retention: retention.as_ref().map(|retention| retention.get_ref().clone()),
        instances: selectors.iter().map(|selector| selector.get_ref().clone()).collect(),
        enabled: given(enabled),
        catch_up: given(catch_up),
        random_delay: random_delay.as_ref().map_or(Duration::ZERO, |delay| delay.get_ref().0),
        blackout: windows(blackout.as_ref()),
        priority: priority.as_ref().map_or(0, |priority| priority.get_ref().0),
        max_duration: max_duration.as_ref().map(|limit| limit.get_ref().0),
        retry: retry_of(retry.as_ref().map(Spanned::get_ref)),
        allow: Allow { users: names_of(allow_users.as_ref()), groups: names_of(allow_groups.as_ref()) },
    })
}

fn windows(raw: Option<&Spanned<Vec<Spanned<Window>>>>) -> Vec<Window> {
    raw.map_or(&[][..], |list| list.get_ref()).iter().map(|window| window.get_ref().clone()).collect()
}

/// Names of users or groups; none given: nobody.
pub(super) fn names_of(list: Option<&Spanned<Vec<Spanned<UserName>>>>) -> Vec<String> {
    list.map_or(&[][..], |list| list.get_ref()).iter().map(|name| name.get_ref().0.clone()).collect()
}

fn retry_of(raw: Option<&RawRetry>) -> Retry {
    let (attempts, delay) = raw.map_or((&None, &None), |RawRetry { attempts, delay }| (attempts, delay));
    Retry {
        attempts: attempts.as_ref().map_or(2, |attempts| *attempts.get_ref()),
        delay: delay.as_ref().map_or(Duration::from_secs(15 * 60), |delay| delay.get_ref().0),
    }
}

/// Why the backup cannot be used, if one of its repositories is not there.
fn follow_repositories(
    entry: &Entry<RawBackup>,
    names: &[Spanned<Name>],
    linked: &Linked,
    found: &mut Vec<Diagnostic>,
) -> Option<String> {
    let mut seen = BTreeSet::new();
    let mut reason = None;
    for name in names {
        if !seen.insert(name.get_ref()) {
            let message = format!("the repository `{}` is listed twice", name.get_ref());
            found.push(entry.source.error(&name.span(), &message, Some("list it once".into())));
            reason.get_or_insert(message);
        } else if !linked.repositories.contains_key(name.get_ref()) {
            let broken = linked.missing(Kind::Repository, name.get_ref());
            reason.get_or_insert(report(
                entry,
                name,
                &broken,
                "define [repository.NAME], or remove it here",
                found,
            ));
        }
    }
    reason
}

/// Why the backup cannot be used, if it names an instance or module that nobody defines.
///
/// An instance whose definition is only unusable, or may stand in a file that cannot be read, does not stop the backup of the others: see
/// [`Loaded::unusable_instances_of`](super::super::Loaded::unusable_instances_of).
fn follow_instances(
    entry: &Entry<RawBackup>,
    selectors: &[Spanned<Selector>],
    linked: &Linked,
    found: &mut Vec<Diagnostic>,
) -> Option<String> {
    let mut reason = None;
    for selector in selectors {
        let (kind, name) = match selector.get_ref() {
            Selector::All | Selector::Compose(_) => continue,
            Selector::Instance(name) if linked.instances.contains_key(name) => continue,
            Selector::Instance(name) => (Kind::Instance, name),
            Selector::Module(name) if linked.modules.contains(name) => continue,
            Selector::Module(name) => (Kind::Module, name),
        };
        let broken = linked.missing(kind, name);
        if let Broken::Undefined(what) = &broken {
            let name = Spanned::new(selector.span(), name.clone());
            let said = report(entry, &name, &broken, "define it, or remove it here", found);
            reason = reason.or(what.certain.then_some(said));
        }
    }
    reason
}

fn report(
    entry: &Entry<RawBackup>,
    name: &Spanned<Name>,
    broken: &Broken,
    way: &str,
    found: &mut Vec<Diagnostic>,
) -> String {
    match broken {
        Broken::Unusable(reason) => reason.clone(),
        Broken::Undefined(what) => {
            let known: Vec<&str> = what.known.iter().map(|name| &**name).collect();
            let help = nearest(name.get_ref(), &known)
                .map_or(way.to_owned(), |near| format!("did you mean `{near}`?"));
            let diagnostic = entry.source.error(&name.span(), &what.message, Some(help));
            let reason = diagnostic.to_string();
            found.push(diagnostic);
            reason
        }
    }
}
