//! A compose project that its labels ask us to back up.

use std::collections::BTreeMap;

use super::VolumePlace;

/// What was found of one project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stack {
    /// Its exact name.
    pub project: String,
    /// What is backed up: the name in the tree, and where it lies.
    pub volumes: BTreeMap<String, VolumePlace>,
    /// The services that must not run meanwhile.
    pub stopped: Vec<String>,
    /// The services whose containers dump their databases while they run.
    pub dumps: Vec<StackDump>,
    /// Why it cannot be backed up; empty: it can.
    pub refused: Vec<String>,
}

/// One database server of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackDump {
    /// `postgresql` or `mariadb`.
    pub source: &'static str,
    /// Its service.
    pub service: String,
    /// Its container's name.
    pub container: String,
}
