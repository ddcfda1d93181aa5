//! What is backed up, as written: entries of a definition, and the lines of a module's `etc/state-include.conf`.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::pattern::{Glob, clean, has_meta};

/// The origin of what is included without being asked for: that it is missing is no failing of the definition.
pub(super) const ALWAYS: &str = "always";

/// One include, understood but not yet looked for.
#[derive(Debug, Clone)]
pub(super) struct Include {
    /// As it was written.
    pub(super) text: String,
    /// Where it was written.
    pub(super) origin: String,
    /// Under which root of the tree it lies.
    pub(super) root: Root,
    /// The components below that root; for [`Root::Volumes`] the first names the volume. None: all of the root.
    pub(super) steps: Vec<Step>,
}

/// The roots of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Root {
    /// `state/…`.
    State,
    /// `volumes/NAME/…`.
    Volumes,
    /// `files/absolute/path…`.
    Files,
    /// `local/absolute/path…`: of this machine, where the instance is on another one.
    Local,
}

/// How an include of this machine is written, where the instance is on another one.
pub(super) const LOCAL: &str = "local:";

/// One component of an include.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Just this name.
    Name(Vec<u8>),
    /// Every name that fits.
    Glob(Glob),
}

impl Include {
    /// An entry of a definition: `state/…`, `volumes/NAME[/…]`, `~/…`, an absolute path, or one behind `local:`.
    ///
    /// # Errors
    /// Something else, `..`, or a pattern that Go calls bad.
    pub(super) fn defined(text: &str, home: &Path) -> Result<Self> {
        let origin = "include";
        let bytes = text.as_bytes();
        if let Some(path) = text.strip_prefix(LOCAL).filter(|path| path.starts_with('/')) {
            let steps = steps_of(&clean(path.as_bytes()).1).with_context(|| shown(bytes, origin))?;
            return Ok(Self { text: text.into(), origin: origin.into(), root: Root::Local, steps });
        }
        let home_path = match text.strip_prefix('~') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => Some(rest),
            _ => None,
        };
        if let Some(below) = home_path {
            let mut steps = names(home.as_os_str().as_bytes());
            steps.extend(steps_of(&clean(below.as_bytes()).1).with_context(|| shown(bytes, origin))?);
            return Ok(Self { text: text.into(), origin: origin.into(), root: Root::Files, steps });
        }
        let (absolute, parts) = clean(bytes);
        if absolute {
            let steps = steps_of(&parts).with_context(|| shown(bytes, origin))?;
            return Ok(Self { text: text.into(), origin: origin.into(), root: Root::Files, steps });
        }
        Self::in_tree(bytes, origin).with_context(|| shown(bytes, origin))
    }

    /// A path of the tree: `state/…` or `volumes/NAME[/…]`.
    pub(super) fn in_tree(bytes: &[u8], origin: &str) -> Result<Self> {
        let (_, parts) = clean(bytes);
        let (root, rest) = match parts.split_first() {
            Some((&b"state", rest)) if !bytes.starts_with(b"/") => (Root::State, rest),
            Some((&b"volumes", rest)) if !bytes.starts_with(b"/") => (Root::Volumes, rest),
            _ => bail!("it must begin with state/ or volumes/ (in a definition also with ~/ or /)"),
        };
        let text = String::from_utf8_lossy(bytes).into_owned();
        Ok(Self { text, origin: origin.into(), root, steps: steps_of(rest)? })
    }

    /// Whether it names one path and is no pattern.
    pub(super) fn literal(&self) -> bool {
        self.steps.iter().all(|step| matches!(step, Step::Name(_)))
    }

    /// The include with its origin, for messages.
    pub(super) fn shown(&self) -> String {
        shown(self.text.as_bytes(), &self.origin)
    }
}

fn shown(text: &[u8], origin: &str) -> String {
    format!("{:?} ({origin})", String::from_utf8_lossy(text))
}

fn names(path: &[u8]) -> Vec<Step> {
    clean(path).1.into_iter().map(|part| Step::Name(part.to_vec())).collect()
}

fn steps_of(parts: &[&[u8]]) -> Result<Vec<Step>> {
    parts.iter().map(|part| step(part)).collect()
}

