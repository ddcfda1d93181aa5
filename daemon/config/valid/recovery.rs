//! The table `recovery`.

use super::super::raw::{RawModule, RawRecovery};
use super::super::value::Reader;
use crate::definition::Recovery;

/// Notes what is wrong with it.
pub(super) fn check(raw: &RawModule, reader: &mut Reader<'_>) {
    let Some(recovery) = &raw.recovery else { return };
    let (span, raw) = (recovery.span(), recovery.get_ref());
    if raw.unit.is_none() {
        reader.error(&span, "`recovery` has no `unit`", Some("write unit = \"NAME.service\"".into()));
    }
    let program = raw.guard.as_ref().and_then(|argv| Some((argv.span(), argv.get_ref().0.first()?)));
    if let Some((span, program)) = program
        && program.contains('/')
        && !program.starts_with('/')
    {
        let help = "write an absolute path, or a name to be found on PATH";
        reader.error(&span, "`guard` is a relative path", Some(help.into()));
    }
}

/// One that was found right.
pub(super) fn recovery(raw: &RawRecovery) -> Option<Recovery> {
    let RawRecovery {
        unit,
        guard,
        attempts,
        window,
        cool_down,
        patience,
        save_failed,
        keep_failed,
        allow_warning,
    } = raw;
    let default = Recovery::of(unit.as_ref()?.get_ref().0.clone());
    Some(Recovery {
        guard: guard.as_ref().map(|argv| argv.get_ref().0.clone()),
        attempts: attempts.as_ref().map_or(default.attempts, |count| count.get_ref().0),
        window: window.as_ref().map_or(default.window, |limit| limit.get_ref().0),
        cool_down: cool_down.as_ref().map_or(default.cool_down, |delay| delay.get_ref().0),
        patience: patience.as_ref().map_or(default.patience, |delay| delay.get_ref().0),
        save_failed: save_failed.as_ref().map_or(default.save_failed, |save| *save.get_ref()),
        keep_failed: keep_failed.as_ref().map_or(default.keep_failed, |limit| limit.get_ref().0),
        allow_warning: allow_warning.as_ref().map_or(default.allow_warning, |allow| *allow.get_ref()),
        ..default
    })
}
