//! A file that somebody gives: whether it is what an engine can load, before anything is done with it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::record::Record;
use super::{mongodb, mysql, postgresql, search};

/// How much of a text's end is searched for its end marker, in bytes.
const TAIL: u64 = 4 << 10;

/// Looks at the beginning and at the end of a file.
///
/// # Errors
/// What it is not.
pub fn check_given(source: &str, file: &File) -> Result<()> {
    let head = read(file, 0, 64)?;
    let head = String::from_utf8_lossy(&head);
    let begins = |all: &[&str]| all.iter().any(|text| head.starts_with(text));
    let ends = |marker: &str| -> Result<bool> {
        let size = file.metadata()?.len();
        let tail = read(file, size.saturating_sub(TAIL), TAIL)?;
        Ok(tail.windows(marker.len()).any(|window| window == marker.as_bytes()))
    };
    match source {
        "postgresql" if begins(&["PGDMP"]) => Ok(()),
        "postgresql" => {
            ensure!(begins(&["--"]), "it is neither an archive of pg_dump (custom format) nor its SQL");
            ensure!(ends("dump complete")?, "it has no end marker \"dump complete\": it was cut off");
            Ok(())
        }
        "mariadb" | "mysql" => {
            ensure!(begins(&["--", "/*"]), "it does not begin as a dump of mariadb-dump or mysqldump does");
            ensure!(ends("-- Dump completed")?, "it has no end marker \"-- Dump completed\": it was cut off");
            Ok(())
        }
        "redis" => {
            ensure!(begins(&["REDIS"]), "it is no RDB file of Redis");
            Ok(())
        }
        "sqlite" => {
            ensure!(begins(&["SQLite format 3\0"]), "it is no database of SQLite");
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The databases that a text names.
///
/// # Errors
/// It cannot be read to its end.
pub fn names_given(source: &str, file: &File) -> Result<Vec<String>> {
    let again = anew(file)?;
    match source {
        "postgresql" => postgresql::plain::names_in(&again),
        "mariadb" | "mysql" => mysql::names_in(&again),
        _ => Ok(Vec::new()),
    }
}

/// What a restore must know of a file that stands for a saved one, read to its end; none: it needs no more than the saved
/// one's.
///
/// # Errors
/// It is no dump of this engine, or is damaged.
pub fn details_given(saved: &Record, file: &File) -> Result<Option<serde_json::Value>> {
    match &*saved.source {
        "mongodb" => mongodb::details_given(saved, anew(file)?).map(Some),
        "opensearch" | "elasticsearch" => search::details_given(anew(file)?).map(Some),
        _ => Ok(None),
    }
}

/// Opened anew: it begins at its beginning, whatever the caller has read of it.
fn anew(file: &File) -> Result<File> {
    use std::os::fd::AsRawFd;
    Ok(File::open(PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())))?)
}

fn read(file: &File, at: u64, most: u64) -> Result<Vec<u8>> {
    let mut buffer = vec![0; usize::try_from(most)?];
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], at + done as u64)? {
            0 => break,
            n => done += n,
        }
    }
    buffer.truncate(done);
    Ok(buffer)
}
