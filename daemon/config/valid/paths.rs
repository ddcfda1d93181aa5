//! Includes that hold a repository or the daemon's own state, as far as the text tells. Links are seen only at run time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use globset::GlobBuilder;

use super::super::Environment;
use crate::definition::{Backup, Daemon, Instance, Name, Repository};

/// Where the daemon keeps what must not be in a backup.
fn own(env: &Environment, daemon: &Daemon) -> [PathBuf; 3] {
    [env.state_dir.clone(), env.cache_dir.clone(), daemon.staging_dir.clone()]
}

/// Why an include cannot be: it is the daemon's own state, or lies in what the daemon writes during a backup.
pub(super) fn refused(include: &str, env: &Environment, daemon: &Daemon) -> Option<String> {
    let path = Path::new(include);
    let [state, cache, staging] = own(env, daemon);
    let inside = [&cache, &staging].into_iter().any(|dir| path.starts_with(dir));
    (path == state || inside).then(|| format!("{include:?} is the daemon's own directory"))
}

/// Excludes for the daemon's own state below an include; an absolute one is a path of the machine.
pub(super) fn own_state_below(includes: &[String], env: &Environment, daemon: &Daemon) -> Vec<String> {
    let dirs = own(env, daemon);
    let mut below: Vec<&PathBuf> =
        dirs.iter().filter(|dir| includes.iter().any(|include| covers(include, dir))).collect();
    below.sort();
    below.dedup();
    let outermost =
        below.iter().filter(|dir| !below.iter().any(|other| dir != &other && dir.starts_with(other)));
    outermost.map(|dir| escaped(&dir.to_string_lossy())).collect()
}

/// The path with restic's pattern characters taken literally.
fn escaped(path: &str) -> String {
    path.chars().fold(String::new(), |mut text, c| {
        if "*?[]\\".contains(c) {
            text.push('\\');
        }
        text.push(c);
        text
    })
}

/// Complaints about repositories of a backup that an instance of it includes, and does not exclude.
pub(super) fn swallowed(
    instance: &Instance,
    backup: &Backup,
    repositories: &BTreeMap<Name, Arc<Repository>>,
    env: &Environment,
) -> Vec<String> {
    let mut complaints = Vec::new();
    for repository in backup.repositories.iter().filter_map(|name| repositories.get(name)) {
        let Some(place) = local_path(&repository.url) else { continue };
        let far = instance.remote.is_some();
        let here = instance.include.iter().map(|include| match include.strip_prefix("local:") {
            Some(path) if far => path,
            // A path of another machine holds nothing of this one.
            _ if far => "",
            _ => include.as_str(),
        });
        for include in here.filter(|include| include.starts_with('/')) {
            let inside = Path::new(include).starts_with(&place);
            if inside || (covers(include, &place) && !excluded(instance, &place, env)) {
                complaints.push(format!(
                    "instance `{}` includes {include:?}, which holds the repository `{}` in {}",
                    instance.name,
                    repository.name,
                    place.display()
                ));
            }
        }
    }
    complaints
}

/// The directory of a repository on this machine.
fn local_path(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("local:").unwrap_or(url);
    path.starts_with('/').then(|| Path::new(path).components().collect())
}

/// Whether an exclude names the directory or one above it; `!` after it takes it back in.
fn excluded(instance: &Instance, place: &Path, env: &Environment) -> bool {
    let in_tree = format!("files{}", place.display());
    let mut out = place.starts_with(&env.state_dir)
        && instance.include.iter().any(|include| covers(include, &env.state_dir));
    for pattern in &instance.exclude {
        let (back, pattern) =
            pattern.strip_prefix('!').map_or((false, pattern.as_str()), |pattern| (true, pattern));
        let anchored = format!("/{}", pattern.trim_start_matches('/'));
        if covers(&anchored, Path::new(&format!("/{in_tree}"))) || covers(&anchored, place) {
            out = !back;
        }
    }
    out
}

/// Whether what a pattern names is a path or holds it.
fn covers(pattern: &str, path: &Path) -> bool {
    if !pattern.starts_with('/') {
        return false;
    }
    let mut parts = path.iter().skip(1);
    for wanted in pattern.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if wanted == "**" {
            return true;
        }
        let Some(part) = parts.next() else { return false };
        let same =
            if wanted.contains(['*', '?', '[', '\\']) { matches(wanted, part) } else { part == wanted };
        if !same {
            return false;
        }
    }
    true
}

/// Whether one part of a path fits one part of a pattern.
fn matches(wanted: &str, part: &std::ffi::OsStr) -> bool {
    let glob = GlobBuilder::new(wanted).literal_separator(true).backslash_escape(true).build();
    glob.map_or(part == wanted, |glob| glob.compile_matcher().is_match(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_what_lies_below_it() {
        for (pattern, path) in [
            ("/", "/srv/r"),
            ("/srv", "/srv/r"),
            ("/srv/r/", "/srv/r"),
            ("/s*/r", "/srv/r"),
            ("/**/x", "/srv/r"),
        ] {
            assert!(covers(pattern, Path::new(path)), "{pattern}");
        }
        for (pattern, path) in [
            ("/srv/r/x", "/srv/r"),
            ("/srvx", "/srv/r"),
            ("~/x", "/srv/r"),
            ("/s?/r", "/srv/r"),
            ("/srv/[", "/srv/r"),
        ] {
            assert!(!covers(pattern, Path::new(path)), "{pattern}");
        }
    }
}
