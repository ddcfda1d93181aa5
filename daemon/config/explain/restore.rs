//! How an instance is restored, and comes back by itself.

use toml_edit::Value;

use super::super::value::duration_text;
use super::{list, number, path, table};
use crate::definition::{Health, Recovery, Restore};

pub(super) fn recovery(recovery: &Recovery) -> Value {
    let Recovery { unit, guard, attempts, window, cool_down, save_failed, keep_failed, allow_warning } =
        recovery;
    table([
        ("unit", Some(unit.as_str().into())),
        ("guard", guard.as_ref().map(list)),
        ("attempts", Some(number(*attempts))),
        ("window", Some(duration_text(*window).into())),
        ("cool_down", Some(duration_text(*cool_down).into())),
        ("save_failed", Some((*save_failed).into())),
        ("keep_failed", Some(duration_text(*keep_failed).into())),
        ("allow_warning", Some((*allow_warning).into())),
    ])
}

pub(super) fn restore(restore: &Restore) -> Value {
    let Restore { steps, keep_previous, health, owners, setuid, devices } = restore;
    let health = health.as_ref().map(|Health { command, timeout }| {
        table([("command", Some(list(command))), ("timeout", Some(duration_text(*timeout).into()))])
    });
    table([
        ("steps", steps.as_deref().map(|steps| path(steps).into())),
        ("keep_previous", Some(duration_text(*keep_previous).into())),
        ("health", health),
        ("owners", Some(owners.word().into())),
        ("setuid", Some((*setuid).into())),
        ("devices", Some((*devices).into())),
    ])
}
