//! Where what lay at one place lies for another instance.

use std::path::{Path, PathBuf};

/// Says of an absolute path where it lies for another instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moves {
    /// A path, with all below it, and where that lies; the longest that fits counts.
    pub given: Vec<(PathBuf, PathBuf)>,
    /// Where nothing is given: a component that is the first name becomes the second.
    pub renamed: Option<(String, String)>,
}

impl Moves {
    /// The new place; none: nothing says where.
    pub fn of(&self, path: &Path) -> Option<PathBuf> {
        let fitting = self.given.iter().filter(|(from, _)| path.starts_with(from));
        if let Some((from, to)) = fitting.max_by_key(|(from, _)| from.components().count()) {
            let rest = path.strip_prefix(from).unwrap_or(Path::new(""));
            return Some(if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) });
        }
        let (old, new) = self.renamed.as_ref()?;
        let is_old = |part: &std::ffi::OsStr| part == old.as_str();
        path.iter().any(is_old).then(|| {
            path.iter().map(|part| if is_old(part) { std::ffi::OsStr::new(new) } else { part }).collect()
        })
    }

    /// The same of a path below the root directory that has lost its slash.
    pub fn below_root(&self, path: &Path) -> PathBuf {
        let moved = self.or_same(&Path::new("/").join(path));
        moved.strip_prefix("/").map(Path::to_owned).unwrap_or(moved)
    }

    /// The new place, or the same where nothing says otherwise.
    pub fn or_same(&self, path: &Path) -> PathBuf {
        self.of(path).unwrap_or_else(|| path.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_counts_before_the_name_and_the_longest_first() {
        let moves = Moves {
            given: vec![("/srv".into(), "/data".into()), ("/srv/app1/deep".into(), "/deep".into())],
            renamed: Some(("app1".into(), "app2".into())),
        };
        let of = |path: &str| moves.of(Path::new(path)).map(|path| path.display().to_string());
        assert_eq!(of("/srv/app1/x").as_deref(), Some("/data/app1/x"));
        assert_eq!(of("/srv/app1/deep").as_deref(), Some("/deep"));
        assert_eq!(of("/srv/app1/deep/y").as_deref(), Some("/deep/y"));
        assert_eq!(of("/home/app1/.config/app1").as_deref(), Some("/home/app2/.config/app2"));
        assert_eq!(of("/home/app11"), None);
        assert_eq!(Moves::default().or_same(Path::new("/a")), Path::new("/a"));
    }
}
