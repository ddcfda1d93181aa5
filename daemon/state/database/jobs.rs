//! Jobs and their units.

use anyhow::Result;
use jiff::Timestamp;
use rusqlite::types::ToSql;
use rusqlite::{Connection, Row, params};

use super::row::{At, Count, one, sound};
use super::{Database, slots};
use crate::state::{JobRecord, Kind, Outcome, UnitRecord};

/// Which jobs are asked for; what is not given does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// What they do.
    pub kind: Option<Kind>,
    /// What they are about.
    pub subject: Option<String>,
    /// An instance that one of their units is for.
    pub instance: Option<String>,
    /// A repository that one of their units is for.
    pub repository: Option<String>,
    /// How they ended.
    pub outcome: Option<Outcome>,
    /// Asked for then or later.
    pub since: Option<Timestamp>,
    /// Asked for before then.
    pub until: Option<Timestamp>,
    /// The newest so many.
    pub limit: Option<usize>,
}

const JOB: &str = "SELECT id, kind, subject, cause, queued, started, finished, phase, outcome, error, \
                   bytes_done, bytes_total, files_done FROM job";

/// Causes of jobs that nobody asked for.
const AUTOMATIC: [&str; 3] = ["schedule", "catch-up", "after"];

impl Database {
    /// Keeps a job with its units, in place of what was known of it.
    ///
    /// # Errors
    /// The database's (the disk may be full); then what was known stands.
    pub async fn save_job(&self, job: &JobRecord) -> Result<()> {
        let job = job.clone();
        self.ask("saving a job", move |connection| {
            let transaction = connection.transaction()?;
            save(&transaction, &job)?;
            transaction.commit()
        })
        .await
    }

    /// The jobs that were asked for, newest first.
    ///
    /// # Errors
    /// The database's; likewise below.
    pub async fn jobs(&self, filter: JobFilter) -> Result<Vec<JobRecord>> {
        self.ask("reading jobs", move |connection| find(connection, &filter)).await
    }

    /// One job.
    ///
    /// # Errors
    /// The database's.
    pub async fn job(&self, id: &str) -> Result<Option<JobRecord>> {
        let id = id.to_owned();
        self.ask("reading a job", move |connection| {
            Ok(select(connection, &format!("{JOB} WHERE id = ?1"), &[&id])?.pop())
        })
        .await
    }

    /// The jobs without an outcome, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn unfinished_jobs(&self) -> Result<Vec<JobRecord>> {
        self.ask("reading unfinished jobs", |connection| unfinished(connection)).await
    }

    /// Ends the jobs that a dead daemon left unfinished, and their units likewise; gives them as they are now. The run of
    /// a slot that had not begun is owed from then on.
    ///
    /// # Errors
    /// The database's; then none was ended.
    pub async fn interrupt_unfinished(&self, now: Timestamp) -> Result<Vec<JobRecord>> {
        self.ask("ending interrupted jobs", move |connection| {
            let transaction = connection.transaction()?;
            let mut jobs = unfinished(&transaction)?;
            for job in &mut jobs {
                if job.started.is_none() && AUTOMATIC.contains(&job.cause.as_str()) {
                    slots::owe(&transaction, &format!("{}/{}", job.kind, job.subject), job.queued)?;
                }
                interrupt(job, now);
                save(&transaction, job)?;
            }
            transaction.commit()?;
            Ok(jobs)
        })
        .await
    }

    /// Forgets finished jobs asked for before a time, except the newest `keep_at_least` of all jobs, and each kind's and
    /// subject's last finished and last successful one. Returns how many were forgotten; [`Database::jobs_total`] stays.
    ///
    /// # Errors
    /// The database's; then none was forgotten.
    pub async fn delete_old_jobs(&self, before: Timestamp, keep_at_least: usize) -> Result<usize> {
        self.ask("deleting old jobs", move |connection| {
            let sql = "DELETE FROM job WHERE queued < ?1 AND outcome IS NOT NULL
                AND id NOT IN (SELECT id FROM job ORDER BY queued DESC, id DESC LIMIT ?2)
                AND id NOT IN (SELECT id FROM (SELECT id, row_number() OVER newest AS n FROM job
                    WHERE outcome IS NOT NULL WINDOW newest AS (PARTITION BY kind, subject ORDER BY finished DESC, id DESC))
                    WHERE n = 1)
                AND id NOT IN (SELECT id FROM (SELECT id, row_number() OVER newest AS n FROM job
                    WHERE outcome IN ('succeeded', 'warning')
                    WINDOW newest AS (PARTITION BY kind, subject ORDER BY finished DESC, id DESC))
                    WHERE n = 1)";
            connection.execute(sql, params![At(before), Count(keep_at_least as u64)])
        })
        .await
    }

    /// The job of a kind and subject that ended last.
    ///
    /// # Errors
    /// The database's.
    pub async fn last_finished(&self, kind: Kind, subject: &str) -> Result<Option<JobRecord>> {
        let subject = subject.to_owned();
        self.ask("reading the last job", move |connection| {
            let sql = format!(
                "{JOB} WHERE kind = ?1 AND subject = ?2 AND outcome IS NOT NULL ORDER BY finished DESC, id DESC LIMIT 1"
            );
            Ok(select(connection, &sql, &[&kind, &subject])?.pop())
        })
        .await
    }

    /// When a job of a kind and subject last ended with what was asked for: `succeeded`, or `warning` (sets exist).
    ///
    /// # Errors
    /// The database's.
    pub async fn last_success(&self, kind: Kind, subject: &str) -> Result<Option<Timestamp>> {
        let subject = subject.to_owned();
        self.ask("reading the last success", move |connection| {
            let sql = "SELECT finished FROM job WHERE kind = ?1 AND subject = ?2 AND finished IS NOT NULL
                AND outcome IN ('succeeded', 'warning') ORDER BY finished DESC LIMIT 1";
            let mut query = connection.prepare_cached(sql)?;
            one(query.query_row(params![kind, subject], |row| Ok(row.get::<_, At>(0)?.0)))
        })
        .await
    }

    /// How many jobs of each kind ever ended how, also those that were deleted.
    ///
    /// # Errors
    /// The database's.
    pub async fn jobs_total(&self) -> Result<Vec<(Kind, Outcome, u64)>> {
        self.ask("counting jobs", |connection| {
            let mut query =
                connection.prepare_cached("SELECT kind, outcome, jobs FROM tally WHERE jobs > 0")?;
            let of = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get::<_, Count>(2)?.0));
            query.query_map([], of)?.filter_map(|row| sound(row).transpose()).collect()
        })
        .await
    }
}

