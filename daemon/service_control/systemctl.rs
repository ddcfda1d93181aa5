//! Units of another machine's systemd, by its `systemctl`: what [`super::systemd`] does over D-Bus.
//!
//! Only starting and stopping takes root: how units stand everybody is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio_util::sync::CancellationToken;

use super::call::{Caller, PATIENCE};
use super::systemd::{is_trigger, refuse_unusable, standing};
use super::{Seen, Started, State};
use crate::definition::Ran;
use crate::process::Leftovers;

/// What is asked of a unit.
const ASKED: &str = "--property=Id,LoadState,ActiveState,SubState,InvocationID,Type,TriggeredBy,RequiredBy,RequisiteOf,\
    BoundBy,ConsistsOf";
/// Of these: what starts a unit by itself, and what systemd stops when the unit is stopped (systemd.unit(5)).
const ALONG: [&str; 5] = ["TriggeredBy", "RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf"];
/// The exit code of `systemctl stop` of a unit that is not there.
const NOT_LOADED: i32 = 5;

/// A unit as `systemctl show` prints it.
#[derive(Debug)]
struct Shown {
    seen: Seen,
    load: String,
    kind: String,
    along: Vec<String>,
}

/// The units of a definition with what is stopped along with them, in stop order.
pub(super) async fn look(caller: &Caller, units: &[String], cancel: &CancellationToken) -> Result<Vec<Seen>> {
    // By the names that were asked for: a unit may have several.
    let mut known = BTreeMap::<String, Shown>::new();
    let mut left: BTreeSet<String> = units.iter().cloned().collect();
    while !left.is_empty() {
        let names: Vec<String> = left.into_iter().collect();
        let shown = show(caller, &names, cancel).await?;
        known.extend(names.into_iter().zip(shown));
        let along = known.values().flat_map(|unit| unit.along.iter());
        left = along.filter(|name| !known.contains_key(*name)).cloned().collect();
    }
    for name in units {
        let load = known.get(name).map_or("not-found", |unit| unit.load.as_str());
        refuse_unusable(name, load)?;
    }
    Ok(in_stop_order(units, &known))
}

/// Each unit after those that systemd would stop with it; what would start any of them by itself before all.
fn in_stop_order(units: &[String], known: &BTreeMap<String, Shown>) -> Vec<Seen> {
    let (mut triggers, mut others, mut entered) = (Vec::new(), Vec::new(), BTreeSet::new());
    let mut left: Vec<(&str, bool)> = units.iter().rev().map(|name| (name.as_str(), false)).collect();
    while let Some((name, ready)) = left.pop() {
        let Some(unit) = known.get(name) else { continue };
        let id = unit.seen.part.name.as_str();
        if ready {
            let list = if is_trigger(id) { &mut triggers } else { &mut others };
            list.push(unit.seen.clone());
        } else if entered.insert(id) {
            left.push((name, true));
            left.extend(unit.along.iter().map(|name| (name.as_str(), false)));
        }
    }
    triggers.append(&mut others);
    triggers
}

/// One unit; none: there is none of this name any more.
pub(super) async fn look_at(caller: &Caller, part: &Ran, cancel: &CancellationToken) -> Result<Option<Seen>> {
    let unit = one(caller, part, cancel).await?;
    let gone = unit.load == "not-found" && unit.seen.state == State::Stopped;
    Ok((!gone).then_some(unit.seen))
}

pub(super) async fn stop(
    caller: &Caller,
    part: &Ran,
    limit: Duration,
    cancel: &CancellationToken,
) -> Result<()> {
    let argv = told("stop", &part.name);
    let said = caller.ask(&argv, limit, Leftovers::End, cancel).await?;
    if said.code() == Some(NOT_LOADED) { Ok(()) } else { said.good().map(drop) }
}