fn step(part: &[u8]) -> Result<Step> {
    if part == b".." {
        bail!("'..' leads out of the tree");
    }
    if part.contains(&0) {
        bail!("it holds a NUL byte");
    }
    if has_meta(part) { Ok(Step::Glob(Glob::parse(part)?)) } else { Ok(Step::Name(part.to_vec())) }
}

/// The lines of a pattern file as restic reads it: trimmed, without blank lines and comments, with their numbers.
///
/// # Errors
/// UTF-16, which restic would convert: it is refused with advice.
pub(super) fn lines(text: &[u8]) -> Result<Vec<(usize, Vec<u8>)>> {
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        bail!("it is UTF-16; save it as UTF-8");
    }
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let lines = text.split(|b| *b == b'\n').map(trim).enumerate();
    Ok(lines.filter(|(_, l)| !l.is_empty() && l[0] != b'#').map(|(n, l)| (n + 1, l.to_vec())).collect())
}

fn trim(line: &[u8]) -> &[u8] {
    std::str::from_utf8(line).map_or_else(|_| line.trim_ascii(), |text| text.trim().as_bytes())
}

/// A line of an exclude file with its variables replaced as restic does it: `$$` is a dollar, `$NAME` and `${NAME}` are
/// variables of restic's environment, which here has none. The flag says that one was asked for.
pub(super) fn without_variables(line: &[u8]) -> (Vec<u8>, bool) {
    let (mut out, mut asked) = (Vec::with_capacity(line.len()), false);
    let mut rest = line;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'$' {
            out.push(first);
            continue;
        }
        let length = variable_length(after);
        if length == 0 || after.starts_with(b"$") {
            out.push(b'$');
        } else {
            asked = true;
        }
        rest = &after[length..];
    }
    (out, asked)
}

/// How many bytes after a `$` name a variable, as Go's os.Expand sees it.
fn variable_length(after: &[u8]) -> usize {
    match after.first() {
        Some(b'{') => after.iter().position(|b| *b == b'}').map_or(1, |end| end + 1),
        Some(c) if b"*#$@!?-0123456789".contains(c) => 1,
        _ => after.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defined(text: &str) -> Result<Include> {
        Include::defined(text, Path::new("/home/u[1]"))
    }

    #[test]
    fn every_form_of_include_is_understood() {
        for (text, root, depth, literal) in [
            ("state/secrets.env", Root::State, 1, true),
            ("./state//x/", Root::State, 1, true),
            ("state", Root::State, 0, true),
            ("volumes/data", Root::Volumes, 1, true),
            ("volumes/data/a*/b", Root::Volumes, 3, false),
            ("~/notes", Root::Files, 3, true),
            ("~", Root::Files, 2, true),
            ("/srv/wiki", Root::Files, 2, true),
            ("/", Root::Files, 0, true),
        ] {
            let include = defined(text).unwrap();
            assert_eq!(
                (include.root, include.steps.len(), include.literal()),
                (root, depth, literal),
                "{text}"
            );
        }
    }

    #[test]
    fn what_leads_out_of_the_tree_or_is_no_pattern_is_refused_by_name() {
        for bad in
            ["", "srv/wiki", "../x", "state/../../x", "~user/x", "files/x", "state/[", "~/../../etc/x\\"]
        {
            let error = format!("{:#}", defined(bad).unwrap_err());
            assert!(error.contains(&format!("{bad:?}")), "{error}");
        }
    }

    #[test]
    fn lines_are_read_as_restic_reads_them() {
        let text = b"\xef\xbb\xbf# c\r\n\r\n  state/a  \r\nvolumes/\xff\n\n#x\nstate/last";
        let expected: Vec<(usize, &[u8])> = vec![(3, b"state/a"), (4, b"volumes/\xff"), (7, b"state/last")];
        let read = lines(text).unwrap();
        assert_eq!(read.iter().map(|(n, l)| (*n, l.as_slice())).collect::<Vec<_>>(), expected);
        assert!(lines(b"\xff\xfes\0").is_err());
    }

    #[test]
    fn dollars_are_read_as_restic_reads_them() {
        for (line, expected, asked) in [
            ("a$$b", "a$b", false),
            ("$RECYCLE.BIN", ".BIN", true),
            ("a${X}b", "ab", true),
            ("a$", "a$", false),
            ("a$/b", "a$/b", false),
            ("$1x", "x", true),
        ] {
            assert_eq!(without_variables(line.as_bytes()), (expected.as_bytes().to_vec(), asked), "{line}");
        }
    }
}
