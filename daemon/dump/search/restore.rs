//! Loading a snapshot: beside what lives first, then in its place.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::desk::{Desk, Watch, clear};
use super::{Details, SET, fits, pack, ready, text};
use crate::definition::{Search, Source};
use crate::dump::change::{Change, Databases};
use crate::dump::record::Record;
use crate::dump::site::Site;

/// Loads every index beside the live ones, looks whether it came whole, and removes it again.
pub(in crate::dump) async fn prove(
    site: &Site,
    search: &Search,
    tree: &Path,
    records: &[Record],
) -> Result<()> {
    let live = ready(site, search).await?.server;
    let desk = Desk::new(site, search);
    for record in records {
        fits(record, &live)?;
        let proved = async {
            offer(&desk, tree, record).await?;
            let details = Details { global_state: false, ..Details::of(record)? };
            bring(&desk, &details, &desk.beside()).await
        };
        let proved = proved.await.with_context(|| format!("loading {} beside what lives", record.file));
        let cleared = clear(site, search).await;
        proved.and(cleared)?;
    }
    Ok(())
}

/// Lets the server see the saved repository, read-only.
async fn offer(desk: &Desk<'_>, tree: &Path, record: &Record) -> Result<()> {
    clear(desk.site, desk.search).await.context("clearing what an earlier job left on the server")?;
    pack::unpack(desk, &record.path(tree)).await?;
    desk.register(true).await?;
    let path = format!("/_snapshot/{}/{SET}", desk.repository());
    let said = desk.get(&path).await.context("looking for the saved snapshot")?;
    let state = &said["snapshots"][0]["state"];
    ensure!(state == "SUCCESS", "the saved snapshot is {}", text(state));
    Ok(())
}

/// Restores the indices under names with this prefix; without one with their aliases too. Waits until all shards came.
async fn bring(desk: &Desk<'_>, details: &Details, prefix: &str) -> Result<()> {
    let mut body = json!({
        "indices": details.names(),
        "ignore_unavailable": false,
        "include_global_state": details.global_state,
        "include_aliases": prefix.is_empty(),
        "partial": false,
    });
    if !prefix.is_empty() {
        body["rename_pattern"] = json!("^(.+)$");
        body["rename_replacement"] = json!(format!("{prefix}$1"));
    }
    if details.global_state && matches!(desk.site.dump.source, Source::Elasticsearch(_)) {
        body["feature_states"] = json!(["none"]);
    }
    let path = format!("/_snapshot/{}/{SET}/_restore?wait_for_completion=false", desk.repository());
    desk.tell("POST", &path, &body).await.context("beginning to restore")?;
    let names: Vec<String> = details.names().iter().map(|name| format!("{prefix}{name}")).collect();
    wait(desk, &names).await?;
    compare(desk, details, prefix).await
}

async fn wait(desk: &Desk<'_>, names: &[String]) -> Result<()> {
    let mut watch = Watch::new();
    let path = "/_cat/shards?format=json&h=index,shard,prirep,state,unassigned.reason,unassigned.details";
    loop {
        let rows = desk.get(path).await.context("looking after the restored shards")?;
        if all_started(rows.as_array().context("the list of shards is none")?, names)? {
            return Ok(());
        }
        let path = "/_cat/recovery?format=json&active_only=true&bytes=b&h=index,shard,stage,bytes_recovered";
        let now = desk.get(path).await.context("looking after the restored shards")?;
        watch.wait(desk, format!("{rows} {now}"), "restoring").await?;
    }
}

/// Whether the primary of each shard runs.
fn all_started(rows: &[Value], names: &[String]) -> Result<bool> {
    for name in names {
        let primaries: Vec<&Value> =
            rows.iter().filter(|row| row["index"] == name.as_str() && row["prirep"] == "p").collect();
        let failed =
            |row: &&&Value| row["state"] == "UNASSIGNED" && row["unassigned.reason"] == "ALLOCATION_FAILED";
        if let Some(shard) = primaries.iter().find(failed) {
            let why = text(&shard["unassigned.details"]);
            bail!("shard {} of {name} could not be restored: {why}", text(&shard["shard"]));
        }
        if primaries.is_empty() || primaries.iter().any(|row| row["state"] != "STARTED") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether as many documents came as were saved.
async fn compare(desk: &Desk<'_>, details: &Details, prefix: &str) -> Result<()> {
    let there = desk.indices().await?;
    for index in details.indices.iter().filter(|index| index.documents.is_some()) {
        let name = format!("{prefix}{}", index.name);
        let found = there.iter().find(|other| other.name == name).and_then(|other| other.documents);
        ensure!(
            found == index.documents,
            "the restored index {} has {} documents, the saved one had {}",
            index.name,
            found.map_or_else(|| "no".to_owned(), |count| count.to_string()),
            index.documents.unwrap_or_default()
        );
    }
    Ok(())
}

pub(in crate::dump) async fn plan_apply(
    site: &Site,
    search: &Search,
    records: &[Record],
    safety: &Path,
) -> Result<Change> {
    let there = Desk::new(site, search).indices().await?;
    let mut databases = Databases::default();
    for name in records.iter().map(Details::of).collect::<Result<Vec<_>>>()?.iter().flat_map(Details::names) {
        match there.iter().any(|index| index.name == name) {
            true => databases.here.push(name),
            false => databases.made.push(name),
        }
    }
    site.safety(safety, databases).await.context("dumping the indices that live now")
}

/// Replaces the indices by those of the files.
pub(in crate::dump) async fn load(
    site: &Site,
    search: &Search,
    tree: &Path,
    records: &[Record],
) -> Result<()> {
    let desk = Desk::new(site, search);
    for record in records {
        let details = Details::of(record)?;
        let loaded = async {
            offer(&desk, tree, record).await?;
            remove(site, search, &details.names()).await?;
            bring(&desk, &details, "").await
        };
        let loaded = loaded.await.with_context(|| format!("loading {}", record.file));
        let cleared = clear(site, search).await;
        loaded.and(cleared)?;
    }
    Ok(())
}

/// Deletes those of these indices that are there.
pub(in crate::dump) async fn remove(site: &Site, search: &Search, names: &[String]) -> Result<()> {
    let desk = Desk::new(site, search);
    for index in desk.indices().await?.into_iter().filter(|index| names.contains(&index.name)) {
        desk.delete_index(&index.name).await?;
    }
    Ok(())
}