pub(super) async fn start(caller: &Caller, part: &Ran, limit: Duration) -> Result<Started> {
    let (name, never) = (&part.name, CancellationToken::new());
    match one(caller, part, &never).await?.load.as_str() {
        "not-found" => return Ok(Started::Gone),
        "masked" => bail!("it is masked there; `systemctl unmask {name}`, then `systemctl start {name}`"),
        _ => {}
    }
    // One that failed too often in a short time is refused otherwise; not known to have failed, it is well so too.
    caller.ask(&told("reset-failed", name), PATIENCE, Leftovers::End, &never).await?;
    caller.ask(&told("start", name), limit, Leftovers::End, &never).await?.good()?;
    let after = one(caller, part, &never).await?;
    if after.seen.state == State::Running || after.kind == "oneshot" {
        return Ok(Started::Runs { life: after.seen.life });
    }
    let why = after.seen.sick.unwrap_or_default();
    bail!("it was started, but does not run: {why}; `journalctl -u {name}` there says why")
}

/// What starts or stops a unit: `holdfast setup` writes the same words into a sudoers file.
pub fn told(verb: &str, name: &str) -> Vec<String> {
    let mut argv = vec!["systemctl".to_owned(), "--no-ask-password".to_owned()];
    // A target is only marked: starting it would start all that it wants, also what was stopped by hand.
    if verb == "start" && name.ends_with(".target") {
        argv.push("--job-mode=ignore-dependencies".to_owned());
    }
    argv.extend([verb, "--", name].map(str::to_owned));
    argv
}

async fn one(caller: &Caller, part: &Ran, cancel: &CancellationToken) -> Result<Shown> {
    let shown = show(caller, std::slice::from_ref(&part.name), cancel).await?;
    shown.into_iter().next().with_context(|| format!("systemctl says nothing of {}", part.name))
}

async fn show(caller: &Caller, names: &[String], cancel: &CancellationToken) -> Result<Vec<Shown>> {
    let mut argv: Vec<String> = ["systemctl", "show", ASKED, "--"].map(str::to_owned).to_vec();
    argv.extend(names.iter().cloned());
    let said = caller.without_root().ask(&argv, PATIENCE, Leftovers::End, cancel).await?;
    let text = String::from_utf8_lossy(&said.good()?).into_owned();
    let shown: Vec<Shown> = text.split("\n\n").filter(|block| !block.trim().is_empty()).map(shown).collect();
    ensure!(shown.len() == names.len(), "systemctl says something of {} of {names:?}", shown.len());
    Ok(shown)
}

/// What is printed of one unit.
fn shown(block: &str) -> Shown {
    let of: BTreeMap<&str, &str> = block.lines().filter_map(|line| line.split_once('=')).collect();
    let value = |key: &str| of.get(key).copied().unwrap_or_default();
    let words = |key: &&str| value(key).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    Shown {
        seen: standing(
            value("Id"),
            value("ActiveState"),
            value("SubState"),
            value("InvocationID").to_owned(),
        ),
        load: value("LoadState").to_owned(),
        kind: value("Type").to_owned(),
        along: ALONG.iter().flat_map(words).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_start_a_unit_stops_first_and_what_needs_it_before_it() {
        let text = "Id=app.service\nLoadState=loaded\nActiveState=active\nSubState=running\nTriggeredBy=app.timer app.socket\n\
            RequiredBy=web.service\nInvocationID=ab12\nType=simple\n\n\
            Id=app.socket\nLoadState=loaded\nActiveState=active\nSubState=running\n\n\
            Id=app.timer\nLoadState=loaded\nActiveState=inactive\nSubState=dead\n\n\
            Id=web.service\nLoadState=loaded\nActiveState=failed\nSubState=failed\nRequiredBy=app.service\n";
        let known = text.split("\n\n").map(|block| (shown(block).seen.part.name, shown(block))).collect();
        let order = in_stop_order(&["app.service".into(), "web.service".into()], &known);
        let told: Vec<_> = order.iter().map(|s| (s.part.name.as_str(), s.state, s.sick.is_none())).collect();
        assert_eq!(
            told,
            [
                ("app.socket", State::Running, true),
                ("app.timer", State::Stopped, false),
                ("web.service", State::Stopped, false),
                ("app.service", State::Running, true),
            ]
        );
        assert_eq!(order[3].life, "ab12");
    }

    #[test]
    fn a_target_is_only_marked() {
        assert_eq!(told("stop", "a.target").join(" "), "systemctl --no-ask-password stop -- a.target");
        assert!(told("start", "a.target").contains(&"--job-mode=ignore-dependencies".to_owned()));
    }
}
