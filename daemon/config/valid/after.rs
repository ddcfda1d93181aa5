//! `after`: which backup follows which, and that nobody follows itself.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::super::diagnostic::{Diagnostic, Source};
use super::super::parse::Kind;
use super::super::value::nearest;
use super::link::{Broken, Linked};
use crate::definition::{Backup, Name};

/// Where the `after` of a backup stands.
pub(super) struct Place {
    pub(super) source: Arc<Source>,
    pub(super) span: Range<usize>,
}

/// Refuses backups that follow one that nobody defines, or in the end themselves.
///
/// `before` is what stays active in place of a definition that cannot be used: a cycle may run through it.
pub(super) fn follow(
    linked: &Linked,
    places: &BTreeMap<Name, Place>,
    good: &mut BTreeMap<Name, Result<Backup, String>>,
    before: Option<&BTreeMap<Name, Arc<Backup>>>,
    found: &mut Vec<Diagnostic>,
) {
    let mut followed: BTreeMap<Name, Name> = BTreeMap::new();
    for (name, backup) in before.into_iter().flatten() {
        followed.extend(backup.after.clone().map(|after| (name.clone(), after)));
    }
    for (name, backup) in good.iter().filter_map(|(name, result)| Some((name, result.as_ref().ok()?))) {
        match &backup.after {
            Some(after) => drop(followed.insert(name.clone(), after.clone())),
            None => drop(followed.remove(name)),
        }
    }
    for (name, place) in places {
        let Some(Ok(Backup { after: Some(after), .. })) = good.get(name) else { continue };
        if let Some(diagnostic) = wrong(linked, &followed, name, after, place) {
            good.insert(name.clone(), Err(diagnostic.to_string()));
            found.push(diagnostic);
        }
    }
}

fn wrong(
    linked: &Linked,
    followed: &BTreeMap<Name, Name>,
    name: &Name,
    after: &Name,
    place: &Place,
) -> Option<Diagnostic> {
    if let Some(chain) = cycle(followed, name) {
        let message = format!("backups wait for each other: {chain}");
        let help = "give one of them a schedule instead".to_owned();
        return Some(place.source.error(&place.span, &message, Some(help)));
    }
    if linked.defines(Kind::Backup, after) {
        return None;
    }
    let Broken::Undefined(what) = linked.missing(Kind::Backup, after) else { return None };
    let known: Vec<&str> = what.known.iter().map(|name| &**name).collect();
    let help = nearest(after, &known)
        .map_or("define it, or give a schedule instead".to_owned(), |near| format!("did you mean `{near}`?"));
    what.certain.then(|| place.source.error(&place.span, &what.message, Some(help)))
}

/// `a after b after a`, when following leads back to `name`.
fn cycle(followed: &BTreeMap<Name, Name>, name: &Name) -> Option<String> {
    let mut chain = vec![name];
    while let Some(next) = followed.get(chain[chain.len() - 1]) {
        if next == name {
            let names: Vec<&str> = chain.iter().copied().chain([next]).map(Name::as_str).collect();
            return Some(names.join(" after "));
        }
        if chain.contains(&next) {
            return None;
        }
        chain.push(next);
    }
    None
}
