//! Reading definition files so that nobody but root and ourselves can say what runs, and nothing can hang us.

use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};

use super::diagnostic::{Diagnostic, Source};

/// The largest file that is read, in bytes.
const MAX_SIZE: u64 = 10 * 1024 * 1024;

/// A file's text, or why it is refused.
pub(super) type Outcome = Result<Source, Box<Diagnostic>>;

fn refuse<T>(path: &Path, message: impl Into<String>, help: &str) -> Result<T, Box<Diagnostic>> {
    Err(Box::new(Diagnostic::of_file(path, message, Some(help.into()))))
}

/// The `.toml` files of a directory in name order; none when it does not exist.
///
/// Hidden files and what editors and package managers leave behind (`x.toml~`, `.x.toml.swp`, `x.toml.dpkg-new`) do not end
/// in `.toml` or begin with a dot, and are not looked at.
///
/// # Errors
/// The directory cannot be read, or others can write to it.
pub(super) fn list(directory: &Path, uid: u32) -> Result<Vec<PathBuf>, Box<Diagnostic>> {
    if !trusted_directory(directory, uid)? {
        return Ok(Vec::new());
    }
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            return refuse(directory, format!("cannot be read: {error}"), "make it readable for the daemon");
        }
    };
    let mut files = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => files.push(entry.path()),
            Err(error) => {
                return refuse(
                    directory,
                    format!("cannot be read: {error}"),
                    "make it readable for the daemon",
                );
            }
        }
    }
    files.retain(|path| path.file_name().is_some_and(|name| is_definition(name.as_bytes())));
    files.sort();
    Ok(files)
}

fn is_definition(name: &[u8]) -> bool {
    name.ends_with(b".toml") && !name.starts_with(b".") && !name.starts_with(b"#")
}

/// Whether a directory exists.
///
/// # Errors
/// It is none, or others than root and the daemon's user can write to it.
pub(super) fn trusted_directory(directory: &Path, uid: u32) -> Result<bool, Box<Diagnostic>> {
    let stat = match rustix::fs::stat(directory) {
        Ok(stat) => stat,
        Err(rustix::io::Errno::NOENT) => return Ok(false),
        Err(error) => {
            return refuse(directory, format!("cannot be read: {error}"), "make it readable for the daemon");
        }
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return refuse(directory, "is not a directory", "move it away, and make a directory of that name");
    }
    trusted(directory, &stat, uid, "its files")?;
    Ok(true)
}

/// Reads one file; `None` when it does not exist.
pub(super) fn read(path: &Path, uid: u32) -> Option<Outcome> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => std::fs::File::from(file),
        Err(rustix::io::Errno::NOENT) => return None,
        Err(rustix::io::Errno::LOOP) => {
            return Some(refuse(
                path,
                "is a symbolic link, which is not followed",
                "put the file itself here",
            ));
        }
        Err(error) => {
            return Some(refuse(
                path,
                format!("cannot be read: {error}"),
                "make it a regular file that the daemon may read",
            ));
        }
    };
    Some(read_open(path, file, uid))
}

fn read_open(path: &Path, file: std::fs::File, uid: u32) -> Outcome {
    let stat = match rustix::fs::fstat(&file) {
        Ok(stat) => stat,
        Err(error) => return refuse(path, format!("cannot be read: {error}"), "check the file system"),
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return refuse(path, "is not a regular file, and was not read", "move it away");
    }
    trusted(path, &stat, uid, "it")?;
    let mut bytes = Vec::new();
    if let Err(error) = file.take(MAX_SIZE + 1).read_to_end(&mut bytes) {
        return refuse(path, format!("cannot be read: {error}"), "check the file system");
    }
    if bytes.len() as u64 > MAX_SIZE {
        return refuse(path, "is larger than 10 MiB", "split it");
    }
    text(path, bytes, stat.st_mode & 0o004 != 0)
}

/// A file's bytes as text, without a byte order mark.
pub(super) fn text(path: &Path, bytes: Vec<u8>, public: bool) -> Outcome {
    let bytes = match bytes.strip_prefix(b"\xef\xbb\xbf") {
        Some(rest) => rest.to_vec(),
        None => bytes,
    };
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source::new(path.to_owned(), text, public)),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let readable = String::from_utf8_lossy(&error.as_bytes()[..at]).into_owned();
            let source = Source::new(path.to_owned(), readable, public);
            let help = "save the file as UTF-8".to_owned();
            Err(Box::new(source.error(&(at..at), "this byte is not UTF-8", Some(help))))
        }
    }
}

/// Refuses what others than root and the daemon's user own or can write to.
fn trusted(path: &Path, stat: &Stat, uid: u32, what: &str) -> Result<(), Box<Diagnostic>> {
    if stat.st_uid != 0 && stat.st_uid != uid {
        let message =
            format!("belongs to user {}: whoever that is could say what the daemon runs", stat.st_uid);
        return refuse(path, message, "chown it to root, or to the daemon's user");
    }
    if stat.st_mode & 0o022 != 0 {
        let message = format!("has mode {:04o}: others could change {what}", stat.st_mode & 0o7777);
        return refuse(path, message, "chmod go-w it");
    }
    Ok(())
}
