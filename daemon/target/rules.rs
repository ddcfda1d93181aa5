//! What rsync is to fetch from another machine: an instance's includes and excludes as its filter rules.
//!
//! rsync goes down from `/` and asks for each name; the first rule that fits decides. So each include needs a rule for every
//! directory above it, and the last rule refuses the rest. Excludes only spare the transfer: what counts is decided when
//! the tree is laid from the mirror. So they are handed over only where rsync surely means the same as restic.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use anyhow::{Result, bail};

use super::Place;
use super::exclude::Excludes;
use super::include::{Include, Root, Step};
use super::pattern::clean;

impl Place {
    /// The text of rsync's filter file for what is to be mirrored; none: nothing of the other machine is included.
    ///
    /// # Errors
    /// An include that rsync cannot be told.
    pub fn rsync_rules(&self) -> Result<Option<Vec<u8>>> {
        let includes = self.includes(&mut Vec::new())?;
        let far: Vec<&Include> = includes.iter().filter(|include| include.root == Root::Files).collect();
        if far.is_empty() {
            return Ok(None);
        }
        let mut rules = excluding(&Excludes::of(self, &mut Vec::new())?.shown(), "/files/");
        for include in far {
            add(&mut rules, including(include, 0)?);
        }
        rules.push(b"- *".to_vec());
        Ok(Some(rules.iter().flat_map(|rule| [rule.as_slice(), b"\n"].concat()).collect()))
    }

    /// rsync's filter rules for what is to be mirrored of a volume, from the volume's own root; none: nothing of it.
    ///
    /// # Errors
    /// An include that rsync cannot be told.
    pub fn volume_rules(&self, name: &str) -> Result<Option<Vec<OsString>>> {
        let fits = |include: &Include| match include.steps.first() {
            None => true,
            Some(Step::Name(wanted)) => wanted == name.as_bytes(),
            Some(Step::Glob(glob)) => glob.matches(name.as_bytes()),
        };
        let includes = self.includes(&mut Vec::new())?;
        let of: Vec<&Include> =
            includes.iter().filter(|include| include.root == Root::Volumes && fits(include)).collect();
        if of.is_empty() {
            return Ok(None);
        }
        let excludes = Excludes::of(self, &mut Vec::new())?.shown();
        let mut rules = excluding(&excludes, &format!("/volumes/{name}/"));
        if of.iter().all(|include| include.steps.len() > 1) {
            for include in of {
                add(&mut rules, including(include, 2)?);
            }
            rules.push(b"- *".to_vec());
        }
        Ok(Some(rules.into_iter().map(OsString::from_vec).collect()))
    }
}

fn add(rules: &mut Vec<Vec<u8>>, more: Vec<Vec<u8>>) {
    for rule in more {
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
}

/// The directories above an include, then itself with all below it. The first `above` names are those of the root.
fn including(include: &Include, above: usize) -> Result<Vec<Vec<u8>>> {
    let mut path = Vec::new();
    let mut rules = Vec::new();
    let names = clean(include.text.as_bytes()).1.into_iter().skip(above).collect::<Vec<_>>();
    for (at, name) in names.iter().enumerate() {
        if name.iter().any(|b| b"\\\n\r\0".contains(b)) || name.windows(2).any(|two| two == b"**") {
            bail!("include {}: rsync cannot be told of it; include the directory above", include.shown());
        }
        path.push(b'/');
        path.extend_from_slice(name);
        let last = at + 1 == names.len();
        let end: &[u8] = if last { b"" } else { b"/" };
        rules.push([b"+ ", path.as_slice(), end].concat());
        if last {
            rules.push([b"+ ", path.as_slice(), b"/**"].concat());
        }
    }
    Ok(rules)
}

/// Rules for excludes, unless one takes something back in: then order is all, and rsync's is another.
fn excluding(patterns: &[String], root: &str) -> Vec<Vec<u8>> {
    if patterns.iter().any(|pattern| pattern.starts_with('!')) {
        return Vec::new();
    }
    let plain = |text: &str| !text.contains(['?', '[', '\\', '\n']) && !text.contains("**");
    let rule = |pattern: &String| {
        let path = match pattern.strip_prefix(root) {
            Some(below) => format!("/{below}"),
            None if pattern.starts_with('/') || pattern.contains('/') => return None,
            None => pattern.clone(),
        };
        plain(&path).then(|| format!("- {path}").into_bytes())
    };
    patterns.iter().filter_map(rule).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn lines(rules: Vec<Vec<u8>>) -> Vec<String> {
        rules.into_iter().map(|rule| String::from_utf8(rule).unwrap()).collect()
    }

    #[test]
    fn each_directory_above_an_include_is_entered() {
        let include = Include::defined("/var/vcap/store*/my data", Path::new("/root")).unwrap();
        assert_eq!(
            lines(including(&include, 0).unwrap()),
            [
                "+ /var/",
                "+ /var/vcap/",
                "+ /var/vcap/store*/",
                "+ /var/vcap/store*/my data",
                "+ /var/vcap/store*/my data/**"
            ]
        );
        let include = Include::defined("/a\\*b", Path::new("/root")).unwrap();
        assert!(including(&include, 0).is_err());
    }

    #[test]
    fn only_excludes_that_mean_the_same_are_handed_over() {
        let of = |patterns: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(|text| (*text).to_owned()).collect();
            lines(excluding(&patterns, "/files/"))
        };
        assert_eq!(
            of(&["*.tmp", "/files/var/log", "/files/var/**/x", "/local/etc", "a/b", "c[1]", "d?"]),
            ["- *.tmp", "- /var/log"]
        );
        assert_eq!(of(&["*.tmp", "!keep.tmp"]), Vec::<String>::new());
    }
}
