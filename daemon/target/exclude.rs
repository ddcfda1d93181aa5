//! What is left out: restic's exclude patterns, matched by ourselves for the targets that we name, and handed to restic
//! for everything below them.
//!
//! restic matches a relative pattern against every run of components of the *absolute* path of an item, so `lib` would
//! leave out all of a tree that is staged in `/var/lib`. The text for restic therefore anchors every pattern in the tree.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::pattern::{Glob, clean, escape};
use super::{Place, include};

/// The longest pattern, in bytes; restic's own limit for a line is 64 KiB.
const MAX_PATTERN: usize = 4096;

/// Exclude patterns in order; a later `!pattern` takes an item back in.
#[derive(Debug, Clone, Default)]
pub struct Excludes {
    patterns: Vec<Exclude>,
}

#[derive(Debug, Clone)]
struct Exclude {
    negated: bool,
    /// Matches from the tree's root only, otherwise at any depth.
    anchored: bool,
    parts: Vec<Part>,
    /// The cleaned pattern, components joined by `/`.
    text: Vec<u8>,
}

#[derive(Debug, Clone)]
enum Part {
    /// `**`: any number of components, also none.
    Deep,
    Name(Glob),
}

impl Excludes {
    /// All excludes, in order: the definition's, then the lines of `etc/state-exclude.conf`.
    pub(super) fn of(place: &Place, warnings: &mut Vec<String>) -> Result<Self> {
        let mut excludes = Self::default();
        // What a restore keeps beside live data is no part of it.
        excludes.add(b".holdfast-j*", false)?;
        for text in &place.instance.exclude {
            let pattern = machine_path(text.as_bytes(), &place.account.home);
            excludes.add(&pattern, false).with_context(|| format!("exclude {text:?}"))?;
        }
        let file = "etc/state-exclude.conf";
        for (number, line) in place.conf_lines(file)? {
            let (line, asked) = include::without_variables(&line);
            let shown = String::from_utf8_lossy(&line).into_owned();
            if asked {
                warnings.push(format!(
                    "{file}:{number}: a variable is empty here, so this is {shown:?}; write $$ for a dollar"
                ));
            }
            if !line.is_empty() {
                excludes.add(&line, false).with_context(|| format!("{file}:{number}: {shown:?}"))?;
            }
        }
        Ok(excludes)
    }

    /// Adds a pattern over the tree's paths. A leading `!` takes back in. `anchored` wins over a missing leading `/`.
    ///
    /// # Errors
    /// A pattern that restic would refuse, or that cannot stand in a line.
    pub fn add(&mut self, pattern: &[u8], anchored: bool) -> Result<()> {
        if pattern.len() > MAX_PATTERN {
            bail!("it has {} bytes, {MAX_PATTERN} is the most", pattern.len());
        }
        if pattern.iter().any(|b| b"\n\r\0".contains(b)) {
            bail!("a line break or NUL may not stand in an exclude pattern; write '?' in its place");
        }
        let (negated, body) = match pattern.split_first() {
            Some((b'!', rest)) => (true, rest),
            _ => (false, pattern),
        };
        let (rooted, components) = clean(body);
        if components.is_empty() {
            bail!("it names nothing");
        }
        let mut parts = Vec::with_capacity(components.len());
        for component in &components {
            match (*component, parts.last()) {
                (b"**", Some(Part::Deep)) => {}
                (b"**", _) => parts.push(Part::Deep),
                (name, _) => parts.push(Part::Name(Glob::parse(name)?)),
            }
        }
        let text = components.join(&b'/');
        self.patterns.push(Exclude { negated, anchored: anchored || rooted, parts, text });
        Ok(())
    }

    /// Whether a path of the tree is left out, as restic decides it for an item of this name.
    pub fn leave_out(&self, path: &[u8]) -> bool {
        let components: Vec<&[u8]> = clean(path).1;
        let mut out = false;
        for pattern in &self.patterns {
            if out == pattern.negated && pattern.matches(&components) {
                out = !pattern.negated;
            }
        }
        out
    }

    /// Whether there is nothing to leave out.
    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The patterns as they were understood, `/` in front of anchored ones; for the manifest.
    pub(super) fn shown(&self) -> Vec<String> {
        let shown = |p: &Exclude| {
            let (not, root) = (if p.negated { "!" } else { "" }, if p.anchored { "/" } else { "" });
            format!("{not}{root}{}", String::from_utf8_lossy(&p.text))
        };
        self.patterns.iter().map(shown).collect()
    }

    /// The text of restic's `--exclude-file` for a tree at this real, absolute path.
    pub(super) fn text(&self, tree: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        for pattern in &self.patterns {
            if pattern.negated {
                text.push(b'!');
            }
            let mut line = escape(tree);
            line.extend_from_slice(if pattern.anchored { b"/" } else { b"/**/" });
            line.extend_from_slice(&pattern.text);
            text.extend(line_for_restic(&line));
            text.push(b'\n');
        }
        text
    }
}

