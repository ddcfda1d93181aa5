//! Processes that monit watches. It is told to stop and start them itself, so that it does not put right what we do.
//!
//! `status` is read, whose words are the same from monit 5.2 to 5.33 but for their case; it has no machine-readable form
//! on the command line.

use anyhow::{Result, bail};
use tokio_util::sync::CancellationToken;

use super::call::{Caller, PATIENCE};
use super::{Seen, State};
use crate::definition::Ran;
use crate::process::Leftovers;

/// All processes that monit watches, or those of the definition.
pub(super) async fn look(
    caller: &Caller,
    binary: &str,
    services: &[String],
    cancel: &CancellationToken,
) -> Result<Vec<Seen>> {
    let mut all = status(caller, binary, cancel).await?;
    if services.is_empty() {
        if all.is_empty() {
            bail!("monit watches no process; leave the service out, or give monit processes to watch");
        }
        // The last one that it was told of first, as it starts them in order.
        all.reverse();
        return Ok(all);
    }
    let mut wanted = Vec::new();
    for name in services {
        match all.iter().find(|seen| seen.part.name == *name) {
            Some(seen) => wanted.push(seen.clone()),
            None => bail!("monit watches no process {name}; correct `services`, or give it to monit"),
        }
    }
    Ok(wanted)
}

pub(super) async fn look_at(
    caller: &Caller,
    binary: &str,
    part: &Ran,
    cancel: &CancellationToken,
) -> Result<Option<Seen>> {
    let all = status(caller, binary, cancel).await?;
    Ok(all.into_iter().find(|seen| seen.part.name == part.name))
}

/// `monit stop NAME`, `monit start NAME`: it answers at once and acts soon.
pub(super) async fn tell(
    caller: &Caller,
    binary: &str,
    verb: &str,
    part: &Ran,
    cancel: &CancellationToken,
) -> Result<()> {
    let argv = [binary, verb, &part.name].map(str::to_owned);
    caller.ask(&argv, PATIENCE, Leftovers::End, cancel).await?.good().map(drop)
}

async fn status(caller: &Caller, binary: &str, cancel: &CancellationToken) -> Result<Vec<Seen>> {
    let argv = [binary, "status"].map(str::to_owned);
    let said = caller.ask(&argv, PATIENCE, Leftovers::End, cancel).await?;
    let text = said
        .good()
        .map_err(|failure| failure.context("asking monit; does its daemon run, with `set httpd`?"))?;
    Ok(processes(&String::from_utf8_lossy(&text)))
}

/// The processes in what `monit status` prints.
fn processes(text: &str) -> Vec<Seen> {
    let text = without_colour(text);
    let mut all = Vec::new();
    let mut open: Option<(String, String, String)> = None;
    for line in text.lines() {
        if let Some(name) = line.trim_end().strip_prefix("Process '").and_then(|rest| rest.strip_suffix('\''))
        {
            all.extend(open.take().map(seen));
            open = Some((name.to_owned(), String::new(), String::new()));
        } else if !line.starts_with(' ') && !line.trim().is_empty() {
            all.extend(open.take().map(seen));
        } else if let Some((_, status, monitoring)) = &mut open {
            let line = line.trim();
            if let Some(value) = line.strip_prefix("monitoring status") {
                *monitoring = value.trim().to_lowercase();
            } else if let Some(value) = line.strip_prefix("status") {
                *status = value.trim().to_lowercase();
            }
        }
    }
    all.extend(open.map(seen));
    all
}

/// What monit watches it starts again by itself, so it counts as running even while it is down.
fn seen((name, status, monitoring): (String, String, String)) -> Seen {
    let watched = !monitoring.starts_with("not monitored");
    let starting = watched
        && (status.contains("pending")
            || status.contains("initializing")
            || monitoring.starts_with("initializing"));
    let well = status == "ok" || status == "running" || status.starts_with("running");
    let sick = (!watched || !well).then(|| format!("monit says {status:?}, {monitoring}"));
    let part = Ran { name: name.clone(), id: String::new(), paused: false };
    let state = if watched { State::Running } else { State::Stopped };
    Seen { called: name, part, state, sick, starting, life: String::new(), wave: None }
}

/// monit may colour what it prints.
fn without_colour(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, rest)| rest);
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_new_versions_are_understood() {
        let new = "Monit 5.33.0 uptime: 1m\n\nProcess 'web'\n  status                       OK\n  \
                   monitoring status            Monitored\n  monitoring mode              active\n\n\
                   Process 'off'\n  status                       Not monitored\n  monitoring status            Not monitored\n\n\
                   Process 'halting'\n  status                       OK - stop pending\n  monitoring status            Monitored\n\n\
                   System 'vm'\n  status                       OK\n  monitoring status            Monitored\n";
        let all = processes(new);
        let told: Vec<_> =
            all.iter().map(|s| (s.part.name.as_str(), s.state, s.sick.is_none(), s.starting)).collect();
        assert_eq!(
            told,
            [
                ("web", State::Running, true, false),
                ("off", State::Stopped, false, false),
                ("halting", State::Running, false, true),
            ]
        );
        let old = "The Monit daemon 5.2.5 uptime: 1m\n\nProcess 'db'\n  status                            running\n  \
                   monitoring status                 monitored\n  pid                               12\n";
        let all = processes(old);
        assert_eq!((all[0].part.name.as_str(), all[0].state, &all[0].sick), ("db", State::Running, &None));
    }

    #[test]
    fn colours_are_no_part_of_words() {
        let text = "\u{1b}[1mProcess 'a'\u{1b}[0m\n  status                       \u{1b}[0;32mOK\u{1b}[0m\n  monitoring status            Monitored\n";
        let all = processes(text);
        assert_eq!((all.len(), &all[0].sick), (1, &None));
    }
}
