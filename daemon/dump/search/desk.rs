//! Where a server is asked, and what it holds of ours.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::{PORT, text, there};
use crate::definition::Search;
use crate::dump::http::{self, Ask, Body, part};
use crate::dump::site::Site;

/// How often unfinished work is looked at: first, and at most.
const FIRST: Duration = Duration::from_millis(50);
const LAST: Duration = Duration::from_secs(2);
/// How often a repository that is still in use is tried to be removed.
const TRIES: usize = 8;

/// An index, and how many documents it has, where that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Index {
    pub(super) name: String,
    pub(super) documents: Option<u64>,
}

/// A server and how it is asked.
pub(super) struct Desk<'s> {
    pub(super) site: &'s Site,
    pub(super) search: &'s Search,
    cancel: CancellationToken,
    /// One of a kind for each dump of an instance, and always the same: what a dead job left is found by it.
    mark: String,
}

impl<'s> Desk<'s> {
    pub(super) fn new(site: &'s Site, search: &'s Search) -> Self {
        let name = format!("{}/{}", site.place.instance.name, site.dump.name);
        let mark = Sha256::digest(name).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Self { site, search, cancel: site.cancel.clone(), mark }
    }

    /// What ends its work.
    pub(super) fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// The name of our repository, and of its directory.
    pub(super) fn repository(&self) -> String {
        format!("holdfast-{}", self.mark)
    }

    /// What the names of indices begin with that are loaded beside the live ones.
    pub(super) fn beside(&self) -> String {
        format!("holdfast-{}-", self.mark)
    }

    /// The repository's directory as we see it.
    pub(super) fn dir(&self) -> PathBuf {
        self.search.snapshot_dir.join(self.repository())
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        self.tell("GET", path, &Value::Null).await
    }

    pub(super) async fn tell(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let sent = body.to_string();
        let body = if body.is_null() { Body::None } else { Body::Text(&sent) };
        let ask = Ask { method, path, body };
        let said = http::ask_until(self.site, &self.search.server, PORT, ask, &self.cancel).await?;
        serde_json::from_str(&said).with_context(|| format!("the answer to {method} {path}"))
    }

    /// All indices, hidden ones too.
    pub(super) async fn indices(&self) -> Result<Vec<Index>> {
        let path = "/_cat/indices?format=json&expand_wildcards=all&h=index,docs.count";
        let rows = self.get(path).await.context("asking for the indices")?;
        let rows = rows.as_array().context("the list of indices is none")?;
        let row = |row: &Value| {
            let name = row["index"].as_str().context("an index has no name")?.to_owned();
            let documents = row["docs.count"].as_str().and_then(|count| count.parse().ok());
            Ok(Index { name, documents })
        };
        rows.iter().map(row).collect()
    }

    /// The same after all that was written is visible; empty where the user may not ask for that.
    pub(super) async fn counted(&self) -> Vec<Index> {
        let asked = async {
            self.tell("POST", "/_refresh", &Value::Null).await?;
            self.indices().await
        };
        asked.await.unwrap_or_default()
    }

    /// Registers our repository.
    pub(super) async fn register(&self, readonly: bool) -> Result<()> {
        let location = self.search.server_dir.join(self.repository());
        let location = location.to_str().context("`server_dir` is not UTF-8")?;
        let settings = json!({ "location": location, "readonly": readonly });
        let body = json!({ "type": "fs", "settings": settings });
        let path = format!("/_snapshot/{}", self.repository());
        let registering =
            "registering the directory for snapshots (`path.repo` in the server's settings must name it)";
        self.tell("PUT", &path, &body).await.map(drop).context(registering)
    }

    /// Deletes an index by its whole name.
    pub(super) async fn delete_index(&self, name: &str) -> Result<()> {
        self.tell("DELETE", &format!("/{}", part(name)), &Value::Null)
            .await
            .map(drop)
            .with_context(|| format!("deleting the index {name:?}"))
    }
}

/// Waits for work of the server, as long as it goes on.
pub(super) struct Watch {
    seen: String,
    since: Instant,
    pause: Duration,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { seen: String::new(), since: Instant::now(), pause: FIRST }
    }

    /// Waits a little. `now` is how far it came: when that stays the same for too long, it is a failure.
    pub(super) async fn wait(&mut self, desk: &Desk<'_>, now: String, what: &str) -> Result<()> {
        if now != self.seen {
            (self.seen, self.since) = (now, Instant::now());
        }
        let patience = desk.site.place.instance.stall_timeout;
        ensure!(self.since.elapsed() < patience, "{what} made no progress for {patience:?}");
        tokio::select! {
            () = desk.cancel.cancelled() => bail!("it was cancelled"),
            () = tokio::time::sleep(self.pause) => {}
        }
        self.pause = (self.pause * 2).min(LAST);
        Ok(())
    }
}

/// Removes what we left on the server, a dead job too: indices beside the live ones, the repository with its snapshot, the
/// directory. Goes on although the job is cancelled.
pub(in crate::dump) async fn clear(site: &Site, search: &Search) -> Result<()> {
    let desk = Desk { cancel: CancellationToken::new(), ..Desk::new(site, search) };
    let beside = desk.beside();
    for index in desk.indices().await?.iter().filter(|index| index.name.starts_with(&beside)) {
        desk.delete_index(&index.name).await?;
    }
    let all = desk.get("/_snapshot").await.context("asking for the repositories")?;
    if let Some(ours) = all.get(desk.repository()) {
        let readonly = text(&ours["settings"]["readonly"]) == "true";
        forget(&desk, readonly).await?;
    }
    if site.dump.remote.is_some() {
        return there::clear(&desk).await;
    }
    let dir = desk.dir();
    let removed = tokio::fs::remove_dir_all(&dir).await;
    match removed {
        Err(failure) if failure.kind() != std::io::ErrorKind::NotFound => {
            Err(failure).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Deletes the snapshot, which ends it if it is being made, and takes the repository from the server's list.
async fn forget(desk: &Desk<'_>, readonly: bool) -> Result<()> {
    let path = format!("/_snapshot/{}", desk.repository());
    // A directory that is gone or torn cannot be listed; the repository is to go all the same.
    let listed =
        if readonly { Value::Null } else { desk.get(&format!("{path}/_all")).await.unwrap_or_default() };
    let mut failure = None;
    for _ in 0..TRIES {
        let gone = async {
            for snapshot in listed["snapshots"].as_array().into_iter().flatten() {
                let name = part(&text(&snapshot["snapshot"]));
                let there = desk.get(&format!("{path}/{name}")).await.is_ok();
                if there {
                    desk.tell("DELETE", &format!("{path}/{name}"), &Value::Null).await?;
                }
            }
            desk.tell("DELETE", &path, &Value::Null).await
        };
        match gone.await {
            Ok(_) => return Ok(()),
            Err(e) => failure = Some(e),
        }
        // A restore from it that was ended a moment ago still holds it.
        tokio::time::sleep(FIRST * 4).await;
    }
    Err(failure.context("removing the repository")?.context("removing the repository from the server"))
}
