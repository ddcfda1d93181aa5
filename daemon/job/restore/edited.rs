//! A file that the caller opened takes the place of a saved dump: judged first, then copied to where the saved one was
//! fetched. From there on it is a dump like any other.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};

use super::{Request, Work, dumps};
use crate::dump::{self, Record};
use crate::target::Manifest;

/// A file that is loaded instead of a saved one.
#[derive(Debug, Clone)]
pub struct Edited {
    /// The dump that it stands for: its name, or `DUMP/DATABASE` where it has several files.
    pub name: String,
    /// What the caller opened.
    pub file: Arc<File>,
}

impl PartialEq for Edited {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.file, &other.file)
    }
}

impl Edited {
    /// A file that ends, open for reading.
    ///
    /// # Errors
    /// A sentence that says what it is.
    pub fn new(name: String, file: File) -> Result<Self> {
        let meta = file.metadata().with_context(|| format!("looking at the file for dump {name}"))?;
        ensure!(meta.is_file(), "what was opened for dump {name} is no file");
        let mut byte = [0];
        file.read_at(&mut byte, 0).with_context(|| format!("reading the file for dump {name}"))?;
        ensure!(meta.len() > 0, "the file for dump {name} is empty");
        Ok(Self { name, file: Arc::new(file) })
    }

    pub(super) fn is_for(&self, record: &Record) -> bool {
        self.name == record.dump
            || self.name.strip_prefix(&format!("{}/", record.dump)).is_some_and(|rest| {
                record.database.as_deref() == Some(rest) || record.file.ends_with(&format!("/{rest}"))
            })
    }

    /// The records that it stands for, and whether it holds several databases that say their own names.
    fn stands_for(&self, request: &Request, manifest: &Manifest) -> Result<(Vec<Record>, Vec<String>)> {
        let all = dumps::records(manifest)?;
        let mut found: Vec<Record> = all.iter().filter(|record| self.is_for(record)).cloned().collect();
        let Some(first) = found.first() else {
            let there: Vec<String> = all.iter().map(shown).collect();
            bail!("the set holds no dump {:?}; there are {}", self.name, there.join(", "));
        };
        let source = first.source.clone();
        dump::check_given(&source, &self.file).with_context(|| format!("the file for dump {}", self.name))?;
        if found.len() == 1 {
            return Ok((found, Vec::new()));
        }
        let names = dump::names_given(&source, &self.file);
        let names = names.with_context(|| format!("the file for dump {}", self.name))?;
        let asked = |record: &Record| {
            request.include.is_empty()
                || request.include.iter().any(|path| Path::new(&record.file).starts_with(path))
        };
        if !names.is_empty() {
            // The first that is asked for stands for all of them.
            let at = found.iter().position(|record| record.database.is_some() && asked(record)).unwrap_or(0);
            found.swap(0, at);
            return Ok((found, names));
        }
        found.retain(|record| record.database.is_some());
        match found.len() {
            1 => Ok((found, names)),
            _ => {
                let there: Vec<String> = found.iter().map(shown).collect();
                bail!("dump {} has several files; say which one: {}", self.name, there.join(", "))
            }
        }
    }
}

fn shown(record: &Record) -> String {
    match &record.database {
        Some(database) => format!("{}/{database}", record.dump),
        None => record.dump.clone(),
    }
}

/// The manifest as it is when the given files count.
fn replaced(edited: &Edited, request: &Request, manifest: &mut Manifest) -> Result<Record> {
    let (found, names) = edited.stands_for(request, manifest)?;
    let mut records = dumps::records(manifest)?;
    let several = !names.is_empty();
    let size = edited.file.metadata()?.len();
    let mut record = Record { size, version: String::new(), ..found[0].clone() };
    let details = dump::details_given(&record, &edited.file);
    if let Some(details) = details.with_context(|| format!("the file for dump {}", edited.name))? {
        record.details = details;
    }
    if several {
        (record.database, record.details) = (None, serde_json::json!({ "databases": names }));
    }
    let at = records.iter().position(|other| other.file == record.file).unwrap_or(0);
    records[at] = record.clone();
    records.retain(|other| other.file == record.file || !found.contains(other));
    manifest.dumps = records.iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
    Ok(record)
}

/// What a plan says of the files: the manifest as they make it, and why one is refused.
pub(super) fn planned(request: &Request, manifest: &mut Manifest) -> Vec<String> {
    let mut problems = Vec::new();
    for edited in &request.edited {
        if let Err(failure) = replaced(edited, request, manifest) {
            problems.push(format!("{failure:#}"));
        }
    }
    problems
}

/// Puts the files where the saved ones were fetched.
pub(super) async fn lay(work: &Work, staging: &Path, manifest: &mut Manifest) -> Result<()> {
    for edited in &work.request.edited {
        let record = replaced(edited, &work.request, manifest)?;
        let (from, to) = (Arc::clone(&edited.file), record.path(staging));
        let cancel = work.live.cancelled().clone();
        tokio::task::spawn_blocking(move || copy(&from, &to, &cancel))
            .await?
            .with_context(|| format!("copying the file for dump {}", edited.name))?;
    }
    Ok(())
}

/// By position: a descriptor that was handed over is read by others as well.
fn copy(from: &File, to: &Path, cancel: &tokio_util::sync::CancellationToken) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::remove_file(to).with_context(|| format!("replacing {}", to.display()))?;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(to)?;
    let (mut buffer, mut at) = (vec![0; 256 << 10], 0);
    loop {
        ensure!(!cancel.is_cancelled(), crate::restic::Error::Cancelled);
        let read = from.read_at(&mut buffer, at)?;
        if read == 0 {
            return Ok(());
        }
        file.write_all(&buffer[..read])?;
        at += read as u64;
    }
}
