//! Making a snapshot.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::desk::{Desk, Watch};
use super::{SET, text};
use crate::definition::Source;

/// Makes a snapshot of these indices in our repository and waits until it is whole.
pub(super) async fn take(desk: &Desk<'_>, wanted: &[String]) -> Result<()> {
    desk.register(false).await?;
    let mut body = json!({
        "indices": wanted,
        "ignore_unavailable": false,
        "include_global_state": desk.search.global_state,
        "partial": false,
    });
    if desk.search.global_state && matches!(desk.site.dump.source, Source::Elasticsearch(_)) {
        body["feature_states"] = json!(["none"]);
    }
    let path = format!("/_snapshot/{}/{SET}", desk.repository());
    desk.tell("PUT", &format!("{path}?wait_for_completion=false"), &body)
        .await
        .context("beginning the snapshot")?;
    let mut watch = Watch::new();
    loop {
        let said = desk.get(&path).await.context("looking after the snapshot")?;
        let snapshot = &said["snapshots"][0];
        match snapshot["state"].as_str() {
            Some("SUCCESS") => return whole(snapshot, wanted),
            Some("IN_PROGRESS") => {}
            state => bail!("the snapshot ended as {}{}", state.unwrap_or("nothing"), reasons(snapshot)),
        }
        let status = desk.get(&format!("{path}/_status")).await.context("looking after the snapshot")?;
        let status = &status["snapshots"][0];
        let now = format!("{} {}", status["shards_stats"], status["stats"]["processed"]);
        watch.wait(desk, now, "the snapshot").await?;
    }
}

fn whole(snapshot: &Value, wanted: &[String]) -> Result<()> {
    ensure!(
        snapshot["shards"]["failed"].as_u64().unwrap_or(0) == 0,
        "the snapshot lacks shards{}",
        reasons(snapshot)
    );
    let held: Vec<&str> =
        snapshot["indices"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if let Some(missing) = wanted.iter().find(|name| !held.contains(&name.as_str())) {
        bail!("the snapshot does not hold the index {missing:?}");
    }
    Ok(())
}

/// What the server says of shards that failed.
fn reasons(snapshot: &Value) -> String {
    let failures = snapshot["failures"].as_array().into_iter().flatten();
    let told = failures.take(5).map(|failure| {
        format!("; {}[{}]: {}", text(&failure["index"]), failure["shard_id"], text(&failure["reason"]))
    });
    let reason = snapshot["reason"].as_str().map(|reason| format!("; {reason}"));
    told.chain(reason).collect()
}