fn interrupt(job: &mut JobRecord, now: Timestamp) {
    let why = "the daemon or the machine went down while this ran";
    job.outcome = Some(Outcome::Interrupted);
    job.finished = Some(now);
    if job.error.is_empty() {
        job.error = why.to_owned();
    }
    for unit in job.units.iter_mut().filter(|unit| unit.outcome.is_none()) {
        unit.outcome = Some(Outcome::Interrupted);
        if unit.error.is_empty() {
            unit.error = why.to_owned();
        }
    }
}

pub(super) fn save(connection: &Connection, job: &JobRecord) -> rusqlite::Result<()> {
    count(connection, job)?;
    let sql = "INSERT INTO job VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
        ON CONFLICT DO UPDATE SET kind = excluded.kind, subject = excluded.subject, cause = excluded.cause,
        queued = excluded.queued, started = excluded.started, finished = excluded.finished, phase = excluded.phase,
        outcome = excluded.outcome, error = excluded.error, bytes_done = excluded.bytes_done,
        bytes_total = excluded.bytes_total, files_done = excluded.files_done";
    connection.prepare_cached(sql)?.execute(params![
        job.id,
        job.kind,
        job.subject,
        job.cause,
        At(job.queued),
        job.started.map(At),
        job.finished.map(At),
        job.phase,
        job.outcome,
        job.error,
        Count(job.bytes_done),
        Count(job.bytes_total),
        Count(job.files_done),
    ])?;
    connection.prepare_cached("DELETE FROM unit WHERE job = ?1")?.execute([&job.id])?;
    job.units
        .iter()
        .enumerate()
        .try_for_each(|(position, unit)| save_unit(connection, &job.id, position, unit))
}

fn save_unit(connection: &Connection, job: &str, position: usize, unit: &UnitRecord) -> rusqlite::Result<()> {
    let sql = "INSERT INTO unit VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    connection.prepare_cached(sql)?.execute(params![
        job,
        Count(position as u64),
        unit.instance,
        unit.repository,
        unit.phase,
        unit.outcome,
        unit.snapshot,
        unit.error,
        Count(unit.bytes),
        Count(unit.bytes_added),
        Count(unit.files),
        Count(unit.downtime),
    ])?;
    Ok(())
}

