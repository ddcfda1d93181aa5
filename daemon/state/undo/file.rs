//! The file of one job: appended, synced, removed.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::{Recorded, Step};
use crate::state::durable;

const SUFFIX: &str = ".undo";

/// One line.
#[expect(clippy::large_enum_variant, reason = "a few at a time, and nearly all of them are the large one")]
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Step(Recorded),
    Done(usize),
}

/// The undo steps of one job. Copies are the same.
#[derive(Debug, Clone)]
pub struct Undo {
    journal: Arc<Mutex<Journal>>,
}

impl Undo {
    /// Begins the file of a job, in the directory `undo`. Nothing is written before the first step.
    ///
    /// # Errors
    /// The job has steps already, from before a crash: see [`Undo::resume`]. Its id is no file name.
    pub fn begin(dir: &Path, job: &str) -> Result<Self> {
        let path = path_of(dir, job)?;
        ensure!(!path.exists(), "{} exists: the job has undo steps already", path.display());
        Ok(Self::of(Journal { path, file: None, end: 0, steps: 0, done: BTreeSet::new() }))
    }

    /// Goes on with the file that a dead job left: to mark its steps done as they are run, and to finish it.
    ///
    /// # Errors
    /// There is no such file; the disk's.
    pub fn resume(dir: &Path, job: &str) -> Result<Self> {
        let path = path_of(dir, job)?;
        let open = || -> io::Result<(File, Vec<u8>)> {
            Ok((OpenOptions::new().read(true).write(true).open(&path)?, fs::read(&path)?))
        };
        let (file, text) = open().with_context(|| format!("opening {}", path.display()))?;
        let (lines, end) = parse(&text);
        let steps = lines.iter().filter(|line| matches!(line, Line::Step(_))).count();
        let done =
            lines.iter().filter_map(|line| if let Line::Done(step) = line { Some(*step) } else { None });
        let done = done.collect();
        Ok(Self::of(Journal { path, file: Some(file), end, steps, done }))
    }

    /// Writes a step down. Act only after this returned: then it is on the disk.
    ///
    /// # Errors
    /// The disk's. Then do not act; the step may still be found later, which must be harmless.
    pub async fn push(&self, step: Step) -> Result<usize> {
        self.blocking(move |journal| {
            journal.append(&Line::Step(Recorded::Known(step)))?;
            journal.steps += 1;
            Ok(journal.steps - 1)
        })
        .await
    }

    /// Notes that a step needs no undoing any more.
    ///
    /// # Errors
    /// There is no such step; the disk's.
    pub async fn done(&self, step: usize) -> Result<()> {
        self.blocking(move |journal| {
            ensure!(step < journal.steps, "there is no step {step} in {}", journal.path.display());
            journal.append(&Line::Done(step))?;
            journal.done.insert(step);
            Ok(())
        })
        .await
    }

    /// Removes the file: nothing is left to be undone.
    ///
    /// # Errors
    /// The disk's; then the steps will be run again at the next start.
    pub async fn finish(&self) -> Result<()> {
        self.blocking(Journal::remove).await
    }

    /// As [`Undo::finish`], if every step is done.
    ///
    /// # Errors
    /// As [`Undo::finish`].
    pub async fn finish_if_done(&self) -> Result<()> {
        let done = |journal: &Journal| (0..journal.steps).all(|step| journal.done.contains(&step));
        self.blocking(move |journal| if done(journal) { journal.remove() } else { Ok(()) }).await
    }

    fn of(journal: Journal) -> Self {
        Self { journal: Arc::new(Mutex::new(journal)) }
    }

    async fn blocking<T, F>(&self, act: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Journal) -> Result<T> + Send + 'static,
    {
        let journal = Arc::clone(&self.journal);
        let act = move || act(&mut journal.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::task::spawn_blocking(act).await.context("writing undo steps")?
    }
}

#[derive(Debug)]
struct Journal {
    path: PathBuf,
    /// None until the first step.
    file: Option<File>,
    /// Where the last whole line ends; what follows was torn.
    end: u64,
    steps: usize,
    done: BTreeSet<usize>,
}

impl Journal {
    fn remove(&mut self) -> Result<()> {
        if self.file.is_some() {
            durable::remove(&self.path)?;
            (self.file, self.end, self.steps) = (None, 0, 0);
            self.done.clear();
        }
        Ok(())
    }

