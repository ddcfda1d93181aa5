//! Which paths of a tree an instance's includes hold: for data that comes from elsewhere and was not found by looking.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::exclude::Excludes;
use super::include::{Include, Root, Step};
use super::resolve::Place;

/// The includes of an instance, ready to be compared with paths of a tree.
#[derive(Debug, Clone)]
pub struct Cover {
    includes: Vec<Include>,
}

impl Cover {
    /// Of an instance as it is defined here.
    ///
    /// # Errors
    /// An include that is none.
    pub fn of(place: &Place) -> Result<Self> {
        Ok(Self { includes: place.includes(&mut Vec::new())? })
    }

    /// The include that holds a path of the tree, as a path of the tree; none: no include does.
    pub fn holds(&self, path: &Path) -> Option<PathBuf> {
        let names: Vec<&OsStr> = path.iter().collect();
        let depths = self.includes.iter().filter(|include| fits(include, &names)).map(depth);
        let least = depths.filter(|depth| *depth <= names.len()).min()?;
        Some(names[..least].iter().collect())
    }

    /// Whether an include lies below a path of the tree.
    pub fn reaches_below(&self, path: &Path) -> bool {
        let names: Vec<&OsStr> = path.iter().collect();
        self.includes.iter().any(|include| depth(include) > names.len() && fits(include, &names))
    }

    /// Those that name one path and are no patterns, as paths of the tree.
    pub fn literal(&self) -> Vec<PathBuf> {
        let literal = self.includes.iter().filter(|include| include.literal());
        literal.map(path_of).collect()
    }
}

/// What an instance's backups leave out, as patterns over the tree.
///
/// # Errors
/// A pattern that is none.
pub fn left_out(place: &Place) -> Result<Vec<String>> {
    Ok(Excludes::of(place, &mut Vec::new())?.shown())
}

fn first(root: Root) -> &'static str {
    match root {
        Root::State => "state",
        Root::Volumes => "volumes",
        Root::Files => "files",
        Root::Local => super::resolve::LOCAL,
    }
}

fn depth(include: &Include) -> usize {
    1 + include.steps.len()
}

/// Whether the names are those of the include, as far as both go.
fn fits(include: &Include, names: &[&OsStr]) -> bool {
    let Some((root, rest)) = names.split_first() else { return true };
    *root == first(include.root)
        && include.steps.iter().zip(rest).all(|(step, name)| match step {
            Step::Name(wanted) => wanted == name.as_bytes(),
            Step::Glob(glob) => glob.matches(name.as_bytes()),
        })
}

fn path_of(include: &Include) -> PathBuf {
    let names = include.steps.iter().filter_map(|step| match step {
        Step::Name(name) => Some(OsStr::from_bytes(name)),
        Step::Glob(_) => None,
    });
    std::iter::once(OsStr::new(first(include.root))).chain(names).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cover(texts: &[&str]) -> Cover {
        let includes = texts.iter().map(|text| Include::defined(text, Path::new("/home/u")).unwrap());
        Cover { includes: includes.collect() }
    }

    #[test]
    fn a_path_is_held_by_the_shortest_include_above_it() {
        let cover = cover(&["/srv/data", "/srv/data/deep", "volumes/a*", "state", "~/x"]);
        let holds = |path: &str| cover.holds(Path::new(path)).map(|path| path.display().to_string());
        assert_eq!(holds("files/srv/data/deep/y").as_deref(), Some("files/srv/data"));
        assert_eq!(holds("volumes/abc/d").as_deref(), Some("volumes/abc"));
        assert_eq!(holds("state").as_deref(), Some("state"));
        assert_eq!(holds("files/home/u/x").as_deref(), Some("files/home/u/x"));
        for outside in ["files/srv", "files/srv/data2", "volumes/b", "volumes", "dumps/x", ""] {
            assert_eq!(holds(outside), None, "{outside}");
        }
        assert!(cover.reaches_below(Path::new("files/srv")) && cover.reaches_below(Path::new("volumes")));
        assert!(!cover.reaches_below(Path::new("files/etc")));
        assert_eq!(cover.literal().len(), 4);
    }
}
