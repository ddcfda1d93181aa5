//! `snapshots`: what is there.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

use super::call::Call;
use super::{Access, Error, Restic, Terms};

/// A snapshot, as restic knows it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Snapshot {
    /// Its whole id.
    pub id: String,
    /// Its time.
    pub time: Timestamp,
    /// Its tags.
    #[serde(default, deserialize_with = "or_default")]
    pub tags: Vec<String>,
    /// The host name that it was made under.
    #[serde(default)]
    pub hostname: String,
    /// The paths that were named.
    #[serde(default, deserialize_with = "or_default")]
    pub paths: Vec<String>,
    /// The snapshot that it was compared with.
    #[serde(default)]
    pub parent: Option<String>,
    /// The tree's id: equal trees are equal contents.
    #[serde(default)]
    pub tree: String,
    /// What its backup said of itself; restic before 0.17 did not keep that.
    #[serde(default)]
    pub summary: Option<SnapshotSummary>,
}

/// What a snapshot's backup said of itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SnapshotSummary {
    /// Bytes in it.
    #[serde(default)]
    pub total_bytes_processed: u64,
    /// Files in it.
    #[serde(default)]
    pub total_files_processed: u64,
    /// Bytes that it added, before compression.
    #[serde(default)]
    pub data_added: u64,
}

/// A listing.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshots {
    /// Oldest first.
    pub list: Vec<Snapshot>,
    /// What restic says of snapshots that it cannot read: the repository is damaged, though restic exits with 0.
    pub unreadable: Vec<String>,
}

fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Restic {
    /// All snapshots that carry all of these tags. Takes no lock.
    ///
    /// # Errors
    /// As any call.
    pub async fn snapshots(&self, access: &Access, tags: &[&str], terms: &Terms) -> Result<Snapshots, Error> {
        let mut args = vec!["snapshots".to_owned(), "--json".to_owned()];
        if !tags.is_empty() {
            args.extend(["--tag".to_owned(), tags.join(",")]);
        }
        let (bytes, done) = self.bytes(access, terms, &Call::unlocked(args), 1 << 30).await?;
        let mut list: Vec<Snapshot> =
            serde_json::from_slice::<Option<_>>(&bytes).map_err(|_| Error::NoSummary)?.unwrap_or_default();
        list.sort_by_key(|s| s.time);
        Ok(Snapshots { list, unreadable: done.notes.ignored })
    }
}

/// Whether two ids mean the same snapshot, when one of them may be shortened (to 8 digits or more).
pub fn same_snapshot(one: &str, other: &str) -> bool {
    one.len().min(other.len()) >= 8 && (one.starts_with(other) || other.starts_with(one))
}
