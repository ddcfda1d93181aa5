//! Files that a command line names, to be loaded instead of saved dumps.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::failure::Failure;

/// The files that were named, opened by us: the daemon opens no path that a caller names.
pub(super) fn files(given: &[OsString]) -> Result<Vec<(String, File)>, Failure> {
    let one = |given: &OsString| {
        let bad = || Failure::usage(format!("--dump {given:?} is not NAME=FILE"));
        let bytes = given.as_bytes();
        let at = bytes.iter().position(|byte| *byte == b'=').filter(|at| *at > 0).ok_or_else(bad)?;
        let name = std::str::from_utf8(&bytes[..at]).map_err(|_| bad())?.to_owned();
        let path = Path::new(OsStr::from_bytes(&bytes[at + 1..]));
        let file = File::open(path);
        Ok((name, file.map_err(|error| Failure::failed(format!("opening {}: {error}", path.display())))?))
    };
    given.iter().map(one).collect()
}
