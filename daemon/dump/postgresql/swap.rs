//! Databases change names: in one transaction the new ones take the names that applications know.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::Instant;
use tracing::info;

use super::sql::{ident, literal};
use super::{ask, desk, numbers, one_of};
use crate::dump::{Change, Pair, Record, Site};

/// How long sessions have to be gone once they were ended.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often that is looked at.
const STEP: Duration = Duration::from_millis(100);

/// What a database is called that waits to live, and one that lived.
pub(super) fn names(job: &str, index: usize) -> (String, String) {
    (format!("holdfast_{job}_new_{index}"), format!("holdfast_{job}_old_{index}"))
}

/// The databases of a set of files, in order.
pub(super) fn databases(records: &[Record]) -> Vec<&str> {
    records.iter().filter_map(|record| record.database.as_deref()).collect()
}

/// What is to change names.
pub(in crate::dump) async fn plan(site: &Site, records: &[Record], job: &str) -> Result<Change> {
    let lives = databases(records);
    let numbers = numbers(site, desk(&lives)).await?;
    let number = |name: &str| numbers.iter().find(|(_, known)| known == name).map(|(number, _)| *number);
    let mut pairs = Vec::new();
    for (index, live) in lives.iter().enumerate() {
        let (new_name, old_name) = names(job, index);
        let new = number(&new_name);
        ensure!(new.is_some(), "the new database for {live:?} is gone");
        pairs.push(Pair { live: (*live).to_owned(), old: number(live), old_name, new, new_name });
    }
    Ok(Change::Swapped { pairs })
}

/// Lets the new ones live, or the old ones; where they do so already, nothing is done.
pub(in crate::dump) async fn make_live(site: &Site, pairs: &[Pair], new: bool) -> Result<()> {
    let pairs: Vec<Pair> =
        pairs.iter().map(|pair| if new { pair.mirrored() } else { pair.clone() }).collect();
    let lives: Vec<&str> = pairs.iter().map(|pair| pair.live.as_str()).collect();
    let desk = desk(&lives);
    let numbers = numbers(site, desk).await?;
    let name_of = |number: Option<u32>| {
        numbers.iter().find(|(known, _)| Some(*known) == number).map(|(_, name)| name.as_str())
    };
    let (mut renames, mut busy) = (Vec::new(), Vec::new());
    for pair in &pairs {
        let live = &pair.live;
        if name_of(pair.new) == Some(live) {
            busy.push(live.as_str());
            renames.push(format!("ALTER DATABASE {} RENAME TO {}", ident(live), ident(&pair.new_name)));
        }
        match (pair.old, name_of(pair.old)) {
            (Some(_), None) => bail!("the database that was {live:?} is gone; nothing was renamed"),
            (Some(_), Some(now)) if now != live => {
                busy.push(now);
                renames.push(format!("ALTER DATABASE {} RENAME TO {}", ident(now), ident(live)));
            }
            _ => {}
        }
    }
    if !renames.is_empty() {
        rename(site, desk, &busy, &renames).await?;
    }
    for pair in pairs.iter().filter(|pair| pair.old.is_some()) {
        ask(site, desk, &format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", ident(&pair.live))).await?;
    }
    Ok(())
}

/// Applications are kept out, then all names change at once.
async fn rename(site: &Site, desk: &str, busy: &[&str], renames: &[String]) -> Result<()> {
    for database in busy {
        ask(site, desk, &format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", ident(database))).await?;
    }
    let end = Instant::now() + PATIENCE;
    loop {
        let ended = disconnect(site, desk, busy).await?;
        if ended > 0 {
            info!("{ended} sessions of {} were ended", busy.join(", "));
        }
        match ask(site, desk, &renames.join("; ")).await {
            Ok(_) => return Ok(()),
            Err(failure) if Instant::now() > end || !in_use(&failure) => {
                return Err(failure.context("renaming databases"));
            }
            Err(_) => tokio::time::sleep(STEP).await,
        }
    }
}

fn in_use(failure: &anyhow::Error) -> bool {
    format!("{failure:#}").contains("is being accessed by other users")
}

async fn disconnect(site: &Site, desk: &str, databases: &[&str]) -> Result<usize> {
    let sql = format!(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity where pid <> pg_backend_pid() and datname {}",
        one_of(databases)
    );
    let answer = ask(site, desk, &sql).await.context("ending the sessions of applications")?;
    Ok(answer.trim().parse().unwrap_or(0))
}

/// Removes a database that is ours; with a number only if it is that one.
pub(in crate::dump) async fn drop_database(site: &Site, name: &str, number: Option<u32>) -> Result<()> {
    let found = format!("select oid::int8 from pg_database where datname = {}", literal(name));
    let found = ask(site, "postgres", &found).await?;
    if found.trim().is_empty() || number.is_some_and(|number| found.trim() != number.to_string()) {
        return Ok(());
    }
    disconnect(site, "postgres", &[name]).await?;
    ask(site, "postgres", &format!("DROP DATABASE {}", ident(name)))
        .await
        .context("removing a database")
        .map(drop)
}
