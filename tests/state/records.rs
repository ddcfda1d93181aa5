//! Records to write.

use holdfast::state::{JobRecord, Kind, Outcome, Phase, SetRecord, UnitRecord};
use jiff::Timestamp;

/// A job with three units, all as far as it is.
pub(crate) fn job(id: &str, outcome: Option<Outcome>) -> JobRecord {
    let unit = |n: usize| UnitRecord {
        instance: format!("a{n}"),
        repository: "b2".into(),
        phase: Phase::Snapshot,
        outcome,
        snapshot: String::new(),
        error: String::new(),
        bytes: 1,
        bytes_added: 1,
        files: 1,
        downtime: 1,
    };
    JobRecord {
        id: id.into(),
        kind: Kind::Backup,
        subject: "daily".into(),
        cause: "schedule".into(),
        queued: Timestamp::now(),
        started: None,
        finished: outcome.map(|_| Timestamp::now()),
        phase: Phase::Snapshot,
        outcome,
        error: String::new(),
        bytes_done: 0,
        bytes_total: 0,
        files_done: 0,
        units: (0..3).map(unit).collect(),
    }
}

/// One of the sets of a generation.
pub(crate) fn set(generation: &str, n: usize) -> SetRecord {
    SetRecord {
        repository: "b2".into(),
        location: String::new(),
        set: generation.into(),
        snapshot: format!("{generation}-{n}"),
        instance: format!("a{n}"),
        uuid: format!("u{n}"),
        backup: "daily".into(),
        host: "srv1".into(),
        time: Timestamp::now(),
        size: 1,
        files: 1,
        version: String::new(),
        outcome: Some(Outcome::Succeeded),
    }
}
