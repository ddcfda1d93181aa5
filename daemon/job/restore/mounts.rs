//! Where file systems are mounted: a rename would carry a mount along, or is refused for it.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The places where something is mounted, as this process sees them.
pub(super) fn mount_points() -> Result<Vec<PathBuf>> {
    let text = std::fs::read("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    Ok(parse(&text))
}

/// The fifth field of each line (proc(5)).
fn parse(text: &[u8]) -> Vec<PathBuf> {
    let field = |line: &[u8]| line.split(|b| *b == b' ').nth(4).map(unescaped);
    text.split(|b| *b == b'\n').filter_map(field).collect()
}

/// Space, tab, newline and backslash stand as three octal digits behind a backslash.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        match digits.and_then(|d| u8::from_str_radix(d, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

/// Why this place cannot be swapped because of mounts; none: it can.
pub(super) fn in_the_way(live: &Path, points: &[PathBuf]) -> Option<String> {
    if points.iter().any(|point| point == live) {
        return Some(format!(
            "{} is a mount point, which cannot be swapped; include what lies in it instead, or restore into a \
             directory with target",
            live.display()
        ));
    }
    let inside =
        points.iter().find(|point| point.starts_with(live) && !point.as_os_str().as_bytes().is_empty())?;
    Some(format!(
        "{} holds the mount point {}, which a swap would carry away; unmount it, include the paths beside it, or restore \
         into a directory with target",
        live.display(),
        inside.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_odd_names() {
        let text = b"22 1 0:21 / / rw - ext4 /dev/a rw\n30 22 0:5 / /a\\040b\\134c\\012 rw shared:1 - tmpfs t rw\nbroken\n";
        assert_eq!(parse(text), [PathBuf::from("/"), PathBuf::from("/a b\\c\n")]);
        assert!(mount_points().unwrap().contains(&PathBuf::from("/")));
    }

    #[test]
    fn a_mount_at_or_below_the_place_is_in_the_way_and_one_beside_it_is_not() {
        let points = [PathBuf::from("/"), PathBuf::from("/srv/data/sub")];
        assert!(in_the_way(Path::new("/srv/data/sub"), &points).unwrap().contains("is a mount point"));
        assert!(in_the_way(Path::new("/srv/data"), &points).unwrap().contains("/srv/data/sub"));
        assert_eq!(in_the_way(Path::new("/srv/da"), &points), None);
        assert_eq!(in_the_way(Path::new("/srv/data/sub/deep"), &points), None);
    }
}