/// Brings the tally in line with a job that is about to be saved, whatever was known of it.
fn count(connection: &Connection, job: &JobRecord) -> rusqlite::Result<()> {
    let mut query =
        connection.prepare_cached("SELECT kind, outcome FROM job WHERE id = ?1 AND outcome IS NOT NULL")?;
    let known: Option<(Kind, Outcome)> =
        one(query.query_row([&job.id], |row| Ok((row.get(0)?, row.get(1)?))))?;
    let now = job.outcome.map(|outcome| (job.kind, outcome));
    if known == now {
        return Ok(());
    }
    let sql =
        "INSERT INTO tally VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET jobs = max(jobs + excluded.jobs, 0)";
    let mut add = connection.prepare_cached(sql)?;
    for (of, n) in [(known, -1), (now, 1)] {
        if let Some((kind, outcome)) = of {
            add.execute(params![kind, outcome, n])?;
        }
    }
    Ok(())
}

fn unfinished(connection: &Connection) -> rusqlite::Result<Vec<JobRecord>> {
    select(connection, &format!("{JOB} WHERE outcome IS NULL ORDER BY queued DESC, id DESC"), &[])
}

fn find(connection: &Connection, filter: &JobFilter) -> rusqlite::Result<Vec<JobRecord>> {
    let (since, until) = (filter.since.map(At), filter.until.map(At));
    let given: [(&str, Option<&dyn ToSql>); 7] = [
        ("kind = ?", filter.kind.as_ref().map(|v| v as _)),
        ("subject = ?", filter.subject.as_ref().map(|v| v as _)),
        ("id IN (SELECT job FROM unit WHERE instance = ?)", filter.instance.as_ref().map(|v| v as _)),
        (
            "EXISTS (SELECT 1 FROM unit WHERE job = job.id AND repository = ?)",
            filter.repository.as_ref().map(|v| v as _),
        ),
        ("outcome = ?", filter.outcome.as_ref().map(|v| v as _)),
        ("queued >= ?", since.as_ref().map(|v| v as _)),
        ("queued < ?", until.as_ref().map(|v| v as _)),
    ];
    let mut sql = format!("{JOB} WHERE true");
    let mut values = Vec::new();
    for (condition, value) in given {
        if let Some(value) = value {
            sql = format!("{sql} AND {condition}");
            values.push(value);
        }
    }
    let limit = filter.limit.map_or(Count(u64::MAX), |limit| Count(limit as u64));
    values.push(&limit);
    select(connection, &format!("{sql} ORDER BY queued DESC, id DESC LIMIT ?"), &values)
}

/// Jobs with their units; one that makes no sense is left out.
fn select(connection: &Connection, sql: &str, values: &[&dyn ToSql]) -> rusqlite::Result<Vec<JobRecord>> {
    let mut query = connection.prepare_cached(sql)?;
    let mut rows = query.query(values)?;
    let mut jobs = Vec::new();
    while let Some(row) = rows.next()? {
        let job = job_of(row).and_then(|job| Ok(JobRecord { units: units(connection, &job.id)?, ..job }));
        jobs.extend(sound(job)?);
    }
    Ok(jobs)
}

fn job_of(row: &Row<'_>) -> rusqlite::Result<JobRecord> {
    let time = |index| Ok::<_, rusqlite::Error>(row.get::<_, Option<At>>(index)?.map(|at| at.0));
    let count = |index| Ok::<_, rusqlite::Error>(row.get::<_, Count>(index)?.0);
    Ok(JobRecord {
        id: row.get(0)?,
        kind: row.get(1)?,
        subject: row.get(2)?,
        cause: row.get(3)?,
        queued: row.get::<_, At>(4)?.0,
        started: time(5)?,
        finished: time(6)?,
        phase: row.get(7)?,
        outcome: row.get(8)?,
        error: row.get(9)?,
        bytes_done: count(10)?,
        bytes_total: count(11)?,
        files_done: count(12)?,
        units: Vec::new(),
    })
}

fn units(connection: &Connection, job: &str) -> rusqlite::Result<Vec<UnitRecord>> {
    let sql =
        "SELECT instance, repository, phase, outcome, snapshot, error, bytes, bytes_added, files, downtime
        FROM unit WHERE job = ?1 ORDER BY position";
    let mut query = connection.prepare_cached(sql)?;
    let unit = |row: &Row<'_>| {
        Ok(UnitRecord {
            instance: row.get(0)?,
            repository: row.get(1)?,
            phase: row.get(2)?,
            outcome: row.get(3)?,
            snapshot: row.get(4)?,
            error: row.get(5)?,
            bytes: row.get::<_, Count>(6)?.0,
            bytes_added: row.get::<_, Count>(7)?.0,
            files: row.get::<_, Count>(8)?.0,
            downtime: row.get::<_, Count>(9)?.0,
        })
    };
    query.query_map([job], unit)?.filter_map(|row| sound(row).transpose()).collect()
}