    fn append(&mut self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_vec(line).context("encoding an undo step")?;
        text.push(b'\n');
        self.write(&text).with_context(|| format!("writing {}", self.path.display()))
    }

    fn write(&mut self, text: &[u8]) -> Result<()> {
        let first = self.file.is_none();
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(create(&self.path)?),
        };
        // A line that failed half-way must not be followed by another one.
        file.set_len(self.end)?;
        file.write_all_at(text, self.end)?;
        file.sync_all()?;
        if first || self.end == 0 {
            durable::sync_dir(self.path.parent().unwrap_or(Path::new(".")))?;
        }
        self.end += text.len() as u64;
        Ok(())
    }
}

/// What a dead job left to be undone.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    /// The job.
    pub job: String,
    /// Its steps that are not done, with their indexes, in the order in which they must be run: the last one written first.
    pub steps: Vec<(usize, Recorded)>,
    /// What was wrong with the file; to be reported.
    pub problems: Vec<String>,
}

/// What all dead jobs left, in the order of their ids. A directory that does not exist holds nothing.
///
/// # Errors
/// The directory cannot be read. A file that cannot be read is one of the [`Pending::problems`].
pub fn pending(dir: &Path) -> Result<Vec<Pending>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.and_then(Iterator::collect::<io::Result<Vec<_>>>),
    };
    let entries = entries.with_context(|| format!("reading the undo steps in {}", dir.display()))?;
    let mut all: Vec<Pending> = entries
        .iter()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(SUFFIX).map(str::to_owned))
        .map(|job| of_job(dir, job))
        .collect();
    all.sort_by(|a, b| a.job.cmp(&b.job));
    Ok(all)
}

fn of_job(dir: &Path, job: String) -> Pending {
    let path = dir.join(format!("{job}{SUFFIX}"));
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(e) => {
            return Pending {
                job,
                steps: Vec::new(),
                problems: vec![format!("reading {}: {e}", path.display())],
            };
        }
    };
    let (lines, _) = parse(&text);
    let mut steps = Vec::new();
    let mut done = Vec::new();
    for line in lines {
        match line {
            Line::Step(step) => steps.push((steps.len(), step)),
            Line::Done(step) => done.push(step),
        }
    }
    steps.retain(|(index, _)| !done.contains(index));
    steps.reverse();
    let unknown = |(index, step): &(usize, Recorded)| match step {
        Recorded::Unknown(value) => {
            Some(format!("{}: step {index} is not known here: {value}", path.display()))
        }
        Recorded::Known(_) => None,
    };
    Pending { problems: steps.iter().filter_map(unknown).collect(), job, steps }
}

/// The whole lines, and where the last of them ends. A line that makes no sense counts as an unknown step.
fn parse(text: &[u8]) -> (Vec<Line>, u64) {
    let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let read = |line: &[u8]| {
        serde_json::from_slice(line).unwrap_or_else(|_| {
            Line::Step(Recorded::Unknown(String::from_utf8_lossy(line).into_owned().into()))
        })
    };
    let lines =
        text[..end].split_inclusive(|byte| *byte == b'\n').map(|line| read(line.trim_ascii())).collect();
    (lines, end as u64)
}

fn create(path: &Path) -> Result<File> {
    if let Some(dir) = path.parent() {
        durable::create_dir(dir, 0o700)?;
    }
    Ok(durable::open_private(OpenOptions::new().write(true).create_new(true), path)?)
}

fn path_of(dir: &Path, job: &str) -> Result<PathBuf> {
    if job.is_empty() || job.starts_with('.') || job.contains(['/', '\0']) {
        bail!("{job:?} is no id of a job");
    }
    Ok(dir.join(format!("{job}{SUFFIX}")))
}

#[cfg(test)]
mod tests;
