//! Rows (`a{sv}`) and plain values as the bus carries them.

use std::collections::HashMap;

use jiff::Timestamp;
use zbus::wire::Variant;

use crate::control::{ContentView, SetView};
use crate::state::{Outcome, UnitRecord};

/// One row: values by name.
pub(super) type Row = HashMap<&'static str, Variant<'static>>;

/// Microseconds since the epoch; 0: never, or before 1970.
pub(super) fn time(at: Option<Timestamp>) -> u64 {
    at.and_then(|at| u64::try_from(at.as_microsecond()).ok()).unwrap_or(0)
}

/// The word for an outcome, or empty.
pub(super) fn outcome(outcome: Option<Outcome>) -> &'static str {
    outcome.map_or("", Outcome::word)
}

/// Text that came from outside (programs, files): a NUL would make the bus end our connection.
pub(super) fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// A unit of a job.
pub(super) fn unit(unit: &UnitRecord) -> Row {
    HashMap::from([
        ("instance", unit.instance.clone().into()),
        ("repository", unit.repository.clone().into()),
        ("phase", unit.phase.word().into()),
        ("outcome", outcome(unit.outcome).into()),
        ("snapshot", text(&unit.snapshot).into()),
        ("error", text(&unit.error).into()),
        ("bytes", unit.bytes.into()),
        ("bytes_added", unit.bytes_added.into()),
        ("files", unit.files.into()),
        ("downtime", unit.downtime.into()),
    ])
}

/// A set, as `ListSnapshots` shows it.
pub(super) fn set(view: SetView) -> Row {
    let set = view.record;
    HashMap::from([
        ("id", text(&set.snapshot).into()),
        ("time", time(Some(set.time)).into()),
        ("set", text(&set.set).into()),
        ("instance", text(&set.instance).into()),
        ("uuid", text(&set.uuid).into()),
        ("backup", text(&set.backup).into()),
        ("repository", text(&set.repository).into()),
        ("host", text(&set.host).into()),
        // A set is committed by its tree; its streams are parts of it.
        ("kind", "tree".into()),
        ("size", set.size.into()),
        ("files", set.files.into()),
        ("version", text(&set.version).into()),
        ("outcome", outcome(set.outcome).into()),
        ("name", text(&view.name).into()),
        ("standing", text(&view.standing).into()),
    ])
}

/// What a repository holds of one instance, as `ListContents` shows it.
pub(super) fn content(view: ContentView) -> Row {
    HashMap::from([
        ("module", text(&view.module).into()),
        ("name", text(&view.name).into()),
        ("uuid", text(&view.uuid).into()),
        ("host", text(&view.host).into()),
        ("last_set", time(view.last_set).into()),
        ("size", view.size.into()),
        ("defined_here", view.defined_here.into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_microseconds_and_never_is_zero() {
        assert_eq!(time(None), 0);
        assert_eq!(time(Some(Timestamp::from_second(2).unwrap())), 2_000_000);
        assert_eq!(time(Some(Timestamp::from_second(-2).unwrap())), 0);
    }

    #[test]
    fn no_nul_leaves_for_the_bus() {
        assert_eq!(text("a\0b\n"), "a\u{fffd}b\n");
    }
}
