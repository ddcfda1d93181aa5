//! `manifest.json`: what a snapshot is, stored in it as its last file. It commits the set.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Root;

/// The format that this program writes. A reader refuses a newer one and ignores keys that it does not know.
pub const FORMAT: u32 = 1;

/// The name of the file at the top of the tree.
pub const MANIFEST: &str = "manifest.json";
/// The job's own log in the tree, of instances on another machine.
pub const JOB_LOG: &str = "job.log";

/// What a set is and how it is put back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The version of Holdfast that wrote it.
    pub holdfast: String,
    /// The set: the id of the job that made it.
    pub set: String,
    /// When the data was taken.
    pub time: Timestamp,
    /// The host name in snapshots.
    pub host: String,
    /// The backup that asked for it.
    pub backup: String,
    /// The instance.
    pub instance: String,
    /// Its module, if it has one.
    #[serde(default)]
    pub module: Option<String>,
    /// The instance's identity, which survives renaming.
    pub uuid: String,
    /// The user that its hooks ran as.
    pub user: String,
    /// The application's version, if it could be asked.
    #[serde(default)]
    pub version: Option<String>,
    /// What was included, as found: paths of the tree, none inside another. A restore swaps just these.
    pub includes: Vec<TreePath>,
    /// What was left out, as patterns over the tree.
    #[serde(default)]
    pub excludes: Vec<String>,
    /// The roots with what restic does not keep of them.
    pub roots: Vec<Root>,
    /// Literal includes that were not there.
    #[serde(default)]
    pub missing: Vec<String>,
    /// The keys of the instance's definition, so that it can be defined on another machine. None: by an older release.
    #[serde(default)]
    pub definition: Option<serde_json::Map<String, serde_json::Value>>,
    /// Typed dumps in `dumps/`, each as its source describes it.
    #[serde(default)]
    pub dumps: Vec<serde_json::Value>,
    /// The names of users there, by number: restic keeps them, but does not tell them.
    #[serde(default)]
    pub users: BTreeMap<u32, String>,
    /// The names of groups there.
    #[serde(default)]
    pub groups: BTreeMap<u32, String>,
    /// The archive that it was imported from; none: a backup made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<String>,
}

/// A path in the tree. In JSON a string, or an array of bytes where it is not UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TreePath(pub PathBuf);

impl Manifest {
    /// The file's text.
    ///
    /// # Errors
    /// None that a well-formed manifest can cause.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self).context("writing the manifest")?;
        text.push(b'\n');
        Ok(text)
    }

    /// Reads the file's text; keys that are not known are ignored.
    ///
    /// # Errors
    /// Text that is no manifest, or one of a newer format.
    pub fn from_json(text: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
            #[serde(default)]
            holdfast: String,
        }
        let seen: Format = serde_json::from_slice(text).context("reading manifest.json")?;
        if seen.format > FORMAT {
            bail!(
                "manifest.json has format {} (written by Holdfast {}), this program knows {FORMAT}: install a newer Holdfast",
                seen.format,
                seen.holdfast
            );
        }
        serde_json::from_slice(text).context("reading manifest.json")
    }
}

impl TreePath {
    /// The path.
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl Serialize for TreePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => serializer.collect_seq(self.0.as_os_str().as_bytes()),
        }
    }
}

impl<'de> Deserialize<'de> for TreePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Bytes(Vec<u8>),
        }
        Ok(Self(match Either::deserialize(deserializer)? {
            Either::Text(text) => text.into(),
            Either::Bytes(bytes) => OsString::from_vec(bytes).into(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Hex, Make, RootKind};
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            format: FORMAT,
            holdfast: "0.1.0".into(),
            set: "j1".into(),
            time: "2026-01-02T03:04:05.678Z".parse().unwrap(),
            host: "srv1".into(),
            backup: "b".into(),
            instance: "wiki1".into(),
            module: None,
            uuid: "f3b25a4c-2f3d-4b3e-9a55-000000000001".into(),
            user: "root".into(),
            version: None,
            includes: vec![
                TreePath("state/a".into()),
                TreePath(OsString::from_vec(b"state/\xff\n".to_vec()).into()),
            ],
            excludes: vec!["*.tmp".into()],
            roots: vec![Root {
                path: TreePath("volumes/d".into()),
                kind: RootKind::Volume,
                whole: true,
                empty: true,
                mode: 0o2750,
                uid: 100_000,
                gid: 0,
                user: None,
                group: Some("root".into()),
                mtime: "2020-01-01T00:00:00.000000001Z".parse().unwrap(),
                xattrs: [("user.x".to_owned(), Hex(vec![0, 255]))].into(),
                make: Make { labels: [("keep".to_owned(), "me".to_owned())].into(), ..Make::default() },
            }],
            missing: vec![],
            definition: serde_json::json!({"module": "wiki", "include": ["state"]}).as_object().cloned(),
            dumps: vec![],
            users: [(0, "root".to_owned())].into(),
            groups: BTreeMap::new(),
            imported: None,
        }
    }

    #[test]
    fn what_is_written_is_read_back_also_with_names_that_are_not_utf8() {
        assert_eq!(Manifest::from_json(&manifest().to_json().unwrap()).unwrap(), manifest());
    }

    #[test]
    fn keys_of_a_later_release_are_ignored_and_optional_ones_may_be_absent() {
        let mut value: serde_json::Value = serde_json::from_slice(&manifest().to_json().unwrap()).unwrap();
        value["new_key"] = 1.into();
        value["roots"][0]["new_key"] = "x".into();
        for key in ["dumps", "users", "groups"] {
            value.as_object_mut().unwrap().remove(key);
        }
        let read = Manifest::from_json(value.to_string().as_bytes()).unwrap();
        assert_eq!(read, Manifest { users: BTreeMap::new(), ..manifest() });
    }

    #[test]
    fn a_newer_format_is_refused_with_advice() {
        let error = Manifest::from_json(br#"{"format": 2, "holdfast": "9.0"}"#).unwrap_err().to_string();
        assert!(error.contains("9.0") && error.contains("newer"), "{error}");
        assert!(Manifest::from_json(b"{}").is_err() && Manifest::from_json(b"\xff").is_err());
    }
}
