//! Whether the daemon reads a volume itself, or has its engine bring the data.
//!
//! What the local driver mounts (`--opt device=…`) is there only while a container uses it: the mountpoint is an empty
//! directory otherwise, and would be saved as an empty volume. So such a volume is never read by its mountpoint. A bind
//! mount is read where it comes from. Of other drivers nobody knows when their mountpoint holds the data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// What an engine knows of one volume: the part of `volume inspect` that we need.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Inspected {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) driver: String,
    #[serde(default)]
    pub(super) mountpoint: PathBuf,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    options: Option<BTreeMap<String, String>>,
}

/// How an engine is to make a volume that is gone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Make {
    /// Its driver; empty: the engine's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// The driver's options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// Its labels, as its engine keeps them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Where the data of a volume is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reach<'a> {
    /// In this directory.
    Here(&'a Path),
    /// Behind its engine.
    Held,
}

impl Inspected {
    fn option(&self, key: &str) -> &str {
        self.options.as_ref().and_then(|all| all.get(key)).map_or("", String::as_str)
    }

    fn is_local(&self) -> bool {
        self.driver.is_empty() || self.driver == "local"
    }

    /// Where its data is.
    pub(super) fn reach(&self) -> Reach<'_> {
        let device = self.option("device");
        let bound = self.option("o").split(',').any(|word| word == "bind" || word == "rbind");
        match (self.is_local(), device) {
            (true, "") => Reach::Here(&self.mountpoint),
            (true, place) if bound && place.starts_with('/') => Reach::Here(Path::new(place)),
            _ => Reach::Held,
        }
    }

    /// Whether it is in memory, and gone with the last container that uses it.
    pub(super) fn is_in_memory(&self) -> bool {
        self.is_local() && ["tmpfs", "ramfs"].contains(&self.option("type"))
    }

    /// How it could be made anew; none: as any volume is.
    pub(super) fn make(self) -> Option<Make> {
        let driver = if self.is_local() { String::new() } else { self.driver };
        let (options, labels) = (self.options.unwrap_or_default(), self.labels.unwrap_or_default());
        let make = Make { driver, options, labels };
        (make != Make::default()).then_some(make)
    }
}

impl Make {
    /// Whether it may be made on the word of a manifest: that comes from a repository, and must not lead what is restored
    /// to another place of this machine.
    ///
    /// # Errors
    /// It names such a place, or holds a password; with what to do.
    pub(super) fn check(&self, volume: &str) -> Result<()> {
        let names_place = |value: &str| value.split(['=', ',', ':']).any(|word| word.starts_with('/'));
        let remote = ["nfs", "nfs4"].contains(&self.options.get("type").map_or("", String::as_str));
        let bad = |(key, value): &(&String, &String)| {
            let secret = value.contains("pass") || value.contains("secret") || key.contains("pass");
            secret || (names_place(value) && !(remote && key.as_str() == "device" && value.starts_with(':')))
        };
        let named: Vec<&str> = self.options.iter().filter(bad).map(|(key, _)| key.as_str()).collect();
        ensure!(
            named.is_empty(),
            "volume {volume} is gone, and is not made anew on the word of a snapshot: its options ({}) name places of this \
             machine, or passwords; create it with `volume create`, as it was, and restore again",
            named.join(", ")
        );
        Ok(())
    }

    /// The arguments of `volume create` for it.
    pub(super) fn arguments(&self, volume: &str) -> Vec<String> {
        let mut all = vec!["volume".to_owned(), "create".to_owned()];
        all.extend(self.labels.iter().map(|(key, value)| format!("--label={key}={value}")));
        if !self.driver.is_empty() {
            all.push(format!("--driver={}", self.driver));
        }
        all.extend(self.options.iter().map(|(key, value)| format!("--opt={key}={value}")));
        all.push(volume.to_owned());
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspected(json: &str) -> Inspected {
        let list: Vec<Inspected> = serde_json::from_str(&format!("[{json}]")).unwrap();
        list.into_iter().next().unwrap()
    }

    #[test]
    fn both_engines_answers_are_understood() {
        let podman = r#"{"Name":"d","Driver":"local","Mountpoint":"/m/_data","Labels":{},"Options":{},"Scope":"local"}"#;
        let docker = r#"{"CreatedAt":"x","Driver":"local","Mountpoint":"/m","Name":"d","Options":null,"Scope":"local"}"#;
        for (text, place) in [(podman, "/m/_data"), (docker, "/m")] {
            let volume = inspected(text);
            assert_eq!(volume.reach(), Reach::Here(Path::new(place)));
            assert_eq!(volume.make(), None);
        }
    }

    #[test]
    fn what_is_mounted_on_demand_is_never_read_by_its_mountpoint() {
        let bound =
            inspected(r#"{"Mountpoint":"/m","Options":{"device":"/srv/x","o":"bind,ro","type":"none"}}"#);
        assert_eq!(bound.reach(), Reach::Here(Path::new("/srv/x")));
        for text in [
            r#"{"Mountpoint":"/m","Options":{"device":"tmpfs","type":"tmpfs"}}"#,
            r#"{"Mountpoint":"/m","Options":{"device":":/export","o":"addr=nas","type":"nfs"}}"#,
            r#"{"Mountpoint":"/m","Options":{"device":"/dev/sdb1","type":"ext4"}}"#,
            r#"{"Mountpoint":"/m","Driver":"cloud"}"#,
        ] {
            assert_eq!(inspected(text).reach(), Reach::Held, "{text}");
        }
    }

    #[test]
    fn a_manifest_makes_no_volume_out_of_a_place_of_this_machine() {
        let make = |options: &[(&str, &str)]| Make {
            options: options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            ..Make::default()
        };
        let bad: [&[(&str, &str)]; 6] = [
            &[("type", "none"), ("o", "bind"), ("device", "/etc")],
            &[("type", "none"), ("o", "bind"), ("device", "//etc")],
            &[("type", "overlay"), ("device", "overlay"), ("o", "lowerdir=/etc,upperdir=/x")],
            &[("type", "none"), ("o", "bind"), ("device", ":/etc")],
            &[("type", "cifs"), ("device", "x"), ("o", "username=a,password=b")],
            &[("mountpoint", "/etc")],
        ];
        for options in bad {
            assert!(make(options).check("v").is_err(), "{options:?}");
        }
        let good: [&[(&str, &str)]; 2] = [
            &[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m,uid=7")],
            &[("type", "nfs"), ("device", ":/export"), ("o", "addr=nas,rw")],
        ];
        for options in good {
            make(options).check("v").unwrap();
        }
    }
}