/// In a definition an absolute exclude is a path of the machine, like an absolute include: it lies under `files/`.
fn machine_path(pattern: &[u8], home: &Path) -> Vec<u8> {
    let (not, body) = match pattern.split_first() {
        Some((b'!', rest)) => (&b"!"[..], rest),
        _ => (&b""[..], pattern),
    };
    if let Some(below) = body.strip_prefix(b"~/") {
        return [not, b"/files", &escape(home.as_os_str().as_bytes()), b"/", below].concat();
    }
    if body.starts_with(b"/") { [not, b"/files", body].concat() } else { pattern.to_vec() }
}

impl Exclude {
    /// As in restic a pattern need not reach the end of the path: what lies in an excluded directory is excluded.
    fn matches(&self, path: &[&[u8]]) -> bool {
        let last = if self.anchored { 0 } else { path.len() };
        (0..=last).any(|from| run(&self.parts, &path[from..]))
    }
}

fn run(parts: &[Part], path: &[&[u8]]) -> bool {
    match parts.split_first() {
        None => true,
        Some((Part::Deep, rest)) => (0..=path.len()).any(|skip| run(rest, &path[skip..])),
        Some((Part::Name(glob), rest)) => {
            path.split_first().is_some_and(|(name, below)| glob.matches(name) && run(rest, below))
        }
    }
}

/// restic trims white space from a line and replaces `$NAME`: both are kept away from the pattern.
fn line_for_restic(pattern: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(pattern.len() + 2);
    for byte in pattern {
        line.push(*byte);
        if *byte == b'$' {
            line.push(b'$');
        }
    }
    let space = last_space(&line);
    if space > 0 {
        let tail = line.split_off(line.len() - space);
        if line.last() == Some(&b'\\') {
            line.pop();
        }
        line.push(b'[');
        line.extend(tail);
        line.push(b']');
    }
    line
}

/// The length in bytes of one white-space character (as Go's TrimSpace knows them) at the end, 0 without.
fn last_space(line: &[u8]) -> usize {
    (1..=line.len().min(3))
        .find_map(|n| {
            let mut tail = std::str::from_utf8(&line[line.len() - n..]).ok()?.chars();
            tail.next().filter(|c| c.is_whitespace()).map(|_| n)
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excludes(patterns: &[&str]) -> Excludes {
        let mut excludes = Excludes::default();
        for pattern in patterns {
            excludes.add(pattern.as_bytes(), false).unwrap();
        }
        excludes
    }

    #[test]
    fn patterns_match_as_in_restic() {
        for (pattern, path, expected) in [
            ("cache", "volumes/x/cache", true),
            ("cache", "volumes/x/cache/deep/file", true),
            ("cache", "volumes/x/caches", false),
            ("volumes/x/**/cache/*", "volumes/x/cache/a", true),
            ("volumes/x/**/cache/*", "volumes/x/a/b/cache/c", true),
            ("volumes/x/**/cache/*", "volumes/x/cache", false),
            ("volumes/x/**/cache/*", "volumes/y/cache/a", false),
            ("x/cache", "volumes/x/cache", true),
            ("/x/cache", "volumes/x/cache", false),
            ("/volumes/x", "volumes/x/a", true),
            ("*.tmp", "state/a.tmp", true),
            ("*.tmp", "state/a.tmp/b", true),
            ("a/**", "state/a", true),
            ("**/a", "state/a", true),
            ("a/*/b", "a/b", false),
            (
                "volumes/dovecot-data/**/dovecot.index*",
                "volumes/dovecot-data/u/INBOX/dovecot.index.log",
                true,
            ),
        ] {
            assert_eq!(excludes(&[pattern]).leave_out(path.as_bytes()), expected, "{pattern} on {path}");
        }
    }

    #[test]
    fn a_later_pattern_with_an_exclamation_mark_takes_back_in_and_order_counts() {
        let kept = excludes(&["volumes/d/**/index*", "!volumes/d/**/index.pvt*"]);
        assert!(kept.leave_out(b"volumes/d/a/index.log"));
        assert!(!kept.leave_out(b"volumes/d/a/index.pvt"));
        assert!(excludes(&["!volumes/d/a", "volumes/d/*"]).leave_out(b"volumes/d/a"));
    }

    #[test]
    fn the_text_anchors_every_pattern_in_the_tree_and_survives_restics_reading_of_lines() {
        let text = |pattern: &str, tree: &str| {
            String::from_utf8(excludes(&[pattern]).text(tree.as_bytes())).unwrap()
        };
        assert_eq!(text("lib", "/var/lib/s"), "/var/lib/s/**/lib\n");
        assert_eq!(text("!/state/x/", "/t"), "!/t/state/x\n");
        assert_eq!(text("#a", "/t"), "/t/**/#a\n");
        assert_eq!(text("$RECYCLE.BIN", "/t"), "/t/**/$$RECYCLE.BIN\n");
        assert_eq!(text("end ", "/t"), "/t/**/end[ ]\n");
        assert_eq!(text("end\\ ", "/t"), "/t/**/end[ ]\n");
        assert_eq!(text("x", "/a[1]*$b"), "/a\\[1]\\*$$b/**/x\n");
    }

    #[test]
    fn patterns_that_restic_would_refuse_are_refused() {
        for bad in ["", "!", "/", "a[", "a\\", "a\nb", &"a".repeat(5000)] {
            assert!(Excludes::default().add(bad.as_bytes(), false).is_err(), "{bad:?} was taken");
        }
    }
}
